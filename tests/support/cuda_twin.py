"""A CUDA device made of the CPU: the real code runs as if on a GPU, and every mistake it would make
there is an error here.

Inside :meth:`CudaTwin.installed` torch finds GPUs. A tensor of one says ``cuda:N`` and computes on
the CPU. What CUDA refuses is refused: tensors of two devices in one operation, NumPy arrays made of
device memory, host reads while a graph is captured. What CUDA does late is done late: a download
that does not block arrives when an event or a stream is waited for, and what is recorded in a graph
is computed again, from the same memory, each time the graph is replayed. Operations of another
device than the capturing stream's are not recorded, as in PyTorch (issue 87894).

Launches, waits, uploads and downloads are written down with the line of the project that caused
them. Nothing is said about how long anything takes.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils._pytree as pytree
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.paths import ROOT

__all__ = ["CudaTwin", "Entry", "OnCuda"]

POISON = 0xA5
"""What pinned memory holds until a download into it was waited for."""
_READS_HOST = {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__contains__"}
_WAITS = {
    *("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "equal", "allclose"),
    *("is_nonzero", "bincount"),
}
_UPLOADING = {torch.tensor, torch.as_tensor, torch.asarray}
_MADE_EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What was asked of the device.

    Attributes:
        kind: ``launch``, ``wait``, ``upload`` or ``download``.
        operation: its name in torch.
        where: file and line of the project, innermost first.
    """

    kind: str
    operation: str
    where: str


