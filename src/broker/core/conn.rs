//! One connection: its phase and its buffers.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use rookery_cluster::clock::Moment;
use rookery_cluster::handle::Home;
use rookery_cluster::ids::{BrokerId, ClientId, Epoch, Nonce, SessionId};

use super::limits::Meter;
use super::retained::Reads;
use super::room::{DestIndex, Matches};
use super::{Admitted, ConnKey};
use crate::mqtt::codec::{Connect, ReasonCode};
use crate::mqtt::session::{Outbound, Session};

/// How the client is connected; for the log and for limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// MQTT over TCP.
    Tcp,
    /// MQTT over TLS.
    Tls,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
}

/// A connection of this worker.
#[derive(Debug)]
pub(super) struct Conn {
    pub key: ConnKey,
    pub from: SocketAddr,
    pub server_name: Option<Arc<str>>,
    pub transport: Transport,
    pub opened: Moment,
    /// The start of a packet, or packets that came while the connection waited.
    pub carry: BytesMut,
    pub out: Outbound,
    /// What of its buffers is in its broker's account.
    pub accounted: usize,
    /// Whether it stands in the core's list of connections with output.
    pub dirty: bool,
    /// A destination without credit that this connection publishes to (R10).
    pub blocked_on: Option<DestIndex>,
    /// The client said that it goes: it waits for nothing more.
    pub left: bool,
    /// Its claim goes back when it is flushed, or gone.
    pub releasing: Option<Nonce>,
    pub phase: Phase,
}

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing but a CONNECT may come.
    Greeting,
    /// The token is being checked.
    Authenticating(Box<Connect>),
    /// The claim on the client ID is asked for.
    Claiming(Box<Claiming>),
    /// The claim is granted; the session is being fetched from where it was kept.
    Importing(Box<Importing>),
    /// Serving.
    Active(Box<Active>),
    /// A session that waits for its next connection: there is no socket.
    Parked(Box<Active>),
    /// Flushing the last bytes.
    Closing,
}

#[derive(Debug)]
pub(super) struct Claiming {
    pub connect: Box<Connect>,
    pub admitted: Admitted,
    pub nonce: Nonce,
    pub since: Moment,
}

#[derive(Debug)]
pub(super) struct Importing {
    pub connect: Box<Connect>,
    /// What it will be. Its session queues what comes meanwhile.
    pub active: Box<Active>,
    /// Where the session is kept.
    pub home: Option<Home>,
    pub stage: Stage,
    pub since: Moment,
}

impl Importing {
    /// Whose session it is.
    pub fn place(&self) -> (BrokerId, ClientId) {
        (self.active.admitted.broker, self.active.admitted.client.clone())
    }
}

/// How far a session has come on its way here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its subscriptions are asked for where it is kept,
    Describing,
    /// or, if that is nowhere any more, of its shard.
    Recalling,
    /// They are held here, and that many barriers are open.
    Advertising(usize),
    /// Its state is asked for.
    Taking,
}

/// What outlives the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Durable {
    pub id: SessionId,
    /// For how long, seconds; 0 if the client does not want it any longer.
    pub expiry: u32,
}

