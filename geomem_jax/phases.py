r"""Phases of a model per dataset size and noise variance, or dataset size and training step.

Two thresholds of one half: a direction is *frozen* where its relative gain is below 1/2
(:mod:`geomem_jax.freeze_out`), and a model *copies* where at least 1/2 of its samples are copies of training points
(:mod:`geomem_jax.memorization`).

==========================  ===================  ======================
phase                       fraction copied      directions
==========================  ===================  ======================
``generalization``          below 1/2            all free
``geometric memorization``  below 1/2            some frozen, some free
``collapse``                below 1/2            all frozen
``copying``                 1/2 or more          any
``unknown``                 not known            not known
==========================  ===================  ======================

*Collapse* is neither of the others: a model that responds in no direction and yet seldom draws a training point.  An
untrained network is there, or one whose samples are mixtures of training points.  *Copying* does not look at
directions: gains are those at one noise variance, samples are what is left at the end.  *Unknown* is where the answer
depends on a value that is missing (nan), or on the side of 1/2 on which the fraction lies when its interval holds 1/2.

Source.  That directions freeze one by one before samples are copied is *geometric memorization*, Achilli et al. (2024),
arXiv:2410.08727; the thresholds are defined here.
"""

import numpy as np
from numpy.typing import ArrayLike

from geomem_jax.errors import InputError
from geomem_jax.freeze_out import FROZEN_BELOW

COPYING_FROM = 0.5
PHASES = ("generalization", "geometric memorization", "collapse", "copying", "unknown")


def phase(relative_gain: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> np.ndarray:
    """Name the phase of every cell of a grid.

    Args:
      relative_gain: ``(*s, g)`` relative gain of each distinct direction; nan where not measured.
      lower: ``(*s)`` lower end of the interval of the fraction copied; nan where not measured.  Where copies by chance
        are common (few dimensions), that of the excess of a report.
      upper: ``(*s)`` upper end; without an interval give the fraction for both.

    Returns:
      ``(*s)`` strings among :data:`PHASES`.

    Raises:
      InputError: if shapes do not match, there is no direction, or a fraction lies outside ``[0, 1]``.

    Example:
      >>> phase([[1.0, 0.9], [1.0, 0.2]], [0.0, 0.0], [0.1, 0.1]).tolist()
      ['generalization', 'geometric memorization']
    """
    gain = np.asarray(relative_gain, float)
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    if gain.ndim == 0 or gain.shape[-1] == 0:
        raise InputError(f"relative_gain: shape {gain.shape} has no directions; give (..., directions)")
    if not lower.shape == upper.shape == gain.shape[:-1]:
        raise InputError(
            f"lower, upper: shapes {lower.shape} and {upper.shape}, but relative_gain has cells of shape "
            f"{gain.shape[:-1]}; give one interval per cell"
        )
    outside = (lower < 0) | (upper > 1)
    if outside.any():
        raise InputError(f"lower, upper: {np.count_nonzero(outside)} intervals lie outside [0, 1]; give fractions")
    frozen = gain < FROZEN_BELOW
    return np.select(
        [lower >= COPYING_FROM, ~(upper < COPYING_FROM) | np.isnan(gain).any(axis=-1), frozen.all(-1), frozen.any(-1)],
        ["copying", "unknown", "collapse", "geometric memorization"],
        "generalization",
    )
