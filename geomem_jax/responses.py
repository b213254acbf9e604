r"""Responses of groups of directions to the scarcity of data: what an ablation measures (:mod:`geomem_jax.ablate`).

Of one training set, at every dataset size and noise variance of a condition, from the exact empirical score or the
linear one.  Training sets are nested in their size, and the same for all conditions of equal data.

*Finite differences.*  With the rows :math:`q_j` of a Haar random orthogonal matrix, one for each point, and probes
:math:`p_j=\ell q_j`,

.. math:: t\nabla s\approx\frac1\ell\sum_j\tfrac12\bigl[(D-x)(x+p_j)-(D-x)(x-p_j)\bigr]q_j^\top, \tag{1}

exact for a linear score; :math:`\ell=\sqrt{td}` is what arXiv 2410.08727 writes, :math:`\sqrt t` what its code has, and
the code takes one side only, which adds :math:`(D-x)(x)\,(\sum_jq_j)^\top/\ell`.  The stack of scores whose singular
values that paper takes is (1) up to a rotation of its rows.

*Normalized data of infinite number along an axis.*  At :math:`x=\sqrt te_i` the posterior of :math:`y=z/|z|`,
:math:`z\sim\mathcal N(0,\Sigma)`, is the prior times :math:`e^{y_i/\sqrt t}`.  It is sampled from ``z`` whose
coordinate ``i`` is shifted by ``s``, the maximum of
:math:`z_i/\sqrt{t(z_i^2+\sum_{j\ne i}\sigma_j^2)}-z_i^2/2\sigma_i^2`, with weights

.. math:: \log w=\frac{y_i}{\sqrt t}-\frac{sz_i}{\sigma_i^2}+\frac{s^2}{2\sigma_i^2}. \tag{2}

Source.  Derived here.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import theory
from geomem_jax import cells
from geomem_jax.ablate import Condition, Point
from geomem_jax.data.source import Source
from geomem_jax.data.synthetic import linear_manifold
from geomem_jax.denoisers import empirical, empirical_jacobian, linear
from geomem_jax.directions import group_by_variance

REFERENCE_SIZE = 2**17  # points of the disjoint set in place of infinite data
REFERENCE_POINTS = 512
REFERENCE_SET = 2**31 - 2  # folded into the key as the number of a training set
HIGHEST = jax.lax.Precision.HIGHEST


class Reference(NamedTuple):
    """Gains of infinite data.

    Attributes:
      gain: ``(T, g)``.
      participation: ``(T,)`` mean participation ratio of the set in place of infinite data (effective samples, of
        importance sampling); 0 where the population is known.  Near 1 the reference is none.
    """

    gain: np.ndarray
    participation: np.ndarray


def source_of(condition: Condition) -> Source:
    """The data of a condition, in the coordinates of their directions."""
    spread = np.concatenate([np.full(count, variance) for count, variance in condition.levels])
    return linear_manifold(spread, normalized=condition.normalized)


def averaged(values: np.ndarray, groups: list[np.ndarray]) -> np.ndarray:
    """Average the last axis over the directions of each group: ``(..., d)`` to ``(..., g)``."""
    return np.stack([values[..., group].mean(axis=-1) for group in groups], axis=-1)


def draw(condition: Condition, source: Source, random_seed: int, seed: int, points: int) -> cells.TrainingSet:
    """Draw a training set of the largest size, and held-out points."""
    grid = cells.Grid(condition.sizes, condition.times, 1, points, points, random_seed)
    return cells.draw(source, grid, seed)


def _points(condition: Condition, data: cells.TrainingSet, size: int, t: float, points: int) -> jax.Array:
    """Points of the class ``(B, d)``; of the class ``axis`` one per direction."""
    d, dtype = data.train.shape[1], data.train.dtype
    if condition.point == "origin":
        return jnp.zeros((1, d), dtype)
    if condition.point == "axis":
        return jnp.asarray(t**0.5, dtype) * jnp.eye(d, dtype=dtype)
    train = condition.point == "train"
    noise = jax.random.normal(data.train_key if train else data.held_out_key, (points, d), dtype)
    clean, count = (data.train, size) if train else (data.held_out, data.held_out.shape[0])
    return cells.cycled(clean, count, points) + jnp.asarray((condition.probe * t) ** 0.5, dtype) * noise


def differences(
    denoise: Callable[[jax.Array], jax.Array], key: jax.Array, x: jax.Array, length: jax.Array, one_sided: bool
) -> jax.Array:
    """Finite differences of a denoiser, eq. (1): ``(B, d, d)``, row: component, column: direction.

    Args:
      denoise: of many points, ``(n, d)`` to ``(n, d)``.
      key: of the orthogonal matrices.
      x: ``(B, d)`` points.
      length: of the probes.
      one_sided: as the released code.
    """
    b, d = x.shape
    q = jax.random.orthogonal(key, d, (b,), x.dtype)

    def shifts(at: jax.Array) -> jax.Array:
        flat = at.reshape(-1, d)
        return (denoise(flat) - flat).reshape(b, d, d)

    stack = shifts(x[:, None] + length * q)
    if not one_sided:
        stack = (stack - shifts(x[:, None] - length * q)) / 2
    return jnp.einsum("bjc,bji->bci", stack, q, precision=HIGHEST) / length


@partial(jax.jit, static_argnames="one_sided")
def probed(
    key: jax.Array, train: jax.Array, count: jax.Array, x: jax.Array, t: jax.Array, length: jax.Array, one_sided: bool
) -> jax.Array:
    """:func:`differences` of the exact empirical score of the first ``count`` rows of ``train``."""
    return differences(lambda at: empirical.posterior(train, count, at, t).mean, key, x, length, one_sided)


@partial(jax.jit, static_argnames="skip")
def visible(shift: jax.Array, skip: int = 0) -> tuple[jax.Array, jax.Array]:
    """Which share of every coordinate lies below the largest drop of the singular values of ``t grad s``.

    Args:
      shift: ``(B, d, d)``.
      skip: how many of the largest singular values to leave out; one if the mean score is among them.

    Returns:
      Shares ``(B, d)`` in [0, 1], and how many singular values lie above the drop, ``(B,)``.
    """
    vectors, values, _ = jnp.linalg.svd(shift)
    above = 1 + skip + jnp.argmax(values[:, skip:-1] - values[:, skip + 1 :], axis=1)
    below = jnp.arange(values.shape[1]) >= above[:, None]
    return jnp.einsum("bik,bk->bi", vectors**2, below.astype(shift.dtype), precision=HIGHEST), above


def _shift(condition: Condition, data: cells.TrainingSet, size: int, x: jax.Array, t: float) -> jax.Array:
    d = x.shape[1]
    if condition.estimator == "jacobian":
        axes = jnp.eye(d, dtype=x.dtype)
        model = empirical_jacobian.Model(data.train, jnp.asarray(size), axes, jnp.zeros(d, x.dtype))
        return empirical_jacobian.jacobian(model, x, t) - axes
    length = (t * d) ** 0.5 if condition.estimator == "probes" else t**0.5
    key = jax.random.fold_in(data.held_out_key, 1)
    noise, length = jnp.asarray(t, x.dtype), jnp.asarray(length, x.dtype)
    return probed(key, data.train, jnp.asarray(size), x, noise, length, condition.estimator == "one-sided")


def _at_points(
    condition: Condition, data: cells.TrainingSet, size: int, t: float, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gains or visible shares ``(B, d)``, and participation ratios ``(B,)`` (nan where they are not needed)."""
    x = _points(condition, data, size, t, points)
    if condition.estimator == "jacobian" and condition.frozen != "gap":
        found = empirical.posterior(data.train, size, x, t)
        return np.asarray(found.gain, np.float64), np.asarray(found.participation, np.float64)
    shift = _shift(condition, data, size, x, t)
    skip = int(condition.estimator == "one-sided")  # as the paper, which drops the mean score
    seen = visible(shift, skip)[0] if condition.frozen == "gap" else 1 + jnp.diagonal(shift, axis1=1, axis2=2)
    return np.asarray(seen, np.float64), np.full(len(x), np.nan)