class OnCuda(torch.Tensor):
    """A tensor that says it is on a GPU; its values lie on the CPU."""

    _index: int

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self._index)

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        del options
        return f"OnCuda({tuple(self.shape)}, {self.dtype}, cuda:{self._index})"

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu()")

    def numpy(self, *args: Any, **options: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu()")

    def record_stream(self, stream: Any) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = wrap(plain(self).clone(), self._index)
        if getattr(self, "_is_param", False):
            copied._is_param = True  # type: ignore[attr-defined]
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # Reached only below the mode, which has done everything already, or outside of it.
        with torch._C.DisableTorchFunction():
            return func(*args, **(kwargs or {}))


def wrap(tensor: torch.Tensor, index: int) -> OnCuda:
    """Return a CPU tensor as one of a GPU; it shares the memory."""
    with torch._C.DisableTorchFunction():
        there = tensor.as_subclass(OnCuda)
    there._index = index
    return there


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return the CPU tensor of a GPU's, for what a test looks at."""
    with torch._C.DisableTorchFunction():
        return tensor.as_subclass(torch.Tensor)


def _project_lines() -> str:
    lines = [
        f"{frame.filename.removeprefix(str(ROOT) + '/')}:{frame.lineno}"
        for frame in reversed(traceback.extract_stack())
        if frame.filename.startswith((f"{ROOT}/core", f"{ROOT}/stream"))
    ]
    return " < ".join(lines[:4])


def _device(value: Any) -> torch.device | None:
    return None if value is None else torch.device(value)


def _cuda_index(value: Any, current: int) -> int | None:
    """Return the number of a GPU, None for another device."""
    device = _device(value)
    if device is None or device.type != "cuda":
        return None
    return current if device.index is None else device.index


class _Stream:
    def __init__(self, twin: CudaTwin, index: int) -> None:
        self._twin = twin
        self.device = torch.device("cuda", index)
        self.cuda_stream = 1000 + index

    def wait_stream(self, other: _Stream) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    def record_event(self, event: Any = None) -> Any:
        return event or self._twin.make_event()

    def synchronize(self) -> None:
        self._twin.wait("Stream.synchronize")


class _Event:
    def __init__(self, twin: CudaTwin, **options: Any) -> None:
        del options
        self._twin = twin

    def record(self, stream: Any = None) -> None:
        pass

    def wait(self, stream: Any = None) -> None:
        pass

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        self._twin.wait("Event.synchronize")

    def elapsed_time(self, end: Any) -> float:
        del end
        return 0.0


class _Graph:
    """A list of operations and the tensors that they read and wrote."""

    def __init__(self, twin: CudaTwin) -> None:
        self._twin = twin
        self.steps: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def replay(self) -> None:
        self._twin.note("launch", "graph")
        with torch.inference_mode(), torch._C.DisableTorchFunction():
            for func, args, kwargs, made in self.steps:
                taken = _storages((args, kwargs))
                for old, new in zip(_flat(made), _flat(func(*args, **kwargs)), strict=True):
                    if isinstance(old, torch.Tensor) and not _storages(old) & taken:
                        old.copy_(new)

    def reset(self) -> None:
        self.steps = []


def _storages(values: Any) -> set[int]:
    """Return where the tensors among some values keep their numbers."""
    return {
        leaf.untyped_storage().data_ptr()
        for leaf in pytree.tree_leaves(values)
        if isinstance(leaf, torch.Tensor)
    }


def _flat(values: Any) -> list[Any]:
    return list(values) if isinstance(values, (tuple, list)) else [values]


class _Capture:
    """``torch.cuda.graph``, with its ways: a default stream made once, on the device of that
    moment, and a failed capture that leaves its stream current."""

    def __init__(
        self, twin: CudaTwin, graph: _Graph, pool: Any = None, stream: Any = None, **options: Any
    ) -> None:
        del pool, options
        self._twin, self._graph = twin, graph
        if stream is None and twin.default_capture_stream is None:
            twin.default_capture_stream = _Stream(twin, twin.current)
        self._stream = stream or twin.default_capture_stream

    def __enter__(self) -> None:
        self._twin.wait("graph capture")
        self._before = self._twin.current, dict(self._twin.streams)
        self._twin.set_stream(self._stream)
        self._twin.capturing = self._graph
        self._twin.captured_bytes = 0

    def __exit__(self, *failure: object) -> None:
        self._twin.capturing = None
        if failure[0] is not None:
            raise RuntimeError("CUDA error: operation failed due to a previous error in capture")
        self._twin.current, self._twin.streams = self._before
        self._twin.recordings += 1


class _Kernels(TorchDispatchMode):
    """Counts what reaches the device, and records it while a graph is captured."""

    def __init__(self, twin: CudaTwin, index: int) -> None:
        super().__init__()
        self._twin, self._index = twin, index

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        aliases = [returned.alias_info for returned in func._schema.returns]
        writes = any(alias is not None and alias.is_write for alias in aliases)
        if not writes and _storages(made) <= _storages((args, kwargs)):
            return made  # a view, or the very tensor
        twin, graph = self._twin, self._twin.capturing
        name = func.name().removeprefix("aten::").split(".")[0]
        if graph is not None and twin.captures_on == self._index:
            if name in ("_local_scalar_dense", "nonzero", "_unique2", "equal", "masked_select"):
                raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
            graph.steps.append((func, args, kwargs, made))
            twin.charge(made)
            return made
        if name not in _MADE_EMPTY and name != "lift_fresh":
            twin.note("launch", name)
        return made


class _Functions(TorchFunctionMode):
    """Stands between the project and torch."""

    def __init__(self, twin: CudaTwin) -> None:
        super().__init__()
        self._twin = twin

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        tensors = [
            leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        ]
        there = {tensor._index for tensor in tensors if isinstance(tensor, OnCuda)}
        if name in ("__get__", "__set__"):
            return self._attribute(func, name, args)
        if not there:
            return self._from_host(func, name, args, kwargs)
        if len(there) > 1 and name not in ("copy_", "to"):
            raise RuntimeError(
                f"expected all tensors on one device, found cuda:{sorted(there)} in {name} at "
                f"{_project_lines()}"
            )
        (index, *_) = sorted(there)
        return self._on_device(func, name, args, kwargs, index)

    def _attribute(self, func: Any, name: str, args: tuple[Any, ...]) -> Any:
        with torch._C.DisableTorchFunction():
            if name == "__set__":
                values = [plain(a) if isinstance(a, OnCuda) else a for a in args[1:]]
                return func(args[0], *values)
            found = func(*args)
        if isinstance(found, torch.Tensor) and isinstance(args[0], OnCuda):
            return wrap(found, args[0]._index)
        return found

    # ---- tensors of the host

    def _from_host(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        twin = self._twin
        pinned = bool(kwargs.pop("pin_memory", False)) or name == "pin_memory"
        if name == "pin_memory":
            return _pin(args[0].clone())
        if name == "is_pinned":
            return getattr(args[0], "_pinned", False)
        target = kwargs.get("device")
        if name in ("to", "cuda") and args and isinstance(args[0], torch.Tensor):
            places = [value for value in args[1:] if isinstance(value, (str, torch.device))]
            target = target or next(iter(places), "cuda" if name == "cuda" else None)
            index = _cuda_index(target, twin.current)
            if index is None:
                return func(*args, **kwargs)
            dtypes = [value for value in args[1:] if isinstance(value, torch.dtype)]
            return self._upload((args[0], *dtypes), kwargs, index)
        index = _cuda_index(target, twin.current)
        if index is None:
            made = func(*args, **kwargs)
            return _pin(made) if pinned else made
        twin.check(index)
        kwargs.pop("device")
        if func in _UPLOADING:
            twin.transfer("upload", name, blocking=True)
            return wrap(func(*args, **kwargs), index)
        with _Kernels(twin, index):
            return wrap(func(*args, **kwargs), index)

    def _upload(self, args: tuple[Any, ...], kwargs: dict[str, Any], index: int) -> OnCuda:
        twin = self._twin
        twin.check(index)
        kwargs = {key: value for key, value in kwargs.items() if key != "device"}
        late = bool(kwargs.pop("non_blocking", False)) and getattr(args[0], "_pinned", False)
        twin.transfer("upload", f"to {tuple(args[0].shape)}", blocking=not late)
        values = args[0].to(*args[1:], **kwargs) if args[1:] or kwargs else args[0]
        return wrap(values.clone() if values is args[0] else values, index)

    # ---- tensors of the device

    def _on_device(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], index: int
    ) -> Any:
        twin = self._twin
        if name == "pin_memory":
            raise RuntimeError("cannot pin a tensor of a GPU, only dense CPU tensors")
        if name in _READS_HOST:
            twin.wait(name)
            return self._run(func, args, kwargs, None)
        if name == "copy_":
            return self._copy(args, kwargs)
        if name in ("cpu", "to", "cuda", "type_as"):
            return self._move(func, name, args, kwargs, index)
        if name in ("__getitem__", "__setitem__"):
            return self._index(func, name, args, index)
        if name in _WAITS or (name == "repeat_interleave" and "output_size" not in kwargs):
            twin.wait(name)
        if name == "new_tensor":
            twin.transfer("upload", name, blocking=True)
        self._refuse_host(name, args, kwargs)
        other = _cuda_index(kwargs.get("device"), twin.current)
        if kwargs.pop("device", None) is not None and other is None:
            return func(*args, **kwargs, device="cpu")
        return self._run(func, args, kwargs, index if other is None else other)

    def _refuse_host(self, name: str, args: Any, kwargs: Any) -> None:
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, np.ndarray) or (
                isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnCuda) and leaf.dim()
            ):
                raise RuntimeError(
                    "expected all tensors to be on the same device, but found at least two, cuda "
                    f"and cpu, in {name} at {_project_lines()}"
                )

    def _run(self, func: Any, args: Any, kwargs: Any, index: int | None) -> Any:
        """Run on the CPU what the device is asked for; ``index`` None leaves the answer there."""
        if index is None:
            with torch._C.DisableTorchFunction():
                return func(*args, **kwargs)
        with torch._C.DisableTorchFunction(), _Kernels(self._twin, index):
            made = func(*args, **kwargs)
        return pytree.tree_map(
            lambda leaf: (
                wrap(leaf, index)
                if isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnCuda)
                else leaf
            ),
            made,
        )

    def _copy(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        twin, (target, source, *rest) = self._twin, args
        late = bool(kwargs.get("non_blocking", rest[0] if rest else False))
        if not isinstance(target, OnCuda):
            late = late and getattr(target, "_pinned", False)
            twin.download(target, source, "copy_", late=late)
            return target
        if not isinstance(source, OnCuda):
            late = late and getattr(source, "_pinned", False)
            twin.transfer("upload", f"copy_ {tuple(source.shape)}", blocking=not late)
            with torch._C.DisableTorchFunction():
                target.copy_(source)
            return target
        return self._run(torch.Tensor.copy_, (target, source), {}, target._index)

    def _move(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], index: int
    ) -> Any:
        twin, tensor = self._twin, args[0]
        if not isinstance(tensor, OnCuda):  # host.to(something on the device)
            like = next(a for a in args[1:] if isinstance(a, OnCuda))
            return self._upload((tensor, like.dtype), kwargs, like._index)
        target = "cpu" if name == "cpu" else kwargs.pop("device", None)
        rest = []
        for value in args[1:]:
            if isinstance(value, (str, torch.device)):
                target = value
            elif isinstance(value, torch.Tensor):
                target = value.device if isinstance(value, OnCuda) else "cpu"
                rest.append(value.dtype)
            else:
                rest.append(value)
        device = _device(target)
        if device is not None and device.type == "cpu":
            kwargs.pop("non_blocking", None)
            values = self._run(func, (tensor, *rest), kwargs, index) if rest or kwargs else tensor
            host = torch.empty_like(plain(values))
            twin.download(host, values, name, late=False)
            return host
        other = _cuda_index(device, twin.current)
        if other not in (None, index):
            twin.note("launch", "copy between GPUs")
            return wrap(plain(tensor).clone(), other)  # type: ignore[arg-type]
        kwargs.pop("non_blocking", None)
        return self._run(func, (tensor, *rest), kwargs, index) if rest or kwargs else tensor

    def _index(self, func: Any, name: str, args: tuple[Any, ...], index: int) -> Any:
        tensor, at, *values = args
        twin = self._twin
        if not isinstance(tensor, OnCuda):
            raise RuntimeError(f"a CPU tensor is indexed by a GPU's at {_project_lines()}")
        for part in at if isinstance(at, tuple) else (at,):
            masks = isinstance(part, torch.Tensor) and part.dtype == torch.bool
            filled = name == "__setitem__" and not isinstance(values[0], torch.Tensor)
            if masks and not filled:
                twin.wait("index by a mask")
            if isinstance(part, (list, np.ndarray)) or (
                isinstance(part, torch.Tensor) and not isinstance(part, OnCuda)
            ):
                twin.transfer("upload", f"index by {type(part).__name__}", blocking=True)
        if values:
            self._refuse_host(name, values, {})
        return self._run(func, args, {}, index)


