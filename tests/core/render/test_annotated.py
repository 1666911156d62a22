"""Annotated videos: relevance where the face is, what stands below, and a file that is whole."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from facestage.core import relevance
from facestage.core.action_units import AU_COLOURS
from facestage.core.errors import ConfigError, SourceError
from facestage.core.observer import Observation
from facestage.core.render import AnnotatedFrames
from facestage.core.render.lettering import bgr, text_width
from facestage.core.render.mask_track import FaceMasks, MaskTrack
from facestage.core.stages import stage_labels
from facestage.core.types import (
    LOST,
    FaceObservation,
    FaceState,
    Frame,
    FrameRow,
    SequenceResult,
    StageLabels,
)
from facestage.stream.offline import annotate
from facestage.stream.offline.annotate import write_annotated
from facestage.stream.offline.exports import ANNOTATED as NAMES
from facestage.stream.offline.exports import check_output
from numpy.typing import NDArray

from tests.support.chromium import find_chromium, open_page
from tests.support.paths import ROOT
from tests.support.sequences import sequence_result

CROP, CELLS = 96, 48
ANNOTATED = NAMES["mp4"]
WIDTH, HEIGHT = 640, 360


def result_of(letters: list[dict[int, str] | None], fps: float = 25.0) -> SequenceResult:
    """Return a result with these letters per frame; None stands for a frame without a face."""
    rows: list[FrameRow] = []
    labels: list[StageLabels] = []
    for i, shown in enumerate(letters):
        presence = None if shown is None else np.full(2, 0.5, np.float32)
        state = FaceState.LOST if shown is None else FaceState.TRACKED
        rows.append(FrameRow(i, i / fps, state, presence, presence, shown or {}))
        labels.append(LOST if shown is None else stage_labels(shown))
    return sequence_result(rows, labels, fps)


def similarity(scale: float, degrees: float, x: float, y: float) -> NDArray[np.float32]:
    """Return frame pixels → crop pixels; the crop's middle is shown at ``(x, y)``."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    shift = (CROP - 1) / 2 - turn @ (x, y)
    return np.column_stack([turn, shift]).astype(np.float32)


def square(row: int, column: int, side: int = 6) -> NDArray[np.uint8]:
    cells = np.zeros((CELLS, CELLS), np.uint8)
    cells[row : row + side, column : column + side] = 200
    return cells


def grey(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 128, np.uint8)


def tinted(picture: NDArray[np.uint8], least: int = 12) -> NDArray[np.bool_]:
    return np.ptp(picture.astype(int), axis=2) > least


# --- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((WIDTH, HEIGHT), (640, 360)),
        ((1920, 1080), (960, 540)),
        ((160, 120), (640, 480)),
        ((361, 641), (360, 640)),
        ((2000, 20), (960, 10)),
    ],
)
def test_pictures_are_large_enough_for_words_and_no_larger_than_useful(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    frames = AnnotatedFrames(result_of([{12: "A"}]), *size)
    assert frames.size[0] == shown[0]
    assert frames.size[0] % 2 == frames.size[1] % 2 == 0
    made = frames.draw(grey(size[1], size[0]), 0, None)
    assert made.shape == (frames.size[1], frames.size[0], 3)
    assert (made[: shown[1]] == 128).all()
    assert (made[shown[1] :] == 128).all(axis=2).mean() < 0.01


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (320, 180)])
@pytest.mark.parametrize("degrees", [0.0, 25.0])
def test_relevance_lies_where_the_face_is(size: tuple[int, int], degrees: float) -> None:
    # The crop's (56.5, 32.5), middle of the marked cells, must come out where the matrix says.
    width, height = size
    matrix = similarity(width / 250, degrees, 0.6 * width, 0.4 * height)
    face = FaceMasks(matrix, CROP, {12: square(13, 25)})
    made = AnnotatedFrames(result_of([{12: "A"}]), width, height).draw(grey(height, width), 0, face)
    picture = made[: round(made.shape[1] * height / width)]
    rows, columns = np.nonzero(tinted(picture))
    middle = (25 + 3) * CROP / CELLS - 0.5, (13 + 3) * CROP / CELLS - 0.5
    inverse = cv2.invertAffineTransform(matrix.astype(np.float64))
    x, y = inverse @ (*middle, 1)
    ratio = made.shape[1] / width
    assert abs(columns.mean() - ((x + 0.5) * ratio - 0.5)) < 0.6
    assert abs(rows.mean() - ((y + 0.5) * ratio - 0.5)) < 0.6
    # So large is it, too: six cells of 2 crop pixels, and the contour around them.
    side = 12 * width / 250 * ratio
    assert 0.85 * side**2 < len(rows) < 1.5 * side**2
    np.testing.assert_allclose(
        picture[round(rows.mean()), round(columns.mean())].astype(int),
        128 + (np.array(bgr(AU_COLOURS[12])) - 128) * (0.30 + 0.32 * 200 / 255),
        atol=4,
    )


