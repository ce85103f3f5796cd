//! What the rooms above need of Raft, without naming openraft: the crate `rookery-raft` implements
//! [`Consensus`], drives a [`Replicated`] per group, and stores through `log::GroupLog`.
//!
//! Commands and outcomes are opaque bytes here, so that the consensus code is compiled once for all groups.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::ids::{GroupId, LogIndex, NodeId};

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A deterministic state machine that a Raft group replicates. Same log, same bytes, on every replica.
pub trait Replicated: Send + 'static {
    /// Applies one command. The outcome goes to whoever proposed it. An error means that this replica does
    /// not know the command (R17): it stops, the cluster goes on.
    fn apply(&mut self, index: LogIndex, command: &[u8]) -> Result<Bytes, UnknownCommand>;

    /// Called after each run of `apply` calls, when readers may see the state as of `index`. Also called once
    /// after [`Replicated::restore`].
    fn applied(&mut self, index: LogIndex);

    /// The whole state, to be restored elsewhere. Deterministic.
    fn snapshot(&self) -> Bytes;

    /// Replaces the state by one that [`Replicated::snapshot`] made.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), UnknownCommand>;
}

/// A command or snapshot of a version that this binary does not know, or that is not one at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown command or snapshot: {0}")]
pub struct UnknownCommand(pub String);

/// A committed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where in the group's log.
    pub index: LogIndex,
    /// What the state machine answered.
    pub outcome: Bytes,
}

/// Why a proposal did not come back with an outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was written: there is no leader to write to, or it refused before appending.
    #[error("the group has no leader that can write; nothing was written")]
    Unavailable,
    /// It may have been written, or may still be.
    #[error("no answer in time; the write may or may not have taken effect")]
    Unknown,
    /// The command is larger than `limits::MAX_COMMAND_BYTES`; nothing was written.
    #[error("the command is too large; nothing was written")]
    TooLarge,
    /// This replica stopped (unknown command, damaged store).
    #[error("this replica has stopped: {0}")]
    Stopped(String),
}

/// How one group looks from this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The leader as far as this node knows.
    pub leader: Option<NodeId>,
    /// The current term.
    pub term: u64,
    /// Whether this node leads the group, in `term`.
    pub leads: bool,
    /// Whether this node holds a replica.
    pub replica: bool,
    /// Last index applied here.
    pub applied: LogIndex,
    /// Voters of the last membership known here.
    pub voters: Vec<NodeId>,
    /// Learners of the last membership known here.
    pub learners: Vec<NodeId>,
    /// Where in the log that membership is: it is committed if [`GroupStatus::applied`] has come to it.
    pub members_at: LogIndex,
    /// Why the local replica stopped, if it did.
    pub stopped: Option<String>,
}

/// The Raft groups as seen from one node. Cheap to clone behind an `Arc`.
pub trait Consensus: Send + Sync + 'static {
    /// Proposes a command to `group`, here or at its leader (forwarded once, never in a ring), and waits
    /// until it is applied at the leader. The command must carry its own request ID: after
    /// [`ProposeError::Unknown`] the caller may send the same bytes again.
    fn propose(&self, group: GroupId, command: Bytes) -> BoxFuture<'_, Result<Applied, ProposeError>>;

    /// Proposes commands of at most `limits::PROPOSE_TOGETHER_BYTES` before the last one, and
    /// `limits::MAX_ENTRY_COMMANDS`, as [`Consensus::propose`] does one, to be applied one right after the other; gives
    /// their outcomes. Cheaper than each by itself: they are in one entry. What an error says holds for all.
    fn propose_all(&self, group: GroupId, commands: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Bytes>, ProposeError>> {
        let all: Vec<_> = commands.into_iter().map(|command| self.propose(group, command)).collect();
        Box::pin(async move { Ok(try_join_all(all).await?.into_iter().map(|applied| applied.outcome).collect()) })
    }

    /// A linearizable read point: returns once this node has applied everything that was committed in
    /// `group` when the call began (ReadIndex, Raft §6.4).
    fn linearize(&self, group: GroupId) -> BoxFuture<'_, Result<LogIndex, ProposeError>>;

    /// On the leader only: a quorum round that began after this call confirmed that it still leads.
    /// `Unavailable` elsewhere (R2).
    fn confirm_leadership(&self, group: GroupId) -> BoxFuture<'_, Result<(), ProposeError>>;

    /// How `group` looks now.
    fn status(&self, group: GroupId) -> GroupStatus;

    /// Resolves when the status of `group` has changed from `seen`, with the new one.
    fn changed(&self, group: GroupId, seen: GroupStatus) -> BoxFuture<'_, GroupStatus>;

    /// On the leader only: makes exactly `voters` the voters and `learners` the learners, adding missing
    /// ones as learners first and waiting until they caught up.
    fn change_membership(
        &self,
        group: GroupId,
        voters: Vec<NodeId>,
        learners: Vec<NodeId>,
    ) -> BoxFuture<'_, Result<(), ProposeError>>;

    /// On the leader only: hands leadership of `group` to `to` if it is a voter that has caught up.
    fn transfer_leader(&self, group: GroupId, to: NodeId) -> BoxFuture<'_, Result<(), ProposeError>>;
}

/// The groups, shared.
pub type SharedConsensus = Arc<dyn Consensus>;
