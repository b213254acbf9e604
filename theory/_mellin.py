"""The two integrals of :mod:`theory.finite_size`, its equations (1) to (3), evaluated with an error.

The contour of the inner integral crosses the real axis at its saddle, which is also the variable of the outer one, so
that nothing has to be solved for.  Where the saddle has passed a pole of the Gamma function, the residue is taken out.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ROUNDS, CELLS = 5, 48  # of the search for the window of log s
STRETCHES = 3  # iterations of the stretch of radii
STEEPEST = -2.0, 0.375  # slopes of a logarithm by chi-squared: stretches from 1/5 to 4
ROUNDING = 3000  # bound on the rounding of a result in units of the spacing at 1
BATCH = 1 << 16  # complex numbers held at once

# The 15-point Kronrod rule on [-1, 1] and the 7-point Gauss rule inside it (QUADPACK), non-negative half.
_NODES = (
    *(0.991455371120812639206854697526329, 0.949107912342758524526189684047851, 0.864864423359769072789712788640926),
    *(0.741531185599394439863864773280788, 0.586087235467691130294144691538318, 0.405845151377397166906606412076961),
    *(0.207784955007898467600689403773245, 0.0),
)
_KRONROD = (
    *(0.022935322010529224963732008058970, 0.063092092629978553290700663189204, 0.104790010322250183839876322541518),
    *(0.140653259715525918745189590510238, 0.169004726639267902826583426598550, 0.190350578064785409913256402421014),
    *(0.204432940075298892414161999234649, 0.209482141084727828012999174891714),
)
_GAUSS = (
    *(0, 0.129484966168869693270611432679082, 0, 0.279705391489276667901467771423780),
    *(0, 0.381830050505118944950369775488975, 0, 0.417959183673469387755102040816327),
)


class Rule(NamedTuple):
    """Panels of the integral over log s, and intervals of the Mellin-Barnes integral (even)."""

    panels: int
    contour: int


FINE = Rule(10, 40)
FAST = Rule(5, 24)  # for averages over points: float64 loses most of its digits, usually 1e-5 are left


class Estimate(NamedTuple):
    """A number or array with the numerical error of its evaluation.

    Attributes:
      mean: the average over training sets.
      error: bound on its numerical error, of the same shape; not a fluctuation over training sets.
    """

    mean: jax.Array
    error: jax.Array


class Point(NamedTuple):
    """Where the score is evaluated, as far as averages depend on it: groups of equal variance.

    Attributes:
      variances: ``(g,)`` variances, one per group.
      multiplicity: ``(g,)`` number of directions in each.
      radius: ``(g,)`` sum of ``x_i^2`` over each.
      t: noise variance.
      log_n: log of the number of training points of which nothing is known.
      log_own: minus the energy of the planted point, -inf without one.
      bias: 1 to weight training sets by the sum of their Boltzmann factors over its mean, 0 not to.
    """

    variances: jax.Array
    multiplicity: jax.Array
    radius: jax.Array
    t: jax.Array
    log_n: jax.Array
    log_own: jax.Array
    bias: jax.Array


class _Tilt(NamedTuple):
    """The prior tilted by exp(-c E), c real: inverse (g,) is 1/(t + c v); moments of E, and entropy relative to it."""

    c: jax.Array
    inverse: jax.Array
    energy: jax.Array
    variance: jax.Array
    entropy: jax.Array


def _tilted(p: Point, c: jax.Array) -> _Tilt:
    v, t = p.variances, p.t
    q = 1 / (t + c * v)
    return _Tilt(
        c,
        q,
        0.5 * jnp.sum(p.multiplicity * v * q + t * p.radius * q**2),
        jnp.sum(0.5 * p.multiplicity * (v * q) ** 2 + t * v * p.radius * q**3),
        0.5 * jnp.sum(p.multiplicity * (jnp.log1p(c * v / t) - c * v * q) + v * p.radius * (c * q) ** 2),
    )


def _energy_difference(p: Point, a: _Tilt, b: _Tilt) -> jax.Array:
    """Mean energy under ``a`` minus that under ``b``, without cancellation."""
    v, both = p.variances, a.inverse * b.inverse
    return 0.5 * (b.c - a.c) * jnp.sum(v * both * (p.multiplicity * v + p.t * p.radius * (a.inverse + b.inverse)))


def _log1p_ratio(z: jax.Array) -> jax.Array:
    """log(1 + z)/z for z > -1."""
    small = jnp.abs(z) < 1e-4
    safe = jnp.where(small, 1, z)
    return jnp.where(small, 1 - z / 2 + z * z / 3, jnp.log1p(safe) / safe)


def _log(z: jax.Array) -> jax.Array:
    """Logarithm of a complex number of moderate modulus, many times faster than jnp.log."""
    return lax.complex(0.5 * jnp.log(z.real**2 + z.imag**2), jnp.arctan2(z.imag, z.real))


def _gamma_exponent(z: jax.Array) -> jax.Array:
    """Log Gamma of a complex number up to multiples of 2 pi i: Stirling's series after eight steps up."""
    w = z + 8
    r = w.conj() / (w.real**2 + w.imag**2)
    r2 = r * r
    series = r * (1 / 12 + r2 * (-1 / 360 + r2 * (1 / 1260 + r2 * (-1 / 1680 + r2 * (1 / 1188 - r2 * 691 / 360360)))))
    steps = z
    for step in range(1, 8):
        steps = steps * (z + step)
    return (w - 0.5) * _log(w) - w + 0.5 * np.log(2 * np.pi) + series - _log(steps)


