//! One group's replica on this node: what openraft is asked, in the words of [`rookery_cluster::consensus`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::{ChangeMembers, RaftMetrics, ReadPolicy, ServerState};
use rookery_cluster::consensus::{GroupStatus, ProposeError};
use rookery_cluster::ids::{GroupId, LogIndex, NodeId};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::config::{GroupConfig, InitError, StartError};
use crate::machine::{Machine, Signals};
use crate::net::client::Network;
use crate::net::wire::Answer;
use crate::peers::Peers;
use crate::snapshot::SnapshotFile;
use crate::store::Store;
use crate::types::{Batch, Raft, Types};

/// A leadership transfer that is not done by then has failed, as far as its caller is concerned.
const TRANSFER: Duration = Duration::from_secs(5);
/// So has a membership change, learners' catching up included.
const CHANGE: Duration = Duration::from_secs(120);
/// A voter may lack this many entries and still be handed the leadership.
const TRANSFER_LAG: u64 = 1024;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Replica {
    me: NodeId,
    group: GroupId,
    pub(crate) raft: Raft,
    signals: Arc<Signals>,
}

/// Where a replica stands.
pub(crate) enum Standing {
    Leads,
    /// That node, if it knows one.
    Follows(Option<NodeId>),
    /// And why.
    Stopped(String),
}

/// A write handed to the Raft core.
pub(crate) struct Written(oneshot::Receiver<ClientWriteResult<Types>>);

impl Written {
    /// What became of it.
    pub(crate) async fn answer(self) -> Answer {
        match self.0.await {
            Ok(Ok(done)) => Answer::Done(done.log_id.index(), done.data.0),
            Ok(Err(ClientWriteError::ForwardToLeader(to))) => Answer::NotLeader(to.leader_id),
            Ok(Err(_)) | Err(_) => Answer::Unknown,
        }
    }
}

impl Replica {
    /// Restores the state and starts Raft.
    pub(crate) async fn start(
        me: NodeId,
        config: GroupConfig,
        dir: &Path,
        peers: Peers,
        runtime: &Handle,
    ) -> Result<Self, StartError> {
        let group = config.group;
        let openraft = config.openraft()?;
        let file = open_snapshot(dir, group).await?;
        check_gap(&config, &file)?;
        let signals = Arc::new(Signals::default());
        let machine = Machine::new(group, config.machine, file, signals.clone(), config.snapshot_bytes);
        let network = Network { me, group, peers };
        let raft = Raft::new(me.0, openraft, network, Store::new(config.log), machine).await;
        let raft = raft.map_err(|error| {
            let why = signals.stopped.lock().clone().unwrap_or_else(|| error.to_string());
            StartError::Replica { group, why }
        })?;
        runtime.spawn(make_snapshots(raft.clone(), signals.clone()));
        Ok(Self { me, group, raft, signals })
    }

    pub(crate) fn status(&self) -> GroupStatus {
        self.status_of(&self.raft.metrics().borrow_watched())
    }

    /// The part of the status that a proposal goes by.
    pub(crate) fn standing(&self) -> Standing {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        match self.stopped_of(&metrics) {
            Some(why) => Standing::Stopped(why),
            None if self.leads_by(&metrics) => Standing::Leads,
            None => Standing::Follows(metrics.current_leader.map(NodeId)),
        }
    }

    fn leads_by(&self, metrics: &RaftMetrics<Types>) -> bool {
        metrics.state == ServerState::Leader && metrics.current_leader == Some(self.me.0)
    }

    fn stopped_of(&self, metrics: &RaftMetrics<Types>) -> Option<String> {
        let why = self.signals.stopped.lock().clone();
        match &metrics.running_state {
            Ok(()) => why,
            Err(fatal) => Some(why.unwrap_or_else(|| fatal.to_string())),
        }
    }

    fn status_of(&self, metrics: &RaftMetrics<Types>) -> GroupStatus {
        let (leads, stopped) = (self.leads_by(metrics), self.stopped_of(metrics));
        let members = metrics.membership_config.membership();
        GroupStatus {
            leader: if stopped.is_some() { None } else { metrics.current_leader.map(NodeId) },
            term: metrics.current_term,
            leads: leads && stopped.is_none(),
            replica: true,
            applied: LogIndex(metrics.last_applied.map_or(0, |id| id.index())),
            voters: members.voter_ids().map(NodeId).collect(),
            learners: members.learner_ids().map(NodeId).collect(),
            members_at: LogIndex(metrics.membership_config.log_id().map_or(0, |id| id.index())),
            stopped,
        }
    }

    /// Resolves when the status is another than `seen`. Never, once stopped and seen so.
    pub(crate) async fn changed(&self, seen: &GroupStatus) -> GroupStatus {
        let mut metrics = self.raft.metrics();
        loop {
            let now = self.status_of(&metrics.borrow_and_update());
            if now != *seen {
                return now;
            }
            if metrics.changed().await.is_err() {
                let now = GroupStatus { stopped: Some(self.stopped()), leader: None, leads: false, ..now };
                if now != *seen {
                    return now;
                }
                return std::future::pending().await;
            }
        }
    }

    /// Why it stopped, for one that did.
    fn stopped(&self) -> String {
        self.status().stopped.unwrap_or_else(|| "it was shut down".to_owned())
    }

    /// Hands commands to the Raft core, in the order of these calls.
    pub(crate) async fn write(&self, commands: Vec<Bytes>) -> Result<Written, ProposeError> {
        let (responder, done) = ProgressResponder::complete_only();
        match self.raft.client_write_ff(Batch(commands), Some(responder)).await {
            Ok(()) => Ok(Written(done)),
            Err(_) => Err(ProposeError::Stopped(self.stopped())),
        }
    }

