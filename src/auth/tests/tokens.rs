use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use rookery_cluster::metadata::{BrokerLimits, BrokerPatch, Preset};
use rookery_cluster::topics::Acl;

use super::*;

fn part(token: &str, n: usize) -> Value {
    let text = token.split('.').nth(n).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// A token of any header and claims with a genuine signature of `broker`'s active key.
pub(super) fn forge(world: &World, broker: BrokerId, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = world.active_key(broker).sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn header(world: &World, broker: BrokerId) -> Value {
    json!({"alg": "EdDSA", "kid": world.active_key(broker).kid.as_str()})
}

fn claims() -> Value {
    json!({"iat": NOW.seconds(), "sub": "c", "jti": "j", "topicAcl": "#"})
}

fn with(mut value: Value, key: &str, to: Value) -> Value {
    value[key] = to;
    value
}

#[test]
fn a_token_has_the_documented_shape() {
    let world = World::new();
    let credential = world.one(A, Some(Lifetime::Seconds(60)));
    let header_text = URL_SAFE_NO_PAD.decode(credential.token.split('.').next().unwrap()).unwrap();
    let kid = world.active_key(A).kid;
    assert_eq!(String::from_utf8(header_text).unwrap(), format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#));
    let exp = NOW.seconds() + 60;
    let expected = json!({
        "iat": NOW.seconds(), "exp": exp, "sub": credential.client_id, "jti": credential.jti, "topicAcl": "#",
    });
    assert_eq!(part(&credential.token, 1), expected);
    assert_eq!((credential.client_id.len(), credential.jti.len()), (26, 26));
    assert!(credential.client_id.starts_with("01G4E"), "a ULID of the time: {}", credential.client_id);

    let verified = world.verify(None, &credential.token).unwrap();
    let expected = Verified {
        broker: A,
        client_id: credential.client_id.as_str().into(),
        jti: credential.jti.as_str().into(),
        kid,
        expires: Some(UnixMillis(exp * 1000)),
        acl: Acl::all().into(),
    };
    assert_eq!(verified, expected);
    assert_eq!(credential.expires, verified.expires);
}

#[test]
fn the_brokers_expiration_is_heeded() {
    let world = World::new();
    let exp = |broker, lifetime| part(&world.one(broker, lifetime).token, 1).get("exp").and_then(Value::as_u64);
    assert_eq!(exp(A, None), None);
    assert_eq!(exp(B, None), Some(NOW.seconds() + 3600));
    assert_eq!(exp(B, Some(Lifetime::Seconds(7200))), Some(NOW.seconds() + 3600));
    assert_eq!(exp(B, Some(Lifetime::Seconds(60))), Some(NOW.seconds() + 60));
    assert_eq!(exp(B, Some(Lifetime::Never)), None);
}

#[test]
fn clients_may_be_named() {
    let world = World::new();
    let named = |names: &[&str]| world.issue(A, Clients::Named(names.iter().map(ToString::to_string).collect()), None);
    let credentials = named(&["x", "Gerät"]).unwrap();
    assert_eq!(credentials.iter().map(|c| c.client_id.as_str()).collect::<Vec<_>>(), ["x", "Gerät"]);
    assert_eq!(world.verify(Some(A), &credentials[1].token).unwrap().client_id.as_ref(), "Gerät");
    assert_eq!(named(&["x", "x"]), Err(IssueError::Twice("x".into())));
    assert_eq!(named(&["x", ""]), Err(IssueError::ClientId(String::new(), 1024)));
    assert_eq!(named(&["a\0"]), Err(IssueError::ClientId("a\0".into(), 1024)));
    assert_eq!(named(&[&"a".repeat(1025)]), Err(IssueError::ClientId("a".repeat(1025), 1024)));
    assert_eq!(named(&[]), Err(IssueError::Count));
}

#[test]
fn a_hundred_at_a_time() {
    let world = World::new();
    assert_eq!(world.issue(A, Clients::Generate(0), None), Err(IssueError::Count));
    assert_eq!(world.issue(A, Clients::Generate(101), None), Err(IssueError::Count));
    assert_eq!(world.issue(BrokerId(9), Clients::Generate(1), None), Err(IssueError::NoBroker));
    let credentials = world.issue(A, Clients::Generate(100), None).unwrap();
    let jtis: std::collections::BTreeSet<_> = credentials.iter().flat_map(|c| [&c.jti, &c.client_id]).collect();
    assert_eq!(jtis.len(), 200);
    let order = Order { clients: Clients::Generate(1), acl: TopicAcl::all(), lifetime: None };
    let other_node = issue(&world.state, &Sealer::new([1; 32], &[]), A, order, NOW, &world.rng);
    assert_eq!(other_node, Err(IssueError::Sealed));
}

#[test]
fn a_token_is_one_brokers() {
    let world = World::new();
    let token = world.one(A, None).token;
    assert_eq!(world.verify(Some(A), &token).map(|v| v.broker), Ok(A));
    assert_eq!(world.verify(Some(B), &token), Err(Denied::OtherBroker));
    // B's key under A's name.
    let foreign = forge(&world, B, &header(&world, A), &claims());
    assert_eq!(world.verify(None, &foreign), Err(Denied::BadSignature));
}

#[test]
fn the_algorithm_is_the_keys_never_the_tokens() {
    let world = World::new();
    let kid = world.active_key(A).kid;
    let genuine = forge(&world, A, &header(&world, A), &claims());
    assert!(world.verify(None, &genuine).is_ok());
    let unsigned = |alg: &str| {
        let token = forge(&world, A, &json!({"alg": alg, "kid": kid.as_str()}), &claims());
        let (message, _) = token.rsplit_once('.').unwrap();
        (format!("{message}."), message.to_owned(), token)
    };
    for alg in ["none", "None", "HS256", "HS512", "RS256", "ES256", "Ed25519", ""] {
        let (without, message, with_genuine_signature) = unsigned(alg);
        assert!(matches!(world.verify(None, &without), Err(Denied::Malformed(_))), "{alg}");
        assert!(matches!(world.verify(None, &with_genuine_signature), Err(Denied::Malformed(_))), "{alg}");
        // The public key as the secret of an HMAC: the classic confusion.
        let public = world.state.broker(A).unwrap().active_key().unwrap().public;
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &public);
        let mac = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&secret, message.as_bytes()));
        assert!(matches!(world.verify(None, &format!("{message}.{mac}")), Err(Denied::Malformed(_))), "{alg}");
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let world = World::new();
    let genuine = world.one(A, None).token;
    let (message, signature) = genuine.rsplit_once('.').unwrap();
    assert_eq!(world.verify(None, ""), Err(Denied::Missing));
    assert_eq!(world.verify(None, &"a".repeat(MAX_TOKEN_BYTES + 1)), Err(Denied::TooLong(MAX_TOKEN_BYTES + 1)));
    for text in ["a", "a.b", "..", "a.b.c.d", &"a".repeat(MAX_TOKEN_BYTES), message] {
        assert!(matches!(world.verify(None, text), Err(Denied::Malformed(_))), "{text}");
    }
    assert_eq!(world.verify(None, &format!("{message}.")), Err(Denied::BadSignature));
    assert_eq!(world.verify(None, &format!("{message}.{}", &signature[4..])), Err(Denied::BadSignature));
    let padded = world.verify(None, &format!("{message}.{signature}=="));
    assert!(padded.is_err(), "{padded:?}");
    let without_kid = forge(&world, A, &json!({"alg": "EdDSA"}), &claims());
    assert!(matches!(world.verify(None, &without_kid), Err(Denied::Malformed(_))));
    let critical =
        forge(&world, A, &with(with(header(&world, A), "crit", json!(["b64"])), "b64", json!(true)), &claims());
    assert!(matches!(world.verify(None, &critical), Err(Denied::Malformed(_))));
    let unknown =
        forge(&world, A, &json!({"alg": "EdDSA", "kid": "JDPuYJqHOvqzlakkNFQ9kfN7WsYs5uHndp_ziRdmOCU"}), &claims());
    assert_eq!(world.verify(None, &unknown), Err(Denied::UnknownKey));
    // A key of the caller's own in the header counts for nothing.
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "Phf82R8tG1FdY475-AgtlaWIwH1lLFlfWu5LrsKhyjw"});
    let own_key = forge(&world, B, &with(header(&world, A), "jwk", jwk), &claims());
    assert_eq!(world.verify(None, &own_key), Err(Denied::BadSignature));
}