def _pin(tensor: torch.Tensor) -> torch.Tensor:
    tensor._pinned = True  # type: ignore[attr-defined]
    return tensor


class CudaTwin:
    """GPUs that are made of the CPU; see the module.

    Args:
        devices: how many there are.
        capture_bytes: memory that one capture may take; more is an error, as it is on a GPU.

    Attributes:
        entries: what was asked of the devices, since :meth:`clear`.
        recordings: graphs captured since the beginning.
    """

    def __init__(self, devices: int = 1, capture_bytes: int | None = None) -> None:
        self.devices, self.capture_bytes = devices, capture_bytes
        self.entries: list[Entry] = []
        self.recordings = 0
        self.current = 0
        self.streams: dict[int, _Stream] = {}
        self.capturing: _Graph | None = None
        self.captured_bytes = 0
        self.default_capture_stream: _Stream | None = None
        self._late: list[tuple[torch.Tensor, torch.Tensor]] = []

    # ---- what was asked

    def clear(self) -> None:
        """Forget what was asked so far."""
        self.entries = []

    def count(self, kind: str) -> int:
        """Return how many entries are of a kind."""
        return sum(entry.kind == kind for entry in self.entries)

    def summary(self) -> str:
        """Return the most frequent entries, to read in a failed test."""
        counted = Counter(self.entries).most_common(40)
        return "\n".join(f"{n}x {e.kind} {e.operation} {e.where}" for e, n in counted)

    def note(self, kind: str, operation: str) -> None:
        """Write an entry down."""
        self.entries.append(Entry(kind, operation, _project_lines()))

    def wait(self, operation: str) -> None:
        """Let the host wait; what was downloaded arrives."""
        if self.capturing is not None:
            raise RuntimeError(f"{operation}: operation not permitted when stream is capturing")
        self.note("wait", operation)
        self._deliver()

    def _deliver(self) -> None:
        with torch.inference_mode(), torch._C.DisableTorchFunction():
            for target, source in self._late:
                target.copy_(source)
        self._late = []

    def transfer(self, kind: str, operation: str, *, blocking: bool) -> None:
        """Note a copy between host and device."""
        if self.capturing is not None and blocking:
            raise RuntimeError(
                f"{operation}: cannot copy between CPU and CUDA during graph capture unless the "
                "CPU tensor is pinned"
            )
        self.note(kind, operation)

    def download(
        self, target: torch.Tensor, source: torch.Tensor, operation: str, *, late: bool
    ) -> None:
        """Copy to the host, now or at the next wait."""
        self.transfer("download", operation, blocking=not late)
        if late:
            target.view(torch.uint8).fill_(POISON)
            self._late.append((target, source))
            return
        self.wait(operation)
        with torch._C.DisableTorchFunction():
            target.copy_(source)

    # ---- devices, streams, graphs

    @property
    def captures_on(self) -> int:
        """Number of the device whose operations are captured."""
        stream = self.streams.get(self.current)
        return self.current if stream is None else stream.device.index

    def check(self, index: int) -> None:
        """Refuse a device that is not there."""
        if index >= self.devices:
            raise RuntimeError(f"CUDA error: invalid device ordinal {index}")

    def charge(self, made: Any) -> None:
        """Count the memory of what a captured operation made."""
        for tensor in _flat(made):
            if isinstance(tensor, torch.Tensor):
                self.captured_bytes += tensor.numel() * tensor.element_size()
        if self.capture_bytes is not None and self.captured_bytes > self.capture_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")

    def make_event(self) -> _Event:
        """Return an event."""
        return _Event(self)

    def set_stream(self, stream: _Stream) -> None:
        """Make a stream current, and its device."""
        self.current = stream.device.index
        self.streams[self.current] = stream

    def stream_of(self, device: Any = None) -> _Stream:
        """Return the current stream of a device."""
        index = self._number(device)
        return self.streams.setdefault(index, _Stream(self, index))

    def _number(self, device: Any) -> int:
        if isinstance(device, int):
            return device
        index = _cuda_index(device, self.current)
        return self.current if index is None else index

    @contextmanager
    def _on_stream(self, stream: _Stream | None) -> Iterator[None]:
        if stream is None:
            yield
            return
        before = self.current, dict(self.streams)
        self.set_stream(stream)
        try:
            yield
        finally:
            self.current, self.streams = before

    @contextmanager
    def _on_device(self, device: Any) -> Iterator[None]:
        before, self.current = self.current, self._number(device)
        self.check(self.current)
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaTwin]:
        """Let torch find the GPUs until the end."""
        from facestage.core import backend

        backend._uplink.cache_clear()
        replaced: dict[str, Any] = {
            "is_available": lambda: True,
            "device_count": lambda: self.devices,
            "current_device": lambda: self.current,
            "current_stream": self.stream_of,
            "set_stream": self.set_stream,
            "set_device": lambda device: setattr(self, "current", self._number(device)),
            "stream": self._on_stream,
            "device": self._on_device,
            "Stream": lambda device=None, **_: _Stream(self, self._number(device)),
            "Event": lambda **options: _Event(self, **options),
            "CUDAGraph": lambda: _Graph(self),
            "graph": lambda *args, **options: _Capture(self, *args, **options),
            "graph_pool_handle": lambda: (0, 1),
            "is_current_stream_capturing": lambda: self.capturing is not None,
            "synchronize": lambda device=None: self.wait("synchronize"),
            "empty_cache": lambda: None,
            "get_device_name": lambda device=None: "twin",
            "get_device_capability": lambda device=None: (9, 0),
            "mem_get_info": lambda device=None: (1 << 30, 1 << 30),
            "get_device_properties": lambda device=None: SimpleNamespace(
                name="twin", major=9, minor=0, total_memory=1 << 30
            ),
            "reset_peak_memory_stats": lambda device=None: None,
            "max_memory_allocated": lambda device=None: 0,
            "memory_reserved": lambda device=None: 0,
        }
        with monkeypatch.context() as patch:
            for name, value in replaced.items():
                patch.setattr(torch.cuda, name, value)
            patch.setattr(nn.Module, "to", _moving(nn.Module.to, self))
            with _Functions(self):
                yield self
        backend._uplink.cache_clear()


def _moving(plainly: Callable[..., Any], twin: CudaTwin) -> Callable[..., Any]:
    """Return ``nn.Module.to`` for modules whose weights may go to the twin."""

    def to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        target = next(
            (a for a in (*args, kwargs.get("device")) if isinstance(a, (str, torch.device))), None
        )
        index = _cuda_index(target, twin.current)
        if index is None:
            return plainly(module, *args, **kwargs)
        rest = [a for a in args if not isinstance(a, (str, torch.device))]
        with torch.no_grad():
            for part in module.modules():
                for place in (part._parameters, part._buffers):
                    for name, tensor in list(place.items()):
                        if tensor is None:
                            continue
                        moved = tensor.detach().to(target, *rest)
                        if place is part._parameters:
                            moved._is_param = True
                        place[name] = moved
        return module

    return to


def counted(twin: CudaTwin, work: Callable[[], Any]) -> dict[str, int]:
    """Return how many entries of each kind some work causes."""
    twin.clear()
    work()
    return {kind: twin.count(kind) for kind in ("launch", "wait", "upload", "download")}
