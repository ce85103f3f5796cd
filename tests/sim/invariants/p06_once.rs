//! P6 and P7 where sessions outlive their connections. QoS 2 is delivered once, whichever end reconnects where in
//! mid-handshake; at QoS 1 a message comes as a new one only as often as its publisher sent it. First deliveries keep the
//! order of the publisher's session; what it sends again at QoS 1 comes from its beginning once more.
//!
//! Not wider: a publisher's open handshakes die with the node that kept its session; what it then sends again may come
//! twice. At QoS 0 a publisher is one connection.

use std::sync::Arc;

use rookery::mqtt::codec::QoS;

use crate::client::SockId;
use crate::keeper::WILLS;
use crate::oracle::MsgId;
use crate::world::World;

/// Who receives: a session of a client, or a connection.
pub type Receiver = (Arc<str>, SockId);

/// Whose order holds: a session of a client, or a connection.
pub type Lane = (Arc<str>, u64);

impl World {
    /// The application of `id` got a message; `dup` as the PUBLISH said.
    pub fn p06_check(&mut self, id: SockId, msg: MsgId, delivered: QoS, dup: bool) {
        let to: Receiver = match self.keepers.of(id).map(|keeper| keeper.session) {
            Some(session) => (self.socks.get(id).client.clone(), session),
            None => ("".into(), id),
        };
        let heard = self.oracle.heard.entry((to.clone(), msg)).or_default();
        let (first, redelivered) = (*heard == 0, *heard > 0 && dup && delivered == QoS::AtLeastOnce);
        *heard += u32::from(!redelivered);
        let heard = *heard;
        if msg >= WILLS {
            return self.p10_heard(&to, msg, !first && !redelivered);
        }
        let (topic, qos, by) = (self.oracle.msg(msg).topic.clone(), self.oracle.msg(msg).qos, self.oracle.msg(msg).by);
        if !first {
            if heard > self.times(msg) {
                self.broken(format!("P6: {to:?} got message {msg} of {qos:?} {heard} times, at {delivered:?}"));
            }
            return;
        }
        let lane: Lane = self.keepers.lanes.get(&msg).cloned().unwrap_or_else(|| ("".into(), by));
        let lane = (to.clone(), lane, topic, qos, delivered);
        if let Some(last) = self.oracle.kept_order.insert(lane, msg)
            && last > msg
            // What is sent again comes again from its beginning, also to who came later.
            && self.times(msg) == 1
        {
            self.broken(format!("P7: {to:?} got message {msg} after {last}"));
        }
    }

    /// How often a message may come as a new one: as often as its publisher sent it, unless it was known again.
    pub fn times(&self, msg: MsgId) -> u32 {
        let it = self.oracle.msg(msg);
        let known = msg < WILLS && it.qos == QoS::ExactlyOnce && !self.keepers.repeatable.contains(&msg);
        if known { 1 } else { it.tries }
    }
}
