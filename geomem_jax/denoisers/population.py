r"""The population rung: the denoiser of infinite Gaussian data.

.. math:: D(x,t)=m+\Sigma(\Sigma+t)^{-1}(x-m),\qquad g_i=\frac{\sigma_i^2}{\sigma_i^2+t}

with :math:`\Sigma=U\,\mathrm{diag}(\sigma^2)\,U^\top`.  The gains do not depend on the point.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Model(NamedTuple):
    """Gaussian data, as a model to be measured; ``model(x, t)`` denoises one point.

    Attributes:
      variances: ``(d,)`` along the directions.
      basis: ``(d, d)``, the directions in columns.
      mean: ``(d,)``.
    """

    variances: jax.Array
    basis: jax.Array
    mean: jax.Array

    def __call__(self, x: jax.Array, t: jax.Array | float) -> jax.Array:
        """Denoise one point ``x`` ``(d,)``; ``t`` is a noise variance."""
        return denoise(self.variances, self.basis, x, t, self.mean)


@jax.jit
def gains(variances: jax.Array, t: jax.Array | float) -> jax.Array:
    """Gains along the directions; ``variances`` ``(d,)``, noise variance ``t`` a scalar; shape ``(d,)``."""
    return variances / (variances + t)


def denoise(
    variances: jax.Array,
    basis: jax.Array,
    x: jax.Array,
    t: jax.Array | float,
    mean: jax.Array | float = 0.0,
) -> jax.Array:
    """Denoise one point ``x`` ``(d,)``; ``basis`` ``(d, d)`` has the directions in its columns, ``t`` a variance."""
    coordinates = jnp.matmul(x - mean, basis, precision=jax.lax.Precision.HIGHEST)
    return mean + jnp.matmul(basis, gains(variances, t) * coordinates, precision=jax.lax.Precision.HIGHEST)
