"""Limiting spectra of sample covariances: the effective noise, continued to negative noise."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._inputs import ArrayLike, as_positive, as_variances, working_dtype
from ._roots import decreasing_root

_TOGETHER = 64  # eigenvalues solved for at a time: memory of that many times the number of distinct variances


class Ensemble(NamedTuple):
    """Covariance matrices of Gaussian points, ``Y.T @ Y / points`` with ``Y`` of shape ``(points, directions)``.

    Attributes:
      variances: ``(k,)`` population variances.
      counts: ``(k,)`` number of directions of each.
      points: number ``n`` of independent points.
      dimensions: number of eigenvalues that densities count, zeros included.
    """

    variances: jax.Array
    counts: jax.Array
    points: jax.Array
    dimensions: jax.Array


def _number(name: str, value: ArrayLike, dtype: np.dtype) -> jax.Array:
    if np.ndim(value) != 0:
        raise ValueError(f"{name} must be one number, got shape {np.shape(value)}")
    return as_positive(name, value, dtype)


def _grouped(variances: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Distinct positive variances and how often each appears; traced ones as they are."""
    if isinstance(variances, jax.core.Tracer):
        return variances, jnp.ones_like(variances)
    values, counts = np.unique(np.asarray(variances), return_counts=True)
    live = (values > 0) | (values[-1] == 0)  # one of them has to stay
    return jnp.asarray(values[live]), jnp.asarray(counts[live], variances.dtype)


def sample_covariance(variances: ArrayLike, n: ArrayLike) -> Ensemble:
    """Describe the sample covariance of ``n`` points: the spectrum behind the linear score.

    Args:
      variances: ``(d,)`` population variances along the directions, ``>= 0``.
      n: number of points, ``> 0``, with known mean; with the mean subtracted the number of points less one.

    Returns:
      The ensemble; densities count its ``d`` eigenvalues.

    Raises:
      ValueError: for variances that are negative or not finite, or ``n`` that is not one positive, finite number.

    Example:
      >>> covariance = sample_covariance([1.0, 1.0, 0.25, 0.0], n=3)
      >>> covariance.counts.tolist(), covariance.dimensions.item()
      ([1.0, 2.0], 4.0)
    """
    dtype = working_dtype(variances)
    checked = as_variances(variances, dtype)
    return Ensemble(*_grouped(checked), _number("n", n, dtype), jnp.asarray(checked.size, dtype))


def random_manifold(variances: ArrayLike, ambient: ArrayLike, nu: ArrayLike | None = None) -> Ensemble:
    r"""Describe :math:`FF^\top` for data :math:`y=Fz` on a random linear manifold, :math:`F` of shape ``(d, m)``.

    :math:`F_{ij}\sim\mathcal N(0,\sigma_j^2/\nu)`: :math:`F^\top F` is the covariance of ``d`` points with variances
    :math:`\sigma_j^2d/\nu` along ``m`` directions.

    Args:
      variances: ``(m,)`` variances of the columns, :math:`\sigma_j^2\ge0`.
      ambient: dimension ``d`` of the space, ``> 0``.
      nu: normalization ``> 0``; if not given ``d``, by which column ``j`` has mean squared length :math:`\sigma_j^2`.

    Returns:
      The ensemble; densities count the ``d`` eigenvalues of :math:`FF^\top`.

    Raises:
      ValueError: for variances that are negative or not finite, or numbers that are not positive and finite.

    Example:
      >>> random_manifold([1.0, 1.0], ambient=8, nu=2).variances.tolist()
      [4.0]
    """
    dtype = working_dtype(variances)
    d = _number("ambient", ambient, dtype)
    ratio = jnp.ones((), dtype) if nu is None else d / _number("nu", nu, dtype)
    values, counts = _grouped(as_variances(variances, dtype))
    return Ensemble(values * ratio, counts, d, d)


class Noise(NamedTuple):
    """Effective noise at the noise -eigenvalue - i0: the complex number ``real - i sqrt(imaginary_squared)``."""

    real: jax.Array
    imaginary_squared: jax.Array


def _imaginary_squared(variances: jax.Array, shares: jax.Array, real: jax.Array) -> jax.Array:
    """Where the eigenvalue is real for this real part of the noise, (M3); 0 outside the bulks."""
    squares = shares * variances**2
    outside = jnp.sum(squares / (variances + real) ** 2) <= 1

    def excess(q: jax.Array) -> jax.Array:
        # One less one over (M3): linear in q for one variance, convex for several.
        return 1 - 1 / jnp.maximum(jnp.sum(squares / ((variances + real) ** 2 + q)), jnp.finfo(q.dtype).tiny)

    high = jnp.where(outside, 0, jnp.sum(squares))
    return jnp.where(outside, 0, decreasing_root(excess, jnp.zeros_like(high), high))


def _eigenvalue(variances: jax.Array, shares: jax.Array, real: jax.Array) -> jax.Array:
    """Eigenvalue at the real part of its noise, (M2) and (M4): a decreasing function on the whole line."""
    q = _imaginary_squared(variances, shares, real)
    weights = shares * variances / ((variances + real) ** 2 + q)
    # In a bulk the two forms are equal, and the first has no cancellation.
    within = (real**2 + q) * jnp.sum(weights)
    return jnp.where(q > 0, within, real * (jnp.sum(weights * (variances + real)) - 1))


def noise_at(ensemble: Ensemble, eigenvalue: jax.Array) -> Noise:
    """Solve (1) of :mod:`theory.random_matrix` at one eigenvalue ``>= 0``."""
    unit = jnp.max(ensemble.variances)
    unit = jnp.where(unit > 0, unit, 1)
    variances, shares = ensemble.variances / unit, ensemble.counts / ensemble.points
    target = eigenvalue / unit
    high = jnp.sum(shares * variances)
    real = decreasing_root(lambda x: _eigenvalue(variances, shares, x) - target, -(1 + target), high)
    return Noise(unit * real, unit**2 * _imaginary_squared(variances, shares, real))


def over_eigenvalues(
    function: Callable[[Ensemble, jax.Array, Noise], jax.Array], ensemble: Ensemble, eigenvalues: jax.Array
) -> jax.Array:
    """Evaluate ``function(ensemble, eigenvalue, noise)`` at eigenvalues of any shape ``s``; results ``s + (...)``."""

    def one(eigenvalue: jax.Array) -> jax.Array:
        return function(ensemble, eigenvalue, noise_at(ensemble, jnp.maximum(eigenvalue, 0)))

    # Filled up, as a last, smaller batch would be a second program to compile.
    batch = min(_TOGETHER, max(eigenvalues.size, 1))
    filled = jnp.pad(eigenvalues.ravel(), (0, -eigenvalues.size % batch))
    results = lax.map(one, filled, batch_size=batch)[: eigenvalues.size]
    return results.reshape(eigenvalues.shape + results.shape[1:])


def density_at(ensemble: Ensemble, eigenvalue: jax.Array, noise: Noise) -> jax.Array:
    """Continuous density of the eigenvalues, (M4), for the noise at it."""
    q = noise.imaginary_squared
    inside = (q > 0) & (eigenvalue > 0)
    height = jnp.sqrt(jnp.where(inside, q, 1)) / (noise.real**2 + jnp.where(inside, q, 1))
    return jnp.where(inside, ensemble.points / ensemble.dimensions * height / jnp.pi, 0)