def test_only_aus_active_in_the_frame_are_painted() -> None:
    matrix = similarity(2.5, 0, 320, 180)
    face = FaceMasks(matrix, CROP, {1: square(6, 6), 12: square(30, 30)})
    frames = AnnotatedFrames(result_of([{1: "A", 12: "A"}, {12: "A"}, {}]), WIDTH, HEIGHT)
    both, one, none = (tinted(frames.draw(grey(), n, face)[:HEIGHT]) for n in range(3))
    upper, lower = np.s_[:180, :320], np.s_[180:, 320:]
    assert both[upper].any()
    assert both[lower].any()
    assert not one[upper].any()
    assert one[lower].any()
    assert not none.any()


def test_a_face_at_the_border_is_cut_off_there() -> None:
    frames = AnnotatedFrames(result_of([{12: "A"}]), WIDTH, HEIGHT)
    for x, y in ((0, 0), (639, 359), (-500, 180), (320, 2000)):
        face = FaceMasks(similarity(2.5, 10, x, y), CROP, {12: square(0, 0, CELLS)})
        made = frames.draw(grey(), 0, face)
        assert tinted(made[:HEIGHT]).any() == (0 <= x < WIDTH and 0 <= y < HEIGHT)


def test_a_matrix_without_inverse_paints_nothing() -> None:
    face = FaceMasks(np.zeros((2, 3), np.float32), CROP, {12: square(10, 10)})
    made = AnnotatedFrames(result_of([{12: "A"}]), WIDTH, HEIGHT).draw(grey(), 0, face)
    assert (made[:HEIGHT] == 128).all()


def test_pictures_of_another_size_are_fitted_in_with_their_relevance() -> None:
    frames = AnnotatedFrames(result_of([{12: "A"}, {12: "A"}]), WIDTH, HEIGHT)
    # Half as wide: at the full height it stands in the middle, between black bars.
    narrow = FaceMasks(similarity(1.2, 0, 80, 90), CROP, {12: square(21, 21)})
    made = frames.draw(grey(180, 160), 1, narrow)[:HEIGHT]
    assert (made[:, :160] == 0).all()
    assert (made[:, -160:] == 0).all()
    rows, columns = np.nonzero(tinted(made))
    assert abs(columns.mean() - (160 + 2 * 80.5 - 0.5)) < 1
    assert abs(rows.mean() - (2 * 90.5 - 0.5)) < 1


def test_grey_pictures_are_taken() -> None:
    frames = AnnotatedFrames(result_of([{}]), WIDTH, HEIGHT)
    np.testing.assert_array_equal(
        frames.draw(grey()[..., 0], 0, None), frames.draw(grey(), 0, None)
    )


def test_aus_of_one_colour_are_told_apart_by_their_numbers() -> None:
    assert AU_COLOURS[10] == AU_COLOURS[20]
    matrix = similarity(2.5, 0, 320, 180)
    face = FaceMasks(matrix, CROP, {10: square(6, 6), 20: square(30, 30)})
    both = AnnotatedFrames(result_of([{10: "A", 20: "A"}]), WIDTH, HEIGHT)
    one = AnnotatedFrames(result_of([{10: "A"}]), WIDTH, HEIGHT)

    def inked(picture: NDArray[np.uint8]) -> int:
        return int((picture[:HEIGHT].max(axis=2) < 60).sum())

    assert inked(both.draw(grey(), 0, face)) > 20
    assert inked(one.draw(grey(), 0, face)) == 0


