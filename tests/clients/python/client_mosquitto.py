"""mosquitto_sub, mosquitto_pub and mosquitto_rr: a connection is a process. They do not show Session Present."""

import asyncio
import re
import subprocess

from relay import Relay
from transcripts import EXPIRY, Message, receives, step

# Line by line, although nobody but this program reads it.
LINES = ("stdbuf", "-oL")
FORMAT = "message %q %r %t %x"


def why_not(scheme, version, transcript):
    return "speaks TCP and TLS only" if scheme in ("ws", "wss") else None


def _version():
    said = subprocess.run(["mosquitto_sub", "--help"], capture_output=True, text=True).stdout
    return re.search(r"version (\S+)", said)[1]


VERSION = _version()


class Link:
    """Nothing happens before the first verb: these programs connect in order to do something."""

    present, filters = None, {}

    def __init__(self, options):
        self.options, self.process, self.wire, self.passed = options, None, None, []

    def _arguments(self, port):
        options = self.options
        version = "5" if options.version == 5 else "311"
        who = ["-i", options.client_id, "-u", "anything", "-P", options.token]
        trust = ["--cafile", options.ca] if options.secure else []
        return ["-h", options.host, "-p", str(port), "-V", version, *who, *trust]

    async def subscribe(self, topic, qos):
        options = self.options
        # A wire that carries one connection, because these programs connect again for ever.
        self.wire = await Relay.start(options.host, options.port)
        lasting = ["-c"] if options.keep else []
        if options.keep and options.version == 5:
            lasting += ["-x", str(EXPIRY)]
        if self._leaves_at_once():
            lasting += ["-E"]
        if options.will:
            will_topic, payload = options.will
            lasting += ["--will-topic", will_topic, "--will-payload", payload.decode(), "--will-qos", "1"]
        arguments = [*self._arguments(self.wire.port), "-d", "-q", str(qos), "-t", topic, "-F", FORMAT, *lasting]
        self.process = await asyncio.create_subprocess_exec(
            *LINES, "mosquitto_sub", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        self.filters[options.client_id] = (topic, qos)
        await self._line("received SUBACK")

    def _leaves_at_once(self):
        # The only way for mosquitto_sub to leave in good order: the handler of its signals may lock up over TLS.
        return self.options.keep and self.options.clean

    async def _line(self, part):
        """The next line with that, be it before another that was looked for: messages may come before the SUBACK."""
        while True:
            for line in self.passed:
                if part in line:
                    self.passed.remove(line)
                    return line
            line = await self.process.stdout.readline()
            assert line, f"mosquitto_sub ended without {part!r} after {self.passed}"
            self.passed.append(line.decode().rstrip("\n"))

    async def publish(self, topic, payload, qos, retain=False):
        arguments = [*self._arguments(self.options.port), "-q", str(qos), "-t", topic]
        process = await asyncio.create_subprocess_exec(
            "mosquitto_pub",
            *arguments,
            *(["-s"] if payload else ["-n"]),
            *(["-r"] if retain else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate(payload)
        assert process.returncode == 0, said

    async def next(self):
        if self.process is None:
            # A session that goes on: mosquitto_sub cannot but subscribe once more.
            await self.subscribe(*self.filters[self.options.client_id])
        _, qos, retain, topic, *payload = (await self._line("message ")).split(" ")
        return Message(topic, bytes.fromhex("".join(payload)), int(qos), retain == "1")

    async def ended(self):
        if self.options.version != 5:
            await self.wire.closed_by_node.wait()
            return None
        line = await self._line("Received DISCONNECT")
        return int(re.search(r"\((\d+)\)", line)[1])

    async def drop(self):
        self.process.kill()
        await self.process.wait()

    async def disconnect(self):
        if self.process is None:
            return
        if not self._leaves_at_once() and self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.wire.cut()


async def connect(options):
    return Link(options)


async def request(stage):
    """mosquitto_rr asks, a mosquitto_sub and a mosquitto_pub answer where it says."""
    topic, answers = stage.topic("request"), stage.topic("request/answer")
    responder, asking = await stage.connect("b", 1), await stage.connect("a", 0)
    await step(responder.subscribe(topic, 1))
    arguments = [*asking._arguments(asking.options.port), "-q", "1", "-t", topic, "-e", answers, "-m", "how?"]
    process = await asyncio.create_subprocess_exec("mosquitto_rr", *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        await receives(responder, topic, b"how?", 1)
        await step(responder.disconnect())
        await step(responder.publish(answers, b"so", 1))
        said, _ = await step(process.communicate())
        assert said == b"so\n", said
    finally:
        if process.returncode is None:
            process.kill()


EXTRA = {"request": request}
