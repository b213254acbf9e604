r"""Population variances from the eigenvalues of a sample covariance: sampling spreads a spectrum out, this undoes it.

Model.  :math:`S=Y^\top Y/n` has eigenvalues :math:`s_1\ge\dots\ge s_d\ge0`; the :math:`n` rows of :math:`Y` are
independent and Gaussian with variances :math:`v_j` along unknown directions.  With :math:`n` of the order of :math:`d`
the largest eigenvalues are too large and the smallest too small; for :math:`n<d` there are :math:`d-n` zeros.

Results.  The law of the linear score (:mod:`theory.effective_noise`, eq. (2)) holds sample by sample, so that for every
ridge :math:`\lambda>0` the effective noise and the soft dimension at it are *read off the eigenvalues*:

.. math:: \kappa(\lambda)=\lambda\Big/\Bigl(1-\frac1n\sum_i\frac{s_i}{s_i+\lambda}\Bigr),\qquad
          \sum_j\frac{v_j}{v_j+\kappa}\simeq m(\lambda)=\sum_i\frac{s_i}{s_i+\lambda}-\beta(\lambda), \tag{1}

with the mean of order one, in :math:`p_i=\lambda/(s_i+\lambda)` and averages over :math:`n`,
:math:`\langle f\rangle=1+\frac1n\sum_{i\le\min(n,d)}[f(p_i)-1]`,

.. math:: \beta=\frac{\langle p\rangle\,\langle p^2(1-p)\rangle}{\langle p^2\rangle^2}
          -\frac{\langle p(1-p)\rangle}{\langle p^2\rangle}, \tag{2}

where :math:`1-p` counts as 0 outside the sum.  The fluctuations of (1) about equality are Gaussian.  With
:math:`a_j=v_j/(v_j+\kappa)`, :math:`w_j=a_j(1-a_j)` and a prime for a second ridge,

.. math:: \gamma=\frac1n\sum_ja_ja_j',\qquad C=\frac{2\sum_jw_jw_j'}{n(1-\gamma)}
          +\frac{2\sum_jw_ja_j'\,\sum_ja_jw_j'}{n^2(1-\gamma)^2}. \tag{3}

The estimate is the maximum of the posterior of :math:`\log v`: likelihood (1)-(3) at 32 ridges, and a smoothness prior
on the correction :math:`h=\log(v/v^{(0)})` of a locally shrunk spectrum :math:`v^{(0)}`.  The posterior is Gaussian
about its maximum (Laplace), with covariance ``modes.T @ modes``.

Scope.  Asymptotic, :math:`d\to\infty` at fixed :math:`d/n`, relative corrections :math:`O(1/d)`.  Gaussian data: excess
kurtosis adds to :math:`\beta` and :math:`C`, not to the leading order of (1).  Smooth functions of the spectrum
(information, condensation time) depend on it through (1) and are estimated to about :math:`1/d`; the *individual*
variances are known only as well as the prior can separate them.  With :math:`n<d` variances below ``resolution`` are
conditional on the prior: the data say how much variance there is in total, not how it is shared.
Source.  The equation is that of Marchenko and Pastur (Silverstein 1995), its use to estimate the population El Karoui's
(2008), mean and covariance those of Bai and Silverstein (2004) in the variable kappa; the posterior is built here.
Derivation: DERIVATIONS.md, section S.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._inputs import ArrayLike, as_positive, as_variances, working_dtype

_RIDGES = 32  # 2 or 3 a decade over 12 decades; the sums in (1) are smooth over a factor of e
_KNOTS = 48  # of the correction, piecewise linear; with fewer directions every one is a knot
_LARGEST_GAMMA = 0.8  # smaller ridges feel the edge at 0, where fluctuations are not Gaussian (n near d)
_NEIGHBOURHOOD = 4.0  # width over which eigenvalues mix: twice the half-width 2 sqrt(c) of the spread of one variance
_JITTER = 1e-4  # relative variance added to (3): neighbouring ridges are almost the same measurement
_MAX_STEPS, _STALLED = 80, 1e4  # of the search, and its damping when no step is small enough
_TWO_SIDED_95 = 1.959964


_Search = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


class SampleSpectrum(NamedTuple):
    """A population spectrum estimated from ``d`` sample eigenvalues; units of variance.

    Attributes:
      variances: ``(d,)``, in decreasing order; their sum is that of the eigenvalues.
      lower: ``(d,)`` lower ends of pointwise 95 % intervals for the ``i``-th largest population variance.
      upper: ``(d,)`` upper ends.
      modes: ``(k, d)`` independent deviations of one standard error each; ``modes.T @ modes`` is the covariance.
      resolution: smallest effective noise that was measured; smaller variances rest on the prior.
    """

    variances: jax.Array
    lower: jax.Array
    upper: jax.Array
    modes: jax.Array
    resolution: jax.Array

    def standard_error(self, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """Return the standard error, to first order, of a differentiable function of the ``(d,)`` variances."""
        change = jax.vmap(lambda mode: jax.jvp(function, (self.variances,), (mode,))[1])(self.modes)
        return jnp.sqrt(jnp.sum(change**2, axis=0))


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


def _solve(root: jax.Array, b: jax.Array, transposed: bool = False) -> jax.Array:
    """``x`` of ``root @ x = b``, or of ``root.T @ x = b``, for a lower triangle and columns ``b``."""
    # As jax.scipy.linalg does, which costs 6 ms to import.
    return lax.linalg.triangular_solve(root, b, left_side=True, lower=True, transpose_a=transposed)


def measured_counts(
    eigenvalues: jax.Array, rank: jax.Array, n: jax.Array, ridge: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Effective noise kappa, soft dimension m and gamma (3) at every ridge, from the eigenvalues alone, eqs. (1), (2).

    The first ``rank`` eigenvalues are positive, the others 0.
    """
    q = eigenvalues / (eigenvalues + ridge[:, None])
    p = jnp.where(jnp.arange(eigenvalues.size) < rank, ridge[:, None] / (eigenvalues + ridge[:, None]), 0)
    first, second = ((n - rank + jnp.sum(p**k, axis=1)) / n for k in (1, 2))
    mixed, third = (jnp.sum(p**k * q, axis=1) / n for k in (1, 2))
    beta = first * third / second**2 - mixed / second
    return ridge / first, jnp.sum(q, axis=1) - beta, 1 - first**2 / second


