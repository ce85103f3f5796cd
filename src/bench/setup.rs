//! Before the hot loop: connecting and subscribing, through the codec, with blocking sockets. Every step is sent on
//! all connections before the first answer is awaited, so that a server may work on them together.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::mqtt::codec::{
    Connack, Connect, MAX_PACKET, Packet, PacketId, QoS, ReasonCode, Sender, Subscribe, SubscribeFilter, Version,
    decode, encode, split,
};

use super::{BenchError, Credential};

/// How long a server may take for one answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Long enough for any run; a load needs no pings.
const KEEP_ALIVE_SECONDS: u16 = 3600;

/// A connection with a blocking socket.
pub(super) struct Link {
    pub(super) stream: TcpStream,
    pub(super) server: String,
    pub(super) client_id: String,
    pub(super) version: Version,
    input: BytesMut,
}

impl Link {
    /// Connects the socket and sends CONNECT.
    pub(super) fn open(server: &str, who: &Credential, version: Version) -> Result<Self, BenchError> {
        let refuse = |error| BenchError::Connect { server: server.to_owned(), error };
        let addresses = server.to_socket_addrs().map_err(refuse)?;
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address) {
                Ok(stream) => return Self::greet(stream, server, who, version).map_err(refuse),
                Err(error) => last = error,
            }
        }
        Err(refuse(last))
    }

    fn greet(stream: TcpStream, server: &str, who: &Credential, version: Version) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut connect = Connect::new(version, who.client_id.clone());
        connect.keep_alive = KEEP_ALIVE_SECONDS;
        if let Some(token) = &who.token {
            connect.user_name = Some(who.client_id.clone());
            connect.password = Some(Bytes::from(token.clone()));
        }
        let mut link = Self {
            stream,
            server: server.to_owned(),
            client_id: who.client_id.clone(),
            version,
            input: BytesMut::new(),
        };
        link.send(&Packet::Connect(Box::new(connect)))?;
        Ok(link)
    }

    /// Awaits the CONNACK.
    pub(super) fn welcome(&mut self) -> Result<Connack, BenchError> {
        match self.receive()? {
            Packet::Connack(connack) if connack.reason.is_error() => Err(self.refused("a connection", connack.reason)),
            Packet::Connack(connack) => Ok(*connack),
            other => Err(self.misplaced(&other)),
        }
    }

    /// Sends SUBSCRIBE.
    pub(super) fn subscribe(&mut self, filters: &[String], qos: QoS) -> Result<(), BenchError> {
        let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.as_str(), qos)).collect();
        let packet =
            Subscribe { packet_id: PacketId::MIN, filters, subscription_id: None, user_properties: Vec::new() };
        self.send(&Packet::Subscribe(packet)).map_err(|_| self.closed(None))
    }

    /// Awaits the SUBACK.
    pub(super) fn subscribed(&mut self) -> Result<(), BenchError> {
        match self.receive()? {
            Packet::Suback(answer) => match answer.reasons.iter().find(|reason| reason.is_error()) {
                Some(&reason) => Err(self.refused("a subscription", reason)),
                None => Ok(()),
            },
            other => Err(self.misplaced(&other)),
        }
    }

    /// The next packet; an error when the server closes, or is silent for 30 s.
    pub(super) fn receive(&mut self) -> Result<Packet, BenchError> {
        loop {
            if let Some(packet) = self.take()? {
                return Ok(packet);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(n) if n > 0 => self.input.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(self.protocol("no answer in time".into()));
                }
                _ => return Err(self.closed(None)),
            }
        }
    }

    fn take(&mut self) -> Result<Option<Packet>, BenchError> {
        let Some(frame) = split(&self.input, MAX_PACKET).map_err(|e| self.protocol(e.to_string()))? else {
            return Ok(None);
        };
        let bytes = self.input.split_to(frame.total);
        decode(Some(self.version), Sender::Server, frame.first_byte, frame.body(&bytes))
            .map(Some)
            .map_err(|e| self.protocol(e.to_string()))
    }

    pub(super) fn send(&mut self, packet: &Packet) -> std::io::Result<()> {
        let mut out = BytesMut::new();
        encode(packet, self.version, &mut out).map_err(std::io::Error::other)?;
        self.stream.write_all(&out)
    }

    /// What arrived and was not looked at yet.
    pub(super) fn rest(&self) -> Vec<u8> {
        self.input.to_vec()
    }

    pub(super) fn closed(&self, reason: Option<ReasonCode>) -> BenchError {
        BenchError::Closed { server: self.server.clone(), client: self.client_id.clone(), reason }
    }

    fn refused(&self, what: &'static str, reason: ReasonCode) -> BenchError {
        BenchError::Refused { server: self.server.clone(), what, reason }
    }

    fn protocol(&self, what: String) -> BenchError {
        BenchError::Protocol { server: self.server.clone(), what }
    }

    fn misplaced(&self, packet: &Packet) -> BenchError {
        match packet {
            Packet::Disconnect(end) => self.closed(Some(end.reason)),
            other => self.protocol(format!("{:?}", other.packet_type())),
        }
    }
}

/// Connects everybody; in the order given.
pub(super) fn connect_all(who: &[(String, Credential)], version: Version) -> Result<Vec<(Link, Connack)>, BenchError> {
    let opened: Result<Vec<Link>, _> = who.iter().map(|(server, who)| Link::open(server, who, version)).collect();
    opened?
        .into_iter()
        .map(|mut link| {
            let connack = link.welcome()?;
            Ok((link, connack))
        })
        .collect()
}

/// Subscribes each link to its filters.
pub(super) fn subscribe_all(links: &mut [(Link, Connack)], filters: &[&[String]], qos: QoS) -> Result<(), BenchError> {
    links.iter_mut().zip(filters).try_for_each(|((link, _), filter)| link.subscribe(filter, qos))?;
    links.iter_mut().take(filters.len()).try_for_each(|(link, _)| link.subscribed())
}
