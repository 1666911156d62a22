"""Sources: every form a user can write, every picture format, one clear error per fault."""

from __future__ import annotations

import functools
import http.server
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError, SourceError
from facestage.stream.sources import Grab, Source, open_source, redact, source_name
from facestage.stream.sources import camera as camera_module
from facestage.stream.sources import network as network_module
from facestage.stream.sources import video as video_module
from facestage.stream.sources.base import to_bgr8, valid_count, valid_fps
from facestage.stream.sources.ffmpeg import Timeline
from facestage.stream.sources.images import list_images, load_image, natural_key
from facestage.stream.sources.pictures import breaks_off, count_pictures
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

STEP = 7
"""Grey levels between two frames of the test videos: far more than the codec's error."""


def grey(level: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


def write_video(path: Path, frames: int, *, fps: float = 25.0, codec: str = "MJPG") -> Path:
    """Write a video whose frame n is a plain grey of level ``STEP * n``."""
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, (64, 48)
    )
    assert writer.isOpened()
    for n in range(frames):
        writer.write(grey(STEP * n))
    writer.release()
    return path


def levels(grabs: list[Grab]) -> list[int]:
    """The numbers of the frames as painted into the pictures themselves."""
    return [round(float(grab.image.mean()) / STEP) for grab in grabs]


def drain(source: Source) -> list[Grab]:
    return list(iter(source.read, None))


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("rtsp://user:pw@host/stream", "rtsp://host/stream"),
        ("rtsp://user@host:554/stream", "rtsp://host:554/stream"),
        ("rtsp://u:p@ss@host/x", "rtsp://host/x"),
        ("rtsp://u:p/w#x@host/x", "rtsp://host/x"),
        ("rtsp://[::1]:8554/x", "rtsp://[::1]:8554/x"),
        ("http://h/x?channel=1&subtype=0", "http://h/x?channel=1&subtype=0"),
        ("http://h/x.m3u8?token=abc&n=12", "http://h/x.m3u8?token=***&n=12"),
        ("http://h/x?pin=1234", "http://h/x?pin=***"),
        ("http://h/x?baretoken", "http://h/x?***"),
        ("http://h/x?", "http://h/x?"),
        ("http://h/x#secret", "http://h/x"),
        ("rtsp://u:p?w@host/x", "rtsp://***"),
        ("clips/a?b@c.mp4", "clips/a?b@c.mp4"),
        ("0", "0"),
    ],
)
def test_redact(spec: str, shown: str) -> None:
    assert redact(spec) == shown


@given(
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4).filter(
        lambda text: any(c.isalpha() for c in text)
    ),
    query=st.sampled_from(["", "?channel=1", "?t=1&u=ab"]),
)
def test_redact_never_shows_any_part_of_a_password(secret: str, query: str) -> None:
    # Characters in doubled brackets cannot come from the address around the password.
    password = f"«{secret}»"
    shown = redact(f"rtsp://user:{password}@host:554/path{query}")
    assert "«" not in shown
    assert "»" not in shown
    assert "user" not in shown


def test_source_name_is_known_before_opening(tmp_path: Path) -> None:
    assert source_name("0") == "camera 0"
    assert source_name("rtsp://a:b@h/x") == "rtsp://h/x"
    assert source_name("demo:") == "demo"
    video = write_video(tmp_path / "a.avi", 2)
    with open_source(str(video)) as source:
        assert source.name == source_name(str(video)) == str(video)
        assert str(video) in repr(source)


