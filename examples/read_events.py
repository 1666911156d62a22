"""Read the events of a running server in Python, with nothing of facestage installed.

    facestage live 0                              # in one terminal
    python examples/read_events.py                # in another

Needs `pip install websockets` only. Events are numbered. After a lost connection this client asks
for those it missed, so it prints each once.
"""

import argparse
import asyncio
import json
import os

import websockets


def message(kind: str, **data: object) -> str:
    """Return a message to the server as text."""
    return json.dumps({"v": 1, "type": kind, "data": data})


async def listen(address: str, token: str | None, most: int | None) -> None:
    """Print the stages until `most` were printed, or for ever."""
    seen = None  # epoch and number of the last event
    printed = 0
    async for socket in websockets.connect(address):  # connects again after a loss
        try:
            if token:
                await socket.send(message("auth", token=token))
            # topics: which samples to send. None of them: events only.
            wanted = {"topics": []} if seen is None else {"topics": [], "since": seen}
            await socket.send(message("subscribe", **wanted))
            async for text in socket:
                event = json.loads(text)
                if event["type"] == "heartbeat":
                    await socket.send(message("heartbeat"))
                if event["type"] == "error":
                    raise SystemExit(f"the server refused: {event['data']['message']}")
                if event.get("seq") is not None:
                    seen = {"epoch": event["epoch"], "seq": event["seq"]}
                if event["type"] == "stage.enter":
                    print(event["stream"], event["data"]["text"], event["data"]["reason"])
                    printed += 1
                if event["type"] == "bye" or printed == most:
                    return
        except websockets.ConnectionClosed:
            continue


def main() -> None:
    """Read the command line and listen."""
    parser = argparse.ArgumentParser(description="Print the stages of a running server.")
    parser.add_argument("address", nargs="?", default="ws://127.0.0.1:8765/ws")
    parser.add_argument("--most", type=int, help="stop after so many stages")
    options = parser.parse_args()
    # The process list would show a token on the command line.
    token = os.environ.get("FACESTAGE_LIVE_TOKEN")
    asyncio.run(listen(options.address, token, options.most))


if __name__ == "__main__":
    main()
