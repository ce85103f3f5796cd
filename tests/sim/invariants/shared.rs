//! Shared subscriptions: of each group one member gets a message. Another one gets it only if the first is gone and had
//! not acknowledged it, which QoS 0 never is, and never if its delivery at QoS 2 had begun (MQTT-4.8.2-5). A session whose
//! client comes back gets it as before. What its publisher sent again, and was not known again, may be with as many members
//! as it was sent times; so may a will. And what was acknowledged to its publisher some member got, if one was there all
//! the time.
//!
//! Not wider: what was on its way to a node that ended may be given once more at QoS 1. A message is not looked for if a
//! node ended after it was published, as what it had accepted for its members dies with it, or if nodes say that they
//! dropped something for want of a member or of room. A message counts as acknowledged once the core has come to that; a
//! connection as gone once the core has closed it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rookery::broker::core::{ConnKey, DropReason, Dropped};
use rookery::mqtt::codec::{Packet, Publish, QoS, ReasonCode, Sender, Version, decode, split};
use rookery_cluster::ids::{NodeId, NodeLife};
use rookery_cluster::topics;

use crate::client::{Sock, SockId, msg_of};
use crate::keeper::{Keeper, KeptSub};
use crate::oracle::{Msg, MsgId, Retain};
use crate::share::{self, GROUPS, GroupNo};
use crate::world::World;

/// What members of groups were given.
#[derive(Default)]
pub struct Sharing {
    members: Vec<Member>,
    given: BTreeMap<(MsgId, GroupNo), Vec<Given>>,
    /// What a packet that a connection acknowledges stands for.
    packets: BTreeMap<(SockId, u16), (MsgId, GroupNo)>,
    /// When workers heard that a node's life was over.
    expired: Vec<Duration>,
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
    qos: QoS,
    /// The client has acknowledged it.
    answered: bool,
    /// The core has come to that.
    acknowledged: bool,
}

