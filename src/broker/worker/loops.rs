//! What a worker does by itself: flushing, ticking, and ending.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Input, PROGRESS_EVERY, Shared, Stats};

/// How often a worker's counters are published.
const STATS_EVERY: Duration = Duration::from_millis(500);

/// Sends what the turns before it gathered for other workers and nodes.
pub(super) async fn flusher(shared: Rc<Shared>) {
    std::future::poll_fn(|cx| {
        *shared.flusher.borrow_mut() = Some(cx.waker().clone());
        if shared.flush_due.replace(false) {
            shared.flush();
        }
        std::task::Poll::<()>::Pending
    })
    .await;
}

/// Lets time pass in the core, and publishes its counters.
pub(super) async fn ticker(shared: Rc<Shared>, stats: Arc<Mutex<(Stats, usize)>>) {
    let mut published = shared.config.clock.now();
    loop {
        shared.config.progress.fetch_add(1, Ordering::Relaxed);
        shared.step(Input::Tick);
        shared.flush();
        let now = shared.config.clock.now();
        if now.since(published) >= STATS_EVERY {
            published = now;
            let core = shared.core.borrow();
            *stats.lock() = (core.stats.clone(), core.connections());
        }
        let due = shared.core.borrow().next_wakeup().since(now);
        tokio::time::sleep(due.clamp(Duration::from_millis(1), PROGRESS_EVERY)).await;
    }
}

/// How long a stopping worker waits for its clients' sockets.
const DRAIN: Duration = Duration::from_secs(2);

/// Waits until the sockets of a stopping worker are closed.
pub(super) async fn drain(shared: &Shared) {
    let all_closed = async {
        while shared.core.borrow().connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(DRAIN, all_closed).await.is_err() {
        tracing::warn!("some connections did not close in time");
    }
}
