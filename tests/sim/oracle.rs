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
use crate::keeper::WILLS;
use crate::world::World;

/// A message. Those of one publisher rise in the order in which it sent them.
pub type MsgId = u64;

#[derive(Default)]
pub struct Oracle {
    /// What does not hold.
    pub broken: Vec<String>,
    pub msgs: Vec<Msg>,
    /// Wills. They are sent when a node first times or publishes them, and answered when all have accepted them.
    pub wills: BTreeMap<MsgId, Msg>,
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
    /// What reached which application, where a session is at one of the ends, and how often as a new message.
    pub heard: BTreeMap<(Receiver, MsgId), u32>,
    /// The last of those by receiver, publisher's session, topic, QoS as published and as delivered.
    pub kept_order: BTreeMap<(Receiver, Lane, String, QoS, QoS), MsgId>,
}

#[derive(Clone)]
pub struct Msg {
    /// The connection on which it was sent first, and last.
    pub by: SockId,
    pub last: SockId,
    pub topic: String,
    pub qos: QoS,
    pub retain: Retain,
    /// Its Message Expiry Interval, seconds.
    pub expiry: Option<u32>,
    /// When it was sent first.
    pub sent: Duration,
    /// How often it was sent by its publisher, or published by a node if it is a will.
    pub tries: u32,
    pub answered: Option<(Duration, ReasonCode)>,
}

impl Msg {
    pub fn new(by: SockId, topic: &str, qos: QoS, sent: Duration) -> Self {
        let (retain, expiry, tries, answered) = (Retain::No, None, 0, None);
        Self { by, last: by, topic: topic.into(), qos, retain, expiry, sent, tries, answered }
    }
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
        if id < WILLS { &self.msgs[id as usize] } else { &self.wills[&id] }
    }

    pub fn msg_mut(&mut self, id: MsgId) -> Option<&mut Msg> {
        if id < WILLS { self.msgs.get_mut(id as usize) } else { self.wills.get_mut(&id) }
    }

    /// All messages, and the wills that were published.
    pub fn all(&self) -> impl Iterator<Item = (MsgId, &Msg)> {
        let wills = self.wills.iter().filter(|(_, will)| will.tries > 0);
        (0..).zip(&self.msgs).chain(wills.map(|(id, will)| (*id, will)))
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
        self.oracle.msgs.push(Msg { tries: 1, ..Msg::new(by, topic, qos, sent) });
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
