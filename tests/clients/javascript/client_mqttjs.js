// MQTT.js.

const fs = require("node:fs");
const mqtt = require("mqtt");
const { EXPIRY, Inbox } = require("./transcripts.js");

const PROTOCOLS = { tcp: "mqtt", tls: "mqtts", ws: "ws", wss: "wss" };

function connect(options) {
  const five = options.version === 5;
  const client = mqtt.connect({
    protocol: PROTOCOLS[options.scheme],
    host: options.host,
    port: options.port,
    path: "/mqtt",
    ca: fs.readFileSync(options.ca),
    protocolVersion: five ? 5 : 4,
    clientId: options.clientId,
    username: "anything",
    password: options.token,
    clean: five ? options.clean : !options.keep,
    properties: five ? { sessionExpiryInterval: options.keep ? EXPIRY : 0 } : undefined,
    will: options.will && { topic: options.will[0], payload: Buffer.from(options.will[1]), qos: 1, retain: false },
    reconnectPeriod: 0,
    resubscribe: false,
  });
  const inbox = new Inbox();
  let reason;
  const closed = new Promise((resolve) => client.once("close", resolve));
  client.on("message", (topic, payload, packet) => inbox.put({ topic, payload, qos: packet.qos, retain: packet.retain }));
  client.on("disconnect", (packet) => (reason = packet.reasonCode));
  const link = {
    subscribe: async (topic, qos) => {
      const [granted] = await client.subscribeAsync(topic, { qos });
      if (granted.qos !== qos) throw new Error(`granted QoS ${granted.qos}`);
    },
    publish: (topic, payload, qos, retain) => client.publishAsync(topic, payload, { qos, retain }),
    next: () => inbox.get(),
    ended: () => closed.then(() => reason),
    disconnect: () => client.endAsync(),
  };
  return new Promise((resolve, reject) => {
    client.once("connect", (connack) => resolve(Object.assign(link, { present: connack.sessionPresent })));
    client.on("error", reject);
    closed.then(() => reject(new Error("closed before CONNACK")));
  });
}

module.exports = { VERSION: require("mqtt/package.json").version, connect, whyNot: () => undefined };