# --- dispatch -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("browser", "facestage live browser:"),
        ("browser:", "facestage live browser:"),
        ("browser:left", "facestage live browser:"),
        ("synthetic:", "not available in this version"),
        ("synthetic:smile", "not available in this version"),
        ("rtmp://user:secret@host/x", "no kind of source"),
        ("demo:smile", "write 'demo:'"),
        ("", "empty"),
        ("  ", "empty"),
        ("a\0b", "not a name"),
    ],
)
def test_forms_that_cannot_work(spec: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        open_source(spec)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("option", ["open_timeout_s", "read_timeout_s", "image_fps"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_options_that_cannot_work(option: str, value: float) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigError, match=option):
        open_source("clip.mp4", **options)


def test_a_file_named_like_a_camera_is_reached_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "0.avi", 2).rename(tmp_path / "0")
    monkeypatch.chdir(tmp_path)
    with open_source("./0") as source:
        assert source.kind == "video"


@pytest.mark.parametrize(
    "name",
    [
        *("2026-01-01-10:30:00.avi", "P01:rest.avi", "file:a.avi", "concat:a.avi", "rtsp:a.avi"),
        *("http:a.avi", "demo:rest.avi", "browser:a.avi", "synthetic:a.avi", "C:a.avi"),
    ],
)
def test_a_colon_in_a_name_is_no_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_video(tmp_path / "plain.avi", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for spec in (name, str(tmp_path / name)):
        with open_source(spec) as source:
            assert (source.kind, source.name) == ("video", spec)
            assert source_name(spec) == spec
            assert levels(drain(source)) == [0, 1, 2]


def test_a_missing_file_with_a_colon_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        open_source("10:30:00.mp4")
    with pytest.raises(SourceError, match="does not exist"):
        open_source("rtsp:camera.local/stream")


# --- pictures -----------------------------------------------------------------------------------


def test_to_bgr8_returns_bgr8_untouched() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert to_bgr8(image) is image


@pytest.mark.parametrize("shape", [(1, 1), (5, 4), (5, 4, 1), (5, 4, 2), (5, 4, 3), (5, 4, 4)])
@pytest.mark.parametrize(
    ("dtype", "low", "middle", "full"),
    [
        (np.uint8, 0, 128, 255),
        (np.uint16, 0, 128 * 257, 65535),
        (np.int16, -5, 16448, 32767),
        (np.uint32, 0, 2155905152, 4294967295),
        (np.float32, -0.5, 128 / 255, 1.0),
        (np.float64, np.nan, 128 / 255, 7.0),
    ],
)
def test_to_bgr8_scales_every_depth(
    shape: tuple[int, ...], dtype: type, low: float, middle: float, full: float
) -> None:
    for value, expected in ((low, 0), (middle, 128), (full, 255)):
        converted = to_bgr8(np.full(shape, value, dtype))
        assert converted.dtype == np.uint8
        assert converted.shape == (*shape[:2], 3)
        assert (converted == expected).all()


def test_to_bgr8_drops_alpha_and_keeps_the_colour_order() -> None:
    bgra = np.zeros((2, 2, 4), np.uint8)
    bgra[..., 0], bgra[..., 2], bgra[..., 3] = 10, 200, 1
    assert to_bgr8(bgra)[0, 0].tolist() == [10, 0, 200]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((2, 2, 5), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 3, 3), np.uint8),
        np.zeros((2, 2), bool),
        np.zeros((2, 2, 3), np.complex64),
    ],
)
def test_to_bgr8_refuses_what_is_no_picture(image: NDArray[Any]) -> None:
    with pytest.raises(SourceError, match="picture of"):
        to_bgr8(image)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 90000.0])
def test_impossible_frame_rates_are_unknown(value: float) -> None:
    assert valid_fps(value) is None
    assert valid_fps(23.976) == 23.976


@pytest.mark.parametrize("value", [0.0, -2562047788015215.0, float("nan")])
def test_impossible_frame_counts_are_unknown(value: float) -> None:
    assert valid_count(value) is None
    assert valid_count(98.0) == 98


# --- image folders ------------------------------------------------------------------------------


def save(path: Path, image: NDArray[Any]) -> None:
    assert cv2.imwrite(str(path), image)


def test_natural_order() -> None:
    names = ["f10.png", "F2.png", "f1.png", "f02.png", "a.png", "7.png", "S005_001_00000011.png"]
    assert sorted(names, key=natural_key) == [
        "7.png",
        "a.png",
        "f1.png",
        "F2.png",
        "f02.png",
        "f10.png",
        "S005_001_00000011.png",
    ]


@given(st.lists(st.integers(0, 10**9), unique=True))
def test_natural_order_is_numeric_with_and_without_padding(numbers: list[int]) -> None:
    plain = [f"frame{n}.png" for n in numbers]
    assert sorted(plain, key=natural_key) == [f"frame{n}.png" for n in sorted(numbers)]


def test_ck_plus_folder(tmp_path: Path) -> None:
    for n in (3, 1, 11, 2):
        save(tmp_path / f"S005_001_{n:08d}.png", grey(STEP * n)[..., 0])
    (tmp_path / "S005_001_00000001_landmarks.txt").write_text("1 2")
    (tmp_path / "._S005_001_00000001.png").write_bytes(b"resource fork")
    with open_source(str(tmp_path)) as source:
        assert (source.kind, source.live, source.endless) == ("images", False, False)
        assert (source.fps, source.frame_count, source.size) == (30.0, 4, (64, 48))
        grabs = drain(source)
    assert levels(grabs) == [1, 2, 3, 11]
    assert [grab.index for grab in grabs] == [0, 1, 2, 3]
    assert [grab.pts for grab in grabs] == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30])


def test_folder_takes_any_kind_of_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    save(tmp_path / "a_grey.png", rng.integers(0, 255, (9, 8), np.uint8))
    save(tmp_path / "b_alpha.png", rng.integers(0, 255, (9, 8, 4), np.uint8))
    save(tmp_path / "c_deep.png", np.full((9, 8, 3), 65535, np.uint16))
    save(tmp_path / "d_float.tiff", np.full((9, 8), 1.0, np.float32))
    save(tmp_path / "e_float_bgra.tiff", np.full((9, 8, 4), 1.0, np.float32))
    save(tmp_path / "f_one.PNG", np.full((1, 1, 3), 9, np.uint8))
    save(tmp_path / "g_photo.JPG", grey(100))
    save(tmp_path / "h.webp", grey(100))
    save(tmp_path / "i.bmp", grey(100)[..., 0])
    save(tmp_path / "j_8k.png", np.zeros((4320, 7680), np.uint8))
    with open_source(str(tmp_path)) as source:
        grabs = drain(source)
    assert len(grabs) == 10
    for grab in grabs:
        assert grab.image.dtype == np.uint8
        assert grab.image.ndim == 3
        assert grab.image.shape[2] == 3
    assert (grabs[2].image == 255).all()
    assert (grabs[3].image == 255).all()
    assert (grabs[4].image == 255).all()
    assert grabs[5].image.shape == (1, 1, 3)
    assert grabs[9].image.shape == (4320, 7680, 3)


