r"""When does the empirical score condense onto one training point, and did the variances alone foretell it?

The participation ratio :math:`Y = \sum_\mu w_\mu^2` of the weights is 1 where one training point answers alone and
``1 / N`` where all answer alike.  At a noised training point it falls with the noise variance ``t``; its mean crosses
1/2 near the condensation time :math:`t_c`, where the mutual information of data and noised data equals ``log N``
(:func:`theory.condensation_time`).  The prediction knows the variances and nothing else.

Scope.  The prediction is leading order in the number of directions, and an upper bound on the information of data that
are not Gaussian.  Since :math:`Y \ge 1/N`, two points cannot cross 1/2: sizes below three are left out.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

import theory
from geomem_jax.freeze_out import largest_crossing
from geomem_jax.gains import is_complete, require
from geomem_jax.statistics import expanded_bootstrap

RUNG = "empirical"  # the only rung that is a weighted mean of training points
SMALLEST = 3


class Crossings(NamedTuple):
    """Noise variances at which the mean participation ratio crosses 1/2; natural logarithms.

    Attributes:
      dataset_size: ``(k,)`` measured sizes, ascending.
      log_predicted: ``(k,)`` log condensation time.
      log_value: ``(k,)`` log measured time; ``-inf`` below the grid of noise variances, ``+inf`` above it.
      log_lower: ``(k,)`` lower end of the 95 % interval over training sets, censored likewise; nan with one.
      log_upper: ``(k,)`` upper end.
      num_seeds: ``(k,)`` training sets in use.
      grid: smallest and largest noise variance.
    """

    dataset_size: np.ndarray
    log_predicted: np.ndarray
    log_value: np.ndarray
    log_lower: np.ndarray
    log_upper: np.ndarray
    num_seeds: np.ndarray
    grid: tuple[float, float]


def crossing_times(dataset: xr.Dataset, point: str = "train", *, bootstrap_seed: int = 0) -> Crossings:
    """Measure the largest noise variance at which the mean participation ratio is 1/2, at every dataset size.

    The mean over points and training sets is interpolated linearly in ``log t``; outside the grid nothing is
    extrapolated.

    Args:
      dataset: a result; sizes of which no training set is complete are left out.
      point: point class; the prediction is for ``"train"`` (at held-out points condensation comes later).
      bootstrap_seed: seed of the resampling of training sets.

    Returns:
      :class:`Crossings`; arrays are empty if nothing is measured.

    Raises:
      InputError: if the empirical rung or the point class is not in the result.
    """
    require(dataset, "rung", RUNG)
    require(dataset, "point", point)
    ratio = dataset["participation"].sel(rung=RUNG, point=point).sortby("dataset_size").sortby("noise_variance")
    ratio = ratio.transpose("dataset_size", "seed", "noise_variance")
    complete = is_complete(dataset.sortby("dataset_size"), RUNG)
    sizes = ratio["dataset_size"].values
    noise_variances = ratio["noise_variance"].values
    used = np.flatnonzero(complete.any(axis=1) & (sizes >= SMALLEST))
    log_t = np.log(noise_variances)
    # 1 - Y rises with the noise as a relative gain does, so that both have one definition of a crossing.
    intervals = [
        expanded_bootstrap(
            1 - ratio.values[row, complete[row]].astype(np.float64),
            lambda means: largest_crossing(log_t, means),
            bootstrap_seed,
        )
        for row in used
    ]
    predicted = np.log(np.asarray(theory.condensation_time(dataset["variance"].values, sizes[used]), np.float64))
    ends = (np.array([getattr(found, end) for found in intervals], float) for end in ("estimate", "lower", "upper"))
    value, lower, upper = ends
    grid = float(noise_variances.min()), float(noise_variances.max())
    return Crossings(sizes[used], predicted, value, lower, upper, complete[used].sum(axis=1), grid)
