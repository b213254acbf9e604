"""The samplers against closed forms and exact recursions for Gaussian data, and against the training set they copy."""

import itertools
import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geomem_jax import sampling
from geomem_jax.denoisers import empirical, linear, population
from geomem_jax.errors import InputError
from geomem_jax.statistics import critical_z

VARIANCES = np.array([1.0, 0.25, 0.04, 0.0])
BASIS = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
MEAN = np.array([0.5, -1.0, 2.0, 0.25])
LEVELS = sampling.noise_levels(0.002, 4, 128)
FEW = sampling.noise_levels(0.02, 4, 8)
# Every comparison with an error bar in this file shares this rate at which correct code may fail:
# 2 x 6 + 6 moments of the flow, 3 x 6 of the stochastic sampler, 2 x 8 counts of training points.
CRITICAL = critical_z(1e-4, 52)


def gaussian(variances=VARIANCES, mean=MEAN):
    """The population denoiser in the present precision."""
    return partial(population.denoise, jnp.asarray(variances), jnp.asarray(BASIS), mean=jnp.asarray(mean))


def coordinates(x):
    """Coordinates of points along the directions, about the mean, in float64."""
    return (np.asarray(x, np.float64) - MEAN) @ BASIS


def noised(variances, noise_std, n, seed):
    """Points of Gaussian data at a noise, in the present precision."""
    z = np.random.default_rng(seed).standard_normal((n, len(variances)))
    return jnp.asarray(MEAN + (np.sqrt(variances + noise_std**2) * z) @ BASIS.T)


def moment_z(x, variances):
    """Deviations in standard errors of the covariances of all pairs of directions, known mean, from a diagonal."""
    y = coordinates(x)
    i, j = np.triu_indices(len(variances))
    keep = (variances[i] > 0) & (variances[j] > 0)
    i, j = i[keep], j[keep]
    expected = np.where(i == j, variances[i], 0)
    # Products of normal numbers: variance v_i v_j, twice that on the diagonal.
    error = np.sqrt((1 + (i == j)) * variances[i] * variances[j] / len(y))
    return (y.T @ y / len(y))[i, j] / error - expected / error


# --- noise levels ---


def test_noise_levels_are_evenly_spaced_in_their_root():
    levels = sampling.noise_levels(0.002, 80, 18)
    assert levels.shape == (19,)
    assert levels[-1] == 0
    # Rounding: the seventh power multiplies it by seven.
    np.testing.assert_allclose(levels[[0, -2]], [80, 0.002], rtol=1e-14)
    np.testing.assert_allclose(np.diff(levels[:-1] ** (1 / 7), 2), 0, atol=1e-14)
    np.testing.assert_allclose(sampling.noise_levels(1, 5, 5, rho=1), [5, 4, 3, 2, 1, 0], rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 80, 18), "smallest=0.0, largest=80: give noise levels with 0 < smallest < largest"),
        ((2, 1, 18), "smallest=2, largest=1"),
        ((1, math.inf, 18), "largest=inf"),
        ((math.nan, 1, 18), "smallest=nan"),
        ((1, 2, 1), "steps=1: must be at least 2"),
        ((1, 2, 18, 0), "rho=0: must be positive"),
        ((1, 2, 18, math.nan), "rho=nan: must be positive"),
    ],
)
def test_bad_noise_levels_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        sampling.noise_levels(*arguments)


# --- probability flow ---


def errors(levels):
    """Relative error of each direction with a width, against the closed form for one starting point."""
    x = MEAN + np.ones(4) @ BASIS.T
    found = coordinates(sampling.probability_flow(gaussian(), jnp.asarray(x)[None], levels))[0]
    exact = np.sqrt((VARIANCES + levels[-1] ** 2) / (VARIANCES + levels[0] ** 2))
    return found[:3] / exact[:3] - 1


def euler_errors(levels):
    """The same for Euler's method, by its own recursion."""
    v = VARIANCES[:3]
    factor = np.prod([1 + (b - a) * a / (v + a**2) for a, b in itertools.pairwise(levels)], axis=0)
    return factor / np.sqrt((v + levels[-1] ** 2) / (v + levels[0] ** 2)) - 1