def ramp(number: int, white: float, dtype: type) -> NDArray[Any]:
    """A grey picture from black to three quarters of white, a little brighter with each number."""
    line = np.linspace(0, 0.75 * white + number * white / 100, 64)
    return np.tile(line, (48, 1)).astype(dtype)


@pytest.mark.parametrize("keep_grey", [True, False])
@pytest.mark.parametrize(
    ("suffix", "dtype", "white", "says"),
    [
        ("png", np.uint16, 65535, None),
        ("png", np.uint16, 4095, "of 65535; all are taken as 0–4095"),
        ("png", np.uint16, 1023, "of 65535; all are taken as 0–1023"),
        ("png", np.uint16, 255, "of 65535; all are taken as 0–255"),
        ("tif", np.uint16, 4095, "of 65535; all are taken as 0–4095"),
        ("tif", np.float32, 1, None),
        ("tif", np.float32, 255, "of 1.0; all are taken as 0–255"),
        ("tif", np.float32, 65535, "of 1.0; all are taken as 0–65535"),
    ],
)
def test_the_range_of_values_a_folder_uses_is_recognised(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    suffix: str,
    dtype: type,
    white: float,
    says: str | None,
    keep_grey: bool,
) -> None:
    for n in range(4):
        save(tmp_path / f"{n}.{suffix}", ramp(n, white, dtype))
    with (
        caplog.at_level(logging.WARNING),
        open_source(str(tmp_path), keep_grey=keep_grey) as source,
    ):
        grabs = drain(source)
    for n, grab in enumerate(grabs):
        grey_levels = grab.image if grab.image.ndim == 2 else grab.image[:, :, 1]
        expected = ramp(n, 255, np.float64)
        assert np.abs(grey_levels.astype(float) - expected).max() <= 1.5
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == (says is not None)
    if says is not None:
        reached = ramp(3, white, dtype).max()
        assert (
            f"the first 4 image(s) of type {np.dtype(dtype)} reach {reached:g} {says}"
            in warnings[0]
        )


def test_the_range_found_first_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = [*[0] * 9, *range(2000, 3000, 100), 9000, 9000]
    for n, value in enumerate(values):
        save(tmp_path / f"{n}.png", np.full((48, 64), value, np.uint16))
    with caplog.at_level(logging.WARNING), open_source(str(tmp_path)) as source:
        found = [int(grab.image[0, 0, 0]) for grab in drain(source)]
    # Black pictures decide nothing; from the first that is not, all have the same scale.
    assert found == [min(255, round(255 * value / 4095)) for value in values]
    assert ["as 0–4095" in record.message for record in caplog.records] == [True, True]
    assert "19.png: its values reach 9000" in caplog.records[1].message


def test_floats_a_little_beyond_one_are_still_zero_to_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = ramp(0, 1, np.float32)
    picture[0, 0] = 1.7
    save(tmp_path / "a.tif", picture)
    with caplog.at_level(logging.WARNING):
        image = load_image(tmp_path / "a.tif")
    assert image[0, 0, 0] == 255
    assert int(image[1, -1, 0]) == 191
    assert not caplog.records


def test_one_deep_image_is_brightened_as_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "a.png", ramp(0, 1023, np.uint16))
    with caplog.at_level(logging.WARNING):
        assert int(load_image(tmp_path / "a.png").max()) == 191
    assert "reach 767 of 65535; all are taken as 0–1023" in caplog.text


def write_pictures(path: Path, pictures: int) -> Path:
    """Write an animation, or a TIFF file with so many pages."""
    frames = [grey(40 * n, 32, 32) for n in range(pictures)]
    if path.suffix in (".tif", ".tiff"):
        assert cv2.imwritemulti(str(path), frames)
        return path
    animation = cv2.Animation()
    animation.frames = frames
    animation.durations = [100] * pictures
    # As animations their formats carry an alpha channel.
    animation.frames = [cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA) for frame in frames]
    assert cv2.imwriteanimation(str(path), animation)
    return path


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif", "tif"])
def test_a_file_of_several_pictures_is_refused_with_the_next_step(
    tmp_path: Path, suffix: str
) -> None:
    path = write_pictures(tmp_path / f"smile.{suffix}", 5)
    # FFmpeg reads the first page of a TIFF file only.
    video = "" if suffix == "tif" else "ffmpeg -i smile.*"
    says = rf"holds 5 pictures.*first only; make a.*{video}magick smile.*%05d\.png"
    with pytest.raises(SourceError, match=says):
        open_source(str(path))
    with pytest.raises(SourceError, match=says):
        load_image(path)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif", "tif", "jpg", "bmp"])
def test_a_file_of_one_picture_is_read(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"a.{suffix}", grey(100, 32, 32))
    data = (tmp_path / f"a.{suffix}").read_bytes()
    assert count_pictures(data) == 1
    assert abs(float(load_image(tmp_path / f"a.{suffix}").mean()) - 100) < 3


