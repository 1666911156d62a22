"""The examples, each run as its user does, against a real peer."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from facestage.stream.protocol import ActionUnitValue, FaceValue, FrameSample, ScoreValue

from tests.support.paths import ROOT
from tests.support.wire import eventually, make_hub, run, serving, stage

BRIDGES = ROOT / "examples" / "bridges"
BROKER = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
FRAME = FrameSample(
    frame=1,
    time_s=0.0,
    width=64,
    height=36,
    face=FaceValue(state="tracked"),
    aus=(
        ActionUnitValue(au=4, presence=0.75, intensity=2.5, active=True, letter="A"),
        ActionUnitValue(au=12, presence=0.1, intensity=0.0, active=False),
    ),
    scores=(ScoreValue(name="PSPI", value=2.5, low=2.5, high=2.5),),
)


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}")


@contextlib.asynccontextmanager
async def running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.parametrize("path", sorted(BRIDGES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_has_at_most_thirty_lines_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 30
    assert f"python examples/bridges/{path.name} ws://" in text


def test_osc_messages_arrive() -> None:
    needs("pythonosc")
    from pythonosc.osc_message import OscMessage

    async def test() -> None:
        hub = make_hub()
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.setblocking(False)
            port = str(peer.getsockname()[1])
            async with serving(hub) as server:
                address = f"ws://127.0.0.1:{server.port}/ws"
                command = (sys.executable, str(BRIDGES / "osc.py"), address, "127.0.0.1", port)
                async with running(*command):
                    await eventually(lambda: hub.clients == 1)
                    # Samples come once all of the past is told: what follows is news.
                    hub.publish_sample(FRAME, stream="cam")
                    told = [OscMessage(await asyncio.wait_for(loop.sock_recv(peer, 2048), 20))]
                    hub.publish_event(stage(3, "AU04_A"), stream="cam")
                    told += [OscMessage(await asyncio.wait_for(loop.sock_recv(peer, 2048), 20))]
        assert [message.address for message in told] == [
            "/facestage/cam/AU04",
            "/facestage/cam/stage",
        ]
        assert told[0].params == pytest.approx([0.75, 2.5])
        assert told[1].params == ["()"]

    run(test)


@contextlib.contextmanager
def broker(folder: Path):
    assert BROKER is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with subprocess.Popen([BROKER, "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.terminate()


async def answers(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


@pytest.mark.skipif(BROKER is None, reason="needs mosquitto")
def test_a_broker_hands_on_events_and_scores(tmp_path: Path) -> None:
    needs("paho")
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    async def test() -> None:
        hub, told, subscribed = make_hub(), {}, asyncio.Event()
        loop = asyncio.get_running_loop()
        with broker(tmp_path) as port:
            await answers(port)
            listener = Client(CallbackAPIVersion.VERSION2)
            listener.on_message = lambda *args: told.update(
                {args[2].topic: json.loads(args[2].payload)}
            )
            listener.on_subscribe = lambda *args: loop.call_soon_threadsafe(subscribed.set)
            listener.connect("127.0.0.1", port)
            listener.loop_start()
            listener.subscribe("facestage/#")
            await asyncio.wait_for(subscribed.wait(), 20)
            async with serving(hub) as server:
                address = f"ws://127.0.0.1:{server.port}/ws"
                script = str(BRIDGES / "mqtt.py")
                async with running(sys.executable, script, address, "127.0.0.1", str(port)):
                    await eventually(lambda: hub.clients == 1)
                    hub.publish_sample(FRAME, stream="cam")
                    await eventually(lambda: "facestage/cam/frame" in told)
                    hub.publish_event(stage(3, "AU04_A"), stream="cam")
                    await eventually(lambda: len(told) == 2)
            listener.loop_stop()
        assert told["facestage/cam/stage.enter"]["labels"] == ["AU04_A"]
        assert told["facestage/cam/frame"][0]["value"] == 2.5

    run(test)


def test_a_broker_that_is_not_there_is_told() -> None:
    needs("paho")

    async def test() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        command = (sys.executable, str(BRIDGES / "mqtt.py"), "ws://127.0.0.1:1/ws", "127.0.0.1")
        async with running(*command, port) as process:
            _, said = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 1
            assert b"Connection refused" in said.splitlines()[-1]

    run(test)
