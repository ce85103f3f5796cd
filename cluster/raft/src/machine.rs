//! openraft's state machine around a [`Replicated`] object.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use rookery_cluster::consensus::{Replicated, UnknownCommand};
use rookery_cluster::ids::{GroupId, LogIndex};
use tokio::sync::Notify;

use crate::snapshot::SnapshotFile;
use crate::types::{Batch, LogId, Outcomes, Snapshot, SnapshotMeta, StoredMembership, Types};

/// Entries applied before readers are told and proposers answered, at most.
const RUN: usize = 64;

/// What the machine tells the rest of its group.
#[derive(Default)]
pub(crate) struct Signals {
    /// A snapshot is due.
    pub(crate) snapshot_due: Notify,
    /// Why the machine stopped, in words for the operator.
    pub(crate) stopped: Mutex<Option<String>>,
}

impl Signals {
    fn stop(&self, group: GroupId, why: String) -> io::Error {
        tracing::error!(%group, why, "this replica stops; the others go on");
        let error = io::Error::new(io::ErrorKind::InvalidData, why.clone());
        self.stopped.lock().get_or_insert(why);
        error
    }
}

/// The state machine of one replica. In memory: rebuilt at start from the snapshot and the log.
pub(crate) struct Machine {
    group: GroupId,
    /// Locked only to make it `Sync`; openraft calls from one task.
    state: Mutex<Box<dyn Replicated>>,
    applied: Option<LogId>,
    membership: StoredMembership,
    file: SnapshotFile,
    signals: Arc<Signals>,
    /// Bytes of commands since the last snapshot, and how many make one due.
    since_snapshot: u64,
    snapshot_every: u64,
}

/// Bytes that an entry counts besides its commands, so that many small ones make a snapshot due as well.
const ENTRY_COST: u64 = 64;

impl Machine {
    pub(crate) fn new(
        group: GroupId,
        state: Box<dyn Replicated>,
        file: SnapshotFile,
        signals: Arc<Signals>,
        snapshot_every: u64,
    ) -> Self {
        Self {
            group,
            state: Mutex::new(state),
            applied: None,
            membership: StoredMembership::default(),
            file,
            signals,
            since_snapshot: 0,
            snapshot_every,
        }
    }

    fn apply_batch(&mut self, index: LogIndex, batch: &Batch) -> io::Result<Outcomes> {
        let state = self.state.get_mut();
        let outcomes: Result<Vec<Bytes>, UnknownCommand> =
            guard(|| batch.0.iter().map(|command| state.apply(index, command)).collect());
        self.since_snapshot += batch.0.iter().map(|c| c.len() as u64).sum::<u64>();
        match outcomes {
            Ok(outcomes) => Ok(Outcomes(outcomes)),
            Err(error) => Err(self.signals.stop(self.group, format!("log entry {index}: {error}"))),
        }
    }

    fn apply_entry(&mut self, log_id: LogId, payload: EntryPayload<Batch, u64, ()>) -> io::Result<Outcomes> {
        let outcomes = match payload {
            EntryPayload::Blank => Outcomes::default(),
            EntryPayload::Normal(batch) => self.apply_batch(LogIndex(log_id.index()), &batch)?,
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(log_id), membership);
                Outcomes::default()
            }
        };
        self.since_snapshot += ENTRY_COST;
        self.applied = Some(log_id);
        Ok(outcomes)
    }

    /// Lets readers see what was applied, then answers those who proposed it.
    fn finish_run(&mut self, run: &mut Vec<(ApplyResponder<Types>, Outcomes)>) -> io::Result<()> {
        let Some(applied) = self.applied else { return Ok(()) };
        let state = self.state.get_mut();
        guard(|| {
            state.applied(LogIndex(applied.index()));
            Ok(())
        })
        .map_err(|error| self.signals.stop(self.group, error.to_string()))?;
        run.drain(..).for_each(|(responder, outcomes)| responder.send(outcomes));
        if self.since_snapshot >= self.snapshot_every {
            self.since_snapshot = 0;
            self.signals.snapshot_due.notify_one();
        }
        Ok(())
    }

    fn restore(&mut self, meta: &SnapshotMeta, bytes: &Bytes) -> io::Result<()> {
        let index = LogIndex(meta.last_log_id.map_or(0, |id| id.index()));
        let state = self.state.get_mut();
        guard(|| {
            state.restore(bytes)?;
            state.applied(index);
            Ok(())
        })
        .map_err(|error| self.signals.stop(self.group, format!("snapshot up to {index}: {error}")))?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.since_snapshot = 0;
        Ok(())
    }
}

/// A panic in one group's state machine stops that replica, as an unknown command does.
fn guard<T>(f: impl FnOnce() -> Result<T, UnknownCommand>) -> Result<T, UnknownCommand> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(UnknownCommand(format!("the state machine panicked: {text}")))
    })
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut run = Vec::new();
        let mut count = 0;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            match self.apply_entry(entry.log_id, entry.payload) {
                Ok(outcomes) => run.extend(responder.map(|responder| (responder, outcomes))),
                Err(error) => {
                    self.finish_run(&mut run)?;
                    return Err(error);
                }
            }
            count += 1;
            if count % RUN == 0 {
                self.finish_run(&mut run)?;
            }
        }
        self.finish_run(&mut run)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let state = self.state.get_mut();
        let bytes = guard(|| Ok(state.snapshot())).map_err(|e| self.signals.stop(self.group, e.to_string()));
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Builder { meta, state: Some(bytes), file: self.file.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> Result<(), io::Error> {
        self.restore(meta, &snapshot)?;
        save(self.file.clone(), meta.clone(), snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let file = self.file.clone();
        blocking(move || {
            let path = file.path().display().to_string();
            file.read().map_err(|e| io::Error::new(e.kind(), format!("snapshot {path}: {e}")))
        })
        .await
    }
}

/// Writes the state as it was when the builder was made.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    state: Option<io::Result<Bytes>>,
    file: SnapshotFile,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let state = self.state.take().unwrap_or_else(|| Err(io::Error::other("a snapshot is built once")))?;
        save(self.file.clone(), self.meta.clone(), state.clone()).await?;
        tracing::info!(file = %self.file.path().display(), bytes = state.len(), "snapshot saved");
        Ok(Snapshot { meta: self.meta.clone(), snapshot: state })
    }
}

async fn save(file: SnapshotFile, meta: SnapshotMeta, state: Bytes) -> io::Result<()> {
    blocking(move || file.save(&meta, &state)).await
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}
