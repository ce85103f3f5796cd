use super::*;
use crate::ids::TokenId;
use crate::limits::MAX_REVOCATIONS;
use crate::metadata::CommandBody as Body;
use crate::metadata::RefusedKind::*;

#[test]
fn names_are_unique_whatever_their_case() {
    let mut log = Log::with_broker();
    assert_eq!(log.refused(create_namespace(2, "NS")), AlreadyExists);
    assert_eq!(log.refused(create_broker(2, 1, "B")), AlreadyExists);
    log.created(create_namespace(2, "other"));
    log.created(create_broker(2, 2, "b"));
    assert_eq!(log.state.find_broker("Ns", "B").map(|b| b.id), Some(BROKER));
    assert_eq!(log.state.find_broker("other", "b").map(|b| b.id), Some(BrokerId(2)));
    assert_eq!(log.state.find_broker("ns", "c"), None);
    assert_eq!(log.state.find_broker("no such", "b"), None);
}

#[test]
fn what_holds_something_is_not_deleted() {
    let mut log = Log::with_broker();
    assert_eq!(log.refused(Body::DeleteAccount { id: ACCOUNT }), Precondition);
    assert_eq!(log.refused(Body::DeleteNamespace { id: NAMESPACE }), Precondition);
    log.done(Body::DeleteBroker { id: BROKER });
    log.done(Body::DeleteNamespace { id: NAMESPACE });
    let scope = Scope::Account(ACCOUNT);
    log.created(Body::CreateToken { id: TokenId(1), hash: [0; 32], name: "ci".into(), scope, expires: None });
    log.done(Body::DeleteAccount { id: ACCOUNT });
    assert_eq!(log.state.tokens().count(), 0);
    assert_eq!(log.refused(Body::DeleteBroker { id: BROKER }), NotFound);
    assert_eq!(log.refused(create_namespace(1, "ns")), NotFound);
}

#[test]
fn a_deleted_name_is_free_again() {
    let mut log = Log::with_broker();
    log.done(Body::DeleteBroker { id: BROKER });
    assert_eq!(log.state.broker_of_key("kid2"), None);
    log.created(create_broker(1, 1, "b"));
    assert_eq!(log.state.broker_of_key("kid2").map(|b| b.id), Some(BROKER));
}

#[test]
fn accounts_and_namespaces_are_full_at_some_point() {
    let mut log = Log::with_broker();
    log.created(create_namespace(2, "ns2"));
    log.created(create_namespace(3, "ns3"));
    assert_eq!(log.refused(create_namespace(4, "ns4")), LimitReached);
    log.done(Body::UpdateAccount { id: ACCOUNT, name: None, max_namespaces: Some(4) });
    log.created(create_namespace(4, "ns4"));
    log.created(create_broker(2, 1, "b2"));
    log.created(create_broker(3, 1, "b3"));
    assert_eq!(log.refused(create_broker(4, 1, "b4")), LimitReached);
    log.done(Body::UpdateNamespace { id: NAMESPACE, description: Some("d".into()), max_brokers: Some(4) });
    log.created(create_broker(4, 1, "b4"));
    let listed: Vec<_> = log.state.brokers_of(NAMESPACE).map(|b| b.name.to_string()).collect();
    assert_eq!(listed, ["b", "b2", "b3", "b4"]);
    assert_eq!(log.state.namespaces_of(ACCOUNT).count(), 4);
}

#[test]
fn a_broker_is_changed_in_part() {
    let mut log = Log::with_broker();
    let before = log.state.broker(BROKER).unwrap().clone();
    let patch = BrokerPatch { description: Some("d".into()), expiration: Some(Some(60)), ..Default::default() };
    log.done(Body::UpdateBroker { id: BROKER, patch });
    let after = log.state.broker(BROKER).unwrap().clone();
    assert_eq!((after.settings.expiration, after.created_on), (Some(60), before.created_on));
    assert_eq!(after.restricted_at, before.restricted_at, "nothing was forbidden");
    assert_eq!(after.modified_on, UnixMillis(4000));

    let patch = BrokerPatch { on_publish: Some(Some("https://hook.example".into())), ..Default::default() };
    log.done(Body::UpdateBroker { id: BROKER, patch });
    let after = log.state.broker(BROKER).unwrap();
    assert_eq!((after.restricted_at, after.settings.expiration), (LogIndex(5), Some(60)));
}

