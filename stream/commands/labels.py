"""Labelled faces for ``train`` and ``evaluate``: read, cut out, and what is said about them."""

from __future__ import annotations

import os
from pathlib import Path

from ...core.errors import ConfigError
from ...core.network.au_network import AUNetwork
from ..console import out
from ..datasets.faces import LabelledFaces, merge
from ..datasets.labelled import read_ckplus, read_disfa
from ..datasets.manifest import read_manifest
from ..detectors import make_detector
from ..learning.crops import CropSet, collect_crops, frames_to_search
from ..learning.splits import check_subjects
from ..progress import progress
from .signatures import LabelOptions

__all__ = ["collect", "labelled_faces", "make_folder"]


def make_folder(folder: Path) -> None:
    """Make the folder of the results before the work, which may take hours, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {folder} cannot be made: {error.strerror or error}; name another folder"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"no permission to write to {folder}; name a folder of your own")


def labelled_faces(options: LabelOptions) -> LabelledFaces:
    """Read all labels that the options name, as one set; print what was noticed.

    Raises:
        FacestageError: a file or folder cannot be read, or nothing is labelled.
    """
    parts = [read_manifest(path) for path in options.manifest or ()]
    if options.ckplus is not None:
        parts.append(read_ckplus(options.ckplus))
    if options.disfa is not None:
        parts.append(read_disfa(options.disfa))
    faces = merge(parts)
    check_subjects(faces)
    for note in faces.notes:
        out.print(note, markup=False)
    return faces


def collect(faces: LabelledFaces, network: AUNetwork, detector: str, cache: Path | None) -> CropSet:
    """Find and cut out the labelled faces; print how many and why others were left out."""
    with progress("finding faces", frames_to_search(faces)) as update:
        found = collect_crops(
            faces,
            network,
            make_detector(detector),
            cache,
            on_progress=lambda done, path: update(done, lambda: path.name),
        )
    for line in found.report():
        out.print(line, markup=False)
    return found
