//! A session shard: its commands, outcomes and snapshots.

use bytes::Bytes;
use rookery_cluster::handle::{Keep, Leave};
use rookery_cluster::ids::{BrokerId, Epoch, Incarnation, NodeId, NodeLife, Nonce, Sequence};
use rookery_cluster::sessions::{ClaimKey, Claimant, Command, Numbered, Outcome, Proposal, ShardState, Will};

use super::{ensure, head};

/// Most commands of one input.
const MOST: usize = 64;

/// A byte for what it is: an outcome, a snapshot, or commands, each behind its length (2 bytes, big-endian).
pub fn run(input: &[u8]) -> Result<(), String> {
    let (how, bytes) = head(input);
    match how % 3 {
        0 => {
            let Ok(outcome) = Outcome::decode(bytes) else { return Ok(()) };
            let again = Outcome::decode(&outcome.encode());
            ensure(again.as_ref() == Ok(&outcome), || format!("{outcome:?} became {again:?}"))
        }
        1 => match ShardState::restore(bytes) {
            Ok(state) => applied(state, &history()),
            Err(_) => Ok(()),
        },
        _ => applied(ShardState::default(), &commands(bytes)),
    }
}

fn commands(mut bytes: &[u8]) -> Vec<Command> {
    let mut all = Vec::new();
    while let Some((length, rest)) = bytes.split_at_checked(2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).min(rest.len());
        all.extend(Command::decode(&rest[..length]).ok());
        bytes = &rest[length..];
        if all.len() == MOST {
            break;
        }
    }
    all
}

/// Two replicas, of which one goes on from a snapshot at each step, stay the same.
fn applied(mut state: ShardState, commands: &[Command]) -> Result<(), String> {
    for command in commands {
        let again = Command::decode(&command.encode());
        ensure(again.as_ref() == Ok(command), || format!("{command:?} became {again:?}"))?;
        let mut other = ShardState::restore(&state.snapshot()).map_err(|why| format!("its own snapshot: {why}"))?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let one = state.apply(command.clone(), &mut ours);
        let two = other.apply(command.clone(), &mut theirs);
        ensure(one == two && ours == theirs, || format!("{command:?}: {one:?} {ours:?}, and {two:?} {theirs:?}"))?;
        ensure(state.snapshot() == other.snapshot(), || format!("snapshots differ after {command:?}"))?;
    }
    Ok(())
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

/// A history, the snapshots on its way, and what came of it.
pub fn seeds() -> Vec<Vec<u8>> {
    let (mut log, mut state, mut all) = (vec![2], ShardState::default(), Vec::new());
    for command in history() {
        let bytes = command.encode();
        log.extend((bytes.len() as u16).to_be_bytes());
        log.extend(&bytes);
        let outcome = state.apply(command, &mut Vec::new());
        all.push([&[0], &outcome.encode()[..]].concat());
        all.push([&[1], &state.snapshot()[..]].concat());
        all.push(log.clone());
    }
    all
}