#[test]
fn limits_are_changed_one_by_one() {
    let mut log = Log::with_broker();
    let change = |patch, limits: &[(&str, u64)]| {
        let limits = limits.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        Body::ChangeBroker { id: BROKER, patch, limits }
    };
    let limits = |log: &Log| log.state.broker(BROKER).unwrap().settings.limits.clone();
    log.done(change(BrokerPatch::default(), &[("retain", 0), ("topic_slashes", 3)]));
    let expected = BrokerLimits { retain: false, topic_slashes: 3, ..Default::default() };
    assert_eq!(limits(&log), expected);
    assert_eq!(log.state.broker(BROKER).unwrap().restricted_at, LogIndex(4), "it forbids what was allowed");

    assert_eq!(log.refused(change(BrokerPatch::default(), &[("retain", 1), ("nonsense", 3)])), Invalid);
    assert_eq!(log.refused(change(BrokerPatch::default(), &[("max_qos", 3)])), Invalid);
    assert_eq!(limits(&log), expected, "all or nothing");

    let beta = BrokerPatch { preset: Some(Preset::Beta), ..Default::default() };
    log.done(change(beta, &[("packets_per_s", 20)]));
    assert_eq!(limits(&log), BrokerLimits { packets_per_s: 20, ..BrokerLimits::of(Preset::Beta) });
    assert_eq!(log.state.broker(BROKER).unwrap().settings.preset, Preset::Beta);
    let restored = State::from_snapshot(&log.state.snapshot()).unwrap();
    assert_eq!(restored.broker(BROKER).unwrap().settings.limits, limits(&log));
}

/// The rows "Namespaces per Account" and "Brokers per Namespace" of the beta's limits.
#[test]
fn the_beta_has_three_namespaces_and_three_brokers() {
    let mut log = Log::default();
    let max_namespaces = Preset::Beta.max_namespaces();
    log.created(Body::CreateAccount { id: ACCOUNT, name: "acme".into(), max_namespaces });
    for (n, text) in [(1, "n1"), (2, "n2"), (3, "n3")] {
        let (id, max_brokers) = (NamespaceId(n), Preset::Beta.max_brokers());
        log.created(Body::CreateNamespace {
            id,
            account: ACCOUNT,
            name: name(text),
            description: String::new(),
            max_brokers,
        });
    }
    assert_eq!(log.refused(create_namespace(4, "n4")), LimitReached);
    for n in 1..=3 {
        log.created(create_broker(n, 1, &format!("b{n}")));
    }
    assert_eq!(log.refused(create_broker(4, 1, "b4")), LimitReached);
    log.created(create_broker(4, 2, "b4"));
}

#[test]
fn a_renamed_broker_has_its_new_name_only() {
    let mut log = Log::with_broker();
    log.created(create_broker(2, 1, "c"));
    let rename = |to| Body::UpdateBroker { id: BROKER, patch: BrokerPatch { name: Some(to), ..Default::default() } };
    assert_eq!(log.refused(rename(name("c"))), AlreadyExists);
    log.done(rename(name("d")));
    assert_eq!(log.state.find_broker("ns", "b"), None);
    assert_eq!(log.state.find_broker("ns", "d").map(|b| b.id), Some(BROKER));
    log.created(create_broker(3, 1, "b"));
}

#[test]
fn nonsense_is_refused() {
    let mut log = Log::with_broker();
    let patched = |patch| Body::UpdateBroker { id: BROKER, patch };
    let patch = BrokerPatch { on_publish: Some(Some("ftp://hook.example".into())), ..Default::default() };
    assert_eq!(log.refused(patched(patch)), Invalid);
    assert_eq!(log.refused(patched(BrokerPatch { expiration: Some(Some(0)), ..Default::default() })), Invalid);
    let limits = BrokerLimits { client_id_bytes: 2000, ..Default::default() };
    assert_eq!(log.refused(patched(BrokerPatch { limits: Some(limits), ..Default::default() })), Invalid);
    let label = |name: &str| Body::CreateAccount { id: AccountId(2), name: name.into(), max_namespaces: 1 };
    assert_eq!(log.refused(label(" ")), Invalid);
    assert_eq!(log.refused(label("a\nb")), Invalid);
}

