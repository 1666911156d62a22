"""Torch and CuPy side by side: which device, which stream, no copies; CuPy is imitated by NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from facestage.core.analyzer import Analyzer
from facestage.core.backend import from_torch, on_stream_of_torch, same_gpu, to_numpy
from facestage.core.config import AnalyzerConfig, WindowConfig
from facestage.core.errors import DeviceError
from facestage.core.network.au_network import AUNetwork
from facestage.core.window import MapInput, WindowBank
from facestage.stream.detectors import OurDetector

from tests.support.streams import make_stream


class Twin(ModuleType):
    """Does what NumPy does, but is not NumPy; knows what was handed over by DLPack."""

    def __init__(self) -> None:
        super().__init__("twin")
        self.handed: list[tuple[int, ...]] = []
        self.said: list[object] = []
        self.cuda = SimpleNamespace(Device=self._device, Stream=SimpleNamespace())

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def from_dlpack(self, tensor: torch.Tensor) -> Any:
        self.handed.append(tuple(tensor.shape))
        return np.from_dlpack(tensor)

    @contextmanager
    def _device(self, number: int) -> Iterator[None]:
        self.said.append(("device", number))
        yield
        self.said.append("device left")

    @contextmanager
    def stream(self, kind: str, given: object) -> Iterator[None]:
        self.said.append((kind, given))
        yield
        self.said.append("stream left")


class OnGpu:
    """A tensor that says that it is on a GPU."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self.device, self.shape = torch.device("cuda:0"), tensor.shape

    def __dlpack__(self, **asked: Any) -> Any:
        return self._tensor.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


@pytest.mark.parametrize(
    ("arrays", "network", "expected"),
    [
        ("cpu", "cuda:1", "cpu"),
        ("cuda", "cpu", "cuda"),
        ("cuda:1", "cpu", "cuda:1"),
        ("cuda", "cuda", "cuda:0"),
        ("cuda", "cuda:1", "cuda:1"),
        ("cuda:1", "cuda:1", "cuda:1"),
        ("cuda:0", "cuda", "cuda:0"),
    ],
)
def test_windows_go_where_the_network_is(arrays: str, network: str, expected: str) -> None:
    assert same_gpu(arrays, torch.device(network)) == expected


@pytest.mark.parametrize(("arrays", "network"), [("cuda:1", "cuda:0"), ("cuda:1", "cuda")])
def test_windows_and_network_on_two_gpus_are_refused(arrays: str, network: str) -> None:
    with pytest.raises(DeviceError, match="--window-device cuda:0, or --window-device cpu"):
        same_gpu(arrays, torch.device(network))


def test_an_analyzer_refuses_two_gpus_before_it_touches_either() -> None:
    network = AUNetwork.load(device="cpu")
    network.device = torch.device("cuda:0")
    config = AnalyzerConfig(window=WindowConfig(device="cuda:1"))
    with pytest.raises(DeviceError, match="windows are to be on cuda:1, but the network"):
        Analyzer(OurDetector(), network, config)


def test_a_tensor_is_handed_over_without_a_copy() -> None:
    tensor = torch.arange(6.0).reshape(2, 3)
    there: Any = OnGpu(tensor)
    twin = Twin()
    array = from_torch(there, twin)
    tensor[0, 0] = 7
    assert array[0, 0] == 7
    assert twin.handed == [(2, 3)]
    assert from_torch(tensor, np)[0, 0] == 7
    assert from_torch(tensor, twin)[1, 2] == 5  # from a CPU: sent, not handed over
    assert twin.handed == [(2, 3)]


@pytest.mark.parametrize("new_cupy", [True, False])
@pytest.mark.parametrize("new_torch", [True, False])
def test_arrays_are_worked_on_where_torch_works(new_cupy: bool, new_torch: bool) -> None:
    """CuPy takes a stream by its protocol from 14 on; torch's streams have it from 2.10 on."""
    twin = Twin()
    current = SimpleNamespace(cuda_stream=1234)
    by_protocol = new_cupy and new_torch
    if new_torch:
        current.__cuda_stream__ = lambda: (0, 1234)

    def from_external(stream: object) -> object:
        assert hasattr(stream, "__cuda_stream__")
        return twin.stream("protocol", stream)

    if new_cupy:
        twin.cuda.Stream.from_external = from_external
    twin.cuda.ExternalStream = lambda pointer: twin.stream("pointer", pointer)
    asked = []

    def current_stream(number: int) -> object:
        asked.append(number)
        return current

    with on_stream_of_torch(twin, "cuda:1", SimpleNamespace(current_stream=current_stream)):
        twin.said.append("work")
    given = ("protocol", current) if by_protocol else ("pointer", 1234)
    assert twin.said == [("device", 1), given, "work", "stream left", "device left"]
    assert asked == [1]
    with on_stream_of_torch(np, "cpu", None):
        pass


def test_a_bank_elsewhere_gives_the_letters_of_one_here_and_takes_rows_by_dlpack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twin = Twin()
    monkeypatch.setattr("facestage.core.window.bank.namespace", lambda device: twin)
    there = WindowBank(WindowConfig(size=48), dimension=256, device="cuda")
    monkeypatch.undo()
    here = WindowBank(WindowConfig(size=48), dimension=256)
    seen = make_stream(5, [(0, 60), (1, 50), (0, 40)]).descriptors
    slots = [here.open(), here.open()], [there.open(), there.open()]
    shown = set()
    for n, row in enumerate(seen):
        unit = row.astype(np.float32)
        rows = np.stack([unit, unit[::-1]])
        missing = n % 10 == 3  # one window has nothing to show
        given = [unit, None] if missing else list(rows)
        if missing:
            rows[1] = 0
        expected = here.update([MapInput(slots[0][i], n, x) for i, x in enumerate(given)])
        on_gpu: Any = OnGpu(torch.from_numpy(rows))
        made = there.update([MapInput(slots[1][i], n, x) for i, x in enumerate(given)], on_gpu)
        assert [u.letter for u in made] == [u.letter for u in expected]
        shown |= {update.letter for update in made}
    assert {"A", "B"} <= shown
    assert len(twin.handed) == len(seen)
    np.testing.assert_allclose(
        to_numpy(there._device_descriptors[:2]), here._descriptors[:2], atol=1e-6
    )


@pytest.mark.gpu
def test_torch_and_cupy_share_memory_and_stream() -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        rows = torch.rand(64, 256, device="cuda")
        torch.cuda.set_sync_debug_mode("error")
        try:
            with on_stream_of_torch(cupy, "cuda:0"):
                array = from_torch(rows, cupy)
                assert cupy.cuda.get_current_stream().ptr == side.cuda_stream
                array *= 2
                total = array.sum()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert array.data.ptr == rows.data_ptr()
        assert float(total) == pytest.approx(float(rows.sum()), rel=1e-5)
