//! The ports of a node of `dev`.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use serde::{Deserialize, Serialize};

use super::PortChoice;

/// Loopback ports of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named after the settings")]
pub struct Ports {
    pub mqtt: u16,
    pub mqtts: u16,
    pub ws: u16,
    pub wss: u16,
    pub cluster: u16,
    pub grpc: u16,
    pub http: u16,
}

const STANDARD: Ports = Ports { mqtt: 1883, mqtts: 8883, ws: 8083, wss: 8884, cluster: 7946, grpc: 7947, http: 7948 };

impl Ports {
    /// Ports for node `id` that are free now and not in `taken`, to which they are added.
    ///
    /// # Errors
    /// Where the machine has no free port.
    pub fn choose(id: u64, choice: PortChoice, taken: &mut BTreeSet<u16>) -> io::Result<Self> {
        let offset = if id == 1 { 0 } else { 10_000 * id as u16 };
        let mut pick = |standard: u16| {
            let wanted = standard + offset;
            if choice == PortChoice::Standard && is_free(wanted) && taken.insert(wanted) {
                return Ok(wanted);
            }
            loop {
                let found = any_free()?;
                if is_free(found) && taken.insert(found) {
                    return Ok::<u16, io::Error>(found);
                }
            }
        };
        Ok(Self {
            mqtt: pick(STANDARD.mqtt)?,
            mqtts: pick(STANDARD.mqtts)?,
            ws: pick(STANDARD.ws)?,
            wss: pick(STANDARD.wss)?,
            cluster: pick(STANDARD.cluster)?,
            grpc: pick(STANDARD.grpc)?,
            http: pick(STANDARD.http)?,
        })
    }
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Whether TCP and UDP can be bound.
fn is_free(port: u16) -> bool {
    TcpListener::bind(at(port)).is_ok() && UdpSocket::bind(at(port)).is_ok()
}

fn any_free() -> io::Result<u16> {
    Ok(TcpListener::bind(at(0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_all_nodes_differ_and_a_taken_one_is_replaced() {
        let mut taken = BTreeSet::from([STANDARD.mqtt]);
        let all: Vec<Ports> = (1..=super::super::MAX_NODES)
            .map(|id| Ports::choose(id, PortChoice::Standard, &mut taken).expect("free ports"))
            .collect();
        assert_ne!(all[0].mqtt, STANDARD.mqtt);
        assert_eq!(taken.len(), 1 + 7 * all.len());
    }
}
