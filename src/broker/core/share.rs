//! Shared subscriptions: one member in the cluster gets each message (MQTT 5 §4.8.2).
//!
//! The publisher's worker chooses for each group that matches: a member of its own, or another worker or node that has
//! members. Those choose among theirs; if nobody is there any more, they direct the message on.

use std::borrow::Cow;

use rookery_cluster::clock::Moment;
use rookery_cluster::handle::Holder;
use rookery_cluster::ids::WorkerId;
use rookery_cluster::topics::{Candidate, Choice, Place, Readiness, ShareStrategy, choose, mix, name_hash};

use super::conn::Phase;
use super::direct::Directions;
use super::group::{GroupId, Member};
use super::room::{DestIndex, LocalMatch};
use super::{ConnKey, Core, DropReason, Via};
use crate::mqtt::codec::{PublishRef, QoS};
use crate::mqtt::session::{Capacity, Message, Session};

/// How often a message for a group is directed on, when who had members has none any more. From a node to another one
/// and to the right worker there takes two.
pub const SHARE_HOPS: u8 = 3;

/// Who gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A connection of this worker.
    Member(ConnKey),
    /// Some member there.
    Dest(DestIndex),
}

/// What became of a message that was offered to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// A member has it, or it is on its way to one.
    Taken,
    /// The way to the members is full.
    Crowded,
    /// There is none.
    Nobody,
}

/// What was chosen for one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    group: GroupId,
    target: Target,
}

/// What was chosen for a message, and how.
#[derive(Debug)]
pub(super) struct Chosen {
    shares: Vec<Share>,
    errand: Errand,
}

impl Chosen {
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// Those that want the message for their ordinary subscriptions, then those that get it for shared ones alone.
    pub fn destinations<'a>(&self, ordinary: &'a [DestIndex]) -> Cow<'a, [DestIndex]> {
        let mut all = Cow::Borrowed(ordinary);
        for dest in self.shares.iter().filter_map(Share::dest) {
            if !all.contains(&dest) {
                all.to_mut().push(dest);
            }
        }
        all
    }
}

impl Share {
    fn dest(&self) -> Option<DestIndex> {
        match self.target {
            Target::Member(_) => None,
            Target::Dest(dest) => Some(dest),
        }
    }
}

/// How a message came here, and how it goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand {
    choice: Choice,
    scope: Place,
    hops: u8,
    qos: QoS,
    /// What the message counts for in a queue.
    bytes: usize,
    /// It is not for members there.
    but: Option<DestIndex>,
}

impl Errand {
    /// The choice for a message whose receiver is gone. Who published it is not known any more.
    pub fn again(strategy: ShareStrategy, message: &Message<'_>) -> Self {
        let (strategy, key) = match strategy {
            ShareStrategy::HashTopic => (strategy, name_hash(message.topic)),
            ShareStrategy::HashClient => (ShareStrategy::Local, 0),
            ShareStrategy::Local | ShareStrategy::RoundRobin => (strategy, 0),
        };
        let choice = Choice { strategy, key };
        Self { choice, scope: Place::Cluster, hops: 0, qos: message.qos, bytes: message.size(), but: None }
    }

    /// The choice that a publisher's worker makes.
    #[inline]
    pub fn of(strategy: ShareStrategy, client: &str, topic: &str, publish: &PublishRef<'_>) -> Self {
        let key = match strategy {
            ShareStrategy::HashClient => name_hash(client),
            ShareStrategy::HashTopic => name_hash(topic),
            ShareStrategy::Local | ShareStrategy::RoundRobin => 0,
        };
        let bytes = topic.len() + publish.properties.forwardable.len() + publish.payload.len();
        let choice = Choice { strategy, key };
        Self { choice, scope: Place::Cluster, hops: 0, qos: publish.qos, bytes, but: None }
    }

    /// The choice that is made once more because `gone`, which was chosen, is gone.
    pub fn anew(directions: &Directions<'_>, gone: DestIndex, message: &Message<'_>) -> Self {
        let Directions { choice, hops, .. } = *directions;
        Self { choice, scope: Place::Cluster, hops, qos: message.qos, bytes: message.size(), but: Some(gone) }
    }
}

