r"""The random-feature rung: a score whose first layer is random and stays, and whose last layer is trained.

With :math:`p` features of :math:`d` coordinates, at one noise variance :math:`t`,

.. math:: D(x,t)=x+t\,s_A(x),\qquad s_A(x)=\frac A{\sqrt p}\,\phi(x),\qquad\phi(x)=\tanh\frac{Wx}{\sqrt d}, \tag{1}

where :math:`W` is standard normal and only :math:`A`, from 0, is trained.  With :math:`x=y+\sqrt t\,z` the error is
:math:`D-y=\sqrt t\,(\sqrt t\,s_A+z)`, so that the squared error weighted by :math:`1/t` is the loss of the score

.. math:: \frac1t\|D(x,t)-y\|^2=\|\sqrt t\,s_A(x)+z\|^2; \tag{2}

quadratic in :math:`A`.  With the moments :math:`U=\frac tp\,\mathbb E\,\phi\phi^\top` and
:math:`V=-\sqrt{t/p}\;\mathbb E\,z\,\phi^\top` its gradient, summed over coordinates, is :math:`2(AU-V)`, and gradient
flow is after :math:`\tau`, learning rate times steps, at

.. math:: A(\tau)=V\,U^{-1}(1-e^{-2\tau U}). \tag{3}

(Of the mean over coordinates, which is the loss of the source, :math:`\tau/d` for :math:`\tau`.)  It learns the
population at first, along large eigenvalues of :math:`U`, and later memorizes.

Source.  Model and (2): arXiv 2505.17638, there with the data shrunk by :math:`e^{-t}` and noise variance
:math:`1-e^{-2t}`; (3) is least squares.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geomem_jax.errors import InputError

HIGHEST = jax.lax.Precision.HIGHEST


class RandomFeatures(NamedTuple):
    """Parameters.

    Attributes:
      first: ``(p, d)`` first layer W; its gradient is zero.
      readout: ``(d, p)`` last layer A.
    """

    first: jax.Array
    readout: jax.Array


class Moments(NamedTuple):
    """What the loss depends on; see eq. (3).

    Attributes:
      features: ``(p, p)`` U.
      targets: ``(d, p)`` V.
    """

    features: jax.Array
    targets: jax.Array


def init(key: jax.Array, dimension: int, features: int) -> RandomFeatures:
    """Draw a first layer of so many features of so many coordinates; the readout is 0.

    Raises:
      InputError: if one of the two is below 1.
    """
    for name, size in (("dimension", dimension), ("features", features)):
        if size < 1:
            raise InputError(f"{name} must be >= 1, got {name} = {size}")
    return RandomFeatures(jax.random.normal(key, (features, dimension)), jnp.zeros((dimension, features)))


def features_of(first: jax.Array, x: jax.Array) -> jax.Array:
    """Features of points ``(..., d)``: ``(..., p)``."""
    return jnp.tanh(jnp.matmul(x, first.T, precision=HIGHEST) / jnp.sqrt(x.shape[-1]).astype(x.dtype))


def denoise(params: RandomFeatures, x: jax.Array, t: jax.Array | float) -> jax.Array:
    """Denoise one point ``x`` ``(d,)``, eq. (1); ``t`` is a noise variance."""
    features = features_of(jax.lax.stop_gradient(params.first), x)
    return x + t / len(features) ** 0.5 * jnp.matmul(params.readout, features, precision=HIGHEST)


def weight(t: jax.Array | float) -> jax.Array:
    """Weight of the squared error in the loss, 1/t, eq. (2)."""
    return 1 / jnp.asarray(t)


def gains(params: RandomFeatures, x: jax.Array, t: jax.Array | float) -> jax.Array:
    """Gains along the coordinate axes at one point ``x`` ``(d,)``; shape ``(d,)``."""
    slopes = 1 - features_of(params.first, x) ** 2
    scale = t / (len(slopes) * len(x)) ** 0.5
    return 1 + scale * jnp.matmul(params.readout * params.first.T, slopes, precision=HIGHEST)


@partial(jax.jit, static_argnames="draws")
def _moments(key: jax.Array, first: jax.Array, data: jax.Array, t: jax.Array, draws: int) -> Moments:
    (p, d), n = first.shape, len(data)

    def add(draw: jax.Array, sums: Moments) -> Moments:
        noise = jax.random.normal(jax.random.fold_in(key, draw), data.shape, data.dtype)
        features = features_of(first, data + jnp.sqrt(t) * noise)
        return Moments(
            sums.features + jnp.matmul(features.T, features, precision=HIGHEST),
            sums.targets - jnp.matmul(noise.T, features, precision=HIGHEST),
        )

    empty = Moments(jnp.zeros((p, p), data.dtype), jnp.zeros((d, p), data.dtype))
    sums = jax.lax.fori_loop(0, draws, add, empty)
    return Moments(sums.features * (t / p / (n * draws)), sums.targets * (jnp.sqrt(t / p) / (n * draws)))


def moments(key: jax.Array, params: RandomFeatures, data: jax.Array, t: jax.Array | float, draws: int) -> Moments:
    """Moments over the training points and ``draws`` noises each; memory does not grow with ``draws``.

    They are those of training on a fixed set of noised copies, where the draw number k is
    ``jax.random.normal(jax.random.fold_in(key, k), data.shape, data.dtype)``.  With fresh noise in training they are
    the limit of many draws; the relative error is one over the root of the number of points and draws.

    Args:
      key: of the noise.
      params: of which only the first layer is used.
      data: ``(N, d)`` training points.
      t: noise variance ``> 0``.
      draws: noises per training point.

    Raises:
      InputError: if ``draws`` is below 1.
    """
    if draws < 1:
        raise InputError(f"draws must be >= 1, got draws = {draws}")
    return _moments(key, params.first, data, jnp.asarray(t, data.dtype), draws)


@jax.jit
def flow(moments: Moments, training_time: jax.Array | float) -> jax.Array:
    r"""Readout ``(d, p)`` of gradient flow from 0, eq. (3).

    Args:
      moments: of the training set.
      training_time: learning rate times steps ``>= 0``, finite, of the loss summed over coordinates.  Eigenvalues of U
        fall fast, and those below its largest by the precision are rounding: long times need float64.
    """
    eigenvalues, vectors = jnp.linalg.eigh(moments.features)
    positive = eigenvalues > 0
    slow = -jnp.expm1(-2 * training_time * eigenvalues) / jnp.where(positive, eigenvalues, 1)
    return _filtered(moments.targets, vectors, jnp.where(positive, slow, 2 * training_time))


@jax.jit
def ridge(moments: Moments, penalty: jax.Array | float) -> jax.Array:
    r"""Readout ``(d, p)`` that minimizes the loss plus ``penalty`` times :math:`\|A\|^2`: :math:`V(U+\lambda)^{-1}`.

    Without penalty the shortest of the minima, where gradient flow ends; eigenvalues of U at its rounding count as 0.
    """
    eigenvalues, vectors = jnp.linalg.eigh(moments.features)
    rounding = len(eigenvalues) * jnp.finfo(eigenvalues.dtype).eps * eigenvalues[-1]
    kept = (penalty > 0) | (eigenvalues > rounding)
    total = jnp.maximum(eigenvalues, 0) + penalty
    return _filtered(moments.targets, vectors, jnp.where(kept, 1 / jnp.where(kept, total, 1), 0))


def _filtered(targets: jax.Array, vectors: jax.Array, filters: jax.Array) -> jax.Array:
    """Product of the targets with a function of U, given by its eigenvectors and values."""
    projected = jnp.matmul(targets, vectors, precision=HIGHEST) * filters
    return jnp.matmul(projected, vectors.T, precision=HIGHEST)