def _summary(condition: Condition, gain: np.ndarray, participation: np.ndarray, groups: list[np.ndarray]) -> np.ndarray:
    """One number per group ``(g,)``, not yet over that of infinite data."""
    if condition.point == "axis":  # direction i is seen from point i
        gain, participation = np.diagonal(gain)[None], participation[None]
    else:
        participation = np.broadcast_to(participation.mean(), (1, gain.shape[1]))
    if condition.frozen == "participation":
        return averaged(1 - participation[0], groups)
    return averaged(np.median(gain, axis=0) if condition.frozen == "median" else gain.mean(axis=0), groups)


def axis_reference(key: jax.Array, source: Source, raw: np.ndarray, t: float, draws: int) -> tuple[np.ndarray, float]:
    """Gains of infinitely many normalized data along each axis from its own point, eq. (2).

    Args:
      key: of the draws.
      source: the normalized data.
      raw: ``(d,)`` variances before the normalization, descending.
      t: noise variance.
      draws: of the importance sampling.

    Returns:
      ``(g,)``, and the largest sum of squared weights.
    """
    gains, worst = [], 0.0
    noise = np.asarray(jax.random.normal(key, (draws, len(raw))), np.float64)
    for group in group_by_variance(source.variances):
        i = int(group[0])
        others = raw.sum() - raw[i]
        scan = np.linspace(0, 8 + raw[i] ** 0.5 / t**0.5, 4001) * raw[i] ** 0.5
        shift = scan[np.argmax(scan / np.sqrt(t * (scan**2 + others)) - scan**2 / (2 * raw[i]))]
        z = noise * np.sqrt(raw)
        z[:, i] += shift
        y = z[:, i] / np.linalg.norm(z, axis=1)
        log_weight = y / t**0.5 - shift * z[:, i] / raw[i]
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        gains.append(weight @ (y - weight @ y) ** 2 / t)
        worst = max(worst, float(weight @ weight))
    return np.array(gains), worst


