"""Spectra of Jacobians: against finite differences, whatever the batches; memory, compilation, devices."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from geomem_jax import batching, jacobian, memory
from geomem_jax.denoisers import convolutional, empirical_jacobian, linear, mlp, population
from geomem_jax.errors import InputError

D = 6
SCRIPT = Path(__file__).with_name("spread.py")


def skewed(matrices: tuple[Any, Any], x: jax.Array, t: jax.Array) -> jax.Array:
    """A denoiser without a potential."""
    return jnp.tanh(matrices[1] @ jnp.sin(matrices[0] @ x / t))


def weights(seed: int = 0) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(9, D)) / 2, float), jnp.asarray(rng.normal(size=(D, 9)) / 2, float)


def differences(x: np.ndarray, t: float) -> np.ndarray:
    """Jacobians by central differences in float64: their error is 1e-10 times third derivatives of order 10."""
    first, second = (np.asarray(matrix, np.float64) for matrix in weights())

    def exact(x: np.ndarray) -> np.ndarray:
        return np.tanh(np.sin(x @ first.T / t) @ second.T)

    steps = 1e-5 * np.eye(D)
    columns = [(exact(x + step) - exact(x - step)) / 2e-5 for step in steps]
    return np.stack(columns, axis=2)


def points(count: int = 11) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(count, D)), float)


def test_spectra_are_those_of_finite_differences(x64: bool) -> None:
    x, model = points(), Partial(skewed, weights())
    expected = differences(np.asarray(x, np.float64), 0.7)
    tolerance = 1e-8 if x64 else 1e-5
    np.testing.assert_allclose(jacobian.full(model, x, 0.7), expected, atol=tolerance)
    np.testing.assert_allclose(jacobian.gains(model, x, 0.7), np.einsum("bii->bi", expected), atol=tolerance)
    found = jacobian.spectrum(model, x, 0.7)
    values = np.linalg.svd(expected - np.eye(D), compute_uv=False)
    np.testing.assert_allclose(found.singular_values, values, atol=tolerance)
    np.testing.assert_allclose(jacobian.singular_values(model, x, 0.7), values, atol=tolerance)
    transposed = np.swapaxes(expected, 1, 2)
    eigenvalues = np.linalg.eigvalsh((expected + transposed) / 2)[:, ::-1]
    np.testing.assert_allclose(found.eigenvalues, eigenvalues, atol=tolerance)
    parts = [np.sqrt(((expected + sign * transposed) ** 2).sum(axis=(1, 2))) for sign in (-1, 1)]
    assert (parts[0] / parts[1]).min() > 0.1  # not symmetric, so that a transposed or a symmetrized matrix would show
    np.testing.assert_allclose(found.asymmetry, parts[0] / parts[1], rtol=1e-7 if x64 else 1e-4)


def test_gains_along_few_directions() -> None:
    x, model = points(), Partial(skewed, weights())
    basis = np.linalg.qr(np.random.default_rng(2).normal(size=(D, 2)))[0]
    expected = np.einsum("ik,bij,jk->bk", basis, differences(np.asarray(x, np.float64), 0.7), basis)
    np.testing.assert_allclose(jacobian.gains(model, x, 0.7, jnp.asarray(basis)), expected, atol=1e-5)


def test_no_gradient_no_asymmetry() -> None:
    found = jacobian.spectrum(lambda x, t: 0 * x, points(2), 0.1)
    np.testing.assert_array_equal(found.asymmetry, 0)
    np.testing.assert_array_equal(found.singular_values, 1)


@pytest.mark.parametrize("quantity", ["gains", "singular_values", "spectrum", "full"])
def test_results_do_not_depend_on_the_batches(quantity: batching.Quantity) -> None:
    x, model, t = points(), Partial(skewed, weights()), jnp.float32(0.7)

    def measured(*sizes: int) -> Any:
        return jacobian._program(model, x, t, None, quantity=quantity, sizes=batching.Sizes(*sizes))

    whole = jax.tree.leaves(measured(11, D))
    for sizes in ((1, 1), (4, D), (3, 4)):  # none divides the points or, the last, the directions
        for found, expected in zip(jax.tree.leaves(measured(*sizes)), whole, strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-6)  # rounding of products of nine terms


def wide_network() -> tuple[Partial, jax.Array]:
    trainable = mlp.edm_mlp(16, 64, 2, 0.5)
    params = trainable.init(jax.random.key(0))
    params["last"]["kernel"] = jax.random.normal(jax.random.key(1), (64, 16)) / 8
    return Partial(trainable.denoise, params), jax.random.normal(jax.random.key(2), (50, 16))


@pytest.mark.parametrize("limit", [18_000, 200_000, 2_000_000])
def test_the_limit_is_kept(limit: int) -> None:
    """By the compiler's own count."""
    model, x = wide_network()
    plan = jacobian.plan(model, x, 0.3, memory_limit=limit)
    t = jnp.float32(0.3)
    program = jacobian._program.lower(model, x, t, None, quantity="spectrum", sizes=plan.sizes).compile()
    held = program.memory_analysis()
    assert held.temp_size_in_bytes + held.output_size_in_bytes <= plan.bytes <= limit
    # More would not fit, by the estimate: half of the limit is used, unless all points are taken together.
    assert plan.bytes > limit / 2 or plan.sizes.points == 50
    values = jacobian.singular_values(model, x, 0.3, memory_limit=limit)
    np.testing.assert_allclose(values, jacobian.singular_values(model, x, 0.3), atol=2e-6)