#[test]
fn keys_rotate() {
    let mut log = Log::with_broker();
    let states = |log: &Log| -> Vec<(String, KeyState)> {
        let keys = &log.state.broker(BROKER).unwrap().keys;
        keys.iter().map(|key| (key.kid.to_string(), key.state)).collect()
    };
    assert_eq!(states(&log), [("kid2".into(), KeyState::Active), ("kid3".into(), KeyState::Next)]);
    assert_eq!(log.refused(Body::RotateKeys { broker: BROKER, next: new_key(2) }), AlreadyExists);
    log.created(Body::RotateKeys { broker: BROKER, next: new_key(100) });
    let after = [
        ("kid2".to_owned(), KeyState::Retired),
        ("kid3".to_owned(), KeyState::Active),
        ("kid100".to_owned(), KeyState::Next),
    ];
    assert_eq!(states(&log), after);
    assert_eq!(log.state.broker(BROKER).unwrap().active_key().unwrap().kid, Kid::from("kid3"));
    assert_eq!(log.refused(Body::RemoveKey { broker: BROKER, kid: "kid3".into() }), Precondition);
    assert_eq!(log.refused(Body::RemoveKey { broker: BROKER, kid: "kid9".into() }), NotFound);
    log.done(Body::RemoveKey { broker: BROKER, kid: "kid2".into() });
    assert_eq!(log.state.broker_of_key("kid2"), None);
    assert_eq!(log.state.broker(BROKER).unwrap().restricted_at, LogIndex(log.index));
    for n in 0..6 {
        log.created(Body::RotateKeys { broker: BROKER, next: new_key(200 + n) });
    }
    assert_eq!(log.refused(Body::RotateKeys { broker: BROKER, next: new_key(300) }), LimitReached);
}

#[test]
fn a_key_belongs_to_one_broker() {
    let mut log = Log::with_broker();
    let mut second = create_broker(2, 1, "c");
    if let Body::CreateBroker { keys, .. } = &mut second {
        keys[1] = new_key(2);
    }
    assert_eq!(log.refused(second), AlreadyExists);
    assert_eq!(log.state.find_broker("ns", "c"), None);
}

#[test]
fn revocations_come_and_go() {
    let mut log = Log::with_broker();
    let jtis = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    log.done(Body::Revoke { broker: BROKER, jtis: jtis(&["a", "b"]) });
    assert!(log.state.is_revoked(BROKER, "a") && !log.state.is_revoked(BrokerId(2), "a"));
    assert_eq!(log.state.broker(BROKER).unwrap().restricted_at, LogIndex(4));
    log.done(Body::Revoke { broker: BROKER, jtis: jtis(&["b", "c"]) });
    let listed: Vec<_> = log.state.revocations(BROKER).map(|(jti, at)| (jti.to_string(), at.0)).collect();
    assert_eq!(listed, [("a".into(), 4000), ("b".into(), 4000), ("c".into(), 5000)]);
    log.done(Body::Unrevoke { broker: BROKER, jtis: jtis(&["a", "zzz"]) });
    assert!(!log.state.is_revoked(BROKER, "a"));
    assert_eq!(log.state.broker(BROKER).unwrap().restricted_at, LogIndex(5), "unrevoking restricts nothing");
    assert_eq!(log.refused(Body::Revoke { broker: BROKER, jtis: vec![] }), Invalid);
    assert_eq!(log.refused(Body::Revoke { broker: BROKER, jtis: jtis(&[""]) }), Invalid);
    assert_eq!(log.refused(Body::Revoke { broker: BrokerId(9), jtis: jtis(&["a"]) }), NotFound);
}

