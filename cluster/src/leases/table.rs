//! What the metadata leader knows of all leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Moment;
use crate::ids::NodeLife;
use crate::limits::{LEASE, LEASE_DRIFT_MARGIN};

/// After this long without a renewal a lease has run out, however the two clocks drift.
const RUN_OUT: Duration = LEASE.saturating_add(LEASE_DRIFT_MARGIN);
/// A leader that looks this much after its last look stood still meanwhile: for want of processor time it has read no
/// request either, so what it missed is not counted against the others. (To end a life later is always safe.)
const STOOD_STILL: Duration = Duration::from_millis(1000);

/// The answer to a request for renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The lease runs anew from when the request was sent.
    Granted,
    /// Group 0 has ended this life: register another.
    Ended,
    /// Not renewed, as this life is about to be ended (its expiry is proposed, or it is stuck).
    Refused,
    /// This node does not lead, or has not yet applied all that earlier leaders committed.
    NotLeader,
}

/// The leader's memory of renewals; empty on every other node. [`LeaseTable::lead`] when this node leads
/// group 0 in a new term and has applied all earlier ones, [`LeaseTable::follow`] when it does not.
#[derive(Debug, Default)]
pub struct LeaseTable {
    leading: Option<Leading>,
}

#[derive(Debug)]
struct Leading {
    term: u64,
    /// When it was last asked which leases ran out.
    looked: Option<Moment>,
    /// When each live life was last renewed or, before that, first seen by this leader, which may be a full
    /// lease after an earlier leader renewed it.
    renewed: BTreeMap<NodeLife, Moment>,
    /// Lives whose expiry this leader has proposed: never renewed again.
    ending: BTreeSet<NodeLife>,
    /// Lives that do not carry out a revocation (R4): not renewed, so they run out.
    stuck: BTreeSet<NodeLife>,
}

impl LeaseTable {
    /// This node leads in `term`. Says whether that is news. No life counts as seen before the next
    /// [`LeaseTable::due`].
    pub fn lead(&mut self, term: u64) -> bool {
        if self.leading.as_ref().is_some_and(|l| l.term == term) {
            return false;
        }
        let (renewed, ending, stuck) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        self.leading = Some(Leading { term, looked: None, renewed, ending, stuck });
        true
    }

    /// This node does not lead.
    pub fn follow(&mut self) {
        self.leading = None;
    }

    /// The term in which this node leads, as far as the table was told.
    pub fn term(&self) -> Option<u64> {
        self.leading.as_ref().map(|l| l.term)
    }

    /// `life` asked for renewal, and a quorum round that began after that has confirmed that this node leads
    /// (R2). `live`: whether group 0 counts it among the live.
    pub fn renew(&mut self, now: Moment, life: NodeLife, live: bool) -> Verdict {
        let Some(l) = &mut self.leading else { return Verdict::NotLeader };
        if !live {
            return Verdict::Ended;
        }
        if l.ending.contains(&life) || l.stuck.contains(&life) {
            return Verdict::Refused;
        }
        l.renewed.insert(life, now);
        Verdict::Granted
    }

    /// `life` does not carry out a revocation.
    pub fn stuck(&mut self, life: NodeLife) {
        if let Some(l) = &mut self.leading {
            l.stuck.insert(life);
        }
    }

