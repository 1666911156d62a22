"""Send active Action Units and stages as OSC; needs python-osc.

python examples/bridges/osc.py ws://127.0.0.1:8765/ws 127.0.0.1 9000
gives /facestage/STREAM/AU12 presence intensity (each frame), /facestage/STREAM/stage text.
"""

import asyncio
import sys

from facestage.stream.protocol import FrameSample, StageEnter, Subscribe, decode, encode
from pythonosc.udp_client import SimpleUDPClient
from websockets.asyncio.client import connect


async def main(address: str, host: str, port: str) -> None:
    osc = SimpleUDPClient(host, int(port))
    async for ws in connect(address):  # again after each loss
        await ws.send(encode(Subscribe(topics=("frame",))).decode())
        async for text in ws:
            message = decode(text)
            where = f"/facestage/{message.stream}".replace(" ", "_")
            if isinstance(message.data, FrameSample):
                for au in (au for au in message.data.aus if au.active):
                    osc.send_message(f"{where}/AU{au.au:02d}", [au.presence, au.intensity])
            elif isinstance(message.data, StageEnter):
                osc.send_message(f"{where}/stage", message.data.text)


asyncio.run(main(*sys.argv[1:]))
