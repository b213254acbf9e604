"""Dimensions from spectra: exact cases, the false rate of gaps, and what other rules say of the same spectra."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from geomem_jax import dimension
from geomem_jax.denoisers import population
from geomem_jax.errors import InputError

BULK = 0.05  # spread of singular values about their level, as errors of a network make it


def levels(seed, counts, values, points=40, spread=BULK):
    """Spectra with ``counts`` values uniform within ``spread`` of each of ``values``; 1 is frozen."""
    rng = np.random.default_rng(seed)
    centre = np.repeat(values, counts)
    return np.sort(np.abs(centre + spread * rng.uniform(-1, 1, (points, len(centre)))), axis=1)[:, ::-1]


def brute_force_gap(values, resolution=0.01):
    """Clear gap of one spectrum that is outermost and largest, by loops."""
    sizes = sorted((values[k] - values[k + 1] for k in range(len(values) - 1)), reverse=True)
    standing = [j for j in range(1, min(8, len(values) // 4) + 1) if sizes[j - 1] >= 4 * max(sizes[j], resolution)]
    if not standing:
        return math.nan
    noise = max(sizes[max(standing)], resolution)
    below_one = [min(value, 1) for value in values]
    drops = [below_one[k] - below_one[k + 1] for k in range(len(values) - 1)]
    for k, drop in enumerate(drops):
        if drop >= 4 * noise and 1 - np.median(below_one[: k + 1]) < drop:
            return len(values) - 1 - k if drop == max(drops) else math.nan
    return math.nan


def single_bulks(d, n, rng):
    """Spectra of random matrices without a gap."""
    gaussian = rng.standard_normal((n, d, 4 * d))
    square = gaussian[..., :d]
    wigner = (square + square.swapaxes(1, 2)) / np.sqrt(32 * d)
    return {
        "wigner": np.sort(np.abs(0.5 + np.linalg.eigvalsh(wigner)), axis=1)[:, ::-1],
        "square": np.linalg.svd(square / np.sqrt(4 * d), compute_uv=False),
        "two to one": np.linalg.svd(gaussian[..., : 2 * d] / np.sqrt(8 * d), compute_uv=False),
        "four to one": np.linalg.svd(gaussian / np.sqrt(16 * d), compute_uv=False),
        "about frozen": np.linalg.svd(np.eye(d) + 0.3 * square / np.sqrt(d), compute_uv=False),
    }


def test_the_gap_of_one_level_is_found_at_every_point_and_exactly():
    found = dimension.total_gap(levels(0, (24, 8), (1.0, 0.1)))
    assert found.found
    assert found[:3] == (8, 8, 8)
    assert np.all(found.points == 8)
    assert found.confidence > 10
    assert dimension.intermediate_gaps(levels(0, (24, 8), (1.0, 0.1))) == []


def test_of_two_levels_the_outer_gap_is_the_dimension_and_the_inner_one_intermediate():
    # Variances 1 and 0.09 at t = 0.05: singular values 0.36 and 0.05.
    spectra = levels(1, (24, 5, 3), (1.0, 0.05 / 0.14, 0.05 / 1.05), spread=0.005)
    assert dimension.total_gap(spectra)[:3] == (8, 8, 8)
    (inner,) = dimension.intermediate_gaps(spectra)
    assert inner[:3] == (3, 3, 3)


@pytest.mark.parametrize(("counts", "values"), [((24, 5, 3), (1.0, 0.9, 0.44)), ((24, 1, 7), (1.0, 0.8, 0.1))])
def test_where_the_outer_gap_is_not_the_largest_there_are_several_answers(counts, values):
    # Two levels of variance, one below the noise, where the outer gap is right; a sphere as small as the noise, where
    # the inner one is.
    spectra = levels(1, counts, values, spread=0.005)
    assert not dimension.total_gap(spectra).found
    np.testing.assert_array_equal(dimension.largest_drop(spectra), counts[2])  # always an answer
    (inner,) = dimension.intermediate_gaps(spectra)
    assert inner.value == counts[2]


def test_gaps_are_those_of_the_stated_rule():
    rng = np.random.default_rng(2)
    spectra = np.sort(rng.choice([0.1, 0.5, 1.0], (300, 12)) + 0.2 * rng.random((300, 12)), axis=1)[:, ::-1]
    expected = [brute_force_gap(row) for row in spectra.tolist()]
    found = dimension.total_gap(spectra)
    np.testing.assert_array_equal(found.points, expected)
    assert 30 < np.isfinite(expected).sum() < 270  # both answers occur
    present = np.array(expected)[np.isfinite(expected)]
    assert found.found == (len(present) > 150)


@pytest.mark.parametrize("d", [8, 32])
def test_spectra_without_a_gap_are_called_so(d):
    rng = np.random.default_rng(3)
    n = 1500 if d == 8 else 300
    for name, spectra in single_bulks(d, n, rng).items():
        clear = dimension.clear_gaps(spectra).clear.any(axis=1)
        # Ten bulks: the number beyond which correct code, of rate 1/200, is refused somewhere once in 10 000 runs.
        assert clear.sum() <= scipy.stats.binom.isf(1e-5, n, 1 / 200), name
        assert not dimension.total_gap(spectra).found
        # Negative controls: the largest drop always says something, and below a contrast of 4 noise passes for a gap.
        assert np.isfinite(dimension.largest_drop(spectra)).all()
        ordered = np.sort(-np.diff(spectra), axis=1)
        assert np.mean(ordered[:, -1] > 1.5 * ordered[:, -2]) > 0.1, name


def test_values_beyond_frozen_are_no_gap():
    spectra = levels(4, (24, 8), (1.0, 0.1))
    spectra[:, 0] = 2.5  # an error of the network
    np.testing.assert_array_equal(dimension.largest_drop(spectra), 31)
    assert dimension.total_gap(spectra)[:3] == (8, 8, 8)


def test_data_without_frozen_directions_have_no_total_gap():
    spectra = levels(5, (12, 8), (0.5, 0.05), spread=0.01)
    gaps = dimension.clear_gaps(spectra)
    assert np.all(gaps.clear.sum(axis=1) == 1)  # there is a gap, inside the data
    assert not dimension.total_gap(spectra).found
    assert dimension.intermediate_gaps(spectra) == []


def test_all_frozen_and_all_free_have_no_gap():
    for value in (1.0, 0.0, 0.99):
        assert not dimension.total_gap(np.full((5, 16), value)).found
    # Gains of a hundred-thousandth: what is left of a memorized direction.
    nearly = 1 - np.append(np.zeros(12), 1e-5 * (5 + 0.1 * np.arange(4)))[None]
    assert not dimension.total_gap(nearly).found
    assert dimension.total_gap(nearly, resolution=1e-7).points[0] == 4


def test_confidence_without_a_gap_is_that_of_the_largest_drop():
    spectrum = [1.0, 0.9, 0.6, 0.4, 0.35, 0.3, 0.2, 0.1]
    found = dimension.total_gap([spectrum])
    assert not found.found
    np.testing.assert_allclose(found.confidence, 0.3 / 0.2)


def test_half_of_the_points_are_not_enough_and_intervals_are_of_the_median():
    rows = np.concatenate([levels(6, (24, 8), (1.0, 0.1), 10), np.full((10, 32), 1.0)])
    found = dimension.total_gap(rows)
    assert not found.found
    assert np.isnan(found[:3]).all()
    np.testing.assert_array_equal(found.points, np.repeat([8, np.nan], 10))
    more = dimension.total_gap(rows[:-1])
    assert more.found
    mixed = np.concatenate([levels(s, (32 - m, m), (1.0, 0.1), 7) for s, m in enumerate((3, 4, 9))])
    pooled = dimension.total_gap(mixed)
    assert pooled.value == 4
    # Of 21 points the 6th and the 16th: the binomial tail of 5 is 1.3 %, of 6 it would be 3.9 %.
    assert (pooled.lower, pooled.upper) == (3, 9)


def test_scores_at_noised_copies_have_the_gap_of_their_plane():
    # Gaussian data of 4 variances 1 among 32 directions; plainly in NumPy.
    rng = np.random.default_rng(7)
    t, d = 0.01, 32
    variances = np.repeat([1.0, 0.0], [4, 28])
    centred, uncentred = [], []
    for _ in range(8):
        x = np.sqrt(variances) * rng.standard_normal(d)
        scores = -(x + np.sqrt(t) * rng.standard_normal((4 * d, d))) / (variances + t)
        scores[:, 0] += 300.0  # a constant error of the score
        unit = np.sqrt(t / (4 * d - 1))
        uncentred.append(unit * np.linalg.svd(scores, compute_uv=False))
        centred.append(unit * np.linalg.svd(scores - scores.mean(axis=0), compute_uv=False))
    found = dimension.total_gap(centred)
    assert found.found
    assert found[:3] == (4, 4, 4)
    assert dimension.total_gap(uncentred).value == 3  # negative control: the error passes for a normal


def test_scores_that_point_at_two_training_points_are_no_normal_bundle():
    # A memorized score far from its points: one direction, between them, in which it is many times stiffer than 1.
    rng = np.random.default_rng(8)
    spectra = np.linalg.svd(rng.standard_normal((20, 96, 24)) / np.sqrt(96), compute_uv=False)
    spectra[:, 0] = 40.0
    assert not dimension.total_gap(spectra).found
    np.testing.assert_array_equal(dimension.largest_drop(spectra), 23)


def test_threshold_counts_variances_above_the_noise():
    t = 0.3
    variances = np.array([1.0, 0.5, 0.31, 0.29, 0.01, 0.0])
    spectra = np.sort(t / (t + variances))[None, ::-1].repeat(3, axis=0)
    found = dimension.threshold_dimension(spectra)
    assert found.value == found.lower == found.upper == 3
    # 0.508 against 0.492 at the threshold, 0.967 against 0.508 elsewhere.
    np.testing.assert_allclose(found.confidence, (0.3 / 0.59 - 0.3 / 0.61) / (0.3 / 0.31 - 0.3 / 0.59))
    assert dimension.threshold_dimension(spectra, 0.99).value == 5
    assert dimension.threshold_dimension([[1.0, 0.9, 0.8, 0.6]])[:4:3] == (0, 0)  # no drop at the threshold
    for nothing in (np.zeros((2, 5)), np.ones((2, 5))):
        assert dimension.threshold_dimension(nothing)[0] == 5 * (1 - nothing[0, 0])
        assert dimension.threshold_dimension(nothing).confidence == 0


def test_means_over_points_have_the_interval_of_student():
    values = np.array([3.0, 4.0, 8.0])
    found = dimension.soft_dimension(values)
    half = scipy.stats.t.ppf(0.975, 2) * np.sqrt(7 / 3)
    np.testing.assert_allclose(found[:3], (5, 5 - half, 5 + half))
    assert np.isnan(found.confidence)
    assert np.isnan(dimension.soft_dimension([2.0]).lower)


def test_flipd_is_the_soft_dimension_at_the_mean_and_the_slope_of_the_density_elsewhere(x64):
    # The density at two noises by SciPy, against trace and score of the denoiser.
    variances = np.array([1.0, 0.3, 0.0])
    t = 0.2

    def denoise(x):
        return population.denoise(jnp.asarray(variances), jnp.eye(3), x, t)

    at_mean = jnp.zeros(3)
    trace = np.trace(jax.jacfwd(denoise)(at_mean))
    np.testing.assert_allclose(dimension.flipd([trace], [0.0], t).value, np.sum(variances / (variances + t)), rtol=1e-6)
    x = np.array([0.4, -1.1, 0.3])
    score = (np.asarray(denoise(jnp.asarray(x))) - x) / t
    found = dimension.flipd([np.trace(jax.jacfwd(denoise)(jnp.asarray(x)))], [np.linalg.norm(score)], t).value

    def log_density(log_std):
        return scipy.stats.multivariate_normal.logpdf(x, cov=np.diag(variances + np.exp(2 * log_std)))

    step = 1e-4
    slope = (log_density(np.log(t) / 2 + step) - log_density(np.log(t) / 2 - step)) / (2 * step)
    # The finite difference is good to 1e-7, float32 to 1e-6.
    np.testing.assert_allclose(found, 3 + slope, rtol=1e-5)
    # Negative control: with the sign of the squared score turned.
    assert abs(found - 2 * t * np.linalg.norm(score) ** 2 - 3 - slope) > 0.1


def test_flipd_at_noised_points_is_the_ambient_dimension():
    rng = np.random.default_rng(8)
    variances, t, n = np.array([1.0, 1.0, 0.0, 0.0, 0.0]), 0.1, 20_000
    x = np.sqrt(variances + t) * rng.standard_normal((n, 5))
    norms = np.linalg.norm(x / (variances + t), axis=1)
    found = dimension.flipd(np.full(n, np.sum(variances / (variances + t))), norms, t)
    assert found.lower < 5 < found.upper
    assert found.upper - found.lower < 0.2


def published_cliff(spectra, skip, factor):
    """Both forms of the published detector by loops: dimension of each first spike, and of all spikes."""
    d = len(spectra[0])
    seconds = [
        [abs(row[i + 1] - 2 * row[i] + row[i - 1]) for i in range(1, len(row) - 1)]
        for row in (spectrum[skip:] for spectrum in spectra)
    ]
    level = factor * np.median(seconds)
    spikes = [[d - (i + 1 + skip) for i, value in enumerate(row) if value > level] for row in seconds]
    return [row[0] if row else math.nan for row in spikes], [place for row in spikes for place in row]


@pytest.mark.parametrize(("skip", "factor"), [(5, 10.0), (0, 4.0), (3, 2.0)])
def test_cliff_is_as_published(skip, factor):
    spectra = levels(9, (20, 12), (1.0, 0.1))
    first, every = published_cliff(spectra.tolist(), skip, factor)
    found = dimension.cliff(spectra, skip=skip, factor=factor)
    np.testing.assert_array_equal(found.points, first)
    assert found.value == np.median(first)
    average = dimension.cliff(spectra, skip=skip, factor=factor, average=True)
    np.testing.assert_allclose(average.value, np.mean(every))
    assert average.lower <= average.value <= average.upper


def test_a_sharp_cliff_is_one_off_by_its_first_spike_and_a_half_by_the_average():
    spectra = levels(10, (20, 12), (1.0, 0.1), spread=1e-3)
    assert dimension.cliff(spectra).value == 13
    assert dimension.cliff(spectra, average=True).value == 12.5


def test_without_a_spike_there_is_no_cliff():
    flat = np.linspace(1, 0, 32) ** 2 + np.zeros((3, 1))  # the second difference is constant
    for average in (False, True):
        found = dimension.cliff(flat, average=average)
        assert not found.found
        assert np.isnan(found.value)
        assert np.isnan(found.points).all()
        np.testing.assert_allclose(found.confidence, 0.1)


def test_mean_intervals_cover():
    # 5 % of 2000 intervals miss; correct code is refused once in 10 000 runs.
    rng = np.random.default_rng(11)
    missed = 0
    for _ in range(2000):
        found = dimension.soft_dimension(3 + rng.standard_normal(8))
        missed += not found.lower <= 3 <= found.upper
    assert scipy.stats.binom.ppf(5e-5, 2000, 0.05) <= missed <= scipy.stats.binom.isf(5e-5, 2000, 0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dimension.total_gap(np.ones(4)), "spectra: shape"),
        (lambda: dimension.total_gap(np.ones((2, 3))), "spectra: shape"),
        (lambda: dimension.total_gap(np.arange(5.0)[None]), "ascend"),
        (lambda: dimension.total_gap(np.full((1, 5), np.nan)), "finite"),
        (lambda: dimension.total_gap(-np.ones((1, 5))), "not negative"),
        (lambda: dimension.total_gap(np.ones((1, 5)), resolution=-1.0), "resolution: -1"),
        (lambda: dimension.threshold_dimension(np.ones((1, 5)), 1.0), "threshold: 1"),
        (lambda: dimension.soft_dimension([[1.0]]), "traces: shape"),
        (lambda: dimension.soft_dimension([np.inf]), "traces: shape"),
        (lambda: dimension.flipd([1.0], [1.0, 2.0], 0.1), "score_norms: 2 points"),
        (lambda: dimension.flipd([1.0], [1.0], 0.0), "t: 0"),
        (lambda: dimension.cliff(np.ones((1, 6)), skip=4), "skip: 4"),
        (lambda: dimension.cliff(np.ones((1, 9)), factor=0), "factor: 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
