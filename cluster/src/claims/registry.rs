//! What this node knows of its own connections' claims, and what it does about what it hears of them. PURE.

mod acts;
mod resting;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use self::acts::{Act, Asking, Begin, Ending, Haste, refusal};
use self::resting::Resting;
pub use self::resting::{Grant, REST};
use crate::clock::Moment;
use crate::control::{Notice, NoticeKind};
use crate::handle::{ClaimEvent, ClaimRefusal, Leave, SessionGrant};
use crate::ids::{BrokerId, Epoch, NodeLife, Nonce, WorkerId};
use crate::sessions::{ClaimKey, Claimant, Refusal};

/// Connections of one broker that may wait in any case.
pub const MIN_WAITING: usize = 64;

/// Wakes whoever pursues an unanswered claim.
pub trait Bell {
    /// Something about the claim has changed. Whether somebody hears it, or will look in any case.
    fn ring(&self) -> bool;
}

/// Of who looks by itself.
impl Bell for () {
    fn ring(&self) -> bool {
        true
    }
}

/// The connections that wait for or hold a claim, by nonce, which is unique in the node's life.
pub struct Registry<B> {
    life: Option<NodeLife>,
    entries: BTreeMap<Nonce, Entry<B>>,
    /// Those of them that wait.
    asking: BTreeSet<Nonce>,
    /// How many of each broker do; none is 0.
    waiting_of: BTreeMap<BrokerId, usize>,
    max_waiting: usize,
    /// Releases on their way, so that a revocation that comes again does not start another.
    releasing: BTreeSet<(Claimant, Epoch)>,
    max_releasing: usize,
    resting: Resting,
    /// Connections that go on with the claim of an earlier one, by the nonce that this had.
    heirs: BTreeMap<Nonce, Nonce>,
}

struct Entry<B> {
    key: ClaimKey,
    by: Claimant,
    worker: WorkerId,
    standing: Standing<B>,
    /// It has no will, and its session ends with it.
    plain: bool,
}

enum Standing<B> {
    /// Not answered yet. `gone`: its connection closed in the meantime.
    Asking { bell: B, gone: bool },
    /// Serves. `wanted`: somebody waits, or waited, for the client.
    Holds { grant: Grant, wanted: bool, told: Told },
}

/// Whether the shard was told since this connection serves that it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It was.
    Yes,
    /// It is being told.
    OnItsWay,
    /// It knows of an earlier connection only. So it may have somebody wait for the client who was gone before this
    /// connection came.
    No,
}

impl<B: Bell> Registry<B> {
    /// Nobody claims anything yet. At most `max_waiting` connections wait at one time (but for [`MIN_WAITING`] of each
    /// broker), at most `max_releasing` releases are on their way, and at most `max_resting` claims rest.
    pub fn new(max_waiting: usize, max_releasing: usize, max_resting: usize) -> Self {
        let (entries, asking, waiting_of, releasing, heirs) = Default::default();
        let resting = Resting::new(max_resting);
        Self { life: None, entries, asking, waiting_of, max_waiting, releasing, max_releasing, resting, heirs }
    }

    /// The connection `by` of `worker` wants to be the one that serves `key`. `plain`: it brings no will, and its session
    /// ends with it.
    pub fn begin(&mut self, key: ClaimKey, by: Claimant, worker: WorkerId, bell: B, plain: bool) -> Begin {
        if self.entries.contains_key(&by.nonce) {
            return Begin::Known;
        }
        if plain && let Some(grant) = self.resting.take(&key).filter(|grant| grant.by.life == by.life) {
            return Begin::Serves(self.inherit(key, by, worker, grant));
        }
        let begin = self.ask(key.clone(), by, worker, bell, plain);
        if begin == Begin::Ask
            && let Some(grant) = self.resting.take(&key)
            && let Some(Act::Release(ending)) = self.start_release(Ending::plain(key, grant, Haste::Now))
        {
            return Begin::AskAfter(ending);
        }
        begin
    }

