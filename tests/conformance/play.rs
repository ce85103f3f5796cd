//! Plays a case against a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::Packet;
use crate::encode::{Words, encode};
use crate::peer::Peer;
use crate::script::{Case, Op, Step, Value, Variables, Verb, Word, expand, number};
use crate::socket::{Carrier, Pieces, Socket};

/// Where a node listens.
#[derive(Clone, Debug)]
pub struct Node {
    pub tcp: String,
    pub ws: String,
}

/// What a case is played with.
#[derive(Clone)]
pub struct Stage {
    pub version: u8,
    pub nodes: Vec<Node>,
    pub carrier: Carrier,
    pub pieces: Pieces,
    /// Client ID and token of each letter.
    pub credentials: BTreeMap<String, (String, String)>,
    /// What all topics of this run begin with.
    pub topic: String,
    /// How long a packet is waited for.
    pub patience: Duration,
}

struct Player<'a> {
    stage: &'a Stage,
    connections: Vec<&'a str>,
    peers: BTreeMap<String, Peer>,
    variables: Variables,
    next_id: u64,
}

type Result<T> = std::result::Result<T, String>;

/// Plays `case`; an error says what differed from what it expects.
pub async fn play(case: &Case, stage: &Stage) -> Result<()> {
    let mut variables = Variables::from([("t".to_owned(), stage.topic.clone().into_bytes())]);
    for (letter, (id, token)) in &stage.credentials {
        variables.insert(letter.clone(), id.clone().into_bytes());
        variables.insert(format!("{letter}.token"), token.clone().into_bytes());
    }
    let connections = case.connections();
    let mut player = Player { stage, connections, peers: BTreeMap::new(), variables, next_id: 20_000 };
    let steps: Vec<&Step> =
        case.steps.iter().filter(|step| step.version.is_none_or(|version| version == stage.version)).collect();
    let mut at = 0;
    while at < steps.len() {
        let among = |step: &Step| step.verb == Verb::ExpectAmong && step.conn == steps[at].conn;
        let many = steps[at..].iter().take_while(|step| among(step)).count().max(1);
        let played = player.step(&steps[at..at + many]).await;
        played.map_err(|why| format!("line {}, `{}`: {why}", steps[at].line, steps[at].text))?;
        at += many;
    }
    player.end().await
}

impl<'a> Player<'a> {
    async fn step(&mut self, steps: &[&Step]) -> Result<()> {
        let step = steps[0];
        self.flush_others(&step.conn).await?;
        match step.verb {
            Verb::Send => self.send(&step.conn, &step.what, &step.words).await,
            Verb::Expect if step.what == "connack" && self.may_owe(step) => {
                self.peer(&step.conn)?.owed = Some(step.clone());
                Ok(())
            }
            Verb::Expect => {
                self.flush(&step.conn).await?;
                self.expect(step).await
            }
            Verb::ExpectAmong => {
                self.flush(&step.conn).await?;
                self.expect_among(steps).await
            }
            Verb::Do => self.deed(step).await,
        }
    }

    /// Whether what comes after a CONNACK may be sent before it has come: nothing of it is to be remembered, and it
    /// admits the client.
    fn may_owe(&self, step: &Step) -> bool {
        let free =
            step.words.iter().all(|word| !word.value.starts_with('?') && (word.key != "code" || word.value == "0"));
        self.stage.pieces == Pieces::Coalesced && free
    }

    fn peer(&mut self, conn: &str) -> Result<&mut Peer> {
        self.peers.get_mut(conn).ok_or_else(|| format!("{conn} has no connection"))
    }

