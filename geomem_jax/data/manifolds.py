r"""Manifolds of known dimension, to hold estimators of dimension against.

Every one is a :class:`Manifold`: a :class:`~geomem_jax.data.source.Source`, so that whatever takes data takes it, and
beside it the dimension at each of its points.  All have zero mean and variances in closed form; a random rotation puts
them into ``ambient`` dimensions.

* *Affine* and *two levels*: Gaussian, :func:`geomem_jax.data.linear_manifold`.
* *Sphere*: uniform on the unit sphere of ``m + 1`` dimensions, variances ``1 / (m + 1)``.
* *Torus*: a product of ``m`` unit circles, variances 1/2.
* *Squiggly*: the graph :math:`(z_i,\,a\sin\pi fz_i)`, :math:`z_i` uniform on :math:`[-1,1]`, ``f`` whole.  The two
  coordinates have the variances 1/3 and :math:`a^2/2` and the covariance :math:`-(-1)^fa/(\pi f)`.
* *Spheres*: a mixture of unit spheres of different dimensions in orthogonal spaces, never nearer to each other than
  :math:`\sqrt2`; one of dimension ``m`` and share ``p`` has variances :math:`p/(m+1)`.
* *Hidden manifold*: :math:`y=\tanh(Fz/\sqrt m)`, ``z`` of ``m`` and ``F`` of ``ambient x m`` standard normals, ``F``
  drawn once.  Where ``F`` has rank ``m`` so has the Jacobian, as every slope of tanh is positive.  With
  :math:`r_i=|F_i|/\sqrt m`, correlations :math:`\rho_{ij}` of rows and normalized Hermite polynomials :math:`h_k`,

.. math:: \mathrm{Cov}(y_i,y_j)=\sum_{k\ \rm odd}c_k(r_i)\,c_k(r_j)\,\rho_{ij}^k,\qquad
   c_k(r)=\mathbb E\,h_k(u)\tanh(ru), \tag{1}

the series of Mehler; its remainder is at most :math:`\max_i\bigl(\mathbb E\,y_i^2-\sum_kc_k(r_i)^2\bigr)`.

Source.  Hidden manifold: Goldt et al. (2020), Physical Review X 10, 041044.  Closed forms derived here.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geomem_jax.data.source import MAX_BASIS, Draw, Source
from geomem_jax.data.synthetic import BLOCK, haar, in_blocks, linear_manifold
from geomem_jax.errors import InputError

HERMITE_ORDER = 401  # of (1): a remainder below 1e-9 up to r = 3
REACH, STEP = 14.0, 1 / 64  # of the rule for c_k; beyond, |h_k| times the density is below exp(-14^2 / 4)


class Manifold(NamedTuple):
    """Data of known dimension.

    Attributes:
      source: where training sets come from.
      dimension: of the manifold; of a mixture the largest.
      dimensions: ``(key, num_train, num_held_out) -> (train, held_out)``, whole numbers ``(n,)`` and ``(m,)``: the
        dimension at every point that ``source.draw`` gives with these arguments.
    """

    source: Source
    dimension: int
    dimensions: Callable[[jax.Array, int, int], tuple[np.ndarray, np.ndarray]]


def affine(dimension: int, ambient: int, key: jax.Array) -> Manifold:
    """Standard normal points of a random linear space; ``key`` draws it.

    Raises:
      InputError: unless ``1 <= dimension <= ambient``.
    """
    _check(dimension, ambient, dimension)
    source = linear_manifold(np.ones(dimension), embedding=ambient, embedding_key=key, name=f"affine {dimension}")
    return _constant(source, dimension)


def two_level(dimensions: tuple[int, int], variances: tuple[float, float], ambient: int, key: jax.Array) -> Manifold:
    """Gaussian points of a random linear space with two variances, of ``dimensions`` directions each.

    Raises:
      InputError: unless the dimensions are positive and fit, or as :func:`geomem_jax.data.linear_manifold`.
    """
    total = sum(dimensions)
    for dimension in dimensions:
        _check(dimension, ambient, total)
    levels = np.repeat(variances, dimensions)
    source = linear_manifold(levels, embedding=ambient, embedding_key=key, name=f"two levels {total}")
    return _constant(source, total)


def sphere(dimension: int, ambient: int, key: jax.Array) -> Manifold:
    """Uniform points of the unit sphere of ``dimension + 1`` coordinates, randomly rotated.

    Raises:
      InputError: unless ``1 <= dimension < ambient``.
    """
    return spheres([dimension], ambient, key)


def torus(dimension: int, ambient: int, key: jax.Array) -> Manifold:
    """Uniform points of a product of ``dimension`` unit circles, randomly rotated.

    Raises:
      InputError: unless ``1 <= dimension`` and ``2 * dimension <= ambient``.
    """
    _check(dimension, ambient, 2 * dimension)

    def sample(key: jax.Array, rows: int) -> jax.Array:
        angles = jax.random.uniform(key, (rows, dimension), maxval=2 * np.pi)
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)

    covariance = np.eye(2 * dimension) / 2
    return _constant(_source(f"torus {dimension}", sample, covariance, ambient, key), dimension)


def squiggly(dimension: int, ambient: int, key: jax.Array, *, frequency: int = 2, amplitude: float = 0.25) -> Manifold:
    r"""Uniform points of a cube, each coordinate ``z`` with a wave :math:`a\sin\pi fz` beside it, randomly rotated.

    Args:
      dimension: of the cube.
      ambient: at least twice that.
      key: of the rotation.
      frequency: ``f``, waves across the cube.
      amplitude: ``a``; the radius of curvature at the crests is :math:`1/(a\pi^2f^2)`.

    Raises:
      InputError: unless ``1 <= dimension``, ``2 * dimension <= ambient`` and ``frequency >= 1``.
    """
    _check(dimension, ambient, 2 * dimension)
    if frequency < 1 or frequency != int(frequency):
        raise InputError(f"frequency: {frequency}; give a whole number of waves, at least 1")

    def sample(key: jax.Array, rows: int) -> jax.Array:
        z = jax.random.uniform(key, (rows, dimension), minval=-1.0, maxval=1.0)
        return jnp.concatenate([z, amplitude * jnp.sin(np.pi * frequency * z)], axis=1)

    mixed = -((-1) ** frequency) * amplitude / (np.pi * frequency)
    covariance = np.kron([[1 / 3, mixed], [mixed, amplitude**2 / 2]], np.eye(dimension))
    return _constant(_source(f"squiggly {dimension}", sample, covariance, ambient, key), dimension)


def spheres(dimensions: Sequence[int], ambient: int, key: jax.Array) -> Manifold:
    """Draw each point from one of several unit spheres, equally often, in orthogonal spaces; randomly rotated.

    Raises:
      InputError: unless dimensions are at least 1 and the sum of ``dimension + 1`` is at most ``ambient``.
    """
    if not dimensions:
        raise InputError("dimensions: none; give the dimension of at least one sphere")
    widths = np.array(dimensions) + 1
    for dimension in dimensions:
        _check(dimension, ambient, int(widths.sum()))
    owner = np.repeat(np.arange(len(widths)), widths)  # of each coordinate

    def component(key: jax.Array, rows: int) -> jax.Array:
        return jax.random.randint(jax.random.split(key)[0], (rows,), 0, len(widths))

    def sample(key: jax.Array, rows: int) -> jax.Array:
        normal = jax.random.normal(jax.random.split(key)[1], (rows, len(owner)))
        own = jnp.where(component(key, rows)[:, None] == owner, normal, 0)
        return own / jnp.linalg.norm(own, axis=1, keepdims=True)

    name = "sphere " if len(widths) == 1 else "spheres "
    covariance = np.diag((1 / widths / len(widths))[owner])
    source = _source(name + " and ".join(map(str, dimensions)), sample, covariance, ambient, key)

    def at_points(key: jax.Array, num_train: int, num_held_out: int) -> tuple[np.ndarray, np.ndarray]:
        train, held_out = (
            in_blocks(part, number, _rows(ambient), component)
            for part, number in zip(jax.random.split(key), (num_train, num_held_out), strict=True)
        )
        return tuple(np.array(dimensions)[np.asarray(part)] for part in (train, held_out))

    return Manifold(source, max(dimensions), at_points)


def hidden_manifold(dimension: int, ambient: int, key: jax.Array) -> Manifold:
    """Hyperbolic tangents of ``ambient`` random combinations of ``dimension`` standard normals.

    Raises:
      InputError: unless ``1 <= dimension <= ambient``.
    """
    _check(dimension, ambient, dimension)
    features = np.asarray(jax.random.normal(key, (ambient, dimension)), float) / np.sqrt(dimension)
    variances, basis = np.linalg.eigh(tanh_covariance(features))

    def sample(key: jax.Array, rows: int) -> jax.Array:
        z = jax.random.normal(key, (rows, dimension))
        return jnp.tanh(jnp.matmul(z, jnp.asarray(features.T, z.dtype), precision=jax.lax.Precision.HIGHEST))

    source = Source(
        name=f"hidden manifold {dimension}",
        variances=np.maximum(variances[::-1], 0.0),
        basis=np.ascontiguousarray(basis[:, ::-1]),
        gaussian=False,
        centred=False,
        max_points=None,
        draw=_draw(sample, ambient, None),
    )
    return _constant(source, dimension)


def tanh_covariance(features: np.ndarray) -> np.ndarray:
    """Covariance ``(D, D)`` of the hyperbolic tangents of ``features @ z``, ``(D, m)`` and standard normals, (1)."""
    radius = np.linalg.norm(features, axis=1)
    direction = features / radius[:, None]
    correlation = np.clip(direction @ direction.T, -1.0, 1.0)
    # The midpoint rule: the integrand is analytic for |Im u| < pi / (2 r), hence an error of exp(-pi^2 / (r STEP)).
    u = np.arange(STEP / 2, REACH, STEP)  # half of an even integrand
    values = np.tanh(radius[:, None] * u)
    density = 2 * STEP * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    covariance, power = np.zeros_like(correlation), correlation.copy()
    before, now = density, density * u  # h_0 and h_1 times the density
    for k in range(1, HERMITE_ORDER + 1):
        if k % 2:
            c = values @ now
            covariance += np.outer(c, c) * power
            power *= correlation**2
        before, now = now, (u * now - np.sqrt(k) * before) / np.sqrt(k + 1)
    return covariance


def _check(dimension: int, ambient: int, needed: int) -> None:
    if dimension < 1:
        raise InputError(f"dimension: {dimension}; give at least 1")
    if not needed <= ambient <= MAX_BASIS:
        raise InputError(f"ambient: {ambient} dimensions; give {needed} to {MAX_BASIS}")


def _constant(source: Source, dimension: int) -> Manifold:
    def at_points(key: jax.Array, num_train: int, num_held_out: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full(num_train, dimension), np.full(num_held_out, dimension)

    return Manifold(source, dimension, at_points)


def _source(
    name: str, sample: Callable[[jax.Array, int], jax.Array], covariance: np.ndarray, ambient: int, key: jax.Array
) -> Source:
    """Build the source of zero-mean ``sample(key, rows)`` ``(rows, w)``, rotated into ``ambient`` dimensions."""
    width = len(covariance)
    rotation = haar(key, ambient)
    variances, directions = np.linalg.eigh(covariance)
    basis = rotation.copy()
    basis[:, :width] = rotation[:, :width] @ directions[:, ::-1]
    return Source(
        name=name,
        variances=np.pad(np.maximum(variances[::-1], 0.0), (0, ambient - width)),
        basis=basis,
        gaussian=False,
        centred=False,
        max_points=None,
        draw=_draw(sample, ambient, rotation[:, :width].T),
    )


def _rows(ambient: int) -> int:
    return max(1, BLOCK // ambient)


def _draw(
    sample: Callable[[jax.Array, int], jax.Array], ambient: int, rotation: np.ndarray | None
) -> Callable[[jax.Array, int, int], Draw]:
    """Nested draws: training points and held-out points from a key each."""

    @partial(jax.jit, static_argnums=1)
    def block(key: jax.Array, rows: int) -> jax.Array:
        points = sample(key, rows)
        if rotation is None:
            return points
        return jnp.matmul(points, jnp.asarray(rotation, points.dtype), precision=jax.lax.Precision.HIGHEST)

    def draw(key: jax.Array, num_train: int, num_held_out: int) -> Draw:
        train_key, held_out_key = jax.random.split(key)
        return Draw(
            in_blocks(train_key, num_train, _rows(ambient), block),
            in_blocks(held_out_key, num_held_out, _rows(ambient), block),
        )

    return draw
