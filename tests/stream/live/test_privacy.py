"""What pages see of a person is what the server was told, and no more."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError
from facestage.core.render.veils import BLURRED_FACE
from facestage.core.types import FaceObservation, FaceState
from facestage.stream.live.privacy import LEVELS, Privacy
from numpy.typing import NDArray

SIDE = 96


def portrait(seed: int) -> NDArray[np.uint8]:
    """Return a picture full of detail, 320 x 240."""
    return np.random.default_rng(seed).integers(0, 255, (240, 320, 3), np.uint8)


def face(x: float = 110.0, width: float = 100.0) -> FaceObservation:
    scale = SIDE / width
    return FaceObservation(
        FaceState.TRACKED,
        box=(x, 60.0, width, 120.0),
        points=np.array(
            [(x + 30, 100), (x + 70, 100), (x + 50, 120), (x + 35, 145), (x + 65, 145)], np.float32
        ),
        matrix=np.array([(scale, 0, -x * scale), (0, scale, -60 * scale)], np.float32),
        crop=np.zeros((SIDE, SIDE), np.uint8),
    )


def detail(image: NDArray[np.uint8]) -> float:
    """Return how much there is in a picture beyond what a face of ten pixels can hold."""
    few = (round(image.shape[1] / 10), round(image.shape[0] / 10))
    coarse = cv2.resize(cv2.resize(image, few, interpolation=cv2.INTER_AREA), image.shape[1::-1])
    return float(np.abs(image.astype(float) - coarse).mean())


def test_a_picture_is_sent_as_it_is_unless_told_otherwise() -> None:
    image, crop = portrait(0), portrait(1)[:SIDE, :SIDE, 0]
    assert Privacy().picture(image, [face()]) is image
    assert Privacy().crop(crop) is crop


@pytest.mark.parametrize("faces", [[face()], [face(10.0, 40.0), face()], []])
def test_a_blurred_picture_keeps_no_detail_of_a_face(faces: list[FaceObservation]) -> None:
    image = portrait(0)
    shown = Privacy("blur").picture(image, faces)
    assert shown is not None
    assert shown.shape == image.shape
    widest = max([100.0 * bool(faces), 0.3 * 320])
    assert widest > BLURRED_FACE * 9
    assert detail(shown) < 0.25 * detail(image)
    # Noise of single pixels is gone, the mean is not.
    assert abs(float(shown.mean()) - float(image.mean())) < 3
    assert shown.std() < 0.25 * image.std()


def test_an_outline_is_the_same_for_everybody_in_the_same_place() -> None:
    privacy = Privacy("outline")
    one = privacy.picture(portrait(0), [face()])
    other = privacy.picture(portrait(1), [face()])
    moved = privacy.picture(portrait(0), [face(150.0)])
    empty = privacy.picture(portrait(0), [FaceObservation(FaceState.LOST)])
    assert one is not None
    assert other is not None
    assert moved is not None
    assert empty is not None
    np.testing.assert_array_equal(one, other)
    assert (one != moved).any()
    assert len(np.unique(empty.reshape(-1, 3), axis=0)) == 1
    drawn = np.argwhere((one != empty).any(axis=2))
    assert drawn.min(axis=0) == pytest.approx([65, 122], abs=8)  # the oval lies on the face


def test_crops_of_prototypes_follow_the_level() -> None:
    crop = portrait(1)[:SIDE, :SIDE, 0].copy()
    blurred = Privacy("blur").crop(crop)
    assert blurred is not None
    assert blurred.std() < 0.3 * crop.std()
    assert Privacy("outline").crop(crop) is None
    assert Privacy("none").crop(crop) is None
    assert Privacy("none").picture(portrait(0), [face()]) is None


def test_folders_are_not_told() -> None:
    privacy = Privacy(names={"/data/Jane Doe/take.mp4": "take.mp4"})
    assert privacy.text("/data/Jane Doe/take.mp4 broke off") == "take.mp4 broke off"


def test_a_level_that_is_none_is_refused() -> None:
    assert LEVELS == ("picture", "blur", "outline", "none")
    with pytest.raises(ConfigError, match="picture, blur, outline, none"):
        Privacy("pixelated")  # type: ignore[arg-type]
