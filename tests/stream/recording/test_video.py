"""Pictures are kept as clients may see them, with their times, and shown with their frames."""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.stream.protocol import Replay, StreamInfo, Subscribe, unpack_picture
from facestage.stream.recording import video
from facestage.stream.recording.film import Film
from facestage.stream.recording.player import Player
from facestage.stream.recording.reader import Session, open_session
from facestage.stream.recording.recorder import Plan, Recorder
from facestage.stream.server.hub import PICTURE, Hub
from facestage.stream.server.server import Server

from tests.support.recording import HELLO, MODEL, make_recorder, publish
from tests.support.wire import client, run

PICTURES = 60


def jpeg(number: int, width: int = 160, height: int = 90) -> bytes:
    """Return a picture whose grey is four times its number."""
    image = np.full((height, width, 3), 4 * number % 256, np.uint8)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def grey(data: bytes | None) -> float:
    assert data is not None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return float(image.mean())


def recorded(place: Path, pictures: int = PICTURES, **sizes: int) -> Path:
    """Record pictures of two streams, and one of another face, a thirtieth of a second apart."""
    now = [0.0]
    hub, recorder = make_recorder(place, 2, ticks=lambda: now[0], video=True)
    folder = recorder.start()
    session = recorder._session
    assert session is not None
    assert session.queue.video is not None
    for number in range(pictures):
        now[0] = number / 30
        for stream in ("cam 0", "cam 1"):
            hub.publish_picture(number, jpeg(number, **sizes), stream=stream)
        publish(hub, number, random.Random(number))
        wait_for(session.queue.video)
    recorder.stop()
    assert recorder.dropped_pictures == 0
    return folder


def wait_for(recorder: video.VideoRecorder) -> None:
    deadline = time.monotonic() + 20
    while recorder._waiting:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("sessions"))


def test_each_picture_is_there_with_its_frame_and_its_time(folder: Path) -> None:
    session = open_session(folder)
    assert session.complete
    assert session.has_video
    assert sorted(path.name for path in (folder / "video").iterdir()) == [
        "0-0000.jsonl.gz",
        "0-0000.mp4",
        "1-0000.jsonl.gz",
        "1-0000.mp4",
    ]
    pictures = [record.picture for record in session.pictures()]
    assert [picture.frame for picture in pictures if picture and picture.number == 1] == list(
        range(PICTURES)
    )
    film = Film()
    for record in session.pictures():
        assert record.picture is not None
        assert record.at == pytest.approx(record.picture.frame / 30, abs=1e-4)
        assert grey(film.jpeg(record.picture)) == pytest.approx(4 * record.picture.frame, abs=4)
    film.close()


def test_any_picture_is_found_in_any_order(folder: Path) -> None:
    pictures = [r.picture for r in open_session(folder).pictures() if r.picture is not None]
    random.Random(3).shuffle(pictures)
    film = Film()
    for picture in pictures[:25]:
        assert grey(film.jpeg(picture)) == pytest.approx(4 * picture.frame, abs=4)
    film.close()


def test_a_video_that_breaks_off_is_shown_up_to_there(folder: Path, tmp_path: Path) -> None:
    cut = Path(shutil.copytree(folder, tmp_path / "cut"))
    path = cut / "video" / "0-0000.mp4"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    session = open_session(cut)
    assert session.notes == ("video/0-0000.mp4 is missing or cut off; its pictures are not shown",)
    film = Film()
    mine = [r.picture for r in session.pictures() if r.picture and r.picture.number == 0]
    shown = [picture.frame for picture in mine if film.jpeg(picture) is not None]
    assert 15 <= len(shown) < PICTURES
    assert shown == list(range(len(shown)))
    path.unlink()
    assert Film().jpeg(mine[0]) is None
    film.close()


def test_pictures_of_another_size_begin_another_file(tmp_path: Path) -> None:
    hub, recorder = make_recorder(tmp_path, video=True)
    folder = recorder.start()
    for number in range(12):
        side = 64 if number < 6 else 96
        hub.publish_picture(number, jpeg(number, side, side + 1), stream="cam 0")
    recorder.stop()
    session = open_session(folder)
    assert [r.picture.path.name for r in session.pictures() if r.picture] == (
        ["0-0000.mp4"] * 6 + ["0-0001.mp4"] * 6
    )
    film = Film()
    shown = [grey(film.jpeg(r.picture)) for r in session.pictures() if r.picture]
    assert shown == pytest.approx([4.0 * number for number in range(12)], abs=5)
    film.close()


def test_pictures_are_asked_for_and_kept_of_the_first_face_only(tmp_path: Path) -> None:
    hub = Hub([StreamInfo(id="cam", name="cam"), StreamInfo(id="cam/2", name="2", number=1)])
    recorder = Recorder(hub, Plan(tmp_path, "x", HELLO, MODEL, video=True))
    assert not hub.wants(PICTURE)
    folder = recorder.start()
    assert hub.wants(PICTURE, "cam")
    for stream in ("cam", "cam/2"):
        hub.publish_picture(1, jpeg(1), stream=stream)
    recorder.stop()
    assert not hub.wants(PICTURE)
    assert [r.picture.number for r in open_session(folder).pictures() if r.picture] == [0]


def test_an_encoder_that_is_too_slow_costs_pictures_that_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    write = video.VideoRecorder._write

    def slowly(self: video.VideoRecorder, *args: object) -> None:
        may_write.wait(20)
        write(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(video.VideoRecorder, "_write", slowly)
    hub, recorder = make_recorder(tmp_path, video=True)
    folder = recorder.start()
    for number in range(3 * video.MOST_PICTURES):
        hub.publish_picture(number, jpeg(number), stream="cam 0")
    may_write.set()
    recorder.stop()
    kept = len(list(open_session(folder).pictures()))
    assert recorder.dropped_pictures >= video.MOST_PICTURES
    assert kept + recorder.dropped_pictures == 3 * video.MOST_PICTURES
    assert open_session(folder).complete


def test_a_replay_shows_the_picture_of_its_frame(folder: Path) -> None:
    session: Session = open_session(folder)

    async def test() -> None:
        player = Player(session, playing=False)
        thread = threading.Thread(target=player.run, daemon=True)
        thread.start()
        server = Server(player.hub, hello=player.hello, port=0, command=player.command)
        async with server, client(server, "/ws/frames") as viewer, client(server) as peer:
            assert (await peer.until("hello")).data.video
            await viewer.send(Subscribe(streams=("cam 1",)))
            while not player.hub.wants(PICTURE, "cam 1"):
                await asyncio.sleep(0.005)
            for seek, frame in ((1.0, 30), (0.5, 15), (1.9, 57)):
                await peer.send(Replay(command="seek", value=seek + 0.001))
                async with asyncio.timeout(20):
                    while isinstance(message := await viewer.connection.recv(), str):
                        pass  # that it has subscribed, heartbeats
                picture = unpack_picture(message)
                assert (picture.stream, picture.frame) == (1, frame)
                assert grey(picture.jpeg) == pytest.approx(4 * frame, abs=4)
        player.stop()
        await asyncio.to_thread(thread.join)

    run(test)