def test_a_preview_in_a_tiff_file_is_no_page(tmp_path: Path) -> None:
    data = bytearray(write_pictures(tmp_path / "a.tif", 2).read_bytes())
    assert count_pictures(bytes(data)) == 2
    # Give the second directory the mark of a preview in place of its first entry.
    first = int.from_bytes(data[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    second = int.from_bytes(data[after : after + 4], "little")
    data[second + 2 : second + 14] = (254).to_bytes(2, "little") + b"\4\0\1\0\0\0\1\0\0\0"
    assert count_pictures(bytes(data)) == 1


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif", "tif"])
def test_counting_pictures_survives_any_damage(tmp_path: Path, suffix: str) -> None:
    data = write_pictures(tmp_path / f"a.{suffix}", 3).read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(300):
        damaged = bytearray(data[: rng.integers(0, len(data))])
        for at in rng.integers(0, max(1, len(damaged)), 3 if damaged else 0):
            damaged[at] = rng.integers(0, 256)
        assert count_pictures(bytes(damaged)) >= 1


def test_an_animation_in_a_folder_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "1.png", grey(STEP))
    write_pictures(tmp_path / "2.gif", 3)
    save(tmp_path / "3.png", grey(3 * STEP))
    with caplog.at_level(logging.WARNING), open_source(str(tmp_path)) as source:
        grabs = drain(source)
        assert source.skipped == 1
    assert [grab.index for grab in grabs] == [0, 2]
    assert "2.gif holds 3 pictures" in caplog.text


def test_broken_images_are_skipped_counted_and_leave_their_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(5):
        save(tmp_path / f"{n}.png", grey(STEP * n))
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "3.png").write_bytes(b"no image at all")
    with caplog.at_level(logging.WARNING), open_source(str(tmp_path)) as source:
        grabs = drain(source)
        assert source.skipped == 3
    assert levels(grabs) == [1, 4]
    assert [grab.index for grab in grabs] == [1, 4]
    assert grabs[1].pts == pytest.approx(4 / 30)
    assert sum("skipped" in record.message for record in caplog.records) == 3


CUT_FORMATS = ["jpg", "png", "bmp", "tif", "webp", "ppm", "jp2", "avif", "gif"]


@pytest.mark.parametrize("suffix", CUT_FORMATS)
@pytest.mark.parametrize("share", [0.33, 0.66, 0.95])
def test_an_image_cut_short_is_no_image(tmp_path: Path, suffix: str, share: float) -> None:
    rng = np.random.default_rng(4)
    save(tmp_path / f"a.{suffix}", rng.integers(0, 256, (120, 160, 3)).astype(np.uint8))
    data = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: int(share * len(data))])
    with pytest.raises(SourceError, match=r"breaks off|not an image that can be read"):
        load_image(tmp_path / f"a.{suffix}")


def test_a_jpeg_is_cut_even_where_its_preview_is_whole() -> None:
    picture = cv2.imencode(".jpg", grey(90, 200, 300))[1].tobytes()
    preview = cv2.imencode(".jpg", grey(90, 20, 30))[1].tobytes()
    header = b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview
    whole = picture[:2] + header + picture[2:]
    assert not breaks_off(whole)
    assert breaks_off(whole[:-20])
    assert not breaks_off(whole + b"\0" * 512)  # padded to a sector


def test_single_image_is_a_folder_of_one(tmp_path: Path) -> None:
    save(tmp_path / "face.png", grey(50))
    with open_source(str(tmp_path / "face.png"), image_fps=5.0, realtime=True) as source:
        assert (source.kind, source.live, source.frame_count, source.fps) == ("images", True, 1, 5)
        assert len(drain(source)) == 1
        source.close()
        assert source.read() is None


def empty_folder(folder: Path) -> None:
    """Leave the folder as it is."""


def folder_with_subfolder(folder: Path) -> None:
    (folder / "S005").mkdir()
    save(folder / "S005" / "1.png", grey(1))


def folder_of_videos(folder: Path) -> None:
    write_video(folder / "take1.avi", 2)


def folder_of_text(folder: Path) -> None:
    (folder / "notes.txt").write_text("x")


def folder_of_broken_images(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"x")
    (folder / "2.jpg").write_bytes(b"y")


@pytest.mark.parametrize(
    ("fill", "says"),
    [
        (empty_folder, "it is empty"),
        (folder_with_subfolder, "subfolder 'S005'"),
        (folder_of_videos, "take1.avi"),
        (folder_of_text, "holds no image"),
        (folder_of_broken_images, "none of the 2 images"),
    ],
)
def test_folder_without_a_readable_image(
    tmp_path: Path, fill: Callable[[Path], None], says: str
) -> None:
    fill(tmp_path)
    with pytest.raises(SourceError, match=says):
        open_source(str(tmp_path))


def test_list_images_is_not_recursive(tmp_path: Path) -> None:
    folder_with_subfolder(tmp_path)
    assert list_images(tmp_path) == []


