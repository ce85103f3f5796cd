//! Packets of a server, taken apart. Written from the standards, not from the product's codec: whatever they forbid a
//! server to send is an error here, so that each case checks it of each packet.

use crate::props::{Kind, numbered};

/// A packet: its name, and its fields in the order of the wire. Numbers are written out, texts and data are as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub name: &'static str,
    pub fields: Vec<(&'static str, Vec<u8>)>,
    /// Bytes on the wire.
    pub size: usize,
}

impl Packet {
    /// The values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(field, _)| *field == name).map(|(_, value)| &value[..]).collect()
    }

    /// A field that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        std::str::from_utf8(self.all(name).first()?).ok()?.parse().ok()
    }

    /// The names of the properties that it has.
    pub fn properties(&self) -> Vec<&'static str> {
        self.fields.iter().map(|(name, _)| *name).filter(|name| crate::props::named(name).is_some()).collect()
    }
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name)?;
        for (name, value) in &self.fields {
            let text = String::from_utf8_lossy(value);
            let short: String = text.chars().take(60).collect();
            write!(f, " {name}={short:?}")?;
        }
        Ok(())
    }
}

const NAMES: [&str; 16] = [
    "reserved",
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
];

/// The reason codes that a server may send, version 5 (§2.4 and the packets' own tables).
fn codes(name: &str) -> &'static [u8] {
    match name {
        "connack" => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a,
            0x9b, 0x9c, 0x9d, 0x9f,
        ],
        "puback" | "pubrec" => &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        "pubrel" | "pubcomp" => &[0x00, 0x92],
        "suback" => &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2],
        "unsuback" => &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91],
        "disconnect" => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
            0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
        ],
        "auth" => &[0x00, 0x18],
        _ => &[],
    }
}

type Result<T> = std::result::Result<T, String>;

/// A variable byte integer at the front; none when bytes are missing (§1.5.5).
fn varint(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut value = 0;
    for at in 0..4 {
        let Some(byte) = bytes.get(at) else { return Ok(None) };
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            if *byte == 0 && at > 0 {
                return Err("a variable byte integer is not in its shortest form".into());
            }
            return Ok(Some((value, at + 1)));
        }
    }
    Err("a variable byte integer of more than four bytes".into())
}

/// The first packet of `bytes` and its size; none when it is not complete.
pub fn decode(version: u8, bytes: &[u8]) -> Result<Option<(Packet, usize)>> {
    let Some((length, taken)) = varint(bytes.get(1..).unwrap_or(&[]))? else { return Ok(None) };
    let size = 1 + taken + length;
    let Some(body) = bytes.get(1 + taken..size) else { return Ok(None) };
    let first = bytes[0];
    let name = NAMES[usize::from(first >> 4)];
    let mut reader = Reader { name, version, rest: body, fields: Vec::new() };
    reader.packet(first).map_err(|why| format!("the server sent a bad {name}: {why}: {:02x?}", &bytes[..size]))?;
    Ok(Some((Packet { name, fields: reader.fields, size }, size)))
}

struct Reader<'a> {
    name: &'static str,
    version: u8,
    rest: &'a [u8],
    fields: Vec<(&'static str, Vec<u8>)>,
}

