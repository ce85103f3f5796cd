//! Clients that share subscriptions. Each connection is a member of one group or more, and of nothing else; a
//! subscription's identifier says which group a message is for.

use rookery::mqtt::codec::{Packet, QoS, Subscribe, SubscribeFilter, Version};
use rookery_cluster::ids::NodeId;

use crate::client::{Phase, SockId};
use crate::world::World;

/// A group: its place in [`GROUPS`] and one.
pub type GroupNo = u32;

pub const GROUPS: [&str; 4] = ["$share/one/a/+", "$share/two/#", "$share/three/c", "$share/two/b/1"];
const MEMBERS: [&str; 5] = ["gil", "hal", "ida", "jon", "kim"];
/// Members that keep their sessions. They speak MQTT 5, so that they are told which group a message is for.
pub const KEPT_MEMBERS: [&str; 2] = ["ned", "pam"];

/// The filter that the members share.
pub fn filter(group: GroupNo) -> &'static str {
    let parts = GROUPS[group as usize - 1].splitn(3, '/');
    parts.last().expect("a filter")
}

impl World {
    /// Somebody comes, joins, leaves, stops to acknowledge or goes.
    pub fn some_member(&mut self) {
        let members = self.socks.ids(|sock| sock.up() && MEMBERS.contains(&&*sock.client));
        if members.is_empty() || self.rng.percent(30) {
            return self.some_new_member();
        }
        let id = self.rng.pick(&members);
        match self.rng.below(10) {
            0..4 => self.some_join(id),
            4..6 => {
                let group = self.rng.pick(&GROUPS);
                self.unsubscribe(id, group);
            }
            6 => self.mute(id),
            7 => self.disconnect(id),
            8 => self.hang_up(id),
            _ => self.some_new_member(),
        }
    }

    /// A connection of one that is no member.
    pub fn some_client(&mut self) -> Option<SockId> {
        let up = self.socks.ids(|sock| sock.up() && !MEMBERS.contains(&&*sock.client));
        (!up.is_empty()).then(|| self.rng.pick(&up))
    }

    fn some_new_member(&mut self) {
        let nodes: Vec<NodeId> = self.all_nodes().into_iter().filter(|n| self.node(*n).broker.is_some()).collect();
        if nodes.is_empty() {
            return;
        }
        let (client, node) = (self.rng.pick(&MEMBERS), self.rng.pick(&nodes));
        let narrow = self.rng.percent(40).then(|| self.rng.range(1, 4) as u16);
        let id = self.connect_as(client, node, Version::V5, client, narrow);
        self.some_join(id);
        if self.rng.percent(30) {
            self.mute(id);
        }
    }

    fn some_join(&mut self, id: SockId) {
        let group = self.rng.range(1, GROUPS.len() as u64) as GroupNo;
        let qos = if self.rng.percent(75) { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        self.join(id, group, qos);
    }

    /// From now on it takes messages and acknowledges none.
    pub fn mute(&mut self, id: SockId) {
        self.note(|| format!("client: connection {id} acknowledges nothing any more"));
        if let Some(sock) = self.sock(id) {
            sock.mute = true;
        }
    }

    pub fn join(&mut self, id: SockId, group: GroupNo, qos: QoS) {
        let filter = GROUPS[group as usize - 1];
        let Some(sock) = self.sock(id).filter(|sock| matches!(sock.phase, Phase::Connecting | Phase::Up)) else {
            return;
        };
        sock.shares = true;
        if self.keepers.is(id) {
            return self.keeper_subscribes(id, &[(filter, qos)], Some(group));
        }
        let Some(sock) = self.sock(id) else { return };
        let packet_id = sock.take_id();
        sock.subscribing.insert(packet_id, vec![filter.to_owned()]);
        let filters = vec![SubscribeFilter::new(filter, qos)];
        let subscribe = Subscribe { packet_id, filters, subscription_id: Some(group), user_properties: Vec::new() };
        self.send_packet(id, &Packet::Subscribe(subscribe));
    }
}