def reference(condition: Condition, random_seed: int, *, size: int = REFERENCE_SIZE) -> Reference:
    """Find the gains of infinite data; 1 where the definition has no reference.

    Args:
      condition: what is measured.
      random_seed: of the run.
      size: points of the disjoint set (draws of the importance sampling).
    """
    source = source_of(condition)
    groups = group_by_variance(source.variances)
    times = np.asarray(condition.times)
    known = np.zeros(len(times))
    if condition.frozen not in ("mean", "median"):
        return Reference(np.ones((len(times), len(groups))), known)
    if source.gaussian:
        return Reference(averaged(np.asarray(theory.wiener_gain(source.variances, times)), groups), known)
    apart = jax.random.fold_in(jax.random.key(random_seed), REFERENCE_SET)
    if condition.point == "axis":
        raw = np.sort(np.concatenate([np.full(count, level) for count, level in condition.levels]))[::-1]
        pairs = [axis_reference(apart, source, raw, t, size) for t in condition.times]
        return Reference(np.array([gain for gain, _ in pairs]), np.array([weight for _, weight in pairs]))
    # Fresh points of the same class: of training points, others with as much noise.
    point: Point = "held_out" if condition.point == "train" else condition.point
    fresh = condition._replace(sizes=(size,), point=point, frozen="mean", estimator="jacobian")
    data = draw(fresh, source, random_seed, REFERENCE_SET, REFERENCE_POINTS)
    found = [_at_points(fresh, data, size, t, REFERENCE_POINTS) for t in condition.times]
    gains = np.array([averaged(gain.mean(axis=0), groups) for gain, _ in found])
    return Reference(gains, np.array([participation.mean() for _, participation in found]))


def respond(condition: Condition, infinite: Reference, random_seed: int, seed: int, points: int) -> np.ndarray:
    """Measure the response of one training set along the grid of a condition.

    Args:
      condition: of the models ``empirical`` and ``linear``.
      infinite: from :func:`reference`.
      random_seed: of the run.
      seed: which training set.
      points: at which gains are measured.

    Returns:
      ``(k, g)``.
    """
    source = source_of(condition)
    groups = group_by_variance(source.variances)
    data = draw(condition, source, random_seed, seed, points)
    rows = []
    for size in condition.sizes:
        for at, t in enumerate(condition.times):
            if condition.model == "linear":
                found = linear.gains(linear.fit(data.train, jnp.asarray(size), centred=False), jnp.asarray([t]))
                values = averaged(np.asarray(found[0], np.float64), groups)
            else:
                values = _summary(condition, *_at_points(condition, data, size, t, points), groups)
            rows.append(values / infinite.gain[at])
    return np.array(rows)
