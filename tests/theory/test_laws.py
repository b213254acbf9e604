"""Laws without a closed form of freeze-out: the scan against closed forms, laws made up here, and dense searches."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from theory import freeze_out, mean_finite_size

from . import naive

LADDER = np.asarray(naive.SPECTRA["ladder"])
FEW = np.array([2.0, 0.5, 0.5, 0.1, 0.0])


@pytest.mark.parametrize(
    ("law", "parameters", "x64"),
    [("empirical", {}, True), ("planted", {"probe": 0.3}, True), ("linear", {}, False)],
    indirect=["x64"],
)
def test_the_scan_finds_what_closed_forms_say(law: str, parameters: dict[str, float], x64: bool) -> None:
    # Roots stop at 4 eps of log N or log t; the law's own roots, of a condition below 100, do the rest.
    tolerance = 1e3 * np.finfo(naive.precision(x64)).eps
    t = np.array([0.01, 0.3], naive.precision(x64))
    function = partial(theory.LAWS[law], **parameters)  # the same law, but no closed form is known of a function
    sizes = np.asarray(theory.freeze_out_sizes(LADDER, t, law, **parameters))
    found = np.asarray(theory.freeze_out_sizes(LADDER, t, function))
    assert found.dtype == naive.precision(x64)
    np.testing.assert_allclose(found, sizes, rtol=tolerance)
    n = np.array([20.0, 1000.0])
    times = np.asarray(theory.freeze_out_times(LADDER, n, law, **parameters))
    found = np.asarray(theory.freeze_out_times(LADDER, n, function))
    assert np.any((times > 0) & np.isfinite(times))
    np.testing.assert_allclose(found, times, rtol=10 * tolerance)
    if law != "planted":
        target = np.array([[3.0], [9.0]], naive.precision(x64))
        size = theory.dataset_size_for(LADDER, t, soft_dimension=target, law=law)
        found = theory.dataset_size_for(LADDER, t, soft_dimension=target, law=function)
        np.testing.assert_allclose(found, size, rtol=tolerance)


def own_law(variances: jax.Array, log_n: jax.Array, t: jax.Array, noise: float = 10.0) -> jax.Array:
    """Data of size N act like a noise variance noise/N."""
    return variances / (variances + t + noise * jnp.exp(-log_n))


@pytest.mark.parametrize("noise", [10.0, 10.5])
def test_a_law_of_ones_own(noise: float) -> None:
    """Half the relative gain where noise/N = v + t, solved by hand; a law off by 5 % is told apart."""
    law = partial(own_law, noise=noise)
    exact = noise == 10
    n, t, v = np.array([4.0, 100.0]), np.array([0.1, 3.0]), FEW[:4]
    with jax.enable_x64(True):
        sizes = np.asarray(theory.freeze_out_sizes(FEW, t, law))[:, :4]
        times = np.asarray(theory.freeze_out_times(FEW, n, law))[:, :4]
        same = theory.freeze_out_sizes(FEW, t, own_law, noise=noise)  # keywords are bound to any law
        equal = float(theory.dataset_size_for(np.full(4, 0.5), 0.1, soft_dimension=2.0, law=law))
    np.testing.assert_array_equal(sizes, np.asarray(same)[:, :4])
    by_hand = np.log(10 / (v + t[:, None]))
    assert np.allclose(sizes, by_hand, rtol=1e-12, atol=1e-12) is exact
    by_hand = np.maximum(10 / n[:, None] - v, 0)
    assert np.any(by_hand == 0)  # never frozen at 100 points
    assert np.allclose(times, by_hand, rtol=1e-11, atol=0) is exact
    # 4 v/(v + t + noise/N) = 2.
    assert np.allclose(equal, np.log(10 / 0.4), rtol=1e-12) is exact


@pytest.mark.parametrize("new_emitter", [False, True])
@pytest.mark.parametrize("level", [0, 3])
def test_a_scan_closes_however_it_is_compiled(level: int, new_emitter: bool) -> None:
    """Compilers may round one value differently in each of its uses; a root where it is zero must bear that."""
    options: Any = {"xla_backend_optimization_level": level, "xla_cpu_use_fusion_emitters": new_emitter}
    t = np.array([0.1, 3.0])
    with jax.enable_x64(True):
        sizes = jax.jit(lambda v, t: theory.freeze_out_sizes(v, t, own_law), compiler_options=options)(FEW, t)
        found = np.asarray(sizes)[:, :4]
    np.testing.assert_allclose(found, np.log(10 / (FEW[:4] + t[:, None])), rtol=1e-12)


def test_the_last_of_several_windows_counts() -> None:
    def windows(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
        frozen = ((log_n > 1) & (log_n < 2)) | ((log_n > 4) & (log_n < 6)) | ((t > 0.3) & (t < 0.7))
        return variances / (variances + t) * jnp.where(frozen, 0.25, 0.75)

    with jax.enable_x64(True):
        np.testing.assert_allclose(theory.freeze_out_sizes(FEW, 0.1, windows)[:4], 6, rtol=1e-12)
        np.testing.assert_allclose(theory.freeze_out_times(FEW, log_n=3.0, law=windows)[:4], 0.7, rtol=1e-12)


def test_always_and_never_frozen(x64: bool) -> None:
    def free(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
        return variances / (variances + t)

    def frozen(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
        return 0.4 * free(variances, log_n, t)

    positive = FEW > 0
    for law, size, time in ((free, -np.inf, 0.0), (frozen, np.inf, np.inf)):
        np.testing.assert_array_equal(theory.freeze_out_sizes(FEW, 0.1, law), np.where(positive, size, np.inf))
        np.testing.assert_array_equal(theory.freeze_out_times(FEW, 10, law), np.where(positive, time, np.inf))
        assert np.all(np.isposinf(theory.freeze_out_times(FEW, 1, law)))  # one point: by convention
    targets = np.array([-1.0, 0.5, 3.9, np.nan])
    found = theory.dataset_size_for(FEW, 0.1, soft_dimension=targets, law=frozen)
    np.testing.assert_array_equal(found, [-np.inf, -np.inf, np.inf, np.nan])


@pytest.mark.parametrize(
    ("name", "transform"), [("sizes", jax.jacrev), ("times", jax.jacfwd), ("dataset size", jax.jacrev)]
)
def test_derivatives_of_a_scan_are_those_of_the_closed_form(name: str, transform: Callable[..., Any]) -> None:
    """Forward and backward, in variances, size and noise."""
    quantities: dict[str, Callable[[Any, Any, Any, Any], jax.Array]] = {
        "sizes": lambda v, s, t, law: theory.freeze_out_sizes(v, t, law)[:4],
        "times": lambda v, s, t, law: theory.freeze_out_times(v, log_n=s, law=law)[:4],
        "dataset size": lambda v, s, t, law: theory.dataset_size_for(v, t, soft_dimension=s, law=law),
    }
    with jax.enable_x64(True):
        closed, scanned = (
            jax.jit(transform(partial(quantities[name], law=law), (0, 1, 2)))(FEW, 0.5, 0.02)
            for law in ("empirical", theory.LAWS["empirical"])
        )
        for expected, found in zip(closed, scanned, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert np.any(np.abs(closed[0]) > 0.01)


def test_vmap_of_a_scan_is_a_loop() -> None:
    with jax.enable_x64(True):
        spectra, noises = jnp.array([FEW, 3 * FEW, FEW[::-1]]), jnp.array([0.02, 0.1, 1.0])
        mapped = jax.vmap(lambda v, t: theory.freeze_out_sizes(v, t, own_law))(spectra, noises)
        looped = [theory.freeze_out_sizes(v, t, own_law) for v, t in zip(spectra, noises, strict=True)]
        np.testing.assert_allclose(mapped, np.stack(looped), rtol=1e-12)


def test_frozen_by_the_median() -> None:
    """The typical law, by a dense search of its quantiles."""
    v, t, n = LADDER[:24:4], 0.1, 100
    with jax.enable_x64(True):
        sizes = np.asarray(theory.freeze_out_sizes(LADDER, t, "typical"))[:24:4]
        times = np.asarray(theory.freeze_out_times(LADDER, n, "typical"))[:24:4]
        grid = np.linspace(0, 15, 401)
        rho = np.asarray(theory.gain_quantile(LADDER, log_n=grid, t=t))[:, :24:4] * (v + t) / v
        by_noise = np.geomspace(1e-3, 3, 401)
        rho_t = np.asarray(theory.gain_quantile(LADDER, n, by_noise))[:, :24:4] * (v + by_noise[:, None]) / v
        quartile = np.asarray(theory.freeze_out_sizes(LADDER, t, "typical", quantile=0.75))[:24:4]
    for values, axis, found in ((rho, grid, sizes), (rho_t, by_noise, times)):
        last = len(axis) - 1 - np.argmax(values[::-1] < 0.5, axis=0)
        assert np.all((axis[last] <= found) & (found <= axis[last + 1]))
    # Typical points are frozen up to far larger sizes than the mean is, the best quarter is not.
    by_mean = np.asarray(theory.freeze_out_sizes(LADDER, t))[:24:4]
    assert np.all(sizes > by_mean + 0.5)
    assert np.all(quartile < sizes)
    assert not np.any(theory.gain(LADDER, 1, t, "typical"))  # one point has no spread


@pytest.mark.slow  # a scan of an average, compiled three times
def test_frozen_by_the_exact_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the size found the exact gain is half of that of infinite data; leading order is off by far more.

    The average is over few points here, here and there the same ones: its accuracy is tested with it.
    """
    monkeypatch.setattr(mean_finite_size, "POINTS", 1)
    monkeypatch.setattr(mean_finite_size, "LIGHT", 2)
    monkeypatch.setattr(freeze_out, "SCAN", 12)
    v, t = np.array([1.0, 0.25, 0.25]), 0.05
    with jax.enable_x64(True):
        sizes = np.asarray(theory.freeze_out_sizes(v, t, "finite_size"))
        leading = np.asarray(theory.freeze_out_sizes(v, t))
        near = sizes[1] + np.array([-0.2, 0.0, 0.2])
        gains = np.asarray(theory.mean_finite_size_gain(v, log_n=near, t=t).mean)
        target = float(gains[2].sum())
        size = float(theory.dataset_size_for(v, t, soft_dimension=target, law="finite_size"))
    assert sizes[1] == sizes[2] > sizes[0]
    relative = gains[:, 1] * (0.25 + t) / 0.25
    assert relative[0] < 0.5 < relative[2]
    assert relative[1] == pytest.approx(0.5, rel=1e-9)
    assert size == pytest.approx(near[2], rel=1e-9)
    assert abs(sizes[1] - leading[1]) > 0.3


