use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::clock::{Clock, Moment};
use crate::consensus::{Applied, BoxFuture, Consensus, GroupStatus, ProposeError, Replicated};
use crate::ids::GroupId;
use crate::metadata::handle::machine;

/// A group of one that fails as told before it applies.
struct Fake {
    machine: Mutex<(MetadataMachine, u64)>,
    faults: Mutex<Vec<Fault>>,
    seen: Mutex<Vec<Bytes>>,
}

#[derive(Clone, Copy)]
enum Fault {
    Unavailable,
    /// Written, but the answer is lost.
    LostAnswer,
    Stopped,
}

impl Consensus for Fake {
    fn propose(&self, group: GroupId, command: Bytes) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        assert_eq!(group, GroupId::METADATA);
        self.seen.lock().unwrap().push(command.clone());
        let fault = self.faults.lock().unwrap().pop();
        let answer = match fault {
            Some(Fault::Unavailable) => Err(ProposeError::Unavailable),
            Some(Fault::Stopped) => Err(ProposeError::Stopped("damaged".into())),
            other => {
                let (machine, index) = &mut *self.machine.lock().unwrap();
                *index += 1;
                let outcome = machine.apply(LogIndex(*index), &command).unwrap();
                machine.applied(LogIndex(*index));
                let applied = Applied { index: LogIndex(*index), outcome };
                other.map_or(Ok(applied), |_| Err(ProposeError::Unknown))
            }
        };
        Box::pin(async move { answer })
    }

    fn linearize(&self, _: GroupId) -> BoxFuture<'_, Result<LogIndex, ProposeError>> {
        let answer = match self.faults.lock().unwrap().pop() {
            Some(_) => Err(ProposeError::Unavailable),
            None => Ok(LogIndex(self.machine.lock().unwrap().1)),
        };
        Box::pin(async move { answer })
    }

    fn confirm_leadership(&self, _: GroupId) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async { Ok(()) })
    }
    fn status(&self, _: GroupId) -> GroupStatus {
        GroupStatus::default()
    }
    fn changed(&self, _: GroupId, _: GroupStatus) -> BoxFuture<'_, GroupStatus> {
        Box::pin(std::future::pending())
    }
    fn change_membership(&self, _: GroupId, _: Vec<NodeId>, _: Vec<NodeId>) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async { Ok(()) })
    }
    fn transfer_leader(&self, _: GroupId, _: NodeId) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async { Ok(()) })
    }
}

struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> Moment {
        Moment::default()
    }
    fn wall(&self) -> UnixMillis {
        UnixMillis(77)
    }
}

fn metadata(mut faults: Vec<Fault>) -> (Metadata, Arc<Fake>) {
    faults.reverse();
    let (machine, view) = machine();
    let (machine, faults, seen) = (Mutex::new((machine, 0)), Mutex::new(faults), Mutex::default());
    let fake = Arc::new(Fake { machine, faults, seen });
    let metadata = Metadata::new(fake.clone(), view, Arc::new(NoTime), Arc::new(crate::rng::SystemRng));
    (metadata.impatient(), fake)
}

#[tokio::test]
async fn a_retry_carries_the_same_bytes_and_is_applied_once() {
    let (metadata, fake) = metadata(vec![Fault::Unavailable, Fault::LostAnswer, Fault::Unavailable]);
    let (index, outcome) = metadata.propose(create_account(1)).await.unwrap();
    assert_eq!((index, outcome), (LogIndex(2), Outcome::Created(Created::Account(ACCOUNT))));
    let seen = fake.seen.lock().unwrap().clone();
    assert!(seen.len() == 4 && seen.iter().all(|bytes| *bytes == seen[0]));
    assert_eq!(Command::decode(&seen[0]).unwrap().at, UnixMillis(77));
    assert_eq!(metadata.view().account(ACCOUNT).unwrap().created_on, UnixMillis(77));
    assert_eq!(metadata.wait_applied(index).await.unwrap().applied(), index);
}

#[tokio::test]
async fn what_may_have_been_written_is_never_called_unwritten() {
    let (metadata, _) = metadata(vec![Fault::Unavailable; 10_000]);
    assert_eq!(metadata.propose(create_account(1)).await, Err(ProposeError::Unavailable));
    let lost_once = [vec![Fault::LostAnswer], vec![Fault::Unavailable; 10_000]].concat();
    let (metadata, _) = super::handle::metadata(lost_once);
    assert_eq!(metadata.propose(create_account(1)).await, Err(ProposeError::Unknown));
    let (metadata, _) = super::handle::metadata(vec![Fault::LostAnswer, Fault::Stopped]);
    assert_eq!(metadata.propose(create_account(1)).await, Err(ProposeError::Unknown));
}

#[tokio::test]
async fn a_request_that_was_carried_out_answers_again() {
    let (metadata, _) = metadata(vec![]);
    let (first, a) = metadata.propose_as(RequestId(1), create_account(1)).await.unwrap();
    let (second, b) = metadata.propose_as(RequestId(1), create_account(1)).await.unwrap();
    assert_eq!((second.0 - first.0, a), (1, b));
}

#[tokio::test]
async fn what_is_too_large_is_not_sent() {
    let (metadata, fake) = metadata(vec![]);
    let jtis = vec!["x".repeat(100); 1000];
    assert_eq!(metadata.propose(CommandBody::Revoke { broker: BROKER, jtis }).await, Err(ProposeError::TooLarge));
    assert_eq!(fake.seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_read_waits_for_a_leader() {
    let (metadata, fake) = metadata(vec![]);
    metadata.propose(create_account(1)).await.unwrap();
    fake.faults.lock().unwrap().push(Fault::Unavailable);
    assert!(metadata.read().await.unwrap().account(ACCOUNT).is_some());
    assert_eq!(metadata.wait_applied(LogIndex(9)).await.err(), Some(ProposeError::Unavailable));
}
