// Plays the transcripts with one client library: driver.js CLIENT. See ../README.md for what it reads and prints.

const fs = require("node:fs");
const { Stage, outcome, transcripts } = require("./transcripts.js");

const CLIENTS = ["mqttjs", "u8mqtt"];
const AT_ONCE = 4;

async function play(client, line) {
  const stage = new Stage(client, line);
  for (const [name, run] of Object.entries(transcripts)) {
    const [status, why] = await outcome(stage, name, run);
    console.log(`${status} ${stage.scheme} ${stage.version} ${stage.nodes.length} ${name} ${why}`);
  }
}

async function main() {
  const name = process.argv[2];
  if (!CLIENTS.includes(name)) throw new Error(`${name} is none of ${CLIENTS.join(", ")}`);
  const client = require(`./client_${name}.js`);
  console.log(`version ${client.VERSION}`);
  const lines = fs.readFileSync(0, "utf8").split("\n").filter(Boolean);
  const turn = async () => {
    while (lines.length > 0) await play(client, lines.shift());
  };
  await Promise.all(Array.from({ length: AT_ONCE }, turn));
  process.exit();
}

main();
