//! Tokens whose signature was checked before: what is remembered of them, and what is not.

use std::sync::Arc;

use rookery_cluster::topics::Acl;

use super::*;
use crate::auth::cache::{Cache, GENERATION, GENERATION_BYTES, Genuine};

fn recognise(world: &World, expected: Option<BrokerId>, token: &str, now: UnixMillis) -> Option<Verified> {
    world.verifier.recognise(&world.state, expected, token, now)
}

#[test]
fn a_token_is_recognised_once_its_signature_was_checked() {
    let world = World::new();
    let token = world.one(A, None).token;
    assert_eq!(recognise(&world, None, &token, NOW), None);
    let verified = world.verify(None, &token).unwrap();
    assert_eq!(recognise(&world, Some(A), &token, NOW), Some(verified));
    assert_eq!(recognise(&world, Some(B), &token, NOW), None, "another broker's name");
    assert_eq!(world.verifier.counts(), (1, 1));
    for forged in [format!("{token}A"), token[..token.len() - 1].to_owned(), String::new(), "x".repeat(5000)] {
        assert_eq!(recognise(&world, None, &forged, NOW), None);
    }
}

#[test]
fn what_can_change_about_a_known_token_is_asked_each_time() {
    let mut world = World::new();
    let (short, revoked, resigned) =
        (world.one(A, Some(Lifetime::Seconds(60))), world.one(A, None), world.one(B, None));
    let end = world.verify(None, &short.token).unwrap().expires.unwrap();
    assert!(recognise(&world, None, &short.token, UnixMillis(end.0 - 1)).is_some());
    assert_eq!(recognise(&world, None, &short.token, end), None, "expired");

    world.verify(None, &revoked.token).unwrap();
    world.apply(CommandBody::Revoke { broker: A, jtis: vec![revoked.jti.clone()] });
    assert_eq!(recognise(&world, None, &revoked.token, NOW), None, "revoked");
    world.apply(CommandBody::Unrevoke { broker: A, jtis: vec![revoked.jti] });
    assert!(recognise(&world, None, &revoked.token, NOW).is_some());

    let kid = world.verify(None, &resigned.token).unwrap().kid;
    let next = generate_key(&world.sealer, &world.rng);
    world.apply(CommandBody::RotateKeys { broker: B, next });
    world.apply(CommandBody::RemoveKey { broker: B, kid });
    assert_eq!(recognise(&world, None, &resigned.token, NOW), None, "its key is gone");
    world.apply(CommandBody::DeleteBroker { id: A });
    assert_eq!(recognise(&world, None, &revoked.token, NOW), None, "its broker is gone");
}

#[test]
fn a_known_token_is_not_valid_before_its_time() {
    let world = World::new();
    let kid = world.active_key(A).kid;
    let header = serde_json::json!({"alg": "EdDSA", "kid": kid.as_str()});
    let start = NOW.seconds() + 60;
    let claims = serde_json::json!({"iat": NOW.seconds(), "nbf": start, "sub": "c", "jti": "j", "topicAcl": "#"});
    let token = tokens::forge(&world, A, &header, &claims);
    assert_eq!(world.verify(None, &token), Err(Denied::NotYetValid));
    assert_eq!(recognise(&world, None, &token, NOW), None);
    assert!(recognise(&world, None, &token, UnixMillis(start * 1000)).is_some());
}

fn hash(n: usize) -> [u8; 32] {
    crate::auth::jwt::sha256(&n.to_le_bytes())
}

#[test]
fn the_memory_of_tokens_is_bounded_by_their_number() {
    let world = World::new();
    let verified = world.verify(None, &world.one(A, None).token).unwrap();
    let genuine = Arc::new(Genuine { verified, not_before: None });
    let mut cache = Cache::default();
    for n in 0..5 * GENERATION {
        cache.insert(hash(n), genuine.clone());
        assert!(cache.get(&hash(0)).is_some(), "what is used stays");
        assert!(cache.size().0 <= 2 * GENERATION);
    }
    assert!(cache.get(&hash(1)).is_none());
}

#[test]
fn the_memory_of_tokens_is_bounded_by_their_bytes() {
    let world = World::new();
    let filters: Vec<String> = (0..64).map(|n| format!("{n}/{}", "x".repeat(60_000))).collect();
    let acl = Arc::new(Acl::new(&filters, &[], "c").unwrap());
    let verified = Verified { acl, ..world.verify(None, &world.one(A, None).token).unwrap() };
    let genuine = Arc::new(Genuine { verified, not_before: None });
    let mut cache = Cache::default();
    for n in 0..20 {
        cache.insert(hash(n), genuine.clone());
        cache.insert(hash(n), genuine.clone());
        let (count, bytes) = cache.size();
        assert!(bytes <= 2 * GENERATION_BYTES && bytes == count * genuine.bytes(), "{count} of {bytes} bytes");
    }
    assert!(cache.get(&hash(19)).is_some() && cache.get(&hash(0)).is_none());
}
