// A common first MQTT.js program, as its users have it, but for address, port and client ID. It does not end by itself.

const mqtt = require("mqtt");

const brokerEndpoint = process.env.BROKER_URI;
const clientId = process.env.CLIENT_ID;

const options = {
  port: process.env.BROKER_PORT,
  username: clientId, // MQTT.js requires this, but Pub/Sub does not
  clientId: clientId, // Required by Pub/Sub
  password: process.env.BROKER_TOKEN,
  protocolVersion: 5, // MQTT 5
};

const client = mqtt.connect(brokerEndpoint, options);

client.subscribe("example-topic");
client.publish(
  "example-topic",
  `message from ${client.options.clientId}: hello at ${Date.now()}`,
);
client.on("message", function (topic, message) {
  console.log(`received message on ${topic}: ${message}`);
});
