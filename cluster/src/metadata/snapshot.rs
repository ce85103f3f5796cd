//! The state as bytes.

use bytes::Bytes;

use super::command::decode_versioned;
use super::level::Level;
use super::state::State;
use crate::consensus::UnknownCommand;

/// First byte of a snapshot. Version 1 ends before the leaving nodes, of which it has none.
const VERSION: u8 = 2;
const VERSION_1: u8 = 1;
/// No leaving nodes, as version 2 has it.
const NONE_LEAVE: u8 = 0;

impl State {
    /// The whole state. The same commands give the same bytes.
    pub fn snapshot(&self) -> Bytes {
        postcard::to_extend(self, vec![VERSION]).expect("writing to a vector cannot fail").into()
    }

    /// The reverse of [`State::snapshot`].
    pub fn from_snapshot(bytes: &[u8]) -> Result<State, UnknownCommand> {
        let what = "metadata snapshot";
        let mut state: State = match bytes.first() {
            Some(&VERSION_1) => decode_versioned(&[bytes, &[NONE_LEAVE]].concat(), VERSION_1, what)?,
            _ => decode_versioned(bytes, VERSION, what)?,
        };
        if state.level > Level::LATEST {
            return Err(UnknownCommand(format!("metadata snapshot of level {}", state.level)));
        }
        state.rebuild();
        Ok(state)
    }
}
