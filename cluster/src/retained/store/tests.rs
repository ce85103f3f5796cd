use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::disk::MemDisk;
use crate::ids::NodeId;
use crate::retained::Stamp;
use crate::rng::SystemRng;

const B: BrokerId = BrokerId(7);
const WALL: u64 = 1_700_000_000_000;

/// A clock that is set by hand.
#[derive(Default)]
struct Set(AtomicU64);

impl crate::clock::Clock for Set {
    fn now(&self) -> Moment {
        Moment(Duration::from_millis(self.0.load(Ordering::Acquire)))
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(WALL + self.0.load(Ordering::Acquire))
    }
}

fn dir() -> PathBuf {
    PathBuf::from("/retained")
}

fn open_at(disk: &MemDisk, clock: &Arc<Set>) -> Store {
    let clock: SharedClock = clock.clone();
    let config = StoreConfig { by_hand: true, compact_least: 2000, ..StoreConfig::new(clock, Arc::new(SystemRng)) };
    Store::open(&dir(), Arc::new(disk.clone()), config).unwrap()
}

fn open(disk: &MemDisk) -> Store {
    open_at(disk, &Arc::default())
}

fn write(topic: &str, time: u64, text: Option<&str>) -> Write {
    let stamp = Stamp { time: Time(Time::at(UnixMillis(WALL)).0 + time), node: NodeId(1) };
    let message = text.map(|t| t.to_owned().into());
    Write { broker: B, topic: topic.into(), record: Record { stamp, expires: None, message } }
}

fn take(store: &Store, write: Write) -> Arc<AtomicBool> {
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    store.take(&[write], Came::Published, Some(Box::new(move || tell.store(true, Ordering::Release))), || {});
    told
}

fn work(store: &Store) {
    while store.turn() {}
}

const ALL: Pages = Pages { messages: usize::MAX, bytes: usize::MAX, steps: usize::MAX };

fn messages(store: &Store) -> BTreeMap<String, String> {
    let text = |r: &Record| r.message.as_ref().map(|m| String::from_utf8(m.to_vec()).unwrap());
    let mut all = BTreeMap::new();
    for broker in store.brokers() {
        let (records, _) = store.records(broker, u64::MAX, None, ALL);
        all.extend(records.into_iter().filter_map(|(topic, r)| Some((topic, text(&r)?))));
    }
    all
}

fn current(disk: &MemDisk) -> PathBuf {
    use crate::disk::Disk;
    let names = disk.list(&dir()).unwrap();
    dir().join(names.iter().rfind(|name| name.ends_with(".retained")).unwrap())
}

#[test]
fn what_was_taken_is_there_after_a_start() {
    let disk = MemDisk::new(1);
    let store = open(&disk);
    work(&store);
    let told = take(&store, write("a/b", 1, Some("one")));
    assert!(!told.load(Ordering::Acquire), "not before it is on disk");
    work(&store);
    assert!(told.load(Ordering::Acquire));
    let (second, third) = (take(&store, write("a", 2, Some("x"))), take(&store, write("a", 3, None)));
    let before = store.stats().batches;
    work(&store);
    assert!(second.load(Ordering::Acquire) && third.load(Ordering::Acquire));
    assert_eq!(store.stats().batches, before + 1, "one sync for both");
    store.close();
    disk.crash();
    let store = open(&disk);
    assert_eq!(messages(&store), BTreeMap::from([("a/b".into(), "one".into())]));
    assert_eq!(store.totals().records, 2, "the tombstone as well");
    assert!(store.next_time() > Time(Time::at(UnixMillis(WALL)).0 + 3), "time goes on after what it has seen");
}

#[test]
fn a_deleted_broker_is_gone_from_disk() {
    let disk = MemDisk::new(1);
    let store = open(&disk);
    take(&store, write("a", 1, Some("one")));
    work(&store);
    take(&store, write("b", 1, Some("queued")));
    store.remove(B);
    work(&store);
    store.close();
    assert_eq!(messages(&open(&disk)), BTreeMap::new());
}

#[test]
fn a_full_disk_holds_publishes_back_until_there_is_room() {
    let disk = MemDisk::new(1);
    let store = open(&disk);
    work(&store);
    disk.set_capacity(Some(300));
    let told = take(&store, write("a", 1, Some(&"x".repeat(400))));
    work(&store);
    work(&store);
    assert!(!told.load(Ordering::Acquire));
    assert!(store.stats().disk_errors > 0);
    let again = take(&store, write("a", 2, Some(&"y".repeat(400))));
    work(&store);
    disk.set_capacity(None);
    work(&store);
    work(&store);
    assert!(told.load(Ordering::Acquire) && again.load(Ordering::Acquire));
    let after = take(&store, write("a", 3, Some("z")));
    work(&store);
    assert!(after.load(Ordering::Acquire));
    store.close();
    disk.crash();
    assert_eq!(messages(&open(&disk)), BTreeMap::from([("a".into(), "z".into())]));
}

