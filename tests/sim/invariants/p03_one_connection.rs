//! P3, strict mode: in true time at most one connection of a client ID is served: CONNACK written, not ended by its
//! node, and the node's lease valid by the node's own clock. And DISCONNECT 0x8E has left the old node before the
//! new CONNACK is written, unless the old client takes nothing for `limits::RELEASE_FLUSH`.
//! And nobody is told 0x8E unless another connection of its client ID was there in its time.
//!
//! Not wider: bytes already with a socket may reach a client at any later time, so "served" is what the server does,
//! not what a client sees. 3.1.1 has no 0x8E to look for. It is looked at whenever a connection begins to be served or
//! a lease grows: nothing else can make a second one.

use std::collections::BTreeMap;

use rookery_cluster::limits::RELEASE_FLUSH;

use crate::client::SockId;
use crate::world::World;

impl World {
    pub fn p03_check(&mut self) {
        let mut by_client: BTreeMap<std::sync::Arc<str>, Vec<SockId>> = BTreeMap::new();
        for (id, sock) in self.socks.iter().filter(|(_, sock)| sock.served && sock.life.is_some()) {
            by_client.entry(sock.client.clone()).or_default().push(id);
        }
        for (client, socks) in by_client.into_iter().filter(|(_, socks)| socks.len() > 1) {
            let served: Vec<SockId> = socks.into_iter().filter(|id| self.serving(*id)).collect();
            if served.len() > 1 {
                self.broken(format!("P3: connections {served:?} of client {client} are served at once"));
            }
        }
    }

    /// The core of `new` wrote its CONNACK.
    pub fn p03_on_connack(&mut self, new: SockId) {
        self.p03_check();
        let client = self.socks.get(new).client.clone();
        for old in self.socks.of(&client) {
            let sock = self.socks.get(old);
            let (Some(since), Some(life)) = (sock.owes_8e, sock.life) else { continue };
            let waited = self.local(life.node).since(since);
            if waited < RELEASE_FLUSH && self.lease_holds(life.node) {
                self.broken(format!("P3: connection {new} has its CONNACK before connection {old} was sent 0x8E"));
            }
        }
    }

    /// The core wrote 0x8E for `old`.
    pub fn p03_on_takeover(&mut self, old: SockId) {
        let (client, opened) = (self.socks.get(old).client.clone(), self.socks.get(old).opened);
        let others = self.socks.of(&client).into_iter().filter(|id| *id != old);
        let rivals = others.filter(|id| self.socks.get(*id).gone.is_none_or(|gone| gone > opened)).count();
        if rivals == 0 {
            self.broken(format!("P3: connection {old} is told 0x8E, and there is no other"));
        }
    }
}
