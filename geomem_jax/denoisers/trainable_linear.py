r"""The linear rung, trained: :math:`D(x)=Wx` at one noise variance, from :math:`W=0`.

Gradient flow of the loss :math:`\mathbb E\|W(y+\sqrt t\,z)-y\|^2`, summed over coordinates, over training points of
second moment :math:`\hat\Sigma=Q\,\mathrm{diag}(\lambda)\,Q^\top` and fresh noise is after :math:`\tau`, learning rate
times steps,

.. math:: W(\tau)=Q\,\mathrm{diag}(f)\,Q^\top,\qquad
          f_k=\frac{\lambda_k}{\lambda_k+t}\bigl[1-e^{-2\tau(\lambda_k+t)}\bigr], \tag{1}

at the end the fitted rung of :mod:`geomem_jax.denoisers.linear`.  (Of the mean over coordinates, :math:`\tau/d` for
:math:`\tau`.)  The gains along the coordinate axes are the diagonal of the weights, at every point;
:mod:`theory.learning_time` predicts them.

Source.  Rederived; arXiv 2503.03206.
"""

import functools

import jax
import jax.numpy as jnp

from geomem_jax.denoisers.linear import LinearModel
from geomem_jax.denoisers.trainable import Trainable
from geomem_jax.errors import InputError


def init(key: jax.Array, dimension: int) -> jax.Array:
    """Weights ``(dimension, dimension)`` of 0; the key is not used.

    Raises:
      InputError: if ``dimension`` is below 1.
    """
    if dimension < 1:
        raise InputError(f"dimension must be >= 1, got dimension = {dimension}")
    return jnp.zeros((dimension, dimension))


def denoise(params: jax.Array, x: jax.Array, t: jax.Array | float) -> jax.Array:
    """Denoise one point ``x`` ``(d,)``, at whatever noise."""
    return jnp.matmul(params, x, precision=jax.lax.Precision.HIGHEST)


def weight(t: jax.Array | float) -> jax.Array:
    """Weight of the squared error in the loss: 1."""
    return jnp.ones_like(jnp.asarray(t))


@functools.cache
def trainable(dimension: int) -> Trainable:
    """Build the denoiser as the trainer wants it; the same object for the same dimension, so that it compiles once."""
    return Trainable(functools.partial(init, dimension=dimension), denoise, weight)


@jax.jit
def flow(model: LinearModel, t: jax.Array | float, training_time: jax.Array | float) -> jax.Array:
    """Weights ``(d, d)`` of gradient flow, eq. (1).

    Args:
      model: training points, fitted with ``centred=False``.
      t: noise variance ``> 0``.
      training_time: learning rate times steps, of the loss summed over coordinates; ``>= 0``, inf for the end.
    """
    total = model.eigenvalues + t
    filters = -model.eigenvalues / total * jnp.expm1(-2 * training_time * total)
    return jnp.matmul(model.eigenvectors * filters, model.eigenvectors.T, precision=jax.lax.Precision.HIGHEST)
