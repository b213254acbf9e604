"""Where a function last rises through zero, found by a scan: for laws whose freeze-out has no closed form."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._roots import tangent_of_root

_Bracket = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]
_State = tuple[_Bracket, jax.Array, jax.Array, jax.Array]
_MAX_STEPS = 60  # bisection alone closes a bracket of float64


def last_rise(f: Callable[[Any, jax.Array], jax.Array], parameters: Any, grid: jax.Array) -> jax.Array:
    r"""Find the largest ``x`` at which each element of ``f`` rises through zero.

    A scan of ``grid`` brackets the last rise of every element (two rises between the same grid points are not seen);
    bisection and secants close the bracket.  The derivative with respect to ``parameters`` is that of the root,
    :math:`-\partial_\theta f/\partial_xf`.  Memory of the grid times ``d``; the time of as many evaluations as the grid
    has points, and of some ten per element.

    Args:
      f: ``(parameters, x)`` to ``(d,)``, for a scalar ``x``.
      parameters: a pytree of arrays; nothing else that ``f`` depends on is differentiated.
      grid: ``(k,)``, ascending.

    Returns:
      ``(d,)``: -inf where the element is nowhere below zero on the grid, +inf where it is at the upper end.
    """
    fixed, grid = lax.stop_gradient(parameters), lax.stop_gradient(grid)
    values = lax.map(lambda x: f(fixed, x), grid)
    below = values < 0
    last = grid.size - 1 - jnp.argmax(below[::-1], axis=0)
    rises = jnp.any(below, axis=0) & ~below[-1]

    def close(i: jax.Array) -> jax.Array:
        left = jnp.minimum(last[i], grid.size - 2)

        def solve(element: Callable[[jax.Array], jax.Array], _: jax.Array) -> jax.Array:
            return _close(element, grid[left], grid[left + 1], values[left, i], values[left + 1, i])

        return lax.custom_root(lambda x: f(parameters, x)[i], grid[left], solve, tangent_of_root)

    found = lax.map(close, jnp.arange(last.size))
    return jnp.where(rises, found, jnp.where(below[-1], jnp.inf, -jnp.inf))


def _close(
    f: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array, f_low: jax.Array, f_high: jax.Array
) -> jax.Array:
    """Root of a scalar function that is negative at ``low`` and not at ``high``."""
    tolerance = 4 * jnp.finfo(low.dtype).eps

    def narrowed(bracket: _Bracket, x: jax.Array, value: jax.Array) -> _Bracket:
        low, high, f_low, f_high, side = bracket
        risen = value >= 0
        # An end that stays twice counts half (Illinois), so that the other one moves as well.
        return (
            jnp.where(risen, low, x),
            jnp.where(risen, x, high),
            jnp.where(risen, jnp.where(side > 0, f_low / 2, f_low), value),
            jnp.where(risen, value, jnp.where(side < 0, f_high / 2, f_high)),
            jnp.where(risen, 1, -1).astype(side.dtype),
        )

    def unfinished(state: _State) -> jax.Array:
        (low, high, *_), _, value, count = state
        wide = high - low > tolerance * jnp.maximum(jnp.abs(low), jnp.abs(high))
        return wide & (value != 0) & (count < _MAX_STEPS)

    def step(state: _State) -> _State:
        bracket, x, value, count = state
        bracket = low, high, f_low, f_high, _ = narrowed(bracket, x, value)
        secant = high - f_high * (high - low) / (f_high - f_low)
        # Every third step halves the bracket, whatever the secants do.
        x = jnp.where((count % 3 == 2) | ~((secant > low) & (secant < high)), low + (high - low) / 2, secant)
        # The value is used in the next step only: compilers work a value out anew for each of its uses, and a zero
        # that rounds to both sides there would move both ends.
        return bracket, x, f(x), count + 1

    # The upper end is where the first step starts from; it stays what it is.
    start = (low, high, f_low, f_high, jnp.zeros((), jnp.int32)), high, f_high, jnp.zeros((), jnp.int32)
    low, high, f_low, f_high, _ = narrowed(*lax.while_loop(unfinished, step, start)[:3])
    return jnp.where(-f_low < f_high, low, high)
