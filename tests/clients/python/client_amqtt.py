"""amqtt, which speaks 3.1.1. It does not show Session Present."""

import asyncio
from importlib.metadata import version
from urllib.parse import quote

from amqtt.client import MQTTClient
from amqtt.errors import AMQTTError

from transcripts import Message

VERSION = version("amqtt")
SCHEMES = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}


def why_not(scheme, version, transcript):
    return "speaks 3.1.1 only" if version == 5 else None


class Link:
    present = None

    def __init__(self, client):
        self.client = client

    async def subscribe(self, topic, qos):
        granted = await self.client.subscribe([(topic, qos)])
        assert granted == [qos], granted

    async def publish(self, topic, payload, qos, retain=False):
        await self.client.publish(topic, payload, qos, retain)

    async def next(self):
        message = await self.client.deliver_message()
        return Message(message.topic, bytes(message.data), message.qos, bool(message.retain))

    async def ended(self):
        # Whoever waits for a message when the connection closes is cancelled; whoever comes later finds no session.
        waiting = asyncio.ensure_future(self.client.deliver_message())
        await asyncio.wait({waiting})
        closed = waiting.cancelled() or isinstance(waiting.exception(), AMQTTError)
        assert closed, f"{waiting} instead of an end"
        return None

    async def drop(self):
        self.relay.cut()

    async def disconnect(self):
        await self.client.disconnect()


async def connect(options):
    config = {"auto_reconnect": False}
    if options.will:
        topic, payload = options.will
        config["will"] = {"topic": topic, "message": payload.decode(), "qos": 1, "retain": False}
    client = MQTTClient(options.client_id, config)
    password = quote(options.token, safe="")
    uri = f"{SCHEMES[options.scheme]}://anything:{password}@{options.host}:{options.port}/mqtt"
    await client.connect(uri, cleansession=not options.keep, cafile=options.ca if options.secure else None)
    return Link(client)
