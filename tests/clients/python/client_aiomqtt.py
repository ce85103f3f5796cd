"""aiomqtt, which is paho-mqtt behind asyncio. It does not show Session Present, and of a DISCONNECT as little as paho."""

from importlib.metadata import version

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from transcripts import DEADLINE, EXPIRY, UNSAID, Message

VERSION = version("aiomqtt")
TAKEN_OVER = UNSAID


def why_not(scheme, version, transcript):
    return None


class Link:
    present = None

    def __init__(self, client):
        self.client = client

    async def subscribe(self, topic, qos):
        granted = await self.client.subscribe(topic, qos)
        assert [getattr(code, "value", code) for code in granted] == [qos], granted

    async def publish(self, topic, payload, qos, retain=False):
        await self.client.publish(topic, payload, qos, retain)

    async def next(self):
        message = await anext(self.client.messages)
        return Message(str(message.topic), message.payload, message.qos, bool(message.retain))

    async def ended(self):
        try:
            message = await anext(self.client.messages)
        except aiomqtt.MqttError as error:
            # A close without a DISCONNECT is an unspecified error there.
            reason = getattr(error.__cause__, "rc", 0)
            return UNSAID if reason == 0 or reason == 0x8E else None
        raise AssertionError(f"{message.payload} instead of an end")

    async def drop(self):
        self.relay.cut()

    async def disconnect(self):
        await self.client.__aexit__(None, None, None)


async def connect(options):
    how = {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": not options.keep}
    if options.version == 5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = EXPIRY if options.keep else 0
        how = {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": options.clean, "properties": properties}
    if options.websocket:
        how |= {"transport": "websockets", "websocket_path": "/mqtt"}
    if options.secure:
        how["tls_params"] = aiomqtt.TLSParameters(ca_certs=options.ca)
    if options.will:
        how["will"] = aiomqtt.Will(*options.will, qos=1)
    client = aiomqtt.Client(
        options.host,
        options.port,
        username="anything",
        password=options.token,
        identifier=options.client_id,
        timeout=DEADLINE,
        **how,
    )
    await client.__aenter__()
    return Link(client)
