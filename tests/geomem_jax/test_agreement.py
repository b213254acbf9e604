"""Agreement of two models that share the sample, share nothing, or share the mean only."""

import numpy as np
import pytest
from scipy import stats

from geomem_jax.agreement import agreement
from geomem_jax.errors import InputError

DIMENSION = 130  # more than two blocks of columns, and not a multiple


def brute_force(a, b):
    """Paired cosines and the p-value over all shifts, pair by pair."""
    centre = np.concatenate([a, b]).mean(axis=0)

    def cosine(x, y):
        return (x - centre) @ (y - centre) / (np.linalg.norm(x - centre) * np.linalg.norm(y - centre))

    n = len(a)
    shifted = [np.mean([cosine(a[i], b[(i + shift) % n]) for i in range(n)]) for shift in range(n)]
    return np.array([cosine(x, y) for x, y in zip(a, b, strict=True)]), np.mean(np.array(shifted) >= shifted[0] - 1e-12)


@pytest.mark.parametrize("shared", [0.0, 0.1, 0.3])
def test_cosines_and_p_value_are_those_of_every_shift(shared):
    rng = np.random.default_rng(3)
    common = rng.standard_normal((23, DIMENSION))
    a, b = (shared * common + rng.standard_normal((23, DIMENSION)) + 5 for _ in range(2))
    a, b = a.astype(np.float32), b.astype(np.float32)
    found = agreement(a, b)
    cosine, p_value = brute_force(a.astype(float), b.astype(float))
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-12)  # float64 throughout
    assert found.p_value == p_value
    np.testing.assert_allclose(found.distance, np.linalg.norm(a - b.astype(float), axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.unpaired_distance[-1], np.linalg.norm(a[-1] - b[0].astype(float)), rtol=1e-12)
    np.testing.assert_allclose(found.unpaired_cosine[:-1], np.diag(brute_matrix(a, b), 1), atol=1e-12)
    assert found.median_cosine.value == pytest.approx(np.median(cosine))
    assert found.median_cosine.lower <= found.median_cosine.value <= found.median_cosine.upper


def brute_matrix(a, b):
    a, b = a.astype(float), b.astype(float)
    centre = np.concatenate([a, b]).mean(axis=0)
    a, b = a - centre, b - centre
    return a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


def test_models_that_share_their_samples_agree():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((100, 4, 4)) + 30  # images far from 0: about 0 every cosine is near 1
    found = agreement(a, a + 0.01 * rng.standard_normal(a.shape))
    assert found.median_cosine.lower > 0.999
    assert found.median_distance.upper < 0.05
    assert np.median(found.unpaired_distance) > 4
    assert abs(np.median(found.unpaired_cosine)) < 0.2
    assert found.p_value == 1 / 100
    other = agreement(a, rng.permutation(a))
    assert other.median_cosine.upper < 0.2
    assert other.p_value > 0.01


def test_without_pairing_the_p_value_is_uniform():
    n, draws = 20, 400
    rng = np.random.default_rng(1)
    p_values = [agreement(*rng.standard_normal((2, n, 3))).p_value for _ in range(draws)]
    # Each of n shifts is first with probability 1 / n; chi square over all ranks at 1e-4.
    counts = np.bincount(np.rint(np.array(p_values) * n).astype(int), minlength=n + 1)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-4
    # Negative control: a pairing that is mostly noise is found more often than that.
    common = rng.standard_normal((draws, n, 3))
    paired = [agreement(x + rng.standard_normal((n, 3)), x + rng.standard_normal((n, 3))).p_value for x in common]
    assert np.mean(np.array(paired) <= 0.05) > 0.3


def test_a_sample_without_direction_has_cosine_zero():
    a = np.array([[0.0, 0.0], [1.0, 1.0]])
    found = agreement(a, -a)
    np.testing.assert_allclose(found.cosine, [0, -1])
    same = agreement(np.ones((5, 2)), np.ones((5, 2)))
    np.testing.assert_array_equal(same.cosine, 0)
    assert same.p_value == 1


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), "samples_b: 4 points of 2 coordinates, but samples_a has 3 of 2"),
        (np.ones((3, 2)), np.ones((3, 5)), "samples_b: 3 points of 5 coordinates, but samples_a has 3 of 2"),
        (np.ones((1, 2)), np.ones((1, 2)), r"samples_a: shape \(1, 2\) has 1 points; give at least 2"),
        (np.ones((3, 2)), np.full((3, 2), np.nan), "samples_b: 6 of 6 values are NaN"),
    ],
)
def test_bad_input_is_one_line(a, b, message):
    with pytest.raises(InputError, match=message) as caught:
        agreement(a, b)
    assert "\n" not in str(caught.value)
