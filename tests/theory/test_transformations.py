"""Everything under jit, vmap, grad, without recompilation and without a (d, d) array."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import chex  # type: ignore[import-untyped]
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from theory import condensation, duplicates, freeze_out, information, laws, planted, pointwise, population
from theory.effective_noise import _jitted_noise_of
from theory.learning_time import _descent, _flow, _learning_time, _mean_flow

Function = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

COPIES = [40, 6, 1, 1]
X = np.array([1.0, -0.5, 0.2, 0.0, 0.3])  # a point, off the data in the direction of zero variance


def planted_response(v: jax.Array, s: jax.Array, t: jax.Array) -> theory.PlantedResponse:
    # A probe as far as a typical one, so that the weight is not 1 at the noise below.
    return theory.planted_response(v, log_n=s, t=40 * t, training_point=X * (VARIANCES > 0), point=X + 0.7)


# Every public function of (variances, log_n, t); those of one law stand for all where the law is only looked up.
FUNCTIONS: dict[str, Function] = {
    "wiener_gain": lambda v, s, t: theory.wiener_gain(v, t),
    "mutual_information": lambda v, s, t: theory.mutual_information(v, t),
    "condensation_time": lambda v, s, t: theory.condensation_time(v, log_n=s),
    "onset_time": lambda v, s, t: theory.onset_time(v, log_n=s),
    "log_critical_size": lambda v, s, t: theory.log_critical_size(v, t, 0.5),
    "basin_multiplicity": lambda v, s, t: theory.basin_multiplicity(v, log_n=s, t=50 * t),
    "basin_multiplicity below t_c": lambda v, s, t: theory.basin_multiplicity(v, log_n=s, t=t),
    "condensation_time_at": lambda v, s, t: theory.condensation_time_at(v, log_n=s, point=X),
    "clt_breakdown_time": lambda v, s, t: theory.clt_breakdown_time(v, log_n=s, point=X),
    "log_annealed_participation": lambda v, s, t: theory.log_annealed_participation(v, log_n=s, t=10 * t, point=X),
    "planted weight": lambda v, s, t: planted_response(v, s, t).weight,
    "planted gain": lambda v, s, t: planted_response(v, s, t).gain,
    "planted_law": lambda v, s, t: planted.planted_law(v, s, t),
    "planted_law at probe 0.3": lambda v, s, t: planted.planted_law(v, s, 40 * t, 0.3),
    "planted_sizes at probe 0.3": lambda v, s, t: planted.planted_sizes(v, t, 0.3),
    "planted_times": lambda v, s, t: planted.planted_times(v, s),
    "planted_times at probe 0.3": lambda v, s, t: planted.planted_times(v, s, 0.3),
    "effective_log_size linear": lambda v, s, t: theory.effective_log_size(v, COPIES, t, "linear"),
    "effective_log_size empirical": lambda v, s, t: theory.effective_log_size(v, COPIES, t),
    "log_size_at_participation": lambda v, s, t: theory.log_size_at_participation(COPIES, s / (1 + t)),
    "effective_noise linear": lambda v, s, t: theory.effective_noise(v, log_n=s, t=t, law="linear"),
    "gain empirical": lambda v, s, t: theory.gain(v, log_n=s, t=t),
    "soft_dimension empirical": lambda v, s, t: theory.soft_dimension(v, log_n=s, t=t),
    "freeze_out_sizes linear": lambda v, s, t: theory.freeze_out_sizes(v, t, "linear"),
    "freeze_out_sizes empirical": lambda v, s, t: theory.freeze_out_sizes(v, t),
    "freeze_out_times linear": lambda v, s, t: theory.freeze_out_times(v, log_n=s, law="linear"),
    "freeze_out_times empirical": lambda v, s, t: theory.freeze_out_times(v, log_n=s),
    "dataset_size_for linear": lambda v, s, t: theory.dataset_size_for(v, t, soft_dimension=s, law="linear"),
    "dataset_size_for empirical": lambda v, s, t: theory.dataset_size_for(v, t, soft_dimension=s),
    "gradient_flow_gain": lambda v, s, t: theory.gradient_flow_gain(v, t, s, initial_gain=t),
    "gradient_descent_gain": lambda v, s, t: theory.gradient_descent_gain(v, t, 3, s, initial_gain=t),
    "learning_time": lambda v, s, t: theory.learning_time(v, t, s),
    "mean_gradient_flow_gain": lambda v, s, t: theory.mean_gradient_flow_gain(v, log_n=s, t=t, training_time=s + t),
}

# Programs that run a few times on five directions: most of the time goes into compiling them.
quickly = partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)


@cache
def compiled(name: str) -> Function:
    return quickly(FUNCTIONS[name])


# A zero variance, two equal ones, N = 1.6 below half the rank; t = 0.02 below t_c.
VARIANCES = np.array([2.0, 0.5, 0.5, 0.1, 0.0])
LOG_N = 0.5
T = 0.02
POINT = np.array([*VARIANCES, LOG_N, T])


def at(function: Function) -> Callable[[jax.Array], jax.Array]:
    """The same as a function of one vector; infinite sizes and times of null directions are left out."""

    def of_point(point: jax.Array) -> jax.Array:
        result = function(point[:-2], point[-2], point[-1])
        return result[:-1] if result.ndim else result

    return of_point


def difference(f: Callable[..., jax.Array], i: int) -> np.ndarray:
    """Derivative of f along argument i: central, or one-sided (of the same order) at the border, a zero variance."""
    step = 1e-5 * (POINT[i] or 1.0)
    moved = [np.asarray(f(POINT + k * step * np.eye(POINT.size)[i])) for k in range(-1 if POINT[i] else 0, 3)]
    if POINT[i]:
        return (moved[2] - moved[0]) / (2 * step)
    return (-3 * moved[0] + 4 * moved[1] - moved[2]) / (2 * step)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name: str) -> None:
    with jax.enable_x64(True):
        f = at(FUNCTIONS[name])
        forward, reverse = quickly(lambda point: (jax.jacfwd(f)(point), jax.jacrev(f)(point)))(POINT)
        numerical = np.stack([difference(at(compiled(name)), i) for i in range(POINT.size)], axis=-1)
    assert np.all(np.isfinite(forward))
    assert np.any(np.abs(forward) > 0.1)
    np.testing.assert_allclose(reverse, forward, rtol=1e-10, atol=1e-10)
    # A difference of step 1e-5 is good to 1e-10 (curvature, relative to scale) + 1e-10 (a root's rounding over the
    # step); second derivatives in a variance of 0 reach (1/t)^2.
    np.testing.assert_allclose(forward, numerical, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["soft_dimension empirical", "condensation_time", pytest.param("freeze_out_times linear", marks=pytest.mark.slow)],
)
def test_hessians_are_finite_and_right(name: str) -> None:
    with jax.enable_x64(True):
        f = at(FUNCTIONS[name])
        total = lambda point: jnp.sum(f(point))  # noqa: E731
        gradient = quickly(jax.grad(total))
        hessian = np.asarray(quickly(jax.hessian(total))(POINT))
        numerical = np.stack([difference(gradient, i) for i in range(POINT.size)], axis=-1)
    assert np.all(np.isfinite(hessian))
    np.testing.assert_allclose(hessian, numerical, rtol=1e-5, atol=1e-4 * np.abs(hessian).max())


def test_gradients_on_either_side_of_the_condensation_time() -> None:
    """The empirical law has a kink at t_c: Wiener above, steeper below, and no nan on either side."""
    with jax.enable_x64(True):
        t_c = float(theory.condensation_time(VARIANCES, log_n=LOG_N))
        kappa = jax.jit(lambda s, t: theory.effective_noise(VARIANCES, log_n=s, t=t))
        slope = jax.jit(jax.grad(kappa, (0, 1)))
        assert [float(g) for g in slope(LOG_N, 1.001 * t_c)] == [0.0, 1.0]
        below = np.array(slope(LOG_N, 0.999 * t_c))
        step = 1e-6
        for i, numerical in enumerate(
            [
                (kappa(LOG_N + step, 0.999 * t_c) - kappa(LOG_N - step, 0.999 * t_c)) / (2 * step),
                (kappa(LOG_N, 0.999 * t_c + step) - kappa(LOG_N, 0.999 * t_c - step)) / (2 * step),
            ]
        ):
            np.testing.assert_allclose(below[i], numerical, rtol=1e-6)
    assert below[0] < 0
    assert 0 < below[1] < 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vmap_over_spectra_and_sizes_is_a_loop(name: str) -> None:
    with jax.enable_x64(True):
        spectra = jnp.array([VARIANCES, 3 * VARIANCES, VARIANCES[::-1]])
        sizes, noises = jnp.array([0.5, 0.2, 0.7]), jnp.array([0.02, 0.1, 1.0])
        mapped = quickly(jax.vmap(FUNCTIONS[name]))(spectra, sizes, noises)
        looped = np.stack([compiled(name)(*arguments) for arguments in zip(spectra, sizes, noises, strict=True)])
    np.testing.assert_allclose(mapped, looped, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["gain empirical", "freeze_out_sizes linear"])
def test_new_numbers_are_not_traced_again(name: str) -> None:
    counted = jax.jit(chex.assert_max_traces(FUNCTIONS[name], n=1))
    results = [np.asarray(counted(jnp.asarray(VARIANCES), s, t)) for s, t in [(0.5, 0.02), (0.7, 1.0), (0.1, 3e-3)]]
    assert not np.array_equal(results[0], results[1])
    with pytest.raises(AssertionError, match="traced"):  # another shape is traced, and counted
        counted(jnp.ones(2), 0.5, 0.02)


COMPILED = [
    population._wiener_gain,
    information._mutual_information,
    condensation._times,
    condensation._log_critical_size,
    condensation._basins,
    pointwise._times_at,
    pointwise._breakdown_times_at,
    pointwise._log_annealed_participation,
    planted._responses,
    duplicates._jitted_log_sizes,
    duplicates._entropies,
    _jitted_noise_of,
    laws._gain,
    freeze_out._sizes,
    freeze_out._times,
    freeze_out._dataset_size,
    _flow,
    _descent,
    _learning_time,
    _mean_flow,
]


def test_eager_calls_compile_once_for_all_numbers() -> None:
    def call_all(v: np.ndarray, n: Any, t: Any) -> None:
        theory.wiener_gain(v, t)
        theory.mutual_information(v, t)
        theory.condensation_time(v, n)
        theory.log_critical_size(v, t)
        theory.basin_multiplicity(v, n, t)
        theory.condensation_time_at(v, n, point=v)
        theory.clt_breakdown_time(v, n, point=v)
        theory.log_annealed_participation(v, n, t, point=v)
        theory.planted_response(v, n, t, training_point=v, point=v)
        theory.effective_log_size(v, [1, 2 + int(n) % 7], t)
        theory.log_size_at_participation([2, 1], float(t) / 5)
        theory.effective_noise(v, n, t)
        theory.gain(v, n, t)
        theory.freeze_out_sizes(v, t)
        theory.freeze_out_times(v, n)
        theory.dataset_size_for(v, t, soft_dimension=1.0)
        theory.gradient_flow_gain(v, t, float(t))
        theory.gradient_descent_gain(v, t, int(n) % 7, float(t))
        theory.learning_time(v, t, float(t) / 5)
        theory.mean_gradient_flow_gain(v, n, t, 2 * float(t))

    def sizes() -> list[int]:
        return [f._cache_size() for f in COMPILED]  # type: ignore[attr-defined]

    with jax.enable_x64(True):
        call_all(VARIANCES, 5, 0.1)
        first = sizes()
        for n, t in [(6, 0.2), (10**400, 1e-3), (7.5, np.float32(3.0)), (np.int64(12), 4)]:
            call_all(2 * VARIANCES, n, t)
        assert sizes() == first
        theory.wiener_gain(VARIANCES[:4], 0.1)  # another shape is another program, and is counted
        assert sizes() == [first[0] + 1, *first[1:]]


def sub_jaxprs(value: Any) -> Iterator[Any]:
    if hasattr(value, "eqns"):
        yield value
    elif hasattr(value, "jaxpr"):
        yield from sub_jaxprs(value.jaxpr)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from sub_jaxprs(item)


def largest_array(jaxpr: Any) -> int:
    """Elements of the largest array that is made anywhere in a program, however deeply nested."""
    largest = 0
    for equation in jaxpr.eqns:
        largest = max([largest] + [v.aval.size for v in equation.outvars])
        for parameter in equation.params.values():
            largest = max([largest] + [largest_array(inner) for inner in sub_jaxprs(parameter)])
    return largest


D = 10_000


def program(f: Callable[[jax.Array], jax.Array]) -> int:
    return largest_array(jax.make_jaxpr(f)(jnp.ones(D)).jaxpr)


def test_the_search_for_large_arrays_finds_them() -> None:
    assert program(lambda v: v + 1) == D
    assert program(lambda v: jnp.sum(v[:, None] * v, axis=1)) == D**2
    # Nested: in a scan inside a jit, and the residuals of a gradient.
    nested = jax.jit(lambda v: jax.lax.map(lambda x: jnp.sum(x * v), v))
    assert program(nested) < 1000 * D
    assert program(jax.grad(lambda v: jnp.sum(jax.lax.map(lambda x: jnp.sum(jnp.sin(x * v)), v)))) == D**2


@pytest.mark.parametrize("law", ["linear", "empirical"])
@pytest.mark.parametrize(
    "quantity",
    [
        lambda v, law: theory.freeze_out_sizes(v, 0.1, law),
        lambda v, law: theory.freeze_out_times(v, log_n=3.0, law=law),
        lambda v, law: theory.dataset_size_for(v, 0.1, soft_dimension=5.0, law=law),
    ],
    ids=["sizes", "times", "dataset_size"],
)
def test_ten_thousand_directions_make_no_square_array(quantity: Callable[..., jax.Array], law: str) -> None:
    def total(v: jax.Array) -> jax.Array:
        results = quantity(v, law)
        return jnp.sum(jnp.where(jnp.isfinite(results), results, 0))

    assert program(total) < 1000 * D
    assert program(jax.grad(total)) < 1000 * D
    direction = jnp.ones(D)
    assert program(lambda v: jax.jvp(total, (v,), (direction,))[1]) < 1000 * D