    /// The lives among `live` whose expiry is to be proposed now; they are refused from here on. They are
    /// named again at each call until `live` holds them no more. A life seen for the first time gets a full
    /// lease. To be called several times a second: a gap of more than a second is not counted.
    pub fn due(&mut self, now: Moment, live: &[NodeLife]) -> Vec<NodeLife> {
        let Some(l) = &mut self.leading else { return Vec::new() };
        let gap = l.looked.replace(now).map_or(Duration::ZERO, |last| now.since(last));
        if gap > STOOD_STILL {
            l.renewed.values_mut().for_each(|renewed| *renewed = now.min(*renewed + gap));
        }
        let known: BTreeSet<NodeLife> = live.iter().copied().collect();
        l.renewed.retain(|life, _| known.contains(life));
        l.stuck.retain(|life| known.contains(life));
        // `ending` is kept: a life that was proposed and seems gone must not come back by a stale view.
        for life in &known {
            l.renewed.entry(*life).or_insert(now);
        }
        let out: Vec<NodeLife> =
            l.renewed.iter().filter(|(_, renewed)| now.since(**renewed) >= RUN_OUT).map(|(life, _)| *life).collect();
        l.ending.extend(&out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, NodeId};

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    fn life(node: u64) -> NodeLife {
        NodeLife { node: NodeId(node), incarnation: Incarnation(1) }
    }

    /// What is due when it is asked each 250 ms, from the first to the last of these.
    fn look(t: &mut LeaseTable, from: u64, to: u64, live: &[NodeLife]) -> Vec<NodeLife> {
        (from..=to).step_by(250).map(|now| t.due(at(now), live)).last().unwrap_or_default()
    }

    #[test]
    fn a_new_leader_waits_a_full_lease_and_margin() {
        let mut t = LeaseTable::default();
        assert_eq!(t.due(at(0), &[life(1)]), vec![]);
        assert!(t.lead(3));
        assert!(!t.lead(3), "the same term does not start again");
        assert_eq!(t.due(at(10_000), &[life(1), life(2)]), vec![]);
        assert_eq!(look(&mut t, 10_250, 14_000, &[life(1), life(2)]), vec![]);
        assert_eq!(t.due(at(14_249), &[life(1), life(2)]), vec![]);
        assert_eq!(t.renew(at(14_249), life(2), true), Verdict::Granted);
        assert_eq!(t.due(at(14_250), &[life(1), life(2)]), vec![life(1)]);
        assert!(t.lead(4));
        assert_eq!(t.due(at(15_000), &[life(1)]), vec![]);
    }

    #[test]
    fn what_is_proposed_to_end_is_never_renewed() {
        let mut t = LeaseTable::default();
        t.lead(1);
        assert_eq!(look(&mut t, 0, 4000, &[life(1)]), vec![]);
        assert_eq!(t.due(at(4250), &[life(1)]), vec![life(1)]);
        assert_eq!(t.renew(at(4251), life(1), true), Verdict::Refused);
        assert_eq!(t.due(at(4500), &[life(1)]), vec![life(1)], "until it is committed");
        assert_eq!(t.due(at(4600), &[]), vec![]);
        assert_eq!(t.renew(at(4700), life(1), true), Verdict::Refused);
        assert_eq!(t.renew(at(4700), life(1), false), Verdict::Ended);
    }

    #[test]
    fn a_life_that_appears_gets_a_full_lease() {
        let mut t = LeaseTable::default();
        t.lead(1);
        look(&mut t, 0, 8750, &[]);
        assert_eq!(look(&mut t, 9000, 13_000, &[life(5)]), vec![]);
        assert_eq!(t.due(at(13_249), &[life(5)]), vec![]);
        assert_eq!(t.due(at(13_250), &[life(5)]), vec![life(5)]);
    }

    #[test]
    fn time_in_which_the_leader_stood_still_does_not_count() {
        let mut t = LeaseTable::default();
        t.lead(1);
        assert_eq!(look(&mut t, 0, 2000, &[life(1)]), vec![]);
        assert_eq!(t.due(at(9000), &[life(1)]), vec![], "it may find requests now that came meanwhile");
        assert_eq!(t.renew(at(9001), life(1), true), Verdict::Granted);
        assert_eq!(look(&mut t, 9250, 13_250, &[life(1)]), vec![]);
        assert_eq!(look(&mut t, 13_500, 13_500, &[life(1)]), vec![life(1)]);
        assert!(t.lead(2));
        assert_eq!(look(&mut t, 20_000, 22_000, &[life(2)]), vec![]);
        assert_eq!(t.due(at(28_000), &[life(2)]), vec![]);
        assert_eq!(look(&mut t, 28_250, 30_000, &[life(2)]), vec![], "2000 of its 4250 ms are used up");
        assert_eq!(look(&mut t, 30_250, 30_250, &[life(2)]), vec![life(2)]);
    }

    #[test]
    fn a_stuck_life_runs_out() {
        let mut t = LeaseTable::default();
        t.lead(1);
        assert_eq!(t.renew(at(0), life(1), true), Verdict::Granted);
        t.stuck(life(1));
        assert_eq!(t.renew(at(1000), life(1), true), Verdict::Refused);
        assert_eq!(look(&mut t, 250, 4000, &[life(1)]), vec![]);
        assert_eq!(t.due(at(4250), &[life(1)]), vec![life(1)]);
    }

    #[test]
    fn nobody_is_renewed_by_a_follower() {
        let mut t = LeaseTable::default();
        t.lead(1);
        t.follow();
        assert_eq!(t.renew(at(0), life(1), true), Verdict::NotLeader);
        assert_eq!(t.term(), None);
    }
}
