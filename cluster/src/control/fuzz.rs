//! For fuzzing only: what comes of whatever other nodes say in control calls.

use futures_util::{FutureExt as _, stream};
use rookery_proto::control as wire;
use tonic::Status;

use super::{grpc, handover};

/// Notices to connections: what is one stays the same.
///
/// # Errors
/// What became of it.
pub fn notices(request: wire::NotifyRequest) -> Result<(), String> {
    for notice in request.notices {
        let Ok(notice) = grpc::notice_from_wire(notice) else { continue };
        let again = grpc::notice_from_wire(grpc::notice_to_wire(&notice)).ok();
        same(&Some(notice), &again)?;
    }
    Ok(())
}

/// Asking for a session.
///
/// # Errors
/// What became of it.
pub fn asked(request: wire::FetchSessionRequest) -> Result<(), String> {
    let Ok((home, asked)) = handover::asked_from_wire(request) else { return Ok(()) };
    let again = handover::asked_from_wire(handover::asked_to_wire(home, &asked)).ok();
    same(&Some((home, asked)), &again)
}

/// Asking for what is on its way.
///
/// # Errors
/// What became of it.
pub fn drained(request: wire::DrainRequest) -> Result<(), String> {
    let Ok((broker, home)) = handover::drain_from_wire(request) else { return Ok(()) };
    let again = handover::drain_from_wire(handover::drain_to_wire(broker, home)).ok();
    same(&Some((broker, home)), &again)
}

/// A session in pieces.
///
/// # Errors
/// What became of it.
pub fn session(pieces: Vec<wire::FetchSessionResponse>) -> Result<(), String> {
    let came = stream::iter(pieces.into_iter().map(Ok::<_, Status>));
    let Some(Ok(reply)) = handover::gather(came).now_or_never() else { return Ok(()) };
    let again = handover::gather(handover::pieces(reply.clone())).now_or_never();
    same(&Some(reply), &again.and_then(Result::ok))
}

fn same<T: PartialEq + std::fmt::Debug>(one: &T, other: &T) -> Result<(), String> {
    if one == other { Ok(()) } else { Err(format!("{one:?} became {other:?}")) }
}