impl Core {
    /// Chooses for each of the groups; none is chosen where nobody is.
    #[inline]
    pub(super) fn choose_shares(&mut self, now: Moment, room: usize, groups: &[GroupId], errand: Errand) -> Chosen {
        if groups.is_empty() {
            return Chosen { shares: Vec::new(), errand };
        }
        let chosen = groups.iter().filter_map(|&group| self.choose_share(now, room, group, errand));
        Chosen { shares: chosen.collect(), errand }
    }

    fn choose_share(&mut self, now: Moment, room: usize, group: GroupId, errand: Errand) -> Option<Share> {
        let known = self.rooms[room].groups.get(group)?;
        let hashed = matches!(errand.choice.strategy, ShareStrategy::HashClient | ShareStrategy::HashTopic);
        let members = known.members(hashed).filter(|(conn, _)| !self.ending.contains(conn));
        let members = members.map(|(conn, member)| self.as_member(room, conn, member, errand));
        let holders =
            known.holders().filter(|dest| Some(*dest) != errand.but).map(|dest| self.as_holder(now, room, dest));
        let target = choose(errand.choice, errand.scope, known.turn(), members.chain(holders))?;
        let groups = &mut self.rooms[room].groups;
        match target {
            Target::Member(conn) => groups.served(group, conn),
            Target::Dest(dest) => groups.handed(group, dest),
        }
        Some(Share { group, target })
    }

    fn as_member(&self, room: usize, key: ConnKey, member: Member, errand: Errand) -> Candidate<Target> {
        let conn = self.conns.get(key.index as usize).filter(|conn| conn.key == key);
        let away = |session: &Session| match session.capacity_parked(errand.qos.min(member.options.qos), errand.bytes) {
            Capacity::None => Readiness::Full,
            _ => Readiness::Offline,
        };
        let readiness = match conn.map(|conn| (conn, &conn.phase)) {
            Some((conn, Phase::Active(_))) if self.rooms[room].account.full.is_some() && !conn.out.is_empty() => {
                Readiness::Full
            }
            Some((conn, Phase::Active(active))) => {
                match active.session.capacity(&conn.out, errand.qos.min(member.options.qos), errand.bytes) {
                    Capacity::Now => Readiness::Open,
                    Capacity::Queue => Readiness::Waiting,
                    Capacity::None => Readiness::Full,
                }
            }
            Some((_, Phase::Parked(active))) => away(&active.session),
            Some((_, Phase::Importing(importing))) => away(&importing.active.session),
            _ => Readiness::Full,
        };
        let names = [self.node_name(), worker_name(self.worker), member.client];
        Candidate { who: Target::Member(key), place: Place::Worker, readiness, names }
    }

    fn as_holder(&self, now: Moment, room: usize, dest: DestIndex) -> Candidate<Target> {
        let destination = &self.dests[usize::from(dest)];
        let readiness = if destination.stuck(now) {
            Readiness::Full
        } else if destination.crowded(self.rooms[room].id, now) {
            Readiness::Crowded
        } else if destination.congested() {
            Readiness::Waiting
        } else {
            Readiness::Open
        };
        let (place, names) = match destination.holder {
            Holder::Worker(worker) => (Place::Node, [self.node_name(), worker_name(worker), 0]),
            Holder::Peer(node) => (Place::Cluster, [mix(node.0) | 1, 0, 0]),
            // It holds no subscriptions.
            Holder::Store => (Place::Cluster, [0; 3]),
        };
        Candidate { who: Target::Dest(dest), place, readiness, names }
    }

    fn node_name(&self) -> u64 {
        mix(self.life.node.0) | 1
    }

    /// Delivers to those of the chosen that are members of this worker.
    pub(super) fn serve_members(&mut self, now: Moment, room: usize, chosen: &Chosen, message: &mut Message<'_>) {
        for share in &chosen.shares {
            if let Target::Member(conn) = share.target {
                self.serve_member(now, room, share.group, conn, message);
            }
        }
    }

    fn serve_member(&mut self, now: Moment, room: usize, group: GroupId, conn: ConnKey, message: &mut Message<'_>) {
        let Some(group) = self.rooms[room].groups.get(group) else { return };
        let Some(Member { options, .. }) = group.member(conn) else { return };
        let matched = LocalMatch {
            conn,
            qos: options.qos,
            no_local: false,
            retain_as_published: options.retain_as_published,
            ids: options.id.into_iter().collect(),
        };
        message.share = Some(group.filter.clone());
        self.deliver(now, room, &[matched], None, message);
        message.share = None;
    }

