mod keys;
mod known;
mod secrets;
mod tokens;

use std::sync::atomic::{AtomicU64, Ordering};

use rookery_cluster::clock::UnixMillis;
use rookery_cluster::ids::{AccountId, BrokerId, LogIndex, NamespaceId, RequestId};
use rookery_cluster::metadata::{
    BrokerSettings, Command, CommandBody, Created, DEFAULT_MAX_BROKERS, DEFAULT_MAX_NAMESPACES, Name, Outcome, State,
    apply,
};
use rookery_cluster::rng::Rng;

use super::*;

/// Different bytes at each call, the same in each run.
#[derive(Default)]
struct Counting(AtomicU64);

impl Rng for Counting {
    fn fill(&self, out: &mut [u8]) {
        let seed = self.0.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        for (chunk, n) in out.chunks_mut(32).zip(0_u8..) {
            let block = super::jwt::sha256(&[&seed[..], &[n]].concat());
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

/// The first of June 2022, a bit after midnight.
const NOW: UnixMillis = UnixMillis(1_654_041_700_123);
const A: BrokerId = BrokerId(1);
const B: BrokerId = BrokerId(2);

/// Metadata with brokers [`A`] and [`B`], and what it takes to issue tokens of theirs.
struct World {
    state: State,
    sealer: Sealer,
    rng: Counting,
    verifier: Verifier,
    index: u64,
}

impl World {
    fn new() -> Self {
        let (rng, sealer) = (Counting::default(), Sealer::new([9; 32], &[]));
        let mut world = World { state: State::default(), sealer, rng, verifier: Verifier::new(), index: 0 };
        let (id, account) = (NamespaceId(1), AccountId(1));
        world.apply(CommandBody::CreateAccount {
            id: account,
            name: "a".into(),
            max_namespaces: DEFAULT_MAX_NAMESPACES,
        });
        let (name, description) = (Name::parse("ns").unwrap(), String::new());
        world.apply(CommandBody::CreateNamespace { id, account, name, description, max_brokers: DEFAULT_MAX_BROKERS });
        for (broker, name, expiration) in [(A, "a", None), (B, "b", Some(3600))] {
            let settings = BrokerSettings { expiration, ..Default::default() };
            let keys = vec![generate_key(&world.sealer, &world.rng), generate_key(&world.sealer, &world.rng)];
            let (id, namespace, name) = (broker, id, Name::parse(name).unwrap());
            world.apply(CommandBody::CreateBroker { id, namespace, name, settings, keys });
        }
        world
    }

    fn apply(&mut self, body: CommandBody) -> Option<Created> {
        self.index += 1;
        let command = Command { request_id: RequestId(self.index.into()), at: NOW, body };
        match apply(&mut self.state, LogIndex(self.index), &command) {
            Outcome::Done => None,
            Outcome::Created(created) => Some(created),
            Outcome::Refused(refused) => panic!("{refused}"),
        }
    }

    fn issue(
        &self,
        broker: BrokerId,
        clients: Clients,
        lifetime: Option<Lifetime>,
    ) -> Result<Vec<Credential>, IssueError> {
        self.issue_for(broker, clients, &TopicAcl::all(), lifetime)
    }

    fn issue_for(
        &self,
        broker: BrokerId,
        clients: Clients,
        acl: &TopicAcl,
        lifetime: Option<Lifetime>,
    ) -> Result<Vec<Credential>, IssueError> {
        let order = Order { clients, acl: acl.clone(), lifetime };
        issue(&self.state, &self.sealer, broker, order, NOW, &self.rng)
    }

    fn one(&self, broker: BrokerId, lifetime: Option<Lifetime>) -> Credential {
        self.issue(broker, Clients::Generate(1), lifetime).unwrap().remove(0)
    }

    fn verify(&self, expected: Option<BrokerId>, token: &str) -> Result<Verified, Denied> {
        self.verifier.verify(&self.state, expected, token, NOW)
    }

    fn active_key(&self, broker: BrokerId) -> SigningKey {
        signing_key(&self.sealer, self.state.broker(broker).unwrap().active_key().unwrap()).unwrap()
    }
}

fn after(seconds: u64) -> UnixMillis {
    UnixMillis(NOW.0 + seconds * 1000)
}
