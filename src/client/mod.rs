//! A small MQTT client for `rookery pub`, `rookery sub` and the tests: 3.1.1 and 5.0 over TCP, TLS, WebSocket and
//! WebSocket over TLS, all three QoS levels.
//!
//! One owner, no task of its own: whoever awaits a call drives the connection. [`Client::next`] answers pings and
//! acknowledges what it delivers, so a subscriber stays in it. Every call may be dropped half-way: no byte is lost
//! on the way in or out.

mod connection;
mod dial;
mod error;
mod options;
mod ws;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::mqtt::codec::{
    Ack, Connack, Connect, Disconnect, Packet, PacketId, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter,
    Unsubscribe, Version,
};

use connection::Connection;
pub use dial::system_authorities;
pub use error::ClientError;
pub use options::{Options, Scheme, ServerUrl, Trust};

/// A connected client.
pub struct Client {
    connection: Connection,
    version: Version,
    client_id: String,
    last_id: u16,
    /// Arrived while something else was awaited. Bounded by the server's sending, as a receive buffer is.
    waiting: VecDeque<Event>,
    /// QoS 2 messages received and not yet released.
    unreleased: BTreeSet<PacketId>,
}

/// What arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message. It is acknowledged already.
    Message(Box<Publish>),
    /// The publish with this packet identifier is done, well or (0x80 and up) not.
    Acked(PacketId, ReasonCode),
    /// Answer to SUBSCRIBE or UNSUBSCRIBE, a code for each filter.
    Answered(PacketId, Vec<ReasonCode>),
}

