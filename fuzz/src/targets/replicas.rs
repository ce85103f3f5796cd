//! State machines that are replicated: their commands, outcomes and snapshots.

use std::fmt::Debug;

use bytes::Bytes;

use super::{ensure, head};

/// Most commands of one input.
const MOST: usize = 64;

/// A state machine.
pub trait Machine: Default {
    /// What changes it.
    type Command: PartialEq + Debug;
    /// What comes of that.
    type Outcome: PartialEq + Debug;

    /// Reads a command.
    fn command(bytes: &[u8]) -> Option<Self::Command>;
    /// The reverse of [`Machine::command`].
    fn encode(command: &Self::Command) -> Bytes;
    /// Applies a command; `index` is its place in the log, from 1.
    fn apply(&mut self, index: u64, command: &Self::Command) -> Self::Outcome;
    /// Reads an outcome and writes it again: `None` if it is none, else whether it stayed the same.
    fn outcome(bytes: &[u8]) -> Option<Result<(), String>>;
    /// An outcome's bytes.
    fn encode_outcome(outcome: &Self::Outcome) -> Bytes;
    /// The whole state.
    fn snapshot(&self) -> Bytes;
    /// The reverse of [`Machine::snapshot`].
    ///
    /// # Errors
    /// It is none.
    fn restore(bytes: &[u8]) -> Result<Self, String>;
    /// Whether a few commands take none of its counters to their bound.
    fn has_room(&self) -> bool {
        true
    }
    /// Commands that are worth to be changed, and that a state from a snapshot must bear.
    fn history() -> Vec<Self::Command>;
}

/// A byte for what it is: an outcome, a snapshot, or commands, each behind its length (2 bytes, big-endian).
pub fn run<M: Machine>(input: &[u8]) -> Result<(), String> {
    let (how, bytes) = head(input);
    match how % 3 {
        0 => M::outcome(bytes).unwrap_or(Ok(())),
        1 => match M::restore(bytes) {
            Ok(state) if state.has_room() => applied(state, &M::history()),
            Ok(_) | Err(_) => Ok(()),
        },
        _ => applied(M::default(), &commands::<M>(bytes)),
    }
}

fn commands<M: Machine>(mut bytes: &[u8]) -> Vec<M::Command> {
    let mut all = Vec::new();
    while let Some((length, rest)) = bytes.split_at_checked(2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).min(rest.len());
        all.extend(M::command(&rest[..length]));
        bytes = &rest[length..];
        if all.len() == MOST {
            break;
        }
    }
    all
}

/// Two replicas, of which one goes on from a snapshot at each step, stay the same. The snapshot after a step is the one
/// before the next.
fn applied<M: Machine>(mut state: M, commands: &[M::Command]) -> Result<(), String> {
    let mut snapshot = if commands.is_empty() { Bytes::new() } else { state.snapshot() };
    for (index, command) in (1..).zip(commands) {
        let again = M::command(&M::encode(command));
        ensure(again.as_ref() == Some(command), || format!("{command:?} became {again:?}"))?;
        let mut other = M::restore(&snapshot).map_err(|why| format!("its own snapshot: {why}"))?;
        let (one, two) = (state.apply(index, command), other.apply(index, command));
        ensure(one == two, || format!("{command:?}: {one:?} and {two:?}"))?;
        snapshot = state.snapshot();
        ensure(snapshot == other.snapshot(), || format!("snapshots differ after {command:?}"))?;
    }
    Ok(())
}

/// A history, the snapshots on its way, and what came of it.
pub fn seeds<M: Machine>() -> Vec<Vec<u8>> {
    let (mut log, mut state, mut all) = (vec![2], M::default(), Vec::new());
    for (index, command) in (1..).zip(M::history()) {
        let bytes = M::encode(&command);
        log.extend((bytes.len() as u16).to_be_bytes());
        log.extend(&bytes);
        let outcome = state.apply(index, &command);
        all.push([&[0], &M::encode_outcome(&outcome)[..]].concat());
        all.push([&[1], &state.snapshot()[..]].concat());
        all.push(log.clone());
    }
    all
}
