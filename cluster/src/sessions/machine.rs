//! The shard's state as a Raft group applies it.

use bytes::Bytes;

use super::{Command, Effect, ShardState, ShardView};
use crate::consensus::{Replicated, UnknownCommand};
use crate::ids::LogIndex;

/// Sees what committed commands did to a replica's state.
pub trait Observer: Send + 'static {
    /// The state is now as in `view`, as of `index`; `effects` arose on the way, in order. Must not wait.
    fn applied(&mut self, index: LogIndex, view: ShardView, effects: Vec<Effect>);
}

/// One replica of a shard.
#[derive(Debug, Default)]
pub struct Machine<O> {
    state: ShardState,
    effects: Vec<Effect>,
    observer: O,
}

impl<O: Observer> Machine<O> {
    /// An empty shard, watched by `observer`.
    pub fn new(observer: O) -> Self {
        Self { state: ShardState::default(), effects: Vec::new(), observer }
    }

    /// The state, to be read.
    pub fn state(&self) -> &ShardState {
        &self.state
    }
}

impl<O: Observer> Replicated for Machine<O> {
    fn apply(&mut self, _index: LogIndex, command: &[u8]) -> Result<Bytes, UnknownCommand> {
        let command = Command::decode(command)?;
        Ok(self.state.apply(command, &mut self.effects).encode())
    }

    fn applied(&mut self, index: LogIndex) {
        self.observer.applied(index, self.state.view(), std::mem::take(&mut self.effects));
    }

    fn snapshot(&self) -> Bytes {
        self.state.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), UnknownCommand> {
        self.state = ShardState::restore(snapshot)?;
        self.effects.clear();
        Ok(())
    }
}