# The variable of the outer integral is the tilt c at the saddle of Gamma(k - c) s^c M(c), from -t/max(v), where s is
# infinite, to the pole at k, where s = 0; log s = energy(c) + digamma(k - c).  k ("kernel") is 1 for the gains and 2
# for the participation.  It is mapped to the real line by a sigmoid, y.


def _lowest_tilt(p: Point) -> jax.Array:
    # At most 60: the kernel e^(-a) alone ends the integral there.
    return jnp.maximum(-p.t / jnp.max(p.variances), -60)


def _saddle(p: Point, y: jax.Array, kernel: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tilt, its distance from the pole, and its derivative by ``y``."""
    lowest = _lowest_tilt(p)
    up, down = jax.nn.sigmoid(y), jax.nn.sigmoid(-y)
    span = kernel - lowest
    return jnp.where(y > 0, kernel - span * down, lowest + span * up), span * down, span * up * down


def _log_s_derivative(p: Point, y: jax.Array, kernel: int) -> jax.Array:
    """Minus d log s/dy, for log s falls as y grows."""
    c, distance, speed = _saddle(p, y, kernel)
    return (_tilted(p, c).variance + lax.polygamma(jnp.ones_like(distance), distance)) * speed


def _estimate(p: Point, y: jax.Array, kernel: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Saddle-point estimates in ``y``: log of the integrand, how densely it asks for nodes, and N log phi."""
    c, distance, speed = _saddle(p, y, kernel)
    tilt, one = _tilted(p, c), _tilted(p, jnp.ones_like(c))
    offset = lax.digamma(distance)
    curvature = tilt.variance + lax.polygamma(jnp.ones_like(distance), distance)
    log_a = p.log_n - tilt.entropy + c * offset + lax.lgamma(distance) - 0.5 * jnp.log(2 * np.pi * curvature)
    # N (1 - phi), or N phi for negative tilts; at most the first term of its series, which it is beyond tilt 1.
    log_lost = log_a - jnp.log(jnp.abs(c) if kernel == 1 else jnp.abs(c * (1 - c)))
    log_lost = jnp.where(c < 1, log_lost, jnp.inf)
    first_term = p.log_n - one.entropy + _energy_difference(p, tilt, one) + offset
    half = p.log_n - np.log(2)
    bounded = jnp.minimum(jnp.minimum(log_lost, first_term), half)
    lost = jnp.exp(jnp.minimum(bounded, 60))
    n_log_phi = jnp.where(
        c > 0,
        -lost * _log1p_ratio(-jnp.exp(bounded - p.log_n)),
        (jnp.minimum(log_lost, half) - p.log_n) * jnp.exp(p.log_n),
    )
    own = tilt.energy + offset + p.log_own
    pairs = log_a + jnp.logaddexp(log_a, own) if kernel == 1 else jnp.logaddexp(log_a, 2 * own)
    value = pairs + n_log_phi - jnp.exp(jnp.minimum(own, 60)) - p.bias * first_term + jnp.log(curvature * speed)
    # Scales of log s: 1/c for the falling phi^N, the width of the saddle, and 1 where the planted point cuts off.
    cut = 1 / jnp.cosh(jnp.clip(own, -60, 60) / 2) ** 2
    density = curvature * speed * jnp.sqrt(jnp.maximum(c, 0) ** 2 + 1 / curvature + cut)
    return jnp.where(jnp.isnan(value), -jnp.inf, value), density, n_log_phi


def _nodes(p: Point, kernel: int, panels: int) -> tuple[jax.Array, jax.Array]:
    """Nodes y ``(S,)`` of the outer integral and weights ``(2, S)``: the Kronrod rule and the Gauss rule inside it."""
    dtype = p.variances.dtype
    lowest, one = _lowest_tilt(p), _tilted(p, jnp.ones((), dtype))
    low = jnp.log(-1e-3 * lowest / (kernel - lowest))
    high = jnp.log((kernel - lowest) * (200 + jnp.maximum(p.log_n - one.entropy, 0)))
    cells = jnp.arange(CELLS + 1, dtype=dtype) / CELLS
    negligible = np.log(np.finfo(dtype).eps)

    def zoom(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        y = ends[0] + (ends[1] - ends[0]) * cells
        value = jax.vmap(lambda y: _estimate(p, y, kernel)[0])(y)
        kept = value >= jnp.max(value) + negligible
        first, last = jnp.argmax(kept), CELLS - jnp.argmax(kept[::-1])
        return y[jnp.maximum(first - 1, 0)], y[jnp.minimum(last + 1, CELLS)]

    low, high = lax.fori_loop(0, ROUNDS, zoom, (low, high))
    y = low + (high - low) * cells
    density = jax.vmap(lambda y: _estimate(p, y, kernel)[1])(y)
    grown = jnp.concatenate([jnp.zeros(1, dtype), jnp.cumsum(density[1:] + density[:-1])])
    breaks = jnp.interp(jnp.arange(panels + 1) / panels, grown / grown[-1], y)
    half = 0.5 * jnp.diff(breaks)[:, None]
    inside = np.concatenate([-np.array(_NODES[:-1]), np.array(_NODES[::-1])])
    rules = np.array([[*part[:-1], *part[::-1]] for part in (_KRONROD, _GAUSS)])
    nodes, weights = breaks[:-1, None] + half * (1 + inside), half * rules[:, None, :]
    return nodes.ravel().astype(dtype), weights.reshape(2, -1).astype(dtype)


class Node(NamedTuple):
    """Eq. (3) at one s, by the fine and the coarse contour rule (leading axis 2), multiplied by N.

    Moments are about the mean of the tilt c of the crossing, ``(2, g)``: that of ``y_i`` is ``mean`` times ``x_i``,
    that of ``y_i^2`` is ``spread`` plus ``square`` times ``x_i^2``.  ``rest`` ``(g,)`` times ``x_i`` is ``x_i`` less
    the mean of the tilt.  ``share`` is 1/(N s M(1)), the weight in eq. (1) of :mod:`theory.mean_finite_size`,
    or 1 where the bias is 0.
    """

    log_s: jax.Array
    share: jax.Array
    n_log_phi: jax.Array
    first: jax.Array
    second: jax.Array
    mean_of_tilt: jax.Array
    rest: jax.Array
    mean: jax.Array
    spread: jax.Array
    square: jax.Array


def _crossing(p: Point, saddle: _Tilt, offset: jax.Array, kernel: int) -> jax.Array:
    """Where the contour crosses the real axis: at the saddle, but away from the poles."""

    def width(pole: int) -> tuple[_Tilt, jax.Array]:
        tilt = _tilted(p, jnp.full_like(saddle.c, pole))
        return tilt, jnp.minimum(0.25, 0.5 / jnp.sqrt(tilt.variance))

    top, top_width = width(kernel)
    # A Newton step from the last pole for the energy alone: where it leads beyond, the residue is taken out.
    beyond = (_energy_difference(p, top, saddle) - offset) / top.variance
    c = jnp.where(beyond > top_width, kernel + jnp.minimum(beyond, 0.5), jnp.minimum(saddle.c, kernel - top_width))
    for pole in range(kernel):
        near = width(pole)[1]
        c = jnp.where(jnp.abs(c - pole) < near, jnp.where(c < pole, pole - near, pole + near), c)
    return c


def _node(p: Point, y: jax.Array, kernel: int, intervals: int) -> Node:
    v, t = p.variances, p.t
    c, distance, _ = _saddle(p, y, kernel)
    saddle, offset = _tilted(p, c), lax.digamma(distance)
    at = _tilted(p, lax.stop_gradient(_crossing(p, saddle, offset, kernel)))
    log_s = saddle.energy + offset
    above = _energy_difference(p, saddle, at) + offset  # log s less the mean energy of the crossing

    # m = at.c + dm: a sinh-graded line, bent to the left where s^m then decays.
    dtype = v.dtype
    edge = at.c - _lowest_tilt(p)
    poles = jnp.min(jnp.abs(at.c - jnp.arange(kernel + 1)))
    scale = jnp.minimum(jnp.minimum(0.5, poles), 1 / jnp.sqrt(at.variance))
    reach = -2 / np.pi * np.log(np.finfo(dtype).eps)  # where |Gamma| is negligible
    # Energy that no point avoids, as that of directions without variance, is not there to decay against.
    decay = jnp.maximum(log_s - _tilted(p, at.c + reach).energy, 0)
    slope = 0.5 * decay / (decay + 4)
    step = jnp.arcsinh(reach / scale) / intervals
    theta = step * jnp.arange(intervals + 1, dtype=dtype)
    tau = scale * jnp.sinh(theta)
    root = jnp.sqrt(tau**2 + edge**2)
    dm = lax.stop_gradient(lax.complex(-slope * tau**2 / (root + edge), tau))
    # dm/(2 pi i), doubled for the conjugate half of the contour.
    length = scale * jnp.cosh(theta) * step / np.pi * jnp.where(theta == 0, 0.5, 1)
    weight = lax.stop_gradient(lax.complex(length, slope * tau / root * length))

    m = at.c + dm
    # Groups by nodes, in real numbers: several times faster than complex ones.
    go, turn = dm.real, dm.imag
    zeta_real, zeta_imag = (part * (v * at.inverse)[:, None] for part in (go, turn))
    real = 1 + zeta_real
    size = 1 / (real**2 + zeta_imag**2)
    shrink = real * size, -zeta_imag * size  # 1/(1 + zeta)
    part = zeta_real * shrink[0] - zeta_imag * shrink[1], zeta_imag * size  # zeta/(1 + zeta)
    pulled = (t * p.radius * at.inverse**2)[:, None]
    many = p.multiplicity[:, None]
    log_mass = 0.5 * jnp.log1p(zeta_real * (1 + real) + zeta_imag**2) - zeta_real
    angle = jnp.arctan2(zeta_imag, real) - zeta_imag
    exponent = dm * above - 0.5 * lax.complex(
        jnp.sum(many * log_mass - pulled * (go * part[0] - turn * part[1]), axis=0),
        jnp.sum(many * angle - pulled * (go * part[1] + turn * part[0]), axis=0),
    )
    base = p.log_n - at.entropy + at.c * above
    terms = weight * jnp.exp(base + exponent + _gamma_exponent(1 - m))
    rules = jnp.stack([terms, jnp.where(jnp.arange(intervals + 1) % 2 == 0, 2 * terms, 0)])

    def residue(pole: int) -> tuple[_Tilt, jax.Array]:
        tilt = _tilted(p, jnp.full_like(c, pole))
        log_value = p.log_n - tilt.entropy + pole * (_energy_difference(p, saddle, tilt) + offset)
        return tilt, jnp.where(at.c > pole, jnp.exp(jnp.where(at.c > pole, log_value, 0)), 0)

    (one, f1), (_, f2) = residue(1), residue(2)
    inverse_n = jnp.exp(-p.log_n)
    integral = jnp.sum(rules / m, axis=-1).real
    lost = jnp.where(at.c > 0, integral + f1 - f2 / 2, 0)
    kept = jnp.where(at.c < 0, -inverse_n * integral, 1)
    tiny = np.finfo(dtype).tiny
    n_log_phi = jnp.where(
        at.c > 0,
        -lost * _log1p_ratio(-jnp.clip(inverse_n * lost, 0, 1 - np.finfo(dtype).epsneg)),
        jnp.log(jnp.maximum(kept, tiny)) / inverse_n,
    )
    wide = (t * v * at.inverse)[:, None]
    rate = wide * at.inverse[:, None]
    move = rate * (go * shrink[0] - turn * shrink[1]), rate * (go * shrink[1] + turn * shrink[0])

    def summed(real: jax.Array, imag: jax.Array) -> jax.Array:
        return rules.real @ real.T - rules.imag @ imag.T

    move_one = (1 - at.c) * t * v * at.inverse * one.inverse
    log_first = p.log_n - one.entropy + _energy_difference(p, saddle, one) + offset
    return Node(
        log_s,
        jnp.exp(-p.bias * log_first),
        n_log_phi,
        jnp.sum(rules, axis=-1).real + f1 - f2,
        jnp.sum(rules * (1 - m), axis=-1).real + f2,
        at.c * v * at.inverse,
        t * at.inverse,
        summed(*move) + f1 * move_one,
        summed(wide * shrink[0], wide * shrink[1]) + f1 * t * v * one.inverse,
        summed(move[0] ** 2 - move[1] ** 2, 2 * move[0] * move[1]) + f1 * move_one**2,
    )


def stretch(p: Point, kernel: int) -> jax.Array:
    r"""Return how much larger radii are, on average, where the integral has its weight: factors, shape ``(g,)``.

    With radii :math:`(t+v)\theta\chi^2` and the logarithm of the integral linear in them, of slope :math:`\ell` by
    :math:`\chi^2`, its product with the density is the density of :math:`\theta=1/(1-2\ell)`.  Slopes are those of the
    saddle-point estimate, in which a radius stands in :math:`M(c)` only, at the radii that are found.  Without bias
    they nearly cancel, and the factors are 1.

    Args:
      p: the radii are not used.
      kernel: 1 for gains, 2 for participations.
    """
    p = jax.tree.map(lax.stop_gradient, p)
    scale = p.variances + p.t

    def again(_: jax.Array, theta: jax.Array) -> jax.Array:
        at = p._replace(radius=scale * p.multiplicity * theta)
        y, weights = _nodes(at, kernel, FAST.panels)
        value, _, n_log_phi = jax.vmap(lambda y: _estimate(at, y, kernel))(y)
        c = jax.vmap(lambda y: _saddle(at, y, kernel)[0])(y)
        share = weights[0] * jnp.exp(value - jnp.max(value))
        share = share / jnp.sum(share)
        below = jnp.minimum(c, 1)

        def slope(c: jax.Array) -> jax.Array:  # of log M(c)
            return -0.5 * c[..., None] * scale / (p.t + c[..., None] * p.variances)

        # A_0, or B, and N(1 - phi), near -N log phi, go as M(c) s^c, the weight of the training set as 1/M(1).
        powers = (2 if kernel == 1 else 1) * share
        mean = powers @ slope(c) + (share * n_log_phi) @ slope(below) - slope(jnp.ones_like(p.t))
        return 1 / (1 - 2 * jnp.clip(p.bias * mean, *STEEPEST))

    return lax.fori_loop(0, STRETCHES, again, jnp.ones_like(scale))


def integrate(p: Point, kernel: int, rule: Rule, integrand: Callable[[Node], jax.Array]) -> Estimate:
    """Integrate over log s what ``integrand`` makes of a node, an array ``(2, ...)`` like the node's."""
    y, weights = jax.tree.map(lax.stop_gradient, _nodes(jax.tree.map(lax.stop_gradient, p), kernel, rule.panels))
    batch = min(y.size, max(1, BATCH // ((rule.contour + 1) * p.variances.shape[0])))

    def value(y: jax.Array) -> jax.Array:
        return _log_s_derivative(p, y, kernel) * integrand(_node(p, y, kernel, rule.contour))

    values = lax.map(value, y, batch_size=batch)
    both = jnp.tensordot(weights, values, axes=1)  # outer rule, contour rule, ...
    best = both[0, 0]
    # The difference is the error of the lower rule; that of the higher one is about its square: a wide margin.
    size = jnp.maximum(jnp.abs(best), 100 * jnp.finfo(best.dtype).tiny)
    outer = jnp.abs(both[1, 0] - best) / size
    inner = jnp.abs(both[0, 1] - best) / size
    rounding = ROUNDING * jnp.finfo(best.dtype).eps
    return Estimate(
        best,
        size * (outer * jnp.minimum(1, 100 * jnp.sqrt(outer)) + inner * jnp.minimum(1, 3 * jnp.sqrt(inner)) + rounding),
    )
