"""Maps that are drawn, made by another preset than those that give letters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from facestage.core import lrp
from facestage.core.analyzer import Analyzer
from facestage.core.config import AnalyzerConfig, ExplainConfig
from facestage.core.errors import ConfigError
from facestage.core.network.au_network import AUNetwork
from facestage.core.observer.face_pictures import FacePictures
from facestage.core.types import Frame, FrameResult
from facestage.stream.detectors import HaarDetector
from facestage.stream.sources import open_source

from tests.support.paths import DEMO_CLIP

CONFIG = ExplainConfig(picture_every=4, picture_cosine=0.9)


def unit(*values: float) -> np.ndarray:
    x = np.array(values, np.float32)
    return x / np.linalg.norm(x)


def test_pictures_are_made_anew_after_some_frames() -> None:
    pictures, still = FacePictures(), {12: unit(1, 0)}
    assert [pictures.due(still, CONFIG) for _ in range(9)] == [
        *(True, False, False, False),
        *(True, False, False, False),
        True,
    ]


def test_a_change_of_what_is_compared_is_drawn_at_once() -> None:
    pictures = FacePictures()
    assert pictures.due({12: unit(1, 0)}, CONFIG)
    assert not pictures.due({12: unit(1, 0.1)}, CONFIG)
    assert pictures.due({12: unit(1, 1)}, CONFIG)
    assert pictures.due({12: unit(1, 1), 25: unit(0, 1)}, CONFIG)
    assert not pictures.due({25: unit(0, 1)}, CONFIG)
    assert pictures.due({25: None}, CONFIG)
    assert not pictures.due({25: None}, CONFIG)


def test_nothing_active_needs_no_picture() -> None:
    pictures = FacePictures()
    assert not any(pictures.due({}, CONFIG) for _ in range(9))
    assert pictures.of([]) == {}


def test_another_face_begins_without_pictures() -> None:
    pictures = FacePictures()
    assert pictures.due({12: unit(1, 0)}, CONFIG)
    pictures.keep({12: np.ones((2, 2), np.float32)})
    assert not pictures.due({12: unit(1, 0)}, CONFIG)
    pictures.forget()
    assert pictures.due({12: unit(1, 0)}, CONFIG)


@pytest.fixture(scope="module")
def network() -> AUNetwork:
    return AUNetwork.load(device="cpu")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    with open_source(str(DEMO_CLIP)) as source:
        found = []
        while (grab := source.read()) is not None and len(found) < 115:
            if grab.index >= 60:
                found.append(Frame("clip", grab.index, grab.image, 0, 0.0, grab.index / 30))
            elif grab.index > 100:
                break
    return found[:45]


def analyse(
    network: AUNetwork, frames: list[Frame], at_once: int, **explain: object
) -> list[FrameResult]:
    config = AnalyzerConfig()
    config = replace(config, explain=replace(config.explain, **explain))  # type: ignore[arg-type]
    analyzer = Analyzer(HaarDetector(), network, config)
    batches = [frames[n : n + at_once] for n in range(0, len(frames), at_once)]
    return [result for batch in batches for result in analyzer.update(batch)]


def test_pictures_leave_the_letters_as_they_are(network: AUNetwork, frames: list[Frame]) -> None:
    plain = analyse(network, frames, 1)
    drawn = analyse(network, frames, 1, picture_preset="au_specific")
    assert any(result.maps for result in plain)
    for one, other in zip(plain, drawn, strict=True):
        assert (one.letters, one.stage, one.active) == (other.letters, other.stage, other.active)
        assert one.pictures == {}
        assert other.pictures.keys() == other.maps.keys() == one.maps.keys()
        assert all((one.maps[au] == other.maps[au]).all() for au in one.maps)
    together = analyse(network, frames, 8, picture_preset="au_specific")
    for one, other in zip(drawn, together, strict=True):
        for au, picture in one.pictures.items():
            assert np.allclose(picture, other.pictures[au], atol=1e-5 * np.abs(picture).max())


def test_a_picture_is_of_its_preset_and_at_most_a_few_frames_old(
    network: AUNetwork, frames: list[Frame]
) -> None:
    drawn = analyse(network, frames, 1, picture_preset="au_specific", picture_every=3)
    made: list[int] = []
    for number, result in enumerate(drawn):
        if not result.maps:
            continue
        assert result.face.crop is not None
        x = network.prepare(result.face.crop[None])
        pairs = [(0, network.card.aus.index(au)) for au in sorted(result.maps)]
        exact = lrp.explain(network.logits_module, x, pairs, "au_specific").numpy()
        shown = np.stack([result.drawn[au] for au in sorted(result.maps)])
        if np.allclose(exact, shown, atol=1e-4 * np.abs(exact).max()):
            made.append(number)
    active = [number for number, result in enumerate(drawn) if result.maps]
    assert made
    assert made[0] == active[0]
    assert len(made) < len(active)
    assert max(np.diff(made)) <= 3


def test_an_unknown_preset_is_refused_at_the_start(network: AUNetwork) -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        analyse(network, [], 1, picture_preset="nonsense")
