//! One broker on one worker: who of this worker, of its siblings and of the peers wants what.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use rookery_cluster::ids::BrokerId;
use rookery_cluster::topics::{Index, Seeded, ShareStrategy, validate_filter};

use super::ConnKey;
use super::account::Account;
use super::group::{GroupId, Groups, Member};
pub use super::options::Options;
use super::orphans::Orphans;
use super::system::{Counts, Schedule};
use crate::mqtt::codec::QoS;

/// Topics whose matches are remembered. When full, the memory is emptied: hot topics come back at once.
const REMEMBERED_TOPICS: usize = 16_384;
/// About how many bytes they may take, with their names and matches: one client names topics of 64 KiB, or has all of
/// them match all others' `#`.
const REMEMBERED_BYTES: usize = 16 << 20;
/// A match of more bytes is not remembered: delivering to so many costs more than finding them.
const REMEMBERED_MATCH_BYTES: usize = 1 << 20;

/// Index of a destination in the core's table.
pub type DestIndex = u16;

/// Who holds a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subscriber {
    /// A connection of this worker.
    Local(ConnKey),
    /// Some connection elsewhere.
    Remote(DestIndex),
    /// One of those who share a subscription, here or elsewhere.
    Group(GroupId),
}

/// One receiving connection of this worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMatch {
    /// The connection.
    pub conn: ConnKey,
    /// The highest QoS of its matching subscriptions (MQTT 5 §3.3.4).
    pub qos: QoS,
    /// All of its matching subscriptions are No Local.
    pub no_local: bool,
    /// Any of them asks for Retain As Published.
    pub retain_as_published: bool,
    /// Identifiers of the matching subscriptions.
    pub ids: Vec<u32>,
}

/// Everybody who gets a message on one topic: each connection and each destination once.
#[derive(Debug, Default)]
pub struct Matches {
    /// Connections of this worker.
    pub locals: Vec<LocalMatch>,
    /// Other workers and nodes.
    pub remotes: Vec<DestIndex>,
    /// Shared subscriptions. Who their members are is looked up when one is chosen.
    pub shares: Vec<GroupId>,
}

impl Matches {
    /// About what it takes, bytes.
    fn bytes(&self) -> usize {
        size_of_val(&*self.locals) + size_of_val(&*self.remotes) + size_of_val(&*self.shares)
    }
}

/// Interest of this worker's own connections in one filter.
#[derive(Debug, Default)]
struct Held {
    refs: u32,
    /// The barrier that other workers and nodes have yet to pass.
    barrier: Option<u64>,
}

/// What the others must be told after a subscription was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// All of them know the filter already.
    Known,
    /// They are being told: wait for this barrier.
    Pending(u64),
    /// They must be told, under this new barrier.
    New(u64),
}

/// One broker on one worker.
#[derive(Debug)]
pub struct Room {
    /// The broker.
    pub id: BrokerId,
    index: Index<Subscriber, Options>,
    /// Shared subscriptions.
    pub groups: Groups,
    /// What this worker's own connections hold, shared subscriptions with their `$share` prefix.
    held: BTreeMap<Arc<str>, Held>,
    remembered: HashMap<Box<str>, Rc<Matches>, Seeded>,
    remembered_bytes: usize,
    /// Rises with every change of the index: a match remembered elsewhere is valid for one generation.
    generation: u64,
    /// Connections of this worker that the broker has.
    pub conns: u32,
    /// What waits for other members of shared subscriptions.
    pub orphans: Orphans,
    /// Sessions without a connection that it has here.
    pub parked: u32,
    /// Bytes that wait for both (R19).
    pub account: Account,
    /// What is counted of the broker here.
    pub counts: Counts,
    /// When subscribers to `$SYS` get figures, if there are any.
    pub schedule: Option<Schedule>,
    /// Subscriptions of this worker's connections and kept sessions.
    subscribed: u64,
    /// How a member of a shared subscription is chosen where no client's settings are at hand; as those of the last
    /// client admitted say.
    pub strategy: ShareStrategy,
}

