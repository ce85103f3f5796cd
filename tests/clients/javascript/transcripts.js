// What every client library of JavaScript has to show, written against the few verbs that client_*.js have in common.

const { Relay } = require("./relay.js");

// Only a broken broker takes that long for one step, in milliseconds.
const DEADLINE = 60000;
// Seconds that a session is to outlive its connection.
const EXPIRY = 300;
const TAKEN_OVER = 0x8e;

function step(doing) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came of it in ${DEADLINE} ms`)), DEADLINE);
  });
  return Promise.race([doing, late]).finally(() => clearTimeout(timer));
}

// What is put in comes out, in order, to whoever waits for it.
class Inbox {
  items = [];
  waiting = [];

  put(item) {
    const next = this.waiting.shift();
    if (next) next(item);
    else this.items.push(item);
  }

  get() {
    if (this.items.length > 0) return Promise.resolve(this.items.shift());
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

// The nodes and the credentials of one play: every transcript once over one transport in one version.
class Stage {
  constructor(client, line) {
    const [scheme, version, nodes, ca, ...who] = line.split(" ");
    this.nodes = nodes.split(",").map((node) => {
      const at = node.lastIndexOf(":");
      return { host: node.slice(0, at), port: Number(node.slice(at + 1)) };
    });
    Object.assign(this, { client, scheme, version: Number(version), ca, links: [], relays: [] });
    this.who = { a: who.slice(0, 2), b: who.slice(2, 4) };
  }

  topic(name) {
    return `${this.who.a[0]}/${name}`;
  }

  // A connection of client `who` to a node. keep: its session outlives the connection. will: topic and payload, at
  // QoS 1. relayed: it can be cut.
  async connect(who, at, { clean = true, keep = false, will, relayed } = {}) {
    let { host, port } = this.nodes[at % this.nodes.length];
    let relay;
    if (relayed) {
      relay = await Relay.start(host, port);
      this.relays.push(relay);
      port = relay.port;
    }
    const [clientId, token] = this.who[who];
    const { scheme, version, ca } = this;
    const options = { scheme, version, ca, host, port, clientId, token, clean, keep, will };
    const link = await step(this.client.connect(options));
    link.drop = () => relay.cut();
    this.links.push(link);
    return link;
  }

  async close() {
    // Some have ended long ago, as their transcripts want it.
    for (const link of this.links) await Promise.race([link.disconnect(), later(5000)]).catch(() => {});
    for (const relay of this.relays) relay.cut();
    this.links = [];
    this.relays = [];
  }
}

const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function expect(found, wanted, what) {
  if (found !== wanted) throw new Error(`${what}: ${String(found).slice(0, 200)} instead of ${String(wanted).slice(0, 200)}`);
}

async function receives(link, topic, payload, qos, retain = false) {
  const found = await step(link.next());
  expect(found.topic, topic, "topic");
  expect(Buffer.from(found.payload).toString(), payload, "payload");
  expect(found.qos, qos, "QoS");
  expect(Boolean(found.retain), retain, "retain");
}

const roundTrip = (qos) => async (stage) => {
  const topic = stage.topic(`qos${qos}`);
  const subscriber = await stage.connect("a", 1);
  const publisher = await stage.connect("b", 0);
  await step(subscriber.subscribe(topic, qos));
  const payloads = ["first", "0123456789".repeat(1000), "dernière"];
  for (const payload of payloads) await step(publisher.publish(topic, payload, qos, false));
  for (const payload of payloads) await receives(subscriber, topic, payload, qos);
};

async function will(stage) {
  const topic = stage.topic("will");
  const watcher = await stage.connect("b", 1);
  await step(watcher.subscribe(topic, 1));
  const dying = await stage.connect("a", 0, { will: [topic, "gone"], relayed: true });
  await step(dying.subscribe(stage.topic("own"), 1));
  dying.drop();
  await receives(watcher, topic, "gone", 1);
}

async function retained(stage) {
  const topic = stage.topic("retained");
  const publisher = await stage.connect("b", 0);
  await step(publisher.publish(topic, "kept", 1, true));
  const subscriber = await stage.connect("a", 1);
  await step(subscriber.subscribe(topic, 1));
  await receives(subscriber, topic, "kept", 1, true);
  await step(publisher.publish(topic, "", 1, true));
  await receives(subscriber, topic, "", 1);
}

async function resume(stage) {
  const topic = stage.topic("resume");
  const first = await stage.connect("a", 0, { keep: true });
  expect(first.present, false, "Session Present at first");
  await step(first.subscribe(topic, 1));
  await step(first.disconnect());
  const publisher = await stage.connect("b", 1);
  await step(publisher.publish(topic, "meanwhile", 1, false));
  const again = await stage.connect("a", 2, { clean: false, keep: true });
  expect(again.present, true, "Session Present at the second connection");
  await receives(again, topic, "meanwhile", 1);
}

async function takeover(stage) {
  const topic = stage.topic("takeover");
  const older = await stage.connect("a", 0);
  await step(older.subscribe(topic, 1));
  const newer = await stage.connect("a", 1);
  await step(newer.subscribe(topic, 1));
  const reason = await step(older.ended());
  expect(reason, stage.version === 5 ? TAKEN_OVER : undefined, "the older connection's end");
  const publisher = await stage.connect("b", 2);
  await step(publisher.publish(topic, "to the newer", 1, false));
  await receives(newer, topic, "to the newer", 1);
}

const transcripts = { qos0: roundTrip(0), qos1: roundTrip(1), qos2: roundTrip(2), will, retained, resume, takeover };

// What became of a transcript: `ok`, `n/a` or `FAIL`, and why.
async function outcome(stage, name, run) {
  const why = stage.client.whyNot(stage.scheme, stage.version, name);
  if (why) return ["n/a", why];
  try {
    await run(stage);
    return ["ok", ""];
  } catch (error) {
    const where = String(error?.stack).split("\n").slice(1, 4).map((line) => line.trim());
    return ["FAIL", `${error} (${where.join(" ")})`.replaceAll("\n", " ")];
  } finally {
    await stage.close();
  }
}

module.exports = { EXPIRY, Inbox, Stage, outcome, transcripts };