    /// A read index that a fresh quorum round confirmed; only where this node leads.
    pub(crate) async fn read_index(&self) -> Result<Answer, ProposeError> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(Answer::Done(linearizer.read_log_id().index(), Vec::new())),
            Err(RaftError::APIError(error)) => {
                Ok(Answer::NotLeader(openraft::TryAsRef::try_as_ref(&error).and_then(leader_in)))
            }
            Err(RaftError::Fatal(_)) => Err(ProposeError::Stopped(self.stopped())),
        }
    }

    /// Waits until `index` is applied here.
    pub(crate) async fn applied(&self, index: u64) -> Result<LogIndex, ProposeError> {
        match self.raft.wait(None).applied_index_at_least(Some(index), "read").await {
            Ok(metrics) => Ok(LogIndex(metrics.last_applied.map_or(index, |id| id.index()))),
            Err(_) => Err(ProposeError::Stopped(self.stopped())),
        }
    }

    pub(crate) async fn initialize(&self, members: &[NodeId]) -> Result<(), InitError> {
        let members: BTreeMap<u64, ()> = members.iter().map(|id| (id.0, ())).collect();
        match self.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Err(InitError::Already(self.group)),
            Err(RaftError::APIError(InitializeError::NotInMembers(_))) => Err(InitError::NotMember(self.group)),
            Err(RaftError::Fatal(_)) => Err(InitError::Stopped(self.stopped())),
        }
    }

    pub(crate) async fn change_membership(&self, voters: &[NodeId], learners: &[NodeId]) -> Result<(), ProposeError> {
        timeout(CHANGE, self.change(voters, learners)).await.unwrap_or(Err(ProposeError::Unknown))
    }

    async fn change(&self, voters: &[NodeId], learners: &[NodeId]) -> Result<(), ProposeError> {
        let known = self.status();
        for id in voters.iter().chain(learners) {
            if !known.voters.contains(id) && !known.learners.contains(id) {
                self.check(self.raft.add_learner(id.0, (), true).await)?;
            }
        }
        let ids = voters.iter().map(|id| id.0).collect();
        self.check(self.raft.change_membership(ChangeMembers::ReplaceAllVoters(ids), true).await)?;
        let nodes = voters.iter().chain(learners).map(|id| (id.0, ())).collect();
        self.check(self.raft.change_membership(ChangeMembers::ReplaceAllNodes(nodes), true).await)
    }

    fn check<T>(&self, result: Result<T, RaftError<Types, ClientWriteError<Types>>>) -> Result<(), ProposeError> {
        match result {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Err(ProposeError::Unknown),
            Err(RaftError::APIError(error)) => {
                tracing::info!(group = %self.group, %error, "membership change refused");
                Err(ProposeError::Unavailable)
            }
            Err(RaftError::Fatal(_)) => Err(ProposeError::Stopped(self.stopped())),
        }
    }

    pub(crate) async fn transfer_leader(&self, to: NodeId) -> Result<(), ProposeError> {
        let mut metrics = self.raft.metrics();
        {
            let now = metrics.borrow_and_update();
            let status = self.status_of(&now);
            if status.leads && to == self.me {
                return Ok(());
            }
            let matched = now.replication.as_ref().and_then(|all| all.get(&to.0).copied().flatten());
            let behind = now.last_log_index.unwrap_or(0).saturating_sub(matched.map_or(0, |id| id.index()));
            if !status.leads || !status.voters.contains(&to) || matched.is_none() || behind > TRANSFER_LAG {
                return Err(ProposeError::Unavailable);
            }
        }
        self.raft.trigger().transfer_leader(to.0).await.map_err(|_| ProposeError::Stopped(self.stopped()))?;
        let led = metrics.wait_until(|m| m.current_leader == Some(to.0));
        match timeout(TRANSFER, led).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ProposeError::Unknown),
        }
    }

    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(group = %self.group, %error, "the raft core did not end cleanly");
        }
    }
}

fn leader_in(to: &openraft::errors::ForwardToLeader<Types>) -> Option<u64> {
    to.leader_id
}

async fn open_snapshot(dir: &Path, group: GroupId) -> Result<SnapshotFile, StartError> {
    let (dir, path) = (dir.to_owned(), dir.join(format!("{group}.snap")));
    let opened = tokio::task::spawn_blocking(move || SnapshotFile::open(&dir, group)).await;
    let opened = opened.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    opened.map_err(|source| StartError::Snapshot { path, source })
}

/// openraft would go on with an empty state where the snapshot of a purged log is missing.
fn check_gap(config: &GroupConfig, file: &SnapshotFile) -> Result<(), StartError> {
    let Some((purged, _)) = config.log.state().purged else { return Ok(()) };
    let snapshot = file.last_log_id().map(|id| LogIndex(id.index()));
    if snapshot >= Some(purged) {
        return Ok(());
    }
    Err(StartError::Gap { group: config.group, path: file.path().to_owned(), purged, snapshot })
}

/// Asks for a snapshot each time that the state machine says that one is due.
async fn make_snapshots(raft: Raft, signals: Arc<Signals>) {
    let mut ended = raft.server_metrics();
    loop {
        tokio::select! {
            () = signals.snapshot_due.notified() => {
                if raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
            // The metrics end with the Raft core; what changes in them means nothing here.
            changed = ended.changed() => if changed.is_err() {
                return;
            },
        }
    }
}
