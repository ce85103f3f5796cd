//! What the clients were promised and when, in true time; which no node knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rookery::mqtt::codec::{QoS, ReasonCode};
use rookery_cluster::ids::GroupId;
use rookery_cluster::topics;

use crate::client::SockId;
use crate::invariants::p09_retained::Reading;
use crate::invariants::shared::Sharing;
use crate::invariants::{Lane, Receiver};
use crate::world::World;

/// A message. Those of one publisher rise in the order in which it sent them.
pub type MsgId = u64;

#[derive(Default)]
pub struct Oracle {
    /// What does not hold.
    pub broken: Vec<String>,
    pub msgs: Vec<Msg>,
    pub subs: Vec<Sub>,
    /// Messages that the core wrote for a connection.
    pub accepted: BTreeSet<(MsgId, SockId)>,
    /// Tokens whose revocation was acknowledged.
    pub revoked: BTreeSet<String>,
    /// Hashes of the replicas' states, by group and number of entries applied.
    pub states: BTreeMap<(GroupId, usize), u64>,
    /// The last message of (receiver, publisher, topic, QoS as published, QoS as delivered).
    pub order: BTreeMap<(SockId, SockId, String, QoS, QoS), MsgId>,
    /// What is retained, as subscribers see it.
    pub reading: Reading,
    /// What members of shared subscriptions were given.
    pub sharing: Sharing,
    /// What reached which application, where a session is at one of the ends.
    pub heard: BTreeSet<(Receiver, MsgId)>,
    /// The last of those by receiver, publisher's session, topic, QoS as published and as delivered.
    pub kept_order: BTreeMap<(Receiver, Lane, String, QoS, QoS), MsgId>,
}

pub struct Msg {
    pub by: SockId,
    pub topic: String,
    pub qos: QoS,
    pub retain: Retain,
    pub sent: Duration,
    pub answered: Option<(Duration, ReasonCode)>,
}

/// What a message does to what its topic retains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    No,
    Stays,
    /// It goes by itself.
    Expires,
    Deletes,
}

pub struct Sub {
    pub sock: SockId,
    pub filter: String,
    /// When its SUBACK reached the client.
    pub since: Duration,
    pub ended: bool,
}

impl Oracle {
    pub fn failed(&self) -> bool {
        !self.broken.is_empty()
    }

    pub fn msg(&self, id: MsgId) -> &Msg {
        &self.msgs[id as usize]
    }

    /// The subscriptions that a message is owed to, as far as their connections last. Deletions look all alike, and
    /// what expires may do so on the way.
    pub fn owed(&self, id: MsgId) -> Vec<&Sub> {
        let msg = self.msg(id);
        if matches!(msg.retain, Retain::Deletes | Retain::Expires) {
            return Vec::new();
        }
        let owed = |sub: &&Sub| !sub.ended && sub.since <= msg.sent && topics::matches(&sub.filter, &msg.topic);
        self.subs.iter().filter(owed).collect()
    }
}

impl World {
    pub fn oracle_published(&mut self, by: SockId, topic: &str, qos: QoS) -> MsgId {
        let sent = self.now;
        self.oracle.msgs.push(Msg { by, topic: topic.into(), qos, retain: Retain::No, sent, answered: None });
        let id = self.oracle.msgs.len() as MsgId - 1;
        self.note(|| format!("client: connection {by} publishes {id} to {topic} at {qos:?}"));
        id
    }

    pub fn oracle_answered(&mut self, id: MsgId, reason: ReasonCode) {
        let now = self.now;
        self.oracle.msgs[id as usize].answered = Some((now, reason));
    }

    pub fn oracle_subscribed(&mut self, sock: SockId, filter: String) {
        self.note(|| format!("client: connection {sock} is subscribed to {filter}"));
        let since = self.now;
        // From here on the older subscription of the same filter is this one.
        self.oracle.subs.retain(|sub| sub.sock != sock || sub.filter != filter || sub.ended);
        self.oracle.subs.push(Sub { sock, filter, since, ended: false });
    }

    pub fn oracle_unsubscribed(&mut self, sock: SockId, filter: &str) {
        for sub in &mut self.oracle.subs {
            if sub.sock == sock && sub.filter == filter {
                sub.ended = true;
            }
        }
    }

    /// Whether the server serves the connection: admitted, not ended by its node, and the node's lease holds by
    /// the node's own clock.
    pub fn serving(&mut self, id: SockId) -> bool {
        let sock = self.socks.get(id);
        let (Some(life), Some(key), true, worker) = (sock.life, sock.key, sock.served, sock.worker) else {
            return false;
        };
        self.lease_holds(life.node) && self.worker(life, worker).is_some_and(|it| !it.core.closing(key))
    }
}
