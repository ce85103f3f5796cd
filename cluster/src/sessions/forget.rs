//! Forget: the verb that removes what a deleted broker left.

use super::{ClaimKey, Effect, FORGET_STEP, Outcome, ShardState};
use crate::ids::{BrokerId, Epoch};

impl ShardState {
    /// The broker is deleted: some of its sessions end, [`FORGET_STEP`] at most, and as many of its wills are dropped. Its
    /// claims are released by those who hold them.
    pub(super) fn forget(&mut self, broker: BrokerId, out: &mut Vec<Effect>) -> Outcome {
        let first = ClaimKey { broker, client: "".into() };
        let of = |key: &&ClaimKey| key.broker == broker;
        let due = self.due_wills.range(&first..).map(|(key, _)| key);
        let due: Vec<ClaimKey> = due.take_while(of).take(FORGET_STEP).cloned().collect();
        due.iter().for_each(|key| drop(self.take_due(key)));
        let sessions = self.sessions.range(&first..).map(|(key, _)| key);
        let sessions: Vec<ClaimKey> = sessions.take_while(of).take(FORGET_STEP).cloned().collect();
        sessions.iter().for_each(|key| self.end_session(key, out));
        let firing = self.firing.range((first, Epoch(0))..).map(|(name, _)| name);
        let firing: Vec<_> = firing.take_while(|(key, _)| of(&key)).take(FORGET_STEP).cloned().collect();
        firing.into_iter().for_each(|(key, epoch)| self.will_published(key, epoch));
        Outcome::Done
    }
}
