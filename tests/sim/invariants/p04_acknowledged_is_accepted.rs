//! P4, the live half: when PUBACK is written, every live node with a live matching subscriber has accepted the
//! message (R8). And no PUBACK is written by a node whose lease does not hold.
//!
//! Not wider: subscribers with a narrow window may have it in their queue, which is not to be seen from outside; P8
//! looks at those in the end. A subscription counts from when its client had the SUBACK, before the publish was
//! sent; in between the server may or may not deliver. What is dropped for a subscriber's bounds is accepted too
//! (R8): the simulated bounds are never met.

use rookery::mqtt::codec::{QoS, ReasonCode};
use rookery_cluster::ids::NodeLife;

use crate::client::SockId;
use crate::oracle::MsgId;
use crate::world::World;

impl World {
    /// The core of `life` wrote a PUBACK for `msg`.
    pub fn p04_check(&mut self, life: NodeLife, msg: MsgId, reason: ReasonCode) {
        if !self.lease_holds(life.node) {
            self.broken(format!("P4: message {msg} is acknowledged by {life}, whose lease is over"));
        }
        if reason.is_error() {
            return;
        }
        let owed: Vec<SockId> = self.oracle.owed(msg).into_iter().map(|sub| sub.sock).collect();
        for id in owed {
            if !self.oracle.accepted.contains(&(msg, id)) && !self.socks.get(id).narrow && self.serving(id) {
                self.broken(format!("P4: message {msg} is acknowledged, and connection {id} has not got it"));
            }
        }
    }

    /// At the end: no publish is unanswered on a connection that is open (R9), and what QoS 1 was answered with was
    /// no refusal.
    pub fn p04_all_answered(&mut self) {
        for id in self.socks.ids(|sock| sock.up() && !sock.unanswered.is_empty()) {
            let msgs: Vec<MsgId> = self.socks.get(id).unanswered.values().copied().collect();
            self.broken(format!("R9: messages {msgs:?} of connection {id} were never answered"));
        }
        let odd = |m: &crate::oracle::Msg| m.qos == QoS::AtMostOnce && m.answered.is_some();
        if self.oracle.msgs.iter().any(odd) {
            self.broken("P4: a message of QoS 0 was answered".into());
        }
    }
}