#[test]
fn revocations_are_bounded_all_or_none() {
    let mut log = Log::with_broker();
    for chunk in 0..MAX_REVOCATIONS / 1000 {
        let jtis = (0..1000).map(|n| format!("{chunk}-{n}")).collect();
        log.done(Body::Revoke { broker: BROKER, jtis });
    }
    assert_eq!(log.refused(Body::Revoke { broker: BROKER, jtis: vec!["0-0".into(), "x".into()] }), LimitReached);
    assert!(!log.state.is_revoked(BROKER, "x"));
    log.done(Body::Revoke { broker: BROKER, jtis: vec!["0-0".into()] });
    log.done(Body::Unrevoke { broker: BROKER, jtis: vec!["0-0".into()] });
    log.done(Body::Revoke { broker: BROKER, jtis: vec!["x".into()] });
}

#[test]
fn the_journal_says_what_changed() {
    let mut log = Log::with_broker();
    let seen = log.state.applied();
    log.done(Body::Revoke { broker: BROKER, jtis: vec!["a".into()] });
    log.created(create_broker(2, 1, "c"));
    log.done(Body::DeleteBroker { id: BROKER });
    let changes: Vec<_> = log.state.changes_since(seen).unwrap().cloned().collect();
    let expected = [
        Change::Broker { id: BROKER, restricts: true },
        Change::Broker { id: BrokerId(2), restricts: false },
        Change::BrokerDeleted(BROKER),
    ];
    assert_eq!(changes, expected);
    let brokers: Vec<_> = log.state.brokers_changed_since(seen).unwrap().collect();
    assert_eq!(brokers, [BROKER, BrokerId(2), BROKER]);
    assert_eq!(log.state.changes_since(log.state.applied()).unwrap().count(), 0);

    let restored = State::from_snapshot(&log.state.snapshot()).unwrap();
    assert!(restored.changes_since(seen).is_none(), "a restored replica cannot say");
    assert_eq!(restored.changes_since(restored.applied()).unwrap().count(), 0);
}

#[test]
fn a_reader_that_fell_far_behind_is_told_so() {
    let mut log = Log::with_broker();
    let seen = log.state.applied();
    for _ in 0..JOURNAL_MEMORY {
        log.done(Body::Unrevoke { broker: BROKER, jtis: vec!["a".into()] });
    }
    assert_eq!(log.state.changes_since(seen).unwrap().count(), JOURNAL_MEMORY);
    log.done(Body::Unrevoke { broker: BROKER, jtis: vec!["a".into()] });
    assert!(log.state.changes_since(seen).is_none());
}

#[test]
fn a_view_does_not_change_under_its_reader() {
    let mut log = Log::with_broker();
    let view = log.state.clone();
    log.done(Body::DeleteBroker { id: BROKER });
    assert!(view.broker(BROKER).is_some() && view.broker_of_key("kid2").is_some());
    assert!(log.state.broker(BROKER).is_none());
}

#[test]
fn outcomes_are_remembered_by_request() {
    let mut log = Log::with_broker();
    assert_eq!(log.state.outcome_of(RequestId(3)), Some(&Outcome::Created(Created::Broker(BROKER))));
    log.done(CommandBody::DeleteBroker { id: BROKER });
    assert_eq!(log.state.outcome_of(RequestId(4)), Some(&Outcome::Done));
    log.refused(CommandBody::DeleteBroker { id: BROKER });
    assert!(matches!(log.state.outcome_of(RequestId(5)), Some(Outcome::Refused(_))));
    assert_eq!(log.state.outcome_of(RequestId(6)), None);
}

#[test]
fn a_patch_that_restricts_says_so() {
    let harmless = BrokerPatch { description: Some("d".into()), expiration: Some(Some(60)), ..BrokerPatch::default() };
    assert!(!harmless.may_restrict());
    let restricting = [
        BrokerPatch { name: Some(name("c")), ..harmless.clone() },
        BrokerPatch { on_publish: Some(None), ..harmless.clone() },
        BrokerPatch { limits: Some(<_>::default()), ..harmless.clone() },
        BrokerPatch { claim_mode: Some(ClaimMode::Available), ..harmless },
    ];
    assert!(restricting.iter().all(BrokerPatch::may_restrict));
}
