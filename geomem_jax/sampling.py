r"""Samples from any denoiser: the probability-flow equation and the stochastic sampler of EDM.

Model.  A denoiser ``denoise(x, t) -> x_hat`` takes one point ``(d,)`` and a noise variance ``t``.  A sampler steps down
through noise *standard deviations* :math:`\sigma=\sqrt t` (``noise_stds``, the "time" of Karras et al.) and solves

.. math:: \frac{dx}{d\sigma}=\frac{x-D(x,\sigma^2)}\sigma=-\sigma\,\nabla\log p_{\sigma^2}(x), \tag{1}

which carries :math:`p_T`, the law of :math:`y+\sqrt T\,z`, to the law of the data.  For Gaussian data, with variance
:math:`\sigma_i^2` and mean :math:`m_i` along a direction, the solution is

.. math:: x_i(t)=m_i+(x_i(T)-m_i)\sqrt{\frac{\sigma_i^2+t}{\sigma_i^2+T}}. \tag{2}

Bias of the start.  The law of the data is unknown, so samples start from pure noise, :math:`\mathcal N(0,T)`
(:func:`pure_noise`), in place of :math:`p_T`.  By (2) their variances and means are then too small,

.. math:: \sigma_i^2\,\frac T{\sigma_i^2+T},\qquad m_i\Bigl(1-\sqrt{\frac{\sigma_i^2}{\sigma_i^2+T}}\Bigr), \tag{3}

relative errors of :math:`\sigma_i^2/T` and :math:`\sigma_i/\sqrt T`: centre the data, or take :math:`T` large.

Bias of the steps.  Heun's method has an error of second order in the steps.  A step to zero noise is an Euler step,
which returns :math:`D(x,\sigma^2)` at the smallest noise :math:`\sigma` above zero.  It multiplies :math:`x_i-m_i` by
:math:`\sigma_i^2/(\sigma_i^2+\sigma^2)` where the square root of that is right: for :math:`\sigma\ll\sigma_i` a
relative error of :math:`\sigma^2/2\sigma_i^2` that no number of steps above removes; a direction of
:math:`\sigma_i\ll\sigma` is lost.

Compilation.  A call outside ``jax.jit`` compiles anew.  To compile once for all parameters, and to sample from an
ensemble (parameters with a leading member axis) in one program, make the sampler a function of the parameters::

    levels = noise_levels(0.002, 80, 32)
    x = pure_noise(key, (1000, 24), levels[0])

    def sample(model):
        return probability_flow(partial(linear.denoise, model), x, levels)

    samples = jax.jit(jax.vmap(sample))(models)  # (members, 1000, 24), every member from the same x

All points are denoised together, which takes the memory of ``jax.vmap(denoise)``.  For many training points use the
streaming form of the empirical denoiser, ``lambda x, t: empirical.posterior(data, count, x[None], t).mean[0]``.

Source.  Karras et al. (2022), arXiv 2206.00364: equation (5) and Algorithms 1 and 2, with :math:`\sigma(t)=t` and
:math:`s(t)=1`.  (2), (3) and the bias of the last step are derived here.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from geomem_jax.errors import InputError

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]
"""``denoise(x, t)`` of one point ``(d,)`` at a noise variance ``t``, a scalar."""

MAX_CHURN = math.sqrt(2) - 1  # more would add more new noise than is there (Algorithm 2)


def noise_levels(smallest: float, largest: float, steps: int, rho: float = 7.0) -> np.ndarray:
    r"""Noise standard deviations for ``steps`` steps, equally spaced in :math:`\sigma^{1/\rho}` and ending with 0.

    .. math:: \sigma_k=\Bigl(\sigma_{\max}^{1/\rho}+\frac k{n-1}
              \bigl(\sigma_{\min}^{1/\rho}-\sigma_{\max}^{1/\rho}\bigr)\Bigr)^\rho\quad(k<n),\qquad\sigma_n=0.

    Args:
      smallest: smallest standard deviation above 0, well below that of the narrowest direction of interest.
      largest: largest standard deviation, well above that of the data.
      steps: number of steps ``n >= 2``, the one to 0 included.
      rho: 1 spaces evenly, larger values put more steps at small noise.

    Returns:
      ``(steps + 1,)`` in float64, descending, in units of the data; their squares are the variances ``t``.

    Raises:
      InputError: unless ``0 < smallest < largest``, ``steps >= 2`` and ``rho > 0``, all finite.

    Source:
      Karras et al. (2022), equation (5).
    """
    if not 0 < smallest < largest < math.inf:
        raise InputError(f"smallest={smallest}, largest={largest}: give noise levels with 0 < smallest < largest")
    if steps < 2:
        raise InputError(f"steps={steps}: must be at least 2, one from largest to smallest and one to 0")
    if not 0 < rho < math.inf:
        raise InputError(f"rho={rho}: must be positive and finite; 7 is usual")
    return np.append(np.linspace(largest ** (1 / rho), smallest ** (1 / rho), steps) ** rho, 0.0)


def pure_noise(key: jax.Array, shape: tuple[int, int], noise_std: ArrayLike) -> jax.Array:
    """Draw starting points ``(B, d)`` of standard deviation ``noise_std``; eq. (3) has the bias of starting there."""
    x = jax.random.normal(key, shape)
    return x * jnp.asarray(noise_std, x.dtype)


def probability_flow(denoise: Denoiser, x: jax.Array, noise_stds: ArrayLike) -> jax.Array:
    """Solve the probability-flow equation (1) with Heun's method; a deterministic map of the starting points.

    Args:
      denoise: the denoiser of one point; never asked at zero noise.
      x: ``(B, d)`` starting points at the noise ``noise_stds[0]``; their dtype is that of the computation.
      noise_stds: ``(k,)`` noise standard deviations, ``k >= 2``, descending; see :func:`noise_levels`.  The last may be
        0 or positive; then the points that still carry this noise are returned.

    Returns:
      ``(B, d)`` points at the noise ``noise_stds[-1]``.

    Raises:
      InputError: if ``x`` is not a floating-point ``(B, d)`` array or ``noise_stds`` is not as described.  Traced
        levels are not checked.

    Source:
      Karras et al. (2022), Algorithm 1.
    """
    levels = _checked_levels(x, noise_stds)

    def step(x: jax.Array, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return _heun_step(denoise, x, *ends), None

    return lax.scan(step, jnp.asarray(x), (levels[:-1], levels[1:]))[0]


def stochastic(
    key: jax.Array,
    denoise: Denoiser,
    x: jax.Array,
    noise_stds: ArrayLike,
    *,
    churn: float,
    churn_smallest: float = 0.0,
    churn_largest: float = math.inf,
    churn_inflation: float = 1.0,
) -> jax.Array:
    r"""Take the same steps as :func:`probability_flow`, but each from a noise raised by fresh noise.

    From :math:`\sigma` the noise is first raised to :math:`(1+\gamma)\sigma`, where :math:`\gamma` is ``churn`` over
    the number of steps, at most :math:`\sqrt2-1`.  With an exact denoiser and small steps the law of the samples does
    not depend on the churn; fresh noise makes the samples forget earlier errors.

    Args:
      key: key of the fresh noise.
      denoise: the denoiser of one point; never asked at zero noise.
      x: ``(B, d)`` starting points at the noise ``noise_stds[0]``; their dtype is that of the computation.
      noise_stds: ``(k,)`` noise standard deviations, as for :func:`probability_flow`.
      churn: total amount of fresh noise, ``S_churn >= 0``; 0 is the probability flow.
      churn_smallest: standard deviation ``S_tmin`` below which none is added.
      churn_largest: standard deviation ``S_tmax`` above which none is added.
      churn_inflation: factor ``S_noise`` on the standard deviation of what is added; 1 is exact for exact denoisers.

    Returns:
      ``(B, d)`` points at the noise ``noise_stds[-1]``.

    Raises:
      InputError: as :func:`probability_flow`, or if ``churn`` or ``churn_inflation`` is negative or not finite or the
        range of the churn is empty.  Traced numbers are not checked.

    Source:
      Karras et al. (2022), Algorithm 2.
    """
    levels = _checked_levels(x, noise_stds)
    for name, value in (("churn", churn), ("churn_inflation", churn_inflation)):
        if not isinstance(value, jax.core.Tracer) and not 0 <= value < math.inf:
            raise InputError(f"{name}={value}: must be finite and not negative")
    ends = (churn_smallest, churn_largest)
    if not any(isinstance(end, jax.core.Tracer) for end in ends) and not churn_smallest <= churn_largest:
        raise InputError(
            f"churn_smallest={churn_smallest} is not below churn_largest={churn_largest}: give a range, or churn=0"
        )
    steps = len(levels) - 1
    gamma = jnp.asarray(jnp.minimum(churn / steps, MAX_CHURN), levels.dtype)

    def step(x: jax.Array, inputs: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        index, noise, noise_next = inputs
        churned = (churn_smallest <= noise) & (noise <= churn_largest)
        raised = jnp.where(churned, 1 + gamma, 1) * noise
        # sqrt(raised^2 - noise^2), without the difference.
        added = jnp.where(churned, jnp.sqrt(gamma * (2 + gamma)), 0) * noise * churn_inflation
        fresh = jax.random.normal(jax.random.fold_in(key, index), x.shape, x.dtype)
        return _heun_step(denoise, x + added.astype(x.dtype) * fresh, raised, noise_next), None

    return lax.scan(step, jnp.asarray(x), (jnp.arange(steps), levels[:-1], levels[1:]))[0]


def _heun_step(denoise: Denoiser, x: jax.Array, noise: jax.Array, noise_next: jax.Array) -> jax.Array:
    """Move ``(B, d)`` points from one noise standard deviation to the next; to 0 by Euler's method."""

    def slope(x: jax.Array, noise: jax.Array) -> jax.Array:
        denoised = jax.vmap(denoise, in_axes=(0, None))(x, noise**2)
        return (x - denoised.astype(x.dtype)) / noise

    width = noise_next - noise
    first = slope(x, noise)
    # At zero noise the slope is 0/0: there the first one is used twice, and the denoiser is not asked.
    second = lax.cond(noise_next > 0, lambda: slope(x + width * first, noise_next), lambda: first)
    return x + width * (first + second) / 2


