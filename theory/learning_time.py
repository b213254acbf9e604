r"""Early stopping: the gains of a linear denoiser while it is trained.

Model.  :math:`D(x)=Wx` at one noise variance :math:`t`, trained by gradient descent of the denoising loss
:math:`\mathbb E\|W(y+\sqrt t\,z)-y\|^2` (summed over coordinates), the mean over noise :math:`z\sim\mathcal N(0,I)`
and over data of second moment :math:`C=\mathbb E\,yy^\top`: infinite data, or :math:`N` training points.

Results.  The gradient is :math:`2W(C+t)-2C`.  Along an eigenvector of :math:`C` with eigenvalue :math:`\lambda` the
gain after **training time** :math:`\tau`, learning rate times steps, in the limit of small steps, and after :math:`k`
steps of learning rate :math:`\eta`, is

.. math:: g(\tau)=w+(g_0-w)\,e^{-2\tau(\lambda+t)},\qquad
          g_k=w+(g_0-w)\,[1-2\eta(\lambda+t)]^k,\qquad w=\frac\lambda{\lambda+t}. \tag{1}

The second is also the mean of :math:`k` steps of stochastic gradients, for batches and noise drawn anew at each step.
From :math:`W=0` a fraction :math:`f` of the final gain is reached at the **learning time**

.. math:: \tau_f=\frac{-\log(1-f)}{2(\lambda+t)}: \tag{2}

large variances first, and none later than :math:`\tau\sim1/t`.

*Finite data.*  Averaged over training sets, in the directions :math:`u_i` of the *population*, from :math:`W=0`,

.. math:: g_i(\tau)=w_i\Bigl[1-\frac1{2\pi i}\oint\frac{e^{2\tau(T-t)}}{[\sigma_i^2+\kappa(T)]\,
          [1-\frac1N\sum_jw_j\frac{\sigma_j^2}{\sigma_j^2+\kappa(T)}]}\,dT\Bigr],\qquad
          w_i=\frac{\sigma_i^2}{\sigma_i^2+\kappa(t)}, \tag{3}

with :math:`\kappa` the effective noise of the linear score, (2) of :mod:`theory.effective_noise`, continued to complex
noise :math:`T`; the contour encircles the negative real axis.  The law of the name :func:`gradient_flow_law` is (3).

Scope.  (1), (2): exact for any data.  (3): Gaussian data, asymptotic, :math:`d\to\infty` at fixed :math:`d/N`, relative
correction :math:`O(1/d)`.  The mean of the data is known to be zero, and there is no bias to be learned.
Source.  (1) for :math:`g_0=0`: arXiv 2503.03206, rederived; (3): derived here (DERIVATIONS.md, section L).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ._inputs import ArrayLike, as_between, as_counts, as_log_size, as_positive, as_variances, working_dtype
from .effective_noise import linear_noise

TURNS = 16  # steps in which a positive noise is turned to a complex one; each is at most 0.17 rad
POLISH = 3  # Newton steps at the end; the error of 0.02 left by the last turn is squared by each


@jax.jit
def _flow(variances: jax.Array, t: jax.Array, time: jax.Array, initial: jax.Array) -> jax.Array:
    total = variances + t[..., None]
    exponent = -2 * time[..., None] * total
    return -variances / total * jnp.expm1(exponent) + initial[..., None] * jnp.exp(exponent)


def gradient_flow_gain(
    variances: ArrayLike, t: ArrayLike, training_time: ArrayLike, initial_gain: ArrayLike = 0.0
) -> jax.Array:
    r"""Return the gains of a linear denoiser trained by gradient flow, eq. (1).

    Args:
      variances: ``(d,)`` eigenvalues of the second moment of the data trained on, ``>= 0``: for infinite data the
        variances along the directions.
      t: noise variance ``> 0``.
      training_time: learning rate times steps, ``>= 0``, in units of one over a variance.
      initial_gain: of the weights at the start; broadcast with the two above to a shape ``s``.

    Returns:
      Gains (no unit) along the eigenvectors, shape ``s + (d,)``.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, ``training_time``
        negative or not finite.

    Example:
      >>> gradient_flow_gain([3.0, 0.0], t=1.0, training_time=[0.0, 100.0]).tolist()
      [[0.0, 0.0], [0.75, 0.0]]
    """
    dtype = working_dtype(variances, t, training_time, initial_gain)
    checked = as_variances(variances, dtype), as_positive("t", t, dtype)
    time = as_between("training_time", training_time, 0, jnp.inf, dtype)
    return _flow(*checked, time, jnp.asarray(initial_gain, dtype))


@jax.jit
def _descent(
    variances: jax.Array, t: jax.Array, steps: jax.Array, learning_rate: jax.Array, initial: jax.Array
) -> jax.Array:
    total = variances + t[..., None]
    rate, count = 2 * learning_rate[..., None] * total, steps[..., None]
    # 1 - rate loses the digits of a small rate.
    slow = rate < 0.5
    exponent = count * jnp.log1p(-jnp.where(slow, rate, 0))
    left = jnp.where(slow, jnp.exp(exponent), jnp.power(1 - rate, count))
    learned = jnp.where(slow, -jnp.expm1(exponent), 1 - left)
    return variances / total * learned + initial[..., None] * left


def gradient_descent_gain(
    variances: ArrayLike, t: ArrayLike, steps: ArrayLike, learning_rate: ArrayLike, initial_gain: ArrayLike = 0.0
) -> jax.Array:
    r"""Return the gains after :math:`k` steps of gradient descent, or their mean for stochastic gradients, eq. (1).

    Args:
      variances: ``(d,)`` eigenvalues of the second moment of the data trained on, ``>= 0``.
      t: noise variance ``> 0``.
      steps: number of steps, whole and ``>= 0``.
      learning_rate: ``> 0``, in units of one over a variance, of the loss summed over coordinates.  Directions with
        :math:`\eta(\lambda+t)>1` diverge, and so does what is returned.
      initial_gain: of the weights at the start; broadcast with the three above to a shape ``s``.

    Returns:
      Gains (no unit) along the eigenvectors, shape ``s + (d,)``.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` or ``learning_rate`` not positive and finite,
        ``steps`` negative, not whole or beyond the range of ``int32``.

    Example:
      >>> gradient_descent_gain([3.0, 0.0], t=1.0, steps=[0, 1, 2], learning_rate=0.0625).tolist()
      [[0.0, 0.0], [0.375, 0.0], [0.5625, 0.0]]
    """
    dtype = working_dtype(variances, t, learning_rate, initial_gain)
    checked = as_variances(variances, dtype), as_positive("t", t, dtype), as_counts("steps", steps)
    return _descent(*checked, as_positive("learning_rate", learning_rate, dtype), jnp.asarray(initial_gain, dtype))


@jax.jit
def _learning_time(variances: jax.Array, t: jax.Array, fraction: jax.Array) -> jax.Array:
    return -jnp.log1p(-fraction)[..., None] / (2 * (variances + t[..., None]))


def learning_time(variances: ArrayLike, t: ArrayLike, fraction: ArrayLike = 0.5) -> jax.Array:
    r"""Return the training time at which a direction has reached a fraction of its final gain, eq. (2).

    Args:
      variances: ``(d,)`` eigenvalues of the second moment of the data trained on, ``>= 0``.
      t: noise variance ``> 0``.
      fraction: of the final gain, from 0 to 1; broadcast with ``t`` to a shape ``s``.

    Returns:
      Learning rate times steps, in units of one over a variance, shape ``s + (d,)``; +inf at ``fraction = 1``.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, ``fraction`` outside
        of [0, 1].

    Example:
      >>> slow, fast = learning_time([0.0, 3.0], t=1.0).tolist()
      >>> round(slow / fast, 5)
      4.0
    """
    dtype = working_dtype(variances, t, fraction)
    checked = as_variances(variances, dtype), as_positive("t", t, dtype)
    return _learning_time(*checked, as_between("fraction", fraction, 0, 1, dtype))


def _contour(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Upper halves of nodes Z and weights, so that the sum of Im(weight f(Z)) is the integral of e^Z f over 2 pi i.

    The cotangent contour of Trefethen, Weideman and Schmelzer (2006): the error falls as 3.89 to minus the number of
    nodes, rounding is amplified by the largest e^Z, 8 with 12 nodes and 60 with 24.
    """
    nodes = 24 if dtype == np.float64 else 12
    theta = np.pi * (2 * np.arange(nodes // 2) + 1) / nodes
    angle = 0.6407 * theta
    z = nodes * (-0.6122 + 0.5017 * theta / np.tan(angle) + 0.2645j * theta)
    slope = nodes * (0.5017 * (1 / np.tan(angle) - angle / np.sin(angle) ** 2) + 0.2645j)
    return z, 2 / nodes * np.exp(z) * slope


def _complex_noise(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Continue the effective noise of the linear score to ``t`` of the open upper half plane, shape ``(nodes,)``.

    Log kappa is an analytic function of log t that maps the strip between real axis and i pi to itself, which bounds
    its slope: the root at abs(t) can be followed along the arc to t.
    """
    inverse_n = jnp.exp(-log_n)

    def newton(log_kappa: jax.Array, variances: jax.Array, inverse_n: jax.Array, t: jax.Array) -> jax.Array:
        kappa = jnp.exp(log_kappa)
        share = variances / (variances + kappa[:, None])
        rest = 1 - inverse_n * jnp.sum(share, axis=1)  # t / kappa at the root
        slope = 1 - inverse_n * jnp.sum(share**2, axis=1)  # dt / dkappa
        return log_kappa - (rest - t / kappa) / slope

    fixed = jax.lax.stop_gradient((variances, inverse_n, t))
    modulus, angle = jnp.abs(fixed[2]), jnp.angle(fixed[2])

    def turn(step: jax.Array, log_kappa: jax.Array) -> jax.Array:
        turned = modulus * jnp.exp(1j * angle * jnp.minimum((step + 1) / TURNS, 1))
        return newton(log_kappa, *fixed[:2], turned.astype(t.dtype))

    noise = jax.vmap(lambda t: linear_noise(fixed[0], jax.lax.stop_gradient(log_n), t))(modulus)
    start = jnp.log(noise).astype(t.dtype)
    root = jax.lax.fori_loop(0, TURNS + POLISH, turn, start)
    # Two steps from the root have its first three derivatives, whatever the loop does.
    for _ in range(2):
        root = newton(root, variances, inverse_n, t)
    return jnp.exp(root)


def gradient_flow_law(
    variances: jax.Array, log_n: jax.Array, t: jax.Array, training_time: jax.Array | float
) -> jax.Array:
    """Mean gains of the linear score trained on N points by gradient flow from 0, eq. (3): a law of early stopping."""
    time = jnp.asarray(training_time, t.dtype)
    z, weights = _contour(t.dtype)
    inverse_n = jnp.exp(-log_n)
    noise = linear_noise(variances, log_n, t)
    final = variances / (variances + noise)
    # At shorter times the contour would overflow, and nothing is learned.
    twice = 2 * jnp.maximum(time, 64 * jnp.finfo(t.dtype).tiny)
    complex_t = jnp.asarray(z, jnp.result_type(t.dtype, jnp.complex64)) / twice
    kappa = _complex_noise(variances, log_n, complex_t)[:, None]
    share = variances / (variances + kappa)
    filled = inverse_n * jnp.sum(share, axis=1, keepdims=True)
    overlap = inverse_n * jnp.sum(final * share, axis=1, keepdims=True)
    # The integrand less that of infinite data, whose integral is known: small where all is small.
    excess = (overlap - filled * (1 - share)) / ((variances + complex_t[:, None]) * (1 - overlap))
    decay = jnp.exp(-2 * time * t) / twice
    integral = decay * jnp.sum((jnp.asarray(weights, complex_t.dtype)[:, None] * excess).imag, axis=0)
    return final * (-jnp.expm1(-2 * time * (variances + t)) - integral)


@jax.jit
def _mean_flow(variances: jax.Array, log_n: jax.Array, t: jax.Array, time: jax.Array) -> jax.Array:
    return jnp.vectorize(partial(gradient_flow_law, variances), signature="(),(),()->(d)")(log_n, t, time)


def mean_gradient_flow_gain(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    training_time: ArrayLike | None = None,
    *,
    log_n: ArrayLike | None = None,
) -> jax.Array:
    r"""Return the gains of gradient flow on ``n`` points, averaged over training sets, eq. (3).

    Args:
      variances: ``(d,)`` variances along the directions of the population, ``>= 0``.
      n: dataset size ``>= 1``.
      t: noise variance ``> 0``.
      training_time: learning rate times steps, ``> 0``, in units of one over a variance, from weights of 0; broadcast
        with ``n`` and ``t`` to a shape ``s``.
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      Gains (no unit), shape ``s + (d,)``; in the limit of long times those of the linear law.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` or ``training_time`` not positive and finite,
        ``n < 1``.
      TypeError: unless ``t``, ``training_time`` and one of ``n`` and ``log_n`` are given.

    Example:
      Three points among eight directions: more training helps, up to the gain of the linear law.

      >>> early, late = mean_gradient_flow_gain([1.0] * 8, n=3, t=0.1, training_time=[0.1, 100.0])[:, 0].tolist()
      >>> round(early, 2), round(late, 2)
      (0.14, 0.35)
    """
    if t is None:
        raise TypeError("give the noise variance t")
    if training_time is None:
        raise TypeError("give the training_time, learning rate times steps")
    dtype = working_dtype(variances, t, training_time)
    checked = as_variances(variances, dtype), as_log_size(n, log_n, dtype), as_positive("t", t, dtype)
    return _mean_flow(*checked, as_positive("training_time", training_time, dtype))
