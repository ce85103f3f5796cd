//! Where the shards' replicas on this node show what was applied, for the shepherd to see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ids::{Epoch, GroupId, LogIndex};
use crate::sessions::{Effect, Machine, Observer, ShardView};

/// Effects of one shard kept until the shepherd comes. Beyond it they are dropped: its state says them again.
const MAX_EFFECTS: usize = 65_536;

/// The shards on this node as last applied. Cheap to clone; made before the consensus that runs the machines.
#[derive(Clone, Default)]
pub struct Board(Arc<Shared>);

#[derive(Default)]
struct Shared {
    shards: Mutex<BTreeMap<GroupId, Shard>>,
    changed: Notify,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Shard {
    view: ShardView,
    effects: Vec<Effect>,
    fresh: bool,
}

/// One shard's news since the last look.
pub(super) struct News {
    pub(super) group: GroupId,
    pub(super) view: ShardView,
    pub(super) effects: Vec<Effect>,
}

impl Board {
    /// A new, empty replica of `group`, to be run by the consensus layer.
    pub fn machine(&self, group: GroupId) -> Machine<Watcher> {
        Machine::new(Watcher { board: self.clone(), group })
    }

    /// Effects dropped because the shepherd did not come.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// A shard as last applied here.
    pub fn view(&self, group: GroupId) -> Option<ShardView> {
        self.0.shards.lock().get(&group).map(|s| s.view.clone())
    }

    /// The last epoch that a shard gave anyone, as far as it is applied here.
    pub(super) fn epoch(&self, group: GroupId) -> Epoch {
        self.0.shards.lock().get(&group).map_or(Epoch(0), |s| s.view.epoch)
    }

    /// All shards as last applied here.
    pub(super) fn views(&self) -> Vec<(GroupId, ShardView)> {
        self.0.shards.lock().iter().map(|(group, s)| (*group, s.view.clone())).collect()
    }

    /// Waits for news. One waiter at a time.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The shards that were applied since the last call.
    pub(super) fn news(&self) -> Vec<News> {
        let mut shards = self.0.shards.lock();
        let mut news = Vec::new();
        for (group, shard) in shards.iter_mut() {
            if std::mem::take(&mut shard.fresh) {
                let effects = std::mem::take(&mut shard.effects);
                news.push(News { group: *group, view: shard.view.clone(), effects });
            }
        }
        news
    }
}

/// Puts one replica's news on the board.
pub struct Watcher {
    board: Board,
    group: GroupId,
}

impl Observer for Watcher {
    fn applied(&mut self, _index: LogIndex, view: ShardView, effects: Vec<Effect>) {
        let shared = &self.board.0;
        let mut shards = shared.shards.lock();
        let shard = shards.entry(self.group).or_default();
        let news = !effects.is_empty() || !is_routine(&shard.view, &view);
        shard.view = view;
        shard.fresh |= news;
        let room = MAX_EFFECTS.saturating_sub(shard.effects.len());
        let dropped = effects.len().saturating_sub(room);
        shard.effects.extend(effects.into_iter().take(room));
        drop(shards);
        shared.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        if news {
            shared.changed.notify_one();
        }
    }
}

/// Whether nothing happened but that free clients were claimed, and maybe others released: nothing that the shepherd does
/// depends on it, and it is most of what happens. Without a claim it may be the first entry of a new leader.
fn is_routine(before: &ShardView, now: &ShardView) -> bool {
    now.epoch > before.epoch
        && before.firing.is_empty()
        && now.firing.is_empty()
        && before.lives.keys().eq(now.lives.keys())
        && before.expired == now.expired
}
