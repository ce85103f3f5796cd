//! The beat of this node's streams.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Time between two beats.
pub(super) const EVERY: Duration = Duration::from_millis(4);

/// Who hands over on the beat.
pub(super) trait OnBeat: Send + Sync {
    /// It is time.
    fn beat(&self);
}

/// When streams hand over: all at the same moments, so that what many connections want at one time shares not only entries
/// but a sync and the wake-ups of threads, which cost more than the rest of a claim. After a pause the next beat comes at once.
pub(super) struct Beat<T> {
    waiting: Mutex<Waiting<T>>,
    bell: Notify,
}

struct Waiting<T> {
    /// Each of them once.
    all: Vec<Arc<T>>,
    /// Somebody was called not longer ago than [`EVERY`], and the next beat comes by itself.
    runs: bool,
}

impl<T: OnBeat> Beat<T> {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::new(Waiting { all: Vec::new(), runs: false }), bell: Notify::new() }
    }

    /// Calls `who` at the next beat. Not to be called for one that waits already.
    pub(super) fn call(&self, who: Arc<T>) {
        let mut waiting = self.waiting.lock();
        waiting.all.push(who);
        if !std::mem::replace(&mut waiting.runs, true) {
            self.bell.notify_one();
        }
    }

    /// Runs for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let due = {
                let mut waiting = self.waiting.lock();
                waiting.runs = !waiting.all.is_empty();
                std::mem::take(&mut waiting.all)
            };
            if due.is_empty() {
                self.bell.notified().await;
            } else {
                due.iter().for_each(|who| who.beat());
                tokio::time::sleep(EVERY).await;
            }
        }
    }
}