def count_covariance(variances: jax.Array, n: jax.Array, kappa: jax.Array) -> jax.Array:
    """Covariance of the soft dimensions at all pairs of effective noises, eq. (3)."""
    a, w = _responses(variances, kappa)
    gamma = _dot(a, a.T) / n
    # A trial spectrum may be one that cannot have these kappa (gamma >= 1); the true one can.
    gamma = gamma * jnp.minimum(1, 0.98 / jnp.max(jnp.diag(gamma)))
    cross = _dot(w, a.T) / n
    return 2 * (_dot(w, w.T) / n / (1 - gamma) + cross * cross.T / (1 - gamma) ** 2)


def _responses(variances: jax.Array, kappa: jax.Array) -> tuple[jax.Array, jax.Array]:
    a = variances / (variances + kappa[:, None])
    return a, a * (kappa[:, None] / (variances + kappa[:, None]))


class _Start(NamedTuple):
    """Where the search starts and how far it may go: eigenvalues shrunk to their neighbours, and the prior."""

    variances: jax.Array  # (d,)
    hats: jax.Array  # (k, d): the correction is a sum of hats
    precision: jax.Array  # (k, k): of the prior of their heights


def _hats(log_values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return knots (as indices of directions) and hat functions, both along the quantile curve of the spectrum.

    Half of the length is distance in log variance, half in the logit of the rank: knots are dense where the spectrum
    falls steeply, gaps included, and at the first and last ranks.
    """
    d = log_values.size
    if d <= _KNOTS:
        return jnp.arange(d), jnp.eye(d, dtype=log_values.dtype)
    rank = np.arange(d) + 0.5
    logit = np.log(rank / (d - rank))
    along = jnp.asarray((logit - logit[0]) / (logit[-1] - logit[0]), log_values.dtype)
    fall = log_values[0] - log_values
    along = along + fall / jnp.maximum(fall[-1], 1e-3)
    distance = jnp.abs(jnp.linspace(0, 1, _KNOTS, dtype=along.dtype)[:, None] - along / along[-1])
    return jnp.argmin(distance, axis=1), jnp.maximum(1 - distance * (_KNOTS - 1), 0)


def _start(values: jax.Array, live: jax.Array, n: jax.Array) -> _Start:
    """Shrink every eigenvalue to the mean of those that sampling mixes it with, if they scatter by sampling alone.

    A variance shared by ``c n`` directions is spread by ``2 sqrt(c)`` to either side, with a relative variance of
    ``c``.  Here ``c`` is counted in a neighbourhood whose width is found with it.
    """
    knots, hats = _hats(jnp.log(values))
    here = values[knots]
    log_ratio = jnp.abs(jnp.log(here[:, None] / values))
    share = jnp.ones(here.size, values.dtype)
    for _ in range(4):
        falling = jnp.exp(-log_ratio / jnp.minimum(1, _NEIGHBOURHOOD * jnp.sqrt(share))[:, None])
        weight = jnp.where(live, 4 * falling / (1 + falling) ** 2, 0)
        share = jnp.sum(weight, axis=1) / n
    total = jnp.sum(weight, axis=1)
    mean = jnp.sum(weight * values, axis=1) / total
    scatter = jnp.sum(weight * (values / mean[:, None] - 1) ** 2, axis=1) / total
    kept = jnp.sqrt(jnp.maximum(1 - share / jnp.maximum(scatter, share), 1e-8))
    shift = jnp.log(mean / here + kept * (1 - mean / here))
    # From knot to knot the correction changes by about a spread; its level is almost free.
    spread = jnp.minimum(0.5, 2 * jnp.sqrt(share))
    steps = jnp.diff(jnp.eye(here.size, dtype=values.dtype), axis=0) / jnp.sqrt(spread[1:] * spread[:-1])[:, None]
    precision = _dot(steps.T, steps) + jnp.diag(1 / (400 * share))
    variances = jnp.where(live, values * jnp.exp(_dot(shift, hats)), 0)
    # In units of the mean of the live ones.
    return _Start(variances * (jnp.sum(live) / jnp.sum(variances)), hats, precision)


def _maximum(start: _Start, n: jax.Array, kappa: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the spectrum of largest posterior, differentiated implicitly, and the precision of the hat heights."""
    rounding = (4 * jnp.finfo(counts.dtype).eps * counts) ** 2

    def spectrum(h: jax.Array) -> jax.Array:
        return start.variances * jnp.exp(_dot(h, start.hats))

    def root_of_covariance(h: jax.Array) -> jax.Array:
        covariance = count_covariance(spectrum(h), n, kappa)
        covariance = covariance + jnp.diag(_JITTER * jnp.diag(covariance) + rounding)
        scale = jnp.sqrt(jnp.diag(covariance))
        return jnp.linalg.cholesky(covariance / scale[:, None] / scale) * scale[:, None]

    def misfit(h: jax.Array, root: jax.Array) -> tuple[jax.Array, jax.Array]:
        a, w = _responses(spectrum(h), kappa)
        residual = _solve(root, (jnp.sum(a, axis=1) - counts)[:, None])[:, 0]
        return residual, _solve(root, _dot(w, start.hats.T))

    def cost(h: jax.Array, residual: jax.Array) -> jax.Array:
        return jnp.sum(residual**2) + jnp.sum(h * _dot(start.precision, h))

    def gradient(h: jax.Array) -> jax.Array:
        residual, slopes = misfit(h, root_of_covariance(h))
        return _dot(slopes.T, residual) + _dot(start.precision, h)

    # A gain of one is one standard error; in single precision the search may stall on rounding before.
    negligible = jnp.finfo(counts.dtype).eps ** 0.5

    def solve(_: Callable[[jax.Array], jax.Array], h: jax.Array) -> jax.Array:
        def step(state: _Search) -> _Search:  # of Levenberg-Marquardt, weighed with the covariance of where it stands
            h, damping, _, count = state
            root = root_of_covariance(h)
            residual, slopes = misfit(h, root)
            curvature = _dot(slopes.T, slopes) + (1 + damping) * start.precision
            downhill = _dot(slopes.T, residual) + _dot(start.precision, h)
            root_of_curvature = jnp.linalg.cholesky(curvature)
            move = _solve(root_of_curvature, _solve(root_of_curvature, downhill[:, None]), transposed=True)[:, 0]
            better = cost(h - move, misfit(h - move, root)[0]) < cost(h, residual)
            gain = (1 + damping) * jnp.sum(move * downhill)
            return (jnp.where(better, h - move, h), jnp.where(better, damping / 5, damping * 4), gain, count + 1)

        def unfinished(state: _Search) -> jax.Array:
            return (state[2] > negligible) & (state[1] < _STALLED) & (state[3] < _MAX_STEPS)

        one = jnp.ones((), h.dtype)
        return lax.while_loop(unfinished, step, (h, one, one, jnp.zeros((), jnp.int32)))[0]

    def solve_tangent(linear: Callable[[jax.Array], jax.Array], y: jax.Array) -> jax.Array:
        return jnp.linalg.solve(lax.map(linear, jnp.eye(y.size, dtype=y.dtype)).T, y)

    h = lax.custom_root(gradient, jnp.zeros(start.hats.shape[0], counts.dtype), solve, solve_tangent)
    slopes = misfit(h, root_of_covariance(h))[1]
    return spectrum(h), _dot(slopes.T, slopes) + start.precision


@jax.jit
def _spectrum_from_samples(eigenvalues: jax.Array, n: jax.Array) -> SampleSpectrum:
    total = jnp.sum(eigenvalues)
    ordered = -jnp.sort(-jnp.where(total > 0, eigenvalues, 1))
    index = jnp.arange(ordered.size)
    rank = jnp.minimum(jnp.sum(ordered > 0), jnp.floor(n))
    # Fewer positive eigenvalues than points: the others are zero in the population.  (One fewer is not enough to tell:
    # a mean was subtracted and n given for n - 1.)
    live = (index < rank) | (rank >= n - 1)
    scale = jnp.sum(ordered) / jnp.sum(live)
    relative = jnp.where(index < rank, ordered, 0) / scale
    smallest = jnp.min(jnp.where(index < rank, relative, jnp.inf))

    def ridges(lowest: jax.Array) -> jax.Array:
        return jnp.exp(jnp.linspace(jnp.log(10 * relative[0]), jnp.log(lowest), _RIDGES))

    wide = ridges(0.3 * smallest)
    gamma = measured_counts(relative, rank, n, wide)[2]
    lowest = jnp.min(jnp.where(gamma <= _LARGEST_GAMMA, wide, wide[0]))
    kappa, counts, _ = measured_counts(relative, rank, n, ridges(lowest))
    # Zeros of too few points, and values below what was measured, start at its lower end.
    start = _start(jnp.maximum(jnp.maximum(relative, smallest), kappa[-1]), live, n)
    variances, precision = _maximum(start, n, kappa, counts)
    modes = _solve(jnp.linalg.cholesky(precision), start.hats)
    modes = jnp.where(live, modes, 0)
    order = jnp.argsort(-variances)
    variances = (variances * (total / jnp.sum(variances)))[order]
    modes = modes[:, order]
    resolution = jnp.where(total > 0, kappa[-1] * scale, 0)
    factor = jnp.exp(_TWO_SIDED_95 * jnp.sqrt(jnp.sum(modes**2, axis=0)))
    return SampleSpectrum(variances, variances / factor, variances * factor, modes * variances, resolution)


def spectrum_from_samples(eigenvalues: ArrayLike, n: ArrayLike) -> SampleSpectrum:
    r"""Estimate the population variances behind the eigenvalues of a sample covariance.

    The intervals are posterior, from eqs. (1)-(3) and the smoothness prior.  In simulations their frequentist coverage
    is at least nominal on average over the directions for :math:`n\ge d/2` and spectra from flat to a steep power law;
    single directions beside a jump of the spectrum are covered less often, and at :math:`n=d/4` 0.8 of them are.
    Intervals of smooth functions are to be made from :meth:`SampleSpectrum.standard_error`, which knows the
    correlations: they are far shorter than the ends of ``lower`` and ``upper`` suggest.

    Args:
      eigenvalues: ``(d,)`` eigenvalues ``>= 0`` of the sample covariance, in any order, zeros included: ``d`` is their
        number.  Rounding leaves zeros slightly negative: clip them.  Beyond the ``n`` largest all are taken for zeros.
      n: number ``>= 1`` of points, with known mean and covariance divided by ``n``; with the mean subtracted give the
        number of points less one, and eigenvalues of the covariance divided by that.

    Returns:
      The estimate.  With fewer positive eigenvalues than ``n - 1`` the other variances are 0, exactly.
      Derivatives are taken at fixed knots and ridges, which change by jumps.

    Raises:
      ValueError: for eigenvalues that are negative or not finite, or ``n`` that is not one finite number ``>= 1``.

    Example:
      Equal variances, seen through twice as many points, are spread by :math:`(1\pm\sqrt{1/2})^2`:

      >>> angle = np.pi * (np.arange(16) + 0.5) / 16
      >>> seen = 1.5 + 2 * np.sqrt(0.5) * np.cos(angle)
      >>> [round(float(v), 1) for v in (seen[0], seen[-1])]
      [2.9, 0.1]
    """
    dtype = working_dtype(eigenvalues)
    if np.ndim(n) != 0:
        raise ValueError(f"n must be one number, got shape {np.shape(n)}")
    if not isinstance(n, jax.core.Tracer) and not np.all(np.asarray(n) >= 1):
        raise ValueError(f"n must be >= 1, got n = {n}")
    return _spectrum_from_samples(as_variances(eigenvalues, dtype, "eigenvalues"), as_positive("n", n, dtype))
