r"""Spectra of score Jacobians in a sweep, and the dimension that their total gap shows.

Singular values of :math:`t\nabla s=G-1` with the Jacobian ``G`` of the denoiser, in descending order: 1 in a frozen
direction, :math:`t/(t+\sigma^2)` in one that is free.  Of the rungs whose Jacobian depends on the point they are
measured at the first points of every class, with the noise with which gains are measured there: spectra differ less
from point to point than from training set to training set.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geomem_jax import dimension, jacobian

POINTS = 8  # of every training set and point class; the unit of error is the training set
MOST_DIRECTIONS = 128  # of which spectra are measured: time and memory grow as their square
LEAST_DIRECTIONS = 4  # of which a gap can be told from other drops


class Spectra(NamedTuple):
    """Of one cell and point class, for every noise variance.

    Attributes:
      singular_value: ``(T, d)`` mean over points, descending.
      gap_dimension: ``(T,)`` median over points of the dimension that :func:`geomem_jax.dimension.total_gap` finds; nan
        unless more than half of the points have a gap.
    """

    singular_value: np.ndarray
    gap_dimension: np.ndarray


def measured(directions: int) -> bool:
    """Whether spectra of so many directions are measured."""
    return directions <= MOST_DIRECTIONS


@jax.jit
def at_noises(model: jacobian.Model, x: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
    """Singular values ``(T, B, d)`` at ``x + sqrt(t) noise``, both ``(B, d)``, for ``(T,)`` noise variances."""
    return jax.lax.map(lambda t: jacobian.singular_values(model, x + jnp.sqrt(t) * noise, t), t)


def summarize(singular_values: np.ndarray) -> Spectra:
    """Summarize singular values ``(T, B, d)``, descending, over ``B`` points."""
    values = np.asarray(singular_values, np.float64)
    if values.shape[2] < LEAST_DIRECTIONS:
        return Spectra(values.mean(axis=1), np.full(len(values), np.nan))
    return Spectra(values.mean(axis=1), np.array([dimension.total_gap(spectra).value for spectra in values]))


def of_gains(gains: np.ndarray) -> Spectra:
    """The same of Jacobians that depend on no point, from the eigenvalues ``(T, d)`` of a symmetric ``G``."""
    return summarize(np.sort(1 - np.asarray(gains, np.float64), axis=-1)[:, None, ::-1])
