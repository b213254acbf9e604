"""Scores, noises, velocities and denoisers; equations are numbered as in the docstring of :mod:`theory.noise`."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._inputs import ArrayLike, as_positive, working_dtype
from ._noise_conventions import Convention, Noising


class Prediction(NamedTuple):
    """What a model says at points of a convention, eq. (3): the expected data and the expected noise.

    ``denoised`` is E[y | x_conv] and ``epsilon`` is E[z | x_conv], both of shape ``s + (d,)``; every other common
    prediction is an attribute.
    """

    denoised: jax.Array
    epsilon: jax.Array
    noising: Noising

    @property
    def score(self) -> jax.Array:
        """Gradient of the log density of the convention's own points, at ``x_conv``."""
        return -self.epsilon / self.noising.std[..., None]

    @property
    def ve_score(self) -> jax.Array:
        """Gradient of the log density of the toolkit's points, at ``x = x_conv/scale``: ``scale`` times the score."""
        return self.noising.scale[..., None] * self.score

    @property
    def v(self) -> jax.Array:
        """Expected ``scale * z - std * y``, the v of Salimans and Ho."""
        return self.noising.scale[..., None] * self.epsilon - self.noising.std[..., None] * self.denoised

    @property
    def velocity(self) -> jax.Array:
        """Expected ``z - y``, the velocity of flow matching where noise is at time 1."""
        return self.epsilon - self.denoised


Reading = Callable[[ArrayLike, ArrayLike, Noising], Prediction]


def _reading(formula: Callable[[jax.Array, jax.Array, Noising], Prediction]) -> Reading:
    """Put the border in front of a line of eq. (4); the formula gets scale and std with a last axis of 1."""
    compiled = jax.jit(formula)

    @functools.wraps(formula)
    def read(prediction: ArrayLike, x: ArrayLike, noising: Noising, /) -> Prediction:
        if np.ndim(x) == 0 or np.shape(prediction) != np.shape(x):
            shapes = f"{np.shape(prediction)} and {np.shape(x)}"
            raise ValueError(f"the prediction and x must have one shape s + (d,), got shapes {shapes}")
        dtype = working_dtype(prediction, x, *noising)
        scale, std = as_positive("scale", noising.scale, dtype), as_positive("std", noising.std, dtype)
        columns = Noising(scale[..., None], std[..., None])
        found = compiled(jnp.asarray(prediction, dtype), jnp.asarray(x, dtype), columns)
        return found._replace(noising=Noising(scale, std))

    return read


@_reading
def from_denoised(denoised: jax.Array, x: jax.Array, noising: Noising, /) -> Prediction:
    """Read a model that predicts the data ("sample", "x0", the denoiser of EDM).

    Args:
      denoised: expected data at ``x``, shape ``s + (d,)``.
      x: the convention's own points, ``scale`` times the toolkit's; same shape.
      noising: scale and standard deviation, of shape ``s`` or scalar.

    Raises:
      ValueError: for two shapes, or a scale or standard deviation that is not positive and finite.
    """
    return Prediction(denoised, (x - noising.scale * denoised) / noising.std, noising)


@_reading
def from_epsilon(epsilon: jax.Array, x: jax.Array, noising: Noising, /) -> Prediction:
    """Read a model that predicts the unit noise ``z``; arguments and errors as in :func:`from_denoised`."""
    return Prediction((x - noising.std * epsilon) / noising.scale, epsilon, noising)


@_reading
def from_score(score: jax.Array, x: jax.Array, noising: Noising, /) -> Prediction:
    """Read the score of the convention's own density (a VE score: divide it by ``scale`` first).

    Arguments and errors as in :func:`from_denoised`.
    """
    epsilon = -noising.std * score
    return Prediction((x - noising.std * epsilon) / noising.scale, epsilon, noising)


@_reading
def from_v(v: jax.Array, x: jax.Array, noising: Noising, /) -> Prediction:
    """Read a model that predicts ``scale * z - std * y``; arguments and errors as in :func:`from_denoised`."""
    scale, std = noising
    norm = scale**2 + std**2
    return Prediction((scale * x - std * v) / norm, (std * x + scale * v) / norm, noising)


@_reading
def from_velocity(velocity: jax.Array, x: jax.Array, noising: Noising, /) -> Prediction:
    """Read a flow-matching model that predicts ``z - y``; arguments and errors as in :func:`from_denoised`."""
    scale, std = noising
    norm = scale + std
    return Prediction((x - std * velocity) / norm, (x + scale * velocity) / norm, noising)


def as_denoiser(
    model: Callable[[jax.Array, jax.Array], jax.Array], convention: Convention, reading: Reading
) -> Callable[[ArrayLike, ArrayLike], jax.Array]:
    r"""Turn a model of another convention into this toolkit's denoiser :math:`D(x,t)\to\hat y` of one point.

    Args:
      model: ``model(x_conv, clock)``, a prediction at one point of shape ``(d,)`` of its own convention.
      convention: how its points are noised and what its clock is.
      reading: what it predicts: :func:`from_denoised`, :func:`from_epsilon`, :func:`from_score`, :func:`from_v` or
        :func:`from_velocity`.

    Returns:
      A function of a point ``x`` of shape ``(d,)`` and a noise variance ``t > 0``; VE convention,
      :math:`x_{\rm conv}=a\,x`.  Batched with ``vmap``; differentiable if the model is.

    Example:
      Data :math:`\mathcal N(0,1)`: a variance-preserving point is white at any noise, and the noise expected in it is
      ``std * x``.  The denoiser is :math:`x/(1+t)`.

      >>> from theory.noise import OU
      >>> denoise = as_denoiser(lambda x, time: OU.noising(OU.t(time)).std * x, OU, from_epsilon)
      >>> round(float(denoise(jnp.ones(1), 3.0)[0]), 6)
      0.25
    """

    def denoise(x: ArrayLike, t: ArrayLike) -> jax.Array:
        noising = convention.noising(t)
        point = noising.scale * jnp.asarray(x)
        return reading(model(point, convention.clock(t)), point, noising).denoised

    return denoise
