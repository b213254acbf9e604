"""What is refused, in which words, and in which precision the rest is computed."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory

V = [1.0, 0.5, 0.0]

# Every public function with every argument that can be wrong.
OF_VARIANCES: dict[str, Callable[[Any], Any]] = {
    "wiener_gain": lambda v: theory.wiener_gain(v, 0.1),
    "mutual_information": lambda v: theory.mutual_information(v, 0.1),
    "condensation_time": lambda v: theory.condensation_time(v, 5),
    "onset_time": lambda v: theory.onset_time(v, 5),
    "basin_multiplicity": lambda v: theory.basin_multiplicity(v, 5, 0.1),
    "best_generalization_time": lambda v: theory.best_generalization_time(v, 5),
    "clt_breakdown_time": lambda v: theory.clt_breakdown_time(v, 5, point=V),
    "condensation_time_at": lambda v: theory.condensation_time_at(v, 5, point=V),
    "log_annealed_participation": lambda v: theory.log_annealed_participation(v, 5, 0.1, point=V),
    "planted_response": lambda v: theory.planted_response(v, 5, 0.1, training_point=V, point=V).gain,
    "log_critical_size": lambda v: theory.log_critical_size(v, 0.1),
    "effective_log_size": lambda v: theory.effective_log_size(v, [2, 1, 1], 0.1),
    "effective_noise": lambda v: theory.effective_noise(v, 5, 0.1),
    "gain": lambda v: theory.gain(v, 5, 0.1),
    "soft_dimension": lambda v: theory.soft_dimension(v, 5, 0.1),
    "freeze_out_sizes": lambda v: theory.freeze_out_sizes(v, 0.1),
    "freeze_out_times": lambda v: theory.freeze_out_times(v, 5),
    "dataset_size_for": lambda v: theory.dataset_size_for(v, 0.1, soft_dimension=1),
    "finite_size_gain": lambda v: theory.finite_size_gain(v, 5, 0.1, V),
    "finite_size_participation": lambda v: theory.finite_size_participation(v, 5, 0.1, V),
    "gain_quantile": lambda v: theory.gain_quantile(v, 5, 0.1),
    "finite_size_gain_quantile": lambda v: theory.finite_size_gain_quantile(v, 5, 0.1),
    "mean_finite_size_gain": lambda v: theory.mean_finite_size_gain(v, 5, 0.1),
    "mean_finite_size_participation": lambda v: theory.mean_finite_size_participation(v, 5, 0.1),
    "gradient_flow_gain": lambda v: theory.gradient_flow_gain(v, 0.1, 2.0),
    "gradient_descent_gain": lambda v: theory.gradient_descent_gain(v, 0.1, 3, 0.2),
    "learning_time": lambda v: theory.learning_time(v, 0.1),
    "mean_gradient_flow_gain": lambda v: theory.mean_gradient_flow_gain(v, 5, 0.1, 2.0),
}
OF_NOISE: dict[str, Callable[[Any], Any]] = {
    "wiener_gain": lambda t: theory.wiener_gain(V, t),
    "mutual_information": lambda t: theory.mutual_information(V, t),
    "log_critical_size": lambda t: theory.log_critical_size(V, t),
    "basin_multiplicity": lambda t: theory.basin_multiplicity(V, 5, t),
    "log_annealed_participation": lambda t: theory.log_annealed_participation(V, 5, t, point=V),
    "planted_response": lambda t: theory.planted_response(V, 5, t, training_point=V, point=V).gain,
    "effective_log_size": lambda t: theory.effective_log_size(V, [2, 1, 1], t),
    "effective_noise": lambda t: theory.effective_noise(V, 5, t),
    "gain": lambda t: theory.gain(V, 5, t),
    "soft_dimension": lambda t: theory.soft_dimension(V, 5, t),
    "freeze_out_sizes": lambda t: theory.freeze_out_sizes(V, t),
    "dataset_size_for": lambda t: theory.dataset_size_for(V, t, soft_dimension=1),
    "finite_size_gain": lambda t: theory.finite_size_gain(V, 5, t, V),
    "finite_size_participation": lambda t: theory.finite_size_participation(V, 5, t, V),
    "gain_quantile": lambda t: theory.gain_quantile(V, 5, t),
    "finite_size_gain_quantile": lambda t: theory.finite_size_gain_quantile(V, 5, t),
    "mean_finite_size_gain": lambda t: theory.mean_finite_size_gain(V, 5, t),
    "mean_finite_size_participation": lambda t: theory.mean_finite_size_participation(V, 5, t),
    "gradient_flow_gain": lambda t: theory.gradient_flow_gain(V, t, 2.0),
    "gradient_descent_gain": lambda t: theory.gradient_descent_gain(V, t, 3, 0.2),
    "learning_time": lambda t: theory.learning_time(V, t),
    "mean_gradient_flow_gain": lambda t: theory.mean_gradient_flow_gain(V, 5, t, 2.0),
}
OF_SIZE: dict[str, Callable[..., Any]] = {
    "condensation_time": lambda **n: theory.condensation_time(V, **n),
    "onset_time": lambda **n: theory.onset_time(V, **n),
    "basin_multiplicity": lambda **n: theory.basin_multiplicity(V, t=0.1, **n),
    "best_generalization_time": lambda **n: theory.best_generalization_time(V, **n),
    "clt_breakdown_time": lambda **n: theory.clt_breakdown_time(V, point=V, **n),
    "condensation_time_at": lambda **n: theory.condensation_time_at(V, point=V, **n),
    "log_annealed_participation": lambda **n: theory.log_annealed_participation(V, t=0.1, point=V, **n),
    "planted_response": lambda **n: theory.planted_response(V, t=0.1, training_point=V, point=V, **n).gain,
    "effective_noise": lambda **n: theory.effective_noise(V, t=0.1, **n),
    "gain": lambda **n: theory.gain(V, t=0.1, **n),
    "soft_dimension": lambda **n: theory.soft_dimension(V, t=0.1, **n),
    "freeze_out_times": lambda **n: theory.freeze_out_times(V, **n),
    "finite_size_gain": lambda **n: theory.finite_size_gain(V, t=0.1, x=V, **n),
    "finite_size_participation": lambda **n: theory.finite_size_participation(V, t=0.1, x=V, **n),
    "gain_quantile": lambda **n: theory.gain_quantile(V, t=0.1, **n),
    "finite_size_gain_quantile": lambda **n: theory.finite_size_gain_quantile(V, t=0.1, **n),
    "mean_finite_size_gain": lambda **n: theory.mean_finite_size_gain(V, t=0.1, **n),
    "mean_finite_size_participation": lambda **n: theory.mean_finite_size_participation(V, t=0.1, **n),
    "mean_gradient_flow_gain": lambda **n: theory.mean_gradient_flow_gain(V, t=0.1, training_time=2.0, **n),
}
OF_POINT: dict[str, Callable[[Any], jax.Array]] = {
    "clt_breakdown_time": lambda x: theory.clt_breakdown_time(V, 5, point=x),
    "condensation_time_at": lambda x: theory.condensation_time_at(V, 5, point=x),
    "log_annealed_participation": lambda x: theory.log_annealed_participation(V, 5, 0.1, point=x),
    "planted_response": lambda x: theory.planted_response(V, 5, 0.1, training_point=V, point=x).gain,
}
OF_LAW: dict[str, Callable[[Any], jax.Array]] = {
    "effective_noise": lambda law: theory.effective_noise(V, 5, 0.1, law),
    "gain": lambda law: theory.gain(V, 5, 0.1, law),
    "soft_dimension": lambda law: theory.soft_dimension(V, 5, 0.1, law),
    "freeze_out_sizes": lambda law: theory.freeze_out_sizes(V, 0.1, law),
    "freeze_out_times": lambda law: theory.freeze_out_times(V, 5, law),
    "dataset_size_for": lambda law: theory.dataset_size_for(V, 0.1, soft_dimension=1, law=law),
}


# Names beyond the laws of effective noise.
GAINS = ", finite_size, typical, planted"
OTHER_LAWS = {
    "gain": GAINS,
    "soft_dimension": GAINS,
    "dataset_size_for": GAINS,
    "freeze_out_sizes": f"{GAINS}, random_energy",
    "freeze_out_times": f"{GAINS}, random_energy",
}


# Of other arguments: tested in test_duplicates.py, test_information_from_mmse.py and test_sample_spectrum.py.
ELSEWHERE = {
    "condensation_time_from_mmse",
    "information_from_mmse",
    "log_size_at_participation",
    "spectrum_from_samples",
}


def message(error: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_tables_cover_the_package() -> None:
    """A new function has to be added above."""
    functions = {name for name in theory.__all__ if callable(getattr(theory, name)) and name[0].islower()}
    assert functions >= ELSEWHERE
    functions -= ELSEWHERE
    assert set(OF_VARIANCES) == functions
    assert (set(OF_NOISE) | set(OF_SIZE)) == functions
    assert set(OF_LAW) < functions


@pytest.mark.parametrize("name", OF_VARIANCES)
def test_variances_are_refused(name: str) -> None:
    call = OF_VARIANCES[name]
    for bad, text in [
        ([1.0, -0.25], "variances must be finite and >= 0 in float32, got variances[1] = -0.25"),
        (np.array([math.nan, 1.0]), "variances must be finite and >= 0 in float32, got variances[0] = nan"),
        (jnp.array([1.0, 2.0, math.inf]), "variances must be finite and >= 0 in float32, got variances[2] = inf"),
        ([], "variances must have shape (d,) with d >= 1, got shape (0,)"),
        (np.ones((2, 3)), "variances must have shape (d,) with d >= 1, got shape (2, 3)"),
        (1.0, "variances must have shape (d,) with d >= 1, got shape ()"),
    ]:
        assert message(ValueError, lambda bad=bad: call(bad)) == text  # type: ignore[misc]


@pytest.mark.parametrize("name", OF_NOISE)
def test_noises_are_refused(name: str) -> None:
    call = OF_NOISE[name]
    for bad, text in [
        (0.0, "t must be finite and > 0 in float32, got t = 0.0"),
        (-1, "t must be finite and > 0 in float32, got t = -1.0"),
        ([0.1, math.nan], "t must be finite and > 0 in float32, got t[1] = nan"),
        (np.array([[0.1], [math.inf]]), "t must be finite and > 0 in float32, got t[1, 0] = inf"),
    ]:
        assert message(ValueError, lambda bad=bad: call(bad)) == text  # type: ignore[misc]


@pytest.mark.parametrize("name", OF_SIZE)
def test_sizes_are_refused(name: str) -> None:
    call = OF_SIZE[name]
    for bad, text in [
        (0, "n must be >= 1, got n = 0"),
        (-(10**400), f"n must be >= 1, got n = {-(10**400)}"),
        (0.5, "n must be >= 1, got n = 0.5"),
        (math.nan, "n must be >= 1, got n = nan"),
        ([2, 0], "n must be >= 1, got n[1] = 0.0"),
    ]:
        assert message(ValueError, lambda bad=bad: call(n=bad)) == text  # type: ignore[misc]
    for bad, text in [
        (-0.1, "log_n must be >= 0, got log_n = -0.1"),
        (math.nan, "log_n must be >= 0, got log_n = nan"),
    ]:
        assert message(ValueError, lambda bad=bad: call(log_n=bad)) == text  # type: ignore[misc]
    one_of_two = "give the dataset size as n or as log_n, one of the two"
    assert message(TypeError, call) == one_of_two
    assert message(TypeError, lambda: call(n=5, log_n=1.0)) == one_of_two


@pytest.mark.parametrize("name", OF_POINT)
def test_points_are_refused(name: str) -> None:
    call = OF_POINT[name]
    for bad, text in [
        ([1.0, 2.0], "point must have shape (..., 3), got shape (2,)"),
        (1.0, "point must have shape (..., 3), got shape ()"),
        (np.ones((3, 2)), "point must have shape (..., 3), got shape (3, 2)"),
        ([0.0, math.inf, 0.0], "point must be finite in float32, got point[1] = inf"),
        (np.array([[0.0, 0.0, 0.0], [0.0, 0.0, math.nan]]), "point must be finite in float32, got point[1, 2] = nan"),
    ]:
        assert message(ValueError, lambda bad=bad: call(bad)) == text  # type: ignore[misc]


@pytest.mark.parametrize("name", OF_LAW)
def test_laws_are_refused(name: str) -> None:
    for bad in ("empirica", "", None):
        names = "population, linear, empirical" + OTHER_LAWS.get(name, "")
        expected = f"law must be one of {names}, got {bad!r}"
        assert message(ValueError, lambda bad=bad: OF_LAW[name](bad)) == expected  # type: ignore[misc]


def test_other_arguments_are_refused() -> None:
    assert message(ValueError, lambda: theory.log_critical_size(V, 0.1, -1)) == "probe must be >= 0, got probe = -1"
    assert "probe" in message(ValueError, lambda: theory.log_critical_size(V, 0.1, math.nan))
    expected = "training_point must have shape (..., 3), got shape (1,)"
    bad_center = lambda: theory.planted_response(V, 5, 0.1, training_point=[0.0], point=V)  # noqa: E731
    assert message(ValueError, bad_center) == expected
    at_points: list[Callable[..., Any]] = [
        lambda v, n: theory.log_annealed_participation(v, n, point=V),
        lambda v, n: theory.planted_response(v, n, training_point=V, point=V),
    ]
    for call in (theory.effective_noise, theory.gain, theory.soft_dimension, theory.basin_multiplicity, *at_points):
        assert message(TypeError, lambda call=call: call(V, 5)) == "give the noise variance t"  # type: ignore[misc]
    assert np.isnan(theory.dataset_size_for(V, 0.1, soft_dimension=math.nan))
    with pytest.raises(TypeError):
        theory.LAWS["mine"] = theory.LAWS["linear"]  # type: ignore[index]


def test_traced_values_are_not_checked() -> None:
    """A value inside jit cannot be looked at; it passes, and comes out as it may."""
    bad = jnp.array([-1.0, math.nan, math.inf])
    assert jax.jit(OF_VARIANCES["wiener_gain"])(bad).shape == (3,)
    assert jax.jit(OF_VARIANCES["mutual_information"])(bad).shape == ()
    assert jax.jit(lambda t: theory.gain(V, 5, t, "population"))(jnp.array(-3.0)).shape == (3,)
    assert jax.jit(lambda n: theory.effective_noise(V, n, 0.1))(jnp.array(math.nan)).shape == ()
    with pytest.raises(ValueError, match="law"):  # static arguments are
        jax.jit(lambda t: theory.gain(V, 5, t, "empirica"))(0.1)
    with pytest.raises(ValueError, match="shape"):
        jax.jit(OF_VARIANCES["wiener_gain"])(jnp.ones((2, 2)))


def test_sizes_beyond_every_float() -> None:
    sizes: list[tuple[Any, float]] = [
        (10**400, 400 * math.log(10)),
        (np.float64(1e300), 300 * math.log(10)),
        (np.int64(7), math.log(7)),
    ]
    for n, log_n in sizes:
        found = theory.condensation_time([1.0] * 100, n)
        np.testing.assert_allclose(found, theory.condensation_time([1.0] * 100, log_n=log_n), rtol=1e-4)
        np.testing.assert_allclose(found, 1 / np.expm1(2 * log_n / 100), rtol=1e-4)


def test_the_arrays_decide_the_precision(x64: bool) -> None:
    default = np.float64 if x64 else np.float32
    f32, f16 = np.array(V, np.float32), np.array(V, np.float16)
    single = [
        theory.wiener_gain(f32, 0.1),
        theory.wiener_gain(jnp.asarray(f32), np.float32(0.1)),
        theory.gain(f32, 5, 0.1),
        theory.gain(f32, np.array([5.0, 6.0]), 0.1),  # sizes do not decide: they are logged on the host
        theory.condensation_time(f32, log_n=np.float64(2.0)),
        theory.freeze_out_sizes(f32, 0.1),
        theory.condensation_time(f16, 5),
        theory.wiener_gain(f16, 0.1),
        theory.wiener_gain(jnp.asarray(V, jnp.bfloat16), 0.1),
    ]
    assert {r.dtype for r in single} == {np.dtype(np.float32)}
    by_default = [
        theory.wiener_gain(V, 0.1),
        theory.wiener_gain([1, 2], 1),
        theory.wiener_gain(np.array([1, 2]), 1),
        theory.condensation_time(V, 5),
        theory.dataset_size_for(V, 0.1, soft_dimension=1),
    ]
    assert {r.dtype for r in by_default} == {np.dtype(default)}
    # A float64 noise promotes float32 variances, where there is float64.
    promoted = [theory.wiener_gain(f32, np.float64(0.1)), theory.gain(f32, 5, np.array([0.1]))]
    promoted.append(theory.wiener_gain(np.array(V, np.float64), np.float32(0.1)))
    assert {r.dtype for r in promoted} == {np.dtype(default)}


def test_values_that_the_precision_cannot_hold_are_refused() -> None:
    """1e-50 is positive and 1e50 finite, but not in float32, where they would give nan or inf without a word."""
    f32 = np.array(V, np.float32)
    t_refused = "t must be finite and > 0 in float32, got t = 1e-50"
    assert message(ValueError, lambda: theory.wiener_gain(f32, 1e-50)) == t_refused
    v_refused = "variances must be finite and >= 0 in float32, got variances[0] = 1e+50"
    assert message(ValueError, lambda: theory.gain([1e50, 1.0], 5, 0.1)) == v_refused
    with jax.enable_x64(True):
        assert np.all(np.isfinite(theory.wiener_gain([1e50, 1.0], 1e-50)))


def test_the_result_does_not_depend_on_who_holds_the_numbers() -> None:
    expected = np.asarray(theory.gain(V, 5, [0.1, 1.0]))
    np.testing.assert_array_equal(theory.gain(tuple(V), 5.0, np.array([0.1, 1.0], np.float32)), expected)
    np.testing.assert_allclose(theory.gain(jnp.array(V), jnp.array(5), jnp.array([0.1, 1.0])), expected, rtol=1e-6)
    np.testing.assert_allclose(theory.gain(V, log_n=math.log(5), t=[0.1, 1.0]), expected, rtol=1e-6)