def test_the_planted_and_the_random_energy_predictors_are_named() -> None:
    with jax.enable_x64(True):
        t = np.array([0.1, 1.0])
        found = theory.freeze_out_sizes(FEW, t, "random_energy")
        np.testing.assert_allclose(found[:, :4], FEW[:4] / (2 * t[:, None]), rtol=1e-12)
        found = theory.freeze_out_sizes(FEW, t, "random_energy", normalized=False)
        expected = FEW[:4] / (2 * t[:, None]) + np.sum(FEW**2) / (4 * t[:, None] ** 2)
        np.testing.assert_allclose(found[:, :4], expected, rtol=1e-12)
        found = theory.freeze_out_times(FEW, 100, "random_energy")
        np.testing.assert_allclose(found[:4], FEW[:4] / (2 * np.log(100)), rtol=1e-12)
        assert np.all(np.isposinf(found[4:]))
        # N* - 1 = (sqrt 2 - 1) exp I for the nominal noise; another probe is another law.
        information = np.asarray(theory.mutual_information(FEW, t))
        found = theory.freeze_out_sizes(FEW, t, "planted")
        np.testing.assert_allclose(found[:, 0], np.log1p((np.sqrt(2) - 1) * np.exp(information)), rtol=1e-12)
        assert np.all(np.asarray(theory.freeze_out_sizes(FEW, t, "planted", probe=0.0))[:, :4] > found[:, :4])
        gains = theory.gain(FEW, 7, 0.1, "planted", probe=0.0)
        np.testing.assert_allclose(gains, theory.LAWS["planted"](jnp.asarray(FEW), np.log(7), jnp.asarray(0.1), 0.0))