impl Room {
    /// A broker that nobody wants anything of yet.
    pub fn new(id: BrokerId, seed: u64) -> Self {
        Self {
            id,
            index: Index::new(seed),
            groups: Groups::default(),
            held: BTreeMap::new(),
            remembered: HashMap::with_hasher(Seeded::new(seed)),
            remembered_bytes: 0,
            generation: 0,
            conns: 0,
            orphans: Orphans::default(),
            parked: 0,
            account: Account::default(),
            counts: Counts::default(),
            schedule: None,
            subscribed: 0,
            strategy: ShareStrategy::default(),
        }
    }

    /// Whether nothing is known of the broker any more.
    pub fn is_idle(&self) -> bool {
        self.conns == 0 && self.parked == 0 && self.index.is_empty() && self.orphans.is_empty()
    }

    /// Subscriptions of this worker's connections and kept sessions.
    pub fn subscriptions(&self) -> u64 {
        self.subscribed
    }

    /// Whether one of these begins with `prefix`.
    pub fn holds_below(&self, prefix: &str) -> bool {
        let from = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        self.held.range::<str, _>(from).next().is_some_and(|(filter, _)| filter.starts_with(prefix))
    }

    /// See the field.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Who gets a message on `topic`.
    pub fn matches(&mut self, topic: &str) -> Rc<Matches> {
        if let Some(known) = self.remembered.get(topic) {
            return known.clone();
        }
        let found = Rc::new(self.find(topic));
        let bytes = topic.len() + found.bytes();
        if bytes > REMEMBERED_MATCH_BYTES {
            return found;
        }
        if self.remembered.len() >= REMEMBERED_TOPICS || self.remembered_bytes + bytes > REMEMBERED_BYTES {
            self.forget_matches();
        }
        self.remembered.insert(topic.into(), found.clone());
        self.remembered_bytes += bytes;
        found
    }

    fn forget_matches(&mut self) {
        self.remembered.clear();
        self.remembered_bytes = 0;
    }

    fn find(&self, topic: &str) -> Matches {
        let mut locals: Vec<LocalMatch> = Vec::new();
        let (mut remotes, mut shares) = (Vec::new(), Vec::new());
        self.index.for_each_match(topic, |subscriber, options| match subscriber {
            Subscriber::Remote(dest) => remotes.push(*dest),
            Subscriber::Group(group) => shares.push(*group),
            Subscriber::Local(conn) => locals.push(LocalMatch {
                conn: *conn,
                qos: options.qos,
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                ids: options.id.into_iter().collect(),
            }),
        });
        remotes.sort_unstable();
        remotes.dedup();
        locals.sort_by_key(|m| m.conn);
        locals.dedup_by(|next, first| {
            let same = next.conn == first.conn;
            if same {
                first.qos = first.qos.max(next.qos);
                first.no_local &= next.no_local;
                first.retain_as_published |= next.retain_as_published;
                first.ids.append(&mut next.ids);
            }
            same
        });
        Matches { locals, remotes, shares }
    }

    fn changed(&mut self) {
        self.generation += 1;
        self.forget_matches();
    }

    /// Adds or replaces a connection's subscription. `new_barrier` is used if the others must be told.
    pub fn subscribe(&mut self, conn: ConnKey, filter: &Arc<str>, options: Options, new_barrier: u64) -> Interest {
        let replaced = self.index.insert(filter, Subscriber::Local(conn), options).is_some();
        self.changed();
        self.hold(filter, replaced, new_barrier)
    }

    /// As [`Room::subscribe`], to the shared subscription `filter`, for which `client` (hashed) becomes a member.
    pub fn join(&mut self, conn: ConnKey, client: u64, filter: &Arc<str>, options: Options, barrier: u64) -> Interest {
        let group = self.group(filter);
        let replaced = self.groups.join(group, conn, Member { client, options });
        self.hold(filter, replaced, barrier)
    }

