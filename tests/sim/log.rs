//! One ordered log per group for the whole cluster, in place of Raft: what is in it is decided and durable. Around
//! it everything that Raft's users must live with: no leader, a slow one, one that was deposed and does not know, a
//! proposal in the log twice, an answer that is lost (the outcome is unknown), replicas that apply late.

use std::time::Duration;

use bytes::Bytes;
use rookery_cluster::consensus::{Applied, ProposeError};
use rookery_cluster::ids::{GroupId, LogIndex, NodeId};
use rookery_cluster::sessions::{Claimant, Command, Numbered, Proposal};

use crate::net::Once;
use crate::world::{Proc, Sabotage, World};

/// How often leaders are looked at.
const ELECTION_TICK: Duration = Duration::from_millis(100);

pub struct Group {
    pub entries: Vec<Entry>,
    /// The truth, which no node sees.
    pub leader: Option<NodeId>,
    pub term: u64,
    /// Taken by the leader, not committed.
    uncommitted: Vec<Entry>,
    commit_due: bool,
    /// Added to each commit.
    pub slow: Duration,
    /// No election before this.
    pub barred_until: Duration,
    without_quorum_since: Option<Duration>,
}

#[derive(Clone)]
pub struct Entry {
    pub command: Bytes,
    /// The process that took the proposal: it answers when it applies the entry.
    taken_by: Proc,
    answer: Option<(Proc, Once<Result<Applied, ProposeError>>)>,
}

/// What one node thinks of a group, and how far it has applied it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replica {
    pub applied: usize,
    pub term: u64,
    pub leader: Option<NodeId>,
    catching_up: bool,
}

impl Group {
    pub fn new(commands: Vec<Bytes>) -> Self {
        let nobody = Proc { node: NodeId(0), boot: 0 };
        let entries = commands.into_iter().map(|command| Entry { command, taken_by: nobody, answer: None });
        Self {
            entries: entries.collect(),
            leader: None,
            term: 0,
            uncommitted: Vec::new(),
            commit_due: false,
            slow: Duration::ZERO,
            barred_until: Duration::ZERO,
            without_quorum_since: None,
        }
    }

    /// How many entries the leader has taken that are not committed.
    pub fn waiting(&self) -> usize {
        self.uncommitted.len()
    }
}

impl World {
    pub fn group(&mut self, group: GroupId) -> &mut Group {
        self.groups.get_mut(&group).expect("a group of this cluster")
    }

    pub fn replica(&mut self, node: NodeId, group: GroupId) -> &mut Replica {
        self.node(node).replicas.entry(group).or_default()
    }

    /// Whether `node` thinks that it leads, and in which term.
    pub fn leads(&mut self, node: NodeId, group: GroupId) -> Option<u64> {
        let replica = self.replica(node, group);
        (replica.leader == Some(node)).then_some(replica.term)
    }

    fn has_quorum(&mut self, node: NodeId) -> bool {
        let nodes = self.all_nodes();
        let reached = nodes.iter().filter(|n| self.net.both_ways(node, **n) && self.node(**n).up).count();
        self.node(node).up && reached * 2 > nodes.len()
    }

    /// Whether `node` truly leads, in the term that it thinks, with a quorum behind it.
    fn truly_leads(&mut self, node: NodeId, group: GroupId) -> bool {
        let term = self.leads(node, group);
        let it = self.group(group);
        term == Some(it.term) && it.leader == Some(node) && self.has_quorum(node)
    }

    // ---- leaders ----

    pub fn watch_leader(&mut self, group: GroupId) {
        let now = self.now;
        if let Some(leader) = self.group(group).leader {
            let healthy = self.has_quorum(leader);
            let patience = self.rng.millis(400, 1600);
            let it = self.group(group);
            if healthy {
                it.without_quorum_since = None;
            } else if now - *it.without_quorum_since.get_or_insert(now) >= patience {
                it.leader = None;
                it.without_quorum_since = None;
            }
        }
        if self.group(group).leader.is_none() && now >= self.group(group).barred_until {
            let able: Vec<NodeId> = self.all_nodes().into_iter().filter(|n| self.has_quorum(*n)).collect();
            if !able.is_empty() {
                let new = self.rng.pick(&able);
                self.set_leader(group, new);
            }
        }
        self.spread_belief(group);
        self.after(ELECTION_TICK, move |w| w.watch_leader(group));
    }

    /// Elects `new`. Of what the old leader had taken, a part may survive.
    pub fn set_leader(&mut self, group: GroupId, new: NodeId) {
        let mut old = std::mem::take(&mut self.group(group).uncommitted);
        let kept = self.rng.below(old.len() as u64 + 1) as usize;
        old.truncate(kept);
        let it = self.group(group);
        it.leader = Some(new);
        it.term += 1;
        let term = it.term;
        self.note(|| format!("group {group}: node {new} leads term {term}"));
        let replica = self.replica(new, group);
        (replica.term, replica.leader) = (term, Some(new));
        self.append(group, old);
    }

