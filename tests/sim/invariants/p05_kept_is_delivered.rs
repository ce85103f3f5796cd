//! P5, as far as it is promised so far: what was acknowledged at QoS 1 or 2 and matches a subscription of a session is
//! delivered to it, wherever its client is and comes back, unless the node that kept the session died.
//!
//! Not wider: queue and in-flight messages live with the session's home; when that dies, what was published until the
//! client is back is forgiven, its subscriptions are not. Bounds of queues are never met here.

use rookery::mqtt::codec::QoS;
use rookery_cluster::topics;

use crate::keeper::Keeper;
use crate::oracle::MsgId;
use crate::oracle::Retain;
use crate::world::World;

/// A message that was acknowledged.
struct Sure {
    msg: MsgId,
    topic: String,
    sent: std::time::Duration,
}

impl World {
    /// At the end, when every keeper is connected and all is quiet.
    pub fn p05_check(&mut self) {
        let mut missing = Vec::new();
        let sure = self.acknowledged();
        for (client, keeper) in &self.keepers.all {
            for it in &sure {
                if !owed(keeper, it) || keeper.got.contains(&it.msg) {
                    continue;
                }
                missing
                    .push(format!("P5: {client} is owed message {}, which was acknowledged, and never got it", it.msg));
            }
        }
        missing.into_iter().for_each(|what| self.broken(what));
    }

    fn acknowledged(&self) -> Vec<Sure> {
        let published = self.oracle.msgs.iter().zip(0..).filter_map(|(it, msg)| {
            let (_, reason) = it.answered?;
            // Deletions look all alike, and what expires may do so on the way.
            let lasts = !matches!(it.retain, Retain::Deletes | Retain::Expires);
            let sure = lasts && it.qos != QoS::AtMostOnce && !reason.is_error();
            sure.then(|| Sure { msg, topic: it.topic.clone(), sent: it.sent })
        });
        let wills = self.keepers.conns.values().filter_map(|conn| {
            let (msg, topic) = (conn.will?, format!("will/{}", conn.client));
            conn.accepted?;
            Some(Sure { msg, topic, sent: *conn.fired.first()? })
        });
        published.chain(wills).collect()
    }
}

fn owed(keeper: &Keeper, it: &Sure) -> bool {
    keeper.subs.iter().any(|sub| {
        let since = sub.since.is_some_and(|since| since <= it.sent);
        since && sub.qos != QoS::AtMostOnce && topics::matches(&sub.filter, &it.topic)
    })
}
