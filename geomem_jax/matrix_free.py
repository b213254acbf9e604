r"""Jacobians too large to be formed: extreme eigenvalues, spectral density and trace from products with vectors.

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

*Spectral density* by stochastic Lanczos quadrature: ``q`` steps from a unit vector ``v`` give nodes and weights of the
Gauss quadrature of :math:`\mu_v=\sum_i(v^\top y_i)^2\delta_{\lambda_i}`, exact for polynomials of degree
:math:`2q-1`; its mean over random ``v`` is the density of eigenvalues.

*Trace* (Hutchinson): for independent signs :math:`z`, :math:`\mathbb E\,z^\top Gz=\mathrm{tr}\,G`, the soft dimension;
:math:`\mathbb E\|Gz\|^2=\|G\|_F^2` costs nothing more.

Source.  (1): Musco and Musco (2015), arXiv 1504.05477; (2): Parlett, *The Symmetric Eigenvalue Problem* (1998), 4.5;
quadrature: Ubaru, Chen and Saad (2017); trace: Hutchinson (1990).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from geomem_jax.errors import InputError

Model = Callable[[jax.Array, jax.Array], jax.Array]  # (x, t) -> x_hat for one point; best a pytree

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


class Sampled(NamedTuple):
    """Mean over random probes.

    Attributes:
      value: the mean.
      error: its standard error.
    """

    value: jax.Array
    error: jax.Array


class Traces(NamedTuple):
    """What random probes say of the Jacobian, at every point.

    Attributes:
      trace: ``(B,)`` trace of G, the soft dimension.
      squares: ``(B,)`` sum of its squared entries.
    """

    trace: Sampled
    squares: Sampled


class Density(NamedTuple):
    """Quadrature of the spectral density of the symmetric part.

    Attributes:
      nodes: ``(B, probes, steps)``.
      weights: the same shape, of sum 1 over the nodes of a probe.
    """

    nodes: jax.Array
    weights: jax.Array


def check_call(model: Model, x: jax.Array, t: jax.Array | float) -> tuple[Any, jax.Array, jax.Array]:
    """Return the model as a pytree, and points and noise variance of one precision.

    Args:
      model: ``(x, t) -> x_hat`` for one point: a pytree that can be called, or a function.
      x: ``(B, d)`` points, floating-point.
      t: noise variance.

    Raises:
      InputError: if ``x`` is not a floating-point ``(B, d)`` of at least one point and one coordinate, or not finite;
        if ``t`` is not a positive finite number; if the model cannot be called or its result has not the shape of a
        point.
    """
    if not callable(model):
        raise InputError(f"model: {type(model).__name__} cannot be called; give (x, t) -> x_hat of one point")
    x = jnp.asarray(x)
    if x.ndim != 2 or x.size == 0:
        raise InputError(f"x: shape is {x.shape}; give (points, coordinates), one flat point per row")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"x: dtype is {x.dtype}; give floating-point numbers")
    if not isinstance(x, jax.core.Tracer) and not bool(jnp.isfinite(x).all()):
        raise InputError("x: has NaN or infinite values; give finite points")
    if not isinstance(t, jax.core.Tracer) and not (jnp.ndim(t) == 0 and 0 < t < jnp.inf):
        raise InputError(f"t: {t} is not a noise variance; give one positive number")
    t = jnp.asarray(t, x.dtype)
    if jax.tree_util.all_leaves([model]):
        model = jax.tree_util.Partial(model)
    shape = jax.eval_shape(model, x[0], t).shape
    if shape != x.shape[1:]:
        raise InputError(f"model: gives shape {shape} for a point of shape {x.shape[1:]}; give x_hat of the same shape")
    return model, x, t


def check_count(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raise an InputError if a count is below ``least`` or above ``most``."""
    if value < least or (most is not None and value > most):
        bounds = f">= {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} must be {bounds}, got {name} = {value}")


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
      InputError: as :func:`check_call`, or if a count is out of its range.
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
    check_count("k", k, 1, x.shape[1])
    check_count("steps", steps, FEWEST_STEPS)
    check_count("tangents", tangents, 1)
    return _largest(key, model, x, t, jnp.asarray(sign, x.dtype), k, steps, tangents)


def each_point(key: jax.Array, x: jax.Array, at_point: Callable[[jax.Array, jax.Array], Any]) -> Any:
    """Map over points, one at a time, each with a key of its own that does not depend on how many there are."""
    return lax.map(lambda pair: at_point(jax.random.fold_in(key, pair[0]), pair[1]), (jnp.arange(len(x)), x))


