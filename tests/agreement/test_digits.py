"""Real digits: the condensation time from the variances alone against the measured participation crossing."""

import numpy as np
import pytest

import theory
from geomem_jax import data, participation, sweep, sweep_spectra

SIZES = (50, 200, 800, 1400)


@pytest.fixture(scope="module")
def crossings() -> participation.Crossings:
    source = data.load("digits")
    noise_variances = tuple(np.geomspace(0.3, 3.0, 12).tolist())
    grid = sweep.Grid(SIZES, noise_variances, seeds=4, points=256, held_out=256, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_spectra, "measured", lambda directions: False)  # most of the time, and not read here
        dataset = sweep.prepare(source, grid, {})
        sweep.measure(dataset, source, grid, lambda seed, size: None)
    return participation.crossing_times(dataset)


def test_condensation_time_from_variances_within_35_percent(crossings: participation.Crossings) -> None:
    """Images have less information than their variances allow, so t_c is approximate; 35 % is what is claimed."""
    assert tuple(crossings.dataset_size) == SIZES
    ratio = np.exp(crossings.log_predicted - crossings.log_value)
    # With the rounding of four training sets: the interval's farther end must keep the claim too.
    ends = np.exp(crossings.log_predicted[:, None] - np.stack([crossings.log_lower, crossings.log_upper], axis=1))
    assert np.all(np.abs(ratio - 1) < 0.35), ratio
    assert np.all(np.abs(ends - 1) < 0.35), ends


def test_the_information_budget_is_log_n(crossings: participation.Crossings) -> None:
    """Negative control: a budget of twice log N, or of the information at twice the variances, is rejected."""
    variances = data.load("digits").variances
    for wrong in (
        theory.condensation_time(variances, log_n=2 * np.log(SIZES)),
        theory.condensation_time(2 * variances, SIZES),
    ):
        assert not np.all(np.abs(np.asarray(wrong) / np.exp(crossings.log_value) - 1) < 0.35)
