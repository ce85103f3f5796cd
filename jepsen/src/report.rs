//! What came of a run, in a few lines: the outcome first.

use std::collections::BTreeSet;
use std::fmt;

use crate::checker::{Violation, check};
use crate::history::{History, What};

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// Publishes tried.
    pub sent: usize,
    /// Of those, acknowledged.
    pub acked: usize,
    /// Messages that came to subscribers.
    pub delivered: usize,
    /// Subscriptions.
    pub sessions: usize,
    /// Times that a contended client ID was taken.
    pub claims: usize,
    /// What was done to the cluster.
    pub faults: Vec<String>,
}

impl Report {
    /// Checks a history.
    pub fn of(history: &History) -> Self {
        let entries = history.entries();
        let mut report = Self { violations: check(&entries), ..Self::default() };
        let mut sessions = BTreeSet::new();
        for entry in entries {
            match entry.what {
                What::Sent(_) => report.sent += 1,
                What::Acked(_) => report.acked += 1,
                What::Delivered(..) => report.delivered += 1,
                What::Subscribed(session) => drop(sessions.insert(session)),
                What::Claimed(..) => report.claims += 1,
                What::Fault(what) => report.faults.push(what),
                _ => {}
            }
        }
        report.sessions = sessions.len();
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.violations.is_empty() { "ok" } else { "FAIL" };
        writeln!(
            f,
            "{outcome}: {} sent, {} acknowledged, {} delivered to {} subscriptions, {} claims, {} violations",
            self.sent,
            self.acked,
            self.delivered,
            self.sessions,
            self.claims,
            self.violations.len()
        )?;
        writeln!(f, "faults: {}", self.faults.join("; "))?;
        self.violations.iter().take(20).try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}