impl Client {
    /// Connects and waits for the CONNACK.
    ///
    /// # Errors
    /// Why there is no connection; a refusal carries its reason code.
    pub async fn connect(options: &Options) -> Result<(Self, Connack), ClientError> {
        tokio::time::timeout(options.timeout, Self::connect_unbounded(options))
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout { what: "connack", after: options.timeout }))
    }

    async fn connect_unbounded(options: &Options) -> Result<(Self, Connack), ClientError> {
        let stream = dial::dial(options).await?;
        let mut connection = Connection::new(stream, options.version, options.keep_alive);
        connection.send(&Packet::Connect(Box::new(connect_packet(options))))?;
        let connack = match connection.next().await? {
            Packet::Connack(connack) => *connack,
            other => return Err(ClientError::Unexpected { packet: other.packet_type() }),
        };
        if connack.reason.is_error() {
            let text = connack.properties.reason_string;
            return Err(ClientError::Refused { reason: connack.reason, text });
        }
        if let Some(seconds) = connack.properties.server_keep_alive {
            connection.keep_alive(Duration::from_secs(seconds.into()));
        }
        let client_id = connack.properties.assigned_client_id.clone().unwrap_or_else(|| options.client_id.clone());
        let client = Self {
            connection,
            version: options.version,
            client_id,
            last_id: 0,
            waiting: VecDeque::new(),
            unreleased: BTreeSet::new(),
        };
        Ok((client, connack))
    }

    /// The client ID: the one that was asked for, or the one that the server assigned.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Publishes, and waits until the server is done with it (QoS 0: until it is written).
    ///
    /// # Errors
    /// The connection ended, or the server refused the message.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: impl Into<Bytes>,
        qos: QoS,
        retain: bool,
    ) -> Result<ReasonCode, ClientError> {
        let message = Publish { retain, ..message(topic, payload.into(), qos) };
        let Some(id) = self.start_publish(message)? else {
            self.connection.flush().await?;
            return Ok(ReasonCode::SUCCESS);
        };
        let is_mine = |event: &Event| matches!(event, Event::Acked(acked, _) if *acked == id);
        match self.wait_for(is_mine).await? {
            Event::Acked(_, reason) if reason.is_error() => Err(ClientError::Failed { what: "publish", reason }),
            Event::Acked(_, reason) => Ok(reason),
            _ => Ok(ReasonCode::SUCCESS),
        }
    }

    /// Queues a publish for sending with the next call that waits; its [`Event::Acked`] comes from
    /// [`Client::next`]. Returns the packet identifier that it was given (QoS 0: none). Keeping count of what
    /// the server allows to be in flight is the caller's.
    ///
    /// # Errors
    /// The message cannot be encoded.
    pub fn start_publish(&mut self, mut message: Publish) -> Result<Option<PacketId>, ClientError> {
        message.packet_id = (message.qos != QoS::AtMostOnce).then(|| self.fresh_id());
        let id = message.packet_id;
        self.connection.send(&Packet::Publish(Box::new(message)))?;
        Ok(id)
    }

    /// Subscribes, and waits for the SUBACK: a code for each filter, in order.
    ///
    /// # Errors
    /// The connection ended, or the server refused a filter.
    pub async fn subscribe(&mut self, filters: &[(&str, QoS)]) -> Result<Vec<ReasonCode>, ClientError> {
        let filters = filters.iter().map(|&(filter, qos)| SubscribeFilter::new(filter, qos)).collect();
        let packet_id = self.fresh_id();
        let packet = Subscribe { packet_id, filters, subscription_id: None, user_properties: Vec::new() };
        self.connection.send(&Packet::Subscribe(packet))?;
        self.answer(packet_id, "subscribe").await
    }

    /// Unsubscribes, and waits for the UNSUBACK: a code for each filter (3.1.1 has none).
    ///
    /// # Errors
    /// The connection ended, or the server refused a filter.
    pub async fn unsubscribe(&mut self, filters: &[&str]) -> Result<Vec<ReasonCode>, ClientError> {
        let packet_id = self.fresh_id();
        let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
        self.connection.send(&Packet::Unsubscribe(Unsubscribe { packet_id, filters, user_properties: Vec::new() }))?;
        self.answer(packet_id, "unsubscribe").await
    }

    /// What arrives next. Waits for ever on a quiet connection, sending pings.
    ///
    /// # Errors
    /// The connection ended: [`ClientError::Disconnected`] if the server said why.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        match self.waiting.pop_front() {
            Some(event) => Ok(event),
            None => self.receive().await,
        }
    }

    /// Sends PINGREQ now. The PINGRESP is consumed by whatever waits next.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn ping(&mut self) -> Result<(), ClientError> {
        self.connection.send(&Packet::Pingreq)?;
        self.connection.flush().await
    }

    /// Sends what is queued for sending.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        self.connection.flush().await
    }

    /// Ends the connection with a DISCONNECT.
    ///
    /// # Errors
    /// The connection had ended before.
    pub async fn disconnect(mut self) -> Result<(), ClientError> {
        self.connection.send(&Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)))?;
        self.connection.flush().await?;
        self.connection.shutdown().await
    }

    async fn answer(&mut self, id: PacketId, what: &'static str) -> Result<Vec<ReasonCode>, ClientError> {
        let is_mine = |event: &Event| matches!(event, Event::Answered(answered, _) if *answered == id);
        let Event::Answered(_, reasons) = self.wait_for(is_mine).await? else { return Ok(Vec::new()) };
        match reasons.iter().find(|reason| reason.is_error()) {
            Some(&reason) => Err(ClientError::Failed { what, reason }),
            None => Ok(reasons),
        }
    }

    async fn wait_for(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<Event, ClientError> {
        loop {
            let event = self.receive().await?;
            if wanted(&event) {
                return Ok(event);
            }
            self.waiting.push_back(event);
        }
    }

    async fn receive(&mut self) -> Result<Event, ClientError> {
        loop {
            let packet = self.connection.next().await?;
            if let Some(event) = self.on_packet(packet)? {
                return Ok(event);
            }
        }
    }

    fn on_packet(&mut self, packet: Packet) -> Result<Option<Event>, ClientError> {
        match packet {
            Packet::Publish(message) => self.on_publish(message),
            Packet::Puback(ack) | Packet::Pubcomp(ack) => Ok(Some(Event::Acked(ack.packet_id, ack.reason))),
            Packet::Pubrec(ack) if ack.reason.is_error() => Ok(Some(Event::Acked(ack.packet_id, ack.reason))),
            Packet::Pubrec(ack) => self.reply(Packet::Pubrel(Ack::new(ack.packet_id, ReasonCode::SUCCESS))),
            Packet::Pubrel(ack) => {
                self.unreleased.remove(&ack.packet_id);
                self.reply(Packet::Pubcomp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)))
            }
            Packet::Suback(answer) => Ok(Some(Event::Answered(answer.packet_id, answer.reasons))),
            Packet::Unsuback(answer) => Ok(Some(Event::Answered(answer.packet_id, answer.reasons))),
            Packet::Pingresp => Ok(None),
            Packet::Disconnect(end) => {
                Err(ClientError::Disconnected { reason: end.reason, text: end.properties.reason_string })
            }
            other => Err(ClientError::Unexpected { packet: other.packet_type() }),
        }
    }

    fn on_publish(&mut self, message: Box<Publish>) -> Result<Option<Event>, ClientError> {
        let ack = message.packet_id.map(|id| (id, Ack::new(id, ReasonCode::SUCCESS)));
        match (message.qos, ack) {
            (QoS::AtLeastOnce, Some((_, ack))) => self.connection.send(&Packet::Puback(ack))?,
            (QoS::ExactlyOnce, Some((id, ack))) => {
                self.connection.send(&Packet::Pubrec(ack))?;
                if !self.unreleased.insert(id) {
                    return Ok(None);
                }
            }
            _ => {}
        }
        Ok(Some(Event::Message(message)))
    }

    fn reply(&mut self, packet: Packet) -> Result<Option<Event>, ClientError> {
        self.connection.send(&packet)?;
        Ok(None)
    }

    /// The next packet identifier; after 65,535 it begins again.
    fn fresh_id(&mut self) -> PacketId {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.last_id).unwrap_or(PacketId::MIN)
    }

    /// The protocol version of the connection.
    pub fn version(&self) -> Version {
        self.version
    }
}

/// A PUBLISH without properties.
pub fn message(topic: &str, payload: impl Into<Bytes>, qos: QoS) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.to_owned(),
        packet_id: None,
        topic_alias: None,
        subscription_ids: Vec::new(),
        properties: Default::default(),
        payload: payload.into(),
    }
}

fn connect_packet(options: &Options) -> Connect {
    let mut connect = Connect::new(options.version, options.client_id.clone());
    connect.clean_start = options.clean_start;
    connect.keep_alive = u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX);
    connect.user_name = options.user_name.clone();
    connect.password = options.password.clone().map(Bytes::from);
    connect.will = options.will.clone();
    connect.properties.session_expiry = options.session_expiry;
    connect
}
