//! Control calls: what other nodes say of claims and of sessions that move.

use prost::Message;
use rookery_cluster::control::fuzz;
use rookery_proto::control::{
    DrainRequest, FetchSessionRequest, FetchSessionResponse, Life, Notice, NotifyRequest, Session,
};

use super::{head, piece, pieces};

/// Most pieces of a session.
const MOST: usize = 64;

/// A byte for which call it is, then its message; the pieces of a session each behind their length.
pub fn run(input: &[u8]) -> Result<(), String> {
    let (how, bytes) = head(input);
    match how % 4 {
        0 => NotifyRequest::decode(bytes).map_or(Ok(()), fuzz::notices),
        1 => FetchSessionRequest::decode(bytes).map_or(Ok(()), fuzz::asked),
        2 => DrainRequest::decode(bytes).map_or(Ok(()), fuzz::drained),
        _ => fuzz::session(
            pieces(bytes).take(MOST).filter_map(|piece| FetchSessionResponse::decode(piece).ok()).collect(),
        ),
    }
}

/// A message of each call.
pub fn seeds() -> Vec<Vec<u8>> {
    let (life, broker) = (Some(Life { node: 3, incarnation: 4 }), bytes::Bytes::from_static(&[7; 16]));
    let session = Some(Session { id: 5, present: true, home: life, worker: 6 });
    let notice =
        |kind| Notice { to: life, nonce: 8, broker: broker.clone(), client: "c".into(), kind, epoch: 9, session };
    let notices = NotifyRequest { notices: (0..8).map(notice).collect() };
    let asked = FetchSessionRequest {
        home: life,
        worker: 1,
        broker: broker.clone(),
        client: "c".into(),
        session: 5,
        take: true,
        epoch: 9,
    };
    let drain = DrainRequest { home: life, worker: 1, broker };
    // Two subscriptions as postcard has them, cut.
    let whole = b"\x02\x03a/#\x07\x01b\x01";
    let part = |kind, bytes: &'static [u8]| {
        let response = FetchSessionResponse { kind, piece: bytes::Bytes::from_static(bytes) };
        piece(&response.encode_to_vec())
    };
    let subscriptions = [part(1, &whole[..4]), part(1, &whole[4..])].concat();
    let state = [part(2, b"state, "), part(2, b"cut")].concat();
    vec![
        [&[0], &notices.encode_to_vec()[..]].concat(),
        [&[1], &asked.encode_to_vec()[..]].concat(),
        [&[2], &drain.encode_to_vec()[..]].concat(),
        [&[3], &subscriptions[..]].concat(),
        [&[3], &state[..]].concat(),
        [&[3], &part(3, b"\x03\x04\x06")[..]].concat(),
        [&[3], &part(4, b"")[..]].concat(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_calls() {
        assert!(seeds().iter().all(|seed| run(seed) == Ok(())));
        assert!(NotifyRequest::decode(&seeds()[0][1..]).is_ok_and(|request| request.notices.len() == 8));
    }
}
