//! A worker's core with its surroundings, and in it a client whose messages must go on coming.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rookery::broker::core::{Admitted, ConnKey, Core, Effect, Fetched, Input, Retaining, Settings, Transport, View};
use rookery::mqtt::codec::{
    Connect, Packet, PacketId, Publish, QoS, ReasonCode, Sender, Subscribe, SubscribeFilter, Version, decode, encode,
    split,
};
use rookery_cluster::clock::{Moment, UnixMillis};
use rookery_cluster::handle::{ClaimEvent, Replicas, SessionAsked, SessionGrant};
use rookery_cluster::ids::{BrokerId, Epoch, Incarnation, NodeId, NodeLife, SessionId, WorkerId};
use rookery_cluster::retained::{Came, Full, Record, Stamp, Table, Time};
use rookery_cluster::topics::Acl;

use super::ensure;

/// The broker of all clients.
pub const BROKER: BrokerId = BrokerId(9);
/// What the canary publishes to, and is subscribed to.
const CANARY: &str = "canary/sings";
/// Rounds of effects and answers that one input may lead to; more is a circle.
const MAX_ROUNDS: usize = 10_000;

/// The core and all that answers it.
pub struct World {
    core: Core,
    now: Moment,
    epoch: u64,
    canary: ConnKey,
    songs: u64,
    /// What a connection's claim brings, see [`World::grant_next`].
    next_grant: Option<(SessionGrant, Fetched)>,
    fetched: Option<Fetched>,
    /// What was answered last to who asked for a session.
    answered: Option<Fetched>,
    others_got: usize,
    /// What is retained, if anything may be.
    retained: Table,
    /// What was sent to others that is no MQTT.
    fault: Option<String>,
}

/// Keeps nothing, and is full.
#[derive(Debug)]
struct Keeper;

impl Retaining for Keeper {
    fn replicas(&self) -> Arc<Replicas> {
        Arc::default()
    }

    fn time(&self) -> Time {
        Time(9)
    }

    fn admit(&self, _: BrokerId, _: &str, _: Option<usize>) -> Result<(Time, UnixMillis), Full> {
        Err(Full)
    }
}

struct Sight;

impl View for Sight {
    fn serving_until(&self) -> Moment {
        Moment(Duration::from_secs(1 << 30))
    }
    fn elsewhere(&self, _: Transport) -> Option<String> {
        None
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(1_000_000)
    }
    fn admits(&self, _: &Admitted) -> Result<(), ReasonCode> {
        Ok(())
    }
}

/// A packet's bytes.
pub fn bytes_of(packet: &Packet, version: Version) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode(packet, version, &mut bytes).expect("a packet of our own encodes");
    bytes.to_vec()
}

/// A CONNECT's bytes.
pub fn connect_bytes(version: Version, client: &str) -> Vec<u8> {
    bytes_of(&Packet::Connect(Box::new(Connect::new(version, client))), version)
}