# --- video files --------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("mkv", "MJPG"), ("mp4", "mp4v")])
def test_video_is_read_frame_by_frame(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_video(tmp_path / f"clip.{suffix}", 30, codec=codec)
    with open_source(str(path)) as source:
        assert (source.kind, source.live, source.endless) == ("video", False, False)
        assert (source.fps, source.frame_count, source.size) == (25.0, 30, (64, 48))
        grabs = drain(source)
        assert source.read() is None
    assert levels(grabs) == list(range(30))
    assert [grab.index for grab in grabs] == list(range(30))
    assert [grab.pts for grab in grabs] == pytest.approx([n / 25 for n in range(30)], abs=1e-3)
    assert len({id(grab.image) for grab in grabs}) == 30


def test_realtime_only_marks_a_file_as_live(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", 3)
    with open_source(str(path), realtime=True) as source:
        assert source.live
        assert not source.endless
        assert source.info.live
        assert len(drain(source)) == 3


def missing(folder: Path) -> Path:
    return folder / "missing.mp4"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"x")
    return folder / "file" / "clip.mp4"


def empty(folder: Path) -> Path:
    (folder / "empty.mp4").write_bytes(b"")
    return folder / "empty.mp4"


def garbage(folder: Path) -> Path:
    (folder / "garbage.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    return folder / "garbage.mp4"


def text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("hello\n" * 100)
    return folder / "text.mp4"


def without_index(folder: Path) -> Path:
    data = write_video(folder / "whole.mp4", 20, codec="mp4v").read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) // 2])
    return folder / "cut.mp4"


def without_frames(folder: Path) -> Path:
    # The container's header only: it opens, states a size and a rate, and holds no picture.
    data = write_video(folder / "whole.mkv", 20).read_bytes()
    cluster = data.index(b"\x1f\x43\xb6\x75")  # Matroska's element that holds the frames
    (folder / "header.mkv").write_bytes(data[:cluster])
    return folder / "header.mkv"


def named_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.mp4")
    return folder / "pipe.mp4"


def long_name(folder: Path) -> Path:
    return folder / ("x" * 5000)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing, "does not exist; check the path"),
        (below_a_file, "check the path"),
        (empty, "is empty"),
        (garbage, "not a video that FFmpeg can read"),
        (text, "not a video that FFmpeg can read"),
        (without_index, "damaged"),
        (without_frames, "(no frame|not a video)"),
        (named_pipe, "is not a file"),
        (long_name, "check"),
    ],
)
def test_bad_video_files(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(SourceError, match=says) as caught:
        open_source(str(make(tmp_path)))
    assert str(caught.value).count("\n") == 0


class FakeDecoder:
    """Stands in for a decoder that opens and gives nothing."""

    format, fps, frame_count, start_s, damaged, remark = "matroska", 30.0, None, 0.0, 0, ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.closed = False

    def __call__(self, *arguments: Any, **options: Any) -> FakeDecoder:
        return self

    def grab(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True


def test_video_that_opens_without_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDecoder()
    monkeypatch.setattr(video_module, "Decoder", fake)
    with pytest.raises(SourceError, match="holds no frame"):
        open_source(str(text(tmp_path)))
    assert fake.closed


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_video_without_permission(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", 2)
    path.chmod(0)
    with pytest.raises(SourceError, match="may not be read"):
        open_source(str(path))


def test_video_that_breaks_off_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_video(tmp_path / "whole.mkv", 30).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING), open_source(str(tmp_path / "cut.mkv")) as source:
        grabs = drain(source)
    assert 5 < len(grabs) < 25
    assert levels(grabs[:-1]) == list(range(len(grabs) - 1))
    assert f"ended after {len(grabs)} of about 30 frames" in caplog.text


EBML, SEGMENT, INFO, TRACKS, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675


def element(name: int, content: bytes | int | float) -> bytes:
    """Return an element of a Matroska file."""
    if isinstance(content, float):
        content = struct.pack(">d", content)
    elif isinstance(content, int):
        content = content.to_bytes(max(1, (content.bit_length() + 7) // 8), "big")
    size = (len(content) | 1 << 56).to_bytes(8, "big")
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + size + content


def write_matroska(path: Path, times_ms: list[int], duration_ms: float) -> list[int]:
    """Write motion JPEG with these times, one picture a cluster; return where clusters begin."""
    head = element(0x4282, b"matroska") + element(0x4287, 4) + element(0x4285, 2)
    info = element(0x2AD7B1, 1_000_000) + element(0x4489, duration_ms)
    size = element(0xB0, 64) + element(0xBA, 48)
    track = element(0xD7, 1) + element(0x73C5, 1) + element(0x83, 1) + element(0x86, b"V_MJPEG")
    track += element(0x23E383, 1_000_000_000 // 25) + element(0xE0, size)
    parts = [element(INFO, info) + element(TRACKS, element(0xAE, track))]
    for n, time_ms in enumerate(times_ms):
        jpeg = cv2.imencode(".jpg", grey(STEP * (n % 30)))[1].tobytes()
        block = element(0xA3, b"\x81\0\0\x80" + jpeg)
        parts.append(element(CLUSTER, element(0xE7, time_ms) + block))
    data = element(EBML, head) + element(SEGMENT, b"".join(parts))
    path.write_bytes(data)
    mark = CLUSTER.to_bytes(4, "big")
    return [at for at in range(len(data)) if data[at : at + 4] == mark]


VARIABLE_RATE = [0, 40, 80, 120, 160, *range(600, 2000, 200), 1960]
LATE_CLOCK = [3_600_000 + 40 * n for n in range(30)]
LATE_VARIABLE = [3_600_000 + time_ms for time_ms in VARIABLE_RATE]


@pytest.mark.parametrize(
    ("times_ms", "duration_ms"),
    [(VARIABLE_RATE, 2000), (LATE_CLOCK, 3_601_200), (LATE_VARIABLE, 3_602_000)],
)
@pytest.mark.parametrize("over_http", [False, True])
def test_a_recording_is_whole_when_its_last_picture_lies_at_its_end(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    times_ms: list[int],
    duration_ms: float,
    over_http: bool,
) -> None:
    write_matroska(tmp_path / "a.mkv", times_ms, float(duration_ms))
    with (
        serving(tmp_path) as address,
        caplog.at_level(logging.WARNING),
        open_source(f"{address}/a.mkv" if over_http else str(tmp_path / "a.mkv")) as source,
    ):
        assert source.frame_count is not None
        assert source.frame_count > 1.2 * len(times_ms)
        assert len(drain(source)) == len(times_ms)
        assert not source.broke_off
    assert not caplog.records


@pytest.mark.parametrize(
    ("times_ms", "duration_ms"),
    [(VARIABLE_RATE, 2000), (LATE_CLOCK, 3_601_200), (LATE_VARIABLE, 3_602_000)],
)
def test_a_recording_that_is_cut_is_not_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, times_ms: list[int], duration_ms: float
) -> None:
    clusters = write_matroska(tmp_path / "a.mkv", times_ms, float(duration_ms))
    cut = (tmp_path / "a.mkv").read_bytes()[: clusters[-4]]
    (tmp_path / "a.mkv").write_bytes(cut)
    with caplog.at_level(logging.WARNING), open_source(str(tmp_path / "a.mkv")) as source:
        assert len(drain(source)) == len(times_ms) - 4
        assert source.read() is None
        assert source.broke_off
    assert [f"ended after {len(times_ms) - 4} of" in r.message for r in caplog.records] == [True]


def test_nothing_is_written_to_stderr(tmp_path: Path) -> None:
    code = (
        "import sys, logging; logging.disable()\n"
        "from facestage.core.errors import SourceError\n"
        "from facestage.stream.sources import open_source\n"
        "for spec in sys.argv[1:]:\n"
        "    try:\n"
        "        with open_source(spec) as source:\n"
        "            while source.read(): pass\n"
        "    except SourceError as error: print('refused')\n"
    )
    folder = tmp_path / "images"
    folder.mkdir()
    folder_of_broken_images(folder)
    data = write_video(tmp_path / "whole.mkv", 30).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    specs = [garbage(tmp_path), without_index(tmp_path), folder, tmp_path / "cut.mkv"]
    environment = {key: value for key, value in os.environ.items() if "OPENCV" not in key}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, specs), "rtsp://127.0.0.1:1/x"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["refused"] * 4


@pytest.mark.shared
@pytest.mark.parametrize(
    ("clip", "frames"),
    [("single_face.mp4", 72), ("face_noface.mov", 169), ("WolfgangLanger_Pexels.mp4", 472)],
)
def test_real_clips_have_growing_times(shared: Path, clip: str, frames: int) -> None:
    with open_source(str(shared / "clips" / clip)) as source:
        grabs = drain(source)
        assert source.fps is not None
        length_s = frames / source.fps
    pts = np.array([grab.pts for grab in grabs])
    assert len(pts) == frames
    assert (np.diff(pts) > 0).all()
    assert pts[-1] == pytest.approx(length_s, rel=0.02, abs=0.1)


# --- the time line ------------------------------------------------------------------------------


def positions(fps: float | None, stated: list[float]) -> list[float]:
    line = Timeline(fps)
    return [line.update(value) for value in stated]


def test_timeline_keeps_what_grows() -> None:
    assert positions(25.0, [0.0, 0.04, 0.2, 0.21]) == [0.0, 0.04, 0.2, 0.21]


def test_timeline_without_stamps_is_index_over_fps() -> None:
    assert positions(25.0, [0.0] * 5) == pytest.approx([n / 25 for n in range(5)])
    assert positions(None, [float("nan")] * 4) == pytest.approx([n / 30 for n in range(4)])


def test_timeline_returns_to_the_stamps_after_a_small_step_back() -> None:
    assert positions(10.0, [0.0, 0.2, 0.1, 0.35]) == pytest.approx([0.0, 0.2, 0.3, 0.35])


def test_timeline_goes_on_after_a_restart_of_the_clock() -> None:
    assert positions(10.0, [50.0, 50.1, 0.0, 0.1, 0.5]) == pytest.approx(
        [50.0, 50.1, 50.2, 50.3, 50.7]
    )


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=2))
def test_timeline_always_grows(stated: list[float]) -> None:
    usable = [value if abs(value) < 1e6 else float("nan") for value in stated]
    assert (np.diff(positions(30.0, usable)) > 0).all()


# --- the demo clip ------------------------------------------------------------------------------


def test_demo_clip_is_part_of_the_package() -> None:
    with open_source("demo:", realtime=True) as source:
        assert (source.name, source.kind, source.live, source.endless) == (
            "demo",
            "demo",
            True,
            False,
        )
        first = source.read()
        assert first is not None
        assert first.index == 0


def test_demo_clip_missing_from_the_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_module.resources, "files", lambda package: tmp_path)
    with pytest.raises(SourceError, match="reinstall"):
        open_source("demo:")
    write_video(tmp_path / "face.avi", 4).rename(tmp_path / "face.mp4")
    with open_source("demo:") as source:
        assert levels(drain(source)) == [0, 1, 2, 3]