#[test]
fn claims_are_checked() {
    let world = World::new();
    let verify = |claims: &Value| world.verify(None, &forge(&world, A, &header(&world, A), claims));
    for missing in ["iat", "sub", "jti", "topicAcl"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(missing);
        assert!(matches!(verify(&claims), Err(Denied::BadClaims(_))), "{missing}");
    }
    let bad = [
        ("sub", json!("")),
        ("sub", json!("a".repeat(1025))),
        ("sub", json!(7)),
        ("jti", json!("")),
        ("jti", json!("a".repeat(129))),
        ("topicAcl", json!("a#")),
        ("topicAcl", json!("")),
        ("topicAcl", json!("$share/g/a")),
        ("topicAcl", json!("${user}/a")),
        ("topicAcl", json!(["#"])),
        ("topicAcl", json!({"publish": "a"})),
        ("topicAcl", json!({"publish": ["a"], "deny": ["b"]})),
        ("topicAcl", json!({"subscribe": vec!["a"; 65]})),
        ("exp", json!("tomorrow")),
        ("exp", json!(-1)),
        ("nbf", json!(1.5)),
    ];
    for (key, value) in bad {
        let denied = verify(&with(claims(), key, value.clone()));
        assert!(matches!(denied, Err(Denied::BadClaims(_))), "{key} {value}: {denied:?}");
    }
    assert!(verify(&with(claims(), "aud", json!("someone else"))).is_ok(), "no audience is asked for");
    assert!(verify(&with(claims(), "exp", json!(u64::MAX))).is_ok());
    let now = NOW.seconds();
    assert!(verify(&with(claims(), "nbf", json!(now))).is_ok());
    let early = verify(&with(claims(), "nbf", json!(now + 1)));
    assert_eq!(early, Err(Denied::NotYetValid));
    assert_eq!(verify(&with(claims(), "exp", json!(now))), Err(Denied::Expired));
    assert!(verify(&with(claims(), "exp", json!(now + 1))).is_ok());
}