def order(errors_of, levels_of):
    """Slope of the error between 160 and 320 steps."""
    return np.log2(np.abs(errors_of(levels_of(160)) / errors_of(levels_of(320))))


@pytest.mark.parametrize(
    "levels_of",
    [lambda n: sampling.noise_levels(0.05, 4, n + 1)[:-1], lambda n: np.linspace(4, 0, n + 1)],
    ids=["to 0.05", "to 0"],
)
def test_the_error_is_of_second_order(levels_of):
    """Also to zero where the last step shrinks with the others: its own error is then of second order."""
    with jax.enable_x64(True):
        # Slope 2 up to first order in the step: measured 0.001 to 0.005.  A third order would give 3, Euler's method 1.
        np.testing.assert_allclose(order(errors, levels_of), 2, atol=0.03)
    np.testing.assert_allclose(order(euler_errors, levels_of), 1, atol=0.1)


def test_the_last_step_to_zero_leaves_an_error_that_steps_do_not_remove():
    with jax.enable_x64(True):
        levels = [sampling.noise_levels(0.05, 4, n) for n in (160, 320)]
        left = 1 / np.sqrt(1 + 0.05**2 / VARIANCES[:3])
        # What is beyond the stated factor falls at second order ...
        beyond = [(1 + errors(level)) / left - 1 for level in levels]
        np.testing.assert_allclose(np.log2(np.abs(beyond[0] / beyond[1])), 2, atol=0.03)
        # ... and the factor is the stated relative error, up to its square.
        np.testing.assert_allclose(1 - left, 0.05**2 / (2 * VARIANCES[:3]), rtol=2 * 0.05**2 / VARIANCES[2])


def test_samples_have_the_moments_of_the_data(x64):
    starts = noised(VARIANCES, LEVELS[0], 20_000, seed=1)
    samples = sampling.probability_flow(gaussian(), starts, LEVELS)
    assert samples.dtype == starts.dtype == (np.float64 if x64 else np.float32)
    # The bias of 128 steps, known from the recursion below, is below a tenth of an error bar (1 % of a variance).
    np.testing.assert_allclose(recursion(LEVELS, 0.0)[0], VARIANCES, rtol=1e-3, atol=1e-12)
    assert np.max(np.abs(moment_z(samples, VARIANCES))) < CRITICAL
    # A null direction is solved exactly: what is left is the rounding of points of size 16.
    np.testing.assert_allclose(coordinates(samples)[:, 3], 0, atol=16 * np.finfo(samples.dtype).eps)
    # Negative control: variances that are off by a tenth.
    assert np.max(np.abs(moment_z(samples, 0.9 * VARIANCES))) > CRITICAL


def test_pure_noise_has_the_stated_bias():
    centred = gaussian(mean=np.zeros(4))
    starts = sampling.pure_noise(jax.random.key(2), (20_000, 4), LEVELS[0])
    samples = np.asarray(sampling.probability_flow(centred, starts, LEVELS), np.float64) + MEAN
    stated = VARIANCES * LEVELS[0] ** 2 / (VARIANCES + LEVELS[0] ** 2)
    assert np.max(np.abs(moment_z(samples, stated))) < CRITICAL
    assert np.max(np.abs(moment_z(samples, VARIANCES))) > CRITICAL  # a bias of 6 %
    # The mean: a start at 0 is carried to the stated place; a null direction ends on the data exactly.
    found = sampling.probability_flow(gaussian(), jnp.zeros((1, 4)), LEVELS)
    shrinkage = np.sqrt(VARIANCES / (VARIANCES + LEVELS[0] ** 2))
    # Half the relative bias of the variances above.
    np.testing.assert_allclose(coordinates(found)[0], -MEAN @ BASIS * shrinkage, rtol=5e-4, atol=1e-5)


