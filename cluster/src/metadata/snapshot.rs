//! The state as bytes.

use bytes::Bytes;

use super::command::decode_versioned;
use super::level::Level;
use super::state::State;
use crate::consensus::UnknownCommand;

/// First byte of a snapshot.
const VERSION: u8 = 1;

impl State {
    /// The whole state. The same commands give the same bytes.
    pub fn snapshot(&self) -> Bytes {
        postcard::to_extend(self, vec![VERSION]).expect("writing to a vector cannot fail").into()
    }

    /// The reverse of [`State::snapshot`].
    pub fn from_snapshot(bytes: &[u8]) -> Result<State, UnknownCommand> {
        let mut state: State = decode_versioned(bytes, VERSION, "metadata snapshot")?;
        if state.level > Level::LATEST {
            return Err(UnknownCommand(format!("metadata snapshot of level {}", state.level)));
        }
        state.rebuild();
        Ok(state)
    }
}
