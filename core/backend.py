"""The only module that tells NumPy from CuPy; moves data between devices, sets how a GPU rounds.

Array code elsewhere asks :func:`array_namespace` for the module its arrays belong to (or
:func:`namespace` for that of a device) and calls functions of that module; it never imports CuPy,
which may be absent. :func:`upload` copies tensors to a GPU while the GPU computes; on a CPU nothing
is copied. Nothing here imports torch before it is needed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import DeviceError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Uplink",
    "arithmetic",
    "array_namespace",
    "from_torch",
    "is_numpy",
    "namespace",
    "on_stream_of_torch",
    "same_gpu",
    "to_numpy",
    "upload",
]


def namespace(device: str) -> ModuleType:
    """Return the array module of a device and make that device the current one.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        DeviceError: a GPU is asked for, and CuPy, a driver or that device is missing.
    """
    if device == "cpu":
        return np
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number.isdigit() or not number):
        raise DeviceError(f"there is no array device {device!r}; use cpu, cuda or cuda:N")
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise DeviceError(
            f"arrays on {device} need CuPy, which cannot be imported ({error}); install "
            "'facestage[cuda]' (CUDA 13) or 'facestage[cuda12]', or use --window-device cpu"
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"CuPy finds no working CUDA driver for {device} ({error}); install NVIDIA's driver, "
            "choose the extra of its CUDA version ('facestage[cuda]' for 13, 'facestage[cuda12]'), "
            "or use --window-device cpu"
        ) from error
    if int(number or 0) >= count:
        raise DeviceError(
            f"{device} does not exist, CuPy sees {count} device(s); choose one below cuda:{count} "
            "or use --window-device cpu"
        )
    if number:
        cupy.cuda.Device(int(number)).use()
    try:
        # CuPy loads cuBLAS and cuSOLVER when they are first used, which would be in mid-stream.
        cupy.linalg.eigh(cupy.eye(2, dtype=cupy.float32) @ cupy.eye(2, dtype=cupy.float32))
    except (ImportError, OSError, RuntimeError) as error:
        raise DeviceError(
            f"CuPy cannot load the CUDA libraries that windows on {device} need ({error}); install "
            "'facestage[cuda,ctk]' (CUDA 13) or 'facestage[cuda12,ctk12]', which bring them, or "
            "use --window-device cpu"
        ) from error
    return cupy


def _is_cupy(array: object) -> bool:
    # An array of CuPy exists only where CuPy was imported already, so nothing is imported here.
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


def array_namespace(*arrays: object) -> ModuleType:
    """Return the module whose functions work on these arrays.

    Args:
        *arrays: arrays of one kind, or Python numbers and sequences (they count as NumPy).

    Returns:
        ``cupy`` if the arrays live on a GPU, else ``numpy``.

    Raises:
        TypeError: NumPy and CuPy arrays are mixed; moving data between devices is never implicit.
    """
    if "cupy" not in sys.modules or not any(map(_is_cupy, arrays)):
        return np
    if any(isinstance(array, np.ndarray) for array in arrays):
        raise TypeError(
            "NumPy and CuPy arrays cannot be mixed; move all to one side first "
            "(facestage.core.backend.to_numpy, or cupy.asarray)"
        )
    return sys.modules["cupy"]


def is_numpy(module: ModuleType) -> bool:
    """Tell whether an array module is NumPy, whose arrays need no transfer."""
    return module is np


def to_numpy(array: Any) -> NDArray[Any]:
    """Return an array as NumPy's; one on a GPU is copied."""
    return sys.modules["cupy"].asnumpy(array) if _is_cupy(array) else np.asarray(array)


def same_gpu(arrays: str, network: torch.device) -> str:
    """Choose the array device that works beside a network.

    Args:
        arrays: ``cpu``, ``cuda`` (the network's, if it is on a GPU) or ``cuda:N``.
        network: device of the network.

    Returns:
        ``arrays``, with the number of the network's GPU where it had none.

    Raises:
        DeviceError: both are on a GPU, but not on the same: every map would have to cross over.
    """
    if not arrays.startswith("cuda") or network.type != "cuda":
        return arrays
    beside = f"cuda:{network.index or 0}"
    if arrays not in ("cuda", beside):
        raise DeviceError(
            f"the windows are to be on {arrays}, but the network runs on {beside}; use "
            f"--window-device {beside}, or --window-device cpu"
        )
    return beside


