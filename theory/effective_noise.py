r"""The effective-noise law: finite data act like extra noise.

Model.  Gaussian data with variances :math:`\sigma_i^2` along the directions, a training set of :math:`N` independent
points, noise variance :math:`t`.  For every solvable score model the mean gain has the Wiener form with another noise,

.. math:: \bar g_i(N,t)=\frac{\sigma_i^2}{\sigma_i^2+\kappa(N,t)},\qquad\kappa\ge t, \tag{1}

and only the **effective noise** :math:`\kappa` (a variance) differs.

*Population* (infinite data): :math:`\kappa=t`.

*Linear* score, :math:`D=\hat\Sigma(\hat\Sigma+t)^{-1}x` with :math:`\hat\Sigma=Y^\top Y/N` and known mean:

.. math:: \kappa\Bigl[1-\frac1N\sum_j\frac{\sigma_j^2}{\sigma_j^2+\kappa}\Bigr]=t. \tag{2}

(:math:`\mathbb E\,\hat\Sigma(\hat\Sigma+t)^{-1}\simeq\Sigma(\Sigma+\kappa)^{-1}`: removing one point from the resolvent
by Sherman-Morrison divides its contribution by :math:`1+y^\top(\hat\Sigma+t)^{-1}y/N`, whose concentrated value is
:math:`\kappa/t`.)  With an estimated mean put :math:`N-1` for :math:`N`, where :math:`\hat\Sigma` is divided by
:math:`N-1`; divided by :math:`N`, put :math:`tN/(N-1)` for :math:`t` as well.

*Empirical* score (softmax over the training points) at points :math:`x\sim p_t` outside the training set:
:math:`\kappa=t` while :math:`I(t)=\tfrac12\sum_j\log(1+\sigma_j^2/t)\le\log N`; below the condensation time the root
:math:`\kappa>t` of

.. math:: \tfrac12\sum_j\Bigl[\log\Bigl(1+\frac{\sigma_j^2}\kappa\Bigr)
          -\frac{\sigma_j^2(\kappa-t)}{(\kappa+\sigma_j^2)^2}\Bigr]=\log N. \tag{3}

(Below condensation few points carry the weight, those at the lowest energy :math:`E=\|x-y\|^2/2t` that :math:`N` draws
reach.  They look like draws from the prior tilted by :math:`e^{-mE}` with :math:`m<1`: Gaussian with mean
:math:`\sigma_i^2x_i/(\sigma_i^2+\kappa)` and variance :math:`\sigma_i^2\kappa/(\sigma_i^2+\kappa)`, :math:`\kappa=t/m`.
:math:`N` draws reach them when the relative entropy of tilt and prior is :math:`\log N`; averaged over
:math:`x_i^2\to\sigma_i^2+t` this is (3).  Their weights follow the
Poisson-Dirichlet law of parameter :math:`m`, so that :math:`\mathbb E\sum_\mu w_\mu^2=1-m` and the posterior variance
is :math:`m\sigma_i^2\kappa/(\sigma_i^2+\kappa)`; divided by :math:`t` this is (1).)  Hence also
the **participation ratio** :math:`Y=1-t/\kappa`.

Read backwards, (2) and (3) are closed forms: the data needed to resolve the variance :math:`\kappa` are
*linear* in the number of directions above it for the linear score, *exponential* for the empirical score.

Scope.  Population: exact.  Linear: asymptotic, :math:`d\to\infty` at fixed :math:`d/N`, relative correction
:math:`O(1/d)` for the mean.  Empirical: asymptotic, leading order as :math:`d\to\infty` at fixed :math:`\log N/d`, the
transition is rounded at finite ``d`` (5 to 40 % of a gain at 12 to 40 directions).
Source.  (2) is the self-consistent equation of sample-covariance resolvents (Marchenko-Pastur); (3) and the
participation ratio are derived here by the random-energy argument above.
"""

import jax
import jax.numpy as jnp

from ._inputs import ArrayLike, as_log_size, as_positive, as_variances, working_dtype
from ._roots import decreasing_root

# Everything below the façade takes one dataset size and one noise variance: variances (d,), log_n (), t ().