/// Changes of a session's subscriptions on their way to its shard.
#[derive(Debug)]
pub(super) struct Persisting {
    pub token: u64,
    /// The packet whose answer waits for it.
    pub packet_id: crate::mqtt::codec::PacketId,
    /// What it asked for.
    pub filters: Vec<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Active {
    pub session: Session,
    pub admitted: Admitted,
    pub nonce: Nonce,
    pub epoch: Epoch,
    /// Index of the broker's room.
    pub room: usize,
    /// Its filters.
    pub filters: std::collections::BTreeSet<Arc<str>>,
    /// SUBACKs that wait for barriers, by packet identifier.
    pub subacks: Vec<PendingSuback>,
    /// The last topic published to and its matches: publishers repeat themselves.
    pub recent: Option<Recent>,
    /// The session, if its shard keeps it.
    pub durable: Option<Durable>,
    /// Changes of subscriptions that the shard has yet to store: their token, and the packet that waits for it.
    pub persisting: Option<Persisting>,
    /// Retained messages that its subscriptions have yet to bring.
    pub reads: Reads,
    /// Until when it is kept without a connection.
    pub parked_until: Option<Moment>,
    /// What is counted of it.
    pub meter: Meter,
}

impl Active {
    /// Whether it is the session `id`.
    pub fn is_session(&self, id: SessionId) -> bool {
        self.durable.is_some_and(|durable| durable.id == id)
    }
}

#[derive(Debug)]
pub(super) struct Recent {
    pub topic: Box<str>,
    pub generation: u64,
    pub matches: Rc<Matches>,
}

#[derive(Debug)]
pub(super) struct PendingSuback {
    pub packet_id: crate::mqtt::codec::PacketId,
    /// Whether it answers an UNSUBSCRIBE.
    pub unsubscribe: bool,
    /// One for each filter; final for those that nothing holds back.
    pub reasons: Vec<ReasonCode>,
    /// Filters that get retained messages after it, with their places.
    pub reads: Vec<(usize, Arc<str>)>,
    /// See `Active::told`, when it was asked for.
    pub told: usize,
    /// How many barriers, and the shard, have yet to answer.
    pub waiting: usize,
}

impl Conn {
    pub fn new(
        key: ConnKey,
        now: Moment,
        from: SocketAddr,
        server_name: Option<Arc<str>>,
        transport: Transport,
    ) -> Self {
        Self {
            key,
            from,
            server_name,
            transport,
            opened: now,
            carry: BytesMut::new(),
            out: Outbound::default(),
            accounted: 0,
            dirty: false,
            blocked_on: None,
            left: false,
            releasing: None,
            phase: Phase::Greeting,
        }
    }

    /// A session without a socket.
    pub fn parked(key: ConnKey, now: Moment, active: Box<Active>) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { phase: Phase::Parked(active), ..Self::new(key, now, nowhere, None, Transport::Tcp) }
    }

    /// Index of the room of the broker that it is served for.
    pub fn room(&self) -> Option<usize> {
        match &self.phase {
            Phase::Active(active) => Some(active.room),
            _ => None,
        }
    }

    /// See `Core::wants_read`.
    pub fn wants_read(&self, interest_complete: bool) -> bool {
        match &self.phase {
            Phase::Greeting => true,
            Phase::Active(active) => {
                let active_waits = active.session.paused() || active.persisting.is_some() || active.meter.waits;
                let waits = self.blocked_on.is_some() || active_waits;
                interest_complete && !waits && active.subacks.len() < PENDING_SUBACKS
            }
            Phase::Authenticating(_) | Phase::Claiming(_) | Phase::Importing(_) | Phase::Parked(_) | Phase::Closing => {
                false
            }
        }
    }

    /// Whether what it sends makes more to be sent than it reads: then it is read no further.
    pub fn drowns_in_replies(&self) -> bool {
        match &self.phase {
            Phase::Active(active) => self.out.len() >= active.admitted.settings.outbound_bytes + REPLY_BYTES,
            _ => false,
        }
    }

    /// Largest packet that may come in.
    pub fn max_packet(&self) -> usize {
        match &self.phase {
            Phase::Active(active) => active.admitted.settings.max_packet,
            _ => MAX_CONNECT,
        }
    }
}

/// SUBSCRIBEs of one connection that may wait for their barriers: each may name as many filters as fit into a packet.
pub(super) const PENDING_SUBACKS: usize = 8;
/// Bytes of answers that may wait for a client, above what waits of messages: a full turn of them.
const REPLY_BYTES: usize = 1 << 20;

/// Largest CONNECT, bytes: a token (4,096), a user name, a client ID and a will with a payload of 64 KiB.
pub(super) const MAX_CONNECT: usize = 128 << 10;
