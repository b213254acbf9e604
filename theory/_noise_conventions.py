"""Clocks and points of the conventions; equations are numbered as in the docstring of :mod:`theory.noise`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._inputs import ArrayLike, as_between, as_positive, as_variances, working_dtype

# How far, relatively, a noise may lie beyond the ends of a discrete schedule and still be one of them: 1 - abar = 1e-4
# taken from a float32 table of abar, as model libraries store it, is off by 2e-4 of itself.
_END_TOLERANCE = 1e-3


class Noising(NamedTuple):
    """How a convention noises a point: ``scale * y + std * z``, eq. (1); both positive, of shape ``s``."""

    scale: jax.Array
    std: jax.Array

    @property
    def t(self) -> jax.Array:
        """Noise variance of the same point in the toolkit's convention, eq. (2); shape ``s``."""
        return (self.std / self.scale) ** 2


class Convention(NamedTuple):
    """Three functions, each of an array of any shape; any other convention is made by giving its own three.

    ``noising(t)`` is the :class:`Noising` at the noise variance ``t > 0`` (not by way of the clock, which loses digits
    near the end of a bounded clock); ``clock(t)`` is the convention's clock; ``t(clock)`` is the noise variance back.
    The clock 0 of a continuous convention is no noise, ``t = 0``.

    Concrete arguments outside the domain raise a ValueError, traced ones give nan.  Results too small or too large for
    the precision are 0 or inf.

    Example:
      >>> round(float(OU.clock(3.0)), 4)  # half log 4
      0.6931
    """

    noising: Callable[[ArrayLike], Noising]
    clock: Callable[[ArrayLike], jax.Array]
    t: Callable[[ArrayLike], jax.Array]


def _as_noise(t: ArrayLike) -> jax.Array:
    noise = as_positive("t", t, working_dtype(t))
    return jnp.where(noise > 0, noise, jnp.nan)


def _convention(
    noising: Callable[[jax.Array], Noising],
    clock: Callable[[jax.Array], jax.Array],
    variance: Callable[[jax.Array], jax.Array],
    name: str,
    last: float = np.inf,
) -> Convention:
    """Put the border in front of three formulas; the clock is called ``name`` and runs from 0 to ``last``."""
    return Convention(
        lambda t: noising(_as_noise(t)),
        lambda t: clock(_as_noise(t)),
        lambda time: variance(as_between(name, time, 0, last, working_dtype(time))),
    )


@jax.jit
def _exploding(t: jax.Array) -> Noising:
    return Noising(jnp.ones_like(t), jnp.sqrt(t))


@jax.jit
def _preserving(t: jax.Array) -> Noising:
    return Noising(1 / jnp.sqrt(1 + t), jnp.sqrt(t / (1 + t)))


@jax.jit
def _interpolating(t: jax.Array) -> Noising:
    root = jnp.sqrt(t)
    return Noising(1 / (1 + root), root / (1 + root))


@jax.jit
def _flow_time(t: jax.Array) -> jax.Array:
    return _interpolating(t).std


@jax.jit
def _flow_variance(time: jax.Array) -> jax.Array:
    return (time / (1 - time)) ** 2


@jax.jit
def _ou_time(t: jax.Array) -> jax.Array:
    return 0.5 * jnp.log1p(t)


@jax.jit
def _ou_variance(time: jax.Array) -> jax.Array:
    return jnp.expm1(2 * time)


VE = _convention(_exploding, lambda t: t, lambda t: t, "t")
EDM = _convention(_exploding, jnp.sqrt, jnp.square, "sigma")
OU = _convention(_preserving, _ou_time, _ou_variance, "time")
FLOW = _convention(_interpolating, _flow_time, _flow_variance, "time", last=1)


@jax.jit
def _vp_time(t: jax.Array, beta: jax.Array, rise: jax.Array) -> jax.Array:
    # The positive root of beta x + rise x^2/2 = log(1 + t), without a difference.
    depth = jnp.log1p(t)
    return 2 * depth / (beta + jnp.sqrt(beta**2 + 2 * rise * depth))


