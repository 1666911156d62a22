"""Publish events and scores to an MQTT broker as JSON; needs paho-mqtt.

python examples/bridges/mqtt.py ws://127.0.0.1:8765/ws localhost 1883
gives facestage/STREAM/stage.enter, … (kept for newcomers), facestage/STREAM/frame (scores).
"""

import asyncio
import sys

import msgspec
from facestage.stream.protocol import FrameSample, Subscribe, decode, encode
from paho.mqtt.client import CallbackAPIVersion, Client
from websockets.asyncio.client import connect


async def main(address: str, host: str, port: str) -> None:
    broker = Client(CallbackAPIVersion.VERSION2)
    broker.connect(host, int(port))
    broker.loop_start()
    async for ws in connect(address):  # again after each loss
        await ws.send(encode(Subscribe(topics=("frame",))).decode())
        async for text in ws:
            message = decode(text)
            is_frame, name = isinstance(message.data, FrameSample), message.type
            if is_frame or message.seq is not None:
                data = msgspec.json.encode(message.data.scores if is_frame else message.data)
                broker.publish(f"facestage/{message.stream}/{name}", data, retain=not is_frame)


asyncio.run(main(*sys.argv[1:]))
