//! A session without a connection: it queues what comes, goes on with a further connection, and moves to another
//! worker or node (MQTT 5 §4.1, §4.4; R14).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rookery_cluster::clock::Moment;
use serde::{Deserialize, Serialize};

use super::alias::{InboundAliases, OutboundAliases};
use super::connect;
use super::keepalive::KeepAlive;
use super::message::{Kept, Stored};
use super::window::Inflight;
use super::{Delivery, Dropped, Message, Session, Settings};
use crate::mqtt::codec::{Connect, PacketId, QoS};

/// How long a move may take, with a margin: see `limits::CLAIM_TIMEOUT` and the core's grace.
const MOVE_AT_MOST: Duration = Duration::from_secs(30);
/// Version of a moved session's bytes.
const VERSION: u8 = 1;

/// A moved session does not decode. It is left where it was or, if it was taken from there, lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a moved session does not decode")]
pub struct BadSession;

#[derive(Serialize, Deserialize)]
struct Moved {
    received: Vec<u16>,
    releasing: Vec<u16>,
    next: u16,
    inflight: Vec<(u16, MovedMessage)>,
    queue: Vec<MovedMessage>,
}

#[derive(Serialize, Deserialize)]
struct MovedMessage {
    topic: Box<str>,
    retain_published: bool,
    expiry: Option<u32>,
    properties: Bytes,
    payload: Bytes,
    mark: u64,
    qos: u8,
    published_qos: u8,
    share: Option<Box<str>>,
    ids: Box<[u32]>,
    retain: bool,
    /// How long it has waited, milliseconds: clocks of two nodes do not compare.
    waited: u64,
}

impl Session {
    /// The connection is gone and the session goes on: what was sent over it and not acknowledged comes again over the
    /// next one. Acknowledgements of QoS 1 are not owed any more: the client publishes again.
    pub fn park(&mut self) {
        self.window.sent = 0;
        self.acks.forget_at_least_once();
    }

    /// Keeps `message` for the next connection. Of QoS 0 nothing is kept (MQTT 5 §4.1.0 leaves the choice).
    pub fn deliver_parked(
        &mut self,
        now: Moment,
        message: &mut Message<'_>,
        granted: QoS,
        retain: bool,
        ids: &[u32],
    ) -> Delivery {
        let qos = message.qos.min(granted);
        if qos == QoS::AtMostOnce {
            return Delivery::Dropped(Dropped::Offline);
        }
        self.enqueue(now, message, qos, retain, ids)
    }

    /// A further connection, with what its CONNECT allows. [`Session::resume`] sends what waits, after CONNACK.
    pub fn reconnect(&mut self, connect: &Connect, settings: &Settings, now: Moment) {
        self.version = connect.version;
        self.acks.wait_anew(now);
        self.wants_problem_information = connect.properties.request_problem_information.unwrap_or(true);
        self.receive_maximum = settings.receive_maximum;
        self.aliases = InboundAliases::new(settings.topic_alias_maximum);
        self.aliases_out = OutboundAliases::new(connect);
        self.keep_alive = KeepAlive::new(connect::keep_alive(connect, settings), now);
        self.window.reconnect(connect, settings);
        self.window.keeps = connect::session_expiry(connect, settings) > 0;
    }

    /// What another worker or node needs to go on with the session.
    pub fn export(&self, now: Moment) -> Bytes {
        let window = &self.window;
        let inflight = window.inflight.iter();
        let moved = Moved {
            received: self.received.iter().map(|id| id.get()).collect(),
            releasing: window.releasing.iter().map(|id| id.get()).collect(),
            next: window.next_id().get(),
            inflight: inflight.filter_map(|i| Some((i.id.get(), moved(now, i.kept.as_ref()?)))).collect(),
            queue: window.queue.iter().map(|kept| moved(now, kept)).collect(),
        };
        // Writing to a growing vector has no way to fail; the types hold nothing that postcard refuses.
        postcard::to_extend(&moved, vec![VERSION]).map(Bytes::from).unwrap_or_default()
    }

    /// Takes over what [`Session::export`] wrote elsewhere. Messages that came here meanwhile stand behind it, but for
    /// those that came there as well.
    ///
    /// # Errors
    /// When the bytes are not of a session; nothing is changed then.
    pub fn adopt(&mut self, now: Moment, bytes: &[u8]) -> Result<(), BadSession> {
        let Some((&VERSION, body)) = bytes.split_first() else { return Err(BadSession) };
        let moved: Moved = postcard::from_bytes(body).map_err(|_| BadSession)?;
        let id = |n: u16| PacketId::new(n).ok_or(BadSession);
        let received: BTreeSet<PacketId> = moved.received.into_iter().map(id).collect::<Result<_, _>>()?;
        let releasing = moved.releasing.into_iter().map(id).collect::<Result<_, _>>()?;
        let next = id(moved.next)?;
        let mut inflight = std::collections::VecDeque::new();
        for (number, message) in moved.inflight {
            let kept = Box::new(kept(now, message)?);
            inflight.push_back(Inflight { id: id(number)?, qos: kept.qos, kept: Some(kept) });
        }
        let mut queue = moved.queue.into_iter().map(|m| kept(now, m)).collect::<Result<Vec<_>, _>>()?;
        let sent = inflight.iter().filter_map(|entry: &Inflight| entry.kept.as_deref());
        // Only what came during the move can have come here too; marks of older ones may be in use again.
        let recent = |kept: &&Kept| now.since(kept.since) < MOVE_AT_MOST;
        // What came for a group is a message of its own.
        let name = |kept: &Kept| (kept.message.mark, kept.share.clone());
        let there: BTreeSet<_> = sent.chain(&queue).filter(recent).map(name).collect();
        let here = std::mem::take(&mut self.window.queue);
        queue.extend(here.into_iter().filter(|kept| kept.message.mark == 0 || !there.contains(&name(kept))));
        self.received = received;
        self.window.adopt(inflight, releasing, next, queue.into());
        Ok(())
    }
}

