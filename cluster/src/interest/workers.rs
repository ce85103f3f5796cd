//! Towards this node's own workers: lists of changes, each with a token.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{IN_FLIGHT, Interest, Output};
use crate::handle::{Holder, InterestChange};
use crate::ids::WorkerId;

pub(super) struct Workers {
    /// Tokens that each worker was given and has not seen, oldest first.
    unseen: Vec<VecDeque<u64>>,
    /// The last token given out.
    last: u64,
    /// What the next list says: these holders want nothing any more,
    cleared: BTreeSet<Holder>,
    /// then these filters changed. Per filter the last change is enough.
    changed: BTreeMap<(Holder, Interest), bool>,
}

impl Workers {
    pub(super) fn new(count: u16) -> Self {
        Self {
            unseen: (0..count).map(|_| VecDeque::new()).collect(),
            last: 0,
            cleared: BTreeSet::new(),
            changed: BTreeMap::new(),
        }
    }

    /// The token whose being seen means that everything said so far is.
    pub(super) fn due(&self) -> u64 {
        self.last + u64::from(self.waiting())
    }

    /// The last token that all workers have seen.
    pub(super) fn seen_through(&self) -> u64 {
        self.unseen.iter().filter_map(|tokens| tokens.front()).min().map_or(self.last, |first| first - 1)
    }

    pub(super) fn change(&mut self, holder: Holder, interest: Interest, wanted: bool) {
        // A worker knows its own filters; without another one there is nobody to tell.
        if matches!(holder, Holder::Peer(_)) || self.unseen.len() > 1 {
            self.changed.insert((holder, interest), wanted);
        }
    }

    pub(super) fn clear(&mut self, holder: Holder) {
        self.changed.retain(|(of, _), _| *of != holder);
        self.cleared.insert(holder);
    }

    pub(super) fn seen(&mut self, worker: WorkerId, token: u64) {
        let Some(tokens) = self.unseen.get_mut(usize::from(worker.0)) else { return };
        while tokens.front().is_some_and(|first| *first <= token) {
            tokens.pop_front();
        }
    }

    /// Posts what waits, unless the slowest worker has enough before it.
    pub(super) fn flush(&mut self, out: &mut Vec<Output>) {
        if !self.waiting() || self.last - self.seen_through() >= IN_FLIGHT {
            return;
        }
        self.last += 1;
        let cleared = std::mem::take(&mut self.cleared);
        let changed = std::mem::take(&mut self.changed);
        let mut list: Vec<(Holder, InterestChange)> =
            cleared.into_iter().map(|holder| (holder, InterestChange::Clear { holder })).collect();
        list.extend(changed.into_iter().map(|((holder, interest), wanted)| (holder, change(holder, interest, wanted))));
        let all: Arc<[InterestChange]> = list.iter().map(|(_, change)| change.clone()).collect();
        for (index, tokens) in self.unseen.iter_mut().enumerate() {
            let worker = WorkerId(index as u16);
            let own = Holder::Worker(worker);
            let changes = if list.iter().any(|(holder, _)| *holder == own) {
                list.iter().filter(|(holder, _)| *holder != own).map(|(_, change)| change.clone()).collect()
            } else {
                Arc::clone(&all)
            };
            if !changes.is_empty() {
                tokens.push_back(self.last);
                out.push(Output::Interest { worker, token: self.last, changes });
            }
        }
    }

    fn waiting(&self) -> bool {
        !self.cleared.is_empty() || !self.changed.is_empty()
    }
}

fn change(holder: Holder, Interest { broker, filter }: Interest, wanted: bool) -> InterestChange {
    if wanted {
        InterestChange::Add { holder, broker, filter }
    } else {
        InterestChange::Remove { holder, broker, filter }
    }
}
