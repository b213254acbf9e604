r"""Exact Jacobians of the solvable rungs: the one place where a model is found to have a closed form.

The Jacobian of these denoisers is symmetric.  That of the population and of the linear rung is
:math:`Q\,\mathrm{diag}\bigl(\lambda/(\lambda+t)\bigr)Q^\top` at every point; that of the empirical rung is a posterior
covariance over :math:`t` (:mod:`geomem_jax.denoisers.empirical_jacobian`), 0 outside the span of the training points.
"""

from typing import Any, TypeGuard

import jax
import jax.numpy as jnp

from geomem_jax.denoisers import empirical_jacobian, population
from geomem_jax.denoisers.linear import LinearModel

Rung = population.Model | LinearModel | empirical_jacobian.Model
HIGHEST = jax.lax.Precision.HIGHEST


def exists(model: Any) -> TypeGuard[Rung]:
    """Whether the Jacobian of a model is known in closed form."""
    return isinstance(model, Rung)


def _gaussian(model: population.Model | LinearModel, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and eigenvectors of the Jacobian."""
    if isinstance(model, LinearModel):
        return model.eigenvalues / (model.eigenvalues + t), model.eigenvectors
    return population.gains(model.variances, t), model.basis


def gains(model: Rung, x: jax.Array, t: jax.Array, basis: jax.Array) -> jax.Array:
    """Gains at points ``(B, d)`` along the columns of ``basis`` ``(d, k)``: ``(B, k)``."""
    if isinstance(model, empirical_jacobian.Model):
        return empirical_jacobian.gains(model, x, t, basis)
    values, vectors = _gaussian(model, t)
    overlaps = jnp.matmul(vectors.T, basis, precision=HIGHEST)
    gain = jnp.matmul(values, overlaps**2, precision=HIGHEST)
    return jnp.broadcast_to(gain, (x.shape[0], gain.shape[0]))


def eigenvalues(model: Rung, x: jax.Array, t: jax.Array) -> jax.Array:
    """Eigenvalues of the Jacobian at points ``(B, d)``, descending: ``(B, d)``."""
    if isinstance(model, empirical_jacobian.Model):
        # Rounding may leave an eigenvalue of 0 below it.
        found = jnp.maximum(jnp.linalg.eigvalsh(empirical_jacobian.jacobian(model, x, t, x.shape[0])), 0)
        return jnp.pad(found[:, ::-1], ((0, 0), (0, x.shape[1] - found.shape[1])))
    values = jnp.sort(_gaussian(model, t)[0])[::-1]
    return jnp.broadcast_to(values, x.shape)


def full(model: Rung, x: jax.Array, t: jax.Array) -> jax.Array:
    """Jacobians at points ``(B, d)``: ``(B, d, d)``."""
    if isinstance(model, empirical_jacobian.Model):
        matrix = empirical_jacobian.jacobian(model, x, t, x.shape[0])
        return jnp.einsum("im,bmn,jn->bij", model.basis, matrix, model.basis, precision=HIGHEST)
    values, vectors = _gaussian(model, t)
    matrix = jnp.matmul(vectors * values, vectors.T, precision=HIGHEST)
    return jnp.broadcast_to(matrix, (x.shape[0], *matrix.shape))


def decomposed_size(model: Rung, dimension: int) -> int:
    """Size of the matrix that is decomposed at every point."""
    return model.coordinates.shape[1] if isinstance(model, empirical_jacobian.Model) else dimension


def operations(model: Rung, points: int) -> int:
    """Floating-point operations of the products that a spectrum takes."""
    if not isinstance(model, empirical_jacobian.Model):
        return 0
    rows, rank = model.coordinates.shape
    return 2 * points * rows * rank * (rank + 2)
