//! Random writes, and crashes at random points of the disk's work: what was acknowledged is there, in order, and
//! nothing is there that was not written.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::super::mem::{Content, Op};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        group: u32,
        entries: u64,
        bytes: usize,
    },
    Vote {
        group: u32,
    },
    Truncate {
        group: u32,
        back: u64,
    },
    Purge {
        group: u32,
        ahead: u64,
    },
    Remove {
        group: u32,
    },
    Turn,
    /// The power fails after so many more changes of the disk, then comes back.
    PowerLoss {
        after: u64,
    },
    /// A sync fails, the process ends and starts again; the power may then fail before anything else is written.
    FailedSync {
        after: u64,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let group = 1..4u32;
    prop_oneof![
        10 => (group.clone(), 1..6u64, 0..700usize).prop_map(|(group, entries, bytes)| Step::Append { group, entries, bytes }),
        2 => group.clone().prop_map(|group| Step::Vote { group }),
        2 => (group.clone(), 0..8u64).prop_map(|(group, back)| Step::Truncate { group, back }),
        4 => (group.clone(), 0..30u64).prop_map(|(group, ahead)| Step::Purge { group, ahead }),
        1 => group.prop_map(|group| Step::Remove { group }),
        8 => Just(Step::Turn),
        2 => (0..12u64).prop_map(|after| Step::PowerLoss { after }),
        1 => (0..3u64).prop_map(|after| Step::FailedSync { after }),
        1 => Just(Step::Reopen),
    ]
}

/// A change of one group: `None` removes it.
type Change = (GroupId, Option<Op>);

#[derive(Clone, Default)]
struct Model(BTreeMap<GroupId, Content>);

impl Model {
    fn apply(&mut self, (group, op): &Change) {
        match op {
            Some(op) => self.0.entry(*group).or_default().apply(op).unwrap(),
            None => drop(self.0.remove(group)),
        }
    }

    fn of(&self, group: GroupId) -> Content {
        self.0.get(&group).cloned().unwrap_or_default()
    }

    fn is(&self, log: &SegmentLog) -> bool {
        (1..4).map(GroupId).all(|group| {
            let (content, log) = (self.of(group), log.group(group));
            let end = LogIndex(u64::MAX);
            content.state() == log.state() && content.read(LogIndex(0), end) == log.read(LogIndex(0), end).unwrap()
        })
    }
}

struct World {
    disk: MemDisk,
    log: Option<SegmentLog>,
    /// What is certain to be on disk, and how many changes made it.
    base: Model,
    done: u64,
    /// Changes after those, in order.
    pending: VecDeque<Change>,
    live: Model,
    /// How many changes were acknowledged.
    acked: Arc<Mutex<u64>>,
    counter: u64,
}

fn open_by_hand(disk: &MemDisk) -> SegmentLog {
    let cfg = SegmentLogConfig { by_hand: true, write_bytes: 1500, ..small() };
    SegmentLog::open(&dir(), Arc::new(disk.clone()), cfg).unwrap()
}

impl World {
    fn new(seed: u64) -> World {
        let disk = MemDisk::new(seed);
        let log = Some(open_by_hand(&disk));
        let (base, live) = (Model::default(), Model::default());
        World { disk, log, base, done: 0, pending: VecDeque::new(), live, acked: Arc::default(), counter: 0 }
    }

    fn log(&self) -> &SegmentLog {
        self.log.as_ref().unwrap()
    }

    fn change(&mut self, group: GroupId, op: Option<Op>) {
        self.live.apply(&(group, op.clone()));
        self.pending.push_back((group, op));
    }

    fn durable(&self) -> Durable {
        let through = self.done + self.pending.len() as u64;
        let acked = self.acked.clone();
        Box::new(move |result| {
            let mut acked = acked.lock();
            if result.is_ok() {
                assert!(*acked <= through, "told in order");
                *acked = through;
            }
        })
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Append { group, entries, bytes } => self.append(GroupId(group), entries, bytes),
            Step::Vote { group } => {
                self.counter += 1;
                let vote = Bytes::from(self.counter.to_string());
                self.change(GroupId(group), Some(Op::Vote(vote.clone())));
                self.log().group(GroupId(group)).save_vote(vote, self.durable());
            }
            Step::Truncate { group, back } => {
                let last = self.live.of(GroupId(group)).state().last.and_then(|l| l.0.checked_sub(back)).map(LogIndex);
                self.change(GroupId(group), Some(Op::Truncate(last)));
                self.log().group(GroupId(group)).truncate_after(last, self.durable());
            }
            Step::Purge { group, ahead } => {
                let purged = self.live.of(GroupId(group)).state().purged.map_or(0, |(p, _)| p.0);
                let (upto, id) = (LogIndex(purged + ahead), Bytes::from(ahead.to_string()));
                self.change(GroupId(group), Some(Op::Purge(upto, id.clone())));
                self.log().group(GroupId(group)).purge(upto, id, self.durable());
            }
            Step::Remove { group } => {
                self.change(GroupId(group), None);
                self.log().remove(GroupId(group), self.durable());
            }
            Step::Turn => self.turns(1),
            Step::PowerLoss { after } => {
                self.disk.power_fails_in(after);
                self.turns(after);
                self.disk.power_fails_in(0);
                self.power_comes_back();
            }
            Step::FailedSync { after } => {
                self.disk.fail_sync_in(after);
                self.turns(6);
                self.log = None;
                self.disk.heal();
                self.open();
                self.disk.power_fails_in(0);
                self.power_comes_back();
            }
            Step::Reopen => {
                self.log = None;
                assert_eq!(*self.acked.lock(), self.done + self.pending.len() as u64, "a close makes all durable");
                self.open();
            }
        }
    }

    fn turns(&self, count: u64) {
        for _ in 0..count {
            self.log().turn();
        }
    }

    fn append(&mut self, group: GroupId, entries: u64, bytes: usize) {
        let state = self.live.of(group).state();
        let next = state.last.or(state.purged.map(|p| p.0)).map_or(0, |l| l.0 + 1);
        self.counter += 1;
        let text = format!("{}{}", self.counter, "x".repeat(bytes));
        let entries = super::super::super::suite::entries(next..next + entries, &text);
        // One change an entry: a batch may end between two entries of one call.
        for entry in &entries {
            self.change(group, Some(Op::Append(vec![entry.clone()])));
        }
        self.log().group(group).append(entries, self.durable());
    }

    fn power_comes_back(&mut self) {
        self.log = None;
        self.disk.crash();
        self.open();
    }

    /// Opens what is on disk: it must be what the first so many changes make, and at least those acknowledged.
    fn open(&mut self) {
        let log = open_by_hand(&self.disk);
        let acked = *self.acked.lock();
        while self.done < acked || !self.base.is(&log) {
            let change = self.pending.pop_front().expect("the log holds what no prefix of the changes makes");
            self.base.apply(&change);
            self.done += 1;
        }
        self.pending.clear();
        self.live = self.base.clone();
        *self.acked.lock() = self.done;
        self.log = Some(log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_survives(seed: u64, steps in vec(step(), 1..80)) {
        let mut world = World::new(seed);
        for step in steps {
            world.act(step);
            prop_assert!(world.live.is(world.log()), "readers see every write at once");
        }
        world.disk.power_fails_in(0);
        world.power_comes_back();
    }
}
