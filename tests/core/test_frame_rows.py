"""Rows in columns: what goes in comes out, whatever is missing, and nothing changes later."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from facestage.core.sequence_store import FrameRows
from facestage.core.types import BaselineState, FaceState, FrameRow, HeadPose


def row(n: int, *, vectors: int = 0b1111, labels: dict[int, str] | None = None) -> FrameRow:
    rng = np.random.default_rng(n)
    presence, intensity, adjusted, adjusted_intensity = (
        rng.random(5, np.float32) if vectors >> k & 1 else None for k in range(4)
    )
    return FrameRow(
        index=3 * n,
        time_s=n / 25,
        face=list(FaceState)[n % 4],
        presence=presence,
        intensity=intensity,
        labels=labels or {},
        baseline=list(BaselineState)[n % 3],
        adjusted_presence=adjusted,
        adjusted_intensity=adjusted_intensity,
        rest_s=0.1 * n,
        rest_prior=1 / (n + 1),
        pose=HeadPose(yaw=-n / 3, pitch=n / 7, roll=0.0) if n % 3 else None,
        face_id=n // 2 or None,
    )


def values(one: FrameRow) -> tuple[object, ...]:
    vectors = (one.presence, one.intensity, one.adjusted_presence, one.adjusted_intensity)
    return (
        one.index, one.time_s, one.face, one.labels, one.baseline, one.rest_s, one.rest_prior,
        one.pose, one.face_id, *(None if vector is None else vector.tolist() for vector in vectors),
    )  # fmt: skip


def filled(count: int = 16) -> tuple[FrameRows, list[FrameRow]]:
    given = [row(n, vectors=n, labels={4: "", 12: ""} if n % 3 else {}) for n in range(count)]
    rows = FrameRows()
    for one in given:
        rows.append(one)
    return rows, given


def test_every_row_comes_back_with_what_it_has_and_lacks() -> None:
    rows, given = filled()
    assert len(rows) == len(given)
    assert [values(one) for one in rows] == [values(one) for one in given]
    assert values(rows[-1]) == values(given[-1])
    assert [values(one) for one in rows[2:9:3]] == [values(one) for one in given[2:9:3]]
    assert all(one.presence is None or one.presence.dtype == np.float32 for one in rows)


def test_an_index_beyond_the_end_is_an_error() -> None:
    rows, _ = filled(3)
    for at in (3, -4):
        with pytest.raises(IndexError):
            rows[at]


def test_labels_are_replaced_and_the_rest_stays() -> None:
    rows, given = filled()
    labels = [dict.fromkeys(one.labels, "AB"[n % 2]) for n, one in enumerate(given)]
    labelled = rows.labelled(labels)
    assert [one.labels for one in labelled] == labels
    assert [one.labels for one in rows] == [one.labels for one in given]
    assert [values(one)[4:] for one in labelled] == [values(one)[4:] for one in given]


def test_a_row_that_is_changed_changes_no_other() -> None:
    rows, _ = filled()
    rows[1].labels[12] = "X"
    presence = rows[1].presence
    assert presence is not None
    presence[:] = 7
    again = rows[1]
    assert again.labels == {4: "", 12: ""}
    assert again.presence is not None
    assert again.presence.max() < 1


def test_what_is_added_later_is_not_in_a_result() -> None:
    rows, given = filled()
    labelled = rows.labelled([one.labels for one in given])
    rows.append(row(99))
    assert len(labelled) == len(given)
    assert values(labelled[-1]) == values(given[-1])
    assert len(list(labelled)) == len(given)


def test_rows_can_be_handed_to_another_process() -> None:
    rows, given = filled()
    again = pickle.loads(pickle.dumps(rows))
    assert [values(one) for one in again] == [values(one) for one in given]