    /// Appends the message for `dest`, with the groups that were chosen to be served there; returns where the last
    /// copy stands.
    pub(super) fn append_directed(
        &mut self,
        room: usize,
        dest: DestIndex,
        ordinary: bool,
        chosen: &Chosen,
        message: &Message<'_>,
    ) -> super::fair::Place {
        let room = &self.rooms[room];
        let errand = chosen.errand;
        let filters: Vec<&str> = chosen
            .shares
            .iter()
            .filter(|share| share.dest() == Some(dest))
            .filter_map(|share| room.groups.get(share.group).map(|group| &*group.filter))
            .collect();
        let destination = &mut self.dests[usize::from(dest)];
        if filters.is_empty() {
            return destination.append(room.id, |body| body.put(message));
        }
        let keeps = message.qos != QoS::AtMostOnce;
        let (mut left, mut ordinary) = (&filters[..], ordinary);
        loop {
            let place = destination.append(room.id, |body| {
                let taken =
                    body.put_directed(message, |to| Directions::encode(to, ordinary, errand.hops, errand.choice, left));
                left = &left[taken..];
            });
            if keeps {
                destination.is_directed(place);
            }
            ordinary = false;
            if left.is_empty() {
                return place;
            }
        }
    }

    /// A publish that came with directions: serves the groups that it names, if it is this worker that must.
    pub(super) fn dispatch(
        &mut self,
        now: Moment,
        room: usize,
        directions: &Directions<'_>,
        via: Via<'_>,
        message: &mut Message<'_>,
    ) {
        let scope = match via {
            Via::Worker => Place::Worker,
            Via::Node { .. } => Place::Node,
        };
        let (qos, bytes) = (message.qos, message.size());
        let errand = Errand { choice: directions.choice, scope, hops: directions.hops, qos, bytes, but: None };
        for filter in directions.filters() {
            if self.dispatches(via, filter) {
                self.route(now, room, filter, errand, message);
            }
        }
    }

    /// Whether it is this worker that chooses for its node. All workers that got the batch come to the same answer.
    pub(super) fn dispatches(&self, via: Via<'_>, filter: &str) -> bool {
        match via {
            Via::Worker => true,
            Via::Node { workers, seq } => {
                let at = name_hash(filter).wrapping_add(seq).checked_rem(workers.len() as u64);
                at.and_then(|at| workers.get(at as usize)) == Some(&self.worker)
            }
        }
    }

    /// Gives the message to one member of the group, wherever; counts it if nobody is left who can have it.
    pub(super) fn route(&mut self, now: Moment, room: usize, filter: &str, errand: Errand, message: &mut Message<'_>) {
        match self.offer(now, room, filter, errand, message) {
            Offer::Taken => {}
            Offer::Crowded => self.drop_in(room, DropReason::DestinationStuck, 1),
            Offer::Nobody => self.drop_in(room, DropReason::NoShareMember, 1),
        }
    }

    /// As [`Core::route`], but leaves it to the caller what becomes of a message that nobody takes now.
    pub(super) fn offer(
        &mut self,
        now: Moment,
        room: usize,
        filter: &str,
        errand: Errand,
        message: &mut Message<'_>,
    ) -> Offer {
        let group = self.rooms[room].groups.find(filter);
        let share = group.and_then(|group| self.choose_share(now, room, group, errand));
        match share.map(|share| (share.target, share)) {
            Some((Target::Member(conn), share)) => self.serve_member(now, room, share.group, conn, message),
            Some((Target::Dest(dest), share)) if errand.hops < SHARE_HOPS => {
                // Nobody can be told to wait: what is full gets no more.
                if self.as_holder(now, room, dest).readiness >= Readiness::Crowded {
                    return Offer::Crowded;
                }
                let errand = Errand { hops: errand.hops + 1, ..errand };
                // This worker is whom it comes from there.
                message.mark = self.next_mark(message.qos);
                self.append_directed(room, dest, false, &Chosen { shares: vec![share], errand }, message);
                self.stats.publishes_forwarded += 1;
                self.touch(dest);
            }
            _ => return Offer::Nobody,
        }
        Offer::Taken
    }
}

fn worker_name(worker: WorkerId) -> u64 {
    mix(u64::from(worker.0)) | 1
}
