//! The state machine as the consensus layer sees it.

use std::sync::Arc;

use bytes::Bytes;

use super::apply::apply;
use super::command::Command;
use super::state::State;
use crate::consensus::{Replicated, UnknownCommand};
use crate::ids::LogIndex;

/// Told each time that readers may see a newer state.
pub type Publisher = Box<dyn FnMut(Arc<State>, LogIndex) + Send>;

/// The metadata group's state machine: decodes, applies, publishes.
pub struct MetadataMachine {
    state: State,
    publish: Publisher,
}

impl MetadataMachine {
    /// An empty state; `publish` gets each newer one.
    pub fn new(publish: Publisher) -> Self {
        Self { state: State::default(), publish }
    }
}

impl Replicated for MetadataMachine {
    fn apply(&mut self, index: LogIndex, command: &[u8]) -> Result<Bytes, UnknownCommand> {
        let command = Command::decode(command)?;
        Ok(apply(&mut self.state, index, &command).encode())
    }

    fn applied(&mut self, index: LogIndex) {
        self.state.applied = self.state.applied.max(index);
        (self.publish)(Arc::new(self.state.clone()), index);
    }

    fn snapshot(&self) -> Bytes {
        self.state.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), UnknownCommand> {
        self.state = State::from_snapshot(snapshot)?;
        Ok(())
    }
}
