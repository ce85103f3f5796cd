//! Packets of a client, written as the words say, however wrong that is.

use crate::props::{Kind, named};
use crate::script::{Op, Value, Variables, Word, expand, hex, number};

type Result<T> = std::result::Result<T, String>;

/// A packet's words, looked up by name.
pub struct Words {
    all: Vec<(String, Option<Vec<u8>>)>,
}

impl Words {
    /// Expands `words`; `-` leaves a default out.
    pub fn new(words: &[Word], variables: &Variables) -> Result<Self> {
        let mut all = Vec::new();
        for word in words {
            match (word.op, expand(&word.value, variables)?) {
                (Op::Bare, _) => all.push((word.key.clone(), Some(b"1".to_vec()))),
                (Op::Is, Value::Bytes(bytes)) => all.push((word.key.clone(), Some(bytes))),
                (Op::Is, Value::Absent) => all.push((word.key.clone(), None)),
                _ => return Err(format!("{:?} cannot be sent", word.key)),
            }
        }
        Ok(Self { all })
    }

    /// Whether the word is there, if only as `-`.
    pub fn has(&self, key: &str) -> bool {
        self.all.iter().any(|(name, _)| name == key)
    }

    /// Its value.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.all.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.as_deref())
    }

    /// Its value as a number.
    pub fn number(&self, key: &str, default: u64) -> Result<u64> {
        self.bytes(key).map_or(Ok(default), number)
    }

    fn flag(&self, key: &str) -> Result<u8> {
        Ok(u8::from(self.number(key, 0)? != 0))
    }

    fn hex(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.bytes(key).map(|digits| hex(&String::from_utf8_lossy(digits))).transpose()
    }
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn two(value: u64) -> [u8; 2] {
    (value as u16).to_be_bytes()
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&two(bytes.len() as u64), bytes].concat()
}

/// The properties whose words begin with `prefix`, with their length before them.
fn properties(words: &Words, prefix: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (key, value) in &words.all {
        let name = match prefix {
            "" => key.as_str(),
            prefix => key.strip_prefix(prefix).unwrap_or(""),
        };
        let (Some(property), Some(value)) = (named(name), value) else { continue };
        out.push(property.id);
        match property.kind {
            Kind::Byte => out.push(number(value)? as u8),
            Kind::Two => out.extend(two(number(value)?)),
            Kind::Four => out.extend((number(value)? as u32).to_be_bytes()),
            Kind::Varint => out.extend(varint(number(value)? as usize)),
            Kind::Text | Kind::Binary => out.extend(field(value)),
            Kind::Pair => {
                let at = value.iter().position(|byte| *byte == b':').ok_or("a pair is name:value")?;
                out.extend(field(&value[..at]));
                out.extend(field(&value[at + 1..]));
            }
        }
    }
    Ok([varint(out.len()), out].concat())
}

/// The bytes of packet `name`.
pub fn encode(version: u8, name: &str, words: &Words) -> Result<Vec<u8>> {
    let (first, body) = match name {
        "raw" => {
            let digits: Vec<&str> = words.all.iter().map(|(key, _)| key.as_str()).collect();
            return hex(&digits.concat());
        }
        "connect" => (0x10, connect(version, words)?),
        "publish" => publish(version, words)?,
        "puback" => (0x40, acknowledgement(version, words)?),
        "pubrec" => (0x50, acknowledgement(version, words)?),
        "pubrel" => (0x62, acknowledgement(version, words)?),
        "pubcomp" => (0x70, acknowledgement(version, words)?),
        "subscribe" => (0x82, filters(version, words, true)?),
        "unsubscribe" => (0xa2, filters(version, words, false)?),
        "pingreq" => (0xc0, Vec::new()),
        "disconnect" => (0xe0, coded(words)?),
        "auth" => (0xf0, coded(words)?),
        _ => return Err(format!("there is no packet {name:?}")),
    };
    finish(first, body, words)
}

/// The fixed header, and what the words do to the packet as a whole.
fn finish(first: u8, mut body: Vec<u8>, words: &Words) -> Result<Vec<u8>> {
    let first = words.number("first", first.into())? as u8;
    body.extend(words.hex("append")?.unwrap_or_default());
    let cut = words.number("cut", 0)? as usize;
    body.truncate(body.len().saturating_sub(cut));
    let length = words.hex("length")?.unwrap_or_else(|| varint(body.len()));
    Ok([vec![first], length, body].concat())
}