#[test]
fn after_a_failed_sync_all_is_written_anew() {
    let disk = MemDisk::new(3);
    let store = open(&disk);
    take(&store, write("a", 1, Some("one")));
    work(&store);
    disk.fail_sync_in(0);
    let told = take(&store, write("b", 2, Some("two")));
    work(&store);
    assert!(!told.load(Ordering::Acquire));
    work(&store);
    assert!(told.load(Ordering::Acquire));
    store.close();
    disk.crash();
    assert_eq!(messages(&open(&disk)).len(), 2);
}

#[test]
fn a_worn_file_is_written_anew() {
    let disk = MemDisk::new(1);
    let store = open(&disk);
    work(&store);
    store.caught_up();
    work(&store);
    for n in 0..200 {
        take(&store, write("a", n, Some(&format!("{n:050}"))));
        take(&store, write(&format!("t/{}", n % 10), n, Some("x")));
        work(&store);
    }
    assert!(store.stats().rewritten > 2);
    let len = disk.content(&current(&disk)).unwrap().len();
    assert!(len < 5000, "{len}");
    let expected = messages(&store);
    assert_eq!(expected.len(), 11);
    store.close();
    assert_eq!(messages(&open(&disk)), expected);
}

#[test]
fn damage_is_passed_over_and_the_store_is_not_sound() {
    let disk = MemDisk::new(1);
    let store = open(&disk);
    assert!(!store.sound(), "it has never caught up");
    store.caught_up();
    work(&store);
    for topic in ["a", "b", "c"] {
        take(&store, write(topic, 1, Some(topic)));
        work(&store);
    }
    store.close();
    let whole = open(&disk);
    assert!(whole.sound());
    whole.close();
    let content = disk.content(&current(&disk)).unwrap();
    let middle = content.windows(5).position(|w| w == b"\x01\x00\x00\x00b").unwrap();
    disk.flip(&current(&disk), middle as u64 + 4, 1);
    let store = open(&disk);
    assert!(!store.sound());
    assert_eq!(messages(&store).into_keys().collect::<Vec<_>>(), ["a", "c"]);
    work(&store);
    store.close();
    let store = open(&disk);
    assert!(!store.sound(), "the new file does not say that it has all");
    store.caught_up();
    work(&store);
    store.close();
    assert!(open(&disk).sound());
}

#[test]
fn a_broker_has_its_own_bounds_but_no_more_than_any() {
    let store = open(&MemDisk::new(1));
    take(&store, write("a", 1, Some("one")));
    assert_eq!(store.room(B, "b", 1), Ok(()));
    store.bound(B, Bounds::of(1, 0));
    assert_eq!(store.room(B, "b", 1), Err(Full));
    assert_eq!(store.room(BrokerId(8), "b", 1), Ok(()), "another broker has its own");
    assert_eq!(store.room(B, "a", 100), Ok(()), "it takes the place of the old one");
    store.bound(B, Bounds::of(0, 5));
    assert_eq!(store.room(B, "b", 1), Err(Full));
    for (messages, bytes) in [(0, 0), (u32::MAX, u64::MAX)] {
        assert_eq!(Bounds::of(messages, bytes), Bounds::default());
    }
    store.remove(B);
    assert_eq!(store.room(B, "b", 100), Ok(()));
}

#[test]
fn nothing_is_taken_of_a_broker_that_was_deleted() {
    let store = open(&MemDisk::new(1));
    take(&store, write("a", 1, Some("one")));
    store.remove(B);
    let told = take(&store, write("b", 2, Some("late")));
    assert_eq!(store.totals(), Totals::default());
    work(&store);
    assert!(told.load(Ordering::Acquire), "its sender is answered all the same");
    take(&store, Write { broker: BrokerId(8), ..write("a", 3, Some("another's")) });
    assert_eq!(store.totals().messages, 1);
}

