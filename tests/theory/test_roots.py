"""The root finder stops when it has arrived, and where a slope says nothing it bisects."""

import jax
import jax.numpy as jnp
import numpy as np

from theory._roots import decreasing_root


def test_rounding_does_not_keep_the_search_going() -> None:
    """Newton's method needs fewer than ten steps from the middle; a zero step must not start a bisection.

    Rounding decides which roots are hit, so that many spectra are tried; without the rule some take 26 steps.
    """
    variances = jnp.arange(1.0, 65.0) ** -jnp.linspace(0.5, 3, 500)[:, None]
    calls = []

    def solve(v: jax.Array) -> jax.Array:
        def information(u: jax.Array) -> jax.Array:
            jax.debug.callback(lambda: calls.append(None))
            return 0.5 * jnp.sum(jnp.log1p(v * jnp.exp(-u))) - np.log(1e4)

        low, high = -2 * np.log(1e4), jnp.log(jnp.sum(v) / (2 * np.log(1e4)))
        return decreasing_root(information, jnp.full_like(high, low), high)

    roots = jax.vmap(solve)(variances)
    jax.effects_barrier()
    solved = 0.5 * np.sum(np.log1p(np.asarray(variances, float) * np.exp(-np.asarray(roots, float)[:, None])), axis=1)
    # A step of 4 eps |u| <= 3e-6 moves the information by at most 32 times that.
    np.testing.assert_allclose(solved, np.log(1e4), atol=1e-4)
    assert 3 < len(calls) <= 12


def test_an_infinite_slope_is_not_an_arrival() -> None:
    """The search starts at 1, where the slope of f is infinite; the root is 2."""
    root = decreasing_root(lambda x: 1 - jnp.sqrt(jnp.maximum(x - 1, 0)), jnp.array(-1.0), jnp.array(3.0))
    assert abs(float(root) - 2) < 1e-6
