r"""The linear rung: the Gaussian score fitted to ``N`` points.

.. math:: D(x,t)=m+\hat\Sigma(\hat\Sigma+t)^{-1}(x-m),\qquad
          g_i=\sum_kq_{ik}^2\frac{\lambda_k}{\lambda_k+t}\quad\text{for}\quad\hat\Sigma=Q\,\mathrm{diag}(\lambda)\,Q^\top,

where :math:`\hat\Sigma=\frac1N\sum_\mu(y^\mu-m)(y^\mu-m)^\top` and the mean :math:`m` is known to be zero or, with
``centred``, that of the training points; then :math:`N-1` stands for :math:`N`, here as in the law.  The gains do not
depend on the point; one eigendecomposition serves every ``t``.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp


class LinearModel(NamedTuple):
    """A fitted Gaussian; ``model(x, t)`` denoises one point.

    Attributes:
      mean: ``(d,)``.
      eigenvalues: ``(d,)`` of the sample covariance, ascending, ``>= 0``.
      eigenvectors: ``(d, d)``, in columns.
    """

    mean: jax.Array
    eigenvalues: jax.Array
    eigenvectors: jax.Array

    def __call__(self, x: jax.Array, t: jax.Array | float) -> jax.Array:
        """Denoise one point ``x`` ``(d,)``; ``t`` is a noise variance."""
        return denoise(self, x, t)


@partial(jax.jit, static_argnames="centred")
def fit(data: jax.Array, count: jax.Array | int, *, centred: bool) -> LinearModel:
    """Fit the first ``count`` rows of ``data`` ``(N, d)``; one compiled program serves every ``count``."""
    used = (jnp.arange(data.shape[0]) < count)[:, None]
    mean = jnp.sum(jnp.where(used, data, 0), axis=0) / count if centred else jnp.zeros(data.shape[1], data.dtype)
    deviations = jnp.where(used, data - mean, 0)
    covariance = jnp.matmul(deviations.T, deviations, precision=jax.lax.Precision.HIGHEST)
    # A single centred point has no spread: 0, not 0/0.
    covariance = covariance / jnp.maximum(count - int(centred), 1)
    eigenvalues, eigenvectors = jnp.linalg.eigh(covariance)
    return LinearModel(mean, jnp.maximum(eigenvalues, 0), eigenvectors)


@jax.jit
def gains(model: LinearModel, t: jax.Array | float) -> jax.Array:
    """Gains along the coordinate axes, ``t`` a noise variance of shape ``s``; shape ``s + (d,)``."""
    filters = model.eigenvalues / (model.eigenvalues + jnp.asarray(t)[..., None])
    return jnp.matmul(filters, (model.eigenvectors**2).T, precision=jax.lax.Precision.HIGHEST)


def denoise(model: LinearModel, x: jax.Array, t: jax.Array | float) -> jax.Array:
    """Denoise one point ``x`` ``(d,)``; ``t`` is a noise variance."""
    coordinates = jnp.matmul(x - model.mean, model.eigenvectors, precision=jax.lax.Precision.HIGHEST)
    filtered = model.eigenvalues / (model.eigenvalues + t) * coordinates
    return model.mean + jnp.matmul(model.eigenvectors, filtered, precision=jax.lax.Precision.HIGHEST)
