//! A session shard: its commands, outcomes and snapshots.

use bytes::Bytes;
use rookery_cluster::handle::{Keep, Leave};
use rookery_cluster::ids::{BrokerId, Epoch, Incarnation, NodeId, NodeLife, Nonce, Sequence};
use rookery_cluster::sessions::{ClaimKey, Claimant, Command, Effect, Numbered, Outcome, Proposal, ShardState, Will};

use super::ensure;
use super::replicas::Machine;

/// Epochs that a shard may be at: far from the bound of a snapshot, as far as any shard ever gets.
const EPOCHS: u64 = 1 << 62;

impl Machine for ShardState {
    type Command = Command;
    type Outcome = (Outcome, Vec<Effect>);

    fn command(bytes: &[u8]) -> Option<Command> {
        Command::decode(bytes).ok()
    }
    fn encode(command: &Command) -> Bytes {
        command.encode()
    }
    fn apply(&mut self, _: u64, command: &Command) -> Self::Outcome {
        let mut effects = Vec::new();
        (self.apply(command.clone(), &mut effects), effects)
    }
    fn outcome(bytes: &[u8]) -> Option<Result<(), String>> {
        let outcome = Outcome::decode(bytes).ok()?;
        let again = Outcome::decode(&outcome.encode());
        Some(ensure(again.as_ref() == Ok(&outcome), || format!("{outcome:?} became {again:?}")))
    }
    fn encode_outcome((outcome, _): &Self::Outcome) -> Bytes {
        outcome.encode()
    }
    fn snapshot(&self) -> Bytes {
        self.snapshot()
    }
    fn restore(bytes: &[u8]) -> Result<Self, String> {
        Self::restore(bytes).map_err(|why| why.to_string())
    }
    fn has_room(&self) -> bool {
        self.view().epoch.0 < EPOCHS
    }
    fn history() -> Vec<Command> {
        history()
    }
}

fn history() -> Vec<Command> {
    let life = |node| NodeLife { node: NodeId(node), incarnation: Incarnation(1) };
    let key = |client: &str| ClaimKey { broker: BrokerId(9), client: client.into() };
    let will = || Some(Will { message: Bytes::from_static(b"gone"), delay: 1 });
    let claim = |client, nonce| Proposal::Claim {
        key: key(client),
        nonce: Nonce(nonce),
        clean_start: false,
        session_expiry: 60,
        heard: Epoch(9),
        will: will(),
    };
    let keep = Some(Keep { expiry: None, home: None });
    let leave = Leave { keep, fire_will: true };
    let changes = vec![("t/#".into(), Some(2)), ("u".into(), None)];
    let proposals = [
        claim("a", 1),
        Proposal::Subscribe { key: key("a"), nonce: Nonce(1), epoch: Epoch(1), changes },
        Proposal::Recall { key: key("a"), nonce: Nonce(1), after: None },
        claim("a", 2),
        Proposal::Release { key: key("a"), nonce: Nonce(1), epoch: Epoch(1), leave },
        claim("b", 3),
        Proposal::Abandon { key: key("b"), nonce: Nonce(3) },
        Proposal::WillPublished { key: key("a"), epoch: Epoch(1) },
        Proposal::Nothing,
    ];
    let numbered = (1..)
        .zip(proposals)
        .map(|(number, what)| Command::Numbered(Numbered { life: life(1), number: Sequence(number), what }));
    let mut all: Vec<Command> = numbered.collect();
    let by = Claimant { life: life(2), nonce: Nonce(4) };
    all.insert(3, Command::Claim { key: key("a"), by, clean_start: true, session_expiry: 0 });
    all.push(Command::Tick { by: life(1), millis: 1000 });
    all.push(Command::Tick { by: life(1), millis: 100_000 });
    all.push(Command::Release { key: key("a"), by, epoch: Epoch(2) });
    all.push(Command::Expire { life: life(1) });
    all
}