impl Given {
    fn done(&self) -> bool {
        self.acknowledged || self.packet.is_none()
    }
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
        for group in publish.subscription_ids.clone() {
            let before = self.oracle.sharing.given.remove(&(msg, group)).unwrap_or_default();
            let with: Vec<SockId> = before.iter().filter(|it| self.keeps(it, sock)).map(|it| it.to).collect();
            let Msg { qos, sent, .. } = self.oracle.msg(msg).clone();
            // Whoever was gone may have had it, or directed it on.
            let again = self.oracle.sharing.expired.iter().filter(|at| qos == QoS::AtLeastOnce && sent <= **at).count();
            if with.len() >= self.times(msg) as usize + again {
                let filter = GROUPS[group as usize - 1];
                self.broken(format!("shared: connection {sock} gets {msg} of {filter}, and {with:?} had it for good"));
            }
            let packet = publish.packet_id.map(|id| id.get());
            let given = Given { to: sock, packet, qos: publish.qos, answered: false, acknowledged: false };
            self.oracle.sharing.packets.extend(packet.map(|packet| ((sock, packet), (msg, group))));
            let all = before.into_iter().chain([given]).collect();
            self.oracle.sharing.given.insert((msg, group), all);
        }
    }

    /// Whether what was given stays where it is, and is not for `other`.
    fn keeps(&mut self, given: &Given, other: SockId) -> bool {
        let same_session = self.keepers.is(other) && self.socks.get(given.to).client == self.socks.get(other).client;
        let begun = given.qos == QoS::ExactlyOnce && !same_session;
        given.done() || begun || given.to == other || self.attached(given.to)
    }

    /// Whether the core has the connection and does not close it.
    fn attached(&mut self, id: SockId) -> bool {
        let sock = self.socks.get(id);
        let (Some(life), Some(key), worker) = (sock.life, sock.key, sock.worker) else { return false };
        self.worker(life, worker).is_some_and(|it| !it.core.closing(key))
    }

    /// The core reads what a member sent: what that acknowledges.
    pub fn shared_read(&mut self, life: NodeLife, worker: u16, key: ConnKey, id: SockId, bytes: &[u8]) {
        let reads = self.lease_holds(life.node) && self.worker(life, worker).is_some_and(|it| !it.core.closing(key));
        let Some(sock) = self.sock(id).filter(|sock| reads && sock.shares) else { return };
        sock.heard.extend_from_slice(bytes);
        while let Ok(Some(frame)) = split(&sock.heard, usize::MAX) {
            let taken = sock.heard.split_to(frame.total);
            let packet = decode(Some(Version::V5), Sender::Client, frame.first_byte, frame.body(&taken));
            if let Ok(Packet::Puback(ack) | Packet::Pubrec(ack)) = packet {
                sock.acknowledging.push(ack.packet_id.get());
            }
        }
        for packet in sock.acknowledging.clone() {
            self.shared_given(id, packet).into_iter().for_each(|given| given.answered = true);
        }
    }

    /// Who is read from has nothing left of what was read before: what that acknowledged holds. A publish that must wait
    /// keeps what stands behind it.
    pub fn shared_heard(&mut self, life: NodeLife, worker: u16, key: ConnKey, id: SockId) {
        let through = self.worker(life, worker).is_some_and(|it| it.core.wants_read(key) || it.core.has_left(key));
        let Some(sock) = self.sock(id).filter(|_| through) else { return };
        for packet in std::mem::take(&mut sock.acknowledging) {
            self.shared_given(id, packet).into_iter().for_each(|given| given.acknowledged = true);
            self.oracle.sharing.packets.remove(&(id, packet));
        }
    }

    /// What a packet of a connection is.
    fn shared_given(&mut self, id: SockId, packet: u16) -> Option<&mut Given> {
        let Sharing { given, packets, .. } = &mut self.oracle.sharing;
        let all = given.get_mut(packets.get(&(id, packet))?)?;
        all.iter_mut().rfind(|it| it.to == id && it.packet == Some(packet))
    }

    /// A worker hears that a node's life is over, and gives on what that had not accepted.
    pub fn shared_expired(&mut self) {
        let now = self.now;
        self.oracle.sharing.expired.push(now);
    }

    /// At the end: what was acknowledged reached some member of each group that had one.
    pub fn shared_all_given(&mut self) {
        if self.dropped_shared() {
            return;
        }
        let (ended, good) = (self.oracle.sharing.ended, |it: &Msg| {
            let good =
                |(_, reason): (_, ReasonCode)| !reason.is_error() && reason != ReasonCode::NO_MATCHING_SUBSCRIBERS;
            it.answered.is_some_and(good) && it.qos != QoS::AtMostOnce
        });
        let looked = self.oracle.all().filter(|(_, it)| good(it) && it.retain == Retain::No && it.sent > ended);
        let looked: Vec<_> = looked.map(|(id, it)| (id, it.topic.clone(), it.sent)).collect();
        for (msg, topic, sent) in looked {
            for group in 1..=GROUPS.len() as GroupNo {
                if !topics::matches(share::filter(group), &topic) || !self.had_member(group, sent) {
                    continue;
                }
                let given = self.oracle.sharing.given.get(&(msg, group)).map(Vec::as_slice).unwrap_or_default();
                let holders: Vec<SockId> = given.iter().map(|given| given.to).collect();
                let done = given.iter().any(|given| given.done() || given.answered);
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
        let kept = |keeper: &Keeper| {
            let of = |sub: &KeptSub| group_of(&sub.filter) == Some(group) && sub.since.is_some_and(|it| it <= since);
            keeper.subs.iter().any(of)
        };
        socks.into_iter().any(|id| self.socks.get(id).up() && self.serving(id)) || self.keepers.all.values().any(kept)
    }

    /// Whether the window of somebody who was given something for the group and acknowledges nothing may be full, so that
    /// messages wait in its queue. Its SUBACK may never have reached it.
    fn waits_for_room(&mut self, group: GroupNo) -> bool {
        let given = self.oracle.sharing.given.iter().filter(|((_, of), _)| *of == group);
        let socks: BTreeSet<SockId> = given.flat_map(|(_, all)| all).map(|given| given.to).collect();
        let silent = |sock: &Sock| sock.narrow && (sock.mute || !sock.up());
        socks.into_iter().any(|id| silent(self.socks.get(id)) && self.attached(id))
    }

    fn dropped_shared(&mut self) -> bool {
        let dropped = |reason: &DropReason| {
            !matches!(reason, DropReason::RetainedFull | DropReason::Subscriber(Dropped::Expired | Dropped::Offline))
        };
        let nodes: Vec<NodeId> = self.all_nodes();
        nodes.into_iter().any(|node| {
            let workers = self.node(node).broker.iter().flat_map(|b| &b.workers);
            workers.flat_map(|worker| worker.core.stats.dropped.keys()).any(dropped)
        })
    }
}