#[test]
fn a_torn_end_is_cut_off() {
    let disk = MemDisk::new(1);
    let store = open(&disk);
    store.caught_up();
    work(&store);
    for topic in ["a", "b"] {
        take(&store, write(topic, 1, Some(topic)));
        work(&store);
    }
    store.close();
    let len = disk.content(&current(&disk)).unwrap().len() as u64;
    disk.flip(&current(&disk), len - 1, 1);
    let store = open(&disk);
    assert!(store.sound());
    assert_eq!(messages(&store).into_keys().collect::<Vec<_>>(), ["a"]);
    take(&store, write("c", 1, Some("c")));
    work(&store);
    store.close();
    assert_eq!(messages(&open(&disk)).into_keys().collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn who_was_away_too_long_copies_afresh() {
    let (disk, clock) = (MemDisk::new(1), Arc::<Set>::default());
    let store = open_at(&disk, &clock);
    take(&store, write("a", 1, Some("one")));
    store.caught_up();
    work(&store);
    assert!(!store.stale());
    store.close();
    clock.0.store(limits::TOMBSTONE_MOST.as_millis() as u64, Ordering::Release);
    let store = open_at(&disk, &clock);
    assert!(store.stale());
    store.set_aside();
    take(&store, write("b", 2, Some("two")));
    work(&store);
    assert_eq!(messages(&store).len(), 1);
    store.caught_up();
    work(&store);
    store.close();
    let store = open_at(&disk, &clock);
    assert!(store.sound() && !store.stale());
    assert_eq!(messages(&store).into_keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn nobody_reads_between_a_record_and_its_publish() {
    let disk = MemDisk::new(1);
    let store = open(&disk);
    let order = Mutex::new(Vec::new());
    store.take(&[write("a", 1, Some("one"))], Came::Published, None, || order.lock().push("posted"));
    store.page(B, "#", None, ALL, |page| {
        order.lock().push("read");
        assert_eq!(page.found.len(), 1);
    });
    assert_eq!(*order.lock(), ["posted", "read"]);
}

#[test]
fn a_clock_that_is_ahead_is_refused() {
    let store = open(&MemDisk::new(1));
    assert_eq!(store.check(Time::at(UnixMillis(WALL + 500))), Ok(()));
    assert_eq!(store.check(Time::at(UnixMillis(WALL + 501))), Err(Ahead(Duration::from_millis(501))));
    assert_eq!(store.stats().refused_ahead, 1);
}

#[derive(Clone, Debug)]
enum Step {
    Write(u8, bool, usize),
    Turn,
    Crash(u64),
    FailedSync(u64),
    Remove,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..6u8, any::<bool>(), 0..900usize).prop_map(|(t, put, n)| Step::Write(t, put, n)),
        8 => Just(Step::Turn),
        2 => (0..10u64).prop_map(Step::Crash),
        1 => (0..3u64).prop_map(Step::FailedSync),
        1 => Just(Step::Remove),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// What somebody was told of is there after any crash, or something newer; nothing is there that was not written.
    #[test]
    fn what_was_told_survives(seed: u64, steps in vec(step(), 1..60)) {
        let disk = MemDisk::new(seed);
        let mut store = open(&disk);
        let mut time = 0;
        // Each topic's writes since the last removal: (time, told).
        let mut written: BTreeMap<String, Vec<(u64, Arc<AtomicBool>)>> = BTreeMap::new();
        let mut removed = false;
        for step in steps {
            match step {
                Step::Write(topic, put, bytes) => {
                    time += 1;
                    let topic = format!("t{topic}");
                    let told = take(&store, write(&topic, time, put.then_some(&"x".repeat(bytes))));
                    written.entry(topic).or_default().push((time, told));
                }
                Step::Turn => drop(store.turn()),
                Step::Remove => {
                    store.remove(B);
                    removed = true;
                }
                Step::FailedSync(n) => disk.fail_sync_in(n),
                Step::Reopen => {
                    disk.heal();
                    work(&store);
                    work(&store);
                    store.close();
                    store = open(&disk);
                }
                Step::Crash(n) => {
                    disk.power_fails_in(n);
                    for _ in 0..4 {
                        store.turn();
                    }
                    disk.power_fails_in(0);
                    drop(store);
                    disk.crash();
                    store = open(&disk);
                    let (records, _) = store.records(B, u64::MAX, None, ALL);
                    let there: BTreeMap<String, Record> = records.into_iter().collect();
                    for (topic, writes) in &written {
                        let least = writes.iter().filter(|(_, told)| told.load(Ordering::Acquire)).map(|(t, _)| *t).max();
                        let found = there.get(topic).map(|r| r.stamp.time.0 - Time::at(UnixMillis(WALL)).0);
                        if !removed {
                            prop_assert!(found >= least, "{topic}: {found:?}, told of {least:?}");
                        }
                        prop_assert!(found.is_none_or(|f| writes.iter().any(|(t, _)| *t == f)));
                    }
                    prop_assert!(there.keys().all(|topic| written.contains_key(topic)));
                }
            }
        }
    }
}

#[test]
fn writes_follow_the_time_of_a_peer_as_far_as_its_clock_is_believed() {
    let store = open(&MemDisk::new(1));
    let ahead = |millis: u64| Time::at(UnixMillis(WALL + millis));
    assert_eq!(store.follow(ahead(300)), Ok(()));
    assert!(store.next_time() > ahead(300));
    assert_eq!(store.follow(ahead(9000)), Err(Ahead(Duration::from_millis(9000))));
    assert_eq!(store.latest(), ahead(500));
    assert_eq!(store.follow(Time::default()), Ok(()));
    assert_eq!(store.latest(), ahead(500));
}