@jax.jit
def _vp_variance(time: jax.Array, beta: jax.Array, rise: jax.Array) -> jax.Array:
    return jnp.expm1(time * (beta + rise * time / 2))


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Convention:
    r"""Return the continuous variance-preserving convention with a rate :math:`\beta` that rises linearly.

    Its clock is the time of :math:`dx=-\tfrac12\beta(\tau)x\,d\tau+\sqrt{\beta(\tau)}\,dW`; models are trained on
    (0, 1], and later times continue the same line.

    Args:
      beta_min: rate at time 0.
      beta_max: rate at time 1.

    Raises:
      ValueError: unless ``0 <= beta_min <= beta_max``, finite and not both 0.
    """
    if not (0 <= beta_min <= beta_max < np.inf and beta_max > 0):
        raise ValueError(f"need 0 <= beta_min <= beta_max and beta_max > 0, got {beta_min} and {beta_max}")
    line = (beta_min, beta_max - beta_min)
    return _convention(_preserving, lambda t: _vp_time(t, *line), lambda time: _vp_variance(time, *line), "time")


@jax.jit
def _index_of(t: jax.Array, log_table: jax.Array) -> jax.Array:
    return jnp.interp(jnp.log(t), log_table, jnp.arange(log_table.size, dtype=t.dtype))


@jax.jit
def _variance_at(index: jax.Array, log_table: jax.Array) -> jax.Array:
    below = jnp.clip(jnp.floor(index), 0, log_table.size - 2)
    weight, row = index - below, below.astype(int)
    return jnp.exp((1 - weight) * log_table[row] + weight * log_table[row + 1])


def ddpm(betas: ArrayLike) -> Convention:
    r"""Return the discrete variance-preserving convention of a schedule.

    Its clock is the index :math:`k=0\dots T-1`.  Between indices :math:`\log t` is interpolated linearly, in both
    directions, so that a noise variance has a fractional index.  Noises outside the schedule are refused (traced:
    nan), except that a part in a thousand beyond either end counts as the end.

    Args:
      betas: ``(T,)`` noise rates in (0, 1), concrete, ``T >= 2``.  Float64 numbers are kept as such: the small
        :math:`1-\bar\alpha_k` is summed from them and never formed as a difference.

    Raises:
      ValueError: for betas of another shape or outside (0, 1).

    Example:
      >>> schedule = ddpm(np.linspace(1e-4, 2e-2, 1000))
      >>> [f"{t:.2e}" for t in schedule.t([0, 2, 15]).tolist()]
      ['1.00e-04', '3.60e-04', '4.00e-03']
    """
    rates = np.asarray(betas, np.float64)
    if rates.ndim != 1 or rates.size < 2:
        raise ValueError(f"betas must have shape (T,) with T >= 2, got shape {rates.shape}")
    refused = ~((rates > 0) & (rates < 1))
    if refused.any():
        raise ValueError(f"betas must be between 0 and 1, got betas[{refused.argmax()}] = {rates[refused.argmax()]}")
    variances = np.expm1(-np.cumsum(np.log1p(-rates)))
    low, high = variances[0] * (1 - _END_TOLERANCE), variances[-1] * (1 + _END_TOLERANCE)
    log_table = np.log(variances)

    def table(dtype: np.dtype) -> jax.Array:
        return jnp.asarray(log_table, dtype)

    def clock(t: ArrayLike) -> jax.Array:
        noise = as_between("t", t, low, high, working_dtype(t))
        return _index_of(noise, table(noise.dtype))

    def variance(index: ArrayLike) -> jax.Array:
        at = as_between("index", index, 0, rates.size - 1, working_dtype(index))
        return _variance_at(at, table(at.dtype))

    return Convention(OU.noising, clock, variance)


def speciation_time(variances: ArrayLike) -> jax.Array:
    r"""Return the ``OU`` times :math:`\tfrac12\log\sigma_i^2` at which a point decides its side along each direction.

    At that time the noised data have lost their variance to the unit variance of the noise,
    :math:`e^{-2\tau}\sigma_i^2=1`.  The data speciate at the largest of them, :math:`\tfrac12\log\Lambda`.

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.

    Returns:
      Times of :data:`OU`, shape ``(d,)``, to relative order :math:`1/\sigma_i^2` in :math:`e^{2\tau}`; not clipped: a
      variance below 1 gives a negative number, no time at all.

    Raises:
      ValueError: for variances that are negative or not finite.
    """
    return 0.5 * jnp.log(as_variances(variances, working_dtype(variances)))