# --- cameras ------------------------------------------------------------------------------------


class FakeCamera:
    """Stands in for ``cv2.VideoCapture``: gives so many pictures, then none."""

    def __init__(self, pictures: int, opened: bool = True) -> None:
        self.pictures = pictures
        self.opened = opened
        self.asked: list[Any] = []
        self.released = False

    def __call__(self, *arguments: Any) -> FakeCamera:
        self.asked.append(arguments[0])
        return self

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opened

    def get(self, prop: int) -> float:
        return 30.0 if prop == cv2.CAP_PROP_FPS else 0.0

    def grab(self) -> bool:
        self.pictures -= 1
        return self.pictures >= 0

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        return True, grey(5)

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize(
    ("spec", "device", "name"), [("0", 0, "camera 0"), ("/dev/video2", "/dev/video2", None)]
)
def test_camera(
    spec: str, device: int | str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeCamera(3)
    monkeypatch.setattr(camera_module.cv2, "VideoCapture", fake)
    with open_source(spec) as source:
        assert source.info.name == (name or spec)
        assert (source.kind, source.live, source.endless) == ("camera", True, True)
        assert (source.fps, source.frame_count, source.size) == (30.0, None, (64, 48))
        grabs = [source.read() for _ in range(3)]
        assert [grab and (grab.index, grab.pts) for grab in grabs] == [
            (0, None),
            (1, None),
            (2, None),
        ]
        with pytest.raises(SourceError, match="gives no picture"):
            source.read()
    assert fake.asked == [device]
    assert fake.released


def test_a_link_to_a_camera_is_that_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "direct").symlink_to("/dev/video2")
    (tmp_path / "chain").symlink_to("direct")
    (tmp_path / "2026-01-01-10:30:00").symlink_to("/dev/video3")
    monkeypatch.chdir(tmp_path)
    fake = FakeCamera(4)
    monkeypatch.setattr(camera_module.cv2, "VideoCapture", fake)
    specs = [str(tmp_path / "direct"), "./chain", "2026-01-01-10:30:00", "/dev/../dev/video2"]
    for spec in specs:
        with open_source(spec) as source:
            assert (source.kind, source.name, source.endless) == ("camera", source_name(spec), True)
    assert fake.asked == ["/dev/video2", "/dev/video2", "/dev/video3", "/dev/video2"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            "/dev/v4l/by-id/usb-Nobody-made-this-video-index0",
            "cannot be opened; (this machine|there)",
        ),
        ("/dev/video97", "cannot be opened; (this machine|there)"),
        ("/dev/null", "is a device, but no camera"),
    ],
)
def test_a_device_that_is_no_camera(spec: str, says: str) -> None:
    with pytest.raises(SourceError, match=f"^{spec} {says}"):
        open_source(spec)


