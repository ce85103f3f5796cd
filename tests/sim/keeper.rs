//! Clients that keep a session: what they remember between their connections, and what they do with it. One of them has
//! one connection at a time; whatever its earlier ones may still be sent, it does not hear.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rookery::mqtt::codec::{
    Ack, Connack, Connect, MessageProperties, Packet, PacketId, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter,
    Unsubscribe, Version, Will,
};
use rookery_cluster::ids::{NodeId, NodeLife};

use crate::client::{Phase, SockId, msg_of};
use crate::oracle::{Msg, MsgId, Retain};
use crate::share::{GroupNo, KEPT_MEMBERS};
use crate::world::World;

/// The messages of wills have numbers from here on.
pub const WILLS: MsgId = 1 << 40;
/// Long enough to be for ever.
pub const LONG: u32 = 3600;

/// With what a keeper connects.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub version: Version,
    pub clean: bool,
    /// Session expiry, seconds.
    pub expiry: u32,
    /// QoS and delay.
    pub will: Option<(QoS, u32)>,
    /// Whether its will is to be retained.
    pub retains: bool,
    pub narrow: Option<u16>,
}

impl Terms {
    /// Goes on with what is there, and keeps it.
    pub const KEEP: Self =
        Self { version: Version::V5, clean: false, expiry: LONG, will: None, retains: false, narrow: None };
}

/// All keepers, and what is known of their connections.
#[derive(Default)]
pub struct Keepers {
    pub all: BTreeMap<Arc<str>, Keeper>,
    pub conns: BTreeMap<SockId, Conn>,
    /// Messages whose publisher's session died in mid-handshake: they may come twice.
    pub repeatable: BTreeSet<MsgId>,
    /// Of which session of a keeper a message is.
    pub lanes: BTreeMap<MsgId, (Arc<str>, u64)>,
    /// Wills on their way to be accepted, by who publishes them.
    pub firing: BTreeMap<(NodeLife, u64), MsgId>,
    wills: u64,
}

/// One client.
#[derive(Default)]
pub struct Keeper {
    /// Its newest connection.
    pub current: Option<SockId>,
    /// Its publishes without a last answer, in their order.
    pub out: Vec<Sent>,
    /// Identifiers of QoS 2 that it got and that were not released.
    pub received: BTreeMap<PacketId, MsgId>,
    next_id: u16,
    subscribing: BTreeMap<PacketId, Vec<(String, QoS)>>,
    /// The last SUBSCRIBE that names a filter: answers may overtake each other, the server performs them in their order.
    newest: BTreeMap<String, PacketId>,
    pub subs: Vec<KeptSub>,
    /// What the application got.
    pub got: BTreeSet<MsgId>,
    /// Which lives hold its queue, or what names its place.
    pub homes: BTreeSet<NodeLife>,
    /// Its home died, and it was not served since.
    pub gap: bool,
    /// Identifiers may be used again before they were released.
    pub forgetful: bool,
    /// When its state went to another worker.
    pub moves: Vec<Duration>,
    /// How many sessions it had.
    pub session: u64,
    /// Since its last CONNACK it has a session for sure, which is kept for so many seconds.
    pub sure: Option<u32>,
}

/// A publish of a keeper.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: PacketId,
    pub msg: MsgId,
    pub qos: QoS,
    /// PUBREC came.
    pub released: bool,
}

/// A subscription of a session.
pub struct KeptSub {
    pub filter: String,
    pub qos: QoS,
    /// From when on nothing may be missing; `None` while its home is dead.
    pub since: Option<Duration>,
}

/// A connection of a keeper.
pub struct Conn {
    pub terms: Terms,
    pub client: Arc<str>,
    pub will: Option<MsgId>,
    /// When its CONNACK reached the client, and whether that said that a session was present.
    pub acked: Option<(Duration, bool)>,
    /// DISCONNECT was sent.
    pub goodbye: bool,
    /// When the server took it.
    pub taken_leave: Option<Duration>,
    /// The server ended it.
    pub told: bool,
    /// When the cluster ended the life where it was served, which that node may hear later.
    pub lost: Option<Duration>,
    /// Where it was when it was served.
    pub life: Option<NodeLife>,
    /// What became of it is not known: its node died before it can have told.
    pub unsure: bool,
    /// When its will was published, and when all had accepted it.
    pub fired: Vec<Duration>,
    pub accepted: Option<Duration>,
}

