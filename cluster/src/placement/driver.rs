//! Driver. Brings the groups to where [`super::plan`] wants them, again and again until they are there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::leaving;
use super::plan::{self, Members, Seat};
use crate::clock::{Moment, SharedClock};
use crate::consensus::{GroupStatus, ProposeError, SharedConsensus};
use crate::ids::{GroupId, NodeId};
use crate::limits::PROPOSE_TIMEOUT;
use crate::metadata::{CommandBody, Lease, Metadata, Outcome, State};

/// How often everything is looked at, besides at each change of the metadata.
const LOOK_EVERY: Duration = Duration::from_millis(1000);
/// Membership changes that this node leads at one time: each copies a group's state.
const CHANGES_AT_ONCE: usize = 4;
/// One membership change, with the catching up.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);
/// Pause after a change that failed, doubled each time up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest pause after a change that failed.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A group's leadership is handed on at most this often, so that a node that comes and goes does not drag it
/// along.
const TRANSFER_EVERY: Duration = Duration::from_secs(15);

/// The placement controller of one node. Dropping it stops it.
pub struct Placement {
    _tasks: JoinSet<()>,
}

impl Placement {
    /// Starts it on the current tokio runtime.
    pub fn start(node: NodeId, clock: SharedClock, consensus: SharedConsensus, metadata: Metadata) -> Self {
        let controller = Controller {
            node,
            clock,
            consensus,
            metadata,
            changing: BTreeSet::new(),
            pauses: BTreeMap::new(),
            transfers: BTreeMap::new(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(controller.run());
        Self { _tasks: tasks }
    }
}

struct Controller {
    node: NodeId,
    clock: SharedClock,
    consensus: SharedConsensus,
    metadata: Metadata,
    changing: BTreeSet<GroupId>,
    pauses: BTreeMap<GroupId, Pause>,
    transfers: BTreeMap<GroupId, Moment>,
}

struct Pause {
    until: Moment,
    length: Duration,
}

type Change = (GroupId, Result<(), ProposeError>);

impl Controller {
    async fn run(mut self) {
        let mut watch = self.metadata.watch();
        let mut changes: JoinSet<Change> = JoinSet::new();
        loop {
            let view = watch.borrow_and_update().clone();
            let seats = seats(&view);
            self.wish(&view, &seats).await;
            self.change_members(&view, &seats, &mut changes);
            leaving::report(&self.consensus, &self.metadata, &view).await;
            leaving::forget(&self.consensus, &self.metadata, &view).await;
            self.hand_on(&view, &seats).await;
            let next = async {
                tokio::select! {
                    changed = watch.changed() => changed.is_ok(),
                    Some(done) = changes.join_next() => {
                        if let Ok(done) = done {
                            self.changed(done);
                        }
                        true
                    }
                    () = tokio::time::sleep(LOOK_EVERY) => true,
                }
            };
            if !next.await {
                return;
            }
        }
    }

    /// As the metadata leader: writes down who should hold what.
    async fn wish(&self, view: &State, seats: &[Seat]) {
        if !self.consensus.status(GroupId::METADATA).leads || seats.is_empty() {
            return;
        }
        let groups: Vec<_> = plan::replicas(seats, view.all_replicas(), view.shards()).into_iter().collect();
        if groups.is_empty() {
            return;
        }
        info!(groups = groups.len(), "placing groups");
        match self.metadata.propose(CommandBody::SetReplicas { groups }).await {
            Ok((_, Outcome::Refused(refused))) => warn!(%refused, "the placement was refused"),
            Ok(_) => {}
            Err(why) => warn!(%why, "the placement was not written"),
        }
    }

    /// As the leader of groups: starts the changes that bring their members to the wish.
    fn change_members(&mut self, view: &State, seats: &[Seat], changes: &mut JoinSet<Change>) {
        let now = self.clock.now();
        for group in groups(view) {
            let paused = self.pauses.get(&group).is_some_and(|p| now < p.until);
            if paused || self.changing.len() >= CHANGES_AT_ONCE || self.changing.contains(&group) {
                continue;
            }
            let status = self.consensus.status(group);
            let wish = view.replicas(group);
            let next = status.leads.then(|| plan::members(group, wish, &members(&status), seats)).flatten();
            if let Some(next) = next {
                if self.hands_on_first(group, &status, &next) {
                    continue;
                }
                info!(%group, voters = ?next.voters, learners = ?next.learners, "changing a group's members");
                self.changing.insert(group);
                changes.spawn(change(self.consensus.clone(), group, next));
            }
        }
    }

    /// A leader that is to leave its group hands the lead to one that stays, where there is one, rather than leave the
    /// others to an election. Once: it goes on leading if that fails, and makes the change itself then.
    fn hands_on_first(&self, group: GroupId, status: &GroupStatus, next: &Members) -> bool {
        let stays = |node| next.voters.contains(node) && *node != self.node;
        let other = group != GroupId::METADATA && status.voters.iter().any(stays);
        other && !next.voters.contains(&self.node) && !self.transfers.contains_key(&group)
    }

    fn changed(&mut self, (group, result): Change) {
        self.changing.remove(&group);
        match result {
            Ok(()) => drop(self.pauses.remove(&group)),
            Err(why) => {
                let length = self.pauses.get(&group).map_or(BACKOFF_MIN, |p| (p.length * 2).min(BACKOFF_MAX));
                warn!(%group, %why, retry_after = ?length, "a group's members were not changed");
                self.pauses.insert(group, Pause { until: self.clock.now() + length, length });
            }
        }
    }

    /// As the leader of a shard that another should lead: hands the leadership on, of one shard at a time.
    async fn hand_on(&mut self, view: &State, seats: &[Seat]) {
        let now = self.clock.now();
        for group in groups(view) {
            let status = self.consensus.status(group);
            let recent = self.transfers.get(&group).is_some_and(|at| now.since(*at) < TRANSFER_EVERY);
            if !status.leads || recent || self.changing.contains(&group) {
                continue;
            }
            let to = plan::leader(group, view.replicas(group), seats);
            let Some(to) = to.filter(|to| *to != self.node && status.voters.contains(to)) else { continue };
            info!(%group, %to, "handing on a group's leadership");
            self.transfers.insert(group, now);
            let transfer = tokio::time::timeout(PROPOSE_TIMEOUT, self.consensus.transfer_leader(group, to));
            if let Err(why) = transfer.await.unwrap_or(Err(ProposeError::Unknown)) {
                info!(%group, %to, %why, "the leadership stays");
            }
            return;
        }
    }
}

async fn change(consensus: SharedConsensus, group: GroupId, next: Members) -> Change {
    let (voters, learners) = (next.voters.into_iter().collect(), next.learners.into_iter().collect());
    let change = consensus.change_membership(group, voters, learners);
    (group, tokio::time::timeout(CHANGE_LIMIT, change).await.unwrap_or(Err(ProposeError::Unknown)))
}

pub(super) fn groups(view: &State) -> impl Iterator<Item = GroupId> + use<> {
    std::iter::once(GroupId::METADATA).chain(view.shard_groups())
}

pub(super) fn members(status: &GroupStatus) -> Members {
    Members { voters: status.voters.iter().copied().collect(), learners: status.learners.iter().copied().collect() }
}

pub(super) fn seats(view: &State) -> Vec<Seat> {
    let registered = view.nodes().filter(|record| record.lease != Lease::Never);
    registered
        .map(|record| Seat {
            node: record.id,
            live: record.lease == Lease::Live,
            leaving: view.is_leaving(record.id),
            voter: record.voter_eligible,
            zone: format!("{}/{}", record.card.region, record.card.zone),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use futures_util::FutureExt;
    use parking_lot::Mutex;
    use tokio::sync::watch;

    use super::*;
    use crate::clock::{Clock, UnixMillis};
    use crate::consensus::{Applied, BoxFuture, Consensus, Replicated};
    use crate::ids::{Incarnation, LogIndex};
    use crate::metadata::{MetadataMachine, NodeCard, handle};
    use crate::rng::SystemRng;

    /// Time stands still: no pause ends.
    struct Still;
    impl Clock for Still {
        fn now(&self) -> Moment {
            Moment::default()
        }
        fn wall(&self) -> UnixMillis {
            UnixMillis(0)
        }
    }

    /// Node 1 leads everything; changes succeed at once.
    struct Raft {
        metadata: Mutex<(MetadataMachine, LogIndex)>,
        groups: watch::Sender<BTreeMap<GroupId, GroupStatus>>,
    }

    impl Consensus for Raft {
        fn propose(&self, group: GroupId, command: Bytes) -> BoxFuture<'_, Result<Applied, ProposeError>> {
            assert_eq!(group, GroupId::METADATA);
            let mut metadata = self.metadata.lock();
            let index = LogIndex(metadata.1.0 + 1);
            metadata.1 = index;
            let outcome = metadata.0.apply(index, &command).unwrap();
            metadata.0.applied(index);
            async move { Ok(Applied { index, outcome }) }.boxed()
        }
        fn linearize(&self, _: GroupId) -> BoxFuture<'_, Result<LogIndex, ProposeError>> {
            async { Ok(LogIndex(0)) }.boxed()
        }
        fn confirm_leadership(&self, _: GroupId) -> BoxFuture<'_, Result<(), ProposeError>> {
            async { Ok(()) }.boxed()
        }
        fn status(&self, group: GroupId) -> GroupStatus {
            let alone =
                GroupStatus { leader: Some(NodeId(1)), leads: true, voters: vec![NodeId(1)], ..GroupStatus::default() };
            self.groups.borrow().get(&group).cloned().unwrap_or(alone)
        }
        fn changed(&self, _: GroupId, _: GroupStatus) -> BoxFuture<'_, GroupStatus> {
            std::future::pending().boxed()
        }
        fn change_membership(
            &self,
            group: GroupId,
            voters: Vec<NodeId>,
            learners: Vec<NodeId>,
        ) -> BoxFuture<'_, Result<(), ProposeError>> {
            let status = GroupStatus { voters, learners, ..self.status(group) };
            self.groups.send_modify(|groups| drop(groups.insert(group, status)));
            async { Ok(()) }.boxed()
        }
        fn transfer_leader(&self, group: GroupId, to: NodeId) -> BoxFuture<'_, Result<(), ProposeError>> {
            let status = GroupStatus { leader: Some(to), leads: false, ..self.status(group) };
            self.groups.send_modify(|groups| drop(groups.insert(group, status)));
            async { Ok(()) }.boxed()
        }
    }

    async fn join(metadata: &Metadata, node: u64) {
        let (name, key_hash) = (format!("n{node}"), [node as u8; 32]);
        let add = CommandBody::AddNode { name, key_hash, join_token: None, voter_eligible: true };
        metadata.propose(add).await.unwrap();
        let (node, incarnation, card) = (NodeId(node), Incarnation(1), NodeCard::default());
        metadata.propose(CommandBody::RegisterIncarnation { node, incarnation, card }).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn groups_grow_with_the_cluster_and_share_the_lead() {
        let (machine, view) = handle::machine();
        let raft = Arc::new(Raft { metadata: Mutex::new((machine, LogIndex(0))), groups: watch::Sender::default() });
        let metadata = Metadata::new(raft.clone(), view, Arc::new(Still), Arc::new(SystemRng));
        let _placement = Placement::start(NodeId(1), Arc::new(Still), raft.clone(), metadata.clone());
        join(&metadata, 1).await;
        metadata.watch().wait_for(|v| v.replicas(GroupId(16)) == [NodeId(1)]).await.unwrap();
        join(&metadata, 2).await;
        join(&metadata, 3).await;
        let three = vec![NodeId(1), NodeId(2), NodeId(3)];
        let mut groups = raft.groups.subscribe();
        let done = |groups: &BTreeMap<GroupId, GroupStatus>| {
            let leaders = groups.values().filter(|s| s.leader == Some(NodeId(2))).count();
            groups.len() == 17 && groups.values().all(|s| s.voters == three) && leaders == 6
        };
        groups.wait_for(done).await.unwrap();
        groups.wait_for(|g| g.values().filter(|s| s.leads).count() == 6).await.unwrap();
        assert!(groups.borrow()[&GroupId::METADATA].leads);
    }
}