def test_the_denoiser_gets_variances_and_is_never_asked_at_zero():
    levels = np.array([3.0, 2.0, 0.5, 0.0])
    asked = []

    def denoise(x, t):
        jax.debug.callback(lambda t: asked.append(float(t)), t)
        return jnp.where(t > 0, 0.5 * x, jnp.nan)

    samples = sampling.probability_flow(denoise, jnp.ones((1, 1)), levels)
    jax.effects_barrier()
    assert np.isfinite(samples).all()
    # Algorithm 1: twice a step, once in the step to zero.
    np.testing.assert_allclose(sorted(asked), [0.25, 0.25, 4, 4, 9])


def test_the_points_decide_the_precision():
    with jax.enable_x64(True):
        starts = noised(VARIANCES, FEW[0], 2, seed=7)
        samples = sampling.probability_flow(gaussian(), starts.astype(jnp.float32), FEW)  # parameters in float64
        assert samples.dtype == np.float32
        # Rounding of points of size 16.
        np.testing.assert_allclose(samples, sampling.probability_flow(gaussian(), starts, FEW), atol=1e-5)


def test_levels_may_be_traced():
    x = jnp.ones((2, 4))
    levels = np.stack([LEVELS, 2 * LEVELS])
    found = jax.jit(jax.vmap(lambda stds: sampling.probability_flow(gaussian(), x, stds)))(levels)
    for row, stds in zip(found, levels, strict=True):
        np.testing.assert_allclose(row, sampling.probability_flow(gaussian(), x, stds), rtol=1e-4, atol=1e-5)


# --- stochastic ---


def recursion(levels, churn, churn_smallest=0.0, churn_largest=math.inf, churn_inflation=1.0):
    """Exact variances of samples of Gaussian data, started from the right law, and the factor on the start.

    Every step is linear: it adds independent noise and multiplies.
    """
    variances, total = VARIANCES + levels[0] ** 2, np.ones(4)
    steps = len(levels) - 1
    for noise, following in itertools.pairwise(levels):
        gamma = min(churn / steps, math.sqrt(2) - 1) if churn_smallest <= noise <= churn_largest else 0
        raised = noise * (1 + gamma)
        width = following - raised
        first = raised / (VARIANCES + raised**2)  # dx/dsigma = x sigma / (v + sigma^2)
        if following == 0:
            factor = 1 + width * first
        else:
            second = following / (VARIANCES + following**2) * (1 + width * first)
            factor = 1 + width * (first + second) / 2
        variances = factor**2 * (variances + churn_inflation**2 * (raised**2 - noise**2))
        total = factor * total
    return variances, total


CHURNS = [
    {"churn": 1.0},
    {"churn": 1.0, "churn_smallest": 0.1, "churn_largest": 2.0, "churn_inflation": 1.5},
    {"churn": 1e6},  # capped
]


@pytest.mark.parametrize("options", CHURNS, ids=["all", "range", "capped"])
def test_stochastic_samples_have_the_variances_of_the_exact_recursion(options):
    starts = noised(VARIANCES, FEW[0], 20_000, seed=3)
    samples = sampling.stochastic(jax.random.key(4), gaussian(), starts, FEW, **options)
    assert np.max(np.abs(moment_z(samples, recursion(FEW, **options)[0]))) < CRITICAL
    np.testing.assert_allclose(coordinates(samples)[:, 3], 0, atol=1e-5)
    # Eight steps: visibly neither the data nor what another of the three settings gives.
    for wrong in [VARIANCES] + [recursion(FEW, **other)[0] for other in CHURNS if other != options]:
        assert np.max(np.abs(moment_z(samples, wrong))) > CRITICAL


@pytest.mark.parametrize("options", CHURNS, ids=["all", "range", "capped"])
def test_stochastic_samples_depend_on_their_start_by_the_exact_factor(options):
    """With the same fresh noise the difference of two runs is exact: it fixes how far the noise is raised."""
    with jax.enable_x64(True):
        starts = noised(VARIANCES, FEW[0], 2, seed=5)
        pair = [
            coordinates(sampling.stochastic(jax.random.key(6), gaussian(), x, FEW, **options))
            for x in (starts, starts + jnp.asarray(BASIS.sum(axis=1)))
        ]
        # Differences of numbers of order 1 in float64.
        np.testing.assert_allclose((pair[1] - pair[0])[0], recursion(FEW, **options)[1], rtol=1e-9, atol=1e-12)
        # Negative control: a churn that is off by a hundredth.
        wrong = recursion(FEW, **options | {"churn": 0.99 * min(options["churn"], 8 * (math.sqrt(2) - 1))})[1]
        assert np.abs(recursion(FEW, **options)[1] - wrong).max() > 1e-6


