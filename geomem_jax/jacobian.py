"""Gains of any denoiser, by differentiation, with bounded memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

POINTS = 32  # points whose derivatives are held in memory at a time


def gains(
    denoise: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, t: jax.Array | float, basis: jax.Array
) -> jax.Array:
    r"""Gains :math:`g_i = u_i^\top\,\nabla_x D(x, t)\,u_i` at every point, by forward-mode products.

    Memory is that of 32 points at a time: 32 d copies of the denoiser's intermediate results.

    Args:
      denoise: ``(x, t) -> x_hat`` for one point ``x`` ``(d,)`` and noise variance ``t``.
      x: points ``(B, d)``.
      t: noise variance.
      basis: ``(d, k)``, orthonormal directions in columns.

    Returns:
      ``(B, k)``.
    """
    t = jnp.asarray(t, x.dtype)

    def at_point(point: jax.Array) -> jax.Array:
        def along(direction: jax.Array) -> jax.Array:
            return jnp.vdot(direction, jax.jvp(lambda point: denoise(point, t), (point,), (direction,))[1])

        return jax.vmap(along, in_axes=1)(basis)

    return jax.lax.map(at_point, x, batch_size=min(POINTS, x.shape[0]))
