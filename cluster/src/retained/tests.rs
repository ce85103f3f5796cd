use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::clock::{Moment, UnixMillis};
use crate::ids::{BrokerId, NodeId};
use crate::limits::{TOMBSTONE_LEAST, TOMBSTONE_MOST};

const B: BrokerId = BrokerId(7);
const WALL: UnixMillis = UnixMillis(1_700_000_000_000);

fn at(millis: u64) -> Moment {
    Moment(Duration::from_millis(millis))
}

fn stamp(time: u64, node: u64) -> Stamp {
    Stamp { time: Time(Time::at(WALL).0 + time), node: NodeId(node) }
}

fn put(stamp: Stamp, text: &str) -> Record {
    Record { stamp, expires: None, message: Some(text.to_owned().into()) }
}

fn tombstone(stamp: Stamp) -> Record {
    Record { stamp, expires: None, message: None }
}

const ALL: Pages = Pages { messages: usize::MAX, bytes: usize::MAX, steps: usize::MAX };

fn texts(table: &Table, filter: &str) -> Vec<String> {
    let page = table.page(B, filter, None, WALL, ALL);
    assert_eq!(page.next, None);
    page.found.iter().map(|f| String::from_utf8(f.message.to_vec()).unwrap()).collect()
}

fn everything(table: &Table) -> Vec<(BrokerId, String, Record)> {
    table.all().map(|(b, t, r)| (b, t, r.clone())).collect()
}

fn messages(table: &Table) -> Vec<(BrokerId, String, Record)> {
    everything(table).into_iter().filter(|(_, _, r)| r.message.is_some()).collect()
}

/// One node asks another for what it lacks, in small chunks.
fn pull(into: &mut Table, from: &Table) {
    let mut after = None;
    loop {
        let page = from.digests(after, 2);
        let Some((last, _)) = page.last() else { return };
        after = Some(*last);
        for (broker, theirs) in page {
            let mask = differing(&into.digests_of(broker), &theirs);
            if mask == 0 {
                continue;
            }
            let mut topic: Option<String> = None;
            loop {
                let most = Pages { messages: 2, bytes: 50, steps: 5 };
                let (records, next) = from.records(broker, mask, topic.as_deref(), most);
                for (name, record) in records {
                    into.merge(at(0), broker, &name, record, Came::Copied);
                }
                topic = next;
                if topic.is_none() {
                    break;
                }
            }
        }
    }
}

fn write() -> impl Strategy<Value = (BrokerId, String, Record)> {
    let topic = proptest::sample::select(vec!["a", "a/b", "a/b/c", "b", "/", "é"]);
    let expires = prop_oneof![Just(None), (0..3u64).prop_map(|n| Some(UnixMillis(WALL.0 + n)))];
    (0..3u128, topic, 0..20u64, 1..4u64, prop_oneof![3 => Just(true), 1 => Just(false)], expires, 0..3u8).prop_map(
        |(broker, topic, time, node, message, expires, text)| {
            let message = message.then(|| vec![text; 3].into());
            (BrokerId(broker), topic.to_owned(), Record { stamp: stamp(time, node), expires, message })
        },
    )
}