def test_variances_of_the_stochastic_sampler_converge_to_those_of_the_data():
    levels = [sampling.noise_levels(1e-4, 4, steps) for steps in (64, 128, 256)]
    bias = np.array([recursion(level, 3.0)[0][:3] / VARIANCES[:3] - 1 for level in levels])
    # Second order: four times smaller for twice the steps, up to first order in the step.
    np.testing.assert_allclose(bias[:-1] / bias[1:], 4, rtol=0.1)
    assert np.abs(bias[-1]).max() < 1e-3


def test_without_churn_it_is_the_probability_flow():
    starts = noised(VARIANCES, FEW[0], 8, seed=5)

    def sample(churn, smallest, largest):
        options = {"churn": churn, "churn_smallest": smallest, "churn_largest": largest}
        return sampling.stochastic(jax.random.key(0), gaussian(), starts, FEW, **options)

    # No churn at all, none of the levels in its range, and some.
    options = np.array([[0, 0, np.inf], [3, 5, np.inf], [3, 0, 0.01], [3, 0, 1]], np.float32)
    *unchurned, churned = jax.vmap(sample)(*options.T)
    flow = sampling.probability_flow(gaussian(), starts, FEW)
    for samples in unchurned:
        np.testing.assert_allclose(samples, flow, atol=1e-5)  # rounding of points of size 16
    assert np.abs(churned - flow).max() > 0.1


# --- ensembles ---


def test_an_ensemble_is_sampled_in_one_program():
    data = jax.random.normal(jax.random.key(6), (2, 5, 30, 4))
    fit = jax.vmap(partial(linear.fit, centred=True), in_axes=(0, None))
    ensembles = [fit(member, 30) for member in data]
    x = sampling.pure_noise(jax.random.key(7), (9, 4), FEW[0])
    keys = jax.random.split(jax.random.key(8), 5)

    def sample(model, key):
        denoise = partial(linear.denoise, model)
        return sampling.probability_flow(denoise, x, FEW), sampling.stochastic(key, denoise, x, FEW, churn=2.0)

    # Wrapped twice, as chex counts by function.
    alone = jax.jit(chex.assert_max_traces(lambda *member: sample(*member), n=1))
    together = jax.jit(jax.vmap(chex.assert_max_traces(lambda *member: sample(*member), n=1)))
    for models in ensembles:
        found = together(models, keys)
        for member in range(5):
            expected = alone(jax.tree.map(lambda leaf, member=member: leaf[member], models), keys[member])
            # Rounding of points of size 16 at the start, which the steps shrink again.
            jax.tree.map(lambda a, b, m=member: np.testing.assert_allclose(a[m], b, atol=1e-5), found, expected)
    first, second = (together(models, keys)[0] for models in ensembles)
    assert np.abs(first - second).max() > 0.1
    assert np.abs(first[0] - first[1]).max() > 0.1


# --- memorization ---