    /// Nothing changes for the shard, which knows of no connection but that it was asked for.
    fn inherit(&mut self, key: ClaimKey, by: Claimant, worker: WorkerId, grant: Grant) -> ClaimEvent {
        let (broker, client) = (key.broker, key.client.clone());
        let standing = Standing::Holds { grant, wanted: false, told: Told::No };
        self.heirs.insert(grant.by.nonce, by.nonce);
        self.entries.insert(by.nonce, Entry { key, by, worker, standing, plain: true });
        ClaimEvent::Granted { broker, client, nonce: by.nonce, epoch: grant.epoch, session: None }
    }

    fn ask(&mut self, key: ClaimKey, by: Claimant, worker: WorkerId, bell: B, plain: bool) -> Begin {
        let left = self.max_waiting.saturating_sub(self.asking.len()).max(MIN_WAITING);
        if self.waiting_of.get(&key.broker).is_some_and(|waiting| *waiting >= left) {
            return Begin::Full;
        }
        let standing = Standing::Asking { bell, gone: false };
        self.asking.insert(by.nonce);
        *self.waiting_of.entry(key.broker).or_default() += 1;
        self.entries.insert(by.nonce, Entry { key, by, worker, standing, plain });
        Begin::Ask
    }

    /// How the claim of `by` stands.
    pub fn asking(&self, by: Claimant) -> Asking {
        match self.entries.get(&by.nonce) {
            Some(Entry { by: it, standing: Standing::Asking { gone, .. }, .. }) if *it == by => {
                if *gone {
                    Asking::Gone
                } else {
                    Asking::Yes
                }
            }
            _ => Asking::Settled,
        }
    }

    /// Who pursues the claim of `by`, if it is not answered.
    pub fn pursuit(&mut self, by: Claimant) -> Option<&mut B> {
        match self.entries.get_mut(&by.nonce)? {
            Entry { by: it, standing: Standing::Asking { bell, .. }, .. } if *it == by => Some(bell),
            _ => None,
        }
    }

    /// The claims that are not answered, and who pursues them.
    pub fn unanswered(&self) -> impl Iterator<Item = (&ClaimKey, Claimant, &B)> {
        self.asking.iter().filter_map(|nonce| match self.entries.get(nonce)? {
            Entry { key, by, standing: Standing::Asking { bell, .. }, .. } => Some((key, *by, bell)),
            _ => None,
        })
    }

    /// The shard's leader sent `notice`.
    pub fn notice(&mut self, notice: Notice) -> Option<Act> {
        if self.life != Some(notice.to.life) {
            // Of an earlier life: free by comparison (R3), so there is nothing to release.
            return None;
        }
        match notice.kind {
            NoticeKind::Granted { epoch, session } => self.granted(notice.key, notice.to, epoch, session),
            NoticeKind::Revoked { epoch } => self.revoked(notice.key, notice.to, epoch),
            NoticeKind::Refused(Refusal::Outdated) => {
                self.entries.get(&notice.to.nonce).filter(|entry| entry.by == notice.to).map(ring);
                None
            }
            NoticeKind::Refused(why) => self.refused(notice.to, refusal(why)),
            NoticeKind::Discard { session, worker } => {
                let ClaimKey { broker, client } = notice.key;
                Some(Act::Post(worker, ClaimEvent::Discard { broker, client, session }))
            }
        }
    }

    /// The shard granted `by` its claim.
    pub fn granted(&mut self, key: ClaimKey, by: Claimant, epoch: Epoch, session: Option<SessionGrant>) -> Option<Act> {
        // It was heard of before, and rests, or serves a later connection.
        if self.resting.has(&key, by) || self.serving(by).is_some() {
            return None;
        }
        match self.entries.get_mut(&by.nonce).filter(|e| e.by == by) {
            Some(Entry { standing: Standing::Holds { .. }, .. }) => None,
            Some(entry) if !ring(entry) => {
                entry.standing = Standing::Holds { grant: Grant { by, epoch }, wanted: false, told: Told::Yes };
                entry.plain &= session.is_none();
                let worker = entry.worker;
                self.answered(by.nonce, key.broker);
                let ClaimKey { broker, client } = key;
                let event = ClaimEvent::Granted { broker, client, nonce: by.nonce, epoch, session };
                Some(Act::Post(worker, event))
            }
            _ => {
                self.remove(by);
                self.start_release(Ending::at_once(key, by, epoch, Leave::untouched(session)))
            }
        }
    }

