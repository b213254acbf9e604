"""What a denoiser must offer to be trained: pure functions of its parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Params = Any  # a pytree of floating-point arrays


class Trainable(NamedTuple):
    """A denoiser with parameters, for one member of an ensemble; batched with ``vmap``.

    Attributes:
      init: ``key -> params``.
      denoise: ``(params, x, t) -> x_hat`` for one point ``x`` ``(d,)`` and noise variance ``t``.
      weight: ``t -> w``; the loss is the mean over points of ``w(t) |x_hat - y|^2 / d``.
      narrow: ``(params, width) -> params`` of the same shapes that are a network of fewer hidden units; ``None``
        where the model has no width.
    """

    init: Callable[[jax.Array], Params]
    denoise: Callable[[Params, jax.Array, jax.Array], jax.Array]
    weight: Callable[[jax.Array], jax.Array]
    narrow: Callable[[Params, jax.Array], Params] | None = None
