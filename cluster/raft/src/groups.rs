//! All Raft groups of a node behind one handle: [`Groups`], which implements [`Consensus`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use rookery_cluster::consensus::{Applied, BoxFuture, Consensus, GroupStatus, ProposeError};
use rookery_cluster::ids::{GroupId, LogIndex, NodeId};
use rookery_cluster::limits::{MAX_COMMAND_BYTES, MAX_ENTRY_COMMANDS, PROPOSE_TIMEOUT, PROPOSE_TOGETHER_BYTES};
use rookery_cluster::net::Purpose;
use rookery_proto::raft::CallKind;
use rookery_proto::raft::raft_server::RaftServer;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::batcher::Batcher;
use crate::config::{GroupConfig, InitError, Settings, StartError};
use crate::net::service::RaftService;
use crate::net::wire::{self, Answer};
use crate::peers::Peers;
use crate::reads::Rounds;
use crate::replica::Replica;
use crate::route::Route;

/// Between two tries to find a leader that answers a read.
const RETRY: std::time::Duration = std::time::Duration::from_millis(20);

/// The Raft groups of a node. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Groups(Arc<Inner>);

pub(crate) struct Inner {
    me: NodeId,
    runtime: Handle,
    peers: Peers,
    snapshots: PathBuf,
    groups: RwLock<BTreeMap<GroupId, Arc<Group>>>,
    /// Counts how often a group was added, removed or routed.
    changes: watch::Sender<u64>,
    closing: watch::Sender<bool>,
}

/// A group that this node knows of, with or without a replica here.
struct Group {
    id: GroupId,
    replica: Option<Replica>,
    route: Arc<Route>,
    batcher: Batcher,
    reads: Rounds<Result<Option<u64>, ProposeError>>,
}

impl Inner {
    pub(crate) fn replica(&self, group: GroupId) -> Option<Replica> {
        self.groups.read().get(&group)?.replica.clone()
    }

    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    fn group(&self, group: GroupId) -> Option<Arc<Group>> {
        self.groups.read().get(&group).cloned()
    }

    /// Replaces what is known of a group; what it proposes goes the new way from now on.
    fn put(&self, id: GroupId, replica: Option<Replica>, route: Arc<Route>) {
        let batcher = Batcher::start(&self.runtime, id, replica.clone(), route.clone(), self.peers.clone());
        self.groups.write().insert(id, Arc::new(Group { id, replica, route, batcher, reads: Rounds::default() }));
        self.changes.send_modify(|n| *n += 1);
    }
}

impl Groups {
    /// Starts with no group. All work is done on the tokio runtime that this is called on, whatever runtime
    /// the callers of the other methods are on.
    pub fn start(settings: Settings) -> Self {
        let runtime = Handle::current();
        Self(Arc::new(Inner {
            me: settings.node,
            peers: Peers::new(runtime.clone(), settings.peers),
            runtime,
            snapshots: settings.snapshots,
            groups: RwLock::default(),
            changes: watch::Sender::new(0),
            closing: watch::Sender::new(false),
        }))
    }

    /// The service that peers call; to be added to the server between nodes.
    pub fn service(&self) -> RaftServer<RaftService> {
        RaftService::server(self.0.clone())
    }

    /// Restores a replica from its snapshot and log, and starts it.
    pub async fn add_group(&self, config: GroupConfig) -> Result<(), StartError> {
        let inner = &self.0;
        let id = config.group;
        let known = inner.group(id);
        if known.as_ref().is_some_and(|group| group.replica.is_some()) {
            return Err(StartError::Running(id));
        }
        let replica = Replica::start(inner.me, config, &inner.snapshots, inner.peers.clone(), &inner.runtime).await?;
        inner.put(id, Some(replica), known.map_or_else(Arc::default, |group| group.route.clone()));
        Ok(())
    }

    /// Stops the local replica. Its files stay. The group is still reached where its other replicas are.
    pub async fn remove_group(&self, group: GroupId) {
        let Some(known) = self.0.group(group) else { return };
        let Some(replica) = &known.replica else { return };
        self.0.put(group, None, known.route.clone());
        replica.shutdown().await;
    }

    /// Says where the replicas of a group are, for a node that has none itself.
    pub fn set_route(&self, group: GroupId, replicas: Vec<NodeId>) {
        if let Some(known) = self.0.group(group) {
            known.route.set(replicas);
            return;
        }
        let route = Arc::new(Route::default());
        route.set(replicas);
        self.0.put(group, None, route);
    }

    /// Whether a replica of `group` runs on this node.
    pub fn has_replica(&self, group: GroupId) -> bool {
        self.0.replica(group).is_some()
    }

    /// Makes `members` the voters of a group that has never had any; to be called on one of them, once.
    pub async fn initialize(&self, group: GroupId, members: &[NodeId]) -> Result<(), InitError> {
        match self.0.replica(group) {
            Some(replica) => replica.initialize(members).await,
            None => Err(InitError::NoReplica(group)),
        }
    }