    fn hold(&mut self, filter: &Arc<str>, replaced: bool, new_barrier: u64) -> Interest {
        let held = self.held.entry(filter.clone()).or_default();
        if !replaced {
            held.refs += 1;
            self.subscribed += 1;
        }
        if held.refs == 1 && !replaced {
            held.barrier = Some(new_barrier);
            return Interest::New(new_barrier);
        }
        held.barrier.map_or(Interest::Known, Interest::Pending)
    }

    /// Removes a connection's subscription: whether there was one, and whether the others must be told that
    /// nobody here wants the filter any more.
    pub fn unsubscribe(&mut self, conn: ConnKey, filter: &str) -> (bool, bool) {
        if let Some(group) = self.groups.find(filter) {
            if !self.groups.leave(group, conn) {
                return (false, false);
            }
            self.forget_group(group);
        } else if self.index.remove(filter, &Subscriber::Local(conn)).is_none() {
            return (false, false);
        } else {
            self.changed();
        }
        let Some(held) = self.held.get_mut(filter) else { return (true, false) };
        held.refs -= 1;
        self.subscribed -= 1;
        let last = held.refs == 0;
        if last {
            self.held.remove(filter);
        }
        (true, last)
    }

    /// The options of a connection's subscription.
    pub fn options(&self, conn: ConnKey, filter: &str) -> Option<Options> {
        match self.groups.find(filter) {
            Some(group) => Some(self.groups.get(group)?.member(conn)?.options),
            None => self.index.get(filter, &Subscriber::Local(conn)).copied(),
        }
    }

    /// The subscriptions of `old` are `new`'s from now on.
    pub fn rekey<'f>(&mut self, old: ConnKey, new: ConnKey, filters: impl Iterator<Item = &'f Arc<str>>) {
        for filter in filters {
            if let Some(group) = self.groups.find(filter) {
                self.groups.rename(group, old, new);
            } else if let Some(options) = self.index.remove(filter, &Subscriber::Local(old)) {
                self.index.insert(filter, Subscriber::Local(new), options);
            }
        }
        self.changed();
    }

    /// The barrier `token` of `filter` ended.
    pub fn barrier_passed(&mut self, filter: &str, token: u64) {
        if let Some(held) = self.held.get_mut(filter)
            && held.barrier == Some(token)
        {
            held.barrier = None;
        }
    }

    /// The group of a shared filter; made when it is first heard of.
    fn group(&mut self, filter: &Arc<str>) -> GroupId {
        if let Some(known) = self.groups.find(filter) {
            return known;
        }
        let group = self.groups.add(filter.clone());
        self.index.insert(inner(filter), Subscriber::Group(group), REMOTE);
        self.changed();
        group
    }

    /// A group without members is none.
    fn forget_group(&mut self, group: GroupId) {
        if let Some(filter) = self.groups.remove_idle(group) {
            self.index.remove(inner(&filter), &Subscriber::Group(group));
            self.changed();
        }
    }

    /// Another worker or node wants `filter`, or has members that share it.
    pub fn add_remote(&mut self, dest: DestIndex, filter: &Arc<str>) {
        if is_shared(filter) {
            let group = self.group(filter);
            return self.groups.add_holder(group, dest);
        }
        self.index.insert(filter, Subscriber::Remote(dest), REMOTE);
        self.changed();
    }

    /// It wants nothing any more.
    pub fn clear_remote(&mut self, dest: DestIndex) {
        let gone: Vec<String> = self
            .index
            .filters()
            .into_iter()
            .filter(|filter| self.index.get(filter, &Subscriber::Remote(dest)).is_some())
            .collect();
        for filter in gone.iter().map(String::as_str).chain(self.groups.held_by(dest).iter().map(|text| &**text)) {
            self.remove_remote(dest, filter);
        }
    }

    /// It no longer wants `filter`.
    pub fn remove_remote(&mut self, dest: DestIndex, filter: &str) {
        if let Some(group) = self.groups.find(filter) {
            self.groups.remove_holder(group, dest);
            return self.forget_group(group);
        }
        self.index.remove(filter, &Subscriber::Remote(dest));
        self.changed();
    }
}

