r"""Jacobians too large to be formed: extreme eigenvalues and trace from products with vectors.

With the Jacobian :math:`G=\nabla_xD(x,t)` of a denoiser and its symmetric part :math:`S=(G+G^\top)/2`, the product
:math:`Sv` is half of one forward and one reverse product.  All free directions are at the upper end of the spectrum of
:math:`S`: those of the exact score have eigenvalues of :math:`\sigma^2/(\sigma^2+t)`, and the frozen ones 0.  (In
terms of the score, :math:`t\nabla s=G-1`: the free directions are the *trailing* singular values, and the leading
ones are the cluster of frozen directions at 1.)

*Extreme eigenvalues* by block Krylov spaces: with a random block :math:`\Omega` of :math:`b=k+8` vectors,

.. math:: \mathcal K=\mathrm{span}\{\Omega,\,S\Omega,\,\dots,\,S^q\Omega\}, \tag{1}

of orthonormal basis :math:`Q`; the eigenvalues :math:`\theta` and vectors of :math:`Q^\top SQ` give the pairs
:math:`(\theta_i,y_i)`.  A block finds eigenvalues as often as they are repeated (up to ``b`` times), where Lanczos from
one vector finds them once.  The error stated is the residual

.. math:: e_i=\|Sy_i-\theta_iy_i\|. \tag{2}

Some eigenvalue lies within it of :math:`\theta_i`, always.  That it is the i-th holds but for a random start nearly
orthogonal to an eigenvector before, whose probability falls geometrically with the 8 spare vectors; and until
the space begins to resolve the spectrum, :math:`q<4`, (2) can be too small by a factor of 3.
:math:`\theta_i\le\lambda_i` always (:math:`\ge` at the lower end).

*Trace* (Hutchinson): for independent signs :math:`z`, :math:`\mathbb E\,z^\top Gz=\mathrm{tr}\,G`, the soft dimension;
:math:`\mathbb E\|Gz\|^2=\|G\|_F^2` costs nothing more.

Source.  (1): Musco and Musco (2015), arXiv 1504.05477; (2): Parlett, *The Symmetric Eigenvalue Problem* (1998), 4.5;
trace: Hutchinson (1990).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from geomem_jax.products import Model, Sampled, check_call, check_count, each_point, sample_mean, symmetric_products

OVERSAMPLING = 8  # spare vectors of a block
FEWEST_STEPS = 4  # below, residuals can be smaller than errors

_dot = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


class Eigenpairs(NamedTuple):
    """Extreme eigenvalues of the symmetric part, the most extreme first.

    Attributes:
      values: ``(B, k)``.
      vectors: ``(B, d, k)``, orthonormal in columns.
      error: ``(B, k)``, eq. (2) and rounding.
    """

    values: jax.Array
    vectors: jax.Array
    error: jax.Array


class Traces(NamedTuple):
    """What random probes say of the Jacobian, at every point.

    Attributes:
      trace: ``(B,)`` trace of G, the soft dimension.
      squares: ``(B,)`` sum of its squared entries.
    """

    trace: Sampled
    squares: Sampled


def leading(
    key: jax.Array, model: Model, x: jax.Array, t: jax.Array | float, k: int, steps: int = 8, tangents: int = 16
) -> Eigenpairs:
    """Find the ``k`` largest eigenvalues of the symmetric part of the Jacobian at every point, eq. (1).

    ``(k + 8) (steps + 1) + k`` products a point; where that many would span the whole space, ``d``, and the result is
    exact.  Points are taken one after another, in memory for ``(k + 8) (steps + 1)`` vectors, and derivatives of the
    model for ``tangents`` directions.

    Args:
      key: of the random starts, one for each point.
      model: ``(x, t) -> x_hat`` for one point ``(d,)``: a pytree that can be called, such as
        ``jax.tree_util.Partial(f, params)``, for which new parameters need no new compilation; or a function.
      x: points ``(B, d)``.
      t: noise variance ``> 0``.
      k: how many, ``1 <= k <= d``.
      steps: powers q of S in the space, ``>= 4``.  If errors are large, take more.
      tangents: directions differentiated at a time.

    Returns:
      Eigenvalues, descending, with vectors and errors.

    Raises:
      InputError: as :func:`geomem_jax.products.check_call`, or if a count is out of its range.
    """
    return _extreme(key, model, x, t, 1, k, steps, tangents)


def trailing(
    key: jax.Array, model: Model, x: jax.Array, t: jax.Array | float, k: int, steps: int = 8, tangents: int = 16
) -> Eigenpairs:
    """Find the ``k`` smallest eigenvalues, ascending; all else as :func:`leading`.

    The frozen directions of a score are a cluster near 0, of which these are only the least, or negative.
    """
    pairs = _extreme(key, model, x, t, -1, k, steps, tangents)
    return pairs._replace(values=-pairs.values)


def _extreme(
    key: jax.Array, model: Model, x: jax.Array, t: jax.Array | float, sign: int, k: int, steps: int, tangents: int
) -> Eigenpairs:
    model, x, t = check_call(model, x, t)
    d = x.shape[1]
    check_count("k", k, 1, d)
    check_count("steps", steps, FEWEST_STEPS)
    check_count("tangents", tangents, 1)
    block = k + OVERSAMPLING
    size = block * (steps + 1)

    def at_point(index: int, point: jax.Array) -> Eigenpairs:
        def products(rows: jax.Array) -> jax.Array:
            return sign * symmetric_products(model, point, t, rows, min(tangents, block))

        if size >= d:
            basis = jnp.eye(d, dtype=x.dtype)
            projected = products(basis)
        else:
            basis, projected = jnp.zeros((size, d), x.dtype), jnp.zeros((size, size), x.dtype)
            rows = _start(jax.random.fold_in(key, index), basis[:block])
            for step in range(steps + 1):
                basis, projected, rows = _extend(basis, projected, rows, products(rows), step * block)
        values, rows, scale = _largest(basis, projected, k)
        return Eigenpairs(values, rows.T, _error(values, rows, products(rows), scale))

    found = [at_point(index, point) for index, point in enumerate(x)]
    return Eigenpairs(*(jnp.stack(leaf) for leaf in zip(*found, strict=True)))


def _orthonormal(rows: jax.Array, basis: jax.Array) -> jax.Array:
    """Orthonormal rows, orthogonal to the basis; where the given rows are in its span, any others.

    The first pass may leave mostly rounding, which is not orthogonal to the basis; after the third nothing is left.
    """
    for _ in range(3):
        rows = rows - _dot(_dot(rows, basis.T), basis)
        rows = jnp.linalg.qr(rows.T)[0].T
    return rows


@jax.jit
def _start(key: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.linalg.qr(jax.random.normal(key, like.shape[::-1], like.dtype))[0].T


@jax.jit
def _extend(
    basis: jax.Array, projected: jax.Array, rows: jax.Array, images: jax.Array, at: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Write a block of the basis and its column of the projected matrix, and find the next block."""
    basis = lax.dynamic_update_slice_in_dim(basis, rows, at, 0)
    projected = lax.dynamic_update_slice_in_dim(projected, _dot(basis, images.T), at, 1)
    return basis, projected, _orthonormal(images, basis)


