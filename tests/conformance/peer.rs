//! One connection of a case, and what is checked of every packet that comes on it, whatever the case is about.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::decode::{Packet, decode};
use crate::encode::Words;
use crate::script::Step;
use crate::socket::{Pieces, Socket};

/// A connection.
pub struct Peer {
    pub version: u8,
    pub socket: Option<Socket>,
    /// Packets that came while another was waited for.
    pub stash: VecDeque<Packet>,
    /// Bytes that wait to be sent with those after them.
    pub unsent: Vec<u8>,
    /// The CONNACK that is still to be looked at, when packets are coalesced.
    pub owed: Option<Step>,
    /// Whether the client said goodbye.
    pub said_goodbye: bool,
    watch: Watch,
}

/// What the client announced, and what it may rely on.
#[derive(Default)]
struct Watch {
    maximum_packet: Option<u64>,
    alias_maximum: u64,
    receive_maximum: Option<u64>,
    connacks: u32,
    disconnected: bool,
    /// Identifiers of the server's publishes that are not acknowledged.
    inflight: BTreeSet<u64>,
    aliases: BTreeMap<u64, Vec<u8>>,
}

impl Peer {
    /// A connection over `socket`.
    pub fn new(version: u8, socket: Socket) -> Self {
        Self {
            version,
            socket: Some(socket),
            stash: VecDeque::new(),
            unsent: Vec::new(),
            owed: None,
            said_goodbye: false,
            watch: Watch::default(),
        }
    }

    /// Notes what the client says.
    pub fn sends(&mut self, packet: &str, words: &Words) -> Result<(), String> {
        let watch = &mut self.watch;
        match packet {
            "connect" => {
                let given = |key| words.has(key).then(|| words.number(key, 0)).transpose();
                watch.maximum_packet = given("maximum_packet")?.filter(|most| *most > 0);
                watch.alias_maximum = words.number("alias_maximum", 0)?;
                watch.receive_maximum = given("receive_maximum")?;
            }
            "puback" | "pubcomp" => {
                watch.inflight.remove(&words.number("id", 0)?);
            }
            "pubrec" if words.number("code", 0)? >= 0x80 => {
                watch.inflight.remove(&words.number("id", 0)?);
            }
            "disconnect" => self.said_goodbye = true,
            _ => {}
        }
        Ok(())
    }

    /// Writes bytes.
    pub async fn write(&mut self, bytes: &[u8], pieces: Pieces) -> Result<(), String> {
        self.socket.as_mut().ok_or("there is no connection")?.send(bytes, pieces).await;
        Ok(())
    }

    /// The next packet; none when the server closed.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<Packet>, String> {
        if let Some(packet) = self.stash.pop_front() {
            return Ok(Some(packet));
        }
        loop {
            let socket = self.socket.as_mut().ok_or("there is no connection")?;
            if let Some((packet, size)) = decode(self.version, &socket.received)? {
                socket.received.drain(..size);
                return self.watch.check(self.version, packet).map(Some);
            }
            if socket.closed {
                let rest = &socket.received;
                return if rest.is_empty() { Ok(None) } else { Err(format!("closed within a packet: {rest:02x?}")) };
            }
            socket.read(patience).await?;
        }
    }
}

impl Watch {
    fn check(&mut self, version: u8, mut packet: Packet) -> Result<Packet, String> {
        let wrong = |why: &str| Err(format!("{why}: {packet}"));
        if self.disconnected {
            return wrong("a packet after a disconnect");
        }
        let connack = packet.name == "connack";
        self.connacks += u32::from(connack);
        if self.connacks == 0 && packet.name != "auth" {
            return wrong("a packet before the connack");
        }
        if self.connacks > 1 && connack {
            return wrong("a second connack");
        }
        if self.maximum_packet.is_some_and(|most| packet.size as u64 > most) {
            return wrong("a packet above the client's maximum packet size");
        }
        self.disconnected = packet.name == "disconnect";
        if packet.name != "publish" {
            return Ok(packet);
        }
        if let Some(id) = packet.number("id") {
            if !self.inflight.insert(id) {
                return wrong("an identifier that is in use");
            }
            if self.receive_maximum.is_some_and(|most| self.inflight.len() as u64 > most) {
                return wrong("more unacknowledged publishes than the client's receive maximum");
            }
        }
        if version == 5 {
            self.resolve_alias(&mut packet)?;
        }
        Ok(packet)
    }

    /// Writes the topic that an alias stands for into the packet.
    fn resolve_alias(&mut self, packet: &mut Packet) -> Result<(), String> {
        let Some(alias) = packet.number("alias") else { return Ok(()) };
        if alias > self.alias_maximum {
            return Err(format!("an alias above the client's maximum: {packet}"));
        }
        let shown = packet.to_string();
        let Some((_, topic)) = packet.fields.iter_mut().find(|(name, _)| *name == "topic") else { return Ok(()) };
        if topic.is_empty() {
            *topic = self.aliases.get(&alias).ok_or_else(|| format!("an alias that was never set: {shown}"))?.clone();
        } else {
            self.aliases.insert(alias, topic.clone());
        }
        Ok(())
    }
}