impl Keepers {
    pub fn is(&self, id: SockId) -> bool {
        self.conns.contains_key(&id)
    }

    pub fn of(&mut self, id: SockId) -> Option<&mut Keeper> {
        self.all.get_mut(&self.conns.get(&id)?.client)
    }
}

impl Keeper {
    fn take_id(&mut self) -> PacketId {
        self.next_id = self.next_id % 60_000 + 1;
        PacketId::new(self.next_id).expect("not zero")
    }
}

impl World {
    // ---- what it does ----

    /// Connects a keeper; whatever connection it had is gone for it.
    pub fn connect_keeper(&mut self, client: &str, node: NodeId, terms: Terms) -> SockId {
        let client: Arc<str> = client.into();
        if let Some(old) = self.keepers.all.get(&client).and_then(|it| it.current) {
            self.vanish(old);
        }
        let will = terms.will.map(|_| {
            self.keepers.wills += 1;
            WILLS + self.keepers.wills
        });
        let mut connect = Connect::new(terms.version, &*client);
        connect.clean_start = terms.clean;
        if terms.version == Version::V5 {
            connect.properties.session_expiry = Some(terms.expiry);
            connect.properties.receive_maximum = terms.narrow.and_then(NonZeroU16::new);
        }
        connect.will = terms.will.zip(will).map(|((qos, delay), msg)| Will {
            qos,
            retain: terms.retains,
            topic: format!("will/{client}"),
            payload: Bytes::copy_from_slice(&msg.to_be_bytes()),
            delay: Some(delay),
            properties: Default::default(),
        });
        let id = self.dial(connect, node, &format!("{client}-0"), terms.narrow.is_some());
        if let Some(sock) = self.socks.get_mut(id) {
            sock.shares = KEPT_MEMBERS.contains(&&*client);
        }
        if let Some((msg, (qos, _))) = will.zip(terms.will) {
            let will = Msg::new(id, &format!("will/{client}"), qos, Duration::MAX);
            let retain = if terms.retains { Retain::Stays } else { Retain::No };
            self.oracle.wills.insert(msg, Msg { retain, ..will });
        }
        let conn = Conn {
            terms,
            client: client.clone(),
            will,
            acked: None,
            goodbye: false,
            taken_leave: None,
            told: false,
            lost: None,
            life: None,
            unsure: false,
            fired: Vec::new(),
            accepted: None,
        };
        self.keepers.conns.insert(id, conn);
        let keeper = self.keepers.all.entry(client).or_default();
        keeper.current = Some(id);
        keeper.subscribing.clear();
        keeper.newest.clear();
        let lasts = if terms.version == Version::V311 { LONG } else { terms.expiry };
        // It may take effect without a word of it coming back.
        keeper.sure = keeper.sure.map(|sure| sure.min(lasts)).filter(|sure| *sure > 0 && !terms.clean);
        self.note(|| format!("client: connection {id} is with {terms:?}, will {will:?}"));
        id
    }

    pub fn keeper_subscribes(&mut self, id: SockId, filters: &[(&str, QoS)], group: Option<GroupNo>) {
        let Some(keeper) = self.keepers.of(id) else { return };
        let packet_id = keeper.take_id();
        // From here on it is not known what holds.
        keeper.subs.retain(|sub| !filters.iter().any(|(filter, _)| sub.filter == *filter));
        keeper.newest.extend(filters.iter().map(|(filter, _)| ((*filter).to_owned(), packet_id)));
        keeper.subscribing.insert(packet_id, filters.iter().map(|(f, q)| ((*f).to_owned(), *q)).collect());
        self.note(|| format!("client: connection {id} subscribes with {packet_id} to {filters:?}"));
        let filters = filters.iter().map(|(filter, qos)| SubscribeFilter::new(*filter, *qos)).collect();
        let subscribe = Subscribe { packet_id, filters, subscription_id: group, user_properties: Vec::new() };
        self.send_packet(id, &Packet::Subscribe(subscribe));
    }

    pub fn keeper_unsubscribes(&mut self, id: SockId, filter: &str) {
        let Some(keeper) = self.keepers.of(id) else { return };
        keeper.subs.retain(|sub| sub.filter != filter);
        keeper.newest.remove(filter);
        let packet_id = keeper.take_id();
        let unsubscribe = Unsubscribe { packet_id, filters: vec![filter.into()], user_properties: Vec::new() };
        self.send_packet(id, &Packet::Unsubscribe(unsubscribe));
    }