def from_torch(tensor: torch.Tensor, module: ModuleType) -> Any:
    """Hand a tensor over to an array module; on a GPU by DLPack, without a copy.

    Args:
        tensor: needs no gradient; on a GPU the one that is current for CuPy.
        module: NumPy or CuPy.

    Returns:
        The same values as an array of the module. On a GPU it shares the tensor's memory; the next
        kernel that reads it waits for the kernel that writes it, and the host does not wait.
    """
    if is_numpy(module):
        return tensor.cpu().numpy()
    if tensor.device.type == "cpu":
        return module.asarray(tensor.numpy())
    return module.from_dlpack(tensor)


@contextmanager
def on_stream_of_torch(module: ModuleType, device: str, cuda: Any = None) -> Iterator[None]:
    """Let an array module work on torch's current stream; for NumPy nothing changes.

    The kernels of one stream run in the order of their launches, so neither module has to wait for
    the other.

    Args:
        module: NumPy or CuPy.
        device: ``cuda`` or ``cuda:N`` of the arrays; it may differ from this thread's current one.
        cuda: has ``current_stream``; ``torch.cuda`` by default.
    """
    if is_numpy(module):
        yield
        return
    number = int(device.partition(":")[2] or 0)
    stream = (cuda or importlib.import_module("torch").cuda).current_stream(number)
    # CuPy 14 takes what has the protocol, which torch's streams have from 2.10 on; before that a
    # stream is handed over as a number.
    by_protocol = hasattr(module.cuda.Stream, "from_external") and hasattr(
        stream, "__cuda_stream__"
    )
    with module.cuda.Device(number):
        if by_protocol:
            shared_stream = module.cuda.Stream.from_external(stream)
        else:
            shared_stream = module.cuda.ExternalStream(stream.cuda_stream)
        with shared_stream:
            yield


@contextmanager
def arithmetic(device: torch.device, *, tf32: bool = False) -> Iterator[None]:
    """Choose how a GPU multiplies float32 numbers, until the end; on a CPU nothing changes.

    torch lets cuDNN round the inputs of convolutions to TF32, which has 10 bits, unless it is told
    not to: relevance maps were off by 1e-3 to 4e-2 then. What a graph records keeps the way that
    held while it was recorded.

    Args:
        device: where the work is done.
        tf32: allow TF32, for convolutions and products of matrices.
    """
    if device.type == "cpu":
        yield
        return
    backends = importlib.import_module("torch").backends
    if hasattr(backends.cudnn, "conv"):
        # The older flag may be read meanwhile, and refuses an answer where these two differ.
        places = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
        name, value = "fp32_precision", "tf32" if tf32 else "ieee"
    else:  # before torch 2.9
        places = (backends.cudnn, backends.cuda.matmul)
        name, value = "allow_tf32", tf32
    before = [getattr(place, name) for place in places]
    for place in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, was in zip(places, before, strict=True):
            setattr(place, name, was)


class Uplink:
    """Bring tensors to one device, without waiting for it.

    They are copied to a GPU from pinned memory on a stream of their own, so that a copy does not
    wait for kernels launched before it. The caller's current stream waits for the copy; the host
    does not wait.

    Args:
        device: the target.
        cuda: has ``Stream``, ``stream`` and ``current_stream``; ``torch.cuda`` by default.
    """

    def __init__(self, device: torch.device, cuda: Any = None) -> None:
        self._device = device
        self._cuda = cuda or importlib.import_module("torch").cuda
        self._copies = self._cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor on the device; for a CPU device that is the same tensor.

        Args:
            tensor: any, on the CPU. For a GPU device it may be changed as soon as this returns.
        """
        if self._copies is None:
            return tensor.to(self._device)
        pinned = tensor.pin_memory()  # torch keeps it until the copy is done
        with self._cuda.stream(self._copies):
            uploaded = pinned.to(self._device, non_blocking=True)
        current = self._cuda.current_stream(self._device)
        current.wait_stream(self._copies)
        # Its memory belongs to the copy stream, which must not reuse it while the current stream
        # reads it.
        uploaded.record_stream(current)
        return uploaded


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Bring a tensor to a device by the :class:`Uplink` that all callers share.

    Args:
        tensor: any, on the CPU.
        device: the target.

    Returns:
        The tensor on that device; for a CPU device that is the same tensor.
    """
    return _uplink(device)(tensor)


@lru_cache(maxsize=16)
def _uplink(device: torch.device) -> Uplink:
    return Uplink(device)
