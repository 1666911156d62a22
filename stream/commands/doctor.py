"""``facestage doctor``: what this machine has and lacks, before a camera waits for it.

Nothing is written, installed or changed; every finding that is not right comes with its next step.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import cv2
import torch

from ...core.errors import FacestageError, SourceError
from ...core.network.au_network import EMBEDDED, AUNetwork
from .. import model_store
from ..compute import cores
from ..console import out
from ..detectors import make_detector
from ..sources import open_source
from .cameras import Camera, find_cameras
from .signatures import DoctorOptions

__all__ = ["Finding", "examine", "run_doctor"]

State = Literal["ok", "note", "broken"]
_MARKS = {"ok": "ok    ", "note": "note  ", "broken": "BROKEN"}
_PACKAGES = ("torch", "zennit", "numpy", "scipy", "opencv-python-headless", "websockets")
_DESCRIPTORS = 256
_CLOCK_SLACK_S = 86400.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one thing.

    Attributes:
        name: of the thing.
        state: ``ok``; ``note``: it works, with less; ``broken``: a command that needs it fails.
        text: what was found.
        next_step: what to do about it; empty where it is ``ok``.
    """

    name: str
    state: State
    text: str
    next_step: str = ""


def run_doctor(options: DoctorOptions) -> int:
    """Print every finding; return the exit code.

    Returns:
        0 if nothing is broken, 4 if only the source is, else 5.
    """
    findings: list[Finding] = []
    for finding in examine(options):
        findings.append(finding)
        if not options.json:
            out.print(f"{_MARKS[finding.state]}  {finding.name:<9} {finding.text}", markup=False)
            if finding.next_step:
                out.print(f"{'':17} → {finding.next_step}", markup=False)
    if options.json:
        out.print(json.dumps([asdict(f) for f in findings], indent=1), markup=False)
    broken = {finding.name for finding in findings if finding.state == "broken"}
    if not broken:
        return 0
    return SourceError.exit_code if broken == {"source"} else 5


