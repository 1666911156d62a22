"""What is analysed is what a player shows: full frames, square pixels, upright, unbroken."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from facestage.core.errors import SourceError
from facestage.stream.sources import Grab, Source, open_source
from facestage.stream.sources.display import Shown, display_size, turn
from numpy.typing import NDArray

from tests.support.videos import weave, write_video

WIDTH, HEIGHT = 352, 288
STEP = 12
"""Pixels that the bar of :func:`moving` goes from one field to the next."""


def drain(source: Source) -> list[Grab]:
    return list(iter(source.read, None))


def moving(field: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """A soft bright bar that walks to the right, on a grey ground that gets brighter downwards."""
    x = np.arange(width, dtype=np.float32)
    bar = 120 * np.exp(-(((x - 40 - STEP * field) / 12) ** 2))
    ground = np.linspace(40, 90, height, dtype=np.float32)[:, None]
    return np.repeat((ground + bar)[:, :, None], 3, axis=2).astype(np.uint8)


def combing(image: NDArray[np.uint8]) -> float:
    """How much odd lines differ from the mean of their neighbours, grey levels."""
    grey = image[:, :, 1].astype(np.float32)
    between = (grey[0:-2:2] + grey[2::2]) / 2
    return float(np.abs(grey[1:-1:2] - between).mean())


# --- interlaced ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "size", "options"),
    [
        ("a.mpg", "mpeg2video", (WIDTH, HEIGHT), {"b": "4M"}),
        ("a.mts", "libx264", (WIDTH, HEIGHT), {"x264-params": "tff=1", "crf": "12"}),
        ("a.avi", "mpeg4", (WIDTH, HEIGHT), {"b": "4M"}),
        ("a.dv", "dvvideo", (720, 576), {}),
        ("a.mov", "prores_ks", (WIDTH, HEIGHT), {}),
    ],
)
def test_two_fields_become_one_picture(
    tmp_path: Path, name: str, codec: str, size: tuple[int, int], options: dict[str, str]
) -> None:
    width, height = size
    fields = [moving(n, width, height) for n in range(20)]
    woven = [weave(fields[n], fields[n + 1]) for n in range(0, 20, 2)]
    path = write_video(
        tmp_path / name,
        woven,
        codec,
        pixel_format="yuv422p10le" if codec == "prores_ks" else "yuv420p",
        interlaced=True,
        options=options,
    )
    with open_source(str(path)) as source:
        grabs = drain(source)
        assert "interlaced" in source.remark
    assert len(grabs) == len(woven)
    assert [grab.index for grab in grabs] == list(range(len(woven)))
    assert np.diff([grab.pts for grab in grabs]) == pytest.approx([1 / 25] * 9, abs=1e-3)
    assert combing(woven[4]) > 3.5
    for n, grab in enumerate(grabs[1:-1], start=1):
        shown = cv2.resize(grab.image, (width, height))
        assert combing(shown) < 1.5
        # The picture shows the first field's moment, and no memory that was never written.
        error = np.abs(shown[:, :, 1].astype(np.float32) - fields[2 * n][:, :, 1])
        assert error.mean() < 3.0


def test_a_progressive_video_is_left_as_it_is(tmp_path: Path) -> None:
    pictures = [moving(n) for n in range(5)]
    path = write_video(tmp_path / "a.mkv", pictures, "libx264", options={"crf": "5"})
    with open_source(str(path)) as source:
        grabs = drain(source)
        assert source.remark == ""
    for grab, picture in zip(grabs, pictures, strict=True):
        assert np.abs(grab.image.astype(int) - picture)[:, :, 1].mean() < 2


# --- the shape of pixels ------------------------------------------------------------------------


def disc(width: int, height: int, across: int, down: int) -> NDArray[np.uint8]:
    picture = np.full((height, width, 3), 30, np.uint8)
    cv2.ellipse(picture, (width // 2, height // 2), (across, down), 0, 0, 360, (220,) * 3, -1)
    return picture


@pytest.mark.parametrize(
    ("pixel", "axes", "shown"),
    [
        (Fraction(4, 3), (60, 80), (320, 240)),
        (Fraction(64, 45), (45, 64), (341, 240)),
        (Fraction(1, 2), (100, 50), (240, 480)),
        (Fraction(2, 1), (40, 80), (480, 240)),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_circle_is_a_circle(
    tmp_path: Path, pixel: Fraction, axes: tuple[int, int], shown: tuple[int, int], name: str
) -> None:
    path = write_video(tmp_path / name, [disc(240, 240, *axes)] * 3, "libx264", pixel=pixel)
    with open_source(str(path)) as source:
        assert source.size == shown
        grabs = drain(source)
        assert f"pixels {pixel.numerator}:{pixel.denominator}" in source.remark
    rows, columns = np.nonzero(grabs[-1].image[:, :, 1] > 125)
    assert np.ptp(columns) == pytest.approx(np.ptp(rows), rel=0.03)


@pytest.mark.parametrize(
    "pixel", [None, Fraction(0), Fraction(1), Fraction(480, 481), Fraction(9, 1), Fraction(1, 99)]
)
def test_square_and_impossible_pixels_change_nothing(pixel: Fraction | None) -> None:
    assert display_size(640, 360, pixel) == (640, 360)


# --- turned and mirrored ------------------------------------------------------------------------

ONE = 1 << 16
CORNERS = np.array([[10, 80], [160, 240]], np.uint8)
"""Grey levels of the quarters of a picture."""


def quarters(width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    grey = np.kron(CORNERS, np.ones((height // 2, width // 2), np.uint8))
    return np.repeat(grey[:, :, None], 3, axis=2)


def levels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    rows, columns = (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
    found = [[int(image[y, x, 1]) for x in columns] for y in rows]
    nearest = np.abs(np.array(found)[:, :, None] - CORNERS.ravel()).argmin(axis=2)
    return CORNERS.ravel()[nearest]


TURNS = [
    ((ONE, 0, 0, ONE), CORNERS),
    ((-ONE, 0, 0, ONE), CORNERS[:, ::-1]),  # a mirror
    ((ONE, 0, 0, -ONE), CORNERS[::-1]),
    ((-ONE, 0, 0, -ONE), np.rot90(CORNERS, 2)),
    ((0, ONE, -ONE, 0), np.rot90(CORNERS, -1)),  # a phone held upright
    ((0, -ONE, ONE, 0), np.rot90(CORNERS)),
    ((0, ONE, ONE, 0), CORNERS.T),
    ((0, -ONE, -ONE, 0), np.rot90(CORNERS, 2).T),
]


@pytest.mark.parametrize(("abcd", "shown"), TURNS)
def test_every_quarter_turn_and_mirror(
    abcd: tuple[int, int, int, int], shown: NDArray[np.uint8]
) -> None:
    a, b, c, d = abcd
    turned = turn(quarters(), (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    assert turned.flags.c_contiguous
    assert turned.shape == ((96, 64, 3) if a == 0 else (64, 96, 3))
    np.testing.assert_array_equal(levels(turned), shown)


@pytest.mark.parametrize(("abcd", "shown"), TURNS)
def test_a_file_is_read_as_players_show_it(
    tmp_path: Path, abcd: tuple[int, int, int, int], shown: NDArray[np.uint8]
) -> None:
    a, b, c, d = abcd
    path = write_video(
        tmp_path / "a.mp4",
        [quarters()] * 3,
        "libx264",
        matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30),
    )
    with open_source(str(path)) as source:
        assert source.size == ((64, 96) if a == 0 else (96, 64))
        for grab in drain(source):
            np.testing.assert_array_equal(levels(grab.image), shown)
        assert bool(source.remark) == (abcd != (ONE, 0, 0, ONE))


@pytest.mark.parametrize(("abcd", "shown"), TURNS[::3])
def test_a_late_picture_knows_its_size_and_is_made_when_it_is_asked_for(
    tmp_path: Path,
    abcd: tuple[int, int, int, int],
    shown: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b, c, d = abcd
    path = write_video(
        tmp_path / "a.mp4",
        [quarters()] * 4,
        "libx264",
        matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30),
    )
    made: list[Shown] = []
    make = Shown.__call__
    with open_source(str(path)) as source:
        monkeypatch.setattr(Shown, "__call__", lambda self: (made.append(self), make(self))[1])
        source.late = True
        late = drain(source)
        assert made == []
    assert [grab.index for grab in late] == [0, 1, 2, 3]
    for grab in late[::-1]:  # in any order, and after the source was closed
        assert grab.size == ((64, 96) if a == 0 else (96, 64))
        assert grab.image.shape[:2] == grab.size[::-1]
        assert grab.image is grab.image
        np.testing.assert_array_equal(levels(grab.image), shown)
    assert len(made) == 3  # the first was looked at when the source was opened


# --- the right stream ---------------------------------------------------------------------------


def write_two_streams(path: Path, cover: bool) -> None:
    """Write one picture as the first stream and a video as the second."""
    with av.open(str(path), "w") as container:
        still = container.add_stream("mjpeg", rate=25)
        still.width, still.height, still.pix_fmt = 64, 48, "yuvj420p"
        if cover:
            still.disposition = av.stream.Disposition.attached_pic
        film = container.add_stream("libx264", rate=25)
        film.width, film.height, film.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.mux(still.encode(av.VideoFrame.from_ndarray(quarters(64, 48), "bgr24")))
        container.mux(still.encode(None))
        for n in range(10):
            container.mux(film.encode(av.VideoFrame.from_ndarray(moving(n), "bgr24")))
        container.mux(film.encode(None))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
@pytest.mark.parametrize("cover", [True, False])
def test_the_longest_video_is_read_not_the_first(tmp_path: Path, name: str, cover: bool) -> None:
    write_two_streams(tmp_path / name, cover)
    with open_source(str(tmp_path / name)) as source:
        assert source.size == (WIDTH, HEIGHT)
        assert len(drain(source)) == 10


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(SourceError, match="holds no video"):
        open_source(str(tmp_path / "a.mp4"))


def test_a_text_file_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("AU12 at the second smile\n" * 50)
    with pytest.raises(SourceError, match=r"(holds no video|not a video)"):
        open_source(str(tmp_path / "notes.txt"))


# --- broken pictures ----------------------------------------------------------------------------


def cut_packets(source: Path, target: Path, every: int) -> list[int]:
    """Copy a video; of every so many-th packet only a third. Return which ones were cut."""
    cut = []
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        old = read.streams.video[0]
        new = written.add_stream_from_template(old)
        for n, packet in enumerate(p for p in read.demux(old) if p.size):
            data = bytes(packet)
            if n % every == every - 1:
                cut.append(n)
                data = data[: len(data) // 3]
            copy = av.Packet(data)
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, new
            written.mux(copy)
    return cut


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "options"),
    [
        ("a.avi", "mjpeg", "yuvj420p", {}),
        ("a.mkv", "mjpeg", "yuvj420p", {}),
        ("a.mkv", "libx264", "yuv420p", {"bf": "0", "g": "5"}),
        ("a.avi", "mpeg4", "yuv420p", {"g": "1"}),
        ("a.mkv", "mpeg2video", "yuv420p", {"g": "1"}),
        ("a.mkv", "prores_ks", "yuv422p10le", {}),
    ],
)
def test_a_picture_cut_short_is_left_out_and_counted(
    tmp_path: Path, name: str, codec: str, pixel_format: str, options: dict[str, str]
) -> None:
    rng = np.random.default_rng(1)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8), (0, 0), 2)
    pictures = [np.roll(texture, 9 * n, axis=1) for n in range(24)]
    whole = write_video(
        tmp_path / f"whole_{name}", pictures, codec, pixel_format=pixel_format, options=options
    )
    cut = cut_packets(whole, tmp_path / name, every=7)
    with open_source(str(whole)) as source:
        assert len(drain(source)) == 24
        assert source.skipped == 0
    with open_source(str(tmp_path / name)) as source:
        grabs = drain(source)
        missing = sorted(set(range(24)) - {grab.index for grab in grabs})
        assert source.skipped == len(missing)
        assert not source.broke_off
    # A decoder keeps back what builds on a broken picture, too.
    assert set(cut) <= set(missing) if codec == "libx264" else cut == missing
    assert [grab.index for grab in grabs] == [round(25 * (grab.pts or 0.0)) for grab in grabs]


def test_a_jpeg_without_its_end_mark_is_whole(tmp_path: Path) -> None:
    whole = write_video(
        tmp_path / "whole.mkv", [moving(n) for n in range(5)], pixel_format="yuvj420p"
    )
    data = whole.read_bytes()
    # Cameras leave the mark out; the length of the packet stays the same.
    (tmp_path / "a.mkv").write_bytes(data.replace(b"\xff\xd9", b"\0\0"))
    with open_source(str(tmp_path / "a.mkv")) as source:
        assert len(drain(source)) == 5
        assert source.skipped == 0


def test_nothing_but_broken_pictures_is_no_video(tmp_path: Path) -> None:
    whole = write_video(
        tmp_path / "whole.avi", [moving(n) for n in range(5)], pixel_format="yuvj420p"
    )
    cut_packets(whole, tmp_path / "a.avi", every=1)
    with pytest.raises(SourceError, match="no frame that can be decoded"):
        open_source(str(tmp_path / "a.avi"))


# --- said once ----------------------------------------------------------------------------------


def test_what_is_unusual_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(
        tmp_path / "a.mp4", [disc(240, 240, 40, 80)] * 4, "libx264", pixel=Fraction(2)
    )
    for _ in range(2):
        with open_source(str(path)) as source:
            drain(source)
    (record,) = caplog.records
    assert record.message == f"{path}: pixels 2:1: 240×240 was stretched to 480×240"


def test_a_video_of_one_picture_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "a.avi", [moving(0)], pixel_format="yuvj420p")
    with open_source(str(path)) as source:
        assert len(drain(source)) == 1
        assert source.read() is None
    assert ["single picture" in record.message for record in caplog.records] == [True]


def test_pictures_of_14_bits_are_said_to_be_dark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = np.linspace(0, 16383, 64 * 48).reshape(48, 64).astype(np.uint16)
    assert cv2.imwrite(str(tmp_path / "1.png"), picture)
    with open_source(str(tmp_path)) as source:
        (grab,) = drain(source)
    assert grab.image.max() == 64
    assert ["reach 25 % of their range" in record.message for record in caplog.records] == [True]
