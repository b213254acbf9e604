"""The linear score of N points beyond its mean: fluctuations of gains, eigenvectors, spikes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._inputs import ArrayLike, as_positive, as_variances, working_dtype
from ._silverstein import Ensemble, Noise, over_eigenvalues
from .effective_noise import linear_noise


def _gain_variance(variances: jax.Array, n: jax.Array, t: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Eq. (9), or (10) for weights; one size and one noise."""
    kappa = linear_noise(variances, jnp.log(n), t)
    gain = variances / (variances + kappa)
    slope = gain * (kappa / (variances + kappa))
    rest = n * (1 - jnp.sum(gain**2) / n)
    if weights is None:
        return 2 * slope**2 / rest
    moved = weights - jnp.sum(weights * slope) / rest  # kappa follows the gains
    return 2 * jnp.sum((slope * moved) ** 2) / rest + 2 * (jnp.sum(slope * gain * moved) / rest) ** 2


@jax.jit
def _gain_variances(variances: jax.Array, n: jax.Array, t: jax.Array) -> jax.Array:
    one = jnp.vectorize(lambda n, t: _gain_variance(variances, n, t, None), signature="(),()->(d)")
    return one(n, t)


@jax.jit
def _sum_variances(variances: jax.Array, n: jax.Array, t: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.vectorize(lambda n, t: _gain_variance(variances, n, t, weights))(n, t)


def gain_variance(variances: ArrayLike, n: ArrayLike, t: ArrayLike) -> jax.Array:
    r"""Return the variance over training sets of the linear score's gains, (9) of :mod:`theory.random_matrix`.

    Args:
      variances: ``(d,)`` population variances along the directions, ``>= 0``.
      n: dataset size ``> 0``, with known mean; with the mean subtracted the number of points less one.
      t: noise variance ``> 0``; broadcast with ``n`` to a shape ``s``.

    Returns:
      Variances of :math:`g_i=u_i^\top\nabla D\,u_i` (no unit), shape ``s + (d,)``, of leading order :math:`1/N`.

    Raises:
      ValueError: for variances that are negative or not finite, ``n`` or ``t`` not positive and finite.

    Example:
      >>> variance = gain_variance([1.0], n=1e6, t=1.0)  # gain 1/2: 2/(16 n)
      >>> [round(8e6 * float(value), 4) for value in variance]
      [1.0]
    """
    dtype = working_dtype(variances, t)
    return _gain_variances(as_variances(variances, dtype), as_positive("n", n, dtype), as_positive("t", t, dtype))


def gain_sum_variance(variances: ArrayLike, n: ArrayLike, t: ArrayLike, weights: ArrayLike) -> jax.Array:
    r"""Return the variance over training sets of a weighted sum of gains, (10) of :mod:`theory.random_matrix`.

    Gains of different directions are correlated to order :math:`1/N^2`, which in a mean over many directions counts as
    much as their own fluctuations.

    Args:
      variances: ``(d,)`` population variances along the directions, ``>= 0``.
      n: dataset size ``> 0``, as in :func:`gain_variance`.
      t: noise variance ``> 0``; broadcast with ``n`` to a shape ``s``.
      weights: ``(d,)``, one for each direction; ones give the soft dimension.

    Returns:
      Variances (no unit), shape ``s``, of leading order.

    Raises:
      ValueError: for variances that are negative or not finite, ``n`` or ``t`` not positive and finite, or another
        number of weights than of directions.

    Example:
      >>> alone = gain_variance([1.0] * 8, n=[8, 1e6], t=0.1).sum(axis=-1)
      >>> together = gain_sum_variance([1.0] * 8, n=[8, 1e6], t=0.1, weights=[1.0] * 8)
      >>> [round(float(ratio), 2) for ratio in together / alone]
      [0.72, 1.0]
    """
    dtype = working_dtype(variances, t, weights)
    checked = as_variances(variances, dtype)
    if np.shape(weights) != checked.shape:
        raise ValueError(f"weights must have shape {checked.shape} as variances, got shape {np.shape(weights)}")
    return _sum_variances(checked, as_positive("n", n, dtype), as_positive("t", t, dtype), jnp.asarray(weights, dtype))


@jax.jit
def _overlap(ensemble: Ensemble, eigenvalues: jax.Array, variances: jax.Array) -> jax.Array:
    def one(ensemble: Ensemble, eigenvalue: jax.Array, noise: Noise) -> jax.Array:
        modulus = noise.real**2 + noise.imaginary_squared
        distance = (variances + noise.real) ** 2 + noise.imaginary_squared
        return variances / eigenvalue * (modulus / distance) / ensemble.points

    return over_eigenvalues(one, ensemble, eigenvalues)


def overlap(ensemble: Ensemble, eigenvalues: ArrayLike, variances: ArrayLike) -> jax.Array:
    r"""Return the mean squared overlap of sample eigenvectors with directions, (11) of :mod:`theory.random_matrix`.

    Args:
      ensemble: from :func:`sample_covariance`.
      eigenvalues: of the sample, shape ``s``, ``> 0`` and within the bulks; the formula varies slowly and is continued
        a little beyond the edges, where the outermost of the sampled ones may lie.
      variances: ``(k,)`` population variances of the directions :math:`u_i`, ``>= 0``.

    Returns:
      :math:`\mathbb E\,(u_i\cdot v)^2` for the unit eigenvector :math:`v` that belongs to each, shape ``s + (k,)``;
      summed over all directions 1.

    Raises:
      ValueError: for eigenvalues that are not positive and finite, variances negative or not finite.

    Example:
      Equal variances have no preferred direction:

      >>> from theory.random_matrix import sample_covariance
      >>> found = overlap(sample_covariance([2.0] * 10, n=30), [1.0, 3.0], [2.0])
      >>> [round(float(value), 5) for value in found[:, 0]]
      [0.1, 0.1]
    """
    dtype = working_dtype(ensemble.variances)
    return _overlap(ensemble, as_positive("eigenvalues", eigenvalues, dtype), as_variances(variances, dtype))


class Spike(NamedTuple):
    """What a sample shows of one direction beside many others; shape ``s``.

    Attributes:
      eigenvalue: of the sample, outside of the bulks; nan if none leaves them.
      overlap: squared overlap of its eigenvector with the direction; 0 if none leaves.
    """

    eigenvalue: jax.Array
    overlap: jax.Array


@jax.jit
def _spike(ensemble: Ensemble, variance: jax.Array) -> Spike:
    def one(spike: jax.Array) -> Spike:
        distance = spike - ensemble.variances
        distance = jnp.where(distance == 0, jnp.finfo(distance.dtype).tiny, distance)  # in the bulk, surely
        shares = ensemble.counts / ensemble.points
        ratio = ensemble.variances / distance
        position, slope = 1 + jnp.sum(shares * ratio), 1 - jnp.sum(shares * ratio**2)
        seen = (slope > 0) & (position > 0)
        safe = jnp.where(seen, position, 1)
        return Spike(jnp.where(seen, spike * safe, jnp.nan), jnp.where(seen, slope / safe, 0))

    eigenvalues, overlaps = jax.vmap(one)(variance.ravel())
    return Spike(eigenvalues.reshape(variance.shape), overlaps.reshape(variance.shape))


def spike(ensemble: Ensemble, variance: ArrayLike) -> Spike:
    r"""Return where the eigenvalue of a single direction lies, and how well its eigenvector is seen: eq. (12).

    Args:
      ensemble: from :func:`sample_covariance`, of the other directions.
      variance: population variance of the direction, ``> 0``, of any shape ``s``; a few such directions do not
        disturb each other.

    Returns:
      Eigenvalue and overlap.

    Raises:
      ValueError: for variances that are not positive and finite.

    Example:
      >>> from theory.random_matrix import sample_covariance
      >>> seen = spike(sample_covariance([1.0] * 100, n=400), [1.2, 2.0])
      >>> seen.eigenvalue.tolist(), [round(float(value), 5) for value in seen.overlap]
      ([nan, 2.5], [0.0, 0.6])
    """
    return _spike(ensemble, as_positive("variance", variance, working_dtype(ensemble.variances)))


@jax.jit
def _points_to_see(variances: jax.Array, spikes: jax.Array) -> jax.Array:
    return jnp.vectorize(lambda spike: jnp.sum((variances / (spike - variances)) ** 2))(spikes)


def points_to_see(variances: ArrayLike, spike: ArrayLike) -> jax.Array:
    r"""Return the dataset size above which a single direction has an eigenvalue of its own, eq. (13).

    Args:
      variances: ``(d,)`` population variances of the other directions, ``>= 0``.
      spike: variance of the direction, ``> 0``, of any shape ``s``.

    Returns:
      Sizes :math:`N`, shape ``s``; +inf for a variance that other directions share.

    Raises:
      ValueError: for variances that are negative or not finite, ``spike`` not positive and finite.

    Example:
      >>> points_to_see([1.0] * 100, spike=[2.0, 1.5]).tolist()
      [100.0, 400.0]
    """
    dtype = working_dtype(variances, spike)
    return _points_to_see(as_variances(variances, dtype), as_positive("spike", spike, dtype))
