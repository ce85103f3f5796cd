//! What comes from other nodes before they are trusted with more: datagrams about membership, join tokens.

use std::net::SocketAddr;

use bytes::Bytes;
use rookery_cluster::ids::{Incarnation, NodeId, NodeLife};
use rookery_cluster::join::JoinToken;
use rookery_cluster::membership::{Input, MAX_DATAGRAM_BYTES, Membership, NodeCard, Output};

use super::ensure;

/// Datagrams of one input.
const MOST: usize = 32;

fn address(node: u64) -> SocketAddr {
    ([127, 0, 0, 1], 7000 + node as u16).into()
}

fn node(node: u64) -> Membership {
    let life = NodeLife { node: NodeId(node), incarnation: Incarnation(1) };
    Membership::new(life, address(node), NodeCard::default(), node).expect("a small card")
}

/// Datagrams, each behind its length (2 bytes, big-endian): whatever they say, the node answers in datagrams that are not
/// too large, is up in its own eyes and knows nobody twice.
pub fn run(mut input: &[u8]) -> Result<(), String> {
    let mut it = node(1);
    for _ in 0..MOST {
        let Some((length, rest)) = input.split_at_checked(2) else { break };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).min(rest.len());
        step(&mut it, Input::Datagram(Bytes::copy_from_slice(&rest[..length])))?;
        step(&mut it, Input::Tick)?;
        input = &rest[length..];
    }
    let members = it.members();
    let twice = members.windows(2).any(|two| two[0].life.node >= two[1].life.node);
    ensure(!twice, || format!("members are not in order, each once: {members:?}"))?;
    ensure(members.iter().any(|member| member.life.node == NodeId(1)), || format!("it is no member: {members:?}"))
}

fn step(it: &mut Membership, input: Input) -> Result<(), String> {
    let mut out = Vec::new();
    it.step(input, &mut out);
    let large =
        |output: &Output| matches!(output, Output::Send { datagram, .. } if datagram.len() > MAX_DATAGRAM_BYTES);
    ensure(!out.iter().any(large), || "a datagram that is too large".to_owned())
}

/// What two nodes say to each other when they meet, and when one leaves.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut nodes = [node(1), node(2)];
    let (mut all, mut out) = (Vec::new(), Vec::new());
    nodes[1].step(Input::Announce(address(1)), &mut out);
    let mut waiting: Vec<(usize, Bytes)> = Vec::new();
    for round in 0..12 {
        if round == 8 {
            nodes[1].step(Input::Leave, &mut out);
        }
        waiting.extend(out.drain(..).filter_map(|output| match output {
            Output::Send { to, datagram } => Some((usize::from(to.port()) - 7001, datagram)),
            _ => None,
        }));
        for (to, datagram) in std::mem::take(&mut waiting) {
            if to == 0 {
                all.push([&(datagram.len() as u16).to_be_bytes(), &datagram[..]].concat());
            }
            nodes[to].step(Input::Datagram(datagram), &mut out);
        }
    }
    all.push(all.concat());
    all
}

/// A join token as a person gives it: what is one stays the same.
pub fn token(input: &[u8]) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(()) };
    let Ok(token) = text.parse::<JoinToken>() else { return Ok(()) };
    let again = token.to_string();
    ensure(again == text.trim(), || format!("{text:?} became {again:?}"))
}

/// A token.
pub fn token_seeds() -> Vec<Vec<u8>> {
    let token = format!("rkj_AQ{}", "A".repeat(96));
    vec![token.clone().into_bytes(), format!(" {token}\n").into_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_what_they_should_be() {
        assert!(seeds().len() > 2, "two nodes meet");
        assert!(token_seeds().iter().all(|seed| std::str::from_utf8(seed).expect("text").parse::<JoinToken>().is_ok()));
    }
}