def foot(result: SequenceResult, index: int) -> NDArray[np.uint8]:
    return AnnotatedFrames(result, WIDTH, HEIGHT).draw(grey(), index, None)[HEIGHT:]


def test_lanes_show_who_is_active_when_and_the_cursor_where_we_are() -> None:
    letters: list[dict[int, str] | None] = [{}] * 20 + [{12: "A"}] * 20 + [{12: "B"}] * 20
    result = result_of([*letters, *[None] * 20])
    below = foot(result, 0)
    orange = (np.abs(below.astype(int) - bgr(AU_COLOURS[12])).max(axis=2) < 3).sum(axis=0)
    lane = np.flatnonzero(orange[120:]) + 120  # right of the label
    first, last = lane[0], lane[-1]
    start = first - (last - first) / 2  # active in the second and third quarter
    assert abs((last - first) / (WIDTH - start - 18) - 0.5) < 0.03
    # A gap where the letter changes.
    middle = round((first + last) / 2)
    assert (orange[middle - 3 : middle + 4] == 0).any()
    # The cursor stands in the middle of its frame.
    cursors = []
    for n in (0, 10, 40, 79):
        over_lane = foot(result, n)[46:49].sum(axis=(0, 2), dtype=int)
        assert 1 <= (over_lane < over_lane.max() / 2).sum() <= 2
        cursors.append(int(over_lane.argmin()))
    wanted = [start + (WIDTH - 18 - start) * (n + 0.5) / 80 for n in (0, 10, 40, 79)]
    np.testing.assert_allclose(cursors, wanted, atol=5)


def test_the_stage_is_written_with_its_labels() -> None:
    result = result_of([{}, {12: "A"}, None])
    none, active, lost = (foot(result, n)[:46, :300] for n in range(3))
    colour = np.abs(active.astype(int) - bgr(AU_COLOURS[12])).max(axis=2) < 3
    assert colour.sum() > 300
    assert not (np.abs(none.astype(int) - bgr(AU_COLOURS[12])).max(axis=2) < 3).any()
    assert (none != lost).any()


def test_a_moment_without_a_usable_face_says_so() -> None:
    # The stage goes on while the face cannot be judged for a moment.
    result = result_of([{12: "A"}] * 10)
    rows = [*result.rows]
    rows[5] = replace(rows[5], face=FaceState.LOW_QUALITY, presence=None, labels={})
    before, then = (foot(replace(result, rows=tuple(rows)), n)[:46] for n in (4, 5))
    time = WIDTH - 18 - text_width("0.00 s", 14, bold=True)
    word = text_width("face not analysed", 10)
    np.testing.assert_array_equal(before[:, :300], then[:, :300])
    ink = np.flatnonzero((then[:, 300 : time - 8] < 160).any(axis=(0, 2)))
    assert abs((ink[-1] - ink[0]) - word) <= 4
    assert (before != then)[:, 300 : time - 8].any()


def test_labels_that_find_no_room_are_counted() -> None:
    aus = (1, 2, 4, 6, 7, 9, 10, 12, 15, 17, 20, 23, 25, 26)
    crowded, few = (foot(result_of([dict.fromkeys(some, "A")]), 0)[:46] for some in (aus, aus[:3]))
    time = WIDTH - 18 - text_width("0.00 s", 14, bold=True)
    np.testing.assert_array_equal(crowded[:, time:], few[:, time:])
    assert (crowded[:, time - 12 : time] == 255).all()
    # Between the last label and the time stands how many are missing; without colour.
    coloured = np.flatnonzero(tinted(crowded, 40).any(axis=0))
    assert (crowded[:, coloured[-1] + 4 : time] < 160).any()
    # Where there is room, the number of the stage stands there instead.
    assert (few[:, 400 : time - 12] < 160).any()


def test_a_frame_that_is_not_in_the_sequence_is_refused() -> None:
    with pytest.raises(KeyError):
        AnnotatedFrames(result_of([{}]), WIDTH, HEIGHT).draw(grey(), 5, None)


# --- masks ---------------------------------------------------------------------------------------