def population_noise(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Effective noise of infinite data, t."""
    return t


def linear_noise(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    r"""Effective noise of the linear score: the root of eq. (2), between t and :math:`t+\sum\sigma^2/N`."""
    inverse_n = jnp.exp(-log_n)

    def deficit(w: jax.Array) -> jax.Array:  # eq. (2) divided by kappa, w = log(kappa/t)
        return inverse_n * jnp.sum(variances / (variances + t * jnp.exp(w))) + jnp.expm1(-w)

    high = jnp.log1p(inverse_n * jnp.sum(variances) / t)
    return t * jnp.exp(decreasing_root(deficit, jnp.zeros_like(high), high))


def empirical_budget(variances: jax.Array, noise: jax.Array, excess: jax.Array) -> jax.Array:
    """Terms of eq. (3), half the bracket, for kappa = noise and kappa - t = excess; they sum to log N."""
    signal = variances / noise
    return 0.5 * (jnp.log1p(signal) - signal * (excess / noise) / (1 + signal) ** 2)


def empirical_reach(variances: jax.Array, budget: jax.Array, t: jax.Array) -> jax.Array:
    """Upper bound of log(kappa/t) where eq. (3) has ``budget`` > 0 on its right."""
    # With log(1 + x) <= x the left side of (3) is at most (2 sum v^2 + t sum v)/(2 kappa^2).
    largest = jnp.max(variances)
    relative = variances / jnp.where(largest > 0, largest, 1)
    signal = jnp.maximum(largest / t, 1)
    bound = (jnp.sum(relative**2) + jnp.sum(relative) / (2 * signal)) / budget
    return jnp.maximum(jnp.log(signal) + 0.5 * jnp.log(jnp.maximum(bound, jnp.finfo(t.dtype).tiny)), 0)


def empirical_noise(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Effective noise of the empirical score at points outside the training set: t, or the root of eq. (3)."""
    information = jnp.sum(empirical_budget(variances, t, jnp.zeros_like(t)))
    condensed = information > log_n
    budget = jnp.where(condensed & (log_n > 0), log_n, jnp.where(information > 0, information, 1))

    def deficit(w: jax.Array) -> jax.Array:  # w = log(kappa/t)
        return jnp.sum(empirical_budget(variances, t * jnp.exp(w), t * jnp.expm1(w))) - budget

    high = empirical_reach(variances, budget, t)
    noise = t * jnp.exp(decreasing_root(deficit, jnp.zeros_like(high), high))
    return jnp.where(condensed, jnp.where(log_n > 0, noise, jnp.inf), t)


NOISES = {"population": population_noise, "linear": linear_noise, "empirical": empirical_noise}


def noise_of(law: str, variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Effective noise under a named law at every element of ``log_n`` and ``t``, broadcast together."""
    if law not in NOISES:
        raise ValueError(f"law must be one of {', '.join(NOISES)}, got {law!r}")
    return jnp.vectorize(lambda log_n, t: NOISES[law](variances, log_n, t))(log_n, t)


_jitted_noise_of = jax.jit(noise_of, static_argnums=0)


def effective_noise(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    law: str = "empirical",
    *,
    log_n: ArrayLike | None = None,
) -> jax.Array:
    r"""Return the effective noise :math:`\kappa(N,t)` of a score model, eqs. (2) and (3).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``.
      t: noise variance ``> 0``; broadcast with ``n`` to a shape ``s``.
      law: ``"population"`` (exact), ``"linear"`` or ``"empirical"`` (asymptotic).
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      Noise variances, shape ``s``, at least ``t``; +inf for the empirical law at ``n = 1``.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, ``n < 1``, or an
        unknown law.
      TypeError: unless ``t`` and one of ``n`` and ``log_n`` are given.

    Example:
      >>> effective_noise([1.0, 1.0, 0.09], n=100, t=0.5, law="population").item()
      0.5
      >>> 0.5 < effective_noise([1.0, 1.0, 0.09], n=100, t=0.5, law="linear").item() < 0.52
      True
    """
    if t is None:
        raise TypeError("give the noise variance t")
    dtype = working_dtype(variances, t)
    return _jitted_noise_of(
        law, as_variances(variances, dtype), as_log_size(n, log_n, dtype), as_positive("t", t, dtype)
    )
