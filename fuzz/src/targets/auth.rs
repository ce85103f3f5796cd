//! Rights, and tokens that a stranger presents.

use std::cell::LazyCell;

use rookery::auth::{Clients, Order, Sealer, TopicAcl, Verifier, generate_key, issue};
use rookery_cluster::clock::UnixMillis;
use rookery_cluster::ids::{AccountId, BrokerId, LogIndex, NamespaceId, RequestId};
use rookery_cluster::metadata::{BrokerSettings, Command, CommandBody, Name, Outcome, State, apply};
use rookery_cluster::topics::{Acl, ParsedFilter, validate_filter, validate_topic};

use super::{ensure, parts};

const NOW: UnixMillis = UnixMillis(1_654_041_700_123);
const BROKER: BrokerId = BrokerId(1);

/// A client ID, then filters and topics, between bytes 0xff.
pub fn acl(input: &[u8]) -> Result<(), String> {
    let mut texts = parts(input).map(|part| String::from_utf8_lossy(part).into_owned());
    let client = texts.next().unwrap_or_default();
    let filters: Vec<String> = texts.collect();
    let Ok(acl) = Acl::new(&filters, &filters, &client) else { return Ok(()) };
    for text in &filters {
        if validate_topic(text).is_ok() {
            // Who may subscribe to exactly this topic may publish to it, but for what is the service's.
            let exact = ParsedFilter { share: None, filter: text };
            let (publish, subscribe) = (acl.may_publish(text), acl.may_subscribe(&exact));
            let own = text.starts_with("$SYS");
            ensure(own || publish == subscribe, || format!("{text:?}: publish {publish}, subscribe {subscribe}"))?;
        }
        if let Ok(filter) = validate_filter(text) {
            acl.may_subscribe(&filter);
        }
    }
    Ok(())
}

/// Rights of every shape.
pub fn acl_seeds() -> Vec<Vec<u8>> {
    let join = |texts: &[&str]| texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>().join(&0xff);
    vec![
        join(&["me", "#", "a/+", "$x/#"]),
        join(&["me", "a/${clientid}/#", "a/b", "$SYS/#", "$SYSx/y"]),
        join(&["a/b", "${clientid}"]),
        join(&["", "${clientid}", "${other}"]),
        join(&["me", "$share/g/a"]),
    ]
}

/// A token's text. None but those that were issued may be taken.
pub fn jwt(input: &[u8]) -> Result<(), String> {
    thread_local!(static KNOWN: LazyCell<(State, Vec<String>)> = const { LazyCell::new(issuer) });
    let token = String::from_utf8_lossy(input);
    KNOWN.with(|known| {
        let (state, tokens) = &**known;
        let result = Verifier::new().verify(state, None, &token, NOW);
        let issued = tokens.iter().any(|issued| *issued == token);
        ensure(issued == result.is_ok(), || format!("{token:?}: {result:?}"))
    })
}

/// Tokens that are good, and some that never were.
pub fn jwt_seeds() -> Vec<Vec<u8>> {
    let (_, tokens) = issuer();
    let mut all: Vec<Vec<u8>> = tokens.into_iter().map(String::into_bytes).collect();
    all.push(b"e30.e30.e30".to_vec());
    all.push(b"eyJhbGciOiJub25lIn0.e30.".to_vec());
    all
}

/// A broker, and tokens of it.
fn issuer() -> (State, Vec<String>) {
    let (rng, sealer) = (Counting::default(), Sealer::new([9; 32], &[]));
    let mut state = State::default();
    let (id, account) = (NamespaceId(1), AccountId(1));
    let name = |text| Name::parse(text).expect("a name");
    let keys = vec![generate_key(&sealer, &rng), generate_key(&sealer, &rng)];
    let bodies = [
        CommandBody::CreateAccount { id: account, name: "a".into(), max_namespaces: 9 },
        CommandBody::CreateNamespace { id, account, name: name("ns"), description: String::new(), max_brokers: 9 },
        CommandBody::CreateBroker {
            id: BROKER,
            namespace: id,
            name: name("b"),
            settings: BrokerSettings::default(),
            keys,
        },
    ];
    for (index, body) in (1..).zip(bodies) {
        let command = Command { request_id: RequestId(index.into()), at: NOW, body };
        let outcome = apply(&mut state, LogIndex(index), &command);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    let order = Order { clients: Clients::Generate(3), acl: TopicAcl::all(), lifetime: None };
    let issued = issue(&state, &sealer, BROKER, order, NOW, &rng).expect("the broker has a key");
    (state, issued.into_iter().map(|credential| credential.token).collect())
}

/// Different bytes at each call, the same in each run.
#[derive(Default)]
struct Counting(std::sync::atomic::AtomicU64);

impl rookery_cluster::rng::Rng for Counting {
    fn fill(&self, out: &mut [u8]) {
        let mut rng = crate::rng::Rng::new(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        out.iter_mut().for_each(|byte| *byte = rng.byte());
    }
}