@partial(jax.jit, static_argnames="k")
def _largest(basis: jax.Array, projected: jax.Array, k: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The k largest eigenvalues in the space, their vectors as rows, and the largest absolute value of all."""
    # Products with later blocks were not known when a column was formed: only the upper triangle is complete.
    upper = jnp.triu(projected)
    values, coefficients = jnp.linalg.eigh(upper + jnp.triu(upper, 1).T, symmetrize_input=False)
    return values[::-1][:k], _dot(coefficients[:, ::-1][:, :k].T, basis), jnp.max(jnp.abs(values))


@jax.jit
def _error(values: jax.Array, rows: jax.Array, images: jax.Array, scale: jax.Array) -> jax.Array:
    """Residuals (2), and the rounding of products with vectors of ``d`` numbers."""
    residual = jnp.linalg.norm(images - values[:, None] * rows, axis=1)
    return residual + jnp.finfo(rows.dtype).eps * rows.shape[1] ** 0.5 * scale


def traces(
    key: jax.Array, model: Model, x: jax.Array, t: jax.Array | float, probes: int = 64, tangents: int = 16
) -> Traces:
    r"""Estimate the soft dimension :math:`\mathrm{tr}\,G` and :math:`\|G\|_F^2` at every point by Hutchinson's method.

    The variance of the trace over one probe is twice the sum of squares off the diagonal of ``S``: nothing is random
    where the directions are the axes.  Forward products only, of ``tangents`` probes at a time.

    Args:
      key: of the probes, others at each point.
      model: as :func:`leading`.
      x: points ``(B, d)``.
      t: noise variance ``> 0``.
      probes: ``>= 2``.
      tangents: directions differentiated at a time.

    Raises:
      InputError: as :func:`geomem_jax.products.check_call`, or if a count is out of its range.
    """
    model, x, t = check_call(model, x, t)
    check_count("probes", probes, 2)
    check_count("tangents", tangents, 1)
    return _traces(key, model, x, t, probes, tangents)


@partial(jax.jit, static_argnames=("probes", "tangents"))
def _traces(key: jax.Array, model: Model, x: jax.Array, t: jax.Array, probes: int, tangents: int) -> Traces:
    def at_point(key: jax.Array, point: jax.Array) -> Traces:
        _, push = jax.linearize(lambda x: model(x, t), point)

        def along(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            signs = jax.random.rademacher(key, point.shape, x.dtype)
            image = push(signs)
            return _dot(signs, image), _dot(image, image)

        forms, squares = lax.map(along, jax.random.split(key, probes), batch_size=min(tangents, probes))
        return Traces(sample_mean(forms, 0), sample_mean(squares, 0))

    return each_point(key, x, at_point)