def examine(options: DoctorOptions) -> Iterator[Finding]:
    """Yield the findings, one thing after the other."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _device,
        _cupy,
        _threads,
        _weights,
        _detector,
        _codecs,
        _cameras,
        lambda: _port(options.port),
        _folders,
        _clock,
        _descriptors,
    )
    for check in checks:
        yield from check()
    if options.source is not None:
        yield from _source(options.source, options.open_timeout)


def _python() -> Iterator[Finding]:
    versions = []
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    text = f"{platform.python_version()} at {sys.executable}; {', '.join(versions)}"
    yield Finding("python", "ok", text)
    for other in ("opencv-python", "opencv-contrib-python"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(other)
            yield Finding(
                "opencv", "note", f"{other} is installed beside opencv-python-headless, and both "
                "own the module cv2",
                f"pip uninstall {other}, then pip install --force-reinstall opencv-python-headless",
            )  # fmt: skip


def _device() -> Iterator[Finding]:
    built = torch.version.cuda
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))
        yield Finding("device", "ok", f"--device auto takes cuda: {names}; torch for CUDA {built}")
        return
    if built is None:
        why = "this torch is built for the CPU only"
        nvidia = Path("/proc/driver/nvidia/version").exists()
        step = "install the torch that pytorch.org names for your CUDA" if nvidia else ""
        state: State = "note" if nvidia else "ok"
        text = f"--device auto takes cpu: {why}" + (", and there is an NVIDIA driver" * nvidia)
        yield Finding("device", state, text, step)
        return
    yield Finding(
        "device", "note",
        f"--device auto takes cpu: torch is for CUDA {built}, and no GPU can be used",
        "look at nvidia-smi: a driver older than torch's CUDA is the usual reason; in a container, "
        "start it with --gpus all",
    )  # fmt: skip


def _cupy() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        yield Finding("cupy", "ok", "not needed: windows are clustered on the CPU")
        return
    wanted = f"cupy-cuda{(torch.version.cuda or '13').split('.')[0]}x"
    try:
        cupy = importlib.import_module("cupy")
        version = cupy.cuda.runtime.runtimeGetVersion() // 1000
    except Exception as error:  # whatever a half-installed CuPy raises
        yield Finding(
            "cupy", "note", f"cannot be used ({type(error).__name__}): --window-device cuda fails",
            f"pip install {wanted}",
        )  # fmt: skip
        return
    if str(version) != (torch.version.cuda or "").split(".")[0]:
        yield Finding(
            "cupy", "broken", f"{cupy.__version__} is for CUDA {version}, torch for "
            f"{torch.version.cuda}", f"pip install {wanted}",
        )  # fmt: skip
        return
    yield Finding("cupy", "ok", f"{cupy.__version__}, for CUDA {version} like torch")


def _threads() -> Iterator[Finding]:
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    given = {
        name: os.environ[name]
        for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
        if name in os.environ
    }
    settings = " ".join(f"{name}={value}" for name, value in given.items())
    text = f"{cores()} cores for this process; {settings}"
    if policy.strip().lower() != "passive" or given.get("GOMP_SPINCOUNT", "0") not in ("", "0"):
        yield Finding(
            "threads", "note", f"{text}: threads spin while they wait, which costs a busy machine "
            "up to a second per pass", "unset OMP_WAIT_POLICY and GOMP_SPINCOUNT",
        )  # fmt: skip
        return
    yield Finding("threads", "ok", text)


def _weights() -> Iterator[Finding]:
    try:
        card = AUNetwork.load(device="cpu").card  # which compares the hash with the card
    except FacestageError as error:
        yield Finding(
            "weights", "broken", str(error), "pip install --force-reinstall --no-deps facestage"
        )
        return
    text = f"{card.name} {card.version}, sha256 {card.sha256} as its card says ({EMBEDDED.name})"
    yield Finding("weights", "ok", text)


def _detector() -> Iterator[Finding]:
    for status in model_store.list_models():
        if status.state == "damaged":
            yield Finding(
                "detector", "broken", f"{status.path} is not the file it should be",
                f"delete it, then facestage models pull {status.file.name}",
            )  # fmt: skip
            return
    try:
        detector = make_detector("auto")
    except FacestageError as error:
        yield Finding("detector", "broken", str(error), "reinstall facestage")
        return
    yield Finding("detector", "ok", f"--detector auto takes {detector.name}, the embedded finder")


def _codecs() -> Iterator[Finding]:
    backends = {cv2.videoio_registry.getBackendName(b) for b in cv2.videoio_registry.getBackends()}
    try:
        with open_source("demo:") as source:
            grab = source.read()
        size = None if grab is None else grab.image.shape
    except FacestageError as error:
        yield Finding(
            "codecs", "broken", f"the embedded clip (H.264) cannot be decoded: {error}",
            "pip install --force-reinstall opencv-python-headless",
        )  # fmt: skip
        return
    if size is None or "FFMPEG" not in backends:
        yield Finding(
            "codecs", "broken", f"OpenCV {cv2.__version__} has no FFmpeg",
            "install the wheel from PyPI: pip install --force-reinstall opencv-python-headless",
        )  # fmt: skip
        return
    yield Finding("codecs", "ok", f"OpenCV {cv2.__version__}: {', '.join(sorted(backends))}")


def _cameras() -> Iterator[Finding]:
    found = find_cameras()
    if not found:
        yield Finding(
            "camera", "note", "none at /dev/video*",
            "plug one in; in a container, start it with --device /dev/video0",
        )  # fmt: skip
    for camera in found:
        yield _camera(camera)


def _camera(camera: Camera) -> Finding:
    if camera.error:
        step = "sudo usermod -aG video $USER, then log in again"
        return Finding("camera", "broken", f"{camera.path}: {camera.error}", step)
    return Finding("camera", "ok", f"{camera.path}: {camera.name}; {', '.join(camera.formats)}")


def _port(port: int) -> Iterator[Finding]:
    try:
        with socket.socket() as probe:
            if os.name != "nt":  # as the server does; there it would take a port in use
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        yield Finding(
            "port", "broken", f"{port} on 127.0.0.1: {reason}",
            "stop what listens there (ss -ltnp), or choose another with --port",
        )  # fmt: skip
        return
    yield Finding("port", "ok", f"{port} on 127.0.0.1 is free")


def _folders() -> Iterator[Finding]:
    places = {
        "here": Path.cwd(),
        "cache": model_store.cache_dir(),
        "temporary": Path(tempfile.gettempdir()),
    }
    for name, place in places.items():
        existing = place
        while not os.path.exists(existing):
            existing = existing.parent
        if os.access(existing, os.W_OK | os.X_OK):
            yield Finding("folder", "ok", f"{name}: {place} can be written")
        else:
            step = {
                "here": "give --out a folder of your own",
                "cache": "only `models pull` needs it: name another folder with FACESTAGE_CACHE",
                "temporary": "name another folder with TMPDIR",
            }[name]
            yield Finding("folder", "note", f"{name}: {place} cannot be written", step)


def _clock() -> Iterator[Finding]:
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now + _CLOCK_SLACK_S < EMBEDDED.stat().st_mtime:
        yield Finding(
            "clock", "broken", f"{shown}, which is before facestage was installed",
            "set it (timedatectl set-ntp true): messages are stamped with it, and certificates "
            "are not valid before their time",
        )  # fmt: skip
        return
    yield Finding("clock", "ok", shown)


def _descriptors() -> Iterator[Finding]:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _DESCRIPTORS:
        yield Finding(
            "files", "note", f"{soft} files may be open at once; the server alone may need 220",
            f"ulimit -n {_DESCRIPTORS} (or LimitNOFILE= of the service)",
        )  # fmt: skip
        return
    yield Finding("files", "ok", f"{soft} may be open at once")


def _source(spec: str, open_timeout: float) -> Iterator[Finding]:
    try:
        with open_source(spec, open_timeout_s=open_timeout) as source:
            grab = source.read()
            info = source.info
    except FacestageError as error:
        yield Finding("source", "broken", str(error), "open it in another program, such as ffplay")
        return
    if grab is None:
        yield Finding("source", "broken", f"{info.name} has no picture", "record it again")
        return
    height, width = grab.image.shape[:2]
    rate = "rate unknown" if info.fps is None else f"{info.fps:g} frames/s"
    yield Finding("source", "ok", f"{info.name}: {info.kind}, {width} × {height}, {rate}")