impl<'a> Reader<'a> {
    fn packet(&mut self, first: u8) -> Result<()> {
        let flags = first & 0x0f;
        let wanted = if self.name == "pubrel" { 2 } else { 0 };
        if self.name != "publish" && flags != wanted {
            return Err(format!("the flags are {flags:04b}"));
        }
        match self.name {
            "connack" => self.connack()?,
            "publish" => return self.publish(flags),
            "puback" | "pubrec" | "pubrel" | "pubcomp" => self.acknowledgement()?,
            "suback" | "unsuback" => self.reasons()?,
            "pingresp" => {}
            "disconnect" | "auth" if self.version == 5 => self.coded()?,
            _ => return Err("it is not a server's to send".into()),
        }
        if self.rest.is_empty() { Ok(()) } else { Err("bytes follow its last field".into()) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (front, rest) = self.rest.split_at_checked(length).ok_or("a field is cut short")?;
        self.rest = rest;
        Ok(front)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn two(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn four(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn binary(&mut self) -> Result<&'a [u8]> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<&'a [u8]> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| "a string is not utf-8")?;
        if text.contains('\0') {
            return Err("a string has u+0000".into());
        }
        Ok(bytes)
    }

    fn put(&mut self, name: &'static str, value: impl ToString) {
        self.fields.push((name, value.to_string().into_bytes()));
    }

    fn identifier(&mut self) -> Result<()> {
        let id = self.two()?;
        if id == 0 {
            return Err("packet identifier 0".into());
        }
        self.put("id", id);
        Ok(())
    }

    fn code(&mut self) -> Result<u8> {
        let code = self.byte()?;
        if !codes(self.name).contains(&code) {
            return Err(format!("reason code {code:#04x} is not one of its own"));
        }
        Ok(code)
    }

    fn properties(&mut self) -> Result<()> {
        let (length, taken) = varint(self.rest)?.ok_or("the property length is missing")?;
        self.take(taken)?;
        let after = self.rest.get(length..).ok_or("the property length reaches beyond the packet")?;
        while self.rest.len() > after.len() {
            let id = self.byte()?;
            let property = numbered(id).ok_or_else(|| format!("there is no property {id:#04x}"))?;
            if !property.from_server.contains(&self.name) {
                return Err(format!("property {} does not belong there", property.name));
            }
            let repeats = property.name == "user" || property.name == "subid";
            if !repeats && self.fields.iter().any(|(name, _)| *name == property.name) {
                return Err(format!("property {} is there twice", property.name));
            }
            self.property(property.name, property.kind)?;
        }
        if self.rest.len() == after.len() { Ok(()) } else { Err("a property runs over the property length".into()) }
    }

    fn property(&mut self, name: &'static str, kind: Kind) -> Result<()> {
        match kind {
            Kind::Byte => {
                let value = self.byte()?;
                if value > 1 {
                    return Err(format!("property {name} is {value}"));
                }
                self.put(name, value);
            }
            Kind::Two => {
                let value = self.two()?;
                if value == 0 && matches!(name, "alias" | "receive_maximum") {
                    return Err(format!("property {name} is 0"));
                }
                self.put(name, value);
            }
            Kind::Four => {
                let value = self.four()?;
                if value == 0 && name == "maximum_packet" {
                    return Err(format!("property {name} is 0"));
                }
                self.put(name, value);
            }
            Kind::Varint => {
                let (value, taken) = varint(self.rest)?.ok_or("a property is cut short")?;
                self.take(taken)?;
                if value == 0 {
                    return Err(format!("property {name} is 0"));
                }
                self.put(name, value);
            }
            Kind::Text => {
                let text = self.text()?.to_vec();
                self.fields.push((name, text));
            }
            Kind::Binary => {
                let data = self.binary()?.to_vec();
                self.fields.push((name, data));
            }
            Kind::Pair => {
                let pair = [self.text()?, b":", self.text()?].concat();
                self.fields.push((name, pair));
            }
        }
        Ok(())
    }

    fn connack(&mut self) -> Result<()> {
        let flags = self.byte()?;
        if flags & 0xfe != 0 {
            return Err("reserved bits of the acknowledge flags are set".into());
        }
        let code = if self.version == 5 { self.code()? } else { self.byte()? };
        if self.version != 5 && code > 5 {
            return Err(format!("return code {code} is reserved"));
        }
        if code != 0 && flags != 0 {
            return Err("a refusal says that a session is present".into());
        }
        self.put("session", flags);
        self.put("code", code);
        if self.version == 5 { self.properties() } else { Ok(()) }
    }

    fn publish(&mut self, flags: u8) -> Result<()> {
        let (dup, qos, retain) = (flags >> 3, flags >> 1 & 3, flags & 1);
        if qos == 3 {
            return Err("qos 3".into());
        }
        if qos == 0 && dup == 1 {
            return Err("dup with qos 0".into());
        }
        self.put("dup", dup);
        self.put("qos", qos);
        self.put("retain", retain);
        let topic = self.text()?;
        if topic.iter().any(|byte| matches!(byte, b'+' | b'#')) {
            return Err("a wildcard in a topic name".into());
        }
        self.fields.push(("topic", topic.to_vec()));
        if qos > 0 {
            self.identifier()?;
        }
        if self.version == 5 {
            self.properties()?;
        }
        if topic.is_empty() && !self.fields.iter().any(|(name, _)| *name == "alias") {
            return Err("an empty topic name".into());
        }
        let payload = self.rest.to_vec();
        self.fields.push(("payload", payload));
        Ok(())
    }

    fn acknowledgement(&mut self) -> Result<()> {
        self.identifier()?;
        if self.version != 5 {
            return Ok(());
        }
        let code = if self.rest.is_empty() { 0 } else { self.code()? };
        self.put("code", code);
        if self.rest.is_empty() { Ok(()) } else { self.properties() }
    }

    fn reasons(&mut self) -> Result<()> {
        self.identifier()?;
        if self.version == 5 {
            self.properties()?;
        }
        let all: Vec<String> = self.rest.iter().map(u8::to_string).collect();
        let known = |code: &u8| match (self.version, self.name) {
            (5, name) => codes(name).contains(code),
            (_, "suback") => matches!(code, 0 | 1 | 2 | 0x80),
            _ => false,
        };
        if let Some(strange) = self.rest.iter().find(|code| !known(code)) {
            return Err(format!("code {strange:#04x} is not one of its own"));
        }
        self.rest = &[];
        self.put("codes", all.join(","));
        Ok(())
    }

    fn coded(&mut self) -> Result<()> {
        let code = if self.rest.is_empty() { 0 } else { self.code()? };
        self.put("code", code);
        if self.rest.is_empty() { Ok(()) } else { self.properties() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(version: u8, bytes: &[u8]) -> String {
        match decode(version, bytes) {
            Ok(Some((packet, size))) => {
                assert_eq!(size, bytes.len());
                packet.to_string()
            }
            Ok(None) => "incomplete".into(),
            Err(why) => why,
        }
    }

    #[test]
    fn takes_packets_apart() {
        assert_eq!(shown(4, b"\x20\x02\x01\x00"), r#"connack session="1" code="0""#);
        assert_eq!(
            shown(5, b"\x20\x06\x00\x00\x03\x21\x00\x09"),
            r#"connack session="0" code="0" receive_maximum="9""#
        );
        let publish = shown(5, b"\x32\x0b\x00\x01a\x00\x07\x02\x0b\x05xyz");
        assert_eq!(publish, r#"publish dup="0" qos="1" retain="0" topic="a" id="7" subid="5" payload="xyz""#);
        assert_eq!(shown(5, b"\x90\x04\x00\x01\x00"), "incomplete");
    }

    #[test]
    fn refuses_what_a_server_may_not_send() {
        for (version, bytes, why) in [
            (5, &b"\x20\x03\x02\x00\x00"[..], "acknowledge flags"),
            (5, b"\x20\x03\x00\x8e\x00", "0x8e"),
            (4, b"\x20\x02\x01\x05", "a session is present"),
            (5, b"\x38\x05\x00\x01a\x00x", "dup with qos 0"),
            (5, b"\x30\x05\x00\x01#\x00x", "a wildcard"),
            (5, b"\x32\x05\x00\x01a\x00\x00\x00", "identifier 0"),
            (5, b"\xe0\x07\x00\x05\x11\x00\x00\x00\x00", "does not belong"),
            (4, b"\xe0\x00", "not a server's"),
            (5, b"\x31\x80\x00", "shortest"),
            (4, b"\x90\x03\x00\x01\x87", "0x87"),
            (4, b"\xd1\x00", "flags"),
        ] {
            assert!(shown(version, bytes).contains(why), "{bytes:02x?}: {}", shown(version, bytes));
        }
    }
}
