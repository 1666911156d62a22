"""Windows on a GPU: the real code on a device that is made of NumPy and answers as CuPy does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from facestage.core.clustering import subspace
from facestage.core.config import WindowConfig
from facestage.core.window import MapInput, WindowBank
from numpy.typing import NDArray

from tests.support.device_twin import COUNTS, KERNELS, Device
from tests.support.streams import make_stream

Rows = Sequence[NDArray[np.floating]]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device.install(monkeypatch)


def letters(bank: WindowBank, streams: Sequence[Rows]) -> list[list[str | None]]:
    """Return the letters that windows give to streams of equal length, map by map."""
    slots = [bank.open() for _ in streams]
    found = []
    for frame, rows in enumerate(zip(*streams, strict=True)):
        maps = [
            MapInput(slot, frame, row.astype(np.float32), None)
            for slot, row in zip(slots, rows, strict=True)
        ]
        found.append([update.letter for update in bank.update(maps)])
    return found


def exact_patterns(count: int, run: int, maps: int) -> list[NDArray[np.float64]]:
    """Return patterns that take turns, without any noise: their graphs are of low rank."""
    patterns = np.abs(np.random.default_rng(0).standard_normal((count, 256)))
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
    return [patterns[n // run % count] for n in range(maps)]


STREAM = make_stream(3, [(0, 70), (1, 50), (0, 50)]).descriptors


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(list(STREAM), id="patterns with noise"),
        pytest.param([*STREAM[:50], *[STREAM[50]] * 120], id="a frozen picture"),
        pytest.param(exact_patterns(3, 30, 170), id="exact patterns"),
        pytest.param(exact_patterns(1, 1, 150), id="one exact pattern"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_windows_on_a_gpu_give_the_letters_of_those_on_a_cpu(device: Device, rows: Rows) -> None:
    config = WindowConfig(every=1)
    there = letters(WindowBank(config, device="cuda"), [rows])
    assert there == letters(WindowBank(config), [rows])
    assert device.handed_over


def test_several_windows_on_a_gpu_give_the_letters_of_those_on_a_cpu(device: Device) -> None:
    streams = [make_stream(seed, [(0, 40), (1, 40)]).descriptors for seed in range(5)]
    config = WindowConfig(size=64)
    bank = WindowBank(config, device="cuda")
    there = letters(bank, streams)
    assert there == letters(WindowBank(config), streams)


def test_a_small_problem_that_failed_on_a_gpu_is_noticed(device: Device) -> None:
    """CuPy raises nothing where a Cholesky factor does not exist."""
    random = np.random.default_rng(1)
    basis = random.standard_normal((2, 8, 40)).astype(np.float32)
    basis[1, 7] = basis[1, 6]  # its overlap is singular
    overlap = basis @ basis.transpose(0, 2, 1)
    overlap[1, 7, 7] -= 1e-2  # and by rounding not even that
    small = (basis * np.linspace(0.1, 1, 40, dtype=np.float32)) @ basis.transpose(0, 2, 1)
    there = subspace._ritz(device.asarray(small), device.asarray(overlap), device)
    values = device.asnumpy(there[0])
    here, _ = subspace._ritz(small[:1], overlap[:1], np)
    np.testing.assert_allclose(values[:1], here, rtol=1e-3)
    assert np.isnan(values[1]).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_failed_step_is_computed_exactly(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eigenvalues beyond 1 cannot be those of a graph, however small their residual."""
    solve = subspace._ritz

    def wrong(small: object, overlap: object, xp: object) -> tuple[object, object]:
        values, turn = solve(small, overlap, xp)
        return values * 2.0, turn  # type: ignore[operator]

    bank = WindowBank(WindowConfig(size=48, every=1), device="cuda")
    letters(bank, [STREAM[:60]])
    assert bank._graphs.since_exact[0] > 0
    monkeypatch.setattr(subspace, "_ritz", wrong)
    bank.update([MapInput(0, 60, STREAM[60].astype(np.float32), None)])
    assert bank._graphs.since_exact[0] == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_warming_up_runs_every_kernel_that_a_stream_needs(device: Device) -> None:
    bank = WindowBank(WindowConfig(size=48), device="cuda")
    KERNELS.clear()
    bank.warm_up()
    warmed = set(KERNELS)
    assert len(bank) == 0
    KERNELS.clear()
    streams = [make_stream(seed, [(0, 50), (1, 40), (2, 30)]).descriptors for seed in range(3)]
    letters(bank, streams)
    assert set(KERNELS) - warmed == set()


def test_warming_up_does_nothing_on_a_cpu() -> None:
    COUNTS.clear()
    bank = WindowBank(WindowConfig(size=48))
    bank.warm_up()
    assert len(bank) == 0
    assert not COUNTS
