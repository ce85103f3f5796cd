//! Model clients. A connection here is both of its ends: the client, which speaks real bytes, and the server's
//! socket, which a worker reads and writes. Several connections of one client ID may exist, as in life.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rookery::broker::core::{ConnKey, Transport};
use rookery::mqtt::codec::{
    Ack, Connect, Disconnect, Packet, PacketId, Publish, QoS, ReasonCode, Sender, Subscribe, SubscribeFilter,
    Unsubscribe, Version, decode, encode, split,
};
use rookery_cluster::clock::Moment;
use rookery_cluster::ids::{NodeId, NodeLife};

use crate::keeper::WILLS;
use crate::node::worker::Mail;
use crate::oracle::MsgId;
use crate::world::World;

pub type SockId = u64;

/// How a connection looks to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Up,
    /// CONNACK with that reason.
    Refused(ReasonCode),
    Closed,
}

pub struct Sock {
    pub client: Arc<str>,
    pub jti: String,
    pub version: Version,
    /// Small enough that messages wait in its queue.
    pub narrow: bool,
    // ---- the server's end ----
    pub life: Option<NodeLife>,
    pub worker: u16,
    pub key: Option<ConnKey>,
    pub unread: BytesMut,
    pub eof: bool,
    pub opened: Duration,
    /// When the server's end was gone.
    pub gone: Option<Duration>,
    /// The client's end takes nothing before this.
    pub blocked_until: Duration,
    pub write_due: bool,
    pub closing_since: Option<Moment>,
    /// What of the waiting output was looked at.
    pub parsed: usize,
    /// CONNACK with success was written.
    pub served: bool,
    /// DISCONNECT 0x8E was written, and not yet sent.
    pub owes_8e: Option<Moment>,
    last: [Duration; 2],
    // ---- the client's end ----
    pub phase: Phase,
    /// The reason of the server's DISCONNECT.
    pub told: Option<ReasonCode>,
    inbox: BytesMut,
    next_id: u16,
    pub subscribing: BTreeMap<PacketId, Vec<String>>,
    /// Its publishes without an answer.
    pub unanswered: BTreeMap<PacketId, MsgId>,
    /// What SUBACKs said, by filter.
    pub subacks: BTreeMap<String, ReasonCode>,
    pub got: Vec<MsgId>,
    /// It acknowledges nothing.
    pub mute: bool,
    /// It is or was a member of shared subscriptions; what the core has read of it is looked at here.
    pub shares: bool,
    pub heard: BytesMut,
    /// What it acknowledged, if the core has come to that.
    pub acknowledging: Vec<u16>,
}

/// All connections.
#[derive(Default)]
pub struct Links {
    all: BTreeMap<SockId, Sock>,
}

impl Links {
    pub fn get_mut(&mut self, id: SockId) -> Option<&mut Sock> {
        self.all.get_mut(&id)
    }

    pub fn get(&self, id: SockId) -> &Sock {
        &self.all[&id]
    }

    pub fn iter(&self) -> impl Iterator<Item = (SockId, &Sock)> {
        self.all.iter().map(|(id, sock)| (*id, sock))
    }

    pub fn ids(&self, which: impl Fn(&Sock) -> bool) -> Vec<SockId> {
        self.all.iter().filter(|(_, sock)| which(sock)).map(|(id, _)| *id).collect()
    }

    pub fn of(&self, client: &str) -> Vec<SockId> {
        self.ids(|sock| &*sock.client == client)
    }
}

impl Sock {
    fn new(client: &str, version: Version, jti: String) -> Self {
        Self {
            client: client.into(),
            jti,
            version,
            narrow: false,
            life: None,
            worker: 0,
            key: None,
            unread: BytesMut::new(),
            eof: false,
            opened: Duration::ZERO,
            gone: None,
            blocked_until: Duration::ZERO,
            write_due: false,
            closing_since: None,
            parsed: 0,
            served: false,
            owes_8e: None,
            last: [Duration::ZERO; 2],
            phase: Phase::Connecting,
            told: None,
            inbox: BytesMut::new(),
            next_id: 0,
            subscribing: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            subacks: BTreeMap::new(),
            got: Vec::new(),
            mute: false,
            shares: false,
            heard: BytesMut::new(),
            acknowledging: Vec::new(),
        }
    }

