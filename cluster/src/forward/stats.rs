//! What the driver counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one node since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardStats {
    /// Batches taken for sending.
    pub batches_sent: u64,
    /// Publishes in them.
    pub messages_sent: u64,
    /// Bytes of their bodies.
    pub bytes_sent: u64,
    /// Batches that arrived for the first time.
    pub batches_received: u64,
    /// Publishes in them.
    pub messages_received: u64,
    /// Bytes of their bodies.
    pub bytes_received: u64,
    /// Batches sent once more after a stream broke.
    pub resends: u64,
    /// Batches that arrived again and were dropped.
    pub duplicates: u64,
    /// Batches refused because the peer's reserve was used up.
    pub no_credit: u64,
    /// Data streams that were opened, here or by peers.
    pub streams_opened: u64,
    /// Barriers that ended in time.
    pub barriers_passed: u64,
    /// Barriers that ended at their timeout.
    pub barrier_timeouts: u64,
    /// Interest links closed because a message was missing or out of place.
    pub interest_links_broken: u64,
    /// Interest links closed because a peer said that it wants more than one message may say.
    pub interest_too_large: u64,
}

impl ForwardStats {
    /// All counters with their names.
    pub fn named(&self) -> [(&'static str, u64); 14] {
        [
            ("batches_sent", self.batches_sent),
            ("messages_sent", self.messages_sent),
            ("bytes_sent", self.bytes_sent),
            ("batches_received", self.batches_received),
            ("messages_received", self.messages_received),
            ("bytes_received", self.bytes_received),
            ("resends", self.resends),
            ("duplicates", self.duplicates),
            ("no_credit", self.no_credit),
            ("streams_opened", self.streams_opened),
            ("barriers_passed", self.barriers_passed),
            ("barrier_timeouts", self.barrier_timeouts),
            ("interest_links_broken", self.interest_links_broken),
            ("interest_too_large", self.interest_too_large),
        ]
    }
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// The counters that many threads add to.
        #[derive(Default)]
        pub(super) struct Counters { $(pub(super) $name: Counter,)* }

        impl Counters {
            /// The values now; the interest's own are left at zero.
            pub(super) fn read(&self) -> ForwardStats {
                ForwardStats { $($name: self.$name.0.load(Ordering::Relaxed),)* ..ForwardStats::default() }
            }
        }
    };
}

counters!(
    batches_sent,
    messages_sent,
    bytes_sent,
    batches_received,
    messages_received,
    bytes_received,
    resends,
    duplicates,
    no_credit,
    streams_opened,
    interest_too_large
);

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}