    pub fn keeper_publishes(&mut self, id: SockId, topic: &str, qos: QoS) -> MsgId {
        let msg = self.oracle_published(id, topic, qos);
        self.keeper_sends(id, msg);
        msg
    }

    /// Sends a message for the first time.
    pub fn keeper_sends(&mut self, id: SockId, msg: MsgId) {
        let (client, qos) = (self.socks.get(id).client.clone(), self.oracle.msg(msg).qos);
        let Some(keeper) = self.keepers.of(id) else { return };
        let lane = (client, keeper.session);
        let packet_id = (qos != QoS::AtMostOnce).then(|| keeper.take_id());
        if let Some(packet_id) = packet_id {
            keeper.out.push(Sent { id: packet_id, msg, qos, released: false });
            self.keepers.lanes.insert(msg, lane);
        }
        self.send_message(id, msg, packet_id, false);
    }

    fn send_message(&mut self, id: SockId, msg: MsgId, packet_id: Option<PacketId>, dup: bool) {
        let Msg { topic, qos, retain, expiry, .. } = self.oracle.msg(msg).clone();
        let payload = if retain == Retain::Deletes { Bytes::new() } else { Bytes::copy_from_slice(&msg.to_be_bytes()) };
        let properties = MessageProperties { message_expiry: expiry, ..MessageProperties::default() };
        let retain = retain != Retain::No;
        let publish = Publish { dup, topic, qos, packet_id, payload, retain, properties, ..Publish::default() };
        self.send_packet(id, &Packet::Publish(Box::new(publish)));
    }

    fn keeper_answers(&mut self, id: SockId, packet: fn(Ack) -> Packet, packet_id: PacketId) {
        self.send_packet(id, &packet(Ack::new(packet_id, ReasonCode::SUCCESS)));
    }

    // ---- what it hears ----

    pub fn keeper_hears(&mut self, id: SockId, packet: Packet) {
        match packet {
            Packet::Connack(connack) => self.on_kept_connack(id, &connack),
            Packet::Suback(suback) => {
                let now = self.now;
                let Some(keeper) = self.keepers.of(id) else { return };
                let filters = keeper.subscribing.remove(&suback.packet_id).unwrap_or_default();
                for ((filter, qos), reason) in filters.into_iter().zip(suback.reasons) {
                    if keeper.newest.get(&filter) == Some(&suback.packet_id) {
                        keeper.subs.retain(|sub| sub.filter != filter);
                        let granted = KeptSub { filter: filter.clone(), qos, since: Some(now) };
                        keeper.subs.extend((!reason.is_error()).then_some(granted));
                    }
                    if let Some(sock) = self.socks.get_mut(id) {
                        sock.subacks.insert(filter, reason);
                    }
                }
                self.note(|| format!("client: connection {id} got suback {}", suback.packet_id));
            }
            Packet::Publish(publish) => self.on_kept_message(id, &publish),
            Packet::Pubrel(ack) => {
                if let Some(keeper) = self.keepers.of(id) {
                    keeper.received.remove(&ack.packet_id);
                }
                self.keeper_answers(id, Packet::Pubcomp, ack.packet_id);
            }
            Packet::Puback(ack) => self.on_kept_answer(id, &ack),
            Packet::Pubrec(ack) => {
                self.on_kept_answer(id, &ack);
                if !ack.reason.is_error() {
                    self.keeper_answers(id, Packet::Pubrel, ack.packet_id);
                }
            }
            Packet::Pubcomp(ack) => {
                if let Some(keeper) = self.keepers.of(id) {
                    keeper.out.retain(|sent| sent.id != ack.packet_id);
                }
            }
            Packet::Disconnect(disconnect) => {
                if let Some(sock) = self.socks.get_mut(id) {
                    sock.told = Some(disconnect.reason);
                }
                self.note(|| format!("client: connection {id} gets disconnect {}", disconnect.reason));
            }
            Packet::Unsuback(_) | Packet::Pingresp => {}
            other => self.broken(format!("connection {id} got {other:?}")),
        }
    }

