"""Phases of grids whose phase is known."""

import numpy as np
import pytest

from geomem_jax.errors import InputError
from geomem_jax.phases import PHASES, phase

FREE, SOME, NONE, MISSING = [0.9, 0.8, 0.5], [0.9, 0.5, 0.49], [0.4, 0.1, 0.0], [0.9, np.nan, 0.8]


@pytest.mark.parametrize(
    ("gains", "lower", "upper", "expected"),
    [
        (FREE, 0.0, 0.49, "generalization"),
        (SOME, 0.0, 0.49, "geometric memorization"),
        (NONE, 0.0, 0.49, "collapse"),
        (FREE, 0.5, 0.5, "copying"),
        (SOME, 0.5, 0.7, "copying"),
        (NONE, 0.9, 1.0, "copying"),
        (MISSING, 0.6, 0.7, "copying"),  # whatever the missing gain is
        (MISSING, 0.1, 0.2, "unknown"),
        (SOME, 0.4, 0.5, "unknown"),  # at 0.5 it would copy
        (SOME, 0.4, 0.6, "unknown"),
        (SOME, np.nan, np.nan, "unknown"),
    ],
)
def test_a_cell(gains, lower, upper, expected):
    assert phase(gains, lower, upper) == expected
    assert expected in PHASES


def test_a_grid_is_named_cell_by_cell():
    gains = np.array([[FREE, SOME], [NONE, MISSING], [SOME, FREE]])
    fraction = np.array([[0.1, 0.2], [0.3, 0.6], [0.7, np.nan]])
    expected = [["generalization", "geometric memorization"], ["collapse", "copying"], ["copying", "unknown"]]
    np.testing.assert_array_equal(phase(gains, fraction, fraction), expected)


@pytest.mark.parametrize(
    ("gains", "lower", "upper", "message"),
    [
        (0.5, 0.1, 0.1, r"relative_gain: shape \(\) has no directions"),
        (np.ones((2, 0)), np.zeros(2), np.zeros(2), r"relative_gain: shape \(2, 0\) has no directions"),
        (np.ones((2, 3)), np.zeros(3), np.zeros(3), r"lower, upper: shapes \(3,\) and \(3,\).*cells of shape \(2,\)"),
        (np.ones((2, 3)), np.zeros(2), 0.1, r"lower, upper: shapes \(2,\) and \(\)"),
        (np.ones((2, 3)), [-0.1, 0.0], [0.0, 1.2], "lower, upper: 2 intervals lie outside"),
    ],
)
def test_bad_input_is_one_line(gains, lower, upper, message):
    with pytest.raises(InputError, match=message) as caught:
        phase(gains, lower, upper)
    assert "\n" not in str(caught.value)
