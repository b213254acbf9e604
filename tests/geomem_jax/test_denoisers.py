"""Every rung against an independent formula and against automatic differentiation; the accuracy of the gain engine."""

import chex
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from geomem_jax.denoisers import empirical, linear, population

LADDER = np.repeat([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32], 4)
EPSILON = np.finfo(np.float32).eps


def brute_force(data: np.ndarray, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posterior mean, gains and participation of single points, in float64 and about the posterior mean."""
    data = np.asarray(data, np.float64)
    means, gains, participation = [], [], []
    for point in np.asarray(x, np.float64):
        energy = ((data - point) ** 2).sum(axis=1) / (2 * t)
        weights = np.exp(energy.min() - energy)
        weights /= weights.sum()
        mean = weights @ data
        means.append(mean)
        gains.append(weights @ (data - mean) ** 2 / t)
        participation.append((weights**2).sum())
    return np.array(means), np.array(gains), np.array(participation)


def points(variances: np.ndarray, n: int, queries: int, t: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scale = np.sqrt(variances)
    data = rng.standard_normal((n, len(scale))) * scale
    x = rng.standard_normal((queries, len(scale))) * scale + np.sqrt(t) * rng.standard_normal((queries, len(scale)))
    return data.astype(np.float32), x.astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 31, 1024, 1025, 2500])
@pytest.mark.parametrize("queries", [1, 7, 300])
def test_posterior_equals_brute_force_in_float64(n: int, queries: int) -> None:
    data, x = points(LADDER, n, queries, 0.3, seed=n)
    with jax.enable_x64(True):
        found = empirical.posterior(jnp.asarray(data, jnp.float64), n, jnp.asarray(x, jnp.float64), 0.3)
    # Sums of n terms in float64: 1e-10 is far above their rounding and far below any wrong term.
    for value, expected in zip(found, brute_force(data, x, 0.3), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-12)


def test_only_the_first_rows_count() -> None:
    data, x = points(LADDER, 3000, 5, 0.3, seed=0)
    for count in (1, 5, 1000, 1024, 2048, 2999):
        found = empirical.posterior(jnp.asarray(data), count, jnp.asarray(x), 0.3)
        expected = brute_force(data[:count], x, 0.3)
        np.testing.assert_allclose(found.gain, expected[1], rtol=1e-3, atol=1e-4)


def test_rows_that_do_not_count_are_not_read() -> None:
    """Neither for the weights nor for the centre: they may hold anything."""
    data = np.random.default_rng(5).normal(size=(3000, 4)).astype(np.float32) + 7
    for count in (1, 60, 100, 2999):
        garbage = data.copy()
        garbage[count:] = np.nan
        clean, dirty = (empirical.posterior(jnp.asarray(rows), count, data[:9] + 0.1, 0.3) for rows in (data, garbage))
        for expected, found in zip(clean, dirty, strict=True):
            np.testing.assert_array_equal(found, expected)


def error_constant(gain: np.ndarray, expected: np.ndarray, data: np.ndarray, x: np.ndarray, t: float) -> float:
    """Smallest C for which |dg| <= 1e-4 + C eps (|x|^2 + max |y|^2)/t g holds everywhere."""
    centre = data.mean(axis=0)
    size = ((x - centre) ** 2).sum(axis=1) + ((data - centre) ** 2).sum(axis=1).max()
    excess = np.abs(gain - expected) - 1e-4
    return float(
        np.max(excess / (EPSILON * size[:, None] / t * np.maximum(expected, 1e-30)), initial=0, where=excess > 0)
    )


@pytest.mark.parametrize(
    ("variances", "n"),
    [(np.ones(8), 3000), (LADDER, 50), (LADDER, 3000), (np.repeat([1, 0.09], [10, 30]), 3000)],
    ids=["isotropic", "ladder-50", "ladder-3000", "two-level"],
)
@pytest.mark.parametrize("factor", [2, 1, 0.3, 0.1, 0.03, 0.01])
def test_single_precision_is_as_good_as_its_weights(variances: np.ndarray, n: int, factor: float) -> None:
    t = factor * float(theory.condensation_time(variances, n))
    data, x = points(variances, n, 128, t, seed=1)
    relative_error_of_weights = EPSILON * 4 * variances.sum() / t
    assert relative_error_of_weights < 0.01  # the stated scope of the bound
    gain = np.asarray(empirical.posterior(jnp.asarray(data), n, jnp.asarray(x), t).gain)
    expected = brute_force(data, x, t)[1]
    assert expected.max() > (1 if factor < 1 else 0.5)  # the regime where gains are of order 1 to 100
    assert error_constant(gain, expected, data, x, t) <= 4


EDGE = EPSILON * 4 * LADDER.sum() / 0.009  # the smallest noise variance in the scope of the bound


@pytest.mark.parametrize("n", [50, 3000])
def test_single_precision_at_the_edge_of_its_scope(n: int) -> None:
    data, x = points(LADDER, n, 128, EDGE, seed=1)
    gain = np.asarray(empirical.posterior(jnp.asarray(data), n, jnp.asarray(x), EDGE).gain)
    assert error_constant(gain, brute_force(data, x, EDGE)[1], data, x, EDGE) <= 4


def test_the_accuracy_test_notices_the_plain_difference_of_moments() -> None:
    t = 0.1 * float(theory.condensation_time(LADDER, 3000))
    data, x = (array + np.float32(8) for array in points(LADDER, 3000, 128, t, seed=1))  # a mean to be taken off
    gain = np.asarray(empirical.posterior(jnp.asarray(data), 3000, jnp.asarray(x), t).gain)
    assert error_constant(gain, brute_force(data, x, t)[1], data, x, t) <= 4
    weights = jax.nn.softmax((x @ data.T - 0.5 * (data**2).sum(axis=1)) / t)
    plain = np.asarray((weights @ data**2 - (weights @ data) ** 2) / t)
    assert error_constant(plain, brute_force(data, x, t)[1], data, x, t) > 4


def test_duplicates_share_the_weight() -> None:
    data, x = points(LADDER, 40, 6, 0.3, seed=2)
    twice = np.concatenate([data, data])
    expected = brute_force(data, x, 0.3)
    found = empirical.posterior(jnp.asarray(twice), 80, jnp.asarray(x), 0.3)
    np.testing.assert_allclose(found.gain, expected[1], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.participation, expected[2] / 2, rtol=1e-4)


def test_far_mean_costs_no_accuracy() -> None:
    data, x = points(LADDER, 500, 16, 0.2, seed=3)
    shift = np.float32(64)  # a power of two: shifted float32 numbers lose 2^-17 absolutely
    shifted = (data + shift).astype(np.float32)
    expected = brute_force(shifted, (x + shift).astype(np.float32), 0.2)[1]
    found = empirical.posterior(jnp.asarray(shifted), 500, jnp.asarray(x + shift), 0.2).gain
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-3)


def test_empirical_gains_are_the_jacobian_of_the_denoiser() -> None:
    data, x = points(LADDER, 200, 5, 0.2, seed=4)
    with jax.enable_x64(True):
        data64, x64 = jnp.asarray(data, jnp.float64), jnp.asarray(x, jnp.float64)
        jacobian = jax.vmap(lambda point: jax.jacfwd(empirical.denoise, argnums=1)(data64, point, 0.2))(x64)
        found = empirical.posterior(data64, 200, x64, 0.2)
        np.testing.assert_allclose(found.gain, jnp.diagonal(jacobian, axis1=1, axis2=2), rtol=1e-9)
        np.testing.assert_allclose(found.mean, jax.vmap(lambda p: empirical.denoise(data64, p, 0.2))(x64), rtol=1e-9)
        # Rotated data and points give the gains along rotated directions.
        basis = jnp.asarray(np.linalg.qr(np.random.default_rng(0).standard_normal((24, 24)))[0])
        rotated = empirical.posterior(data64 @ basis, 200, x64 @ basis, 0.2)
        along = jnp.einsum("di,bde,ei->bi", basis, jacobian, basis)
        np.testing.assert_allclose(rotated.gain, along, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("n", [2, 10, 100])
def test_linear_rung(n: int, centred: bool) -> None:
    data, _ = points(LADDER, 128, 1, 0.2, seed=5)
    with jax.enable_x64(True):
        model = linear.fit(jnp.asarray(data, jnp.float64), n, centred=centred)
        gains = linear.gains(model, jnp.array([0.01, 0.3]))
        used = np.asarray(data[:n], np.float64)
        mean = used.mean(axis=0) if centred else np.zeros(24)
        covariance = (used - mean).T @ (used - mean) / (n - centred)
        for t, found in zip((0.01, 0.3), gains, strict=True):
            expected = covariance @ np.linalg.inv(covariance + t * np.eye(24))
            np.testing.assert_allclose(found, np.diag(expected), rtol=1e-8, atol=1e-12)
            x = jnp.linspace(-1, 1, 24)
            jacobian = jax.jacfwd(linear.denoise, argnums=1)(model, x, t)
            np.testing.assert_allclose(jnp.diagonal(jacobian), found, rtol=1e-8, atol=1e-12)
            np.testing.assert_allclose(
                linear.denoise(model, x, t), mean + expected @ (np.asarray(x) - mean), rtol=1e-8, atol=1e-10
            )


def test_population_rung() -> None:
    rng = np.random.default_rng(6)
    with jax.enable_x64(True):
        basis = jnp.asarray(np.linalg.qr(rng.standard_normal((24, 24)))[0])
        x, mean = rng.standard_normal(24), rng.standard_normal(24)
        covariance = basis * LADDER @ basis.T
        expected = covariance @ np.linalg.inv(covariance + 0.1 * np.eye(24))
        found = population.denoise(jnp.asarray(LADDER), basis, jnp.asarray(x), 0.1, jnp.asarray(mean))
        np.testing.assert_allclose(found, mean + expected @ (x - mean), rtol=1e-9, atol=1e-12)
        jacobian = jax.jacfwd(population.denoise, argnums=2)(jnp.asarray(LADDER), basis, jnp.asarray(x), 0.1)
        along = jnp.einsum("di,de,ei->i", basis, jacobian, basis)
        np.testing.assert_allclose(along, population.gains(jnp.asarray(LADDER), 0.1), rtol=1e-9)


def test_one_program_serves_every_size_and_noise() -> None:
    data, x = points(LADDER, 300, 4, 0.2, seed=7)
    traced = jax.jit(chex.assert_max_traces(lambda *arguments: empirical.posterior(*arguments), n=1))
    gains = [
        traced(jnp.asarray(data), jnp.asarray(n), jnp.asarray(x), jnp.float32(t)).gain
        for n, t in [(3, 0.1), (300, 0.1), (17, 2.0)]
    ]
    assert not np.allclose(gains[0], gains[1])


def test_no_array_grows_with_both_points_and_training_set() -> None:
    """The largest array beyond the data themselves does not depend on N: walk the program."""

    def largest(n: int) -> int:
        shapes = (jax.ShapeDtypeStruct((n, 16), jnp.float32), jax.ShapeDtypeStruct((300, 16), jnp.float32))
        sizes: list[int] = []

        def walk(jaxpr: jax.extend.core.Jaxpr) -> None:
            for equation in jaxpr.eqns:
                sizes.extend(v.aval.size for v in equation.outvars if v.aval.shape[:1] != (n,))
                for value in jax.tree.leaves(
                    list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "jaxpr") or hasattr(leaf, "eqns")
                ):
                    if hasattr(value, "jaxpr"):
                        walk(value.jaxpr)
                    elif hasattr(value, "eqns"):
                        walk(value)

        walk(jax.make_jaxpr(lambda data, x: empirical.posterior(data, n, x, 0.1))(*shapes).jaxpr)
        return max(sizes)

    assert largest(10**5) == largest(10**6) <= empirical.QUERIES * empirical.BLOCK
