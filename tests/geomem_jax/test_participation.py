"""The crossing of the participation ratio, on results whose crossing is known."""

import numpy as np
import pytest

import theory
from geomem_jax import participation
from geomem_jax.errors import InputError

from . import plotted


def test_the_crossing_is_where_it_was_put():
    dataset = plotted.simulated(noise=0.0)
    log_t = np.log(plotted.TIMES)
    # Y falls linearly in log t, where interpolation is exact, through 1/2 at the size's own time.
    at = np.array([np.nan, -3.0, -2.5, -2.0, -1.0, -0.5])
    ratio = 0.5 - 0.1 * (log_t - at[:, None])
    dataset["participation"].loc[{"rung": "empirical", "point": "train"}] = ratio[:, :, None]
    found = participation.crossing_times(dataset)
    np.testing.assert_array_equal(found.dataset_size, plotted.SIZES[1:])  # two points cannot cross 1/2
    # Stored in float32 and divided by a slope of 0.1.
    np.testing.assert_allclose(found.log_value, at[1:], atol=3e-6)
    np.testing.assert_allclose(found.log_lower, at[1:], atol=3e-6)
    np.testing.assert_allclose(found.log_upper, at[1:], atol=3e-6)
    times = theory.condensation_time(plotted.LADDER, plotted.SIZES[1:])
    np.testing.assert_allclose(found.log_predicted, np.log(times), rtol=1e-6)
    np.testing.assert_array_equal(found.num_seeds, 8)


@pytest.mark.parametrize(("ratio", "value"), [(0.2, -np.inf), (0.8, np.inf)])
def test_outside_the_grid_nothing_is_extrapolated(ratio, value):
    dataset = plotted.simulated(noise=0.0)
    dataset["participation"].loc[{"rung": "empirical", "point": "train"}] = ratio
    found = participation.crossing_times(dataset)
    for ends in (found.log_value, found.log_lower, found.log_upper):
        np.testing.assert_array_equal(ends, value)


def test_intervals_cover_the_true_crossing_and_not_another():
    truth, covered, elsewhere = np.log(0.2), 0, 0
    for draw in range(40):
        rng = np.random.default_rng(draw)
        dataset = plotted.simulated(noise=0.0)
        spread = 0.05 * rng.standard_normal((5, 1, 8))  # shared by all noise variances of a training set
        ratio = (0.5 - 0.1 * (np.log(plotted.TIMES) - truth))[:, None] + spread
        dataset["participation"].loc[{"rung": "empirical", "point": "train", "dataset_size": plotted.SIZES[1:]}] = ratio
        found = participation.crossing_times(dataset)
        covered += np.sum((found.log_lower < truth) & (truth < found.log_upper))
        elsewhere += np.sum((found.log_lower < truth + 1) & (truth + 1 < found.log_upper))
    # 200 intervals of nominally 95 %: below 176 with probability 3e-5; a shift of 1 is over 5 standard errors.
    assert covered >= 176
    assert elsewhere < 20


def test_what_is_not_measured_is_left_out():
    found = participation.crossing_times(plotted.partial(plotted.simulated()))
    np.testing.assert_array_equal(found.dataset_size, plotted.SIZES[1:-1])
    np.testing.assert_array_equal(found.num_seeds, [8, 8, 4, 4])
    assert np.isfinite(found.log_value).any()
    dataset = plotted.simulated()
    dataset["complete"][:] = 0
    assert participation.crossing_times(dataset).log_value.shape == (0,)


def test_a_result_without_the_empirical_rung_is_refused():
    with pytest.raises(InputError, match="rung 'empirical' is not in this result"):
        participation.crossing_times(plotted.simulated().sel(rung=["linear"]))
