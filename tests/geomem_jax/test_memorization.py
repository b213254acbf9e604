"""Copies that are known, chance that is known, and intervals and p-values that must be honest."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from geomem_jax import memorization
from geomem_jax.errors import InputError
from geomem_jax.memorization import describe, mean_participation, memorization_report, nearest_ratio
from geomem_jax.neighbours import two_nearest
from geomem_jax.statistics import critical_z

TRAIN, SAMPLES, FRESH, DIMENSION = 200, 100, 50, 16
RATE = critical_z(1e-4, 12)  # of this file failing by chance, 12 comparisons


def gaussian(rng, n, dimension=DIMENSION):
    return rng.standard_normal((n, dimension)).astype(np.float32)


def mixture(rng, train, fraction, noise=0.01):
    """Samples of which each is a copy with the given probability, and fresh otherwise."""
    fresh = gaussian(rng, SAMPLES, train.shape[1])
    copies = train[rng.integers(len(train), size=SAMPLES)] + noise * gaussian(rng, SAMPLES, train.shape[1])
    return np.where(rng.random((SAMPLES, 1)) < fraction, copies, fresh)


def test_ratios_are_those_of_all_distances(x64):
    rng = np.random.default_rng(0)
    train, samples = gaussian(rng, TRAIN), mixture(rng, gaussian(rng, TRAIN), 0.5)
    ratio, nearest = nearest_ratio(samples, train)
    distance = np.linalg.norm(samples.astype(float)[:, None] - train, axis=-1)
    ordered = np.sort(distance, axis=1)
    # Two distances of 16 squares each, rounded once per term.
    np.testing.assert_allclose(ratio, ordered[:, 0] / ordered[:, 1], rtol=40 * np.finfo(jnp.result_type(float)).eps)
    np.testing.assert_array_equal(nearest, np.argmin(distance, axis=1))


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_chance_falls_with_the_power_of_the_dimension(dimension):
    rng = np.random.default_rng(dimension)
    train = rng.random((8000, dimension))
    x = 0.15 + 0.7 * rng.random((2000, dimension))  # the ball that ends at the second nearest is inside the cube
    ratio, _ = nearest_ratio(x, train)
    for below in (1 / 3, 0.7):
        expected = below**dimension
        error = RATE * np.sqrt(expected * (1 - expected) / len(x))
        assert abs(np.mean(ratio < below) - expected) < error
        # Negative control: another dimension is excluded.
        assert abs(np.mean(ratio < below) - below ** (dimension + 1)) > error
    assert stats.kstest(ratio**dimension, "uniform").pvalue > 1e-4


def test_copies_are_copies_and_fresh_samples_are_not():
    rng = np.random.default_rng(1)
    train, held_out = gaussian(rng, TRAIN), gaussian(rng, FRESH)
    source = rng.integers(TRAIN, size=SAMPLES)
    report = memorization_report(train[source] + 0.01 * gaussian(rng, SAMPLES), train, held_out)
    assert report.copied == (1, pytest.approx(0.025 ** (1 / SAMPLES)), 1)
    np.testing.assert_array_equal(report.nearest, source)
    assert report.p_value < 1e-20
    assert report.excess.lower > 0.8
    assert report.held_out_copied.value == 0  # rare with 16 dimensions
    assert report.median_ratio.upper < 0.05 < 0.5 < report.held_out_median_ratio.lower
    assert "The model copies" in describe(report)
    exact = memorization_report(train[source], train, held_out)
    np.testing.assert_array_equal(exact.ratio, 0)
    fresh = memorization_report(gaussian(rng, SAMPLES), train, held_out)
    assert fresh.copied == (0, 0, pytest.approx(1 - 0.025 ** (1 / SAMPLES)))
    assert fresh.p_value == 1
    assert fresh.excess.value == fresh.excess.lower == 0
    assert "No copying beyond chance is found (p = 1); at most 4.29 % of the samples can be such copies." in describe(
        fresh
    )


def test_without_copying_the_p_value_is_uniform_where_one_in_nine_is_copied_by_chance():
    draws, p_values, randomized, fractions, rejected = 300, [], [], [], 0
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        train, held_out = gaussian(rng, TRAIN, 2), gaussian(rng, FRESH, 2)
        report = memorization_report(gaussian(rng, SAMPLES, 2), train, held_out)
        count, chance = round(report.copied.value * SAMPLES), round(report.held_out_copied.value * FRESH)
        p_values.append(report.p_value)
        # An exact discrete test is uniform once ties are broken at random.
        tie = stats.hypergeom.pmf(count, SAMPLES + FRESH, count + chance, SAMPLES)
        randomized.append(report.p_value - rng.random() * tie)
        fractions.append(report.held_out_copied.value)
        copying = memorization_report(mixture(rng, train, 0.3), train, held_out)
        rejected += copying.p_value <= 0.05
    assert np.mean(np.array(p_values) <= 0.05) < 0.05 + RATE * np.sqrt(0.05 * 0.95 / draws)
    assert stats.kstest(randomized, "uniform").pvalue > 1e-4
    # Held-out points of one draw share a training set, so that the spread over draws is used.
    assert abs(np.mean(fractions) - 1 / 9) < RATE * np.std(fractions) / np.sqrt(draws)
    assert rejected > 0.9 * draws  # negative control: copies are found


@pytest.mark.parametrize("dimension", [2, DIMENSION])
def test_intervals_cover_the_fraction_of_copies(dimension):
    draws, truth = 200, 0.3
    covered = {"copied": 0, "excess": 0, "too low": 0}
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        train = gaussian(rng, TRAIN, dimension)
        report = memorization_report(mixture(rng, train, truth, noise=1e-4), train, gaussian(rng, FRESH, dimension))
        covered["copied"] += report.copied.lower <= truth <= report.copied.upper
        covered["excess"] += report.excess.lower <= truth <= report.excess.upper
        covered["too low"] += report.copied.lower <= truth - 0.2 <= report.copied.upper
    least = draws * 0.95 - RATE * np.sqrt(draws * 0.95 * 0.05)
    assert covered["excess"] > least
    assert covered["too low"] < 0.1 * draws  # negative control
    if dimension == DIMENSION:
        assert covered["copied"] > least
    else:
        assert covered["copied"] < least  # chance copies are among them: why there is an excess


def test_the_excess_solves_the_mixture():
    found = memorization.excess_interval(44, 100, 100, 500)  # 0.44 = 0.3 + 0.7 * 0.2
    assert found.value == pytest.approx(0.3)
    assert found.lower < 0.25 < 0.35 < found.upper
    assert memorization.excess_interval(10, 100, 100, 500).value == 0  # fewer than chance
    assert memorization.excess_interval(5, 5, 1, 1) == (0, 0, 1)  # a chance of 1 cannot be excluded
    assert memorization.excess_interval(100, 100, 0, 500)[::2] == (1, 1)


def test_few_held_out_points_are_no_proof_either_way():
    rng = np.random.default_rng(2)
    train = gaussian(rng, TRAIN)
    copies = train[:SAMPLES]
    one = memorization_report(copies, train, gaussian(rng, 1))
    assert one.p_value == pytest.approx(1 / (SAMPLES + 1))  # the rank of one among all
    few = np.concatenate([copies[:5], gaussian(rng, SAMPLES - 5)])
    report = memorization_report(few, train, gaussian(rng, 3))
    assert report.copied.value == 0.05
    assert report.p_value > 0.5
    text = describe(report)
    assert "hold out at least 83." in text
    # That many would have been enough, and 3 in 4 of them not.
    assert stats.fisher_exact([[5, 95], [0, 83]], alternative="greater").pvalue <= 0.05
    assert stats.fisher_exact([[5, 95], [0, 62]], alternative="greater").pvalue > 0.05
    assert "hold out at least" not in describe(memorization_report(few, train, gaussian(rng, FRESH * 4)))


def test_the_p_value_is_fishers():
    for count, n, chance, m in [(0, 5, 0, 3), (5, 5, 0, 3), (3, 10, 4, 7), (40, 100, 9, 50), (1, 1, 1, 1)]:
        table = [[count, n - count], [chance, m - chance]]
        expected = stats.fisher_exact(table, alternative="greater").pvalue
        assert memorization._p_value(count, n, chance, m) == pytest.approx(expected, rel=1e-9)


def test_equal_training_points_are_one():
    rng = np.random.default_rng(3)
    once = gaussian(rng, TRAIN // 4)
    train = np.concatenate([once[:5], once[:5], once[::-1], once, once, once[10:]])  # the first of some come late
    nearest_ratio(gaussian(rng, SAMPLES), gaussian(rng, TRAIN))
    compiled = two_nearest._cache_size()
    samples = np.concatenate([once[:10], once[10:20] + np.float32(1e-3), gaussian(rng, SAMPLES - 20)])
    ratio, nearest = nearest_ratio(samples, train)
    assert two_nearest._cache_size() == compiled  # one program, however many points are repeated
    ordered = np.sort(np.linalg.norm(samples.astype(float)[:, None] - once, axis=-1), axis=1)
    np.testing.assert_allclose(ratio, ordered[:, 0] / ordered[:, 1], rtol=40 * np.finfo(np.float32).eps)
    every = np.linalg.norm(samples.astype(float)[:, None] - train, axis=-1)
    np.testing.assert_array_equal(nearest, np.argmin(every, axis=1))  # the first of equal ones
    assert np.all(ratio[:10] == 0)
    assert np.all(ratio[:20] < 1 / 3)
    signed, where = nearest_ratio([[0.1], [0.1]], [[1.0], [-0.0], [0.0]])
    np.testing.assert_allclose((signed[0], where[0]), (1 / 9, 1), rtol=1e-6)
    # Distinct in float32, though their squared distance underflows: a sample on both is a copy.
    assert nearest_ratio([[0, 0], [1, 1]], [[0, 0], [1e-30, 1e-30], [1, 1]])[0].tolist() == [0, 0]


def test_images_are_flattened_and_units_do_not_matter():
    rng = np.random.default_rng(4)
    train, samples, held_out = gaussian(rng, TRAIN), gaussian(rng, SAMPLES), gaussian(rng, FRESH)
    report = memorization_report(samples, train, held_out)
    images = memorization_report(*(1024 * x.reshape(-1, 4, 2, 2) for x in (samples, train, held_out)))
    for found, expected in zip(images, report, strict=True):
        np.testing.assert_array_equal(found, expected)
    pixels = rng.integers(256, size=(TRAIN, DIMENSION), dtype=np.uint8)
    np.testing.assert_array_equal(nearest_ratio(pixels, pixels)[1], np.arange(TRAIN))
    halves = jnp.asarray(pixels, jnp.bfloat16)  # exact: 8 bits
    np.testing.assert_array_equal(nearest_ratio(halves, pixels)[0], 0)


GOOD = np.random.default_rng(5).standard_normal((6, 3))
BAD = np.where(np.arange(18).reshape(6, 3) < 16, GOOD, np.nan)


@pytest.mark.parametrize(
    ("samples", "train", "held_out", "message"),
    [
        (BAD, GOOD, GOOD, r"samples: 2 of 18 values are NaN, infinite or above 1e\+15, the first in point 5"),
        (GOOD, BAD, GOOD, "train: 2 of 18 values are NaN"),
        (GOOD, GOOD, BAD, "held_out: 2 of 18 values are NaN"),
        (GOOD * 1e18, GOOD, GOOD, "samples: 18 of 18 values are NaN, infinite or above"),
        (GOOD * 1e300, GOOD, GOOD, "samples: 18 of 18 values are NaN, infinite or above"),
        (GOOD[:, 0], GOOD, GOOD, r"samples: shape is \(6,\); give \(points, coordinates\)"),
        (GOOD[:0], GOOD, GOOD, r"samples: shape \(0, 3\) has 0 points; give at least 1"),
        (GOOD, GOOD[:1], GOOD, r"train: shape \(1, 3\) has 1 points; give at least 2"),
        (GOOD, GOOD, GOOD[:0], r"held_out: shape \(0, 3\) has 0 points"),
        (GOOD[:, :0], GOOD, GOOD, r"samples: shape \(6, 0\) has no coordinates"),
        (GOOD[:, :2], GOOD, GOOD, "samples: 2 coordinates per point, but train has 3"),
        (GOOD, GOOD, GOOD[:, :2], "held_out: 2 coordinates per point, but train has 3"),
        (GOOD, GOOD[[1, 1, 1]], GOOD, "train: all 3 points are equal; give at least 2 distinct"),
        (GOOD, GOOD * 1e-20, GOOD, "train: points differ by .* at most, below 1e-15; rescale"),
        (GOOD * 1j, GOOD, GOOD, "samples: dtype is complex128; give real numbers"),
        ([["a"]], GOOD, GOOD, "samples: dtype is <U1; give real numbers"),
        ([[1.0], [1.0, 2.0]], GOOD, GOOD, "samples: rows differ in length"),
    ],
)
def test_bad_input_is_one_line(samples, train, held_out, message):
    with pytest.raises(InputError, match=message) as caught:
        memorization_report(samples, train, held_out)
    assert "\n" not in str(caught.value)


def test_participation_is_that_of_the_weights():
    rng = np.random.default_rng(6)
    train, x, t = gaussian(rng, TRAIN), gaussian(rng, SAMPLES), 2.0
    squares = ((x[:, None].astype(float) - train) ** 2).sum(axis=-1)
    weights = np.exp((squares.min(axis=1, keepdims=True) - squares) / (2 * t))
    weights /= weights.sum(axis=1, keepdims=True)
    expected = (weights**2).sum(axis=1)
    found = mean_participation(x.reshape(SAMPLES, 4, 4), train, t)
    assert 0.02 < found.value < 0.9
    # Weights carry the rounding of squares over 2 t, some 20 here.
    assert found.value == pytest.approx(expected.mean(), rel=1e-4)
    interval = stats.t.interval(0.95, SAMPLES - 1, expected.mean(), stats.sem(expected))
    np.testing.assert_allclose(found[1:], interval, rtol=1e-3)
    assert mean_participation(train[:SAMPLES], train, 1e-4) == (1, 1, 1)
    assert mean_participation(x, train, 1e8).value == pytest.approx(1 / TRAIN, rel=1e-4)
    assert np.isnan(mean_participation(x[:1], train, t)[1:]).all()


@pytest.mark.parametrize("t", [0.0, -1.0, np.nan, np.inf])
def test_a_noise_variance_is_positive(t):
    with pytest.raises(InputError, match=r"t: .* is not a noise variance; give a positive number"):
        mean_participation(GOOD, GOOD, t)