    pub fn up(&self) -> bool {
        self.phase == Phase::Up
    }

    pub fn take_id(&mut self) -> PacketId {
        self.next_id = self.next_id % 60_000 + 1;
        PacketId::new(self.next_id).expect("not zero")
    }
}

impl World {
    // ---- what a client does ----

    pub fn connect(&mut self, client: &str, node: NodeId) -> SockId {
        self.connect_as(client, node, Version::V5, client, None)
    }

    /// Connects with the token `jti`; `narrow`: a Receive Maximum.
    pub fn connect_as(
        &mut self,
        client: &str,
        node: NodeId,
        version: Version,
        jti: &str,
        narrow: Option<u16>,
    ) -> SockId {
        let mut connect = Connect::new(version, client);
        if version == Version::V5 {
            connect.properties.receive_maximum = narrow.and_then(std::num::NonZeroU16::new);
        }
        self.dial(connect, node, jti, narrow.is_some())
    }

    /// Sends `connect` with the token `jti` over a new connection to `node`.
    pub fn dial(&mut self, mut connect: Connect, node: NodeId, jti: &str, narrow: bool) -> SockId {
        let id = self.socks.all.len() as SockId + 1;
        let mut sock = Sock::new(&connect.client_id, connect.version, jti.into());
        (sock.narrow, sock.opened) = (narrow, self.now);
        self.note(|| format!("client {}: connects to node {node} ({id})", connect.client_id));
        self.socks.all.insert(id, sock);
        connect.user_name = Some("token".into());
        connect.password = Some(Bytes::copy_from_slice(jti.as_bytes()));
        let arrives = self.rng.micros(100, 2000);
        self.after(arrives, move |w| w.accept(id, node));
        self.send_packet(id, &Packet::Connect(Box::new(connect)));
        id
    }

    pub fn subscribe(&mut self, id: SockId, filters: &[(&str, QoS)]) {
        if self.keepers.is(id) {
            return self.keeper_subscribes(id, filters, None);
        }
        filters.iter().for_each(|(filter, _)| self.p09_asked(id, filter));
        let Some(sock) = self.sock(id) else { return };
        let packet_id = sock.take_id();
        let owned: Vec<String> = filters.iter().map(|(f, _)| (*f).to_owned()).collect();
        sock.subscribing.insert(packet_id, owned);
        let filters = filters.iter().map(|(filter, qos)| SubscribeFilter::new(*filter, *qos)).collect();
        let subscribe = Subscribe { packet_id, filters, subscription_id: None, user_properties: Vec::new() };
        self.send_packet(id, &Packet::Subscribe(subscribe));
    }

    pub fn unsubscribe(&mut self, id: SockId, filter: &str) {
        if self.keepers.is(id) {
            return self.keeper_unsubscribes(id, filter);
        }
        self.oracle_unsubscribed(id, filter);
        self.p09_unasked(id, filter);
        self.shared_left(id, filter);
        let Some(sock) = self.sock(id) else { return };
        // A SUBACK still to come is of a subscription that this ends.
        let waiting = sock.subscribing.values_mut().flatten();
        waiting.filter(|it| *it == filter).for_each(String::clear);
        let packet_id = sock.take_id();
        let unsubscribe = Unsubscribe { packet_id, filters: vec![filter.into()], user_properties: Vec::new() };
        self.send_packet(id, &Packet::Unsubscribe(unsubscribe));
    }

    pub fn publish(&mut self, id: SockId, topic: &str, qos: QoS) -> MsgId {
        if self.keepers.is(id) {
            return self.keeper_publishes(id, topic, qos);
        }
        self.publish_sized(id, topic, qos, 8)
    }

