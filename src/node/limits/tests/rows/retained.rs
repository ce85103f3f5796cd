//! What a broker may have retained.

use std::sync::Arc;

use rookery_cluster::handle::Replicas;
use rookery_cluster::retained::{Bounds, Came, Full, Record, Stamp, Table, Time};

use super::*;
use crate::broker::core::{DropReason, Retaining};

/// A store that holds one message, `kept`.
#[derive(Debug)]
struct Keeper {
    table: Table,
    bounds: Bounds,
}

impl Retaining for Keeper {
    fn replicas(&self) -> Arc<Replicas> {
        Arc::default()
    }

    fn time(&self) -> Time {
        Time(1)
    }

    fn admit(&self, broker: BrokerId, topic: &str, bytes: Option<usize>) -> Result<(Time, UnixMillis), Full> {
        bytes.map_or(Ok(()), |bytes| self.table.room(broker, topic, bytes, self.bounds))?;
        Ok((Time(1), UnixMillis(1)))
    }
}

fn world(changes: &[(&str, u64)]) -> World {
    let mut w = World::with(changes);
    let mut table = Table::default();
    let stamp = Stamp { time: Time(1), node: NodeId(1) };
    let record = Record { stamp, expires: None, message: Some("0123456789".into()) };
    table.merge(w.now, B, "kept", record, Came::Published);
    w.core.retain(Arc::new(Keeper { table, bounds: retained(&w.limits) }));
    w.step(Input::RetainedComplete);
    w
}

fn publish(w: &mut World, conn: ConnKey, version: Version, topic: &str, qos: QoS) {
    let retained = Publish { retain: true, ..message(topic, qos) };
    w.send(conn, version, Packet::Publish(Box::new(retained)));
}

#[test]
fn retained_messages_and_bytes() {
    for changes in [("retained_messages", 1), ("retained_bytes", 20)] {
        let mut w = world(&[changes]);
        let conn = w.v5("c");
        publish(&mut w, conn, Version::V5, "t", QoS::AtLeastOnce);
        let puback = Packet::Puback(Ack::new(id(7), ReasonCode::QUOTA_EXCEEDED));
        assert_eq!(w.got(conn, Version::V5), (vec![puback], false));
        publish(&mut w, conn, Version::V5, "t", QoS::ExactlyOnce);
        let pubrec = Packet::Pubrec(Ack::new(id(7), ReasonCode::QUOTA_EXCEEDED));
        assert_eq!(w.got(conn, Version::V5), (vec![pubrec], false));
        let other = w.client(Version::V311, "d");
        publish(&mut w, other, Version::V311, "t", QoS::AtLeastOnce);
        w.closed(other);
        publish(&mut w, conn, Version::V5, "t", QoS::AtMostOnce);
        assert_eq!(w.got(conn, Version::V5), (vec![], false), "delivered and not kept");
        assert_eq!(w.core.stats.dropped.get(&DropReason::RetainedFull), Some(&4));
    }
    let mut w = world(&[("retained_messages", 0), ("retained_bytes", 0)]);
    let conn = w.v5("c");
    publish(&mut w, conn, Version::V5, "t", QoS::AtMostOnce);
    assert_eq!(w.core.stats.dropped.get(&DropReason::RetainedFull), None, "no limit of its own");
}
