r"""Preconditioning of EDM: what turns a network into a denoiser that is easy to train at every noise.

With the noise variance ``t`` and the data variance :math:`v` (a scalar),

.. math:: D(x,t)=c_{\rm skip}x+c_{\rm out}F(c_{\rm in}x,\tfrac18\log t),\quad c_{\rm skip}=\frac v{v+t},\quad
          c_{\rm out}^2=\frac{vt}{v+t},\quad c_{\rm in}^2=\frac1{v+t},

so that input and target of ``F`` have unit variance at every ``t``, and with the weight :math:`1/c_{\rm out}^2` its
loss is the plain squared error of ``F``.

Source.  Karras et al. (2022), arXiv 2206.00364, table 1.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from geomem_jax.denoisers.trainable import Params, Trainable

FREQUENCIES = 8  # of the noise embedding, an octave apart


def noise_features(noise_level: jax.Array) -> jax.Array:
    """Sines and cosines of a noise level, one of order 1: ``(2 FREQUENCIES,)``."""
    angles = noise_level * (math.pi / 2) * 2.0 ** jnp.arange(FREQUENCIES, dtype=noise_level.dtype)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])


def preconditioned(make: Callable[[nnx.Rngs], nnx.Module], data_variance: float) -> Trainable:
    """Build a denoiser from a network.

    Args:
      make: builds ``F``, called with a flat point ``(d,)`` and a noise level, a scalar.
      data_variance: variance of the data per coordinate, ``v``.
    """
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(0))))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(make(nnx.Rngs(params=key)), nnx.Param))

    def denoise(params: Params, x: jax.Array, t: jax.Array) -> jax.Array:
        total = data_variance + t
        network = nnx.merge(graph, params)
        output = network(x * jax.lax.rsqrt(total), jnp.log(t) / 8)
        return data_variance / total * x + jnp.sqrt(data_variance * t / total) * output

    def weight(t: jax.Array) -> jax.Array:
        return (data_variance + t) / (data_variance * t)

    return Trainable(init, denoise, weight)
