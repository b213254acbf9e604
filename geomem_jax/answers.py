"""What a run found, for a reader who knows neither this package nor its words: which directions freeze first."""

import numpy as np
import xarray as xr

from geomem_jax.formatting import format_interval
from geomem_jax.freeze_out import first_to_freeze, freeze_out_sizes, kendall_tau
from geomem_jax.gains import is_complete
from geomem_jax.results import NETWORK
from geomem_jax.verdict import POINT

MODELS = {
    "linear": "The best linear denoiser of N points",
    "empirical": "The exact denoiser of N points, to which perfect training leads",
    NETWORK: "Small networks trained on N points",
}
ORDERS = {
    "fine first": "fine detail (small variance) freezes first as data get scarce",
    "salient first": "salient directions (large variance) freeze first as data get scarce",
    "undecided": "which directions freeze first is undecided",
    "no order": "which directions freeze first cannot be seen at these dataset sizes",
}


def answers(dataset: xr.Dataset, t: float) -> list[str]:
    """Say of every model made of N points in which order its directions freeze, and at which sizes.

    Args:
      dataset: a result, possibly incomplete.
      t: noise variance, one of the grid.

    Returns:
      A sentence or two for each model that is measured.
    """
    said = []
    for rung, model in MODELS.items():
        if rung not in dataset["rung"].values or not is_complete(dataset, rung).any():
            continue
        found = freeze_out_sizes(dataset, rung, POINT, t)
        ends = np.stack([found.log_value, found.log_lower, found.log_upper], axis=1)
        sizes = " and ".join(
            f"{format_interval(tuple(ends[at]), found.grid)} points at variance {found.variance[at]:.3g}"
            for at in ((0, -1) if len(ends) > 1 else (0,))
        )
        order = ORDERS[first_to_freeze(kendall_tau(found, -found.variance, least=2))]
        said.append(f"{model}: {order}. Directions are free above {sizes}.")
    return said