def test_camera_that_gives_nothing_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCamera(0)
    monkeypatch.setattr(camera_module.cv2, "VideoCapture", fake)
    with pytest.raises(SourceError, match="gives no picture"):
        open_source("0")
    assert fake.released


def test_camera_that_is_not_there() -> None:
    with pytest.raises(SourceError, match="camera 97 cannot be opened; "):
        open_source("97")


# --- the network --------------------------------------------------------------------------------


@contextmanager
def web_server(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve HTTP on a free loopback port; give its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""


class BreakingHandler(QuietHandler):
    """Promises the whole file, sends a part, and hangs up."""

    share = 0.5

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "video/x-matroska")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: int(len(data) * self.share)])


class MotionJpegHandler(QuietHandler):
    """A network camera's motion JPEG: pictures without an announced end."""

    pictures = 20

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for n in range(self.pictures):
            jpeg = cv2.imencode(".jpg", grey(STEP * n))[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
            self.wfile.write(f"Content-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg + b"\r\n")


def serving(folder: Path, handler: type[QuietHandler] = QuietHandler) -> Any:
    return web_server(functools.partial(handler, directory=str(folder)))


def test_http_recording_ends_like_a_file(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mkv", 30)
    with serving(tmp_path) as address, open_source(f"{address}/clip.mkv?token=abc") as source:
        assert source.name == f"{address}/clip.mkv?token=***"
        assert (source.kind, source.live, source.endless) == ("http", False, False)
        assert (source.fps, source.frame_count) == (25.0, 30)
        grabs = drain(source)
    assert levels(grabs) == list(range(30))
    assert [grab.pts for grab in grabs] == pytest.approx([n / 25 for n in range(30)], abs=1e-3)


def test_http_recording_that_breaks_off_does_not_look_complete(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mkv", 30)
    with (
        serving(tmp_path, BreakingHandler) as address,
        open_source(f"{address}/clip.mkv") as source,
        pytest.raises(SourceError, match=r"broke off after \d+ of about 30 frames"),
    ):
        drain(source)


def test_http_motion_jpeg_is_endless_and_its_end_a_loss(tmp_path: Path) -> None:
    with (
        serving(tmp_path, MotionJpegHandler) as address,
        open_source(f"{address}/stream") as source,
    ):
        assert (source.kind, source.live, source.endless) == ("http", True, True)
        grabs = [source.read() for _ in range(MotionJpegHandler.pictures)]
        with pytest.raises(SourceError, match="closed, or sent nothing"):
            source.read()
    assert levels([grab for grab in grabs if grab]) == list(range(MotionJpegHandler.pictures))


@pytest.mark.parametrize("path", ["missing.mp4", "text.mp4"])
def test_http_server_without_a_video(tmp_path: Path, path: str) -> None:
    text(tmp_path)
    with (
        serving(tmp_path) as address,
        pytest.raises(SourceError, match="answers, but gives no video there"),
    ):
        open_source(f"{address}/{path}")


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_refused_port(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        port = taken.getsockname()[1]
        with pytest.raises(SourceError, match=f"refused the connection on port {port}") as caught:
            open_source(f"{scheme}://user:secret@127.0.0.1:{port}/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["rtsp", "http", "https"])
def test_silent_server_is_given_up(scheme: str) -> None:
    """The call returns although the server, which took the connection, never says a word."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=lambda: accepted.append(listener.accept()[0]))
        thread.start()
        try:
            with pytest.raises(SourceError, match=r"gave no video within 0\.5 s") as caught:
                open_source(f"{scheme}://user:secret@127.0.0.1:{port}/x", open_timeout_s=0.5)
        finally:
            thread.join()
            accepted[0].close()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["rtsp://", "rtsp:///path", "rtsp://user:se/cret@host/x", "http://h:99999/"]
)
def test_wrong_addresses(url: str) -> None:
    with pytest.raises(SourceError, match="not a valid address") as caught:
        open_source(url)
    assert "se/cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(-2, "Name or service not known"), "host that is unknown"),
        (UnicodeError("label too long"), "host that is unknown"),
        (TimeoutError(), "did not answer on port 554"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_reasons_of_a_failed_connection(
    error: Exception, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    def refuse(*args: object, **options: object) -> None:
        raise av.error.InvalidDataError(1, "no video")

    monkeypatch.setattr(network_module.socket, "create_connection", fail)
    monkeypatch.setattr(network_module, "Decoder", refuse)
    with pytest.raises(SourceError, match=says):
        open_source("rtsp://camera.invalid/x")


def test_stream_that_opens_and_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDecoder()
    monkeypatch.setattr(network_module, "Decoder", fake)
    with pytest.raises(SourceError, match="sent no frame within 5 s"):
        open_source("rtsp://camera.invalid/x")
    assert fake.closed


@pytest.mark.parametrize(
    ("variable", "passed"),
    [
        ("", {"rtsp_transport": "tcp"}),
        ("buffer_size=1024", {"rtsp_transport": "tcp", "buffer_size": "1024"}),
        ("rtsp_transport=udp|user_agent=a=b", {"rtsp_transport": "udp", "user_agent": "a=b"}),
    ],
)
def test_tcp_is_preferred_but_the_user_decides(
    variable: str, passed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, str]] = []

    def note(*arguments: Any, options: dict[str, str], **others: Any) -> FakeDecoder:
        asked.append(options)
        return FakeDecoder()

    monkeypatch.setattr(network_module, "Decoder", note)
    monkeypatch.setenv("FACESTAGE_FFMPEG_OPTIONS", variable)
    with pytest.raises(SourceError, match="sent no frame"):
        open_source("rtsp://camera.invalid/x")
    assert asked == [passed]


def test_options_for_ffmpeg_that_cannot_be_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESTAGE_FFMPEG_OPTIONS", "rtsp_transport;udp")
    with pytest.raises(ConfigError, match="write it as name=value"):
        open_source("rtsp://camera.invalid/x")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".pgm"])
def test_grey_images_stay_grey_where_asked_and_are_the_same_pictures(
    tmp_path: Path, suffix: str
) -> None:
    rng = np.random.default_rng(5)
    grey = cv2.GaussianBlur(rng.integers(0, 256, (40, 52)).astype(np.uint8), (0, 0), 2)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), grey)
    kept = load_image(tmp_path / f"a{suffix}", keep_grey=True)
    usual = load_image(tmp_path / f"a{suffix}")
    assert kept.shape == (40, 52)
    assert kept.dtype == np.uint8
    assert usual.shape == (40, 52, 3)
    np.testing.assert_array_equal(usual, np.repeat(kept[:, :, None], 3, axis=2))


def test_a_folder_of_mixed_images_keeps_grey_only_where_it_is_grey(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    colour = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "1.png"), colour)
    cv2.imwrite(str(tmp_path / "2.png"), colour[:, :, 0])
    cv2.imwrite(str(tmp_path / "3.png"), colour[:, :, 1].astype(np.uint16) * 257)
    with open_source(str(tmp_path), keep_grey=True) as source:
        images = [grab.image for _ in range(3) if (grab := source.read()) is not None]
    np.testing.assert_array_equal(images[0], colour)
    np.testing.assert_array_equal(images[1], colour[:, :, 0])
    np.testing.assert_array_equal(images[2], colour[:, :, 1])
