r"""Repeated training points: the size of the data set without repeats that responds in the same way.

Model.  :math:`M` distinct training points are drawn independently from the Gaussian of variances :math:`\sigma_i^2`,
whatever their multiplicities; point :math:`\mu` appears :math:`k_\mu` times, :math:`N=\sum_\mu k_\mu`,
:math:`p_\mu=k_\mu/N`.  The **effective size** :math:`N_{\rm eff}` is the size at which distinct points have the same
effective noise :math:`\kappa` (:mod:`theory.effective_noise`, whose equations are (2) and (3) below).  Pass its
logarithm on as ``log_n=`` to :func:`theory.effective_noise`, :func:`theory.gain` and :func:`theory.soft_dimension`.

*Empirical* score at points outside the training set: with :math:`m=t/\kappa`,

.. math:: \log N_{\rm eff}=H(q)=-\sum_\mu q_\mu\log q_\mu,\qquad q_\mu=\frac{k_\mu^m}{\sum_\nu k_\nu^m}, \tag{4}

where :math:`\kappa` solves (3) with (4) on its right.  The root is unique: as :math:`m` grows the left side of (3)
rises and :math:`H(q)` falls.  At condensation, :math:`m=1`, the effective size is the exponential of the entropy
:math:`H(p)` of the frequencies: :math:`I(t_c)=H(p)`.  Far below it, :math:`m\to0`, it is :math:`M`: only which point is
nearest counts then.  Above condensation :math:`\kappa=t` at every size that is not condensed, and :math:`H(p)` is
returned.

*Linear* score, :math:`\hat\Sigma=\sum_\mu p_\mu y^\mu y^{\mu\top}` and known mean:

.. math:: \frac t\kappa=\sum_\mu\frac{p_\mu}{1+p_\mu\delta},\qquad
          \delta=\frac\kappa t\sum_j\frac{\sigma_j^2}{\sigma_j^2+\kappa},\qquad
          N_{\rm eff}=\frac{\sum_\mu p_\mu/(1+p_\mu\delta)}{\sum_\mu p_\mu^2/(1+p_\mu\delta)}. \tag{5}

It is :math:`1/\sum_\mu p_\mu^2` where :math:`N_{\rm eff}` is large against the resolved directions and rises to
:math:`M` where :math:`t\to0` and :math:`M` is below the number of directions.  Under both laws
:math:`1/\sum_\mu p_\mu^2\le N_{\rm eff}\le M\le N`.

*Planted point.*  A training point with ``k`` copies has ``k`` times the odds, against :math:`N-k` others: with
:math:`A` of :mod:`theory.planted`,

.. math:: W=\Bigl[1+\frac{N-k}k\,e^{-A}\Bigr]^{-1}, \tag{6}

which is eq. (1) of that module for a data set of :math:`N/k` points.  So ``log_n = log N - log k`` is all that
:func:`theory.planted_response`, :func:`theory.onset_time`, :func:`theory.condensation_time` and
:func:`theory.basin_multiplicity` need: repeated points are memorized first, at larger noise.  Condition: the others are
taken at their mean, hence not condensed, :math:`I(t)\le H(p)`.  At the condensation time of :math:`N/k` this is
:math:`p_\mu\ge e^{-H(p)}`; a point with fewer copies competes with others that have condensed and weigh less than
their mean, and is memorized at a larger noise than (6) says.

Scope.  Asymptotic as the laws themselves: (4) as :math:`d\to\infty` at fixed :math:`\log N_{\rm eff}/d`, (5) at fixed
:math:`d/N_{\rm eff}` (mean gains within 2 % at 160 directions).  At finite ``d`` the transition is rounded and ``m`` is
below :math:`t/\kappa` near it: at 16 to 40 directions a data set without repeats of the size (4) has mean gains 3 to
12 % low between half of :math:`t_c` and :math:`t_c` (there ``M`` points are as far off, to the other side), 0 to 4 %
at a fifth.  (4) holds better with :math:`m=1-\mathbb E\,Y`, the mean participation ratio at that size, measured or
exact: mean gains are then within 2 % below :math:`t_c`, where :math:`\mathbb E\,Y` is above about 0.25, and up to 5 %
high above.  This is :func:`log_size_at_participation`.
Source.  Derived here: DERIVATIONS.md, section D.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ._inputs import ArrayLike, as_between, as_multiplicities, as_positive, as_variances, working_dtype
from ._roots import decreasing_root
from .effective_noise import empirical_budget, empirical_reach


def _compressed(multiplicities: npt.ArrayLike, dtype: np.dtype) -> tuple[jax.Array, jax.Array]:
    """Distinct multiplicities over the largest, ascending to 1, and how many points have each."""
    values, counts = np.unique(as_multiplicities(multiplicities), return_counts=True)
    return jnp.asarray(values / values[-1], dtype), jnp.asarray(counts, dtype)


# Below: values and counts (K,) as above, variances (d,), t ().


def _entropy(values: jax.Array, counts: jax.Array, m: jax.Array) -> jax.Array:
    """Entropy of eq. (4), as a sum of positive terms: relative precision even where one point outweighs all others."""
    log_values = jnp.log(values)
    weights = counts * jnp.exp(m * log_values)
    top = counts[-1]
    return jnp.log(top) + jnp.log1p(jnp.sum(weights[:-1]) / top) - m * jnp.sum(weights * log_values) / jnp.sum(weights)


def _empirical_log_size(variances: jax.Array, values: jax.Array, counts: jax.Array, t: jax.Array) -> jax.Array:
    at_condensation = _entropy(values, counts, jnp.ones_like(t))
    condensed = jnp.sum(empirical_budget(variances, t, jnp.zeros_like(t))) > at_condensation

    def deficit(w: jax.Array) -> jax.Array:  # w = log(kappa/t)
        spent = jnp.sum(empirical_budget(variances, t * jnp.exp(w), t * jnp.expm1(w)))
        return spent - _entropy(values, counts, jnp.exp(-w))

    # The entropy is least at m = 1, and kappa falls with it.
    high = empirical_reach(variances, jnp.where(at_condensation > 0, at_condensation, 1), t)
    w = decreasing_root(deficit, jnp.zeros_like(high), high)
    return jnp.where(condensed, _entropy(values, counts, jnp.exp(-w)), at_condensation)


def _linear_log_size(variances: jax.Array, values: jax.Array, counts: jax.Array, t: jax.Array) -> jax.Array:
    p = values / jnp.sum(counts * values)

    def directions(w: jax.Array) -> jax.Array:
        return jnp.sum(variances / (variances + t * jnp.exp(w)))

    def deficit(w: jax.Array) -> jax.Array:  # 1 - (kappa/t) sum p/(1 + p delta), w = log(kappa/t)
        leverage = p * directions(w)
        return jnp.sum(counts * p * (jnp.expm1(-w) + leverage) / (jnp.exp(-w) + leverage))

    high = jnp.log1p(jnp.sum(counts * p**2) * jnp.sum(variances) / t)  # N_eff >= 1/sum p^2
    w = decreasing_root(deficit, jnp.zeros_like(high), high)
    shares = counts * p / (1 + p * jnp.exp(w) * directions(w))
    return jnp.log(jnp.sum(shares)) - jnp.log(jnp.sum(shares * p))


_LOG_SIZES = {"linear": _linear_log_size, "empirical": _empirical_log_size}


def _log_sizes(law: str, variances: jax.Array, values: jax.Array, counts: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.vectorize(lambda t: _LOG_SIZES[law](variances, values, counts, t))(t)


_jitted_log_sizes = jax.jit(_log_sizes, static_argnums=0)


@jax.jit
def _entropies(values: jax.Array, counts: jax.Array, m: jax.Array) -> jax.Array:
    return jnp.vectorize(lambda m: _entropy(values, counts, m))(m)


def log_size_at_participation(multiplicities: npt.ArrayLike, participation: ArrayLike) -> jax.Array:
    r"""Return the effective size of the empirical score where its participation ratio is known: eq. (4), m = 1 - Y.

    With a measured mean participation ratio no variances are needed.  The exact one depends on the size itself;
    a few rounds of ``participation = theory.mean_finite_size_participation(variances, log_n=log_size, t=t).mean``
    and this function, from :func:`effective_log_size` on, agree on both.

    Args:
      multiplicities: ``(M,)`` how often each distinct point appears, whole numbers ``>= 1``; not traced.
      participation: mean over held-out points of :math:`Y=\sum_\mu w_\mu^2`, the weight of a repeated point being that
        of its copies together; between 0 and 1, of any shape ``s``.

    Returns:
      Logarithms of sizes in nats, shape ``s``: from the entropy :math:`H(p)` at 0 to log ``M`` at 1.

    Raises:
      ValueError: for multiplicities that are not a list of whole numbers ``>= 1``, or a participation ratio outside
        [0, 1].

    Example:
      >>> round(float(jnp.exp(log_size_at_participation([30] + [1] * 70, 1.0))), 1)
      71.0
    """
    dtype = working_dtype(participation)
    m = 1 - as_between("participation", participation, 0, 1, dtype)
    return _entropies(*_compressed(multiplicities, dtype), m)


def effective_log_size(
    variances: ArrayLike, multiplicities: npt.ArrayLike, t: ArrayLike, law: str = "empirical"
) -> jax.Array:
    r"""Return :math:`\log N_{\rm eff}`, the effective size of a data set with repeated points, eqs. (4) and (5).

    It depends on the multiplicities only through their distinct values and how many points have each; time and memory
    of the solution grow with the number of distinct values.

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      multiplicities: ``(M,)`` how often each distinct point appears, whole numbers ``>= 1``; not traced.
      t: noise variance ``> 0``, of any shape ``s``.
      law: ``"empirical"`` (held-out points) or ``"linear"``, both asymptotic.  Infinite data have no size.

    Returns:
      Logarithms of sizes in nats, shape ``s``, between 0 and log ``M``.  To be used with the same ``t`` and law.

    Raises:
      ValueError: for variances that are negative or not finite, multiplicities that are not a list of whole numbers
        ``>= 1``, ``t`` not positive and finite, or another law.

    Example:
      One point 30 times and 70 points once condense like 36 distinct points, not like 100 or 71.

      >>> log_size = effective_log_size([1.0] * 20, [30] + [1] * 70, t=100.0)
      >>> round(float(jnp.exp(log_size)), 1)
      36.0
    """
    if law not in _LOG_SIZES:
        raise ValueError(f"law must be one of {', '.join(_LOG_SIZES)}, got {law!r}")
    dtype = working_dtype(variances, t)
    values, counts = _compressed(multiplicities, dtype)
    return _jitted_log_sizes(law, as_variances(variances, dtype), values, counts, as_positive("t", t, dtype))