/// Options that say nothing: those of the subscriptions elsewhere count there.
const REMOTE: Options = Options { qos: QoS::ExactlyOnce, no_local: false, retain_as_published: true, id: None };

/// Whether a valid filter is that of a shared subscription.
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// The filter without its `$share` prefix.
fn inner(filter: &str) -> &str {
    validate_filter(filter).map_or(filter, |parsed| parsed.filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnKey = ConnKey { index: 1, generation: 1 };
    const B: ConnKey = ConnKey { index: 2, generation: 1 };

    fn options(qos: QoS) -> Options {
        Options { qos, no_local: false, retain_as_published: false, id: None }
    }

    fn room() -> Room {
        Room::new(BrokerId(1), 7)
    }

    #[test]
    fn overlapping_subscriptions_deliver_once_at_the_highest_qos() {
        let mut r = room();
        r.subscribe(A, &"a/+".into(), Options { id: Some(3), ..options(QoS::AtMostOnce) }, 1);
        r.subscribe(A, &"a/#".into(), Options { id: Some(4), ..options(QoS::AtLeastOnce) }, 2);
        r.subscribe(B, &"a/b".into(), options(QoS::AtMostOnce), 3);
        r.add_remote(7, &"#".into());
        r.add_remote(7, &"a/b".into());
        let m = r.matches("a/b");
        assert_eq!(m.remotes, [7]);
        assert_eq!(m.locals.len(), 2);
        assert_eq!((m.locals[0].conn, m.locals[0].qos), (A, QoS::AtLeastOnce));
        let mut ids = m.locals[0].ids.clone();
        ids.sort_unstable();
        assert_eq!(ids, [3, 4]);
    }

    #[test]
    fn others_are_told_of_the_first_and_the_last_only() {
        let mut r = room();
        let f: Arc<str> = "x".into();
        assert_eq!(r.subscribe(A, &f, options(QoS::AtMostOnce), 1), Interest::New(1));
        assert_eq!(r.subscribe(B, &f, options(QoS::AtMostOnce), 2), Interest::Pending(1));
        r.barrier_passed("x", 1);
        assert_eq!(r.subscribe(B, &f, options(QoS::AtLeastOnce), 3), Interest::Known);
        assert_eq!(r.unsubscribe(A, "x"), (true, false));
        assert_eq!(r.unsubscribe(A, "x"), (false, false));
        assert_eq!(r.unsubscribe(B, "x"), (true, true));
        assert_eq!(r.subscribe(B, &f, options(QoS::AtMostOnce), 4), Interest::New(4));
        assert!(r.matches("y").locals.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut r = room();
        for index in 0..100 {
            let conn = ConnKey { index, generation: 1 };
            r.subscribe(conn, &"#".into(), options(QoS::AtMostOnce), 1);
        }
        let long = "x".repeat(60_000);
        for n in 0..1500 {
            assert_eq!(r.matches(&n.to_string()).locals.len(), 100);
            r.matches(&format!("{long}{}", n % 1000));
            let topics: usize = r.remembered.keys().map(|topic| topic.len()).sum();
            let held: usize = r.remembered.values().map(|found| found.bytes()).sum();
            assert!(topics + held <= REMEMBERED_BYTES);
        }
    }

    #[test]
    fn a_change_voids_what_was_remembered() {
        let mut r = room();
        assert!(r.matches("a").locals.is_empty());
        let before = r.generation();
        r.subscribe(A, &"a".into(), options(QoS::AtMostOnce), 1);
        assert_ne!(before, r.generation());
        assert_eq!(r.matches("a").locals.len(), 1);
    }
}
