//! P8: after SUBACK, every publish that starts anywhere reaches the subscriber, as long as its connection lasts.
//!
//! Not wider: looked at when all is quiet, for the subscriptions that are still there. QoS 1 counts when it was
//! acknowledged with success, or when its connection is still open; QoS 0 only when its connection is still open,
//! at a node that has dropped nothing: what was on the way from a connection or node that ended may be lost.

use rookery::mqtt::codec::QoS;

use crate::client::SockId;
use crate::oracle::MsgId;
use crate::world::World;

impl World {
    pub fn p08_check(&mut self) {
        for msg in 0..self.oracle.msgs.len() as MsgId {
            if !self.sure_to_arrive(msg) {
                continue;
            }
            let owed: Vec<SockId> = self.oracle.owed(msg).into_iter().map(|sub| sub.sock).collect();
            for id in owed {
                if self.socks.get(id).up() && self.serving(id) && !self.socks.get(id).got.contains(&msg) {
                    self.broken(format!("P8: connection {id} is subscribed and never got message {msg}"));
                }
            }
        }
    }

    fn sure_to_arrive(&mut self, msg: MsgId) -> bool {
        let it = self.oracle.msg(msg);
        let (by, qos) = (it.by, it.qos);
        match it.answered {
            Some((_, reason)) => !reason.is_error(),
            None => self.socks.get(by).up() && self.serving(by) && (qos != QoS::AtMostOnce || self.lossless(by)),
        }
    }

    fn lossless(&mut self, by: SockId) -> bool {
        let sock = self.socks.get(by);
        let (Some(life), worker) = (sock.life, sock.worker) else { return false };
        self.worker(life, worker).is_some_and(|it| it.core.stats.dropped.is_empty())
    }
}