    fn revoked(&mut self, key: ClaimKey, by: Claimant, epoch: Epoch) -> Option<Act> {
        if self.resting.take_this(&key, Grant { by, epoch }) {
            return self.start_release(Ending::plain(key, Grant { by, epoch }, Haste::Now));
        }
        if let Some(Entry { worker, by: serves, standing: Standing::Holds { grant, wanted, told }, .. }) =
            self.serving(by)
            && (grant.epoch == epoch || *told == Told::OnItsWay)
        {
            *wanted = true;
            match *told {
                Told::No => {
                    *told = Told::OnItsWay;
                    return Some(Act::Renew(key, *grant));
                }
                Told::OnItsWay if epoch <= grant.epoch => return None,
                // Its answer is still on its way, or lost.
                Told::OnItsWay => (grant.epoch, *told) = (epoch, Told::Yes),
                Told::Yes => {}
            }
            let ClaimKey { broker, client } = key;
            return Some(Act::Post(*worker, ClaimEvent::Revoked { broker, client, nonce: serves.nonce, epoch }));
        }
        // Its grant was not heard of: it never served, and must not begin to.
        let refused = self.refused(by, ClaimRefusal::Superseded);
        match (refused, self.start_release(Ending::at_once(key, by, epoch, Leave::NEVER_SERVED))) {
            (Some(Act::Post(worker, event)), Some(Act::Release(ending))) => Some(Act::Both(worker, event, ending)),
            (Some(post), _) => Some(post),
            (None, release) => release,
        }
    }

    /// The connection that serves under what was granted to `by`.
    fn serving(&mut self, by: Claimant) -> Option<&mut Entry<B>> {
        let nonce = self.heirs.get(&by.nonce).unwrap_or(&by.nonce);
        let holds = |entry: &&mut Entry<B>| matches!(entry.standing, Standing::Holds { grant, .. } if grant.by == by);
        self.entries.get_mut(nonce).filter(holds)
    }

    /// How [`Act::Renew`] ended for what was granted to `by`: with the epoch that the shard has now, or not at all, so that
    /// the next revocation begins it again.
    pub fn renewed(&mut self, by: Claimant, now: Option<Epoch>) {
        if let Some(Entry { standing: Standing::Holds { grant, told, .. }, .. }) = self.serving(by)
            && *told == Told::OnItsWay
        {
            *told = if now.is_some() { Told::Yes } else { Told::No };
            grant.epoch = now.unwrap_or(grant.epoch);
        }
    }

    /// `by` does not get its claim.
    pub fn refused(&mut self, by: Claimant, why: ClaimRefusal) -> Option<Act> {
        match self.asking(by) {
            Asking::Settled => None,
            Asking::Gone => {
                self.remove(by);
                None
            }
            Asking::Yes => {
                let Entry { key: ClaimKey { broker, client }, worker, .. } = self.remove(by)?;
                Some(Act::Post(worker, ClaimEvent::Refused { broker, client, nonce: by.nonce, why }))
            }
        }
    }

    /// The connection serves no more. What leaves nothing behind, and nobody waits for, rests.
    pub fn release(&mut self, now: Moment, key: ClaimKey, nonce: Nonce, epoch: Epoch, leave: Leave) -> Option<Act> {
        let Entry { by, standing, plain, .. } = self.entries.get(&nonce)?;
        let (by, plain) = (*by, *plain);
        let (grant, wanted, told) = match standing {
            Standing::Holds { grant, wanted, told } => (*grant, *wanted, *told),
            Standing::Asking { .. } => (Grant { by, epoch }, false, Told::Yes),
        };
        self.remove(by);
        let lazy = leave == Leave::default() && !wanted;
        if lazy && plain && self.resting.put(now, &key, grant) {
            return None;
        }
        let (Grant { by, epoch }, haste) = (grant, if lazy { Haste::Lazy } else { Haste::Now });
        self.start_release(Ending { key, by, epoch, leave, haste, renewing: told == Told::OnItsWay })
    }

