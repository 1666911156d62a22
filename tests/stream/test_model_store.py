"""The cache of fetched files, against a real HTTP server on this machine."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from facestage.core.errors import ModelError
from facestage.stream import model_store
from facestage.stream.model_store import ModelFile, list_models, path_of, pull, verify

GOOD = bytes(range(256)) * 700  # longer than one read
EVIL = GOOD[:-1] + b"!"


class Handler(BaseHTTPRequestHandler):
    """Serves /good, /evil (right length, wrong bytes), /short, /long, /cut (breaks off)."""

    def do_GET(self) -> None:
        bodies = {"/good": GOOD, "/evil": EVIL, "/short": GOOD[:100], "/long": GOOD * 2}
        if self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(GOOD)))
            self.end_headers()
            self.wfile.write(GOOD[: len(GOOD) // 2])
            return
        if self.path not in bodies:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(bodies[self.path])))
        self.end_headers()
        self.wfile.write(bodies[self.path])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache" / "deep"
    monkeypatch.setenv("FACESTAGE_CACHE", str(folder))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder


def registry(*urls: str) -> dict[str, ModelFile]:
    digest = hashlib.sha256(GOOD).hexdigest()
    return {"toy": ModelFile("toy", "toy.onnx", urls, digest, len(GOOD), "MIT", "a toy")}


def test_pull_fetches_checks_and_keeps(base: str, cache: Path) -> None:
    models = registry(f"{base}/good")
    assert [s.state for s in list_models(models=models)] == ["absent"]
    path = pull("toy", models=models)
    assert path == cache / "toy.onnx"
    assert path.read_bytes() == GOOD
    assert [p.name for p in cache.iterdir()] == ["toy.onnx"]
    assert path.stat().st_mode & 0o777 == 0o644
    assert verify("toy", models=models) == path
    assert [s.state for s in list_models(models=models)] == ["ready"]


def test_pull_does_not_fetch_what_is_there(base: str) -> None:
    models = registry(f"{base}/good")
    pull("toy", models=models)

    def never(url: str) -> object:
        raise AssertionError(f"fetched {url} again")

    pull("toy", opener=never, models=models)  # type: ignore[arg-type]


def test_pull_replaces_a_damaged_file(base: str, cache: Path) -> None:
    models = registry(f"{base}/good")
    cache.mkdir(parents=True)
    (cache / "toy.onnx").write_bytes(EVIL)
    assert [s.state for s in list_models(models=models)] == ["damaged"]
    with pytest.raises(ModelError, match=r"damaged.*models pull toy"):
        verify("toy", models=models)
    assert pull("toy", models=models).read_bytes() == GOOD


def test_pull_tries_the_next_address(base: str) -> None:
    models = registry(f"{base}/missing", f"{base}/evil", f"{base}/good")
    assert pull("toy", models=models).read_bytes() == GOOD


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/evil", "sha256"),
        ("/short", "100 bytes instead of"),
        ("/long", "more than the expected"),
        ("/cut", "IncompleteRead|bytes instead of"),
        ("/missing", "404"),
        (None, "refused"),
    ],
)
def test_a_failed_pull_leaves_nothing(base: str, cache: Path, path: str | None, why: str) -> None:
    url = f"{base}{path}" if path else f"http://127.0.0.1:{free_port()}/good"
    with pytest.raises(ModelError, match=why) as caught:
        pull("toy", models=registry(url))
    assert str(cache / "toy.onnx") in str(caught.value)  # where to put it by hand
    assert "by hand" in str(caught.value)
    assert caught.value.exit_code == 5
    assert list(cache.iterdir()) == []


def test_a_failed_pull_keeps_the_file_that_was_there(base: str, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "toy.onnx").write_bytes(EVIL)
    with pytest.raises(ModelError):
        pull("toy", models=registry(f"{base}/short"))
    assert [(p.name, p.read_bytes()) for p in cache.iterdir()] == [("toy.onnx", EVIL)]


def test_an_interrupted_pull_leaves_nothing(base: str, cache: Path) -> None:
    class Breaking:
        def __enter__(self) -> Breaking:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read(self, amount: int, /) -> bytes:
            if (cache / "toy.onnx").exists():
                raise AssertionError("a part was visible under the real name")
            self.reads = getattr(self, "reads", 0) + 1
            if self.reads > 1:
                raise KeyboardInterrupt
            return GOOD[:amount]

    with pytest.raises(KeyboardInterrupt):
        pull("toy", opener=lambda url: Breaking(), models=registry("http://x"))
    assert list(cache.iterdir()) == []


def test_absent_and_unknown_models_name_the_next_step(cache: Path) -> None:
    with pytest.raises(ModelError, match="facestage models pull yunet") as caught:
        verify("yunet")
    assert str(cache) in str(caught.value)
    for call in (pull, verify, path_of):
        with pytest.raises(ModelError, match=r"'nope'.*yunet"):
            call("nope")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_reported(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    with pytest.raises(ModelError, match="FACESTAGE_CACHE"):
        pull("toy", models=registry("http://127.0.0.1:9/x"))


def test_a_cache_below_a_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FACESTAGE_CACHE", str(tmp_path / "file" / "sub"))
    with pytest.raises(ModelError, match="FACESTAGE_CACHE"):
        pull("toy", models=registry("http://127.0.0.1:9/x"))


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACESTAGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_store.cache_dir() == tmp_path / "facestage"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert model_store.cache_dir() == tmp_path / "home" / ".cache" / "facestage"


def test_who_has_no_home_has_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME", "FACESTAGE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert not model_store.cache_dir().exists()
    assert model_store.find("yunet") is None
    assert [status.state for status in list_models()] == ["absent"]
    with pytest.raises(ModelError, match=r"no home folder.*FACESTAGE_CACHE"):
        pull("yunet")  # root could make even the folder that stands for none
    assert not Path("/nonexistent").exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root may look into every folder")
def test_a_home_that_may_not_be_looked_into_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("FACESTAGE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    tmp_path.chmod(0)
    try:
        assert model_store.find("yunet") is None
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.shared
def test_the_registered_yunet_is_the_one_at_hand(shared: Path) -> None:
    entry = model_store.MODELS["yunet"]
    content = (shared / "models" / entry.filename).read_bytes()
    assert len(content) == entry.size
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert model_store.sha256_of(shared / "models" / entry.filename) == entry.sha256
