//! A worker and the store of retained messages: what it has kept, and what it reads for its subscribers.
//!
//! Records enter the store and batches enter the other workers' mailboxes at one moment, and so do reads of a page and
//! its way into this worker's own mailbox (see [`Store::take`], [`Store::page`]). So a page comes after all publishes
//! whose messages it has, and before all whose messages replace them; what this worker published itself meanwhile is
//! seen when the page is opened.

use std::fmt;
use std::sync::Arc;

use rookery_cluster::clock::{SharedClock, UnixMillis};
use rookery_cluster::handle::{Holder, Replicas};
use rookery_cluster::ids::BrokerId;
use rookery_cluster::retained::store::{Durable, Store, Write};
use rookery_cluster::retained::{Came, Cursor, Full, Page, Pages, Time};

use super::Services;
use super::core::{Batch, ConnKey, Effect, Input, Retaining};
use super::mailbox::Mail;
use super::worker::{Shared, WorkerConfig};

/// What the core asks of the store.
pub(super) struct Keeper {
    store: Store,
    services: Arc<dyn Services>,
    clock: SharedClock,
}

impl Keeper {
    pub(super) fn of(config: &WorkerConfig) -> Option<Self> {
        let store = config.services.store()?;
        Some(Self { store, services: config.services.clone(), clock: config.clock.clone() })
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Retaining for Keeper {
    fn replicas(&self) -> Arc<Replicas> {
        self.services.replicas()
    }

    fn time(&self) -> Time {
        self.store.next_time()
    }

    fn admit(&self, broker: BrokerId, topic: &str, bytes: Option<usize>) -> Result<(Time, UnixMillis), Full> {
        if let Some(bytes) = bytes {
            self.store.room(broker, topic, bytes)?;
        }
        Ok((self.store.next_time(), self.clock.wall()))
    }
}

impl Shared {
    /// Performs what goes into the store, together with what goes to the other workers before it; the other effects are
    /// left to the caller.
    pub(super) fn keep_retained(&self, effects: Vec<Effect>) -> Vec<Effect> {
        let to_store = |effect: &Effect| matches!(effect, Effect::Send { to: Holder::Store, .. });
        if !effects.iter().any(to_store) {
            return effects;
        }
        let (mut siblings, mut others) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Send { to: Holder::Store, batch } => self.keep_batch(std::mem::take(&mut siblings), batch),
                Effect::Send { to: Holder::Worker(_), .. } => siblings.push(effect),
                other => others.push(other),
            }
        }
        siblings.append(&mut others);
        siblings
    }

    /// Has a batch kept; `siblings` are batches to other workers.
    pub(super) fn keep_batch(&self, siblings: Vec<Effect>, batch: Batch) {
        let post = || siblings.into_iter().for_each(|effect| self.perform_one(effect));
        let Some(store) = self.config.services.store() else { return post() };
        let node = self.config.life.node;
        let writes = batch.runs.iter().flat_map(|run| {
            let broker = run.broker;
            run.records(node).map(move |(topic, record)| Write { broker, topic, record })
        });
        let writes: Vec<Write> = writes.collect();
        let durable = batch.runs.iter().flat_map(|run| &run.retained).any(|retained| retained.durable);
        let (through, waits) = (batch.seq, self.storing.get());
        // Acceptance is in order: QoS 0 alone waits for no disk, but not before what came first.
        if !durable && waits == 0 {
            store.take(&writes, Came::Published, None, post);
            return self.mailbox().post(Mail::Stored { batches: 0, through });
        }
        self.storing.set(waits + 1);
        let mailbox = self.mailbox();
        let tell: Durable = Box::new(move || mailbox.post(Mail::Stored { batches: 1, through }));
        store.take(&writes, Came::Published, Some(tell), post);
    }

    /// The store accepted batches.
    pub(super) fn stored(&self, batches: usize, through: u64) {
        self.storing.set(self.storing.get() - batches);
        self.step(Input::Accepted { from: Holder::Store, through });
    }

    pub(super) fn read_retained(
        &self,
        conn: ConnKey,
        broker: BrokerId,
        filter: Arc<str>,
        after: Option<Cursor>,
        most: Pages,
    ) {
        let mailbox = self.mailbox();
        let Some(store) = self.config.services.store() else { return };
        let wanted = Arc::clone(&filter);
        store.page(broker, &wanted, after, most, |page| mailbox.post(Mail::Retained { conn, broker, filter, page }));
    }

    pub(super) fn on_retained(&self, conn: ConnKey, broker: BrokerId, filter: &str, mut page: Page) {
        // What this worker took since is in the store after this.
        self.flush();
        if let Some(store) = self.config.services.store() {
            store.renew(broker, &mut page);
        }
        self.step(Input::Retained { conn, filter, page });
    }
}