    /// A publish with a payload of so many bytes, at least eight.
    pub fn publish_sized(&mut self, id: SockId, topic: &str, qos: QoS, size: usize) -> MsgId {
        let msg = self.oracle_published(id, topic, qos);
        let Some(sock) = self.sock(id) else { return msg };
        let packet_id = (qos != QoS::AtMostOnce).then(|| sock.take_id());
        if let Some(packet_id) = packet_id {
            sock.unanswered.insert(packet_id, msg);
        }
        let mut payload = msg.to_be_bytes().to_vec();
        payload.resize(size, 0);
        let publish = Publish { topic: topic.into(), qos, packet_id, payload: payload.into(), ..Publish::default() };
        self.send_packet(id, &Packet::Publish(Box::new(publish)));
        msg
    }

    /// Says goodbye.
    pub fn disconnect(&mut self, id: SockId) {
        if let Some(conn) = self.keepers.conns.get_mut(&id) {
            conn.goodbye = true;
        }
        self.send_packet(id, &Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)));
        self.hang_up(id);
    }

    /// Closes the socket.
    pub fn hang_up(&mut self, id: SockId) {
        self.vanish(id);
        self.send_bytes(id, None);
    }

    /// The client's end is closed; the server hears nothing of it.
    pub fn vanish(&mut self, id: SockId) {
        if let Some(sock) = self.sock(id)
            && matches!(sock.phase, Phase::Connecting | Phase::Up)
        {
            sock.phase = Phase::Closed;
            self.note(|| format!("client: connection {id} closed at its end"));
        }
    }

    pub fn send_packet(&mut self, id: SockId, packet: &Packet) {
        let Some(sock) = self.sock(id) else { return };
        let mut bytes = BytesMut::new();
        encode(packet, sock.version, &mut bytes).expect("a packet that encodes");
        self.send_bytes(id, Some(bytes.freeze()));
    }

    // ---- the wire ----

    fn send_bytes(&mut self, id: SockId, bytes: Option<Bytes>) {
        let at = self.arrival(id, 0);
        self.after(at, move |w| {
            let Some(sock) = w.sock(id) else { return };
            match bytes {
                Some(bytes) => sock.unread.extend_from_slice(&bytes),
                None => sock.eof = true,
            }
            if let Some(life) = sock.life {
                let worker = sock.worker;
                w.turn_soon(life, worker);
            }
        });
    }

    /// When what is sent now arrives: in order.
    fn arrival(&mut self, id: SockId, way: usize) -> Duration {
        let (delay, now) = (self.rng.micros(50, 1500), self.now);
        let Some(sock) = self.sock(id) else { return delay };
        sock.last[way] = sock.last[way].max(now + delay);
        sock.last[way] - now
    }

    /// Bytes (or the end) on their way to the client.
    pub fn send_back(&mut self, id: SockId, bytes: Option<Bytes>) {
        let at = self.arrival(id, 1);
        self.after(at, move |w| match bytes {
            Some(bytes) => w.on_bytes(id, &bytes),
            None => w.vanish(id),
        });
    }

    /// The socket comes to a node, which hands it to a worker if it serves.
    fn accept(&mut self, id: SockId, node: NodeId) {
        let worker = self.rng.below(u64::from(self.cfg.workers)) as u16;
        let it = self.node(node);
        let life = it.broker.as_ref().map(|b| b.life).filter(|_| it.up);
        let Some(life) = life else { return self.send_back(id, None) };
        let Some(sock) = self.sock(id) else { return };
        (sock.life, sock.worker) = (Some(life), worker);
        self.post(life, worker, Mail::Adopt(id));
    }

    /// The worker takes the socket over.
    pub fn adopt(&mut self, life: NodeLife, worker: u16, id: SockId) {
        let now = self.local(life.node);
        let Some(it) = self.worker(life, worker) else { return };
        let key = it.core.open(now, ([127, 0, 0, 1], 1).into(), None, Transport::Tcp);
        it.socks.insert(key, id);
        if let Some(sock) = self.sock(id) {
            sock.key = Some(key);
        }
    }

    /// The node is gone: its clients hear of it, sooner or later.
    pub fn drop_socks_of(&mut self, node: NodeId) {
        for id in self.socks.ids(|sock| sock.life.is_some_and(|l| l.node == node)) {
            let now = self.now;
            if let Some(sock) = self.sock(id) {
                (sock.life, sock.key, sock.gone) = (None, None, Some(now));
            }
            let notice = self.rng.millis(0, 800);
            self.after(notice, move |w| w.vanish(id));
        }
    }

    // ---- what a client hears ----

    fn on_bytes(&mut self, id: SockId, bytes: &[u8]) {
        let Some(sock) = self.sock(id).filter(|s| s.phase != Phase::Closed) else { return };
        sock.inbox.extend_from_slice(bytes);
        let mut inbox = std::mem::take(&mut sock.inbox);
        let version = sock.version;
        while let Some(frame) = split(&inbox, usize::MAX).expect("frames that are well formed") {
            let taken = inbox.split_to(frame.total);
            let packet = decode(Some(version), Sender::Server, frame.first_byte, frame.body(&taken));
            self.on_packet(id, packet.expect("packets that decode"));
        }
        if let Some(sock) = self.sock(id) {
            sock.inbox = inbox;
        }
    }

    fn on_packet(&mut self, id: SockId, packet: Packet) {
        if self.keepers.is(id) {
            return self.keeper_hears(id, packet);
        }
        let Some(sock) = self.sock(id).filter(|s| s.phase != Phase::Closed) else { return };
        match packet {
            Packet::Connack(connack) => {
                let admitted = connack.reason == ReasonCode::SUCCESS;
                sock.phase = if admitted { Phase::Up } else { Phase::Refused(connack.reason) };
                let reason = connack.reason;
                self.note(|| format!("client: connection {id} gets connack {reason}"));
            }
            Packet::Suback(suback) => {
                let filters = sock.subscribing.remove(&suback.packet_id).unwrap_or_default();
                for (filter, reason) in filters.into_iter().zip(suback.reasons) {
                    self.on_suback(id, filter, reason);
                }
            }
            Packet::Publish(publish) => self.on_message(id, &publish),
            Packet::Puback(ack) => {
                if let Some(msg) = sock.unanswered.remove(&ack.packet_id) {
                    self.oracle_answered(msg, ack.reason);
                } else {
                    self.broken(format!("connection {id} got a puback for nothing"));
                }
            }
            Packet::Disconnect(disconnect) => {
                sock.told = Some(disconnect.reason);
                let reason = disconnect.reason;
                self.note(|| format!("client: connection {id} gets disconnect {reason}"));
            }
            Packet::Unsuback(_) | Packet::Pingresp => {}
            other => self.broken(format!("connection {id} got {other:?}")),
        }
    }

    fn on_suback(&mut self, id: SockId, filter: String, reason: ReasonCode) {
        if let Some(sock) = self.sock(id) {
            sock.subacks.insert(filter.clone(), reason);
        }
        if !reason.is_error() && !filter.is_empty() && !self.shared_joined(id, &filter) {
            self.oracle_subscribed(id, filter);
        }
    }

    fn on_message(&mut self, id: SockId, publish: &Publish) {
        if let Some(msg) = msg_of(&publish.payload) {
            if let Some(sock) = self.sock(id) {
                sock.got.push(msg);
            }
            // What was retained comes whenever somebody subscribes, what another member left when that one goes.
            let as_published = !publish.retain && publish.subscription_ids.is_empty();
            if as_published && (self.keepers.lanes.contains_key(&msg) || msg >= WILLS) {
                self.p06_check(id, msg, publish.qos, publish.dup);
            } else if as_published {
                self.p07_check(id, msg, publish.qos);
            }
        }
        if let Some(packet_id) = publish.packet_id
            && !self.socks.get(id).mute
        {
            self.send_packet(id, &Packet::Puback(Ack::new(packet_id, ReasonCode::SUCCESS)));
        }
    }
}

/// Which message a payload is of; nothing if it deletes what is retained.
pub fn msg_of(payload: &[u8]) -> Option<MsgId> {
    payload.first_chunk().map(|bytes| MsgId::from_be_bytes(*bytes))
}