    async fn flush_others(&mut self, conn: &str) -> Result<()> {
        let others: Vec<String> = self.peers.keys().filter(|name| *name != conn).cloned().collect();
        for name in others {
            self.flush(&name).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, conn: &str) -> Result<()> {
        let Some(peer) = self.peers.get_mut(conn) else { return Ok(()) };
        let unsent = std::mem::take(&mut peer.unsent);
        if !unsent.is_empty() {
            peer.write(&unsent, Pieces::Whole).await?;
        }
        if let Some(owed) = peer.owed.take() {
            let packet = self.packet(conn).await?;
            let same = self.compare(&packet, "connack", &owed.words);
            return same.map_err(|why| format!("the connack before it: {why}"));
        }
        Ok(())
    }

    async fn open(&mut self, conn: &str, node: Option<u64>) -> Result<()> {
        let place = self.connections.iter().position(|name| *name == conn).unwrap_or(0);
        let node = node.map_or(place, |node| node as usize) % self.stage.nodes.len();
        let node = &self.stage.nodes[node];
        let address = if self.stage.carrier == Carrier::Tcp { &node.tcp } else { &node.ws };
        let socket = Socket::open(address, self.stage.carrier).await?;
        self.peers.insert(conn.to_owned(), Peer::new(self.stage.version, socket));
        Ok(())
    }

    async fn send(&mut self, conn: &str, what: &str, words: &[Word]) -> Result<()> {
        if self.peers.get(conn).is_none_or(|peer| peer.socket.is_none()) {
            self.open(conn, None).await?;
        }
        let mut words = words.to_vec();
        if what == "connect" {
            let letter: String = conn.chars().take_while(|c| !c.is_ascii_digit()).collect();
            for (key, value) in [
                ("id", format!("{{{letter}}}")),
                ("username", "anything".into()),
                ("password", format!("{{{letter}.token}}")),
            ] {
                if !words.iter().any(|word| word.key == key) {
                    words.push(Word { key: key.into(), op: Op::Is, value });
                }
            }
        }
        let words = Words::new(&words, &self.variables)?;
        let bytes = encode(self.stage.version, what, &words)?;
        let pieces = self.stage.pieces;
        let peer = self.peer(conn)?;
        peer.sends(what, &words)?;
        if pieces == Pieces::Coalesced {
            peer.unsent.extend(bytes);
            return Ok(());
        }
        peer.write(&bytes, pieces).await
    }

    async fn next(&mut self, conn: &str) -> Result<Option<Packet>> {
        let patience = self.stage.patience;
        self.peer(conn)?.next(patience).await
    }

    async fn packet(&mut self, conn: &str) -> Result<Packet> {
        self.next(conn).await?.ok_or_else(|| "the server closed".into())
    }

    async fn expect(&mut self, step: &Step) -> Result<()> {
        let conn = &step.conn;
        match step.what.as_str() {
            "close" => self.closed(conn).await,
            "silence" => self.silence(conn).await,
            "end" => {
                if self.stage.version == 5 {
                    let code = step.words.first().map_or("", |word| &word.key);
                    let packet = self.packet(conn).await?;
                    let words = [Word { key: "code".into(), op: Op::Is, value: code.into() }];
                    self.compare(&packet, "disconnect", &words)?;
                }
                self.closed(conn).await
            }
            "refuse" => {
                let at = usize::from(self.stage.version != 5);
                let code = step.words.get(at).map_or("", |word| &word.key).to_owned();
                let packet = self.packet(conn).await?;
                let word = |key: &str, value: &str| Word { key: key.into(), op: Op::Is, value: value.into() };
                self.compare(&packet, "connack", &[word("code", &code), word("session", "0")])?;
                self.closed(conn).await
            }
            what => {
                let packet = self.packet(conn).await?;
                self.compare(&packet, what, &step.words)
            }
        }
    }

    async fn expect_among(&mut self, steps: &[&Step]) -> Result<()> {
        let mut left = steps.to_vec();
        while !left.is_empty() {
            let packet = self.packet(&left[0].conn).await?;
            let mut why = String::new();
            let mut found = None;
            for (at, step) in left.iter().enumerate() {
                match self.compare(&packet, &step.what, &step.words) {
                    Ok(()) => {
                        found = Some(at);
                        break;
                    }
                    Err(because) => why = format!("{why}; {because}"),
                }
            }
            let Some(at) = found else { return Err(format!("none of these: {why}")) };
            left.remove(at);
        }
        Ok(())
    }

    async fn closed(&mut self, conn: &str) -> Result<()> {
        match self.next(conn).await {
            Ok(None) => {
                self.peer(conn)?.socket = None;
                Ok(())
            }
            Ok(Some(packet)) => Err(format!("instead of a close came {packet}")),
            Err(why) => Err(format!("instead of a close: {why}")),
        }
    }

    /// Nothing comes before the answer to a PINGREQ.
    async fn silence(&mut self, conn: &str) -> Result<()> {
        self.send(conn, "pingreq", &[]).await?;
        self.flush(conn).await?;
        let packet = self.packet(conn).await?;
        self.compare(&packet, "pingresp", &[]).map_err(|why| format!("instead of silence: {why}"))
    }

    /// Whatever comes, the connection goes on; then it is dropped.
    async fn alive(&mut self, conn: &str) -> Result<()> {
        self.send(conn, "pingreq", &[]).await?;
        self.flush(conn).await?;
        loop {
            match self.packet(conn).await?.name {
                "pingresp" => break,
                "disconnect" => return Err("it was ended".into()),
                _ => {}
            }
        }
        self.peer(conn)?.socket = None;
        Ok(())
    }

    fn compare(&mut self, packet: &Packet, name: &str, words: &[Word]) -> Result<()> {
        let differs = |why: String| Err(format!("{why}; got {packet}"));
        if packet.name != name {
            return differs(format!("not a {name}"));
        }
        let mut bindings = Vec::new();
        for word in words.iter().filter(|word| word.key != "props" && !LISTS.contains(&word.key.as_str())) {
            let key = word.key.as_str();
            match (expand(&word.value, &self.variables)?, packet.all(key).first()) {
                (Value::Absent, None) => {}
                (Value::Absent, Some(_)) => return differs(format!("{key} is there")),
                (_, None) => return differs(format!("{key} is missing")),
                (Value::Bind(variable), Some(actual)) => bindings.push((variable, actual.to_vec())),
                (Value::Bytes(wanted), Some(actual)) if holds(key, word.op, actual, &wanted)? => {}
                (Value::Bytes(_), Some(_)) => return differs(format!("{key} is not as wanted")),
            }
        }
        for list in LISTS.iter().filter(|list| words.iter().any(|word| word.key == **list)) {
            let mut wanted = Vec::new();
            for word in words.iter().filter(|word| word.key == **list) {
                if let Value::Bytes(value) = expand(&word.value, &self.variables)? {
                    wanted.push(value);
                }
            }
            let mut actual: Vec<Vec<u8>> = packet.all(list).into_iter().map(<[u8]>::to_vec).collect();
            if *list == "subid" {
                // Their order is nobody's promise.
                actual.sort_by_key(|id| number(id).unwrap_or(0));
            }
            if actual != wanted {
                return differs(format!("{list} is not as wanted"));
            }
        }
        if let Some(word) = words.iter().find(|word| word.key == "props") {
            let extra = packet.properties().into_iter().find(|name| !words.iter().any(|word| word.key == *name));
            if let Some(extra) = extra {
                return differs(format!("property {extra} is there, props={}", word.value));
            }
        }
        self.variables.extend(bindings);
        Ok(())
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    async fn deed(&mut self, step: &Step) -> Result<()> {
        let conn = step.conn.as_str();
        let value = |key: &str| step.words.iter().find(|word| word.key == key).map(|word| word.value.clone());
        match step.what.as_str() {
            "open" => {
                let node = value("node").map(|node| number(node.as_bytes())).transpose()?;
                self.open(conn, node).await
            }
            "up" => {
                let (own, connack): (Vec<Word>, Vec<Word>) =
                    step.words.iter().cloned().partition(|word| word.key != "session");
                self.send(conn, "connect", &own).await?;
                let mut expected = step.clone();
                expected.what = "connack".into();
                expected.words = connack;
                expected.words.push(Word { key: "code".into(), op: Op::Is, value: "0".into() });
                if self.may_owe(&expected) {
                    self.peer(conn)?.owed = Some(expected);
                    return Ok(());
                }
                self.flush(conn).await?;
                self.expect(&expected).await
            }
            "sub" | "unsub" => self.subscribe(step).await,
            "pub" => self.publish(step).await,
            "get" => self.get(step).await,
            "drop" => {
                self.flush(conn).await?;
                let socket = self.peer(conn)?.socket.take().ok_or("there is no connection")?;
                socket.drop_it();
                Ok(())
            }
            "wait" => {
                self.flush(conn).await?;
                let millis = step.words.first().map_or("0", |word| &word.key);
                tokio::time::sleep(Duration::from_millis(number(millis.as_bytes())?)).await;
                Ok(())
            }
            "text" => {
                self.flush(conn).await?;
                let socket = self.peer(conn)?.socket.as_mut().ok_or("there is no connection")?;
                socket.send_frame(1, &[0xc0, 0]).await;
                Ok(())
            }
            "alive" => self.alive(conn).await,
            "gone" => {
                self.flush(conn).await?;
                self.closed(conn).await
            }
            "ended" => {
                self.flush(conn).await?;
                let packet = self.packet(conn).await?;
                self.compare(&packet, "disconnect", &step.words)?;
                self.closed(conn).await
            }
            "upgrade" => self.upgrade(value("path"), value("protocol"), value("status")).await,
            other => Err(format!("there is no deed {other:?}")),
        }
    }

    async fn upgrade(&self, path: Option<String>, protocol: Option<String>, status: Option<String>) -> Result<()> {
        let address = &self.stage.nodes[0].ws;
        let protocol = protocol.map(|protocol| protocol.trim_matches('"').to_owned());
        let head = Socket::try_upgrade(address, &path.unwrap_or("/mqtt".into()), protocol.as_deref()).await?;
        let status = status.ok_or("which status?")?;
        if !head.starts_with(&format!("http/1.1 {status} ")) {
            return Err(format!("was answered with {head:?}"));
        }
        if status == "101" && !head.contains("\r\nsec-websocket-protocol: mqtt\r\n") {
            return Err(format!("the subprotocol was not selected: {head:?}"));
        }
        Ok(())
    }

    /// `sub FILTER [options]`, `unsub FILTER`: with the answer. `codes=` where it is not the QoS that was asked for.
    async fn subscribe(&mut self, step: &Step) -> Result<()> {
        let (filter, options) = step.words.split_first().ok_or("which filter?")?;
        let id = self.fresh_id().to_string();
        let word = |key: &str, value: &str| Word { key: key.into(), op: Op::Is, value: value.into() };
        let mut words = vec![word("id", &id), word("filter", &filter_text(filter))];
        words.extend(options.iter().filter(|word| word.key != "codes").cloned());
        let given = |key: &str| options.iter().find(|word| word.key == key).map(|word| word.value.clone());
        let (request, answer) = if step.what == "sub" { ("subscribe", "suback") } else { ("unsubscribe", "unsuback") };
        self.send(&step.conn, request, &words).await?;
        self.flush(&step.conn).await?;
        let codes = given("codes").or_else(|| given("qos")).unwrap_or("0".into());
        let packet = self.answer(&step.conn, &[answer]).await?;
        let mut expected = vec![word("id", &id)];
        if request == "subscribe" || (self.stage.version == 5 && given("codes").is_some()) {
            expected.push(word("codes", &codes));
        }
        self.compare(&packet, answer, &expected)
    }

    /// The next packet of one of these kinds; publishes before it are kept for later.
    async fn answer(&mut self, conn: &str, kinds: &[&str]) -> Result<Packet> {
        let mut before = Vec::new();
        let packet = loop {
            let packet = self.packet(conn).await?;
            if kinds.contains(&packet.name) || packet.name != "publish" {
                break packet;
            }
            before.push(packet);
        };
        let stash = &mut self.peer(conn)?.stash;
        before.into_iter().rev().for_each(|packet| stash.push_front(packet));
        Ok(packet)
    }

    /// `pub topic=... [qos=...]`: with the handshake.
    async fn publish(&mut self, step: &Step) -> Result<()> {
        let conn = step.conn.as_str();
        let mut words = step.words.clone();
        let qos = words.iter().find(|word| word.key == "qos").map_or("0".to_owned(), |word| word.value.clone());
        if qos == "0" {
            self.send(conn, "publish", &words).await?;
            return self.flush(conn).await;
        }
        let id = self.fresh_id().to_string();
        let word = Word { key: "id".into(), op: Op::Is, value: id };
        words.push(word.clone());
        self.send(conn, "publish", &words).await?;
        self.flush(conn).await?;
        let first = if qos == "1" { "puback" } else { "pubrec" };
        let packet = self.answer(conn, &[first]).await?;
        self.accepted(&packet, first, &word)?;
        if qos == "2" {
            self.send(conn, "pubrel", std::slice::from_ref(&word)).await?;
            self.flush(conn).await?;
            let packet = self.answer(conn, &["pubcomp"]).await?;
            self.accepted(&packet, "pubcomp", &word)?;
        }
        Ok(())
    }

    fn accepted(&mut self, packet: &Packet, name: &str, id: &Word) -> Result<()> {
        self.compare(packet, name, std::slice::from_ref(id))?;
        let code = packet.number("code").unwrap_or(0);
        if code < 0x80 { Ok(()) } else { Err(format!("was refused: {packet}")) }
    }

    /// `get topic=... ...`: the next packet is this PUBLISH, which is acknowledged as its QoS demands.
    async fn get(&mut self, step: &Step) -> Result<()> {
        let conn = step.conn.as_str();
        self.flush(conn).await?;
        let packet = self.packet(conn).await?;
        self.compare(&packet, "publish", &step.words)?;
        let Some(id) = packet.number("id") else { return Ok(()) };
        let word = Word { key: "id".into(), op: Op::Is, value: id.to_string() };
        if packet.number("qos") == Some(1) {
            self.send(conn, "puback", std::slice::from_ref(&word)).await?;
            return self.flush(conn).await;
        }
        self.send(conn, "pubrec", std::slice::from_ref(&word)).await?;
        self.flush(conn).await?;
        let packet = self.answer(conn, &["pubrel"]).await?;
        self.compare(&packet, "pubrel", std::slice::from_ref(&word))?;
        self.send(conn, "pubcomp", std::slice::from_ref(&word)).await?;
        self.flush(conn).await
    }

    /// Nothing more may come on what is still open.
    async fn end(&mut self) -> Result<()> {
        let open: Vec<String> =
            self.peers.iter().filter(|(_, peer)| peer.socket.is_some()).map(|(name, _)| name.clone()).collect();
        for conn in open {
            self.flush(&conn).await.map_err(|why| format!("at the end, {conn}: {why}"))?;
            let goodbye = self.peer(&conn)?.said_goodbye;
            let quiet = if goodbye { self.closed(&conn).await } else { self.silence(&conn).await };
            quiet.map_err(|why| format!("at the end, {conn}: {why}"))?;
        }
        Ok(())
    }
}

/// Fields that a packet may have several of: all of them are compared, in order.
const LISTS: &[&str] = &["user", "subid"];

/// The filter of `sub FILTER`, which may look like `key=value`.
fn filter_text(word: &Word) -> String {
    if word.op == Op::Bare { word.key.clone() } else { format!("{}={}", word.key, word.value) }
}

/// Whether a field is as a word says. Everything but texts and data is a number.
fn holds(key: &str, op: Op, actual: &[u8], wanted: &[u8]) -> Result<bool> {
    const TEXTS: &[&str] = &[
        "topic",
        "payload",
        "content_type",
        "response_topic",
        "correlation",
        "assigned_id",
        "auth_method",
        "auth_data",
        "response_info",
        "server_reference",
        "reason",
        "user",
    ];
    if TEXTS.contains(&key) {
        return match op {
            Op::Is => Ok(actual == wanted),
            Op::IsNot => Ok(actual != wanted),
            _ => Err(format!("{key} is a text")),
        };
    }
    if key == "codes" {
        let list = |text: &[u8]| text.split(|byte| *byte == b',').map(number).collect::<Result<Vec<u64>>>();
        let same = if actual.is_empty() { wanted.is_empty() } else { list(actual)? == list(wanted)? };
        return Ok(same == (op != Op::IsNot));
    }
    let actual = number(actual)?;
    let any = |test: &dyn Fn(u64) -> bool| -> Result<bool> {
        let values: Vec<u64> = wanted.split(|byte| *byte == b'|').map(number).collect::<Result<_>>()?;
        Ok(values.into_iter().any(test))
    };
    match op {
        Op::Is => any(&|value| actual == value),
        Op::IsNot => Ok(!any(&|value| actual == value)?),
        Op::AtMost => any(&|value| actual <= value),
        Op::AtLeast => any(&|value| actual >= value),
        Op::Bare => Err(format!("{key} has no value")),
    }
}