    fn on_kept_connack(&mut self, id: SockId, connack: &Connack) {
        let (now, present) = (self.now, connack.session_present);
        let admitted = connack.reason == ReasonCode::SUCCESS;
        let Some(sock) = self.socks.get_mut(id) else { return };
        sock.phase = if admitted { Phase::Up } else { Phase::Refused(connack.reason) };
        self.note(|| format!("client: connection {id} gets connack {}, present {present}", connack.reason));
        if !admitted {
            return;
        }
        self.session_present_check(id, present);
        let sure = self.session_is_sure(id);
        let Some(conn) = self.keepers.conns.get_mut(&id) else { return };
        conn.acked = Some((now, present));
        let expiry = if conn.terms.version == Version::V311 {
            if conn.terms.clean { 0 } else { LONG }
        } else {
            conn.terms.expiry
        };
        let client = conn.client.clone();
        let Keepers { all, repeatable, .. } = &mut self.keepers;
        let Some(keeper) = all.get_mut(&client) else { return };
        keeper.sure = (expiry > 0).then_some(expiry);
        if !present {
            keeper.session += 1;
            keeper.subs.clear();
            keeper.out.clear();
            keeper.received.clear();
        }
        if present && !sure {
            // It may be another one, of a connection that the client heard nothing of.
            keeper.session += 1;
            keeper.subs.clear();
            keeper.forgetful = true;
            repeatable.extend(keeper.out.iter().map(|sent| sent.msg));
        }
        if std::mem::take(&mut keeper.gap) {
            // What the dead home knew of identifiers may be nowhere: the next ones may be the same.
            keeper.forgetful = true;
            keeper.subs.iter_mut().for_each(|sub| sub.since = Some(now));
        }
        for Sent { id: packet_id, msg, released, .. } in keeper.out.clone() {
            if released {
                self.keeper_answers(id, Packet::Pubrel, packet_id);
                continue;
            }
            if let Some(it) = self.oracle.msg_mut(msg) {
                (it.tries, it.last) = (it.tries + 1, id);
            }
            self.send_message(id, msg, Some(packet_id), true);
        }
    }

    fn on_kept_answer(&mut self, id: SockId, ack: &Ack) {
        let Some(keeper) = self.keepers.of(id) else { return };
        let Some(at) = keeper.out.iter().position(|sent| sent.id == ack.packet_id) else { return };
        let sent = &mut keeper.out[at];
        let (msg, first) = (sent.msg, !std::mem::replace(&mut sent.released, true));
        if sent.qos == QoS::AtLeastOnce || ack.reason.is_error() {
            keeper.out.remove(at);
        }
        if first {
            self.oracle_answered(msg, ack.reason);
        }
    }

    fn keeper_acknowledges(&mut self, id: SockId, publish: &Publish) {
        match publish.packet_id.filter(|_| !self.socks.get(id).mute) {
            Some(packet_id) if publish.qos == QoS::AtLeastOnce => self.keeper_answers(id, Packet::Puback, packet_id),
            Some(packet_id) => self.keeper_answers(id, Packet::Pubrec, packet_id),
            None => {}
        }
    }

    fn on_kept_message(&mut self, id: SockId, publish: &Publish) {
        // What was retained comes whenever somebody subscribes.
        let Some(msg) = msg_of(&publish.payload).filter(|_| !publish.retain) else {
            return self.keeper_acknowledges(id, publish);
        };
        self.note(|| {
            format!("client: connection {id} hears {msg} at {:?} {:?} {}", publish.qos, publish.packet_id, publish.dup)
        });
        let qos_2 = publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce);
        let Some(packet_id) = qos_2 else {
            self.keeper_gets(id, msg, publish);
            return self.keeper_acknowledges(id, publish);
        };
        let Some(keeper) = self.keepers.of(id) else { return };
        match keeper.received.insert(packet_id, msg) {
            None => self.keeper_gets(id, msg, publish),
            Some(known) if known == msg => {}
            Some(_) if keeper.forgetful => self.keeper_gets(id, msg, publish),
            Some(known) => self.broken(format!("P6: {packet_id} is of message {known}, and comes with {msg}")),
        }
        self.keeper_acknowledges(id, publish);
    }

    fn keeper_gets(&mut self, id: SockId, msg: MsgId, publish: &Publish) {
        // What its session gets as a member of a group is no copy for itself.
        if !publish.subscription_ids.is_empty() {
            return;
        }
        self.p06_check(id, msg, publish.qos, publish.dup);
        if let Some(keeper) = self.keepers.of(id) {
            keeper.got.insert(msg);
        }
        if let Some(sock) = self.socks.get_mut(id) {
            sock.got.push(msg);
        }
    }
}