def _checked_levels(x: jax.Array, noise_stds: ArrayLike) -> jax.Array:
    """Check what a sampler is given and return the levels in the dtype of the points."""
    dtype = jnp.asarray(x).dtype
    if np.ndim(x) != 2 or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"x of shape {np.shape(x)} and dtype {dtype}: give floating-point starting points (B, d)")
    if np.ndim(noise_stds) != 1 or np.size(noise_stds) < 2:
        raise InputError(f"noise_stds of shape {np.shape(noise_stds)}: give at least 2 levels in one dimension")
    if not isinstance(noise_stds, jax.core.Tracer):
        with np.errstate(over="ignore"):  # infinite is refused below
            levels = np.asarray(noise_stds).astype(dtype)
        # The slope divides by the level and the denoiser by its square: neither may leave the range of the dtype.
        squares, limits = levels.astype(np.float64) ** 2, jnp.finfo(dtype)
        bad = ~((squares >= float(limits.tiny)) & (squares <= float(limits.max)))
        bad[-1] &= levels[-1] != 0
        # Unlike a difference, a comparison is right for infinite levels too.
        bad[1:] |= ~(levels[1:] < levels[:-1])
        bad |= levels < 0
        if bad.any():
            where = int(np.argmax(bad))
            raise InputError(
                f"noise_stds[{where}]={np.asarray(noise_stds)[where]}: noise standard deviations must be positive (the "
                f"last may be 0), descend strictly and have squares in the range of {dtype}; noise_levels() makes them"
            )
    return jnp.asarray(noise_stds, dtype)
