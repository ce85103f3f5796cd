//! P7: per publisher, topic and QoS, each subscriber gets messages in the order in which they were sent, each once.
//!
//! Not wider: a publisher is one connection, as no session outlives its connection. The QoS of delivery is part of
//! the key, since a subscriber that changes its subscription's QoS gets two orders, one for each. Once: a message
//! of QoS 1 may be repeated when it was sent again by its publisher, which these publishers never do.

use rookery::mqtt::codec::QoS;

use crate::client::SockId;
use crate::oracle::MsgId;
use crate::world::World;

impl World {
    pub fn p07_check(&mut self, to: SockId, msg: MsgId, delivered: QoS) {
        let it = self.oracle.msg(msg);
        let (by, lane) = (it.by, (to, it.by, it.topic.clone(), it.qos, delivered));
        if let Some(last) = self.oracle.order.insert(lane, msg)
            && last >= msg
        {
            self.broken(format!("P7: connection {to} got message {msg} of connection {by} after {last}"));
        }
    }
}