def test_scopes_say_where_a_law_holds() -> None:
    assert set(theory.LAWS) == set(theory.SCOPES)
    for scope in theory.SCOPES.values():
        assert scope.exact == (scope.limit == "")
        assert scope.point in ("any", "held_out", "train")
        assert scope.statistic in ("mean", "median")
    assert theory.SCOPES["typical"].statistic == "median"
    assert theory.SCOPES["planted"].point == "train"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: theory.gain(FEW, 5, 0.1, "planted", prob=1.0), TypeError, "unexpected keyword argument 'prob'"),
        (lambda: theory.gain(FEW, 5, 0.1, "linear", probe=1.0), TypeError, "unexpected keyword argument 'probe'"),
        (lambda: theory.freeze_out_sizes(FEW, 0.1, probe=1.0), TypeError, "unexpected keyword argument 'probe'"),
        (lambda: theory.freeze_out_sizes(FEW, 0.1, "planted", probe=-1.0), ValueError, "probe must be"),
        (lambda: theory.freeze_out_times(FEW, 5, "planted", probe=2.0), ValueError, "probe must be at most 1"),
        (lambda: theory.gain(FEW, 5, 0.1, "typical", quantile=1.0), ValueError, "quantile must be between 0 and 1"),
        (lambda: theory.gain(FEW, 5, 0.1, "finite_size", point="origin"), ValueError, "'held_out' or 'train'"),
        (lambda: theory.dataset_size_for(FEW, 0.1, soft_dimension=1, law="random_energy"), ValueError, "law must be"),
    ],
)
def test_keywords_are_checked(call: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
