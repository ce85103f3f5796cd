//! A relay between each pair of nodes, which can fall silent as a network does: nothing is closed, nothing
//! comes through.

#![expect(clippy::disallowed_methods, reason = "tasks of a test end with its runtime")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rookery_cluster::ids::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::harness::Addresses;

/// All relays of a cluster.
pub struct Wires {
    runtime: Runtime,
    nodes: Addresses,
    relays: Mutex<BTreeMap<(NodeId, NodeId), SocketAddr>>,
    /// The nodes that are cut off.
    isolated: watch::Sender<Vec<NodeId>>,
}

impl Wires {
    pub fn new(nodes: Addresses) -> Arc<Wires> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Arc::new(Wires { runtime, nodes, relays: Mutex::default(), isolated: watch::Sender::new(Vec::new()) })
    }

    /// From now on nothing passes between these nodes and any other.
    pub fn isolate(&self, nodes: &[NodeId]) {
        self.isolated.send_replace(nodes.to_vec());
    }

    /// Where `from` dials to reach `to`.
    pub fn way(&self, from: NodeId, to: NodeId) -> Option<SocketAddr> {
        self.nodes.lock().get(&to)?;
        let start = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            self.runtime.spawn(relay(from, to, listener, self.nodes.clone(), self.isolated.subscribe()));
            address
        };
        Some(*self.relays.lock().entry((from, to)).or_insert_with(start))
    }
}

type Isolated = watch::Receiver<Vec<NodeId>>;

async fn open(isolated: &mut Isolated, from: NodeId, to: NodeId) -> bool {
    isolated.wait_for(|cut| !cut.contains(&from) && !cut.contains(&to)).await.is_ok()
}

async fn relay(from: NodeId, to: NodeId, listener: std::net::TcpListener, nodes: Addresses, isolated: Isolated) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((near, _)) = listener.accept().await {
        let (nodes, mut isolated) = (nodes.clone(), isolated.clone());
        tokio::spawn(async move {
            if !open(&mut isolated, from, to).await {
                return;
            }
            let Some(address) = nodes.lock().get(&to).copied() else { return };
            let Ok(far) = TcpStream::connect(address).await else { return };
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::select! {
                () = pump(near_in, far_out, isolated.clone(), from, to) => {}
                () = pump(far_in, near_out, isolated, from, to) => {}
            }
        });
    }
}

async fn pump(mut input: OwnedReadHalf, mut output: OwnedWriteHalf, mut isolated: Isolated, from: NodeId, to: NodeId) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(n @ 1..) = input.read(&mut buffer).await else { return };
        if !open(&mut isolated, from, to).await || output.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
