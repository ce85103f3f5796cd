// Opens a page with example.js in a headless Chromium and prints the first two lines that the page logs.

const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const tls = require("node:tls");
const { once } = require("node:events");
const { chromium } = require("playwright-core");

const { BROKER_URL, BROKER_TOKEN, BROKER_TOPIC } = process.env;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

// Chromium takes no file of authorities: it is told the key of this server, which Node has checked against
// NODE_EXTRA_CA_CERTS.
async function keyOfServer() {
  const { hostname, port } = new URL(BROKER_URL);
  const socket = tls.connect(Number(port), hostname);
  await once(socket, "secureConnect");
  const key = new crypto.X509Certificate(socket.getPeerCertificate().raw).publicKey;
  socket.destroy();
  const bytes = key.export({ type: "spki", format: "der" });
  return crypto.createHash("sha256").update(bytes).digest("base64");
}

async function servePage() {
  const files = {
    "/mqtt.js": path.join(path.dirname(require.resolve("mqtt/package.json")), "dist/mqtt.min.js"),
    "/example.js": path.join(__dirname, "example.js"),
  };
  const page = `<script src="/mqtt.js"></script><script src="/example.js"></script>`;
  const server = http.createServer((request, response) => {
    const file = files[request.url];
    response.setHeader("content-type", file ? "text/javascript" : "text/html");
    response.end(file ? fs.readFileSync(file) : page);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${server.address().port}/`;
}

async function main() {
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      `--ignore-certificate-errors-spki-list=${await keyOfServer()}`,
    ],
  });
  const page = await browser.newPage();
  const done = new Promise((resolve) => {
    let lines = 0;
    page.on("console", (message) => {
      console.log(message.text().trimEnd());
      if (++lines === 2) resolve();
    });
  });
  page.on("pageerror", (error) => console.log(`error: ${error}`));
  await page.goto(await servePage());
  await page.evaluate(
    ([url, token, name]) => {
      window.jwt = token;
      window.topic = name;
      example(url);
    },
    [BROKER_URL, BROKER_TOKEN, BROKER_TOPIC],
  );
  await done;
  await browser.close();
}

main().catch((error) => {
  console.log(`error: ${error}`);
  process.exit(1);
});
