//! A session's way from the node that keeps it to the one where its client is connected (R14): the call, and its wire form.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use rookery_proto::control as wire;
use rookery_proto::control::control_client::ControlClient as Client;
use rookery_proto::control::fetch_session_response::Kind;
use tonic::{Request, Status};

use super::grpc::{life_from_wire, life_to_wire};
use super::{ControlError, SessionReply};
use crate::handle::{Home, SessionAsked, Subscription};
use crate::ids::{BrokerId, Epoch, SessionId, WorkerId};
use crate::limits::{MAX_GRPC_MESSAGE_BYTES, MAX_MOVED_SESSION_BYTES, SESSION_FENCE_TIMEOUT, SESSION_FETCH_TIMEOUT};
use crate::net::{Purpose, SharedPeers};

/// Bytes of one piece: small against `limits::MAX_GRPC_MESSAGE_BYTES`.
const PIECE_BYTES: usize = 1 << 20;
const _: () = assert!(2 * PIECE_BYTES < MAX_GRPC_MESSAGE_BYTES);
/// How long a session that is large may take.
const FETCH_WITHIN: Duration = SESSION_FETCH_TIMEOUT.saturating_sub(SESSION_FENCE_TIMEOUT);

pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<wire::FetchSessionResponse, Status>> + Send>>;

/// Fetches sessions from other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Handover {
    peers: SharedPeers,
}

impl Handover {
    /// Over the control connections of `peers`.
    pub fn new(peers: SharedPeers) -> Self {
        Self { peers }
    }

    /// Asks the node that keeps a session.
    ///
    /// # Errors
    /// When it cannot be reached or breaks off. Whether it still has the session is not known then.
    pub async fn fetch(&self, home: Home, asked: &SessionAsked) -> Result<SessionReply, ControlError> {
        let channel = self.peers.channel(home.life.node, Purpose::Control).ok_or(ControlError::Unreachable)?;
        let mut client = Client::new(channel).max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES);
        let answer = async {
            let stream = client.fetch_session(Request::new(asked_to_wire(home, asked))).await?;
            gather(stream.into_inner()).await
        };
        match tokio::time::timeout(FETCH_WITHIN, answer).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(status)) => Err(ControlError::Status(status.message().to_owned())),
            Err(_) => Err(ControlError::Unreachable),
        }
    }
}

pub(super) fn asked_to_wire(home: Home, asked: &SessionAsked) -> wire::FetchSessionRequest {
    wire::FetchSessionRequest {
        home: Some(life_to_wire(home.life)),
        worker: u32::from(home.worker.0),
        broker: Bytes::copy_from_slice(&asked.broker.0.to_be_bytes()),
        client: asked.client.to_string(),
        session: asked.session.0,
        take: asked.take,
        epoch: asked.epoch.0,
    }
}

pub(super) fn asked_from_wire(request: wire::FetchSessionRequest) -> Result<(Home, SessionAsked), Status> {
    let (broker, home) = home_from_wire(&request.broker, request.home, request.worker)?;
    let (client, session) = (request.client.into(), SessionId(request.session));
    Ok((home, SessionAsked { broker, client, session, take: request.take, epoch: Epoch(request.epoch) }))
}

pub(super) fn drain_to_wire(broker: BrokerId, home: Home) -> wire::DrainRequest {
    wire::DrainRequest {
        home: Some(life_to_wire(home.life)),
        worker: u32::from(home.worker.0),
        broker: Bytes::copy_from_slice(&broker.0.to_be_bytes()),
    }
}

pub(super) fn drain_from_wire(request: wire::DrainRequest) -> Result<(BrokerId, Home), Status> {
    home_from_wire(&request.broker, request.home, request.worker)
}

fn home_from_wire(broker: &[u8], life: Option<wire::Life>, worker: u32) -> Result<(BrokerId, Home), Status> {
    let worker = u16::try_from(worker).map_err(|_| Status::invalid_argument("a worker id has 16 bits"))?;
    let broker = broker.try_into().map_err(|_| Status::invalid_argument("a broker id is 16 bytes"))?;
    Ok((BrokerId(u128::from_be_bytes(broker)), Home { life: life_from_wire(life)?, worker: WorkerId(worker) }))
}

/// A reply in pieces.
pub(super) fn pieces(reply: SessionReply) -> Pieces {
    let (kind, mut bytes) = match reply {
        SessionReply::Gone => return Box::pin(stream::empty()),
        SessionReply::State(bytes) => (Kind::State, bytes),
        // Writing to a growing vector has no way to fail; the types hold nothing that postcard refuses.
        SessionReply::Subscriptions(list) => {
            (Kind::Subscriptions, postcard::to_stdvec(&list).map(Bytes::from).unwrap_or_default())
        }
        SessionReply::Awaits(home) => (Kind::Awaits, postcard::to_stdvec(&home).map(Bytes::from).unwrap_or_default()),
        SessionReply::Superseded => (Kind::Superseded, Bytes::new()),
    };
    let mut pieces = Vec::new();
    loop {
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
        pieces.push(Ok(wire::FetchSessionResponse { kind: kind.into(), piece }));
        if bytes.is_empty() {
            return Box::pin(stream::iter(pieces));
        }
    }
}

/// The reply that came in pieces.
pub(super) async fn gather(
    mut pieces: impl Stream<Item = Result<wire::FetchSessionResponse, Status>> + Unpin,
) -> Result<SessionReply, Status> {
    let mut whole = BytesMut::new();
    let mut kind = None;
    while let Some(next) = pieces.next().await {
        let next = next?;
        if whole.len() + next.piece.len() > MAX_MOVED_SESSION_BYTES {
            return Err(Status::resource_exhausted("the session is larger than a node takes"));
        }
        kind = Some(next.kind());
        whole.extend_from_slice(&next.piece);
    }
    match kind {
        None => Ok(SessionReply::Gone),
        Some(Kind::State) => Ok(SessionReply::State(whole.freeze())),
        Some(Kind::Subscriptions) => postcard::from_bytes::<Vec<Subscription>>(&whole)
            .map(SessionReply::Subscriptions)
            .map_err(|_| Status::invalid_argument("subscriptions that do not decode")),
        Some(Kind::Awaits) => postcard::from_bytes::<Home>(&whole)
            .map(SessionReply::Awaits)
            .map_err(|_| Status::invalid_argument("a worker that does not decode")),
        Some(Kind::Superseded) => Ok(SessionReply::Superseded),
        Some(Kind::Unspecified) => Err(Status::invalid_argument("a session of an unknown kind")),
    }
}
