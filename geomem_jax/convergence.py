"""Did the Markov chains converge?  Nothing is reported where they did not.

Source.  Vehtari et al. (2021), Bayesian Analysis 16, 667: rank-normalized R-hat, bulk and tail effective draws, and the
thresholds; by arviz.
"""

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

import numpy as np

from geomem_jax.errors import InputError

LARGEST_R_HAT = 1.01
FEWEST_EFFECTIVE_DRAWS = 400  # a hundred for each of four chains


class Convergence(NamedTuple):
    """Diagnostics of one parameter.

    Attributes:
      r_hat: 1 where chains agree.
      effective_draws: the smaller of bulk and tail.
    """

    r_hat: float
    effective_draws: float


def load_arviz() -> ModuleType:
    """Import arviz, and matplotlib with it, only where it is needed."""
    with warnings.catch_warnings():
        # Once a day it announces its next major version, which pyproject.toml excludes.
        warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing a major refactor", category=FutureWarning)
        import arviz
    return arviz


def diagnose(draws: Mapping[str, np.ndarray]) -> dict[str, Convergence]:
    """Compute the diagnostics of ``(chain, draw)`` arrays by name."""
    arviz = load_arviz()
    return {
        name: Convergence(
            float(arviz.rhat(values)), float(min(arviz.ess(values, method=method) for method in ("bulk", "tail")))
        )
        for name, values in draws.items()
    }


def refuse(found: Mapping[str, Convergence], diverged: int, what: str) -> None:
    """Raise unless the chains converged.

    Args:
      found: diagnostics by name of the parameter.
      diverged: trajectories that diverged.
      what: was sampled, for the message.

    Raises:
      InputError: if a trajectory diverged, an R-hat is above 1.01 or a parameter has fewer than 400 effective draws.
    """
    problems = [f"{diverged} trajectories diverged"] if diverged else []
    for name, (r_hat, effective_draws) in found.items():
        if not r_hat <= LARGEST_R_HAT:
            problems.append(f"R-hat of {name} is {r_hat:.3f}")
        if not effective_draws >= FEWEST_EFFECTIVE_DRAWS:
            problems.append(f"{name} has {effective_draws:.0f} effective draws")
    if problems:
        raise InputError(
            f"{what}: chains did not converge ({', '.join(problems)}), so nothing is reported; give more draws, more "
            "dataset sizes or another noise variance"
        )
