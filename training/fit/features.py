"""What the trunk of a network makes of views, kept on disk: a read-out is then tried in a minute.

One view of every face (or several, one round after another), in the order of
:meth:`~training.data.loader.ViewLoader.once`. Work that was broken off goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facestage.core.errors import ConfigError, SourceError
from facestage.core.network.architectures import AUNet96
from facestage.stream.learning.trainer import TrainConfig, normalise
from numpy.typing import NDArray

from ..data.loader import ViewBatch, ViewLoader
from ..face.facs import AUS

__all__ = [
    "BATCH",
    "HELD_OUT",
    "PORTRAITS",
    "TRAIN",
    "Features",
    "Kind",
    "digest_of",
    "gather",
]

BATCH = 64
"""Views that pass the trunk together."""
_SAVED_EVERY = 50
"""Batches between two notes of how far the work is."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of views, with their labels.

    Attributes:
        features: ``(N, F)`` float16, what the hidden units of the network choose from.
        intensity: ``(N, 23)`` float32, FACS 0–5, NaN where not labelled.
    """

    features: NDArray[np.float16]
    intensity: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, slots=True)
class Kind:
    """Which views, and under which name their features are kept.

    Attributes:
        name: of the files.
        held_out: of held-out identities instead of those to train on.
        rounds: how often each face is seen, each time in another view.
    """

    name: str
    held_out: bool = False
    rounds: int = 1


TRAIN, HELD_OUT = Kind("train"), Kind("held_out", held_out=True)
PORTRAITS = Kind("portraits", rounds=24)
"""Few pictures, so each is seen often."""


def digest_of(net: AUNet96) -> str:
    """Return 16 hex digits that change with any weight of a network."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        if value.is_floating_point():
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def gather(
    folder: Path,
    net: AUNet96,
    loader: ViewLoader,
    views: int,
    *,
    kind: Kind = TRAIN,
    report: Callable[[int, int], None] = lambda *_: None,
) -> Features:
    """Run the trunk over views of each face, or take what an earlier call kept.

    Args:
        folder: where it is kept.
        net: the network, in eval mode.
        loader: makes the views, :data:`BATCH` at a time.
        views: how many to make; those of all faces and rounds if that is fewer.
        kind: which views.
        report: called after each batch with the number of views there are, and that asked for.

    Returns:
        The first ``views`` of the order.

    Raises:
        ConfigError: the folder holds features of another network, or of other views.
        SourceError: there are no such faces, or a file cannot be read or written.
    """
    faces = (loader.held_out if kind.held_out else loader.faces) * kind.rounds
    wanted = min(views, faces)
    if not wanted:
        raise SourceError("the shards hold no such face; render more identities")
    facts = {"network": digest_of(net), "seed": loader.seed, "faces": faces}
    stem = folder / kind.name
    note = stem.with_suffix(".json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = _done(note, facts)
        if kind.rounds > 1 and done < wanted:
            done = 0  # a round may end within a batch; few pictures are soon made again
        columns = net.hidden.in_features
        mode = "r+" if done else "w+"
        features = _array(stem, "features", mode, np.float16, (faces, columns))
        intensity = _array(stem, "intensity", mode, np.float32, (faces, len(AUS)))
        normalisation = TrainConfig(total_views=1).normalisation
        with torch.inference_mode():
            for count, batch in enumerate(_batches(loader, kind, done)):
                if done >= wanted:
                    break
                crops = normalise(torch.from_numpy(batch.image), normalisation)
                span = slice(done, done + len(crops))
                features[span] = net.features(crops).flatten(1).numpy()
                intensity[span] = batch.intensity
                done = span.stop
                report(min(done, wanted), wanted)
                if count % _SAVED_EVERY == 0 or done >= wanted:
                    features.flush()
                    intensity.flush()
                    _write(note, facts | {"done": done})
    except (OSError, ValueError) as error:
        raise SourceError(
            f"features cannot be kept in {folder}: {error}; give another folder, or delete this one"
        ) from error
    return Features(features[:wanted], intensity[:wanted])


def _batches(loader: ViewLoader, kind: Kind, done: int) -> Iterator[ViewBatch]:
    """Make the batches after the first ``done`` views, round after round."""
    faces = loader.held_out if kind.held_out else loader.faces
    start, within = divmod(done, faces)
    for again in range(start, kind.rounds):
        skip = within // BATCH if again == start else 0
        yield from loader.once(held_out=kind.held_out, skip=skip, again=again)


def _done(note: Path, facts: dict[str, Any]) -> int:
    """Return how many views are there, in whole batches; 0 without a note."""
    if not note.is_file():
        return 0
    noted = json.loads(note.read_text(encoding="utf-8"))
    if {key: noted.get(key) for key in facts} != facts:
        raise ConfigError(
            f"{note.parent} holds features of network {noted.get('network')}, seed "
            f"{noted.get('seed')}, {noted.get('faces')} faces; asked for are {facts['network']}, "
            f"{facts['seed']}, {facts['faces']}: give another folder"
        )
    whole = noted["done"] == noted["faces"]
    return int(noted["done"]) if whole else int(noted["done"]) // BATCH * BATCH


def _array(
    stem: Path, name: str, mode: Any, kind: type[np.generic], shape: tuple[int, ...]
) -> np.memmap:
    path = stem.with_name(f"{stem.name}-{name}.npy")
    if mode == "r+":
        return np.lib.format.open_memmap(path, mode)
    return np.lib.format.open_memmap(path, mode, kind, shape)


def _write(path: Path, facts: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}-{os.getpid()}.partial")
    temporary.write_text(json.dumps(facts), encoding="utf-8")
    temporary.replace(path)
