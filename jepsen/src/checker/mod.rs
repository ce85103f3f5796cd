//! Promises, checked over a history in one pass.

mod lost;
mod order;
mod single;

use std::fmt;

use crate::history::Entry;

pub use lost::Lost;
pub use order::Order;
pub use single::Single;

/// A promise that the history breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise: P3, P4 and so on.
    pub promise: &'static str,
    /// The entry at which it shows.
    pub index: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at entry {}: {}", self.promise, self.index, self.what)
    }
}

/// Reads a history once.
pub trait Checker {
    /// Takes the next entry.
    fn step(&mut self, entry: &Entry);

    /// The history is over.
    fn finish(self: Box<Self>) -> Vec<Violation>;
}

/// All that is wrong with `history`.
pub fn check(history: &[Entry]) -> Vec<Violation> {
    let mut checkers: Vec<Box<dyn Checker>> =
        vec![Box::new(Lost::default()), Box::new(Order::default()), Box::new(Single::default())];
    for entry in history {
        for checker in &mut checkers {
            checker.step(entry);
        }
    }
    checkers.into_iter().flat_map(Checker::finish).collect()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Checker, Violation};
    use crate::history::{Entry, Sending, What};

    /// Nothing is found.
    pub const CLEAN: [usize; 0] = [];

    pub fn sending(publisher: u32, conn: u32, seq: u64) -> Sending {
        Sending { publisher, conn, seq }
    }

    /// The places at which `checker` finds something wrong with these.
    pub fn found(checker: impl Checker + 'static, whats: Vec<What>) -> Vec<usize> {
        let mut checker = Box::new(checker);
        for (index, what) in whats.into_iter().enumerate() {
            checker.step(&Entry { index, what });
        }
        checker.finish().into_iter().map(|v: Violation| v.index).collect()
    }
}