def _symmetric_part(model: Model, point: jax.Array, t: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """Product of the symmetric part at a point with a vector; the model itself is evaluated once."""
    _, push = jax.linearize(lambda x: model(x, t), point)
    _, pull = jax.vjp(lambda x: model(x, t), point)
    return lambda v: (push(v) + pull(v)[0]) / 2


def _orthonormal(rows: jax.Array, basis: jax.Array) -> jax.Array:
    """Orthonormal rows, orthogonal to the basis; where the given rows are in its span, any others.

    The first pass may leave mostly rounding, which is not orthogonal to the basis; after the third nothing is left.
    """
    for _ in range(3):
        rows = rows - _dot(_dot(rows, basis.T), basis)
        rows = jnp.linalg.qr(rows.T)[0].T
    return rows


@partial(jax.jit, static_argnames=("k", "steps", "tangents"))
def _largest(
    key: jax.Array, model: Model, x: jax.Array, t: jax.Array, sign: jax.Array, k: int, steps: int, tangents: int
) -> Eigenpairs:
    """The k largest eigenvalues of the symmetric part times the sign."""
    d = x.shape[1]
    block = k + OVERSAMPLING
    size = block * (steps + 1)

    def at_point(key: jax.Array, point: jax.Array) -> Eigenpairs:
        product = _symmetric_part(model, point, t)

        def products(rows: jax.Array) -> jax.Array:
            return sign * lax.map(product, rows, batch_size=min(tangents, len(rows)))

        def extend(index: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            basis, projected, rows = state
            basis = lax.dynamic_update_slice_in_dim(basis, rows, index * block, 0)
            images = products(rows)
            projected = lax.dynamic_update_slice_in_dim(projected, _dot(basis, images.T), index * block, 1)
            return basis, projected, _orthonormal(images, basis)

        if size >= d:
            basis = jnp.eye(d, dtype=x.dtype)
            projected = products(basis)
        else:
            start = jnp.linalg.qr(jax.random.normal(key, (d, block), x.dtype))[0].T
            empty = jnp.zeros((size, d), x.dtype), jnp.zeros((size, size), x.dtype)
            basis, projected, _ = lax.fori_loop(0, steps + 1, extend, (*empty, start))
        # Products with later blocks were not known when a column was formed: only the upper triangle is complete.
        upper = jnp.triu(projected)
        values, coefficients = jnp.linalg.eigh(upper + jnp.triu(upper, 1).T, symmetrize_input=False)
        scale = jnp.max(jnp.abs(values))
        values, rows = values[::-1][:k], _dot(coefficients[:, ::-1][:, :k].T, basis)
        residual = jnp.linalg.norm(products(rows) - values[:, None] * rows, axis=1)
        rounding = jnp.finfo(x.dtype).eps * d**0.5 * scale
        return Eigenpairs(values, rows.T, residual + rounding)

    return each_point(key, x, at_point)


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
      InputError: as :func:`check_call`, or if a count is out of its range.
    """
    model, x, t = check_call(model, x, t)
    check_count("probes", probes, 2)
    check_count("tangents", tangents, 1)
    return _traces(key, model, x, t, probes, tangents)


def _mean(values: jax.Array, axis: int) -> Sampled:
    return Sampled(jnp.mean(values, axis), jnp.std(values, axis, ddof=1) / values.shape[axis] ** 0.5)


@partial(jax.jit, static_argnames=("probes", "tangents"))
def _traces(key: jax.Array, model: Model, x: jax.Array, t: jax.Array, probes: int, tangents: int) -> Traces:
    def at_point(key: jax.Array, point: jax.Array) -> Traces:
        _, push = jax.linearize(lambda x: model(x, t), point)

        def along(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            signs = jax.random.rademacher(key, point.shape, x.dtype)
            image = push(signs)
            return _dot(signs, image), _dot(image, image)

        forms, squares = lax.map(along, jax.random.split(key, probes), batch_size=min(tangents, probes))
        return Traces(_mean(forms, 0), _mean(squares, 0))

    return each_point(key, x, at_point)


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

    ``probes * steps`` products a point, in memory for ``tangents * steps`` vectors; Lanczos vectors are orthogonalized
    against all before.

    Args:
      key: of the probes, others at each point.
      model: as :func:`leading`.
      x: points ``(B, d)``.
      t: noise variance ``> 0``.
      probes: random starts, ``>= 2``.
      steps: nodes of each; more than ``d`` serve nothing.
      tangents: probes at a time.

    Returns:
      Nodes and weights, for :func:`cumulative` and :func:`smoothed`.

    Raises:
      InputError: as :func:`check_call`, or if a count is out of its range.
    """
    model, x, t = check_call(model, x, t)
    check_count("probes", probes, 2)
    check_count("steps", steps, 1, x.shape[1])
    check_count("tangents", tangents, 1)
    return _density(key, model, x, t, probes, steps, tangents)


@partial(jax.jit, static_argnames=("probes", "steps", "tangents"))
def _density(
    key: jax.Array, model: Model, x: jax.Array, t: jax.Array, probes: int, steps: int, tangents: int
) -> Density:
    d = x.shape[1]

    def at_point(key: jax.Array, point: jax.Array) -> Density:
        product = _symmetric_part(model, point, t)

        def quadrature(key: jax.Array) -> Density:
            def step(index: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
                basis, diagonal, beside, vector = state
                basis = basis.at[index].set(vector)
                image = product(vector)
                rest = image
                for _ in range(2):  # once leaves rounding
                    rest = rest - _dot(_dot(basis, rest), basis)
                length = jnp.linalg.norm(rest)
                # In a space that is mapped to itself the rest is rounding: no further node has a weight.
                more = length > 8 * jnp.finfo(x.dtype).eps * jnp.linalg.norm(image)
                vector = jnp.where(more, rest / jnp.where(more, length, 1), 0)
                return (
                    basis,
                    diagonal.at[index].set(_dot(basis[index], image)),
                    beside.at[index].set(jnp.where(more, length, 0)),
                    vector,
                )

            start = jax.random.rademacher(key, (d,), x.dtype) / d**0.5
            empty = jnp.zeros(steps, x.dtype)
            _, diagonal, beside, _ = lax.fori_loop(
                0, steps, step, (jnp.zeros((steps, d), x.dtype), empty, empty, start)
            )
            tridiagonal = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
            nodes, vectors = jnp.linalg.eigh(tridiagonal)
            return Density(nodes, vectors[0] ** 2)

        return lax.map(quadrature, jax.random.split(key, probes), batch_size=min(tangents, probes))

    return each_point(key, x, at_point)


def _integral(density: Density, function: Callable[[jax.Array], jax.Array]) -> Sampled:
    """Mean over eigenvalues of functions ``nodes -> (..., m)``, point by point."""
    sums = lax.map(lambda point: jnp.sum(function(point.nodes) * point.weights[..., None], axis=-2), density)
    return _mean(sums, 1)


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