    /// Ends the leader's term; the next election comes after `pause`. The old leader may go on thinking it leads.
    pub fn depose(&mut self, group: GroupId, pause: Duration) {
        let now = self.now;
        let it = self.group(group);
        it.leader = None;
        it.barred_until = now + pause;
    }

    fn spread_belief(&mut self, group: GroupId) {
        let (leader, term) = (self.group(group).leader, self.group(group).term);
        for node in self.all_nodes() {
            let hears = leader.is_some_and(|l| self.net.both_ways(l, node) && self.node(l).up && self.node(node).up);
            let gives_up = !hears && self.rng.percent(3);
            if hears && (leader == Some(node) || self.rng.percent(60)) && self.replica(node, group).term <= term {
                let replica = self.replica(node, group);
                (replica.term, replica.leader) = (term, leader);
            } else if gives_up && self.leads(node, group).is_none() {
                self.replica(node, group).leader = None;
            }
        }
    }

    // ---- proposals ----

    /// Proposes, here or at the leader, as `Consensus::propose` does.
    pub fn propose(
        &mut self,
        from: Proc,
        group: GroupId,
        command: Bytes,
        then: impl FnOnce(&mut World, Result<Applied, ProposeError>) + 'static,
    ) {
        let once = Once::new(move |w: &mut World, answer| {
            if w.alive(from) {
                then(w, answer);
            }
        });
        let Some(leader) = self.replica(from.node, group).leader else {
            let soon = self.rng.millis(1, 20);
            return self.after(soon, move |w| once.call(w, Err(ProposeError::Unavailable)));
        };
        let patience = self.rng.millis(300, 5000);
        let late = once.clone();
        self.after(patience, move |w| late.call(w, Err(ProposeError::Unknown)));
        self.datagram(from.node, leader, "propose", move |w| w.take_proposal(group, leader, command, from, once));
    }

    fn take_proposal(
        &mut self,
        group: GroupId,
        leader: NodeId,
        command: Bytes,
        from: Proc,
        once: Once<Result<Applied, ProposeError>>,
    ) {
        let Some(term) = self.leads(leader, group) else {
            return self.datagram(leader, from.node, "answer", move |w| once.call(w, Err(ProposeError::Unavailable)));
        };
        let taken_by = self.proc(leader);
        let it = self.group(group);
        if it.leader != Some(leader) || it.term != term {
            // Goes into the log of a leader that was deposed: never committed, and nobody is told.
            return;
        }
        let bare = self.cfg.sabotage == Sabotage::NoNumbers && group != GroupId::METADATA;
        let command = if bare { without_number(command) } else { command };
        let it = self.group(group);
        it.uncommitted.push(Entry { command, taken_by, answer: Some((from, once)) });
        self.commit_soon(group);
    }

    fn commit_soon(&mut self, group: GroupId) {
        if std::mem::replace(&mut self.group(group).commit_due, true) {
            return;
        }
        let delay = self.rng.micros(200, 4000) + self.group(group).slow;
        self.after(delay, move |w| w.commit(group));
    }

    fn commit(&mut self, group: GroupId) {
        self.group(group).commit_due = false;
        if self.group(group).uncommitted.is_empty() {
            return;
        }
        let leader = self.group(group).leader;
        if leader.is_some_and(|l| self.has_quorum(l)) {
            let entries = std::mem::take(&mut self.group(group).uncommitted);
            self.append(group, entries);
        } else {
            self.commit_soon(group);
        }
    }

    fn append(&mut self, group: GroupId, entries: Vec<Entry>) {
        for entry in entries {
            if self.rng.percent(self.cfg.duplicates) {
                self.append_copy(group, Entry { answer: None, ..entry.clone() });
            }
            self.group(group).entries.push(entry);
        }
        for node in self.all_nodes() {
            self.catch_up_soon(node, group);
        }
    }

    /// The proposer sent it twice, and the other one may be in the log much later.
    fn append_copy(&mut self, group: GroupId, copy: Entry) {
        let late = self.rng.millis(0, 3000);
        self.after(late, move |w| w.append(group, vec![copy]));
    }

    // ---- applying ----

    pub fn catch_up_soon(&mut self, node: NodeId, group: GroupId) {
        let behind = self.replica(node, group).applied < self.group(group).entries.len();
        if !behind || std::mem::replace(&mut self.replica(node, group).catching_up, true) {
            return;
        }
        let leads = self.group(group).leader == Some(node);
        let delay = match self.rng.percent(90) || leads {
            true => self.rng.micros(20, 2500),
            false => self.rng.millis(5, 400),
        };
        self.after(delay, move |w| w.catch_up(node, group));
    }