@pytest.mark.parametrize("sampler", ["flow", "stochastic"])
def test_samples_of_the_empirical_score_are_training_points_equally_often(sampler):
    """The law of the data is now the training set: each of its points has the same probability."""
    rng = np.random.default_rng(9)
    train = jnp.asarray(rng.standard_normal((8, 2)), jnp.float32)
    owner = rng.integers(8, size=4000)
    starts = train[owner] + jnp.asarray(LEVELS[0] * rng.standard_normal((4000, 2)), jnp.float32)

    def denoise(x, t):
        return empirical.posterior(train, 8, x[None], t).mean[0]

    if sampler == "flow":
        samples = sampling.probability_flow(denoise, starts, LEVELS)
    else:
        samples = sampling.stochastic(jax.random.key(10), denoise, starts, LEVELS, churn=20.0)

    def nearest(x):
        return np.argmin(np.linalg.norm(np.asarray(x)[:, None] - train, axis=-1), axis=1)

    def count_z(owners):
        counts = np.bincount(owners, minlength=8)
        return (counts - 500) / np.sqrt(4000 * (1 / 8) * (7 / 8))

    distance = np.linalg.norm(samples - train[nearest(samples)], axis=1)
    # The last noise is 0.002 and the points are about 1 apart: all but rare ties are copies to rounding.
    assert np.mean(distance < 1e-5) > 0.999
    assert np.max(np.abs(count_z(nearest(samples)))) < CRITICAL
    # Negative control: the training points nearest to the starts are not equally frequent.
    assert np.max(np.abs(count_z(nearest(starts)))) > CRITICAL


def test_the_streaming_posterior_gives_the_samples_of_the_plain_formula():
    train = jax.random.normal(jax.random.key(11), (50, 4))
    starts = sampling.pure_noise(jax.random.key(12), (16, 4), 4.0)
    plain = sampling.probability_flow(partial(empirical.denoise, train), starts, FEW)
    streamed = sampling.probability_flow(lambda x, t: empirical.posterior(train, 50, x[None], t).mean[0], starts, FEW)
    np.testing.assert_allclose(streamed, plain, atol=1e-3)


# --- errors ---


@pytest.mark.parametrize(
    ("noise_stds", "message"),
    [
        ([1.0], "at least 2 levels"),
        (1.0, "at least 2 levels"),
        ([[2.0, 1.0]], "at least 2 levels"),
        ([1.0, 2.0, 0.0], r"noise_stds\[1\]=2.0: .* descend strictly"),
        ([2.0, 2.0, 0.0], r"noise_stds\[1\]=2.0"),
        ([2.0, 1.0, -1.0], r"noise_stds\[2\]=-1.0"),
        ([2.0, 0.0, 0.0], r"noise_stds\[1\]=0.0"),
        ([2.0, math.nan, 0.0], r"noise_stds\[1\]=nan"),
        ([2.0, math.nan], r"noise_stds\[1\]=nan"),
        ([math.inf, 1.0, 0.0], r"noise_stds\[0\]=inf"),
        ([1e200, 1.0, 0.0], r"noise_stds\[0\]=1e\+200: .* range of float32"),
        ([1.0, 1e-30, 0.0], r"noise_stds\[1\]=1e-30: .* range of float32"),
        ([1.0, 1e-30], r"noise_stds\[1\]=1e-30: .* range of float32"),
        ([1.0, 1.0 - 1e-12, 0.0], r"noise_stds\[1\]=0.99"),  # equal in float32
    ],
)
def test_bad_levels_are_refused(noise_stds, message):
    x = jnp.ones((1, 4))
    with pytest.raises(InputError, match=message):
        sampling.probability_flow(gaussian(), x, noise_stds)
    with pytest.raises(InputError, match=message):
        sampling.stochastic(jax.random.key(0), gaussian(), x, np.array(noise_stds), churn=1.0)


@pytest.mark.parametrize("x", [jnp.ones(4), jnp.ones((1, 4), int)])
def test_bad_starting_points_are_refused(x):
    with pytest.raises(InputError, match=r"give floating-point starting points \(B, d\)"):
        sampling.probability_flow(gaussian(), x, [1.0, 0.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"churn": -1.0}, "churn=-1.0: must be finite and not negative"),
        ({"churn": math.inf}, "churn=inf: must be finite"),
        ({"churn": 1.0, "churn_inflation": math.nan}, "churn_inflation=nan"),
        ({"churn": 1.0, "churn_smallest": 2.0, "churn_largest": 1.0}, "churn_smallest=2.0 is not below"),
        ({"churn": 1.0, "churn_smallest": math.nan}, "churn_smallest=nan"),
    ],
)
def test_bad_churn_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        sampling.stochastic(jax.random.key(0), gaussian(), jnp.ones((1, 4)), [1.0, 0.0], **options)
