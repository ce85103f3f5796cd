"""paho-mqtt. It calls back from a thread of its own. It reads the reason code of a DISCONNECT only where properties follow."""

import asyncio
from importlib.metadata import version

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from transcripts import EXPIRY, UNSAID, Message

VERSION = version("paho-mqtt")
TAKEN_OVER = UNSAID


def why_not(scheme, version, transcript):
    return None


class Link:
    def __init__(self, options):
        self.loop = asyncio.get_running_loop()
        self.inbox, self.present = asyncio.Queue(), None
        self.connected, self.end, self.grants = self.loop.create_future(), self.loop.create_future(), {}
        five = options.version == 5
        self.client = client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=None if five else not options.keep,
            protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
            transport="websockets" if options.websocket else "tcp",
            reconnect_on_failure=False,
        )
        if options.websocket:
            client.ws_set_options(path="/mqtt")
        if options.secure:
            client.tls_set(ca_certs=options.ca)
        client.username_pw_set("anything", options.token)
        if options.will:
            client.will_set(*options.will, qos=1)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message

    def _later(self, function, *arguments):
        self.loop.call_soon_threadsafe(function, *arguments)

    def _on_connect(self, client, data, flags, reason, properties):
        self._later(self.connected.set_result, (flags.session_present, reason))

    def _on_disconnect(self, client, data, flags, reason, properties):
        said = UNSAID if flags.is_disconnect_packet_from_server else None
        self._later(lambda: self.end.done() or self.end.set_result(said))

    def _on_subscribe(self, client, data, mid, reasons, properties):
        self._later(lambda: self._granted(mid).set_result(reasons))

    def _on_message(self, client, data, message):
        found = Message(message.topic, message.payload, message.qos, message.retain)
        self._later(self.inbox.put_nowait, found)

    def _granted(self, mid):
        return self.grants.setdefault(mid, self.loop.create_future())

    async def subscribe(self, topic, qos):
        _, mid = self.client.subscribe(topic, qos)
        reasons = await self._granted(mid)
        assert not any(reason.is_failure for reason in reasons), reasons

    async def publish(self, topic, payload, qos, retain=False):
        sent = self.client.publish(topic, payload, qos, retain)
        await asyncio.to_thread(sent.wait_for_publish)

    async def next(self):
        return await self.inbox.get()

    async def ended(self):
        return await self.end

    async def drop(self):
        self.relay.cut()

    async def disconnect(self):
        self.client.disconnect()
        await self.end
        self.client.loop_stop()


async def connect(options):
    link = Link(options)
    extra = {}
    if options.version == 5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = EXPIRY if options.keep else 0
        extra = {"clean_start": options.clean, "properties": properties}
    await asyncio.to_thread(link.client.connect, options.host, options.port, 60, **extra)
    link.client.loop_start()
    link.present, reason = await link.connected
    assert not reason.is_failure, f"CONNACK {reason}"
    return link