    /// Stops all replicas and ends all streams to peers. Nothing that was acknowledged is lost.
    pub async fn shutdown(&self) {
        let _ = self.0.closing.send_replace(true);
        let groups: Vec<_> = self.0.groups.read().values().cloned().collect();
        for replica in groups.iter().filter_map(|group| group.replica.as_ref()) {
            replica.shutdown().await;
        }
        self.0.peers.close();
    }

    fn replica(&self, group: GroupId) -> Result<Replica, ProposeError> {
        self.0.replica(group).ok_or(ProposeError::Unavailable)
    }

    /// A read index of the leader, wherever it is. `None` if there is none to ask now.
    async fn read_index(&self, group: &Group, replica: &Replica) -> Result<Option<u64>, ProposeError> {
        let status = replica.status();
        if let Some(why) = status.stopped {
            return Err(ProposeError::Stopped(why));
        }
        let answer = match status.leader {
            Some(_) if status.leads => replica.read_index().await?,
            Some(leader) => {
                let link = self.0.peers.link(leader, Purpose::Control);
                let reply = link.call(group.id, CallKind::ReadIndex, Bytes::new(), false).within(PROPOSE_TIMEOUT).await;
                match reply.map(|body| wire::answer_from_bytes(&body)) {
                    Ok(Ok(answer)) => answer,
                    _ => Answer::Unknown,
                }
            }
            None => Answer::NotLeader(None),
        };
        Ok(match answer {
            Answer::Done(index, _) => Some(index),
            Answer::NotLeader(_) | Answer::Unknown => None,
        })
    }

    async fn read_point(&self, id: GroupId) -> Result<LogIndex, ProposeError> {
        let group = self.0.group(id).ok_or(ProposeError::Unavailable)?;
        let replica = self.replica(id)?;
        loop {
            match group.reads.share(self.read_index(&group, &replica)).await? {
                Some(index) => return replica.applied(index).await,
                None => sleep(RETRY).await,
            }
        }
    }
}

impl Consensus for Groups {
    fn propose(&self, group: GroupId, command: Bytes) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        Box::pin(async move {
            if command.len() > MAX_COMMAND_BYTES {
                return Err(ProposeError::TooLarge);
            }
            let known = self.0.group(group).ok_or(ProposeError::Unavailable)?;
            let (index, mut outcomes) = known.batcher.propose(vec![command]).await?;
            let outcome = outcomes.pop().ok_or(ProposeError::Unknown)?;
            Ok(Applied { index, outcome })
        })
    }

    fn propose_all(&self, group: GroupId, commands: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Bytes>, ProposeError>> {
        Box::pin(async move {
            let (last, first) = commands
                .split_last()
                .map_or((0, 0), |(last, before)| (last.len(), before.iter().map(Bytes::len).sum::<usize>()));
            if last > MAX_COMMAND_BYTES || first > PROPOSE_TOGETHER_BYTES || commands.len() > MAX_ENTRY_COMMANDS {
                return Err(ProposeError::TooLarge);
            }
            if commands.is_empty() {
                return Ok(Vec::new());
            }
            let known = self.0.group(group).ok_or(ProposeError::Unavailable)?;
            Ok(known.batcher.propose(commands).await?.1)
        })
    }

    fn linearize(&self, group: GroupId) -> BoxFuture<'_, Result<LogIndex, ProposeError>> {
        // Nothing is written by a read, so one that takes too long is merely unavailable.
        let read = timeout(PROPOSE_TIMEOUT, self.read_point(group));
        Box::pin(async move { read.await.unwrap_or(Err(ProposeError::Unavailable)) })
    }

    fn confirm_leadership(&self, group: GroupId) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async move {
            let replica = self.replica(group)?;
            match timeout(PROPOSE_TIMEOUT, replica.read_index()).await {
                Ok(Ok(Answer::Done(..))) => Ok(()),
                Ok(Err(stopped)) => Err(stopped),
                _ => Err(ProposeError::Unavailable),
            }
        })
    }

    fn status(&self, group: GroupId) -> GroupStatus {
        let Some(known) = self.0.group(group) else { return GroupStatus::default() };
        match &known.replica {
            Some(replica) => replica.status(),
            None => GroupStatus { leader: known.route.known(), ..GroupStatus::default() },
        }
    }

    fn changed(&self, group: GroupId, seen: GroupStatus) -> BoxFuture<'_, GroupStatus> {
        Box::pin(async move {
            let mut changes = self.0.changes.subscribe();
            loop {
                let now = self.status(group);
                if now != seen {
                    return now;
                }
                let replica = self.0.replica(group);
                let elsewhere = async {
                    match &replica {
                        Some(replica) => replica.changed(&seen).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    now = elsewhere => return now,
                    // The sender lives as long as `self`.
                    _ = changes.changed() => {}
                }
            }
        })
    }

    fn change_membership(
        &self,
        group: GroupId,
        voters: Vec<NodeId>,
        learners: Vec<NodeId>,
    ) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async move { self.replica(group)?.change_membership(&voters, &learners).await })
    }

    fn transfer_leader(&self, group: GroupId, to: NodeId) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async move { self.replica(group)?.transfer_leader(to).await })
    }
}