def observation(index: int, maps: dict[int, NDArray[np.float32]], face: bool = True) -> Observation:
    crop = np.zeros((CROP, CROP), np.uint8)
    matrix = similarity(2, 0, 100 + index, 90)
    seen = (
        FaceObservation(FaceState.TRACKED, matrix=matrix, crop=crop)
        if face
        else FaceObservation(FaceState.LOST)
    )
    frame = Frame("clip", index, grey(), pts=index / 25)
    return Observation(frame, seen, None, None, maps, dict.fromkeys(maps))


def test_a_track_gives_back_the_masks_of_each_frame() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(5, CROP, CROP)).astype(np.float32)
    track = MaskTrack(CELLS, 0.25)
    track.add([observation(0, {12: maps[1], 4: maps[0]}), observation(1, {}, face=False)])
    track.add([observation(2, {}), observation(3, {1: maps[2], 2: maps[3], 25: maps[4]})])
    expected = relevance.masks(maps, CELLS, 0.25).numpy()
    first, last = track.of(0), track.of(3)
    assert first is not None
    assert last is not None
    assert list(first.masks) == [4, 12]
    np.testing.assert_array_equal(first.masks[4], expected[0])
    np.testing.assert_array_equal(first.masks[12], expected[1])
    for au, n in ((1, 2), (2, 3), (25, 4)):
        np.testing.assert_array_equal(last.masks[au], expected[n])
    np.testing.assert_array_equal(last.matrix, similarity(2, 0, 103, 90))
    assert last.crop_side == CROP
    assert track.of(1) is None
    assert track.of(7) is None
    nothing = track.of(2)
    assert nothing is not None
    assert nothing.masks == {}


def test_masks_are_kept_small() -> None:
    rows, columns = np.mgrid[0:CROP, 0:CROP]
    blob = np.exp(-((columns - 40) ** 2 + (rows - 60) ** 2) / 200).astype(np.float32)
    track = MaskTrack(CELLS)
    track.add([observation(n, {12: blob}) for n in range(8)])
    assert 0 < track.nbytes < 8 * 300


# --- the file ------------------------------------------------------------------------------------


def clip(path: Path, frames: int, size: tuple[int, int] = (160, 120), fps: float = 12.5) -> Path:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    for n in range(frames):
        video.write(np.full((size[1], size[0], 3), 20 + 8 * (n % 25), np.uint8))
    video.release()
    return path


def read(path: Path) -> tuple[list[NDArray[np.uint8]], float]:
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    fps, pictures = video.get(cv2.CAP_PROP_FPS), []
    while True:
        good, picture = video.read()
        if not good:
            return pictures, fps
        pictures.append(picture.astype(np.uint8))


def test_the_video_has_every_frame_at_its_rate(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = clip(tmp_path / "clip.mp4", 20)
    result = result_of([{12: "A"}] * 20, fps=12.5)
    calls: list[tuple[int, int]] = []
    out = tmp_path / ANNOTATED
    count = write_annotated(
        str(source),
        result,
        MaskTrack(CELLS),
        out,
        on_progress=lambda done, total: calls.append((done, total)),
    )
    pictures, fps = read(out)
    assert count == len(pictures) == 20
    assert fps == pytest.approx(12.5)
    assert pictures[0].shape[:2] == AnnotatedFrames(result, 160, 120).size[::-1]
    levels = [float(picture[100:300, 100:500].mean()) for picture in pictures]
    np.testing.assert_allclose(np.diff(levels), 8, atol=2)  # in order, none twice
    assert abs(levels[0] - 20) < 10
    assert calls[-1] == (20, 20)
    assert calls == sorted(calls)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ANNOTATED, "clip.mp4"]
    assert out.stat().st_mode & 0o777 == 0o644
    assert capfd.readouterr() == ("", "")


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
def test_a_browser_plays_the_video_and_finds_its_way_in_it(tmp_path: Path) -> None:
    result = result_of([{12: "A"}] * 50, fps=12.5)
    write_annotated(
        str(clip(tmp_path / "clip.mp4", 50)), result, MaskTrack(CELLS), tmp_path / ANNOTATED
    )
    page_file = tmp_path / "page.html"
    page_file.write_text(f'<video id="film" src="{ANNOTATED}" muted></video>')
    executable = find_chromium()
    assert executable is not None

    async def session() -> None:
        async with asyncio.timeout(120), open_page(executable) as page:
            await page.goto(page_file.as_uri())
            await page.until("film.readyState >= 2")
            size = await page.evaluate("[film.duration, film.videoWidth, film.videoHeight]")
            assert size == [4, *AnnotatedFrames(result, 160, 120).size]
            await page.evaluate("void (film.currentTime = 3)")
            await page.until("!film.seeking && film.readyState >= 2")
            await page.evaluate("void film.play()")
            await page.until("film.ended && film.error === null")

    asyncio.run(session())