proptest! {
    #[test]
    fn any_order_of_the_same_records_makes_the_same_table(
        (writes, shuffled) in vec(write(), 0..60).prop_flat_map(|w| {
            let twice: Vec<_> = w.iter().chain(&w).cloned().collect();
            (Just(w), Just(twice).prop_shuffle())
        })
    ) {
        // A node makes each stamp once.
        let mut one = Table::default();
        let mut other = Table::default();
        for (broker, topic, record) in writes {
            one.merge(at(0), broker, &topic, record, Came::Published);
        }
        for (broker, topic, record) in shuffled {
            other.merge(at(5), broker, &topic, record, Came::Copied);
        }
        prop_assert_eq!(one.digests(None, 100), other.digests(None, 100));
        prop_assert_eq!(one.totals(), other.totals());
        let strip = |table| everything(table).into_iter().map(|(b, t, r)| (b, t, r.stamp, r.message)).collect::<Vec<_>>();
        prop_assert_eq!(strip(&one), strip(&other));
        let counted = messages(&one);
        prop_assert_eq!(one.totals().messages, counted.len());
        prop_assert_eq!(one.totals().bytes, counted.iter().map(|(_, t, r)| t.len() + r.bytes()).sum::<usize>());
    }

    #[test]
    fn repair_converges(seen in vec(vec(write(), 0..40), 3)) {
        let mut tables: Vec<Table> = seen
            .into_iter()
            .map(|writes| {
                let mut table = Table::default();
                for (broker, topic, record) in writes {
                    table.merge(at(0), broker, &topic, record, Came::Published);
                }
                table
            })
            .collect();
        for _ in 0..2 {
            for i in 0..3 {
                for j in (0..3).filter(|j| *j != i) {
                    let from = std::mem::take(&mut tables[j]);
                    pull(&mut tables[i], &from);
                    tables[j] = from;
                }
            }
        }
        for table in &tables[1..] {
            prop_assert_eq!(messages(table).len(), messages(&tables[0]).len());
            for broker in (0..3).map(BrokerId) {
                prop_assert_eq!(table.digests_of(broker), tables[0].digests_of(broker));
            }
        }
    }

    #[test]
    fn pages_hold_what_one_page_would(topics in vec("[ab/]{1,4}", 0..40), messages in 1..4usize, steps in 1..4usize) {
        let mut table = Table::default();
        for (n, topic) in topics.iter().enumerate() {
            table.merge(at(0), B, topic, put(stamp(n as u64, 1), topic), Came::Published);
        }
        for filter in ["#", "a/#", "+/+", "+/a/#", "a/b", "/+"] {
            let (mut got, mut after) = (Vec::new(), None);
            loop {
                let page = table.page(B, filter, after, WALL, Pages { messages, bytes: 5, steps });
                prop_assert!(page.found.len() <= messages);
                got.extend(page.found.iter().map(|f| String::from_utf8(f.message.to_vec()).unwrap()));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(got, texts(&table, filter));
        }
    }
}

#[test]
fn time_runs_with_the_clock_and_never_back() {
    let first = Time::default().next(WALL);
    assert_eq!(first, Time::at(WALL));
    assert_eq!(first.next(WALL), Time(first.0 + 1));
    assert_eq!(first.next(UnixMillis(WALL.0 - 9)), Time(first.0 + 1));
    assert_eq!(first.next(UnixMillis(WALL.0 + 1)).wall(), UnixMillis(WALL.0 + 1));
    assert_eq!(first.ahead_of(UnixMillis(WALL.0 - 501)), Duration::from_millis(501));
    assert_eq!(first.ahead_of(UnixMillis(WALL.0 + 1)), Duration::ZERO);
}

#[test]
fn the_last_writer_wins_and_a_deletion_is_a_write() {
    let mut table = Table::default();
    assert!(table.merge(at(0), B, "a", put(stamp(1, 1), "one"), Came::Published));
    assert!(!table.merge(at(0), B, "a", put(stamp(0, 9), "older"), Came::Published));
    assert!(!table.merge(at(0), B, "a", put(stamp(1, 1), "one"), Came::Published));
    assert!(table.merge(at(0), B, "a", put(stamp(1, 2), "two"), Came::Published));
    assert_eq!(texts(&table, "#"), ["two"]);
    assert!(table.merge(at(0), B, "a", tombstone(stamp(2, 1)), Came::Published));
    assert!(!table.merge(at(0), B, "a", put(stamp(1, 3), "late"), Came::Published));
    assert_eq!(texts(&table, "#"), [""; 0]);
    assert_eq!(table.totals(), Totals { messages: 0, records: 1, bytes: 0 });
    assert_eq!(table.digests_of(B), [0; BUCKETS]);
}

#[test]
fn a_message_expires_and_stays_a_tombstone() {
    let mut table = Table::default();
    let mut record = put(stamp(1, 1), "x");
    record.expires = Some(UnixMillis(WALL.0 + 10));
    table.merge(at(0), B, "a", record.clone(), Came::Published);
    assert_eq!(texts(&table, "a"), ["x"]);
    let later = UnixMillis(WALL.0 + 10);
    assert_eq!(table.page(B, "a", None, later, ALL).found, []);
    assert_eq!(table.expire(at(1), WALL), 0);
    assert_eq!(table.expire(at(1), later), 1);
    assert!(!table.merge(at(2), B, "a", record, Came::Copied), "its own copy does not bring it back");
    assert!(!table.merge(at(2), B, "a", put(stamp(0, 1), "older"), Came::Copied));
    assert!(table.merge(at(2), B, "a", put(stamp(2, 1), "y"), Came::Published));
}

#[test]
fn tombstones_stay_until_every_member_has_them() {
    let mut table = Table::default();
    table.merge(at(5), B, "a", tombstone(stamp(0, 1)), Came::Published);
    let later = UnixMillis(WALL.0 + TOMBSTONE_LEAST.as_millis() as u64);
    assert_eq!(table.bury(None, later), 0, "some member was never compared with");
    assert_eq!(table.bury(Some(at(5)), later), 0, "the comparison was before it");
    assert_eq!(table.bury(Some(at(6)), UnixMillis(later.0 - 1)), 0, "something may still be on its way");
    assert_eq!(table.bury(Some(at(6)), later), 1);
    assert_eq!(table.totals(), Totals::default());
    table.merge(at(5), B, "a", tombstone(stamp(0, 1)), Came::Published);
    table.merge(at(6), B, "a", put(stamp(1, 1), "again"), Came::Published);
    assert_eq!(table.bury(Some(at(9)), later), 0);
    assert_eq!(texts(&table, "a"), ["again"], "what came after it stays");
    table.merge(at(7), B, "a", tombstone(stamp(2, 1)), Came::Published);
    assert_eq!(table.bury(None, UnixMillis(later.0 + TOMBSTONE_MOST.as_millis() as u64)), 1);
}

#[test]
fn a_broker_has_so_much_room() {
    let mut table = Table::default();
    let bounds = Bounds { messages: 2, bytes: 20, records: 4 };
    assert_eq!(table.room(B, "a", 20, bounds), Err(Full), "the first one must fit as well");
    assert_eq!(table.room(B, "a", 19, bounds), Ok(()));
    table.merge(at(0), B, "a", put(stamp(0, 1), "0123456789"), Came::Published);
    assert_eq!(table.room(B, "b", 9, bounds), Err(Full));
    assert_eq!(table.room(B, "b", 8, bounds), Ok(()));
    assert_eq!(table.room(B, "a", 19, bounds), Ok(()), "it takes the place of the old one");
    table.merge(at(0), B, "b", put(stamp(0, 1), ""), Came::Published);
    assert_eq!(table.room(B, "c", 0, bounds), Err(Full));
    assert_eq!(table.room(B, "b", 1, bounds), Ok(()));
    for (n, topic) in ["a", "b", "c", "d"].iter().enumerate() {
        assert!(table.remembers(B, topic, bounds));
        table.merge(at(0), B, topic, tombstone(stamp(1 + n as u64, 1)), Came::Published);
    }
    assert!(!table.remembers(B, "e", bounds));
    assert_eq!(table.room(B, "e", 0, bounds), Err(Full), "tombstones take room as well");
    assert_eq!(table.room(B, "a", 0, bounds), Ok(()));
    assert!(table.remove(B));
    assert_eq!(table.totals(), Totals::default());
}

#[test]
fn what_was_replaced_meanwhile_is_not_delivered_late() {
    let mut table = Table::default();
    for topic in ["gone", "live", "copied", "same"] {
        table.merge(at(0), B, topic, put(stamp(0, 1), topic), Came::Published);
    }
    let mut page = table.page(B, "#", None, WALL, ALL);
    table.merge(at(0), B, "gone", tombstone(stamp(1, 1)), Came::Published);
    table.merge(at(0), B, "live", put(stamp(1, 1), "newer"), Came::Published);
    table.merge(at(0), B, "copied", put(stamp(1, 1), "repaired"), Came::Copied);
    table.renew(B, &mut page);
    let texts: Vec<&[u8]> = page.found.iter().map(|f| &f.message[..]).collect();
    assert_eq!(texts, [b"repaired".as_slice(), b"same"]);
}

#[test]
fn a_topic_is_queued_for_the_disk_once() {
    let mut table = Table::default();
    assert!(!table.queue(B, "a"));
    table.merge(at(0), B, "a", put(stamp(0, 1), "x"), Came::Published);
    assert!(table.queue(B, "a"));
    table.merge(at(0), B, "a", put(stamp(1, 1), "y"), Came::Published);
    assert!(!table.queue(B, "a"));
    assert_eq!(table.unqueue(B, "a"), Some(put(stamp(1, 1), "y")));
    assert!(table.queue(B, "a"));
}
