//! One client's protocol state: what MQTT says about a connection once it is admitted. PURE.
//!
//! The core calls, in this order: [`connect::check`] on a CONNECT whose sender is authenticated, then
//! [`Session::new`] and [`connect::connack`]; from then on `on_X` methods for packets that came in and `deliver`
//! for messages that go out. What must be sent is appended to an [`Outbound`]; an [`Ending`] ends the connection.

mod ack;
mod alias;
pub mod allow;
pub mod connect;
mod deliver;
mod group;
mod keepalive;
mod message;
mod outbound;
mod park;
mod publish;
mod rate;
mod reason;
mod receipt;
mod settings;
mod share;
mod window;

use std::collections::BTreeSet;

use rookery_cluster::clock::Moment;
use rookery_cluster::ids::ClientId;

pub use ack::PendingAcks;
pub use deliver::{Capacity, Delivery, Dropped};
pub use group::GroupDelivery;
pub use message::{Mark, Message};
pub use outbound::{Outbound, SHARE_FROM};
pub use park::BadSession;
pub use publish::Incoming;
pub use rate::Rates;
pub use reason::Ending;
pub use settings::{Settings, UserNameRule, WillPolicy};
pub use share::Undelivered;

use self::alias::{InboundAliases, OutboundAliases};
use self::keepalive::KeepAlive;
use self::window::SendWindow;
use crate::mqtt::codec::{Connect, PacketId, ReasonCode, Version};

/// The state of one admitted client.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub client: ClientId,
    /// Version of its connection.
    pub version: Version,
    /// Its publishes whose acknowledgement waits for others, in the order of arrival.
    pub acks: PendingAcks,
    /// Whether reason strings and user properties may be sent outside CONNACK, DISCONNECT and PUBLISH
    /// (MQTT 5 §3.1.2.11.7).
    pub wants_problem_information: bool,
    receive_maximum: u16,
    aliases: InboundAliases,
    aliases_out: OutboundAliases,
    /// Publishes of QoS 2 whose PUBREL has not come; as many as there are identifiers at most.
    received: BTreeSet<PacketId>,
    window: SendWindow,
    keep_alive: KeepAlive,
}

impl Session {
    /// The session that `connect` opens.
    pub fn new(client: ClientId, connect: &Connect, settings: &Settings, now: Moment) -> Self {
        let mut window = SendWindow::new(connect, settings);
        window.keeps = connect::session_expiry(connect, settings) > 0;
        Self {
            client,
            version: connect.version,
            acks: PendingAcks::default(),
            wants_problem_information: connect.properties.request_problem_information.unwrap_or(true),
            receive_maximum: settings.receive_maximum,
            aliases: InboundAliases::new(settings.topic_alias_maximum),
            aliases_out: OutboundAliases::new(connect),
            received: BTreeSet::new(),
            window,
            keep_alive: KeepAlive::new(connect::keep_alive(connect, settings), now),
        }
    }

    /// Checks that the answer to a SUBSCRIBE or UNSUBSCRIBE of this many filters may be sent.
    ///
    /// # Errors
    /// 0x95: it would be larger than the client takes, and nothing of it may be left out.
    pub fn check_answer(&self, filters: usize) -> Result<(), Ending> {
        if self.window.takes_codes(filters) {
            return Ok(());
        }
        Err(Ending::with(ReasonCode::PACKET_TOO_LARGE, "the answer is larger than the client takes"))
    }

    /// The largest packet that the client takes, bytes.
    pub fn max_packet(&self) -> usize {
        self.window.max_packet
    }

    /// A packet came in.
    pub fn heard(&mut self, now: Moment) {
        self.keep_alive.heard(now);
    }

    /// Whether one and a half keep-alive intervals passed without a packet (MQTT 5 §3.1.2.10).
    pub fn silent_too_long(&self, now: Moment) -> bool {
        self.keep_alive.expired(now)
    }
}