#[test]
fn an_acl_is_in_the_token_and_in_force() {
    let world = World::new();
    let acl = |publish: &[&str], subscribe: &[&str]| {
        let owned = |filters: &[&str]| filters.iter().map(ToString::to_string).collect();
        TopicAcl::Apart(Rights { publish: owned(publish), subscribe: owned(subscribe) })
    };
    let for_client = |client: &str, acl: &TopicAcl| world.issue_for(A, Clients::Named(vec![client.into()]), acl, None);
    let both = acl(&["up/${clientid}"], &["down/${clientid}/#", "all"]);
    let credential = for_client("c", &both).unwrap().remove(0);
    let expected = json!({"publish": ["up/${clientid}"], "subscribe": ["down/${clientid}/#", "all"]});
    assert_eq!(part(&credential.token, 1)["topicAcl"], expected);
    let held = world.verify(None, &credential.token).unwrap().acl;
    assert!(held.may_publish("up/c") && !held.may_publish("up/d") && !held.may_publish("all"));
    let reader = for_client("c", &acl(&[], &["a"])).unwrap().remove(0);
    assert_eq!(part(&reader.token, 1)["topicAcl"], json!({"subscribe": ["a"]}));
    assert!(!world.verify(None, &reader.token).unwrap().acl.may_publish("a"));
    let one = for_client("c", &TopicAcl::Both("a/+".into())).unwrap().remove(0);
    assert_eq!(part(&one.token, 1)["topicAcl"], json!("a/+"));
    assert!(world.verify(None, &one.token).unwrap().acl.may_publish("a/b"));

    assert!(matches!(for_client("c", &acl(&["a#"], &[])), Err(IssueError::Acl(_))));
    assert!(matches!(for_client("a/b", &both), Err(IssueError::Acl(_))), "it would reach into another's topics");
    let long: Vec<String> = (0..64).map(|n| format!("{n}{}", "x".repeat(60))).collect();
    let long = TopicAcl::Apart(Rights { publish: long, subscribe: Vec::new() });
    assert!(matches!(for_client("c", &long), Err(IssueError::TooLong(_))));
}

