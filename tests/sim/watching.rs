//! What is seen of the servers, and no client sees: where sessions are, and when connections are over.

use std::collections::BTreeSet;
use std::time::Duration;

use rookery::broker::core::ConnKey;
use rookery_cluster::ids::{NodeId, NodeLife};

use crate::client::SockId;
use crate::world::World;

impl World {
    /// The core of `life` wrote a CONNACK that admits.
    pub fn kept_is_served(&mut self, life: NodeLife, id: SockId) {
        if let Some(conn) = self.keepers.conns.get_mut(&id) {
            conn.life = Some(life);
        }
        if let Some(keeper) = self.keepers.of(id) {
            keeper.homes = BTreeSet::from([life]);
        }
    }

    /// A connection gives its claim back, and says that its session is kept by `life`.
    pub fn kept_is_named(&mut self, client: &str, life: NodeLife) {
        if let Some(keeper) = self.keepers.all.get_mut(client) {
            keeper.homes.insert(life);
        }
    }

    /// The worker has read from `id`: if it was for a DISCONNECT that it closes, the goodbye is said.
    pub fn kept_may_have_left(&mut self, life: NodeLife, worker: u16, key: ConnKey, id: SockId) {
        let now = self.now;
        let closing = self.worker(life, worker).is_none_or(|it| it.core.closing(key));
        if let Some(conn) = self.keepers.conns.get_mut(&id)
            && (closing && conn.goodbye && !conn.told && conn.life.is_some())
        {
            conn.taken_leave.get_or_insert(now);
        }
    }

    /// The state of a client's session has left the worker that kept it, for one of `life`.
    pub fn kept_moves(&mut self, client: &str, life: NodeLife) {
        let now = self.now;
        self.note(|| format!("the session of {client} goes to {life}"));
        if let Some(keeper) = self.keepers.all.get_mut(client) {
            keeper.homes = BTreeSet::from([life]);
            keeper.moves.push(now);
        }
    }

    /// What group 0 says of lives, as far as `node` knows it: whoever it ended may not know it yet.
    pub fn kept_by_the_ended(&mut self, node: NodeId) {
        let homes = self.keepers.all.values().flat_map(|it| it.homes.iter().copied());
        let served = self.keepers.conns.values().filter(|conn| conn.lost.is_none()).filter_map(|conn| conn.life);
        let homes: BTreeSet<NodeLife> = homes.chain(served).collect();
        let meta = &self.node(node).meta;
        let ended: Vec<NodeLife> = homes.into_iter().filter(|life| meta.is_expired(*life)).collect();
        ended.into_iter().for_each(|life| self.kept_is_lost(life));
    }

    /// When the server's end of a connection was gone, or the cluster took it for that.
    pub fn lost_at(&self, id: SockId) -> Option<Duration> {
        self.keepers.conns.get(&id).and_then(|conn| conn.lost).into_iter().chain(self.socks.get(id).gone).min()
    }

    /// A life is over, and with it what its workers kept.
    pub fn kept_is_lost(&mut self, life: NodeLife) {
        for keeper in self.keepers.all.values_mut().filter(|keeper| keeper.homes.contains(&life)) {
            keeper.homes.clear();
            keeper.gap = true;
            keeper.subs.iter_mut().for_each(|sub| sub.since = None);
            self.keepers.repeatable.extend(keeper.out.iter().filter(|sent| !sent.released).map(|sent| sent.msg));
        }
        for conn in self.keepers.conns.values_mut().filter(|conn| conn.life == Some(life)) {
            conn.lost.get_or_insert(self.now);
            conn.unsure |= conn.taken_leave.is_some_and(|at| self.now - at < Duration::from_secs(15));
        }
    }
}
