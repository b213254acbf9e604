"""A small convolutional network, channels last, with the preconditioning of :mod:`geomem_jax.denoisers.edm`.

``F`` is a chain of 3x3 convolutions at full resolution and SiLU; the noise enters the first one as a bias of each
channel, linear in sines and cosines.  The last layer starts at zero, so training starts from the skip connection alone.

Points are flat, ``(h w c,)``, rows slowest and channels fastest, as ``image.reshape(-1)`` makes them of an image
``(h, w, c)``.  Channels come last because convolutions of many tangents at once are matrix products then: on a CPU,
channels first takes ten times as long.
"""

import functools
import itertools

import jax
from flax import nnx

from geomem_jax.denoisers.edm import FREQUENCIES, noise_features, preconditioned
from geomem_jax.denoisers.trainable import Trainable


class _Convolutions(nnx.Module):
    """``F`` of the module docstring."""

    def __init__(self, shape: tuple[int, int, int], width: int, depth: int, rngs: nnx.Rngs) -> None:
        self.shape, channels = shape, shape[2]
        sizes = itertools.pairwise([channels, *[width] * depth])
        self.hidden = nnx.List([nnx.Conv(into, out, (3, 3), rngs=rngs) for into, out in sizes])
        self.embed = nnx.Linear(2 * FREQUENCIES, width, use_bias=False, rngs=rngs)
        self.last = nnx.Conv(width, channels, (3, 3), kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: jax.Array, noise_level: jax.Array) -> jax.Array:
        bias = self.embed(noise_features(noise_level))
        hidden = x.reshape(self.shape)
        for index, layer in enumerate(self.hidden):
            hidden = nnx.silu(layer(hidden) + (bias if index == 0 else 0))
        return self.last(hidden).reshape(-1)


@functools.cache
def edm_convolutional(shape: tuple[int, int, int], width: int, depth: int, data_variance: float) -> Trainable:
    """Build the network.

    Args:
      shape: ``(h, w, c)`` of the images.
      width: channels of every hidden layer.
      depth: number of hidden layers.
      data_variance: variance of the data per coordinate, ``v``.
    """
    return preconditioned(functools.partial(_Convolutions, shape, width, depth), data_variance)
