// u8-mqtt. It gives up on an answer after 5 s, and says so beside the packet that it has not.

const fs = require("node:fs");
const path = require("node:path");
const { mqtt_v4, mqtt_v5 } = require("u8-mqtt");
const WebSocket = require("ws");
const { EXPIRY, Inbox } = require("./transcripts.js");

function whyNot(scheme, version, transcript) {
  return transcript === "qos2" ? "has QoS 0 and 1 only" : undefined;
}

// The package does not export its package.json.
function version() {
  const folder = path.join(path.dirname(require.resolve("u8-mqtt")), "..");
  return JSON.parse(fs.readFileSync(path.join(folder, "package.json"))).version;
}

function dial(client, { scheme, host, port, ca }) {
  const trust = { ca: fs.readFileSync(ca) };
  if (scheme === "tcp") client.with_tcp(port, host);
  else if (scheme === "tls") client.with_tls(port, host, trust);
  else client.with_websock(new WebSocket(`${scheme}://${host}:${port}/mqtt`, ["mqtt"], trust));
}

async function answered(sent) {
  const [packet, error] = await sent;
  if (error) throw new Error(error);
  return packet;
}

async function connect(options) {
  const inbox = new Inbox();
  const five = options.version === 5;
  let reason, close;
  let open = true;
  const closed = new Promise((resolve) => (close = resolve)).then(() => (open = false));
  const on_mqtt_type = { mqtt_disconnect: (packet) => (reason = Number(packet.reason)) };
  const client = (five ? mqtt_v5 : mqtt_v4)({ on_mqtt_type });
  client.with({ log_conn() {}, on_error() {}, on_disconnect: () => close() });
  client.on_topic("*", ({ topic, payload, qos, retain }) => inbox.put({ topic, payload, qos, retain }));
  dial(client, options);
  const connack = await answered(
    client.connect({
      client_id: options.clientId,
      username: "anything",
      password: options.token,
      flags: { clean_start: five ? options.clean : !options.keep },
      props: five ? { session_expiry_interval: options.keep ? EXPIRY : 0 } : undefined,
      will: options.will && { topic: options.will[0], payload: options.will[1], qos: 1 },
    }),
  );
  return {
    present: Boolean(connack.flags.session_present),
    subscribe: async (topic, qos) => {
      const suback = await answered(client.subscribe([[topic, { qos }]]));
      const granted = Array.from(suback.answers, Number);
      if (granted[0] !== qos) throw new Error(`granted ${granted}`);
    },
    publish: async (topic, payload, qos, retain) => {
      // pub() of this version looks for an answer to QoS 0 too, and throws.
      if (qos === 0) await client._send("publish", { topic, payload, qos, retain });
      else await answered(client.pub({ topic, payload, qos, retain }));
    },
    next: () => inbox.get(),
    ended: () => closed.then(() => reason),
    // On a closed connection it would wait for another.
    disconnect: async () => open && (await client.disconnect()),
  };
}

module.exports = { VERSION: version(), connect, whyNot };
