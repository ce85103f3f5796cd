//! Every row of the pages "Limits" and "MQTT compatibility", from the stored record to the bytes that a client gets. Rows
//! that are not about one connection are tested where they are kept: namespaces, brokers and revocations in
//! `cluster::metadata`, the password in `auth`.

mod compatibility;
mod rights;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rookery_cluster::clock::{Moment, UnixMillis};
use rookery_cluster::handle::{ClaimEvent, SessionGrant};
use rookery_cluster::ids::{BrokerId, Epoch, Incarnation, NodeId, NodeLife, WorkerId};
use rookery_cluster::metadata::Preset;
use rookery_cluster::topics::Acl;

use super::*;
use crate::broker::core::{Admitted, ConnKey, Core, Effect, Input, Transport, View};
use crate::mqtt::codec::{
    Ack, Connack, Connect, Disconnect, Packet, PacketId, Publish, ReasonCode, Sender, Subscribe, SubscribeFilter,
    Version, decode, encode, split,
};

const B: BrokerId = BrokerId(9);

struct Sight;

impl View for Sight {
    fn serving_until(&self) -> Moment {
        Moment(Duration::from_secs(1 << 30))
    }
    fn elsewhere(&self, _: Transport) -> Option<String> {
        None
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(1)
    }
    fn admits(&self, _: &Admitted) -> Result<(), ReasonCode> {
        Ok(())
    }
}

/// A worker alone, and what its broker allows.
struct World {
    core: Core,
    now: Moment,
    limits: BrokerLimits,
    acl: Acl,
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

impl World {
    fn new(limits: BrokerLimits) -> Self {
        let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
        let core = Core::new(WorkerId(0), life, 7);
        let mut world = Self { core, now: Moment(Duration::from_secs(100)), limits, acl: Acl::all() };
        world.step(Input::InterestComplete);
        world
    }

    fn beta() -> Self {
        Self::new(BrokerLimits::of(Preset::Beta))
    }

    fn standard() -> Self {
        Self::new(BrokerLimits::of(Preset::Standard))
    }

    /// The standard preset with some limits changed.
    fn with(changes: &[(&str, u64)]) -> Self {
        let changes: Vec<_> = changes.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        Self::new(BrokerLimits::of(Preset::Standard).with(&changes).unwrap())
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Effect> {
        let mut out = Vec::new();
        self.core.step(self.now, input, &Sight, &mut out);
        for effect in &out {
            match *effect {
                Effect::Subscribe { token, .. } => drop(self.step(Input::Barrier { token, seen: true })),
                Effect::Persist { nonce, token, .. } => {
                    self.step(Input::Claim(ClaimEvent::Persisted { nonce, token, stored: true }));
                }
                _ => {}
            }
        }
        out
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.step(Input::Tick);
    }

    fn send(&mut self, conn: ConnKey, version: Version, packet: Packet) {
        let mut bytes = BytesMut::new();
        encode(&packet, version, &mut bytes).unwrap();
        self.step(Input::Read { conn, bytes: &bytes });
    }

    /// What the server sent since the last call, and whether it closed.
    fn got(&mut self, conn: ConnKey, version: Version) -> (Vec<Packet>, bool) {
        let bytes = self.core.outbound(conn).map(|out| out.take()).unwrap_or_default();
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        while let Some(frame) = split(rest, usize::MAX).unwrap() {
            let packet = decode(Some(version), Sender::Server, frame.first_byte, frame.body(rest)).unwrap();
            all.push(packet.unexplained());
            rest = &rest[frame.total..];
        }
        (all, self.core.closing(conn))
    }

    fn open(&mut self, connect: Connect) -> ConnKey {
        let conn = self.core.open(self.now, ([127, 0, 0, 1], 9).into(), None, Transport::Tls);
        self.send(conn, connect.version, Packet::Connect(Box::new(connect)));
        conn
    }

    fn authenticated(&mut self, conn: ConnKey, client: &str) -> Vec<Effect> {
        let admitted = Admitted {
            broker: B,
            client: client.into(),
            jti: "j".into(),
            kid: "k".into(),
            expires: None,
            acl: Arc::new(self.acl.clone()),
            settings: Arc::new(settings(&self.limits)),
        };
        self.step(Input::Authenticated { conn, result: Ok(admitted) })
    }

    /// Connects, with the token of `client`.
    fn connect_as(&mut self, client: &str, connect: Connect) -> (ConnKey, Connack) {
        self.connect_to(client, connect, None)
    }

    /// Connects to a session that outlives the connection.
    fn connect_to(&mut self, client: &str, connect: Connect, session: Option<SessionGrant>) -> (ConnKey, Connack) {
        let version = connect.version;
        let conn = self.open(connect);
        let effects = self.authenticated(conn, client);
        if let Some(Effect::Claim(claim)) = effects.into_iter().next() {
            let (client, nonce, epoch) = (claim.client, claim.nonce, Epoch(u64::from(conn.generation)));
            self.step(Input::Claim(ClaimEvent::Granted { broker: B, client, nonce, epoch, session }));
        }
        match self.got(conn, version).0.into_iter().next() {
            Some(Packet::Connack(connack)) => (conn, *connack),
            other => panic!("{other:?}"),
        }
    }

    fn connack(&mut self, connect: Connect) -> Connack {
        self.connect_as("c", connect).1
    }

    fn client(&mut self, version: Version, client: &str) -> ConnKey {
        let (conn, connack) = self.connect_as(client, Connect::new(version, client));
        assert_eq!(connack.reason, ReasonCode::SUCCESS);
        conn
    }

    fn v5(&mut self, client: &str) -> ConnKey {
        self.client(Version::V5, client)
    }

    /// What SUBACK says of one filter; `None` if there is none.
    fn subscribe(&mut self, conn: ConnKey, filter: &str, qos: QoS) -> Option<ReasonCode> {
        self.send(conn, Version::V5, subscribe(filter, qos, None));
        match &self.got(conn, Version::V5).0[..] {
            [Packet::Suback(suback)] => Some(suback.reasons[0]),
            _ => None,
        }
    }

    fn publish(&mut self, conn: ConnKey, version: Version, topic: &str, qos: QoS) {
        self.send(conn, version, publish(topic, qos));
    }

    /// The connection ended with this reason, and that was all.
    fn ended(&mut self, conn: ConnKey, reason: ReasonCode) {
        assert_eq!(self.got(conn, Version::V5), (vec![Packet::Disconnect(Disconnect::new(reason))], true));
    }

    /// The connection of a 3.1.1 client ended, without a word, as that version has none.
    fn closed(&mut self, conn: ConnKey) {
        assert_eq!(self.got(conn, Version::V311), (vec![], true));
    }
}

fn subscribe(filter: &str, qos: QoS, subscription_id: Option<u32>) -> Packet {
    let filters = vec![SubscribeFilter::new(filter, qos)];
    Packet::Subscribe(Subscribe { packet_id: id(1), filters, subscription_id, user_properties: Vec::new() })
}

fn message(topic: &str, qos: QoS) -> Publish {
    let packet_id = (qos != QoS::AtMostOnce).then(|| id(7));
    Publish { topic: topic.into(), qos, packet_id, payload: "x".into(), ..Publish::default() }
}

fn publish(topic: &str, qos: QoS) -> Packet {
    Packet::Publish(Box::new(message(topic, qos)))
}
