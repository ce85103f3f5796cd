"""gmqtt. Its publishes are acknowledged when its storage is empty again."""

import asyncio
import ssl
from importlib.metadata import version

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from gmqtt.storage import PersistentStorage

from transcripts import EXPIRY, Message

VERSION = version("gmqtt")


def why_not(scheme, version, transcript):
    return "speaks TCP and TLS only" if scheme in ("ws", "wss") else None


class Link:
    def __init__(self, options):
        loop = asyncio.get_running_loop()
        self.inbox, self.end, self.grants, self.present = asyncio.Queue(), loop.create_future(), {}, None
        self.unacknowledged = PersistentStorage()
        properties = {"session_expiry_interval": EXPIRY if options.keep else 0} if options.version == 5 else {}
        will = gmqtt.Message(*options.will, qos=1) if options.will else None
        clean = options.clean if options.version == 5 else not options.keep
        self.client = client = gmqtt.Client(
            options.client_id,
            clean_session=clean,
            will_message=will,
            persistent_storage=self.unacknowledged,
            **properties,
        )
        # 0 would still allow one.
        client.set_config({"reconnect_retries": -2})
        client.set_auth_credentials("anything", options.token)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_subscribe = lambda client, mid, qos, properties: self._granted(mid).set_result(qos)
        client.on_disconnect = self._on_disconnect

    def _on_connect(self, client, flags, reason, properties):
        self.present = bool(flags & 1)

    def _on_message(self, client, topic, payload, qos, properties):
        self.inbox.put_nowait(Message(topic, payload, qos, bool(properties["retain"])))

    def _on_disconnect(self, client, packet, exc=None):
        if not self.end.done():
            self.end.set_result(packet[0] if packet else None)

    def _granted(self, mid):
        return self.grants.setdefault(mid, asyncio.get_running_loop().create_future())

    async def subscribe(self, topic, qos):
        granted = await self._granted(self.client.subscribe(topic, qos))
        assert granted == (qos,), granted

    async def publish(self, topic, payload, qos, retain=False):
        self.client.publish(topic, payload, qos, retain)
        await self.unacknowledged.wait_empty()

    async def next(self):
        return await self.inbox.get()

    async def ended(self):
        return await self.end

    async def drop(self):
        self.relay.cut()

    async def disconnect(self):
        await self.client.disconnect()


async def connect(options):
    link = Link(options)
    secure = ssl.create_default_context(cafile=options.ca) if options.secure else False
    version = MQTTv50 if options.version == 5 else MQTTv311
    await link.client.connect(options.host, options.port, ssl=secure, version=version)
    return link
