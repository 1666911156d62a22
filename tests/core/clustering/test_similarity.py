"""Cosines of relevance maps and the noise model behind the correction."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from facestage.core.backend import array_namespace, namespace, to_numpy
from facestage.core.clustering import similarity
from facestage.core.clustering.similarity import NoiseModel
from facestage.core.errors import DeviceError

from tests.support.streams import autoregressive, unit


@pytest.fixture(autouse=True)
def _no_warnings() -> None:
    warnings.simplefilter("error")


def noisy_copies(rng: np.random.Generator, n: int, energy: float, keep: float) -> np.ndarray:
    """Return unit vectors around one direction with noise of a known energy and memory."""
    pattern = unit(rng.standard_normal(400))
    grain = autoregressive(rng, (n, 400), keep) / 20.0
    return unit(pattern + np.sqrt(energy) * grain)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_normalise_gives_unit_rows_at_any_scale(dtype: type, scale: float) -> None:
    x = (np.random.default_rng(0).standard_normal((5, 7)) * scale).astype(dtype)
    rows = similarity.normalise(x)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(rows * (x / rows)[:, :1], x, rtol=1e-5)
    np.testing.assert_array_equal(similarity.normalise(x[0]), rows[0])


def test_normalise_rejects_rows_without_direction() -> None:
    with pytest.raises(ValueError, match=r"map 1 of 3 is zero everywhere"):
        similarity.normalise(np.array([[1.0, 0], [0, 0], [0, 1]]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        similarity.normalise(np.array([1.0, np.inf]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        similarity.normalise(np.array([[1.0, np.nan]]))


def test_gram_holds_the_cosines_and_gram_row_extends_it() -> None:
    x = unit(np.random.default_rng(1).standard_normal((9, 6)))
    g = similarity.gram(x)
    expected = [[float(sum(a * b)) for b in x] for a in x]
    np.testing.assert_allclose(g, expected, atol=1e-14)
    np.testing.assert_array_equal(g, g.T)
    np.testing.assert_array_equal(np.diagonal(g), 1.0)
    np.testing.assert_allclose(similarity.gram_row(x[:-1], x[-1]), g[-1, :-1], atol=1e-14)


def test_cosines_never_leave_their_range() -> None:
    x = np.tile(unit(np.random.default_rng(2).standard_normal(300)), (20, 1))
    assert similarity.gram(x).max() == 1.0
    assert similarity.gram_row(x, -x[0]).min() >= -1.0


def test_lag_profile_is_a_quantile_per_lag_within_runs() -> None:
    g = similarity.gram(unit(np.random.default_rng(3).standard_normal((20, 30))))
    runs = np.repeat([0, 1, 2], [8, 9, 3])
    profile = similarity.lag_profile(g, runs)
    assert len(profile) == 8  # the longest run has 9 maps
    for lag in (1, 5, 8):
        pairs = [g[i, i + lag] for i in range(20 - lag) if runs[i] == runs[i + lag]]
        assert profile[lag - 1] == pytest.approx(np.quantile(pairs, 0.6))
    assert len(similarity.lag_profile(g)) == 14
    assert similarity.lag_profile(g, np.arange(20)).size == 0


def test_noise_energy_is_the_variance_of_a_mean() -> None:
    rho = (0.7, 0.4, 0.1)
    model = NoiseModel(0.8, rho)
    for n in (1, 2, 3, 10):
        pairs = [
            0.2 * (1.0 if i == j else (*rho, *[0.0] * 20)[abs(i - j) - 1])
            for i in range(n)
            for j in range(n)
        ]
        assert float(model.energy(n)) == pytest.approx(sum(pairs) / n**2)
    np.testing.assert_allclose(model.energy([1, 10]), [model.energy(1), model.energy(10)])


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_noise_model_recovers_level_and_correlation(keep: float) -> None:
    # Cosine of two maps with independent noise of energy .25: 1/(1 + .25) = .8.
    rng = np.random.default_rng(4)
    model = similarity.noise_model(similarity.gram(noisy_copies(rng, 300, 0.25, keep)))
    assert model.level == pytest.approx(0.8, abs=0.02)
    for lag in (1, 2, 3):
        assert model.correlation[lag - 1] == pytest.approx(keep**lag, abs=0.05)
    assert all(a >= b for a, b in zip(model.correlation, model.correlation[1:], strict=False))


def test_noise_energy_predicts_the_length_of_a_mean() -> None:
    # |mean|² = clean length² + e(n), so means of different n give the same clean length.
    rng = np.random.default_rng(5)
    x = noisy_copies(rng, 400, 0.25, 0.5)
    model = similarity.noise_model(similarity.gram(x))
    for n in (4, 16, 100):
        means = np.array([x[i : i + n].mean(axis=0) for i in range(0, 400 - n + 1, n)])
        clean = (means**2).sum(axis=1).mean() - float(model.energy(n))
        assert clean == pytest.approx(0.8, abs=0.03)


def test_few_maps_take_the_default_noise() -> None:
    x = unit(np.random.default_rng(6).standard_normal((7, 9)))
    assert similarity.noise_model(similarity.gram(x)) == similarity.DEFAULT_NOISE
    x = unit(np.random.default_rng(6).standard_normal((40, 9)))
    lonely = similarity.noise_model(similarity.gram(x), np.arange(40) // 2)
    assert lonely == similarity.DEFAULT_NOISE


def test_identical_maps_have_a_finite_noise_model() -> None:
    model = similarity.noise_model(np.ones((30, 30)))
    assert 0 < model.level < 1
    assert np.isfinite(model.energy(np.arange(1, 100))).all()


def test_corrected_cosine_is_that_of_the_clean_patterns() -> None:
    rng = np.random.default_rng(7)
    x = noisy_copies(rng, 200, 0.5, 0.0)
    y = noisy_copies(np.random.default_rng(7), 1, 0.0, 0.0)  # the pattern itself
    g = similarity.gram(x)
    model = similarity.noise_model(g)
    # Means of 5 and of 195 maps of one pattern: plain cosine low, corrected near 1.
    a, b = x[:5].mean(axis=0), x[5:].mean(axis=0)
    block = np.array([[a @ a, a @ b], [a @ b, b @ b]])
    corrected = similarity.corrected_cosines(block, np.array([5.0, 195.0]), model)[0, 1]
    plain = block[0, 1] / np.sqrt(block[0, 0] * block[1, 1])
    assert plain < 0.965
    assert corrected == pytest.approx(1.0, abs=0.02)
    assert float(unit(b) @ y[0]) > 0.99


def test_corrected_cosine_of_cancelling_maps_stays_bounded() -> None:
    block = np.array([[0.0, 0.3], [0.3, 1.0]])
    corrected = similarity.corrected_cosines(block, np.array([2.0, 2.0]), similarity.DEFAULT_NOISE)
    assert np.abs(corrected).max() <= 1.0


def test_blend_moves_towards_the_newer_model() -> None:
    old, new = NoiseModel(0.8, (0.4,)), NoiseModel(0.9, (0.2, 0.1))
    assert old.blend(new, 1.0) == NoiseModel(0.9, (0.2, 0.1))
    half = old.blend(new, 0.5)
    assert half.level == pytest.approx(0.85)
    assert half.correlation == pytest.approx((0.3, 0.05))


def test_backend_tells_numpy() -> None:
    assert array_namespace(np.ones(3), 2.0, [1]) is np
    assert array_namespace() is np
    x = np.ones(3)
    assert to_numpy(x) is x
    assert to_numpy([1, 2]).tolist() == [1, 2]


@pytest.mark.gpu
def test_the_same_code_runs_on_cupy() -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    x = np.random.default_rng(8).standard_normal((12, 5))
    on_gpu = similarity.gram(similarity.normalise(cupy.asarray(x)))
    assert array_namespace(on_gpu) is cupy
    expected = similarity.gram(similarity.normalise(x))
    np.testing.assert_allclose(to_numpy(on_gpu), expected, atol=1e-12)
    with pytest.raises(TypeError, match="cannot be mixed"):
        array_namespace(x, on_gpu)


def test_cuda_without_cupy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=r"facestage\[cuda\]"):
        namespace("cuda")


def test_cuda_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class CUDARuntimeError(RuntimeError):
        pass

    def count() -> int:
        raise CUDARuntimeError("driver version is insufficient")

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
    fake = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    with pytest.raises(DeviceError, match="no working CUDA driver"):
        namespace("cuda:0")
    with pytest.raises(DeviceError, match="no array device 'tpu'"):
        namespace("tpu")


def test_profile_of_a_ring_is_that_of_the_maps_in_order() -> None:
    x = unit(np.random.default_rng(9).standard_normal((20, 30)))
    order = np.roll(np.arange(20), 7)
    runs = np.repeat([0, 1], [9, 11])
    ring = np.empty((20, 20))
    ring[np.ix_(order, order)] = similarity.gram(x)
    expected = similarity.lag_profile(similarity.gram(x), runs)
    found = similarity.ring_profile(ring, order, runs)
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-12)
    assert len(found) == 10
