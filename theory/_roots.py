"""Roots of decreasing functions, differentiated implicitly."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

_State = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]
_MAX_STEPS = 100  # bisection alone closes any float64 bracket of practical width in fewer


def tangent_of_root(g: Callable[[jax.Array], jax.Array], y: jax.Array) -> jax.Array:
    """Solve ``g(x) = y`` for a linear ``g`` whose matrix is diagonal, as :func:`jax.lax.custom_root` asks for."""
    slope = g(jnp.ones_like(y))
    return y / jnp.where(slope == 0, 1, slope)


def decreasing_root(f: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array) -> jax.Array:
    r"""Find where ``f`` falls through zero, element by element.

    ``f`` maps an array to one of the same shape, each element of the result depending on that element of the
    argument alone.  Newton steps that leave the bracket are replaced by bisection.  The derivative of the root
    :math:`x(\theta)` is :math:`-\partial_\theta f/\partial_x f`, never that of the iteration.

    Args:
      f: function with :math:`f(\mathrm{low})\ge0\ge f(\mathrm{high})`; where both values have one sign the end
        of the bracket nearest to the root is returned.
      low: lower ends of the brackets.
      high: upper ends, of the same shape.
    """
    low, high = lax.stop_gradient(low), lax.stop_gradient(high)
    tolerance = 4 * jnp.finfo(low.dtype).eps

    def solve(f: Callable[[jax.Array], jax.Array], _: jax.Array) -> jax.Array:
        def step(state: _State) -> _State:
            x, low, high, _, count = state
            value, slope = jax.jvp(f, (x,), (jnp.ones_like(x),))
            low, high = jnp.where(value > 0, x, low), jnp.where(value > 0, high, x)
            newton = x - value / slope
            inside = (newton > low) & (newton < high)
            new = jnp.where(inside, newton, low + (high - low) / 2)
            # A step that rounds to zero ends the search: x is an end of the bracket, the other end may be far away.
            # (An overflowed slope says nothing.)
            arrived = (value == 0) | ((newton == x) & jnp.isfinite(slope))
            new = jnp.where(arrived, x, new)
            moving = jnp.abs(new - x) > tolerance * jnp.abs(new)
            return new, low, high, moving, count + 1

        def unfinished(state: _State) -> jax.Array:
            return jnp.any(state[3]) & (state[4] < _MAX_STEPS)

        start = low + (high - low) / 2
        moving = jnp.ones(start.shape, bool)
        return lax.while_loop(unfinished, step, (start, low, high, moving, jnp.zeros((), jnp.int32)))[0]

    return lax.custom_root(f, low, solve, tangent_of_root)
