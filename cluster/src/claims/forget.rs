//! As the leader of a shard: has it forget what deleted brokers left.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::{debug, info};

use super::Sessions;
use crate::ids::{BrokerId, GroupId};
use crate::sessions::{Command, ShardView, Tally};

/// How often the shards led here are looked through for brokers that are gone.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Brokers that are asked about at one time, and forgotten one after the other; the others wait for the next look.
const AT_ONCE: usize = 256;

impl Sessions {
    /// Brokers of which shards keep something and that this node does not know.
    pub(super) fn strangers(&self, led: &BTreeMap<GroupId, ShardView>) -> Vec<(GroupId, BrokerId)> {
        let kept = |(group, view): (&GroupId, &ShardView)| {
            let brokers = view.tallies.iter().filter(|(_, tally)| Tally::keeps(tally)).map(|(broker, _)| *broker);
            let unknown = brokers.filter(|broker| self.0.meta.within(*broker).is_none());
            unknown.map(|broker| (*group, broker)).collect::<Vec<_>>()
        };
        led.iter().flat_map(kept).take(AT_ONCE).collect()
    }

    /// Has the shards forget those of them that are deleted, a part a command. A shard that keeps something of a broker
    /// shows that the broker was made before: if the metadata, asked now, does not have it, it is gone for good.
    pub(super) async fn forget_deleted(self, strangers: Vec<(GroupId, BrokerId)>) {
        let brokers = strangers.iter().map(|(_, broker)| *broker).collect();
        let deleted = match self.0.meta.deleted(brokers).await {
            Ok(deleted) => deleted,
            Err(why) => return debug!(%why, "whether brokers are deleted is not known"),
        };
        for (group, broker) in strangers.into_iter().filter(|(_, broker)| deleted.contains(broker)) {
            info!(%group, %broker, "a shard forgets a deleted broker");
            while self.keeps(group, broker) {
                let command = Command::Forget { broker }.encode();
                if let Err(why) = self.0.consensus.propose(group, command).await {
                    debug!(%group, %broker, %why, "what is left of a deleted broker stays for now");
                    break;
                }
            }
        }
    }

    fn keeps(&self, group: GroupId, broker: BrokerId) -> bool {
        let view = self.0.board.view(group).filter(|_| self.0.consensus.status(group).leads);
        view.is_some_and(|view| view.tallies.get(&broker).is_some_and(Tally::keeps))
    }
}
