//! Expire: the verb that ends the lives of a node.

use super::state::Sweep;
use super::{ClaimKey, Effect, Outcome, ShardState};
use crate::ids::{Incarnation, NodeLife};

impl ShardState {
    /// `life` and all earlier ones of its node have ended, and with them what they propose. Only claims that somebody waits for are walked;
    /// the others are free by comparison, and the sweep takes their memory back.
    pub(super) fn expire(&mut self, life: NodeLife, out: &mut Vec<Effect>) -> Outcome {
        if self.has_ended(life) {
            return Outcome::Done;
        }
        self.expired.insert(life.node, life.incarnation);
        self.end_streams(life);
        let contested: Vec<ClaimKey> = self
            .pending
            .iter()
            .filter(|(_, p)| self.has_ended(p.holder.life) || self.has_ended(p.next.life))
            .map(|(key, _)| key.clone())
            .collect();
        for key in contested {
            if self.pending.get(&key).is_some_and(|p| self.has_ended(p.next.life)) {
                self.forget_waiting(&key);
            } else {
                self.vacate(&key, out);
            }
        }
        if self.names_ended_life(life) {
            self.sweep = Some(Sweep { after: None });
        }
        Outcome::Done
    }

    fn end_streams(&mut self, life: NodeLife) {
        let first = NodeLife { incarnation: Incarnation(0), ..life };
        let ended: Vec<NodeLife> = self.streams.range(first..=life).map(|(life, _)| *life).collect();
        for life in ended {
            self.streams.remove(&life);
            self.discount(life);
        }
    }

    fn names_ended_life(&self, life: NodeLife) -> bool {
        self.lives.keys().any(|l| l.node == life.node && l.incarnation <= life.incarnation)
    }
}
