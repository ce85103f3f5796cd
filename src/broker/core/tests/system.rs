//! `$SYS`: each broker's own figures, for those who subscribe.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::mqtt::codec::RetainHandling;

const EVERY: Duration = Duration::from_secs(10);
const OTHER: BrokerId = BrokerId(10);

/// Where the workers of a test meet.
#[derive(Clone, Debug)]
struct Board {
    workers: usize,
    watched: Arc<Mutex<Watched>>,
}

impl Bulletin for Board {
    fn interval(&self) -> Duration {
        EVERY
    }
    fn workers(&self) -> usize {
        self.workers
    }
    fn facts(&self, broker: BrokerId) -> Facts {
        let retained = broker.0 as usize;
        Facts { uptime: Duration::from_millis(7999), retained, node: NodeId(1), live: 2, members: 3 }
    }
    fn watch(&mut self, broker: BrokerId, until: Moment) {
        self.watched.lock().unwrap().watch(broker, until);
    }
    fn watched(&mut self, now: Moment) -> Vec<BrokerId> {
        self.watched.lock().unwrap().watched(now)
    }
    fn report(&mut self, broker: BrokerId, worker: WorkerId, figures: Figures) {
        self.watched.lock().unwrap().report(broker, worker, figures);
    }
    fn figures(&self, broker: BrokerId) -> Figures {
        self.watched.lock().unwrap().figures(broker)
    }
}

/// So many workers of one node.
fn worlds(workers: u16) -> (Vec<World>, Board) {
    let board = Board { workers: workers.into(), watched: Arc::default() };
    let world = |id| {
        let mut w = World::at(1, id);
        w.core.publish_figures(Box::new(board.clone()));
        w.core.retain(Arc::new(retained::Keeper::default()));
        w
    };
    ((0..workers).map(world).collect(), board)
}

impl World {
    fn tick(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.step(Input::Tick);
    }

    /// What came below `$SYS`, and whether all of it was marked as retained, or nothing.
    fn figures(&mut self, conn: ConnKey) -> (BTreeMap<String, String>, bool) {
        let (mut all, mut retained) = (BTreeMap::new(), Vec::new());
        for packet in self.sent(conn, Version::V5) {
            let Packet::Publish(publish) = packet else { continue };
            assert!(publish.topic.starts_with("$SYS/"), "{publish:?}");
            retained.push(publish.retain);
            let text = String::from_utf8(publish.payload.to_vec()).unwrap();
            assert_eq!(all.insert(publish.topic.to_string(), text), None, "each once");
        }
        retained.dedup();
        assert!(retained.len() < 2);
        (all, retained == [true])
    }

    fn watcher(&mut self, client: &str, text: &str) -> ConnKey {
        let (conn, _) = self.connect(Version::V5, client);
        self.wants(conn, filter(text));
        conn
    }

    fn wants(&mut self, conn: ConnKey, filter: SubscribeFilter) {
        let (filters, packet_id) = (vec![filter], id(1));
        let subscribe = Subscribe { packet_id, filters, subscription_id: None, user_properties: Vec::new() };
        for effect in self.packet(conn, Version::V5, &Packet::Subscribe(subscribe)) {
            if let Effect::Subscribe { token, .. } = effect {
                self.step(Input::Barrier { token, seen: true });
            }
        }
    }
}

fn filter(text: &str) -> SubscribeFilter {
    SubscribeFilter::new(text, QoS::ExactlyOnce)
}

#[test]
fn a_subscriber_is_told_at_once_and_then_now_and_then() {
    let (mut all, _) = worlds(1);
    let w = &mut all[0];
    let (p, _) = w.connect(Version::V5, "p");
    w.publish(p, "t", None);
    let a = w.watcher("a", "$SYS/broker/#");
    let (told, retained) = w.figures(a);
    assert!(retained);
    let expected = [
        ("version", concat!("rookery version ", env!("CARGO_PKG_VERSION"))),
        ("uptime", "7 seconds"),
        ("clients/connected", "2"),
        ("clients/disconnected", "0"),
        ("clients/total", "2"),
        ("subscriptions/count", "1"),
        ("retained messages/count", "9"),
        ("messages/received", "1"),
        ("messages/sent", "0"),
        ("publish/messages/dropped", "0"),
    ];
    for (topic, value) in expected {
        assert_eq!(told.get(&format!("$SYS/broker/{topic}")).map(String::as_str), Some(value), "{topic}");
    }
    assert_eq!(told.len(), expected.len() + 2);
    assert_ne!(told["$SYS/broker/bytes/received"], "0");
    w.tick(9_999);
    assert_eq!(w.figures(a).0.len(), 0);
    w.publish(p, "t", None);
    w.core.drained(w.now, a);
    w.tick(1);
    let (told, retained) = w.figures(a);
    assert!(!retained);
    assert_eq!(told["$SYS/broker/messages/received"], "2");
    assert_eq!(told["$SYS/broker/messages/sent"], "12");
    assert_ne!(told["$SYS/broker/bytes/sent"], "0");
}

