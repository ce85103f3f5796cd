#![expect(clippy::disallowed_methods, reason = "tasks of a test end with its runtime")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use parking_lot::Mutex;
use rookery_cluster::net::PeerChannels;
use rookery_proto::raft::raft_server::{Raft, RaftServer};
use rookery_proto::raft::{SnapshotPiece, SnapshotReply};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use super::*;

const PEER: NodeId = NodeId(2);
const SOON: Duration = Duration::from_secs(20);

/// Sends each call's body back, and ends the stream at one that says so.
#[derive(Clone, Default)]
struct Echo {
    /// Groups of the calls in each message.
    messages: Arc<Mutex<Vec<Vec<u32>>>>,
}

#[tonic::async_trait]
impl Raft for Echo {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<Replies, Status>> + Send>>;

    async fn exchange(&self, request: Request<Streaming<Calls>>) -> Result<Response<Self::ExchangeStream>, Status> {
        let seen = self.messages.clone();
        let replies = stream::unfold((request.into_inner(), seen), |(mut calls, seen)| async move {
            let message = calls.message().await.ok()??;
            seen.lock().push(message.calls.iter().map(|call| call.group).collect());
            if message.calls.iter().any(|call| call.body == "end") {
                return None;
            }
            let reply = |call: Call| Reply { id: call.id, status: 0, body: call.body };
            Some((Ok(Replies { replies: message.calls.into_iter().map(reply).collect() }), (calls, seen)))
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn snapshot(&self, _: Request<Streaming<SnapshotPiece>>) -> Result<Response<SnapshotReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[derive(Default)]
struct Peers {
    address: Mutex<Option<SocketAddr>>,
    channels: Mutex<BTreeMap<Purpose, Channel>>,
    resets: Mutex<u32>,
}

impl PeerChannels for Peers {
    fn channel(&self, _: NodeId, purpose: Purpose) -> Option<Channel> {
        let address = (*self.address.lock())?;
        let dial = || Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Some(self.channels.lock().entry(purpose).or_insert_with(dial).clone())
    }

    fn reset(&self, _: NodeId, purpose: Purpose) {
        self.channels.lock().remove(&purpose);
        *self.resets.lock() += 1;
    }
}

async fn serve(echo: Echo) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_service(RaftServer::new(echo)).serve_with_incoming(incoming));
    address
}

fn link(peers: &Arc<Peers>) -> Link {
    Link::start(&Handle::current(), peers.clone(), PEER, Purpose::Raft)
}

fn call(link: &Link, group: u32, body: &'static str, linger: bool) -> Answering {
    link.call(GroupId(group), CallKind::Append, Bytes::from_static(body.as_bytes()), linger)
}

#[tokio::test]
async fn heartbeats_of_all_groups_travel_together_and_urgent_calls_at_once() {
    let echo = Echo::default();
    let peers = Arc::new(Peers::default());
    *peers.address.lock() = Some(serve(echo.clone()).await);
    let link = link(&peers);
    call(&link, 0, "dialled", false).within(SOON).await.unwrap();
    echo.messages.lock().clear();

    let heartbeats: Vec<_> = (1..=16).map(|group| call(&link, group, "beat", true)).collect();
    for heartbeat in heartbeats {
        assert_eq!(heartbeat.within(SOON).await.unwrap(), "beat");
    }
    assert_eq!(*echo.messages.lock(), vec![(1..=16).collect::<Vec<_>>()]);

    echo.messages.lock().clear();
    let first = call(&link, 1, "beat", true);
    let urgent = call(&link, 2, "now", false);
    assert_eq!(urgent.within(SOON).await.unwrap(), "now");
    assert_eq!(first.within(SOON).await.unwrap(), "beat");
    assert_eq!(*echo.messages.lock(), vec![vec![1, 2]], "what lingers goes along");
}

#[tokio::test]
async fn a_peer_that_is_away_fails_its_calls_and_is_found_again() {
    let peers = Arc::new(Peers::default());
    let link = link(&peers);
    let unknown = call(&link, 1, "a", false).within(SOON).await;
    assert!(matches!(unknown, Err(CallError::NotSent(_))), "{unknown:?}");
    // A port that nobody listens on.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    *peers.address.lock() = Some(closed);
    for _ in 0..3 {
        let refused = call(&link, 1, "a", false).within(SOON).await;
        assert!(matches!(refused, Err(CallError::NotSent(_))), "{refused:?}");
    }
    *peers.address.lock() = Some(serve(Echo::default()).await);
    while call(&link, 1, "a", false).within(SOON).await.is_err() {}
}

#[tokio::test]
async fn a_stream_that_ends_says_that_its_calls_are_lost_and_is_dialled_again() {
    let peers = Arc::new(Peers::default());
    *peers.address.lock() = Some(serve(Echo::default()).await);
    let link = link(&peers);
    let lost = call(&link, 1, "end", false).within(SOON).await;
    assert!(matches!(lost, Err(CallError::Lost(_))), "{lost:?}");
    assert_eq!(*peers.resets.lock(), 1);
    assert_eq!(call(&link, 1, "again", false).within(SOON).await.unwrap(), "again");
}

#[tokio::test]
async fn too_many_calls_are_refused_and_calls_given_up_are_not_sent() {
    let peers = Arc::new(Peers::default());
    let echo = Echo::default();
    *peers.address.lock() = Some(serve(echo.clone()).await);
    let link = link(&peers);
    // The link's task does not run before this task waits.
    for _ in 0..QUEUE {
        drop(call(&link, 1, "dropped", false));
    }
    let full = call(&link, 1, "x", false).within(SOON).await;
    assert!(matches!(full, Err(CallError::NotSent(_))), "{full:?}");
    while call(&link, 2, "y", false).within(SOON).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(echo.messages.lock().concat(), vec![2]);
}
