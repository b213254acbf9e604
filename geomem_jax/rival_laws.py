r"""Rival laws of networks, by cross-validation: the mixture of laws against each law alone.

The models are those of :mod:`geomem_jax.calibration_model`, compared by the log density of what is left out.  The unit
is a dataset size with all its networks: gains of one network, and networks of one size, share what the law gets wrong
there, while a law is asked for the gains at a size where nothing was trained.  Every size is left out in a fit of its
own, for importance sampling fails where one of few units carries much of the posterior.

Source.  Derived here.
"""

import warnings
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.special import logsumexp

from geomem_jax import calibration_model
from geomem_jax.calibration_model import LAWS, Law, Measurements, Parameters, in_words
from geomem_jax.convergence import diagnose, load_arviz, refuse


class LawScore(NamedTuple):
    """How well a law predicts the networks of sizes that are left out.

    Attributes:
      law: which.
      log_density: sum over sizes, nats.
      below_best: the best law's less this one's.
      error: standard error of that difference over sizes; with few of them, rough.
      by_size: ``(k,)`` the terms of the sum.
    """

    law: Law
    log_density: float
    below_best: float
    error: float
    by_size: np.ndarray


def compare_laws(key: jax.Array, m: Measurements, *, draws: int = 2000) -> list[LawScore]:
    r"""Compare the mixture with each law alone, by the gains of networks at sizes that are left out one after another.

    The score of a law is

    .. math:: \sum_k\log\operatorname*{mean}_{\theta\sim p(\theta\mid y_{-k})}p(y_k\mid\theta,y_{-k}).

    Of a training set that has other sizes the other gains tell in part what it is like; the smallest and the largest
    size are extrapolations.

    Args:
      key: random key.
      m: of :func:`geomem_jax.calibrate.measurements`.
      draws: of each chain, after 1000 of warm-up.

    Returns:
      Scores, the best law first.

    Raises:
      InputError: if the chains of any fit did not converge.
    """
    by_size = {
        law: _left_out(law_key, m, law, draws) for law_key, law in zip(jax.random.split(key, 3), LAWS, strict=True)
    }
    best = np.max(list(by_size.values()), axis=0)  # arviz takes exponentials
    shifted = {law: _as_elpd(values - best) for law, values in by_size.items()}
    with warnings.catch_warnings():
        # arviz 0.23 sorts in place, which pandas 3 deprecates (by a warning that pandas 2 does not have).
        warnings.filterwarnings("ignore", message="The inplace keyword in DataFrame.sort_values is deprecated")
        table = load_arviz().compare(shifted, method="pseudo-BMA")
    return [
        LawScore(
            law,
            float(by_size[law].sum()),
            float(table.loc[law, "elpd_diff"]),
            float(table.loc[law, "dse"]),
            by_size[law],
        )
        for law in table.index
    ]


@partial(jax.jit, static_argnames="law")
def _left_out_density(m: Measurements, rest: Measurements, law: Law, draws: Parameters) -> jax.Array:
    """Log density of what ``rest`` lacks given the rest, under each draw ``(chain, draw)``."""

    def one(p: Parameters) -> jax.Array:
        return jnp.sum(calibration_model.log_density(m, law, p) - calibration_model.log_density(rest, law, p))

    return jax.vmap(jax.vmap(one))(draws)


def _left_out(key: jax.Array, m: Measurements, law: Law, draws: int) -> np.ndarray:
    """Cross-validated log density of each size, ``(k,)``."""
    found = []
    for row, fold_key in enumerate(jax.random.split(key, len(m.log_n))):
        rest = m._replace(known=m.known.at[row].set(False))
        sampled = calibration_model.sample(fold_key, rest, law, draws)
        samples = {name: np.asarray(values, np.float64) for name, values in sampled.draws.items()}
        what = f"{in_words(law, m)} without N = {np.exp(m.log_n[row]):.0f}"
        refuse(diagnose(samples), int(sampled.diverging.sum()), what)
        density = np.asarray(_left_out_density(m, rest, law, sampled.draws), np.float64)
        found.append(logsumexp(density) - np.log(density.size))
    return np.array(found)


def _as_elpd(by_size: np.ndarray) -> object:
    """Give cross-validated log densities the form that :func:`arviz.compare` takes."""
    total, error = by_size.sum(), np.sqrt(len(by_size) * by_size.var())
    pointwise = xr.DataArray(by_size, dims="dataset_size")
    entries = {
        "elpd_loo": total,
        "se": error,
        "p_loo": np.nan,  # no in-sample fit to compare with
        "n_samples": 1,
        "n_data_points": len(by_size),
        "warning": False,
        "loo_i": pointwise,
        "scale": "log",
    }
    return load_arviz().ELPDData(list(entries.values()), index=list(entries))
