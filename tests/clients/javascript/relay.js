// A wire to a node that can be cut, whatever library sits at its end. It carries one connection.

const net = require("node:net");
const { once } = require("node:events");

class Relay {
  static async start(host, port) {
    const relay = new Relay();
    relay.sockets = [];
    relay.server = net.createServer((client) => {
      relay.server.close();
      const node = net.connect(port, host);
      relay.sockets = [client, node];
      for (const socket of relay.sockets) socket.on("error", () => socket.destroy());
      client.pipe(node);
      node.pipe(client);
    });
    relay.server.listen(0, host);
    await once(relay.server, "listening");
    relay.port = relay.server.address().port;
    return relay;
  }

  // Both ends see the connection close, without a word from the client.
  cut() {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }
}

module.exports = { Relay };