fn moved(now: Moment, kept: &Kept) -> MovedMessage {
    let stored = &*kept.message;
    MovedMessage {
        topic: stored.topic.clone(),
        retain_published: stored.retain,
        expiry: stored.expiry,
        properties: stored.properties.clone(),
        payload: stored.payload.clone(),
        mark: stored.mark,
        qos: kept.qos as u8,
        published_qos: stored.qos as u8,
        share: kept.share.as_deref().map(Box::from),
        ids: kept.ids.clone(),
        retain: kept.retain,
        waited: u64::try_from(now.since(kept.since).as_millis()).unwrap_or(u64::MAX),
    }
}

fn kept(now: Moment, moved: MovedMessage) -> Result<Kept, BadSession> {
    let MovedMessage { topic, retain_published, expiry, properties, payload, mark, ids, retain, waited, .. } = moved;
    // It goes on waiting here, as long as it has. What this node's clock is too young for is taken off its expiry.
    let waited = Duration::from_millis(waited);
    let known = waited.min(now.0);
    let unknown = u32::try_from((waited - known).as_secs()).unwrap_or(u32::MAX);
    let expiry = expiry.map(|seconds| seconds.saturating_sub(unknown).max(1));
    let qos = |qos: u8| QoS::from_u8(qos).ok_or(BadSession);
    let published = qos(moved.published_qos)?;
    let stored = Stored { topic, qos: published, retain: retain_published, expiry, properties, payload, mark };
    let (qos, share) = (qos(moved.qos)?, moved.share.map(Arc::from));
    Ok(Kept { message: stored.into(), since: Moment(now.0 - known), qos, ids, retain, share })
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::mqtt::codec::{Packet, Publish, Sender, Version, decode_publish, encode, split};
    use crate::mqtt::session::Mark;

    #[test]
    fn r14_what_comes_for_a_group_alone_is_no_copy_of_what_came_for_the_session() {
        let now = Moment::default();
        let session = || {
            let connect = Connect::new(Version::V5, "c");
            Session::new("c".into(), &connect, &Settings::default(), now)
        };
        let (mut there, mut here) = (session(), session());
        let publish =
            Publish { topic: "t".into(), qos: QoS::AtLeastOnce, packet_id: PacketId::new(1), ..Publish::default() };
        let mut bytes = BytesMut::new();
        encode(&Packet::Publish(Box::new(publish)), Version::V5, &mut bytes).expect("encodes");
        let frame = split(&bytes, usize::MAX).expect("a frame").expect("whole");
        let publish =
            decode_publish(Version::V5, Sender::Client, frame.first_byte, frame.body(&bytes)).expect("decodes");
        let mark = Mark { origin: 7, number: PacketId::new(1) };
        let give = |to: &mut Session, share: Option<&str>| {
            let mut message = Message::new("t", &publish);
            (message.mark, message.share) = (mark, share.map(Arc::from));
            assert_eq!(to.deliver_parked(now, &mut message, QoS::AtLeastOnce, false, &[]), Delivery::Queued);
        };
        give(&mut there, None);
        give(&mut there, Some("$share/a/t"));
        give(&mut here, None);
        give(&mut here, Some("$share/b/t"));
        here.adopt(now, &there.export(now)).expect("a session");
        let shares: Vec<_> = here.window.queue.iter().map(|kept| kept.share.as_deref()).collect();
        assert_eq!(shares, [None, Some("$share/a/t"), Some("$share/b/t")]);
    }

    #[test]
    fn time_that_a_message_waited_elsewhere_counts() {
        let left = |now: u64, waited: u64, expiry: u32| {
            let (topic, ids) = ("t".into(), Box::default());
            let (properties, payload) = (Bytes::new(), Bytes::new());
            let (retain_published, retain, mark, qos) = (false, false, 1, 1);
            let expiry = Some(expiry);
            let (published_qos, share) = (qos, None);
            let message = MovedMessage {
                topic,
                published_qos,
                retain_published,
                expiry,
                properties,
                payload,
                mark,
                qos,
                ids,
                retain,
                share,
                waited,
            };
            let now = Moment(Duration::from_secs(now));
            kept(now, message).expect("is a message").expiry_left(now)
        };
        assert_eq!(left(1000, 2200, 100), Ok(Some(98)));
        assert_eq!(left(1000, 2200, 2), Err(()));
        assert_eq!(left(1000, 900, 1), Ok(Some(1)));
        // On a node that has not run for as long as that.
        assert_eq!(left(1, 5000, 100), Ok(Some(95)));
        assert_eq!(left(1, 5000, 5), Err(()));
    }
}