#[test]
fn a_generated_client_id_may_be_longer_than_the_limit() {
    let mut world = World::new();
    let preset = Some(Preset::Beta);
    let patch = BrokerPatch { preset, limits: Some(BrokerLimits::of(Preset::Beta)), ..Default::default() };
    world.apply(CommandBody::UpdateBroker { id: A, patch });
    let generated = world.one(A, None).client_id;
    let again = |id: String| world.issue(A, Clients::Named(vec![id]), None);
    assert!(again(generated).is_ok());
    assert_eq!(again("a".repeat(24)), Err(IssueError::ClientId("a".repeat(24), 23)));
}

#[test]
fn a_token_seen_before_still_expires_and_is_still_revoked() {
    let mut world = World::new();
    let (one, two) = (world.one(A, Some(Lifetime::Seconds(60))), world.one(A, None));
    let held = world.verify(Some(A), &one.token).unwrap();
    let last = UnixMillis(held.expires.unwrap().0 - 1);
    assert!(world.verifier.verify(&world.state, None, &one.token, last).is_ok());
    let end = held.expires.unwrap();
    assert_eq!(world.verifier.verify(&world.state, None, &one.token, end), Err(Denied::Expired));
    assert_eq!(held.still_admitted(&world.state, end), Err(Denied::Expired));

    assert!(world.verify(None, &two.token).is_ok());
    world.apply(CommandBody::Revoke { broker: A, jtis: vec![one.jti.clone(), two.jti.clone()] });
    assert_eq!(world.verify(None, &two.token), Err(Denied::Revoked));
    assert_eq!(held.still_admitted(&world.state, NOW), Err(Denied::Revoked));
    assert_eq!(admits(&world.state, A, &one.jti, None, NOW), Err(Denied::Revoked));
    assert_eq!(admits(&world.state, B, &one.jti, None, NOW), Ok(()));
    world.apply(CommandBody::Unrevoke { broker: A, jtis: vec![two.jti] });
    assert!(world.verify(None, &two.token).is_ok());
}

#[test]
fn a_key_signs_verifies_and_goes() {
    let mut world = World::new();
    let old = world.one(A, None);
    let old_kid = world.active_key(A).kid;
    let held = world.verify(None, &old.token).unwrap();
    let next = generate_key(&world.sealer, &world.rng);
    world.apply(CommandBody::RotateKeys { broker: A, next });
    assert!(world.verify(None, &old.token).is_ok(), "a retired key verifies");
    let new = world.one(A, None);
    assert_ne!(part(&new.token, 0), part(&old.token, 0));
    assert!(world.verify(None, &new.token).is_ok());
    world.apply(CommandBody::RemoveKey { broker: A, kid: old_kid });
    assert_eq!(world.verify(None, &old.token), Err(Denied::UnknownKey));
    assert_eq!(held.still_admitted(&world.state, NOW), Err(Denied::UnknownKey));
}

#[test]
fn a_deleted_broker_admits_nobody() {
    let mut world = World::new();
    let (seen, unseen) = (world.one(A, None), world.one(A, None));
    let held = world.verify(None, &seen.token).unwrap();
    world.apply(CommandBody::DeleteBroker { id: A });
    assert_eq!(world.verify(None, &seen.token), Err(Denied::NoBroker));
    assert_eq!(world.verify(None, &unseen.token), Err(Denied::UnknownKey));
    assert_eq!(held.still_admitted(&world.state, NOW), Err(Denied::NoBroker));
}

#[test]
fn reasons_tell_the_client_no_more_than_they_must() {
    assert_eq!(Denied::Revoked.reason(), Reason::NotAuthorized);
    assert_eq!(Denied::Expired.reason(), Reason::NotAuthorized);
    assert_eq!(Denied::BadSignature.reason(), Reason::BadUserNameOrPassword);
    assert_eq!(Denied::Missing.reason(), Reason::BadUserNameOrPassword);
}