impl World {
    /// A core with the canary.
    pub fn new() -> Result<Self, String> {
        let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
        let core = Core::new(WorkerId(0), life, 7);
        let canary = ConnKey { index: u32::MAX, generation: 0 };
        let now = Moment(Duration::from_secs(1));
        let mut world = Self {
            core,
            now,
            epoch: 0,
            canary,
            songs: 0,
            next_grant: None,
            fetched: None,
            answered: None,
            others_got: 0,
            retained: Table::default(),
            fault: None,
        };
        world.step(Input::InterestComplete)?;
        world.canary = world.open();
        world.read(world.canary, &connect_bytes(Version::V5, "canary"))?;
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).ok_or("1 is no identifier")?,
            filters: vec![SubscribeFilter::new(CANARY, QoS::AtMostOnce)],
            subscription_id: None,
            user_properties: Vec::new(),
        };
        world.read(world.canary, &bytes_of(&Packet::Subscribe(subscribe), Version::V5))?;
        world.sings()?;
        Ok(world)
    }

    /// A new connection.
    pub fn open(&mut self) -> ConnKey {
        self.core.open(self.now, ([127, 0, 0, 1], 9).into(), None, Transport::Tcp)
    }

    /// The next claim that is granted brings this session, which is then fetched as `state`.
    pub fn grant_next(&mut self, session: SessionGrant, state: Fetched) {
        self.next_grant = Some((session, state));
    }

    /// From now on `message` is retained under the topic `t/1`, as another node or the disk has it.
    pub fn keeps(&mut self, message: Bytes) -> Result<(), String> {
        self.core.retain(Arc::new(Keeper));
        let stamp = Stamp { time: Time(7), node: NodeId(2) };
        let record = Record { stamp, expires: None, message: Some(message) };
        self.retained.merge(self.now, BROKER, "t/1", record, Came::Copied);
        self.step(Input::RetainedInStep)?;
        self.step(Input::RetainedComplete)
    }

    /// What a worker that asks for the session `id` of the client `other` gets.
    pub fn ask(&mut self, id: u64) -> Result<Option<Fetched>, String> {
        let client = Arc::from("other");
        let asked = SessionAsked { broker: BROKER, client, session: SessionId(id), take: true, epoch: Epoch(u64::MAX) };
        self.step(Input::Asked { ticket: 1, asked: &asked })?;
        Ok(self.answered.take())
    }

    /// How much the canary got since it last sang, but for what it sings itself.
    #[cfg(test)]
    pub fn overheard(&mut self) -> Result<usize, String> {
        Ok(self.heard()?.len())
    }

    /// Publishes sent to all but the canary.
    pub fn others_got(&self) -> usize {
        self.others_got
    }

    /// Bytes of a client, if it is read from.
    pub fn read(&mut self, conn: ConnKey, bytes: &[u8]) -> Result<(), String> {
        if self.core.wants_read(conn) {
            self.step(Input::Read { conn, bytes })?;
        }
        Ok(())
    }

    /// Time passes.
    pub fn wait(&mut self, millis: u64) -> Result<(), String> {
        self.now = self.now + Duration::from_millis(millis);
        self.step(Input::Tick)
    }

    /// One input, and everything that follows from it.
    pub fn step(&mut self, input: Input<'_>) -> Result<(), String> {
        let mut effects = Vec::new();
        self.core.step(self.now, input, &Sight, &mut effects);
        for _ in 0..MAX_ROUNDS {
            let mut next = Vec::new();
            effects.drain(..).for_each(|effect| self.answer(effect, &mut next));
            if self.core.has_batches() {
                self.core.flush(self.now, &mut next);
            }
            self.write_all(None);
            if next.is_empty() && !self.core.has_batches() {
                return self.fault.take().map_or(Ok(()), Err);
            }
            effects = next;
        }
        Err("effects and answers without end".to_owned())
    }

    fn answer(&mut self, effect: Effect, out: &mut Vec<Effect>) {
        let input = match effect {
            Effect::Authenticate { conn, request } => {
                let client = if request.client_id == "canary" { "canary" } else { "other" };
                Input::Authenticated { conn, result: Ok(admitted(client)) }
            }
            Effect::Claim(claim) => {
                self.epoch += 1;
                let grant = self.next_grant.take();
                let session = grant.as_ref().map(|(session, _)| *session).or_else(|| {
                    (claim.session_expiry > 0).then_some(SessionGrant {
                        id: SessionId(self.epoch),
                        present: false,
                        home: None,
                    })
                });
                self.fetched = grant.map(|(_, state)| state);
                let (broker, client, nonce, epoch) = (claim.broker, claim.client, claim.nonce, Epoch(self.epoch));
                Input::Claim(ClaimEvent::Granted { broker, client, nonce, epoch, session })
            }
            Effect::Persist { nonce, token, .. } => Input::Claim(ClaimEvent::Persisted { nonce, token, stored: true }),
            Effect::Recall { nonce, .. } => {
                Input::Claim(ClaimEvent::Recalled { nonce, subscriptions: Some(Vec::new()) })
            }
            Effect::Fetch { conn, asked, .. } => {
                let described = Fetched::Described(vec![(Arc::from("t/#"), 2)]);
                let reply = if asked.take { self.fetched.take().unwrap_or(Fetched::Gone) } else { described };
                Input::Fetched { conn, reply }
            }
            Effect::Answer { reply, .. } => {
                self.answered = Some(reply);
                return;
            }
            Effect::ReadRetained { conn, broker, filter, after, most } => {
                let page = self.retained.page(broker, &filter, after, Sight.wall(), most);
                self.core.step(self.now, Input::Retained { conn, filter: &filter, page }, &Sight, out);
                return;
            }
            Effect::Subscribe { token, .. } => Input::Barrier { token, seen: true },
            Effect::Send { to, batch } => Input::Accepted { from: to, through: batch.seq },
            Effect::Close { conn } => {
                self.write_all(Some(conn));
                Input::Closed { conn }
            }
            _ => return,
        };
        self.core.step(self.now, input, &Sight, out);
    }

    /// Takes what waits for the sockets, but for the canary's, and of `closing` as well.
    fn write_all(&mut self, closing: Option<ConnKey>) {
        let mut dirty = Vec::new();
        self.core.take_dirty(&mut dirty);
        dirty.extend(closing);
        dirty.retain(|conn| *conn != self.canary);
        for conn in dirty {
            while let Some(bytes) = self.core.outbound(conn).map(|out| out.take()).filter(|bytes| !bytes.is_empty()) {
                self.sent(&bytes);
                self.core.drained(self.now, conn);
            }
        }
    }

    /// Whole packets, one behind the other.
    fn sent(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Ok(Some(frame)) = split(bytes, usize::MAX) else {
                self.fault = Some(format!("sent to a client: {bytes:02x?}"));
                return;
            };
            self.others_got += usize::from(frame.is_publish());
            bytes = &bytes[frame.total..];
        }
    }

    /// What was sent to the canary since the last call.
    fn heard(&mut self) -> Result<Vec<Packet>, String> {
        let mut all = Vec::new();
        loop {
            let bytes = self.core.outbound(self.canary).ok_or("the canary is gone")?.take();
            if bytes.is_empty() {
                return Ok(all);
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let frame = split(rest, usize::MAX).map_err(|why| format!("sent to the canary: {why}"))?;
                let frame = frame.ok_or("sent to the canary: half a packet")?;
                let packet = decode(Some(Version::V5), Sender::Server, frame.first_byte, frame.body(rest));
                all.push(packet.map_err(|why| format!("sent to the canary: {why}"))?);
                rest = &rest[frame.total..];
            }
            self.core.drained(self.now, self.canary);
        }
    }

    /// The canary publishes, and must hear it.
    ///
    /// # Errors
    /// It does not, or is not sent MQTT.
    pub fn sings(&mut self) -> Result<(), String> {
        self.heard()?;
        self.songs += 1;
        let song = format!("song {}", self.songs);
        let publish = Publish { topic: CANARY.into(), payload: song.clone().into(), ..Publish::default() };
        ensure(self.core.wants_read(self.canary), || "the canary is not read from".to_owned())?;
        self.read(self.canary, &bytes_of(&Packet::Publish(Box::new(publish)), Version::V5))?;
        let heard = self.heard()?;
        let own = |packet: &Packet| matches!(packet, Packet::Publish(p) if p.payload == song.as_bytes());
        ensure(heard.iter().any(own), || {
            format!("the canary did not hear {song:?} but {heard:?}, others {}", self.others_got())
        })
    }

    /// Ends a connection: only the canary's may be left.
    ///
    /// # Errors
    /// There are others.
    pub fn close(&mut self, conn: ConnKey) -> Result<(), String> {
        self.step(Input::Closed { conn })?;
        let left = self.core.connections();
        ensure(left == 1, || format!("{left} connections where only the canary's is open"))
    }
}

fn admitted(client: &str) -> Admitted {
    Admitted {
        broker: BROKER,
        client: client.into(),
        jti: format!("jti-{client}").into(),
        kid: "k".into(),
        expires: None,
        acl: Arc::new(Acl::all()),
        settings: Arc::new(Settings::default()),
    }
}