fn connect(version: u8, words: &Words) -> Result<Vec<u8>> {
    let mut out = field(words.bytes("name").unwrap_or(b"MQTT"));
    out.push(words.number("level", version.into())? as u8);
    let will = words.has("will.topic");
    let mut flags = words.number("clean", 1)? << 1;
    if will {
        flags |= 1 << 2 | words.number("will.qos", 0)? << 3 | u64::from(words.flag("will.retain")?) << 5;
    }
    flags |= u64::from(words.bytes("password").is_some()) << 6;
    flags |= u64::from(words.bytes("username").is_some()) << 7;
    out.push(words.number("flags", flags)? as u8);
    out.extend(two(words.number("keepalive", 60)?));
    if version == 5 {
        out.extend(properties(words, "")?);
    }
    out.extend(field(words.bytes("id").unwrap_or_default()));
    if will {
        if version == 5 {
            out.extend(properties(words, "will.")?);
        }
        out.extend(field(words.bytes("will.topic").unwrap_or_default()));
        out.extend(field(words.bytes("will.payload").unwrap_or_default()));
    }
    for key in ["username", "password"] {
        out.extend(words.bytes(key).map(field).unwrap_or_default());
    }
    Ok(out)
}

fn publish(version: u8, words: &Words) -> Result<(u8, Vec<u8>)> {
    let qos = words.number("qos", 0)?;
    let first = 0x30 | words.flag("dup")? << 3 | (qos as u8) << 1 | words.flag("retain")?;
    let mut out = field(words.bytes("topic").unwrap_or_default());
    if words.has("id") {
        out.extend(two(words.number("id", 0)?));
    }
    if version == 5 {
        out.extend(properties(words, "")?);
    }
    out.extend(words.bytes("payload").unwrap_or_default());
    Ok((first, out))
}

fn acknowledgement(version: u8, words: &Words) -> Result<Vec<u8>> {
    let mut out = two(words.number("id", 0)?).to_vec();
    let properties = properties(words, "")?;
    if version == 5 && (words.has("code") || properties.len() > 1) {
        out.push(words.number("code", 0)? as u8);
        if properties.len() > 1 {
            out.extend(properties);
        }
    }
    Ok(out)
}

fn coded(words: &Words) -> Result<Vec<u8>> {
    let properties = properties(words, "")?;
    let mut out = Vec::new();
    if words.has("code") || properties.len() > 1 {
        out.push(words.number("code", 0)? as u8);
        if properties.len() > 1 {
            out.extend(properties);
        }
    }
    Ok(out)
}

/// SUBSCRIBE and UNSUBSCRIBE: options belong to the filter before them.
fn filters(version: u8, words: &Words, options: bool) -> Result<Vec<u8>> {
    let mut out = two(words.number("id", 0)?).to_vec();
    if version == 5 {
        out.extend(properties(words, "")?);
    }
    let mut all: Vec<(Vec<u8>, u64)> = Vec::new();
    for (key, value) in &words.all {
        let value = value.as_deref().unwrap_or_default();
        if key == "filter" {
            all.push((field(value), 0));
            continue;
        }
        let Some((_, bits)) = all.last_mut() else { continue };
        match key.as_str() {
            "qos" => *bits |= number(value)?,
            "nolocal" => *bits |= number(value)? << 2,
            "rap" => *bits |= number(value)? << 3,
            "rh" => *bits |= number(value)? << 4,
            "options" => *bits = number(value)?,
            _ => {}
        }
    }
    for (filter, bits) in all {
        out.extend(filter);
        if options {
            out.push(bits as u8);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::parse;

    fn bytes(version: u8, step: &str) -> String {
        let text = format!("case x: y\n  a> {step}\n");
        let step = parse("f", &text).expect("is a step")[0].steps[0].clone();
        let words = Words::new(&step.words, &Variables::new()).expect("has values");
        encode(version, &step.what, &words).expect("is a packet").iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn writes_packets() {
        assert_eq!(bytes(4, "connect id=c keepalive=10"), "100d00044d5154540402000a000163");
        assert_eq!(bytes(5, "connect id=c keepalive=10"), "100e00044d5154540502000a00000163");
        let will =
            "connect clean=0 id=c keepalive=10 will.topic=w will.payload=p will.qos=1 will.retain will.will_delay=5";
        assert_eq!(
            bytes(5, will),
            "101a00044d515454052c000a0000016305180000000500017700\
            0170"
        );
        assert_eq!(
            bytes(5, "publish topic=t qos=1 id=1 alias=3 payload=X"),
            "320a0001740001032300\
            0358"
        );
        assert_eq!(bytes(5, "subscribe id=1 subid=5 filter=a qos=1 nolocal=1"), "82090001020b0500016105");
        assert_eq!(bytes(4, "subscribe id=1 filter=a qos=1 filter=b options=0x80"), "820a00010001610100016280");
        assert_eq!(bytes(5, "puback id=1"), "40020001");
        assert_eq!(bytes(5, "puback id=1 code=0x10"), "4003000110");
        assert_eq!(bytes(5, "pingreq first=0xc1 append=00"), "c10100");
        assert_eq!(bytes(5, "pingreq length=8000"), "c08000");
        assert_eq!(bytes(4, "raw c0 00"), "c000");
    }
}
