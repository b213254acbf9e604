r"""A small convolutional network, channels last, with the preconditioning of :func:`~geomem_jax.denoisers.mlp.edm_mlp`.

.. math:: D(x,t)=c_{\rm skip}x+c_{\rm out}F(c_{\rm in}x,\tfrac18\log t)

with the coefficients stated there.  ``F`` is a chain of 3x3 convolutions at full resolution and SiLU; the noise enters
the first one as a bias of each channel, linear in sines and cosines.  The last layer starts at zero, so training starts
from :math:`D=c_{\rm skip}x`.

Points are flat, ``(h w c,)``, rows slowest and channels fastest, as ``image.reshape(-1)`` makes them of an image
``(h, w, c)``.  Channels come last because convolutions of many tangents at once are matrix products then: on a CPU,
channels first takes ten times as long.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from geomem_jax.denoisers.mlp import FREQUENCIES
from geomem_jax.denoisers.trainable import Params, Trainable


class _Convolutions(nnx.Module):
    """``F`` of the module docstring, for one image ``(h, w, c)``."""

    def __init__(self, channels: int, width: int, depth: int, rngs: nnx.Rngs) -> None:
        sizes = itertools.pairwise([channels, *[width] * depth])
        self.hidden = nnx.List([nnx.Conv(into, out, (3, 3), rngs=rngs) for into, out in sizes])
        self.embed = nnx.Linear(2 * FREQUENCIES, width, use_bias=False, rngs=rngs)
        self.last = nnx.Conv(width, channels, (3, 3), kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, image: jax.Array, noise_level: jax.Array) -> jax.Array:
        angles = noise_level * (math.pi / 2) * 2.0 ** jnp.arange(FREQUENCIES, dtype=image.dtype)
        bias = self.embed(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)]))
        hidden = image
        for index, layer in enumerate(self.hidden):
            hidden = nnx.silu(layer(hidden) + (bias if index == 0 else 0))
        return self.last(hidden)


@functools.cache
def edm_convolutional(shape: tuple[int, int, int], width: int, depth: int, data_variance: float) -> Trainable:
    """Build the network.

    Args:
      shape: ``(h, w, c)`` of the images.
      width: channels of every hidden layer.
      depth: number of hidden layers.
      data_variance: variance of the data per coordinate, ``v``.
    """
    make = functools.partial(_Convolutions, shape[2], width, depth)
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(0))))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(make(nnx.Rngs(params=key)), nnx.Param))

    def denoise(params: Params, x: jax.Array, t: jax.Array) -> jax.Array:
        total = data_variance + t
        network = nnx.merge(graph, params)
        output = network((x * jax.lax.rsqrt(total)).reshape(shape), jnp.log(t) / 8)
        return data_variance / total * x + jnp.sqrt(data_variance * t / total) * output.reshape(-1)

    def weight(t: jax.Array) -> jax.Array:
        return (data_variance + t) / (data_variance * t)

    return Trainable(init, denoise, weight)
