//! Driver. The handle by which the rest of a node reads and writes metadata.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::command::{Command, CommandBody};
use super::outcome::Outcome;
use super::replicated::MetadataMachine;
use super::state::State;
use crate::clock::SharedClock;
use crate::consensus::{Applied, ProposeError, SharedConsensus};
use crate::ids::{GroupId, LogIndex, RequestId};
use crate::limits::{MAX_COMMAND_BYTES, PROPOSE_TIMEOUT};
use crate::rng::SharedRng;

/// Pause before a proposal is sent again: a fraction of an election, which is what is mostly waited for.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The metadata of the cluster, as one node sees and writes it. Cheap to clone.
#[derive(Clone)]
pub struct Metadata {
    consensus: SharedConsensus,
    view: watch::Receiver<Arc<State>>,
    clock: SharedClock,
    rng: SharedRng,
    timeout: Duration,
    retry_pause: Duration,
}

/// A state machine for the metadata group, and where its states appear.
pub fn machine() -> (MetadataMachine, watch::Receiver<Arc<State>>) {
    let (sender, receiver) = watch::channel(Arc::new(State::default()));
    let machine = MetadataMachine::new(Box::new(move |state, _| {
        sender.send_replace(state);
    }));
    (machine, receiver)
}

impl Metadata {
    /// A handle on the group that `consensus` runs with the state machine whose states appear in `view` (both from
    /// [`machine`]).
    pub fn new(
        consensus: SharedConsensus,
        view: watch::Receiver<Arc<State>>,
        clock: SharedClock,
        rng: SharedRng,
    ) -> Self {
        Self { consensus, view, clock, rng, timeout: PROPOSE_TIMEOUT, retry_pause: RETRY_PAUSE }
    }

    /// Gives up soon, for tests.
    #[cfg(test)]
    pub(super) fn impatient(self) -> Self {
        Self { timeout: Duration::from_millis(50), retry_pause: Duration::from_millis(1), ..self }
    }

    /// The newest state applied here. May lag what was acknowledged elsewhere; see [`Metadata::read`].
    pub fn view(&self) -> Arc<State> {
        self.view.borrow().clone()
    }

    /// The states to come.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.view.clone()
    }

    /// Proposes a command as a new request; see [`Metadata::propose_as`].
    pub async fn propose(&self, body: CommandBody) -> Result<(LogIndex, Outcome), ProposeError> {
        self.propose_as(RequestId(self.rng.u128()), body).await
    }

    /// Proposes a command and waits until it is applied at the leader, at most `limits::PROPOSE_TIMEOUT`. While the
    /// group has no leader or an answer is missing, the same bytes are sent again: `request` makes that harmless.
    /// [`ProposeError::Unknown`]: it may have been written; ask again with the same `request`.
    pub async fn propose_as(&self, request: RequestId, body: CommandBody) -> Result<(LogIndex, Outcome), ProposeError> {
        let bytes = Command { request_id: request, at: self.clock.wall(), body }.encode();
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(ProposeError::TooLarge);
        }
        let mut failure = ProposeError::Unavailable;
        let applied = match tokio::time::timeout(self.timeout, self.send(bytes, &mut failure)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(failure),
        };
        let outcome = Outcome::decode(&applied.outcome).map_err(|unknown| ProposeError::Stopped(unknown.0))?;
        Ok((applied.index, outcome))
    }

    /// Sends until there is an answer. `failure` is what to say if the caller stops waiting: once a try has begun,
    /// it may have been written until it is known to have failed.
    async fn send(&self, command: Bytes, failure: &mut ProposeError) -> Result<Applied, ProposeError> {
        loop {
            let before = std::mem::replace(failure, ProposeError::Unknown);
            match self.consensus.propose(GroupId::METADATA, command.clone()).await {
                Err(ProposeError::Unavailable) => *failure = before,
                Err(ProposeError::Unknown) => {}
                Err(ProposeError::Stopped(_)) if before == ProposeError::Unknown => return Err(before),
                answer => return answer,
            }
            tokio::time::sleep(self.retry_pause).await;
        }
    }

    /// A state that holds everything acknowledged anywhere before the call (P1).
    pub async fn read(&self) -> Result<Arc<State>, ProposeError> {
        let read = async {
            loop {
                match self.consensus.linearize(GroupId::METADATA).await {
                    Ok(_) => return Ok(self.view()),
                    Err(ProposeError::Unavailable | ProposeError::Unknown) => {
                        tokio::time::sleep(self.retry_pause).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        tokio::time::timeout(self.timeout, read).await.unwrap_or(Err(ProposeError::Unavailable))
    }

    /// The first state seen here that holds the command at `index`, for at most `limits::PROPOSE_TIMEOUT`: after a
    /// write through another node.
    pub async fn wait_applied(&self, index: LogIndex) -> Result<Arc<State>, ProposeError> {
        let mut view = self.view.clone();
        let wait = view.wait_for(|state| state.applied() >= index);
        match tokio::time::timeout(self.timeout, wait).await {
            Ok(Ok(state)) => Ok(state.clone()),
            Ok(Err(_)) => Err(ProposeError::Stopped("the metadata state machine is gone".into())),
            Err(_) => Err(ProposeError::Unavailable),
        }
    }
}
