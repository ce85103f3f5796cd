//! Section `cluster`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::error::ConfigError;
use super::values::Values;

/// How the node meets the other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `cluster.listen`: TCP and UDP.
    pub listen: SocketAddr,
    /// `cluster.advertise`, `host:port`; `None` where it is to be found out ([`ClusterConfig::advertised`]).
    pub advertise: Option<String>,
    /// `cluster.shards`, for a new cluster.
    pub shards: u32,
}

impl ClusterConfig {
    pub(super) fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let advertise = values.text("cluster.advertise");
        Ok(Self {
            listen: values.address("cluster.listen")?,
            advertise: (!advertise.is_empty()).then(|| advertise.to_owned()),
            shards: values.integer("cluster.shards")? as u32,
        })
    }

    /// The `host:port` that other nodes use, given where the node really listens (`port` 0 is resolved by
    /// then). A wildcard address becomes that of the interface of the default route, or loopback without one.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        match &self.advertise {
            Some(given) => given.clone(),
            None if bound.ip().is_unspecified() => SocketAddr::new(route_address(bound), bound.port()).to_string(),
            None => bound.to_string(),
        }
    }
}

/// The local address that a packet to the outside would carry. Connecting a UDP socket sends nothing.
fn route_address(bound: SocketAddr) -> std::net::IpAddr {
    let (from, outside): (SocketAddr, SocketAddr) = if bound.is_ipv4() {
        ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into())
    } else {
        ((Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into())
    };
    let found = UdpSocket::bind(from).and_then(|socket| {
        socket.connect(outside)?;
        socket.local_addr()
    });
    match found {
        Ok(address) if !address.ip().is_unspecified() => address.ip(),
        _ if bound.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    }
}
