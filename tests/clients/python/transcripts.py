"""What every client library of Python has to show, written against the few verbs that client_*.py have in common."""

import asyncio
import traceback
from dataclasses import dataclass

from relay import Relay

# Only a broken broker takes that long for one step.
DEADLINE = 60
# Seconds that a session is to outlive its connection.
EXPIRY = 300
TAKEN_OVER = 0x8E
# An end by a DISCONNECT of which the library keeps the reason code to itself.
UNSAID = "a DISCONNECT"




@dataclass
class Message:
    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass
class Options:
    """How a client connects. `keep`: its session outlives the connection. `will`: topic and payload, at QoS 1."""

    scheme: str
    version: int
    host: str
    port: int
    ca: str
    client_id: str
    token: str
    clean: bool
    keep: bool
    will: tuple | None

    @property
    def secure(self):
        return self.scheme in ("tls", "wss")

    @property
    def websocket(self):
        return self.scheme in ("ws", "wss")


class Stage:
    """The nodes and the credentials of one play: every transcript once over one transport in one version."""

    def __init__(self, client, line):
        self.client = client
        self.scheme, version, nodes, self.ca, *who = line.split()
        self.version = int(version)
        self.nodes = [node.rsplit(":", 1) for node in nodes.split(",")]
        self.who = {"a": who[0:2], "b": who[2:4]}
        self.links, self.relays = [], []

    def topic(self, name):
        return f"{self.who['a'][0]}/{name}"

    async def connect(self, who, at, *, clean=True, keep=False, will=None, relayed=False):
        """A connection of client `who` to a node; `relayed`: one that can be cut."""
        host, port = self.nodes[at % len(self.nodes)]
        relay = None
        if relayed:
            relay = await Relay.start(host, int(port))
            self.relays.append(relay)
            port = relay.port
        client_id, token = self.who[who]
        options = Options(
            self.scheme, self.version, host, int(port), self.ca, client_id, token, clean, keep, will
        )
        link = await asyncio.wait_for(self.client.connect(options), DEADLINE)
        link.relay = relay
        self.links.append(link)
        return link

    async def close(self):
        for link in self.links:
            try:
                await asyncio.wait_for(link.disconnect(), 5)
            except Exception:
                # It may have ended long ago, as the transcript wants it.
                pass
        for relay in self.relays:
            relay.cut()
        self.links, self.relays = [], []


async def receives(link, topic, payload, qos, retain=False):
    found = await asyncio.wait_for(link.next(), DEADLINE)
    wanted = Message(topic, payload, qos, retain)
    assert found == wanted, f"received {str(found)[:200]} instead of {str(wanted)[:200]}"


def round_trip(qos):
    async def run(stage):
        topic = stage.topic(f"qos{qos}")
        subscriber, publisher = await stage.connect("a", 1), await stage.connect("b", 0)
        await step(subscriber.subscribe(topic, qos))
        payloads = [b"first", bytes(range(32, 127)) * 100, "dernière".encode()]
        for payload in payloads:
            await step(publisher.publish(topic, payload, qos))
        for payload in payloads:
            await receives(subscriber, topic, payload, qos)

    return run


async def will(stage):
    topic = stage.topic("will")
    watcher = await stage.connect("b", 1)
    await step(watcher.subscribe(topic, 1))
    dying = await stage.connect("a", 0, will=(topic, b"gone"), relayed=True)
    await step(dying.subscribe(stage.topic("own"), 1))
    await dying.drop()
    await receives(watcher, topic, b"gone", 1)


async def retained(stage):
    topic = stage.topic("retained")
    publisher = await stage.connect("b", 0)
    await step(publisher.publish(topic, b"kept", 1, retain=True))
    subscriber = await stage.connect("a", 1)
    await step(subscriber.subscribe(topic, 1))
    await receives(subscriber, topic, b"kept", 1, retain=True)
    await step(publisher.publish(topic, b"", 1, retain=True))
    await receives(subscriber, topic, b"", 1)


async def resume(stage):
    topic = stage.topic("resume")
    first = await stage.connect("a", 0, keep=True)
    assert not first.present, "a session before the first connection"
    await step(first.subscribe(topic, 1))
    await step(first.disconnect())
    publisher = await stage.connect("b", 1)
    await step(publisher.publish(topic, b"meanwhile", 1))
    again = await stage.connect("a", 2, clean=False, keep=True)
    assert again.present in (True, None), "no session at the second connection"
    await receives(again, topic, b"meanwhile", 1)


async def takeover(stage):
    topic = stage.topic("takeover")
    older = await stage.connect("a", 0, relayed=True)
    await step(older.subscribe(topic, 1))
    newer = await stage.connect("a", 1)
    await step(newer.subscribe(topic, 1))
    reason = await asyncio.wait_for(older.ended(), DEADLINE)
    wanted = getattr(stage.client, "TAKEN_OVER", TAKEN_OVER) if stage.version == 5 else None
    assert reason == wanted, f"the older connection ended with {reason} instead of {wanted}"
    publisher = await stage.connect("b", 2)
    await step(publisher.publish(topic, b"to the newer", 1))
    await receives(newer, topic, b"to the newer", 1)


def step(doing):
    return asyncio.wait_for(doing, DEADLINE)


ALL = {
    "qos0": round_trip(0),
    "qos1": round_trip(1),
    "qos2": round_trip(2),
    "will": will,
    "retained": retained,
    "resume": resume,
    "takeover": takeover,
}


def of(client):
    """The transcripts that `client` is played with: all, and what only it can do."""
    return [*ALL.items(), *getattr(client, "EXTRA", {}).items()]


async def outcome(stage, name, run):
    """What became of a transcript: `ok`, `n/a` or `FAIL`, and why."""
    why = stage.client.why_not(stage.scheme, stage.version, name)
    if why:
        return "n/a", why
    try:
        await run(stage)
        return "ok", ""
    except Exception as error:
        where = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        said = f"{type(error).__name__}: {error}".replace("\n", " ")
        return "FAIL", f"{said} (in {' > '.join(where[-4:])})"
    finally:
        await stage.close()
