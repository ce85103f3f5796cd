//! Any interleaving of claims, releases, expiries, ticks and their duplicates.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::ids::{BrokerId, Epoch, Incarnation, NodeId, NodeLife, Nonce};

#[derive(Clone, Debug)]
enum Step {
    Claim {
        client: u8,
        node: u64,
        nonce: u64,
    },
    /// Releases what the client's holder holds, as its node would.
    Release {
        client: u8,
    },
    /// Sends the `n`th earlier command again.
    Again(usize),
    Abandon {
        client: u8,
        node: u64,
        nonce: u64,
    },
    /// Ends the current life of a node.
    Expire {
        node: u64,
    },
    Tick {
        node: u64,
        by: u64,
    },
    /// Goes on from a snapshot.
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let (client, node, nonce) = (0..3_u8, 1..4_u64, 0..6_u64);
    prop_oneof![
        6 => (client.clone(), node.clone(), nonce.clone())
            .prop_map(|(client, node, nonce)| Step::Claim { client, node, nonce }),
        4 => client.clone().prop_map(|client| Step::Release { client }),
        2 => (0..64_usize).prop_map(Step::Again),
        1 => (client, node.clone(), nonce).prop_map(|(client, node, nonce)| Step::Abandon { client, node, nonce }),
        1 => node.clone().prop_map(|node| Step::Expire { node }),
        1 => (node, 0..500_u64).prop_map(|(node, by)| Step::Tick { node, by }),
        1 => Just(Step::Reload),
    ]
}

/// The shard with what an outside observer knows.
#[derive(Default)]
struct World {
    state: ShardState,
    sent: Vec<Command>,
    clock: u64,
    incarnation: BTreeMap<u64, u64>,
    /// Who was granted each epoch of each client.
    grants: BTreeMap<(ClaimKey, Epoch), Claimant>,
    /// Claimants that were told to wait and have no answer yet.
    open: BTreeSet<(ClaimKey, Claimant)>,
}

impl World {
    fn life(&self, node: u64) -> NodeLife {
        let incarnation = Incarnation(1 + self.incarnation.get(&node).copied().unwrap_or(0));
        NodeLife { node: NodeId(node), incarnation }
    }

    fn key(client: u8) -> ClaimKey {
        ClaimKey { broker: BrokerId(1), client: client.to_string().into() }
    }

    fn take(&mut self, step: Step) {
        let command = match step {
            Step::Claim { client, node, nonce } => {
                let by = Claimant { life: self.life(node), nonce: Nonce(nonce) };
                Command::Claim { key: Self::key(client), by, clean_start: false, session_expiry: 0 }
            }
            Step::Release { client } => {
                let key = Self::key(client);
                let Some(held) = self.state.holder(&key) else { return };
                Command::Release { key, by: held.wish.by, epoch: held.epoch }
            }
            Step::Again(n) => match self.sent.get(n % self.sent.len().max(1)) {
                Some(command) => command.clone(),
                None => return,
            },
            Step::Abandon { client, node, nonce } => {
                Command::Abandon { key: Self::key(client), by: Claimant { life: self.life(node), nonce: Nonce(nonce) } }
            }
            Step::Expire { node } => {
                let life = self.life(node);
                *self.incarnation.entry(node).or_default() += 1;
                Command::Expire { life }
            }
            Step::Tick { node, by } => {
                self.clock += by;
                Command::Tick { by: self.life(node), millis: self.clock }
            }
            Step::Reload => {
                let bytes = self.state.snapshot();
                let copy = ShardState::restore(&bytes).unwrap();
                assert_eq!(copy, self.state);
                assert_eq!(copy.snapshot(), bytes);
                self.state = copy;
                return;
            }
        };
        self.apply(command);
    }

    fn apply(&mut self, command: Command) {
        self.sent.push(command.clone());
        let mut effects = Vec::new();
        let before = self.state.clone();
        let outcome = self.state.apply(command.clone(), &mut effects);
        let mut again = Vec::new();
        let mut twin = before;
        assert_eq!(twin.apply(command.clone(), &mut again), outcome);
        assert_eq!((twin, again), (self.state.clone(), effects.clone()));
        self.answer(&command, &outcome);
        effects.iter().for_each(|effect| self.effect(effect));
        self.check();
    }

    fn answer(&mut self, command: &Command, outcome: &Outcome) {
        match (command, outcome) {
            (Command::Claim { key, by, .. }, Outcome::Granted { epoch, .. }) => self.granted(key, *by, *epoch),
            (Command::Claim { key, by, .. }, Outcome::Waiting { .. }) => {
                self.open.insert((key.clone(), *by));
            }
            (Command::Abandon { key, by } | Command::Release { key, by, .. }, _) => {
                self.open.remove(&(key.clone(), *by));
            }
            (Command::Expire { life }, _) => {
                self.open.retain(|(_, by)| by.life.node != life.node || by.life.incarnation > life.incarnation)
            }
            _ => {}
        }
        // A claim of a later life implies the expiry of the earlier ones.
        let state = &self.state;
        self.open.retain(|(_, by)| !state.has_ended(by.life));
    }

    fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Grant { key, to, epoch, .. } => {
                self.granted(key, *to, *epoch);
                assert!(self.open.remove(&(key.clone(), *to)), "granted to nobody that waits");
            }
            Effect::Refuse { key, to, .. } => {
                assert!(self.open.remove(&(key.clone(), *to)), "refused nobody that waits");
            }
            Effect::Revoke { key, holder, epoch } => {
                assert_eq!(self.grants.get(&(key.clone(), *epoch)), Some(holder));
            }
            Effect::Discard { .. } => panic!("no session outlives its connection here"),
        }
    }

    fn granted(&mut self, key: &ClaimKey, to: Claimant, epoch: Epoch) {
        let newest = self.grants.range((key.clone(), Epoch(0))..=(key.clone(), Epoch(u64::MAX))).next_back();
        match newest {
            Some(((_, last), holder)) if *last == epoch => assert_eq!(*holder, to, "one holder per epoch"),
            Some(((_, last), _)) => assert!(*last < epoch, "epochs rise"),
            None => {}
        }
        self.grants.insert((key.clone(), epoch), to);
    }

    fn check(&self) {
        let view = self.state.view();
        let waiting: BTreeSet<_> = view.pending.iter().map(|(key, p)| (key.clone(), p.next)).collect();
        assert_eq!(waiting, self.open, "who waits is answered or still waits");
        for (key, p) in &view.pending {
            let held = self.state.holder(key).expect("waited for, so held by a life that goes on");
            assert_eq!((held.wish.by, held.epoch), (p.holder, p.epoch));
            assert_ne!(p.holder, p.next);
        }
    }

    /// Every holder releases as often as it is told to: then nobody waits any more.
    fn settle(&mut self) {
        for _ in 0..100 {
            let Some((key, p)) = self.state.view().pending.get_min().cloned() else { return };
            self.apply(Command::Release { key, by: p.holder, epoch: p.epoch });
        }
        panic!("claims wait for ever");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn one_holder_per_epoch_and_everyone_is_answered(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::default();
        steps.into_iter().for_each(|s| world.take(s));
        world.settle();
        prop_assert!(world.open.is_empty());
    }
}