def test_frames_that_were_not_analysed_are_left_out(tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", 20)
    result = result_of([{}] * 20)
    some = replace(result, rows=result.rows[:6])
    assert write_annotated(str(source), some, MaskTrack(CELLS), tmp_path / ANNOTATED) == 6
    assert len(read(tmp_path / ANNOTATED)[0]) == 6


def test_a_source_that_changed_leaves_no_video(tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", 10)
    old = tmp_path / ANNOTATED
    old.write_bytes(b"an earlier one")
    with pytest.raises(SourceError, match="10 of its 20 frames"):
        write_annotated(str(source), result_of([{}] * 20), MaskTrack(CELLS), old)
    assert old.read_bytes() == b"an earlier one"
    source.unlink()
    with pytest.raises(SourceError, match="does not exist"):
        write_annotated(str(source), result_of([{}] * 20), MaskTrack(CELLS), old)
    assert [path.name for path in tmp_path.iterdir()] == [ANNOTATED]


FULL_DISK = """
import resource
from pathlib import Path
from facestage.core.render.mask_track import MaskTrack
from facestage.core.errors import ConfigError
from facestage.stream.offline.annotate import write_annotated
from tests.core.render.test_annotated import CELLS, result_of
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
try:
    write_annotated(SOURCE, result_of([{}] * 12), MaskTrack(CELLS), Path(OUT))
except ConfigError as error:
    print(error)
"""


def test_a_video_that_broke_off_is_an_error(tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", 12)
    code = FULL_DISK.replace("SOURCE", repr(str(source)))
    code = code.replace("OUT", repr(str(tmp_path / ANNOTATED)))
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert "could not be written" in done.stdout, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_pyav_without_the_codec_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(tmp_path / "clip.mp4", 3)
    monkeypatch.setitem(annotate._CODECS, ".mp4", ("no_such_codec", {}, {}))
    with pytest.raises(ConfigError, match="--annotate-format"):
        write_annotated(str(source), result_of([{}] * 3), MaskTrack(CELLS), tmp_path / ANNOTATED)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("name", NAMES.values())
def test_pictures_keep_the_times_of_a_source_without_a_steady_rate(
    tmp_path: Path, name: str
) -> None:
    source = clip(tmp_path / "clip.mp4", 8)
    times = [5.0, 5.04, 5.3, 5.34, 6.0, 6.001, 7.5, 7.54]
    result = result_of([{12: "A"}] * 8, fps=12.5)
    rows = [replace(row, time_s=time) for row, time in zip(result.rows, times, strict=True)]
    out = tmp_path / name
    write_annotated(str(source), replace(result, rows=tuple(rows)), MaskTrack(CELLS), out)
    with av.open(str(out)) as video:
        stream = video.streams.video[0]
        assert stream.codec_context.name == {".mp4": "h264", ".webm": "vp8"}[out.suffix]
        shown = [frame.time for frame in video.decode(video=0)]
    assert shown == pytest.approx([time - 5.0 for time in times], abs=1.1e-3)


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", 3)
    with pytest.raises(ConfigError, match="could not be written"):
        write_annotated(
            str(source), result_of([{}] * 3), MaskTrack(CELLS), tmp_path / "none" / ANNOTATED
        )


def test_a_result_with_a_video_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "temporal_prototype.json").write_text(
        '{"schema": "facestage/temporal-prototype/1"}'
    )
    (tmp_path / ANNOTATED).write_bytes(b"video")
    (tmp_path / ".annotated-x1_y2z.webm").write_bytes(b"left by a killed run")
    check_output(tmp_path)
    (tmp_path / ".annotated-x1.txt").write_bytes(b"somebody's")
    with pytest.raises(ConfigError, match="annotated-x1"):
        check_output(tmp_path)
