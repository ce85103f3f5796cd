//! Shared subscriptions: of each group one member gets a message. Another one gets it only if the first is gone and had
//! not acknowledged it, which QoS 0 never is. And what was acknowledged to its publisher (QoS 1) some member got, if one
//! was there all the time.
//!
//! Not wider: a message is not looked for if a node ended after it was published, as what it had accepted for its
//! members dies with it, or if nodes say that they dropped something for want of a member or of room. A message counts
//! as acknowledged once the core has read that; a connection as gone once the core has closed it.

use std::collections::BTreeMap;
use std::time::Duration;

use rookery::broker::core::{ConnKey, DropReason};
use rookery::mqtt::codec::{Packet, Publish, QoS, ReasonCode, Sender, Version, decode, split};
use rookery_cluster::ids::{NodeId, NodeLife};
use rookery_cluster::topics;

use crate::client::{SockId, msg_of};
use crate::oracle::{MsgId, Retain};
use crate::share::{self, GROUPS, GroupNo};
use crate::world::World;

/// What members of groups were given.
#[derive(Default)]
pub struct Sharing {
    members: Vec<Member>,
    given: BTreeMap<(MsgId, GroupNo), Vec<Given>>,
    /// When a node last ended.
    pub ended: Duration,
}

struct Member {
    sock: SockId,
    group: GroupNo,
    since: Duration,
    left: bool,
}

struct Given {
    to: SockId,
    packet: Option<u16>,
    acknowledged: bool,
}

/// The number of a group's filter, if it is one.
fn group_of(filter: &str) -> Option<GroupNo> {
    GROUPS.iter().position(|group| *group == filter).map(|at| at as GroupNo + 1)
}

impl World {
    /// A SUBACK reached a client; whether it was for a shared subscription.
    pub fn shared_joined(&mut self, sock: SockId, filter: &str) -> bool {
        let Some(group) = group_of(filter) else { return false };
        self.note(|| format!("client: connection {sock} is a member of {filter}"));
        let since = self.now;
        let known = self.oracle.sharing.members.iter().any(|m| m.sock == sock && m.group == group && !m.left);
        if !known {
            self.oracle.sharing.members.push(Member { sock, group, since, left: false });
        }
        true
    }

    pub fn shared_left(&mut self, sock: SockId, filter: &str) {
        let group = group_of(filter);
        let members = self.oracle.sharing.members.iter_mut();
        members.filter(|m| m.sock == sock && Some(m.group) == group).for_each(|m| m.left = true);
    }

    /// The core wrote a publish for a connection.
    pub fn shared_written(&mut self, sock: SockId, publish: &Publish) {
        let Some(msg) = msg_of(&publish.payload) else { return };
        // Who keeps its session publishes again, with QoS 1, what was not acknowledged when its connection was lost.
        let again = self.keepers.lanes.contains_key(&msg) && self.oracle.msg(msg).qos == QoS::AtLeastOnce;
        for group in publish.subscription_ids.clone() {
            let before: Vec<(SockId, bool)> = self
                .oracle
                .sharing
                .given
                .entry((msg, group))
                .or_default()
                .iter()
                .map(|given| (given.to, given.acknowledged || given.packet.is_none()))
                .collect();
            for (other, done) in before.into_iter().filter(|_| !again) {
                let filter = GROUPS[group as usize - 1];
                if done {
                    self.broken(format!(
                        "shared: connection {sock} gets {msg} of {filter}, and {other} is done with it"
                    ));
                } else if other == sock || self.attached(other) {
                    self.broken(format!("shared: connection {sock} gets {msg} of {filter}, and {other} has it"));
                }
            }
            let packet = publish.packet_id.map(|id| id.get());
            let given = Given { to: sock, packet, acknowledged: false };
            self.oracle.sharing.given.entry((msg, group)).or_default().push(given);
        }
    }

    /// Whether the core has the connection and does not close it.
    fn attached(&mut self, id: SockId) -> bool {
        let sock = self.socks.get(id);
        let (Some(life), Some(key), worker) = (sock.life, sock.key, sock.worker) else { return false };
        self.worker(life, worker).is_some_and(|it| !it.core.closing(key))
    }