def test_sizes_follow_the_limit() -> None:
    model, x = wide_network()
    sizes = [jacobian.plan(model, x, 0.3, memory_limit=limit).sizes for limit in (18_000, 200_000, 2_000_000)]
    assert sizes[0].points == 1
    assert sizes[0].directions < 16
    assert 1 < sizes[1].points < sizes[2].points
    assert sizes[2].directions == 16


@pytest.mark.parametrize("traced", [False, True])
def test_a_limit_too_small(traced: bool) -> None:
    def measure(x: jax.Array) -> jax.Array:
        return jacobian.gains(Partial(skewed, weights()), x, 0.7, memory_limit=100)

    with pytest.raises(InputError, match=r"^memory_limit is 100 bytes, and one point .* take \d+ by") as caught:
        (jax.jit(measure) if traced else measure)(points())
    assert "\n" not in str(caught.value)
    needed = int(re.findall(r"take (\d+)", str(caught.value))[0])
    assert jacobian.gains(Partial(skewed, weights()), points(), 0.7, memory_limit=2 * needed).shape == (11, D)


@pytest.mark.parametrize(
    ("x", "basis", "message"),
    [
        (np.zeros(3, np.float32), None, r"x: shape is \(3,\); give"),
        (np.zeros((2, 3), int), None, "x: dtype is int"),
        (np.full((2, 3), np.nan, np.float32), None, "x: has NaN"),
        (np.zeros((2, 3), np.float32), np.eye(4), r"basis must be \(3, k\), .* got shape \(4, 4\)"),
    ],
)
def test_wrong_shapes(x: np.ndarray, basis: np.ndarray | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        jacobian.gains(lambda x, t: x, x, 0.1, basis)


def test_a_model_of_other_points_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model: gives shape \(2,\) for a point of shape \(6,\)"):
        jacobian.full(lambda x, t: x[:2], points(), 0.1)


@pytest.mark.parametrize("t", [0, -0.1, float("nan")])
def test_no_noise(t: float) -> None:
    with pytest.raises(InputError, match=f"^t: {t} is not a noise variance"):
        jacobian.spectrum(lambda x, t: x, points(), t)


def test_one_program_serves_all_parameters_and_noises() -> None:
    traces = 0

    def counted(matrices: tuple, x: jax.Array, t: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        return skewed(matrices, x, t)

    first = jacobian.singular_values(Partial(counted, weights(0)), points(), 0.7)
    after_one, compiled = traces, jacobian._program._cache_size()
    second = jacobian.singular_values(Partial(counted, weights(1)), points() + 1, jnp.float32(0.2))
    assert (traces, jacobian._program._cache_size()) == (after_one, compiled)
    assert np.abs(first - second).max() > 0.1
    jacobian.singular_values(Partial(counted, weights(1)), points(3), 0.2)  # other shapes are another program
    assert traces > after_one


def test_functions_of_every_kind() -> None:
    """A partial function, a plain one, and one that knows parameters which are being traced."""
    x, matrices = points(), weights()
    expected = jacobian.gains(Partial(skewed, matrices), x, 0.7)
    np.testing.assert_array_equal(jacobian.gains(functools.partial(skewed, matrices), x, 0.7), expected)
    np.testing.assert_allclose(jacobian.gains(lambda x, t: skewed(matrices, x, t), x, 0.7), expected, atol=1e-6)

    @jax.jit
    def closed_over(matrices: tuple, x: jax.Array) -> jax.Array:
        return jacobian.gains(lambda x, t: skewed(matrices, x, t), x, 0.7)

    np.testing.assert_allclose(closed_over(matrices, x), expected, atol=1e-6)
    np.testing.assert_allclose(
        closed_over(weights(1), x), jacobian.gains(Partial(skewed, weights(1)), x, 0.7), atol=1e-6
    )


def test_convolutions() -> None:
    trainable = convolutional.edm_convolutional((4, 4, 1), 3, 2, 0.5)
    params = trainable.init(jax.random.key(0))
    params["last"]["kernel"] = jax.random.normal(jax.random.key(1), (3, 3, 3, 1))
    x = jax.random.normal(jax.random.key(2), (5, 16))
    expected = jax.vmap(jax.jacrev(lambda x: trainable.denoise(params, x, 0.3)))(x)
    found = jacobian.full(Partial(trainable.denoise, params), x, 0.3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


RNG = np.random.default_rng(3)
TURN = np.linalg.qr(RNG.normal(size=(D, D)))[0]
DATA = RNG.normal(size=(40, D)) * [2, 1, 1, 0.5, 0.2, 0] @ TURN.T + 1


def rung(name: str) -> Any:
    if name == "population":
        variances = jnp.array([1.0, 4.0, 0.25, 1.0, 0.01, 0.0])
        return population.Model(variances, jnp.asarray(TURN), jnp.ones(D))
    return linear.fit(jnp.asarray(DATA), 30, centred=True) if name == "linear" else empirical_jacobian.fit(DATA, 30)


@pytest.mark.parametrize("name", ["population", "linear", "empirical"])
def test_closed_forms_are_the_derivatives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the rung's own denoiser, which is not asked for its derivatives."""
    with jax.enable_x64(True):
        model, x = rung(name), jnp.asarray(DATA[28:36] + 0.3)
        basis = jnp.asarray(np.linalg.qr(np.random.default_rng(5).normal(size=(D, 3)))[0])
        plain = Partial(lambda model, x, t: model(x, t), model)
        # Sums of 40 terms in float64, and eigenvalues.
        close = {"rtol": 1e-8, "atol": 1e-10}
        exact = jacobian.full(plain, x, 0.2)
        expected = jacobian.spectrum(plain, x, 0.2)
        along = jacobian.gains(plain, x, 0.2, basis)
        monkeypatch.setattr(type(model), "__call__", lambda *arguments: pytest.fail("was differentiated"))
        np.testing.assert_allclose(jacobian.full(model, x, 0.2), exact, **close)
        np.testing.assert_allclose(jacobian.gains(model, x, 0.2, basis), along, **close)
        found = jacobian.spectrum(model, x, 0.2)
        np.testing.assert_allclose(found.singular_values, expected.singular_values, **close)
        np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, **close)
        np.testing.assert_allclose(expected.asymmetry, 0, atol=1e-12)
        np.testing.assert_array_equal(found.asymmetry, 0)


def test_one_program_serves_every_dataset_size() -> None:
    model, x = rung("empirical"), jnp.asarray(DATA[:8] + 0.3, jnp.float32)
    few = jacobian.singular_values(model._replace(size=2), x, 0.2)
    compiled = jacobian._program._cache_size()
    many = jacobian.singular_values(model._replace(size=40), x, 0.5)
    assert jacobian._program._cache_size() == compiled
    assert np.abs(few - many).max() > 0.1


def test_closed_forms_within_the_limit() -> None:
    rng = np.random.default_rng(6)
    model, x = empirical_jacobian.fit(rng.normal(size=(500, 16))), jnp.asarray(rng.normal(size=(300, 16)), jnp.float32)
    large, small = (jacobian.plan(model, x, 0.5, memory_limit=limit) for limit in (10**9, 1_500_000))
    assert small.bytes <= 1_500_000 < large.bytes
    assert small.sizes.points < large.sizes.points
    np.testing.assert_allclose(
        jacobian.singular_values(model, x, 0.5, memory_limit=1_500_000),
        jacobian.singular_values(model, x, 0.5),
        atol=1e-5,
    )
    with pytest.raises(InputError, match="memory_limit is 20000 bytes"):
        jacobian.singular_values(model, x, 0.5, memory_limit=20_000)


def test_the_plan_in_a_line() -> None:
    model, x = wide_network()
    plan = jacobian.plan(model, x, 0.3, of="gains")
    # Two each; in the first layer the noise embedding's 16 numbers go with the point's, but are not differentiated.
    layers = 2 * (16 * 64 + 64 * 64 + 64 * 16)
    directions, batches = 50 * 16 * (layers - 2 * 16 * 64), -(-50 // plan.sizes.points)
    shared = batches * 16 * 2 * 32 * 64
    primal = batches * plan.sizes.points * (layers + 2 * 16 * 64)
    assert 0.9 < plan.operations / (directions + shared + primal) < 1.1
    assert 0 < plan.seconds < 1
    assert re.fullmatch(
        r"\d+ points and 16 directions at a time: [\d.]+ MB of at most 1.07e\+03 MB, [\d.]+ GFLOP, [\d.e-]+ s or more",
        str(plan),
    )
    assert jacobian.plan(model, x, 0.3).seconds > plan.seconds
    rank, rows, count = 5, 40, 8
    found = jacobian.plan(rung("empirical"), jnp.asarray(DATA[:count], jnp.float32), 0.3)
    assert found.operations == 2 * count * rows * rank * (rank + 2)
    assert jacobian.plan(rung("linear"), jnp.asarray(DATA[:count]), 0.3).operations == 0


def test_bytes_and_operations_of_programs() -> None:
    def program(x: jax.Array) -> jax.Array:
        doubled = x @ jnp.ones((10, 20))  # 800 for the ones, then 800 for the product of 10 rows
        return jax.lax.scan(lambda carry, row: (carry + row @ row, None), 0.0, doubled)[0]

    traced = jax.make_jaxpr(program)(jnp.ones((10, 10))).jaxpr
    assert memory.operations(traced) == 2 * 10 * 10 * 20 + 10 * 2 * 20
    assert 1600 <= memory.held_bytes(traced) < 1700

    def chain(x: jax.Array) -> jax.Array:
        for _ in range(50):
            x = jnp.sin(x)
        return x

    assert memory.held_bytes(jax.make_jaxpr(chain)(jnp.ones(100)).jaxpr) == 800  # two arrays at a time, not fifty

    image, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))
    convolution = jax.make_jaxpr(
        lambda image: jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )(image)
    assert memory.operations(convolution.jaxpr) == 2 * 2 * 8 * 8 * 5 * 3 * 3 * 3


@pytest.fixture(scope="module")
def spread() -> dict[str, Any]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_points_spread_over_devices(spread: dict[str, Any]) -> None:
    assert spread["devices"] == 8
    assert spread["compiled for"] == "8 devices, points 2 of 16"
    for name in ("gains", "singular_values", "empirical"):
        one, eight, shuffled = (np.array(spread[f"{name} {kind}"]) for kind in ("one", "eight", "shuffled"))
        np.testing.assert_allclose(eight, one, rtol=5e-6, atol=2e-6)  # rounding, of weights of up to 10 nats
        assert np.abs(shuffled - one).max() > 1e-2


def test_the_process_grows_by_no_more_than_the_limit(spread: dict[str, Any]) -> None:
    """What libraries hold is unknown to the compiler: the memory of the process knows."""
    slack = 4 * 2**20  # pages of the allocator and of threads, whatever the limit
    assert spread["grown"] <= spread["limit"] + slack
    # All points at a time, as a control, do not fit.
    assert spread["grown without"] > 2 * spread["limit"]
