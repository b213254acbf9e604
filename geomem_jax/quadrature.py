r"""Density of the eigenvalues of a Jacobian too large to be formed, by stochastic Lanczos quadrature.

From a random unit vector ``v``, ``q`` steps of Lanczos with the symmetric part :math:`S=(G+G^\top)/2` of the Jacobian
:math:`G=\nabla_xD(x,t)` give nodes and weights of the Gauss quadrature of

.. math:: \mu_v=\sum_i(v^\top y_i)^2\,\delta_{\lambda_i}, \tag{1}

exact for polynomials of degree :math:`2q-1`.  Over random signs the mean of (1) is the density of the eigenvalues
:math:`\lambda_i` of eigenvectors :math:`y_i`.

Source.  Golub and Welsch (1969); Ubaru, Chen and Saad (2017).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from geomem_jax.products import Model, Sampled, check_call, check_count, sample_mean, symmetric_products

_dot = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


class Density(NamedTuple):
    """Quadrature of the spectral density of the symmetric part.

    Attributes:
      nodes: ``(B, probes, steps)``.
      weights: the same shape, of sum 1 over the nodes of a probe.
    """

    nodes: jax.Array
    weights: jax.Array


def density(
    key: jax.Array,
    model: Model,
    x: jax.Array,
    t: jax.Array | float,
    probes: int = 16,
    steps: int = 32,
    tangents: int = 16,
) -> Density:
    """Estimate the density of eigenvalues of the symmetric part at every point by stochastic Lanczos quadrature.

    ``probes * steps`` products a point, in memory for as many vectors; Lanczos vectors are orthogonalized
    against all before.

    Args:
      key: of the probes, others at each point.
      model: as :func:`geomem_jax.matrix_free.leading`.
      x: points ``(B, d)``.
      t: noise variance ``> 0``.
      probes: random starts, ``>= 2``.
      steps: nodes of each; more than ``d`` serve nothing.
      tangents: probes at a time.

    Returns:
      Nodes and weights, for :func:`cumulative` and :func:`smoothed`.

    Raises:
      InputError: as :func:`geomem_jax.products.check_call`, or if a count is out of its range.
    """
    model, x, t = check_call(model, x, t)
    d = x.shape[1]
    check_count("probes", probes, 2)
    check_count("steps", steps, 1, d)
    check_count("tangents", tangents, 1)

    def at_point(index: int, point: jax.Array) -> Density:
        signs = jax.random.rademacher(jax.random.fold_in(key, index), (probes, d), x.dtype)
        empty = jnp.zeros((probes, steps), x.dtype)
        state = _Lanczos(jnp.zeros((probes, steps, d), x.dtype), empty, empty, signs / d**0.5)
        for step in range(steps):
            images = symmetric_products(model, point, t, state.vector, min(tangents, probes))
            state = _lanczos_step(state, images, step)
        return _quadrature(state)

    found = [at_point(index, point) for index, point in enumerate(x)]
    return Density(*(jnp.stack(leaf) for leaf in zip(*found, strict=True)))


class _Lanczos(NamedTuple):
    """State of all probes."""

    basis: jax.Array  # (probes, steps, d) orthonormal vectors so far, then zeros
    diagonal: jax.Array  # (probes, steps) of the tridiagonal matrix
    beside: jax.Array  # (probes, steps) beside its diagonal
    vector: jax.Array  # (probes, d) the next one


@jax.jit
def _lanczos_step(state: _Lanczos, images: jax.Array, step: int) -> _Lanczos:
    def of_probe(state: _Lanczos, image: jax.Array) -> _Lanczos:
        basis = state.basis.at[step].set(state.vector)
        rest = image
        for _ in range(2):  # once leaves rounding
            rest = rest - _dot(_dot(basis, rest), basis)
        length = jnp.linalg.norm(rest)
        # In a space that is mapped to itself the rest is rounding: further nodes have no weight.
        more = length > 8 * jnp.finfo(image.dtype).eps * jnp.linalg.norm(image)
        return _Lanczos(
            basis,
            state.diagonal.at[step].set(_dot(state.vector, image)),
            state.beside.at[step].set(jnp.where(more, length, 0)),
            jnp.where(more, rest / jnp.where(more, length, 1), 0),
        )

    return jax.vmap(of_probe)(state, images)


@jax.jit
def _quadrature(state: _Lanczos) -> Density:
    beside = state.beside[:, :-1]
    diagonals = zip((state.diagonal, beside, beside), (0, 1, -1), strict=True)
    nodes, vectors = jnp.linalg.eigh(sum(jax.vmap(partial(jnp.diag, k=at))(values) for values, at in diagonals))
    return Density(nodes, vectors[:, 0] ** 2)


def _integral(density: Density, function: Callable[[jax.Array], jax.Array]) -> Sampled:
    """Mean over eigenvalues of functions ``nodes -> (..., m)``, point by point."""
    sums = lax.map(lambda point: jnp.sum(function(point.nodes) * point.weights[..., None], axis=-2), density)
    return sample_mean(sums, 1)


@jax.jit
def cumulative(density: Density, at: jax.Array) -> Sampled:
    """Fraction of eigenvalues at or below each of ``at`` ``(m,)``; shape ``(B, m)``.

    ``d`` times one minus it counts eigenvalues above a threshold.  Every probe has a staircase of ``steps`` nodes,
    wrong by at most the weights of the two nodes about a value; the error stated, over probes, does not know of what
    all have in common, so ask between clusters of eigenvalues rather than inside.
    """
    return _integral(density, lambda nodes: (nodes[..., None] <= at).astype(nodes.dtype))


@jax.jit
def smoothed(density: Density, at: jax.Array, width: jax.Array | float) -> Sampled:
    """Density of eigenvalues at each of ``at`` ``(m,)``, folded with a normal density; shape ``(B, m)``.

    Args:
      density: from :func:`density`.
      at: where.
      width: standard deviation of the normal density ``> 0``; what is finer than the nodes are apart is not seen.
    """
    return _integral(density, lambda nodes: jax.scipy.stats.norm.pdf(at, nodes[..., None], width))
