//! Read points in common: what asks while a round is under way shares the next one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// A round that takes longer holds the next one up no more: its leader may be gone.
const HOLD: Duration = Duration::from_millis(50);

/// Rounds of one group at one node, each shared by everybody who asked before it began (ReadIndex, Raft §6.4: a read
/// point is good for all reads that came before its round).
pub(crate) struct Rounds<T> {
    /// Held by the round that is under way.
    turn: tokio::sync::Mutex<()>,
    /// The round that has not begun yet.
    next: Mutex<Arc<OnceCell<T>>>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self { turn: tokio::sync::Mutex::default(), next: Mutex::default() }
    }
}

impl<T: Clone> Rounds<T> {
    /// What a round answered that began after this call. `ask` is polled by at most one caller of a round; if that one
    /// gives up, another of them asks.
    pub(crate) async fn share(&self, ask: impl Future<Output = T>) -> T {
        let round = self.next.lock().clone();
        let begin = async {
            let _turn = timeout(HOLD, self.turn.lock()).await;
            // Whoever comes from now on came after the beginning.
            *self.next.lock() = Arc::default();
            ask.await
        };
        round.get_or_init(|| begin).await.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    use futures_util::poll;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn who_asks_during_a_round_shares_the_next() {
        let rounds = Rounds::default();
        let (count, gate) = (Cell::new(0), Semaphore::new(0));
        let ask = || async {
            count.set(count.get() + 1);
            let round = count.get();
            gate.acquire().await.expect("nobody closes it").forget();
            round
        };
        let mut first = pin!(rounds.share(ask()));
        assert_eq!(poll!(&mut first), Poll::Pending);
        let mut second = pin!(rounds.share(ask()));
        let mut third = pin!(rounds.share(ask()));
        assert_eq!((poll!(&mut second), poll!(&mut third), count.get()), (Poll::Pending, Poll::Pending, 1));
        gate.add_permits(2);
        assert_eq!((first.await, second.await, third.await, count.get()), (1, 2, 2, 2));
    }

    #[tokio::test]
    async fn another_asks_when_one_gives_up() {
        let rounds = Rounds::default();
        let mut first = Box::pin(rounds.share(pending()));
        assert_eq!(poll!(&mut first), Poll::Pending);
        let mut second = Box::pin(rounds.share(pending()));
        let mut third = pin!(rounds.share(async { 3 }));
        assert_eq!((poll!(&mut second), poll!(&mut third)), (Poll::Pending, Poll::Pending));
        drop(first);
        drop(second);
        assert_eq!(third.await, 3);
    }

    #[tokio::test]
    async fn a_round_that_hangs_does_not_hold_up_the_next() {
        let rounds = Rounds::default();
        let mut hangs = pin!(rounds.share(pending()));
        assert_eq!(poll!(&mut hangs), Poll::Pending);
        assert_eq!(rounds.share(poll_fn(|_| Poll::Ready(2))).await, 2);
    }
}