#[test]
fn what_is_dropped_is_told_by_reason() {
    let (mut all, _) = worlds(1);
    let w = &mut all[0];
    w.subscribed("b", "t", QoS::AtMostOnce);
    let (p, _) = w.connect(Version::V5, "p");
    w.core.account_stands(B, Some(Full::Broker));
    (0..3).for_each(|_| drop(w.publish(p, "t", None)));
    w.wants(p, filter("$SYS/broker/publish/#"));
    let told = w.figures(p).0;
    assert_eq!(told["$SYS/broker/publish/messages/dropped/broker_memory"], "2");
    assert_eq!(told["$SYS/broker/publish/messages/dropped"], "2");
}

#[test]
fn a_broker_is_told_its_own_figures_alone() {
    let (mut all, _) = worlds(1);
    let w = &mut all[0];
    let (p, _) = w.connect_to(OTHER, Version::V5, "p");
    w.publish(p, "t", None);
    let a = w.watcher("a", "$SYS/#");
    let (told, _) = w.figures(a);
    assert_eq!(told["$SYS/broker/messages/received"], "0");
    assert_eq!(told["$SYS/broker/clients/total"], "1");
    assert_eq!(told["$SYS/broker/retained messages/count"], "9");
    assert_eq!(
        ["node", "nodes/live", "nodes/total"].map(|topic| told[&format!("$SYS/cluster/{topic}")].as_str()),
        ["1", "2", "3"]
    );
    w.tick(10_000);
    assert_eq!(w.sent(p, Version::V5), []);
}

#[test]
fn all_workers_of_the_node_are_added_up() {
    let (mut all, board) = worlds(2);
    let (p, _) = all[1].connect(Version::V5, "p");
    all[1].publish(p, "t", None);
    all[1].tick(0);
    assert_eq!(board.figures(B), Figures::default(), "nobody wants to know");
    let a = all[0].watcher("a", "$SYS/#");
    assert_eq!(all[0].figures(a).0.len(), 0, "the other has not reported");
    for _ in 0..2 {
        all.iter_mut().for_each(|w| w.tick(250));
    }
    let (told, retained) = all[0].figures(a);
    assert!(retained);
    assert_eq!(told["$SYS/broker/messages/received"], "1");
    assert_eq!(told["$SYS/broker/clients/connected"], "2");
    let b = all[1].watcher("b", "$SYS/broker/uptime");
    for _ in 0..2 {
        all.iter_mut().for_each(|w| w.tick(250));
    }
    assert_eq!(all[1].figures(b).0.len(), 1);
    assert_eq!(all[0].figures(a).0.len(), 0);
}

#[test]
fn nothing_is_reported_once_nobody_subscribes() {
    let (mut all, board) = worlds(1);
    let w = &mut all[0];
    let a = w.watcher("a", "$SYS/#");
    w.tick(250);
    assert_ne!(board.figures(B), Figures::default());
    w.step(Input::Closed { conn: a });
    (0..20).for_each(|_| w.tick(250));
    assert_eq!(board.figures(B), Figures::default());
}

#[test]
fn counters_outlive_the_last_client() {
    let (mut all, _) = worlds(1);
    let w = &mut all[0];
    let (p, _) = w.connect(Version::V5, "p");
    w.publish(p, "t", None);
    w.step(Input::Closed { conn: p });
    assert!(w.core.rooms.is_empty());
    let a = w.watcher("a", "$SYS/broker/messages/+");
    assert_eq!(w.figures(a).0["$SYS/broker/messages/received"], "1");
}

#[test]
fn as_the_subscription_says() {
    let (mut all, _) = worlds(1);
    let w = &mut all[0];
    let (a, _) = w.connect(Version::V5, "a");
    w.wants(a, SubscribeFilter { retain_handling: RetainHandling::Never, ..filter("$SYS/broker/uptime") });
    assert_eq!(w.figures(a).0.len(), 0);
    w.wants(a, SubscribeFilter { retain_handling: RetainHandling::IfNew, ..filter("$SYS/broker/uptime") });
    assert_eq!(w.figures(a).0.len(), 0);
    let kept = SubscribeFilter { retain_as_published: true, ..filter("$SYS/broker/uptime") };
    w.wants(a, kept);
    assert_eq!(w.figures(a).0.len(), 1);
    w.tick(10_000);
    let (told, retained) = w.figures(a);
    assert_eq!((told.len(), retained), (1, true));
    let all_others = w.watcher("b", "#");
    w.wants(all_others, filter("$share/g/$SYS/#"));
    w.tick(10_000);
    assert_eq!(w.figures(all_others).0.len(), 0);
}