    /// The core is about to read what a member sent: what that acknowledges.
    pub fn shared_read(&mut self, life: NodeLife, worker: u16, key: ConnKey, id: SockId, bytes: &[u8]) {
        let reads = self.lease_holds(life.node) && self.worker(life, worker).is_some_and(|it| !it.core.closing(key));
        let Some(sock) = self.sock(id).filter(|sock| reads && sock.shares) else { return };
        sock.heard.extend_from_slice(bytes);
        let mut acknowledged = Vec::new();
        while let Ok(Some(frame)) = split(&sock.heard, usize::MAX) {
            let taken = sock.heard.split_to(frame.total);
            if let Ok(Packet::Puback(ack)) =
                decode(Some(Version::V5), Sender::Client, frame.first_byte, frame.body(&taken))
            {
                acknowledged.push(ack.packet_id.get());
            }
        }
        for packet in acknowledged {
            let all = self.oracle.sharing.given.values_mut().flatten();
            // Identifiers are used again: the last one counts.
            if let Some(given) = all.filter(|g| g.to == id && g.packet == Some(packet) && !g.acknowledged).last() {
                given.acknowledged = true;
            }
        }
    }

    /// At the end: what was acknowledged reached some member of each group that had one.
    pub fn shared_all_given(&mut self) {
        if self.dropped_shared() {
            return;
        }
        for msg in 0..self.oracle.msgs.len() as MsgId {
            let it = self.oracle.msg(msg);
            let good = it
                .answered
                .is_some_and(|(_, reason)| !reason.is_error() && reason != ReasonCode::NO_MATCHING_SUBSCRIBERS);
            let looks = it.qos == QoS::AtLeastOnce && it.retain == Retain::No && it.sent > self.oracle.sharing.ended;
            if !good || !looks {
                continue;
            }
            let (topic, sent) = (it.topic.clone(), it.sent);
            for group in 1..=GROUPS.len() as GroupNo {
                if !topics::matches(share::filter(group), &topic) || !self.had_member(group, sent) {
                    continue;
                }
                let given = self.oracle.sharing.given.get(&(msg, group)).map(Vec::as_slice).unwrap_or_default();
                let holders: Vec<SockId> = given.iter().map(|given| given.to).collect();
                let done = given.iter().any(|given| given.acknowledged || given.packet.is_none());
                if !done && !holders.into_iter().any(|id| self.attached(id)) && !self.waits_for_room(group) {
                    self.broken(format!("shared: nobody of {} has got message {msg}", GROUPS[group as usize - 1]));
                }
            }
        }
    }

    /// Whether somebody is a member since before that time.
    fn had_member(&mut self, group: GroupNo, since: Duration) -> bool {
        let members = self.oracle.sharing.members.iter();
        let socks: Vec<SockId> =
            members.filter(|m| m.group == group && !m.left && m.since <= since).map(|m| m.sock).collect();
        socks.into_iter().any(|id| self.socks.get(id).up() && self.serving(id))
    }

    /// Whether some member's window is full, so that messages wait in its queue.
    fn waits_for_room(&mut self, group: GroupNo) -> bool {
        let members = self.oracle.sharing.members.iter().filter(|m| m.group == group && !m.left);
        let socks: Vec<SockId> = members.map(|m| m.sock).collect();
        socks.into_iter().any(|id| self.socks.get(id).narrow && self.attached(id) && self.socks.get(id).mute)
    }

    fn dropped_shared(&mut self) -> bool {
        let dropped = |reason: &DropReason| {
            !matches!(
                reason,
                DropReason::RetainedFull | DropReason::Subscriber(rookery::broker::core::Dropped::Expired)
            )
        };
        let nodes: Vec<NodeId> = self.all_nodes();
        nodes.into_iter().any(|node| {
            let workers = self.node(node).broker.iter().flat_map(|b| &b.workers);
            workers.flat_map(|worker| worker.core.stats.dropped.keys()).any(dropped)
        })
    }
}
