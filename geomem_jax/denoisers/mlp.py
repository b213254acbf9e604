r"""Network rungs: multilayer perceptrons whose parameters are trained (:mod:`geomem_jax.training`).

Two networks, each a :class:`~geomem_jax.denoisers.trainable.Trainable`.

:func:`edm_mlp`, the default: a network ``F``, preconditioned as in :mod:`geomem_jax.denoisers.edm`.  Hidden layers
are linear maps and SiLU; the noise enters the first one beside the point, as sines and cosines.  The last layer starts
at zero, so training starts from the skip connection alone, :math:`D=c_{\rm skip}x`.

:func:`paper_toy`, the network of *Losing dimensions* (arXiv 2410.08727): two residual blocks of LayerNorm, SiLU and a
linear map, a sinusoidal embedding of the noise standard deviation (its raw value), and prediction of the noise,
:math:`D(x,t)=x-\sqrt t\,\epsilon(x,\sqrt t)`, with the weight :math:`1/t` that makes the loss that of the noise.

Source.  The toy network as in the authors' released code.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from geomem_jax.denoisers.edm import FREQUENCIES, noise_features, preconditioned
from geomem_jax.denoisers.trainable import Params, Trainable

TOY_WIDTH = 128
TOY_EMBEDDING = 512


class _MLP(nnx.Module):
    """``F`` of the module docstring."""

    def __init__(self, dimension: int, width: int, depth: int, dtype: type | None, rngs: nnx.Rngs) -> None:
        sizes = [dimension + 2 * FREQUENCIES, *[width] * depth]
        self.hidden = nnx.List(
            [nnx.Linear(into, out, dtype=dtype, rngs=rngs) for into, out in itertools.pairwise(sizes)]
        )
        self.last = nnx.Linear(width, dimension, kernel_init=nnx.initializers.zeros, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, noise_level: jax.Array) -> jax.Array:
        hidden = jnp.concatenate([x, noise_features(noise_level)])
        for layer in self.hidden:
            hidden = nnx.silu(layer(hidden))
        return self.last(hidden).astype(x.dtype)


@functools.cache
def edm_mlp(dimension: int, width: int, depth: int, data_variance: float, *, bfloat16: bool = False) -> Trainable:
    """Build the default network.

    Args:
      dimension: of the points.
      width: of every hidden layer.
      depth: number of hidden layers.
      data_variance: variance of the data per coordinate, ``v``.
      bfloat16: compute ``F`` in bfloat16; parameters and everything else stay in single precision.
    """
    dtype = jnp.bfloat16 if bfloat16 else None
    trainable = preconditioned(functools.partial(_MLP, dimension, width, depth, dtype), data_variance)

    def narrow(params: Params, used: jax.Array) -> Params:
        """Set what leads to and from the other units to 0, where training leaves it, as SiLU(0) = 0."""
        kept = (jnp.arange(width) < used).astype(jnp.float32)
        layers = [params["hidden"][index] for index in range(depth)]
        hidden = {}
        for index, layer in enumerate(layers):
            kernel = layer["kernel"] * kept
            if index:  # as drawn for a fan-in of the units in use
                kernel *= kept[:, None] * jnp.sqrt(width / used)
            hidden[index] = {"kernel": kernel, "bias": layer["bias"] * kept}
        return {"hidden": hidden, "last": params["last"] | {"kernel": params["last"]["kernel"] * kept[:, None]}}

    return trainable._replace(narrow=narrow)


class _Block(nnx.Module):
    """Residual block of the toy network, with the noise embedding added between its two halves."""

    def __init__(self, width: int, embedding: int, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.linears = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(2)])
        self.embed = nnx.Linear(embedding, width, rngs=rngs)

    def __call__(self, hidden: jax.Array, embedding: jax.Array) -> jax.Array:
        inner = self.linears[0](nnx.silu(self.norms[0](hidden))) + self.embed(embedding)
        return hidden + self.linears[1](nnx.silu(self.norms[1](inner)))


class _Toy(nnx.Module):
    """The noise predicted by the toy network."""

    def __init__(self, dimension: int, rngs: nnx.Rngs) -> None:
        width, embedding = TOY_WIDTH, TOY_EMBEDDING
        self.embed = nnx.List([nnx.Linear(into, embedding, rngs=rngs) for into in (width, embedding)])
        self.first = nnx.Linear(dimension, width, rngs=rngs)
        self.blocks = nnx.List([_Block(width, embedding, rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.last = nnx.Linear(width, dimension, rngs=rngs)

    def __call__(self, x: jax.Array, std: jax.Array) -> jax.Array:
        half = TOY_WIDTH // 2
        angles = std * 10_000.0 ** (-jnp.arange(half, dtype=x.dtype) / half)
        embedding = self.embed[0](jnp.concatenate([jnp.sin(angles), jnp.cos(angles)]))
        embedding = nnx.silu(self.embed[1](nnx.silu(embedding)))
        hidden = self.first(x)
        for block in self.blocks:
            hidden = block(hidden, embedding)
        return self.last(nnx.silu(self.norm(hidden))).astype(x.dtype)


@functools.cache
def paper_toy(dimension: int) -> Trainable:
    """Build the toy network of *Losing dimensions*; 535 198 parameters at its 30 dimensions."""
    make = functools.partial(_Toy, dimension)
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(0))))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(make(nnx.Rngs(params=key)), nnx.Param))

    def denoise(params: Params, x: jax.Array, t: jax.Array) -> jax.Array:
        std = jnp.sqrt(t)
        return x - std * nnx.merge(graph, params)(x, std)

    def weight(t: jax.Array) -> jax.Array:
        return 1 / t

    return Trainable(init, denoise, weight)