    fn catch_up(&mut self, node: NodeId, group: GroupId) {
        self.replica(node, group).catching_up = false;
        if !self.node(node).up {
            return;
        }
        let leader = self.group(group).leader;
        let fed = leader.is_some_and(|l| self.net.both_ways(l, node) && self.node(l).up);
        if !fed {
            self.replica(node, group).catching_up = true;
            let again = self.rng.millis(30, 120);
            return self.after(again, move |w| w.catch_up(node, group));
        }
        let applied = self.replica(node, group).applied;
        let behind = self.group(group).entries.len() - applied;
        if behind == 0 {
            return;
        }
        let step = self.rng.range(1, behind as u64) as usize;
        for at in applied..applied + step {
            self.apply(node, group, at);
        }
        self.applied(node, group);
        self.catch_up_soon(node, group);
    }

    fn apply(&mut self, node: NodeId, group: GroupId, at: usize) {
        let index = LogIndex(at as u64 + 1);
        let command = self.group(group).entries[at].command.clone();
        let outcome = self.node(node).apply(group, index, &command);
        self.replica(node, group).applied = at + 1;
        self.p01_check(node, group, at);
        let me = self.proc(node);
        let entry = &mut self.group(group).entries[at];
        if entry.taken_by != me {
            return;
        }
        if let Some((to, once)) = entry.answer.take()
            && !self.rng.percent(self.cfg.lost_answers)
        {
            let answer = Ok(Applied { index, outcome });
            self.datagram(node, to.node, "answer", move |w| once.call(w, answer));
        }
    }

    // ---- reads ----

    /// As `Consensus::confirm_leadership`: the moment of truth is somewhere between the call and the answer.
    pub fn confirm_leadership(&mut self, at: Proc, group: GroupId, then: impl FnOnce(&mut World, bool) + 'static) {
        let (there, back) = (self.rng.micros(100, 3000), self.rng.micros(100, 3000));
        let back = if self.rng.percent(10) { back + self.rng.millis(1, 300) } else { back };
        self.after(there, move |w| {
            let sure = w.alive(at) && w.truly_leads(at.node, group);
            let wait = if sure { back } else { w.rng.millis(50, 500) };
            w.after(wait, move |w| {
                if w.alive(at) {
                    then(w, sure);
                }
            });
        });
    }

    /// As `Consensus::linearize`: goes on once this node has applied all that was committed when this began.
    pub fn linearize(&mut self, at: Proc, group: GroupId, then: impl FnOnce(&mut World, bool) + 'static) {
        let once = Once::new(move |w: &mut World, read| {
            if w.alive(at) {
                then(w, read);
            }
        });
        let patience = self.rng.millis(300, 2000);
        let late = once.clone();
        self.after(patience, move |w| late.call(w, false));
        let Some(leader) = self.replica(at.node, group).leader else { return };
        self.datagram(at.node, leader, "read", move |w| {
            if w.truly_leads(leader, group) {
                let index = w.group(group).entries.len();
                w.datagram(leader, at.node, "answer", move |w| w.once_applied(at, group, index, once));
            }
        });
    }

    /// Calls `once` when the replica of `at` has applied the first `index` entries.
    pub fn once_applied(&mut self, at: Proc, group: GroupId, index: usize, once: Once<bool>) {
        if !self.alive(at) {
            return;
        }
        if self.replica(at.node, group).applied >= index {
            return once.call(self, true);
        }
        self.after(Duration::from_millis(3), move |w| w.once_applied(at, group, index, once));
    }
}

/// A proposal as it was before there were numbers.
fn without_number(command: Bytes) -> Bytes {
    let Ok(Command::Numbered(Numbered { life, what, .. })) = Command::decode(&command) else { return command };
    let by = |nonce| Claimant { life, nonce };
    let bare = match what {
        Proposal::Nothing => Command::Tick { by: life, millis: 0 },
        Proposal::Claim { key, nonce, clean_start, session_expiry, .. } => {
            Command::Claim { key, by: by(nonce), clean_start, session_expiry }
        }
        Proposal::Release { key, nonce, epoch, .. } => Command::Release { key, by: by(nonce), epoch },
        Proposal::Abandon { key, nonce } => Command::Abandon { key, by: by(nonce) },
        // Of sessions and wills, of which there are none here, and of claims that go on: there never was an unnumbered one.
        Proposal::Subscribe { .. }
        | Proposal::Recall { .. }
        | Proposal::WillPublished { .. }
        | Proposal::WillTimed { .. }
        | Proposal::Renew { .. } => return command,
    };
    bare.encode()
}
