//! The header of the PROXY protocol, version 2, by which a proxy says whose connection it passes on.
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>)

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::Failure;

/// What a header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What one of version 1 begins with.
const VERSION_1: &[u8] = b"PROXY ";
/// The signature, version and command, family, and length of the rest.
const FIXED_BYTES: usize = 16;
/// Largest rest: addresses, and a proxy's notes (TLVs) with a certificate's names among them.
const MAX_REST_BYTES: usize = 4096;
/// Two IPv4 addresses and two ports.
const IPV4_BYTES: usize = 12;
/// Two IPv6 addresses and two ports.
const IPV6_BYTES: usize = 36;

/// What has come of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// It has at least that many bytes.
    Needs(usize),
    /// The proxy's own connection (a health check), or one of which it does not tell whose it is.
    Local,
    /// The connection of this address.
    Proxied(SocketAddr),
}

/// Reads the bytes that have come so far. Notes of the proxy (TLVs) are skipped.
///
/// # Errors
/// [`Failure::ProxyV1`] for version 1, [`Failure::Proxy`] for what is no header, has another length than its
/// addresses, or is about no TCP connection.
pub fn parse(read: &[u8]) -> Result<Header, Failure> {
    let begun = read.len().min(SIGNATURE.len());
    if read[..begun] != SIGNATURE[..begun] {
        let begun = read.len().min(VERSION_1.len());
        return Err(if read[..begun] == VERSION_1[..begun] { Failure::ProxyV1 } else { Failure::Proxy });
    }
    let Some((fixed, rest)) = read.split_at_checked(FIXED_BYTES) else { return Ok(Header::Needs(FIXED_BYTES)) };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let least = match (fixed[12], fixed[13]) {
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11) => IPV4_BYTES,
        (0x21, 0x21) => IPV6_BYTES,
        _ => return Err(Failure::Proxy),
    };
    if !(least..=MAX_REST_BYTES).contains(&length) {
        return Err(Failure::Proxy);
    }
    if rest.len() < length {
        return Ok(Header::Needs(FIXED_BYTES + length));
    }
    Ok(match least {
        IPV4_BYTES => source::<4>(rest),
        IPV6_BYTES => source::<16>(rest),
        _ => None,
    }
    .map_or(Header::Local, Header::Proxied))
}

/// Source and destination address come first, then their ports.
fn source<const BYTES: usize>(addresses: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; BYTES]>,
{
    let ip = IpAddr::from(*addresses.first_chunk::<BYTES>()?).to_canonical();
    let port = addresses.get(2 * BYTES..)?.first_chunk::<2>()?;
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// Reads a header off `stream`, and nothing behind it: whose connection it is, if the header says.
pub(super) async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, Failure> {
    let mut read = Vec::with_capacity(FIXED_BYTES + IPV6_BYTES);
    loop {
        let needed = match parse(&read)? {
            Header::Local => return Ok(None),
            Header::Proxied(from) => return Ok(Some(from)),
            Header::Needs(needed) => needed,
        };
        let missing = (needed - read.len()) as u64;
        if (&mut *stream).take(missing).read_buf(&mut read).await.map_err(|_| Failure::Gone)? == 0 {
            return Err(Failure::Gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[version, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0x22, 0xb3];

    fn v6() -> Vec<u8> {
        let source: std::net::Ipv6Addr = "2001:db8::7".parse().unwrap();
        [&source.octets()[..], &[0; 16], &[0x12, 0x34, 0, 0]].concat()
    }

    #[test]
    fn the_source_is_what_counts() {
        let tlvs = b"\x03\x00\x04\xde\xad\xbe\xef\x20\x00\x02xx";
        let cases = [
            (header(0x21, 0x11, &V4), Header::Proxied("192.0.2.7:4660".parse().unwrap())),
            (header(0x21, 0x11, &[&V4[..], tlvs].concat()), Header::Proxied("192.0.2.7:4660".parse().unwrap())),
            (header(0x21, 0x21, &v6()), Header::Proxied("[2001:db8::7]:4660".parse().unwrap())),
            (header(0x21, 0x21, &[&v6()[..], tlvs].concat()), Header::Proxied("[2001:db8::7]:4660".parse().unwrap())),
            (header(0x20, 0x00, &[]), Header::Local),
            (header(0x20, 0x11, &V4), Header::Local),
            (header(0x20, 0x11, b"junk"), Header::Local),
            (header(0x21, 0x00, tlvs), Header::Local),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse(&bytes), Ok(expected), "{bytes:x?}");
            for end in 0..bytes.len() {
                let needed = if end < FIXED_BYTES { FIXED_BYTES } else { bytes.len() };
                assert_eq!(parse(&bytes[..end]), Ok(Header::Needs(needed)), "{end} of {bytes:x?}");
            }
        }
        let mut mapped = v6();
        mapped[..16].copy_from_slice(&"::ffff:192.0.2.7".parse::<std::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(parse(&header(0x21, 0x21, &mapped)), Ok(Header::Proxied("192.0.2.7:4660".parse().unwrap())));
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_is_known() {
        for v1 in [&b"P"[..], b"PROXY ", b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n"] {
            assert_eq!(parse(v1), Err(Failure::ProxyV1));
        }
        let too_long = [0; MAX_REST_BYTES + 1];
        let mut other_signature = header(0x21, 0x11, &V4);
        other_signature[11] = b'\r';
        for bad in [
            b"\x10\x0d\x00\x04MQTT".to_vec(),
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"\r\n\r\n\0\r\nQUIX".to_vec(),
            other_signature,
            header(0x11, 0x11, &V4),
            header(0x31, 0x11, &V4),
            header(0x22, 0x11, &V4),
            header(0x21, 0x12, &V4),
            header(0x21, 0x31, &[0; 216]),
            header(0x21, 0x11, &V4[..11]),
            header(0x21, 0x21, &v6()[..35]),
            header(0x20, 0x00, &too_long)[..FIXED_BYTES].to_vec(),
        ] {
            assert_eq!(parse(&bad), Err(Failure::Proxy), "{bad:x?}");
        }
        assert_eq!(parse(&header(0x20, 0x00, &too_long[1..])), Ok(Header::Local));
    }
}
