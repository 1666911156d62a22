"""The shelf on a disk gives back what it was given, and uses room again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from facestage.core.errors import ConfigError
from facestage.core.sequence_store import AUMaps, MemoryShelf, Shelf
from facestage.stream.offline.shelf import DiskShelf


@pytest.mark.parametrize("kind", [DiskShelf, MemoryShelf])
def test_pieces_come_back_whatever_was_dropped_between(kind: type[Shelf]) -> None:
    rng = np.random.default_rng(0)
    shelf, kept = kind(), {}
    for n in range(600):
        data = rng.bytes(int(rng.choice([7, 64, 1000])))
        place = shelf.put(data)
        assert place not in kept
        kept[place] = data
        if n % 3 == 2:
            gone = list(kept)[int(rng.integers(len(kept)))]
            shelf.drop(gone)
            del kept[gone]
    assert all(shelf.get(place) == data for place, data in kept.items())
    shelf.clear()
    assert shelf.get(shelf.put(b"again")) == b"again"


def test_room_is_used_again() -> None:
    shelf = DiskShelf()
    places = [shelf.put(bytes([n]) * 50_000) for n in range(20)]
    for _ in range(30):  # as the thinning of maps: half go, as many come
        for n in range(0, 20, 2):
            shelf.drop(places[n])
            places[n] = shelf.put(bytes([n]) * 50_000)
    assert max(place >> 32 for place in places) < 20 * 50_000
    assert [shelf.get(place)[0] for place in places] == list(range(20))


def test_a_folder_that_takes_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="free some space there, or set TMPDIR"):
        DiskShelf().put(b"x")


def test_maps_of_an_au_are_the_same_from_a_disk() -> None:
    rng = np.random.default_rng(1)
    stores = [AUMaps(DiskShelf()), AUMaps(MemoryShelf())]
    maps = rng.normal(size=(40, 8, 8)).astype(np.float32)
    for n, relevance in enumerate(maps):
        for store in stores:
            store.add(n, 1, None if n % 5 == 0 else relevance.ravel()[:16], relevance, 1)
    for store in stores:
        store.thin(4)
        assert list(store.frames) == list(range(40))
        assert list(store.maps) == list(range(0, 40, 4))
        np.testing.assert_array_equal(store.map(12), maps[12])
        valid = [n for n in range(40) if n % 5]
        np.testing.assert_array_equal(
            store.rows().take(np.arange(len(store.rows()))),
            maps[valid].reshape(len(valid), -1)[:, :16],
        )
