"""Files that facestage may not ship and fetches when the user asks: where, which, how checked.

The cache is ``$FACESTAGE_CACHE``, else ``$XDG_CACHE_HOME/facestage``, else ``~/.cache/facestage``.
Nothing is ever fetched without a call of :func:`pull`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Protocol

from ..core.errors import ModelError

__all__ = [
    "MODELS",
    "ModelFile",
    "ModelStatus",
    "cache_dir",
    "find",
    "list_models",
    "path_of",
    "pull",
    "sha256_of",
    "verify",
]

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 30.0
_NOWHERE = "/nonexistent"  # what Debian gives as the home of those who have none


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file that can be pulled.

    Attributes:
        name: what the user calls it.
        filename: its name in the cache.
        urls: where it is, tried in order.
        sha256: hexadecimal digest of its bytes.
        size: its length, bytes.
        licence: SPDX identifier.
        purpose: one line for the user.
    """

    name: str
    filename: str
    urls: tuple[str, ...]
    sha256: str
    size: int
    licence: str
    purpose: str


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A pullable file and what the cache holds of it: ``"ready"``, ``"absent"``, ``"damaged"``."""

    file: ModelFile
    path: Path
    state: str


_YUNET_PATH = "main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx"

MODELS: Mapping[str, ModelFile] = {
    "yunet": ModelFile(
        name="yunet",
        filename="face_detection_yunet_2023mar.onnx",
        urls=(
            # Git LFS: the first address serves the file itself, the second redirects to it.
            f"https://media.githubusercontent.com/media/opencv/opencv_zoo/{_YUNET_PATH}",
            f"https://github.com/opencv/opencv_zoo/raw/{_YUNET_PATH}",
        ),
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        size=232_589,
        licence="MIT",
        purpose="YuNet face detector with five points, from the OpenCV zoo",
    ),
}


class _Response(Protocol):
    def read(self, amount: int, /) -> bytes: ...


Opener = Callable[[str], AbstractContextManager[_Response]]


def _open_url(url: str) -> AbstractContextManager[_Response]:
    request = urllib.request.Request(url, headers={"User-Agent": "facestage"})
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)


def cache_dir() -> Path:
    """Return the folder of fetched files; it need not exist.

    A user without a home, as in a container, has none until the environment names one.
    """
    if chosen := os.environ.get("FACESTAGE_CACHE"):
        return Path(os.path.expanduser(chosen))
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "facestage"
    home = os.path.expanduser("~")
    return Path(_NOWHERE if home == "~" else home) / ".cache" / "facestage"


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes.

    Raises:
        ModelError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error}; check the path and its rights") from error
    return digest.hexdigest()


def find(name: str, *, models: Mapping[str, ModelFile] = MODELS) -> Path | None:
    """Return where a pullable file is, or None if this user cannot find it in the cache.

    Raises:
        ModelError: no such name.
    """
    path = path_of(name, models=models)
    return path if os.path.isfile(path) else None  # unlike Path, no error without permission


def path_of(name: str, *, models: Mapping[str, ModelFile] = MODELS) -> Path:
    """Return where a pullable file is in the cache, present or not.

    Raises:
        ModelError: no such name.
    """
    return cache_dir() / _entry(name, models).filename


def verify(name: str, *, models: Mapping[str, ModelFile] = MODELS) -> Path:
    """Return the path of a cached file after checking every byte of it.

    Raises:
        ModelError: no such name, not in the cache, or not the file it should be.
    """
    entry = _entry(name, models)
    path = path_of(name, models=models)
    if not os.path.isfile(path):
        raise ModelError(
            f"{name} is not in the cache ({path}): run `facestage models pull {name}`, "
            + _by_hand(entry, path)
        )
    digest = sha256_of(path)
    if digest != entry.sha256:
        raise ModelError(
            f"{path} is damaged or another file: sha256 {digest}, expected {entry.sha256}; "
            f"delete it and run `facestage models pull {name}`"
        )
    return path


def list_models(*, models: Mapping[str, ModelFile] = MODELS) -> list[ModelStatus]:
    """Return every pullable file with what the cache holds of it, by name."""
    states = []
    for name in sorted(models):
        path = path_of(name, models=models)
        if not os.path.isfile(path):
            state = "absent"
        else:
            state = "ready" if sha256_of(path) == models[name].sha256 else "damaged"
        states.append(ModelStatus(models[name], path, state))
    return states


def pull(
    name: str, *, opener: Opener = _open_url, models: Mapping[str, ModelFile] = MODELS
) -> Path:
    """Fetch a file into the cache unless it is there already, and return its path.

    The download goes to a temporary file beside the target, is checked for size and sha256, and
    only then renamed, so the cache never holds a part of a file under the real name.

    Args:
        name: one of ``models``.
        opener: opens an address for reading; raises OSError where it cannot.
        models: the registry.

    Raises:
        ModelError: no such name, no address reachable, or no address gave the right bytes; the
            message says how to put the file there by hand.
    """
    entry = _entry(name, models)
    target = path_of(name, models=models)
    if os.path.isfile(target) and sha256_of(target) == entry.sha256:
        return target
    if target.is_relative_to(_NOWHERE):
        raise ModelError(
            "this user has no home folder to keep models in; name a folder with FACESTAGE_CACHE"
        )
    failures = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary_name = tempfile.mkstemp(prefix=f".{entry.filename}.", dir=target.parent)
    except OSError as error:
        raise ModelError(
            f"cannot write to the cache {target.parent}: {error}; "
            "choose another folder with FACESTAGE_CACHE"
        ) from error
    os.close(handle)
    temporary = Path(temporary_name)
    try:
        for url in entry.urls:
            try:
                _download(url, temporary, entry, opener)
            # URLError is an OSError; HTTPException, an answer that breaks off, is not.
            except (OSError, HTTPException, _WrongFileError) as error:
                log.info("could not fetch %s from %s: %s", name, url, error)
                failures.append(f"{url}: {error}")
                continue
            temporary.chmod(0o644)
            temporary.replace(target)
            return target
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    raise ModelError(
        f"could not fetch {name} ({'; '.join(failures)}): check the connection and try again, "
        + _by_hand(entry, target)
    )


class _WrongFileError(Exception):
    """An address answered with other bytes than expected."""


def _download(url: str, target: Path, entry: ModelFile, opener: Opener) -> None:
    digest, length = hashlib.sha256(), 0
    with opener(url) as answer, target.open("wb") as file:
        while chunk := answer.read(_CHUNK_BYTES):
            length += len(chunk)
            if length > entry.size:
                raise _WrongFileError(f"more than the expected {entry.size} bytes")
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if length != entry.size:
        raise _WrongFileError(f"{length} bytes instead of {entry.size}")
    if digest.hexdigest() != entry.sha256:
        raise _WrongFileError(f"sha256 {digest.hexdigest()} instead of {entry.sha256}")


def _entry(name: str, models: Mapping[str, ModelFile]) -> ModelFile:
    try:
        return models[name]
    except KeyError:
        raise ModelError(f"no model is called {name!r}; there is {', '.join(models)}") from None


def _by_hand(entry: ModelFile, path: Path) -> str:
    return f"or download {entry.urls[0]} by hand and save it as {path}"