    /// Gives back what has rested for long enough.
    pub fn end_rest(&mut self, now: Moment) -> Vec<Act> {
        let due = self.resting.due(now);
        due.into_iter().filter_map(|(key, grant)| self.start_release(Ending::plain(key, grant, Haste::Lazy))).collect()
    }

    /// Who holds the claim of the connection `nonce`, and on which worker.
    pub fn holder(&self, nonce: Nonce) -> Option<(Claimant, WorkerId)> {
        self.entries.get(&nonce).map(|entry| match entry.standing {
            Standing::Holds { grant, .. } => (grant.by, entry.worker),
            Standing::Asking { .. } => (entry.by, entry.worker),
        })
    }

    /// The connection is gone, and does not know of a grant.
    pub fn abandon(&mut self, key: &ClaimKey, nonce: Nonce) -> Option<Act> {
        let entry = self.entries.get_mut(&nonce).filter(|e| e.key == *key)?;
        match &mut entry.standing {
            Standing::Asking { bell, gone } => {
                *gone = true;
                let heard = bell.ring();
                (!heard).then(|| Act::Withdraw(key.clone(), entry.by))
            }
            Standing::Holds { grant, told, .. } => {
                let (by, Grant { by: granted, epoch }, renewing) = (entry.by, *grant, *told == Told::OnItsWay);
                self.remove(by);
                // Whoever abandons has not heard of the grant.
                let ending = Ending::at_once(key.clone(), granted, epoch, Leave::NEVER_SERVED);
                self.start_release(Ending { renewing, ..ending })
            }
        }
    }

    /// This node's life is now `life`: the claims of another are void.
    pub fn keep_only(&mut self, life: Option<NodeLife>) -> Vec<Act> {
        self.life = life;
        self.resting.keep(|grant| Some(grant.by.life) == life);
        let void: Vec<Claimant> = self.entries.values().map(|e| e.by).filter(|by| Some(by.life) != life).collect();
        void.into_iter()
            .filter_map(|by| {
                let act = self.refused(by, ClaimRefusal::Unavailable);
                self.remove(by);
                act
            })
            .collect()
    }

    /// A release is committed, or given up.
    pub fn released(&mut self, by: Claimant, epoch: Epoch) {
        self.releasing.remove(&(by, epoch));
    }

    /// How many hold, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.entries.len() - self.asking.len(), self.asking.len())
    }

    /// How many claims rest.
    pub fn rests(&self) -> usize {
        self.resting.len()
    }

    /// If it is on its way already, that is hurried: who comes with it a second time knows of somebody who waits.
    fn start_release(&mut self, ending: Ending) -> Option<Act> {
        let Ending { by, epoch, .. } = ending;
        if self.releasing.contains(&(by, epoch)) {
            return Some(Act::Hurry(ending.key));
        }
        if self.releasing.len() >= self.max_releasing {
            return Some(Act::Dropped);
        }
        self.releasing.insert((by, epoch));
        Some(Act::Release(ending))
    }

    fn remove(&mut self, by: Claimant) -> Option<Entry<B>> {
        if self.entries.get(&by.nonce)?.by != by {
            return None;
        }
        let entry = self.entries.remove(&by.nonce)?;
        match &entry.standing {
            Standing::Asking { bell, .. } => {
                bell.ring();
                self.answered(by.nonce, entry.key.broker);
            }
            Standing::Holds { grant, .. } => _ = self.heirs.remove(&grant.by.nonce),
        }
        Some(entry)
    }

    /// One that waited does so no more.
    fn answered(&mut self, nonce: Nonce, broker: BrokerId) {
        self.asking.remove(&nonce);
        if let Some(waiting) = self.waiting_of.get_mut(&broker) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting_of.remove(&broker);
            }
        }
    }
}

/// Wakes who pursues an unanswered claim; says whether its connection is gone.
fn ring<B: Bell>(entry: &Entry<B>) -> bool {
    match &entry.standing {
        Standing::Asking { bell, gone } => {
            bell.ring();
            *gone
        }
        Standing::Holds { .. } => false,
    }
}
