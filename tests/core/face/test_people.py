"""Who is who: painted people who cross, hide, come and go; rendered ones with the truth."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from facestage.core.config import FollowConfig
from facestage.core.errors import ConfigError
from facestage.core.face.looks import MOST_LOOKS, Looks, describe
from facestage.core.face.people import People
from facestage.core.types import FaceObservation, FaceState

from tests.support.painted_faces import (
    Room,
    Seen,
    at,
    crop_of,
    find_marks,
    make_tracker,
    paint,
    whose,
)

A, B, C, D = range(4)


class Stage:
    """Shows pictures to what follows faces, and says whose faces were analysed."""

    def __init__(self, **config: object) -> None:
        self.room = Room()
        self.people = People(
            self.room,
            find_marks,
            make_tracker,
            FollowConfig(**config),  # type: ignore[arg-type]
        )
        self.faces: list[FaceObservation] = []

    def show(self, *people: Seen, scene: int = 0) -> list[int | None]:
        """Show one picture, the last person in front; return who is analysed in each place."""
        self.room.people = people
        self.faces = self.people.update(paint(*people, scene=scene))
        return [whose(f.points if f.crop is not None else None, people) for f in self.faces]

    def hold(self, frames: int, *people: Seen, scene: int = 0) -> list[int | None]:
        """Show the same people for a while; return whom the first place analysed in each frame."""
        return [self.show(*people, scene=scene)[0] for _ in range(frames)]

    @property
    def id(self) -> int | None:
        return self.faces[0].id


def walk(start: float, end: float, steps: int) -> Iterator[float]:
    return iter(np.linspace(start, end, steps).tolist())


def test_looks_tell_people_apart_and_remember_the_new_ones() -> None:
    looks = Looks()
    faces = [describe(crop_of(at(who, 300))) for who in (A, B, C, D)]
    assert looks.likeness(faces[0]) == -1
    looks.add(faces[0])
    assert looks.likeness(faces[0]) == pytest.approx(1, abs=1e-5)
    assert max(looks.likeness(other) for other in faces[1:]) < FollowConfig().unlike
    for _ in range(3):
        looks.add(faces[0])
    assert len(looks) == 1
    rng = np.random.default_rng(0)
    for _ in range(3 * MOST_LOOKS):
        looks.add(describe(rng.integers(0, 255, (96, 96), dtype=np.uint8)))
    assert len(looks) == MOST_LOOKS
    assert looks.likeness(faces[0]) == pytest.approx(1, abs=1e-5)  # the first stays


def test_looks_that_were_another_persons_are_forgotten() -> None:
    looks = Looks()
    own, other = (describe(crop_of(at(who, 300))) for who in (A, B))
    looks.add(own)
    looks.add(other)
    looks.forget(other)
    assert len(looks) == 1
    assert looks.likeness(own) == pytest.approx(1, abs=1e-5)


def test_a_face_that_is_said_to_be_anothers_has_another_number() -> None:
    stage = Stage()
    stage.hold(20, at(A, 300))
    face, people = stage.faces[0], stage.people
    man, woman = crop_of(at(A, 300)), crop_of(at(B, 300))
    assert people.another(0, replace(face, crop=woman)).id == 2
    assert people.likeness(0, man) < FollowConfig().unlike
    assert people.another(0, replace(face, crop=man)).id == 1  # known again
    assert people.another(0, replace(face, crop=crop_of(at(C, 300)))).id == 3


def test_where_one_number_is_asked_for_nobody_else_is_followed_in_its_place() -> None:
    stage = Stage(follow="1")
    stage.hold(20, at(A, 300))
    other = stage.people.another(0, replace(stage.faces[0], crop=crop_of(at(B, 300))))
    assert (other.state, other.crop, other.id) == (FaceState.LOST, None, None)
    assert stage.hold(20, at(A, 300))[-1] == A
    assert stage.id == 1


def test_the_one_followed_stays_though_a_larger_one_comes() -> None:
    stage = Stage()
    assert set(stage.hold(20, at(A, 180))) == {A}
    seen = stage.hold(60, at(A, 180), at(B, 450, eyes=85))
    assert set(seen) == {A}
    assert stage.id == 1
    assert stage.faces[0].state == FaceState.MULTIPLE


@pytest.mark.parametrize("eyes", [45, 60, 80])
def test_a_face_that_passes_in_front_is_never_taken_for_the_one_followed(eyes: float) -> None:
    stage = Stage()
    stage.hold(20, at(A, 300))
    seen = [stage.show(at(A, 300), at(B, x, eyes=eyes))[0] for x in walk(40, 600, 90)]
    seen += stage.hold(20, at(A, 300), at(B, 600, eyes=eyes))
    assert set(seen) <= {A, None}
    assert seen.count(A) > len(seen) / 3  # a large head hides long
    assert seen[-1] == A
    assert stage.id == 1


def test_two_who_walk_across_each_other_keep_their_numbers() -> None:
    stage = Stage(faces=2)
    ids: set[tuple[int | None, int | None]] = set()
    both = []
    for step, x in enumerate(walk(120, 520, 120)):
        people = at(A, x), at(B, 640 - x, eyes=66)
        both.append(stage.show(*people))
        if step > 10:
            for place, who in enumerate(both[-1]):
                if who is not None:
                    ids.add((who, stage.faces[place].id))
    assert len(ids) == 2, ids
    assert {number for _, number in ids} == {1, 2}
    assert {tuple(pair) for pair in both[-5:]} == {(B, A)} or {tuple(p) for p in both[-5:]} == {
        (A, B)
    }
    # Each place is one person's, whoever is in front.
    for place in (0, 1):
        assert len({pair[place] for pair in both} - {None}) == 1


def test_a_companion_is_followed_only_after_a_long_absence_and_has_a_number_of_their_own() -> None:
    stage = Stage(companion_after=80, stranger_after=20)
    stage.hold(20, at(A, 200))
    stage.hold(40, at(A, 200), at(B, 450))
    seen = stage.hold(120, at(B, 450))
    assert set(seen[:78]) == {None}
    assert set(seen[85:]) == {B}
    assert stage.id == 2
    # A comes back while B is followed: B stays.
    assert set(stage.hold(40, at(A, 200), at(B, 450))) == {B}
    # B goes; A is a companion now, and still is number 1.
    stage.hold(90, at(A, 200))
    assert stage.id == 1


def test_a_stranger_who_comes_when_the_other_has_gone_is_followed_sooner() -> None:
    stage = Stage(stranger_after=30)
    stage.hold(20, at(A, 200))
    assert set(stage.hold(10)) == {None}
    seen = stage.hold(40, at(B, 420))
    assert set(seen[:15]) == {None}
    assert seen[-1] == B
    assert stage.id == 2


def test_a_cut_to_another_person_costs_no_frame_and_back_again_they_are_known() -> None:
    stage = Stage()
    stage.hold(20, at(A, 200))
    assert stage.show(at(B, 260), scene=7) == [B]
    assert stage.id == 2
    stage.hold(20, at(B, 260), scene=7)
    assert stage.show(at(A, 200)) == [A]
    assert stage.id == 1
    assert stage.show(at(C, 300), scene=9) == [C]
    assert stage.id == 3


def test_whoever_returns_to_the_picture_has_the_number_they_had() -> None:
    stage = Stage()
    stage.hold(20, at(A, 200))
    stage.hold(100)
    assert stage.hold(3, at(A, 480, eyes=75))[-1] == A
    assert stage.id == 1


@pytest.mark.parametrize(
    ("follow", "who"), [("largest", B), ("centre", A), ("first", B), ("1", B), ("2", A)]
)
def test_who_is_followed_first(follow: str, who: int) -> None:
    stage = Stage(follow=follow)
    people = at(A, 330, eyes=50), at(B, 120, eyes=70)
    assert stage.hold(6, *people)[-1] == who


def test_a_person_of_a_number_is_waited_for_and_nobody_else_is_followed() -> None:
    stage = Stage(follow="2", stranger_after=10, companion_after=10)
    assert set(stage.hold(30, at(A, 200))) == {None}
    assert stage.hold(30, at(A, 200), at(B, 450))[-1] == B
    assert stage.id == 2
    assert set(stage.hold(40, at(A, 200))) == {None}
    assert stage.hold(4, at(A, 200), at(B, 450))[-1] == B


def test_each_of_several_faces_has_a_place_and_one_look_serves_all() -> None:
    stage = Stage(faces=3)
    people = at(A, 110, eyes=50), at(B, 320, eyes=60), at(C, 530, eyes=55)
    for _ in range(8):
        stage.show(*people)
    numbers = [face.id for face in stage.faces]
    assert numbers[0] == 1
    assert set(numbers) == {1, 2, 3}
    assert [whose(f.points, people) for f in stage.faces] == [B, C, A]  # by size
    before = stage.room.calls
    for _ in range(30):
        stage.show(*people)
    # Every 15 frames, or every fourth while somebody is near; never once a face.
    assert stage.room.calls - before <= 10
    # One goes, and comes back to their place under their number.
    for _ in range(40):
        seen = stage.show(people[0], people[2])
    assert seen == [None, C, A]
    for _ in range(8):
        seen = stage.show(*people)
    assert seen == [B, C, A]
    assert [face.id for face in stage.faces] == numbers


def test_a_place_goes_to_a_stranger_only_when_no_other_is_free_and_a_number_is_not_used_again() -> (
    None
):
    stage = Stage(faces=2, stranger_after=20)
    for _ in range(8):
        stage.show(at(A, 150), at(B, 450, eyes=55))
    for _ in range(10):
        stage.show(at(A, 150))
    for _ in range(60):
        seen = stage.show(at(A, 150), at(C, 450, eyes=55))
    assert seen == [A, C]
    assert [face.id for face in stage.faces] == [1, 3]


def test_thirty_faces_are_no_trouble() -> None:
    stage = Stage(faces=2)
    crowd = [at(n % 4, 60 + 58 * (n % 10), 60 + 110 * (n // 10), eyes=18) for n in range(30)]
    for _ in range(12):
        stage.show(*crowd)
    assert all(face.state == FaceState.MULTIPLE for face in stage.faces)
    assert len({face.id for face in stage.faces}) == 2


def test_state_survives_pickling() -> None:
    stage = Stage(faces=2)
    path = list(walk(120, 520, 60))
    for x in path[:30]:
        stage.show(at(A, x), at(B, 640 - x, eyes=66))
    restored = pickle.loads(pickle.dumps(stage.people))
    picture = paint(at(A, path[30]))
    with pytest.raises(ConfigError, match="attach"):
        restored.update(picture)
    twin = Room()
    restored.attach(twin, find_marks)
    for x in path[30:]:
        people = at(A, x), at(B, 640 - x, eyes=66)
        stage.show(*people)
        twin.people = people
        for one, other in zip(stage.faces, restored.update(paint(*people)), strict=True):
            assert (one.state, one.id) == (other.state, other.id)
            np.testing.assert_array_equal(one.points, other.points)


def test_landmarks_searched_beforehand_change_nothing() -> None:
    alone, together = Stage(faces=2), Stage(faces=2)
    for x in walk(120, 520, 40):
        people = at(A, x), at(B, 640 - x, eyes=66)
        alone.show(*people)
        together.room.people = people
        image = paint(*people)
        crops = together.people.foresee(image)
        points = [None if crop is None else find_marks(crop[None])[0] for crop in crops]
        for one, other in zip(alone.faces, together.people.update(image, points), strict=True):
            assert (one.state, one.id) == (other.state, other.id)
            np.testing.assert_array_equal(one.points, other.points)


@pytest.mark.parametrize("config", [{"follow": "nearest"}, {"follow": "0"}, {"follow": "-1"}])
def test_nobody_is_followed_by_an_unknown_choice(config: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="use one of largest, centre, first"):
        Stage(**config)


@pytest.mark.parametrize("faces", [0, 17])
def test_a_number_of_faces_that_is_not_possible(faces: int) -> None:
    with pytest.raises(ConfigError, match="use 1 to 16"):
        Stage(faces=faces)


@pytest.mark.shared
def test_rendered_people_who_cross_are_never_taken_for_each_other(shared: Path) -> None:
    from benchmarks import crossings

    found = crossings.measure(scene=0, fps=7.5)
    assert found["swapped"] == 0
    assert found["analysed"] >= 0.95 * found["wanted"]
    assert found["numbers"] == [1]
