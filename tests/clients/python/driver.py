"""Plays the transcripts with one client library: driver.py CLIENT. See ../README.md for what it reads and prints."""

import asyncio
import importlib
import logging
import sys

import transcripts

CLIENTS = ("paho", "gmqtt", "aiomqtt", "amqtt", "mosquitto")
AT_ONCE = 4


async def play(client, line, turn):
    async with turn:
        stage = transcripts.Stage(client, line)
        for name, run in transcripts.of(client):
            status, why = await transcripts.outcome(stage, name, run)
            print(status, stage.scheme, stage.version, len(stage.nodes), name, why, flush=True)


async def main():
    (name,) = sys.argv[1:]
    if name not in CLIENTS:
        sys.exit(f"{name} is none of {', '.join(CLIENTS)}")
    # What a library says of a connection that was cut is expected; failures are reported by this program.
    logging.disable(logging.CRITICAL)
    client = importlib.import_module(f"client_{name}")
    print("version", client.VERSION, flush=True)
    turn = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(play(client, line, turn) for line in sys.stdin.read().splitlines()))


asyncio.run(main())
