//! How much of the control plane's time the handshakes of one listener take before others get their turn (R18).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// Steps of handshakes in one turn of a listener's task. The dearest is a signature: some 0.1 ms with a P-256 key, 1 ms
/// with one of RSA-2048. The Raft groups, whose heartbeats are 100 ms apart, wait for no longer than a turn.
pub(super) const STEPS_PER_TURN: usize = 16;

/// What is left of one turn. (Its task alone counts; the counter is atomic because the task may change threads.)
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    pub fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(STEPS_PER_TURN)))
    }

    /// Drives `task`, with a full budget at each of its turns.
    pub async fn per_turn<T>(&self, task: impl Future<Output = T>) -> T {
        let mut task = std::pin::pin!(task);
        std::future::poll_fn(|cx| {
            self.0.store(STEPS_PER_TURN, Ordering::Relaxed);
            task.as_mut().poll(cx)
        })
        .await
    }

    /// `handshake`, each step of which costs one of the budget; without any left, it waits for the next turn.
    pub fn meter<F: Future>(&self, handshake: F) -> Metered<F> {
        Metered { handshake: Box::pin(handshake), budget: self.clone() }
    }
}

/// See [`Budget::meter`].
pub(super) struct Metered<F> {
    handshake: Pin<Box<F>>,
    budget: Budget,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let one_less = |left: usize| left.checked_sub(1);
        if self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.handshake.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use futures_util::stream::FuturesUnordered;

    #[tokio::test]
    async fn a_turn_has_so_many_steps_and_the_next_goes_on() {
        let budget = Budget::new();
        let done = AtomicUsize::new(0);
        let mut handshakes: FuturesUnordered<_> =
            (0..5 * STEPS_PER_TURN).map(|_| budget.meter(async { done.fetch_add(1, Ordering::Relaxed) })).collect();
        let all = async { while handshakes.next().await.is_some() {} };
        let mut all = std::pin::pin!(budget.per_turn(all));
        let mut by_turn = Vec::new();
        std::future::poll_fn(|cx| {
            let before = done.load(Ordering::Relaxed);
            let ended = all.as_mut().poll(cx);
            by_turn.push(done.load(Ordering::Relaxed) - before);
            ended
        })
        .await;
        assert_eq!(by_turn[..5], [STEPS_PER_TURN; 5]);
    }
}
