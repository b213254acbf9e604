"""Products of Jacobians with vectors, and what a call for them must give: one place for all estimators."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from geomem_jax.errors import InputError

Model = Callable[[jax.Array, jax.Array], jax.Array]  # (x, t) -> x_hat for one point; best a pytree


class Sampled(NamedTuple):
    """Mean over random probes.

    Attributes:
      value: the mean.
      error: its standard error.
    """

    value: jax.Array
    error: jax.Array


def sample_mean(values: jax.Array, axis: int) -> Sampled:
    """Mean over an axis of independent probes."""
    return Sampled(jnp.mean(values, axis), jnp.std(values, axis, ddof=1) / values.shape[axis] ** 0.5)


def check_points(model: Model, x: jax.Array, t: jax.Array | float) -> tuple[Any, jax.Array, jax.Array]:
    """Return the model as a pytree, and points and noise variance of one precision.

    Args:
      model: ``(x, t) -> x_hat`` for one point: a pytree that can be called, or a function.
      x: ``(B, d)`` points, floating-point.
      t: noise variance.

    Raises:
      InputError: if ``x`` is not a floating-point ``(B, d)`` of at least one point and one coordinate, or not finite;
        if ``t`` is not a positive finite number; if the model cannot be called.
    """
    if not callable(model):
        raise InputError(f"model: {type(model).__name__} cannot be called; give (x, t) -> x_hat of one point")
    x = jnp.asarray(x)
    if x.ndim != 2 or x.size == 0:
        raise InputError(f"x: shape is {x.shape}; give (points, coordinates), one flat point per row")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"x: dtype is {x.dtype}; give floating-point numbers")
    if not isinstance(x, jax.core.Tracer) and not bool(jnp.isfinite(x).all()):
        raise InputError("x: has NaN or infinite values; give finite points")
    if not isinstance(t, jax.core.Tracer) and not (jnp.ndim(t) == 0 and 0 < t < jnp.inf):
        raise InputError(f"t: {t} is not a noise variance; give one positive number")
    t = jnp.asarray(t, x.dtype)
    if isinstance(model, functools.partial):  # what it binds are arguments of a compiled program, not constants
        model = jax.tree_util.Partial(model.func, *model.args, **model.keywords)
    elif jax.tree_util.all_leaves([model]):
        model = jax.tree_util.Partial(model)
    return model, x, t


def check_result(shape: tuple[int, ...], point: jax.Array) -> None:
    """Raise an InputError if what a model gives has not the shape of its point."""
    if shape != point.shape:
        raise InputError(f"model: gives shape {shape} for a point of shape {point.shape}; give x_hat of the same shape")


def check_call(model: Model, x: jax.Array, t: jax.Array | float) -> tuple[Any, jax.Array, jax.Array]:
    """The same as :func:`check_points`, and an InputError if the model's result has not the shape of a point."""
    model, x, t = check_points(model, x, t)
    check_result(jax.eval_shape(model, x[0], t).shape, x[0])
    return model, x, t


def check_count(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raise an InputError if a count is below ``least`` or above ``most``."""
    if value < least or (most is not None and value > most):
        bounds = f">= {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} must be {bounds}, got {name} = {value}")


def each_point(key: jax.Array, x: jax.Array, at_point: Callable[[jax.Array, jax.Array], Any]) -> Any:
    """Map over points, one at a time, each with a key of its own that does not depend on how many there are."""
    return lax.map(lambda pair: at_point(jax.random.fold_in(key, pair[0]), pair[1]), (jnp.arange(len(x)), x))


@jax.jit
def _of_part(model: Model, point: jax.Array, t: jax.Array, rows: jax.Array) -> jax.Array:
    _, push = jax.linearize(lambda x: model(x, t), point)
    _, pull = jax.vjp(lambda x: model(x, t), point)
    return jax.vmap(lambda v: (push(v) + pull(v)[0]) / 2)(rows)


def symmetric_products(model: Model, point: jax.Array, t: jax.Array, rows: jax.Array, batch: int) -> jax.Array:
    """Products of the symmetric part at a point with rows, so many at a time, by one program for all numbers of rows.

    The loop is Python's: inside a loop of a compiled program the reverse product of a convolution is 15 times slower
    on a CPU, because XLA does not bring its reversed kernel into the form that it has fast code for.
    """
    count = len(rows)
    rows = jnp.pad(rows, ((0, -count % batch), (0, 0)))
    images = []
    for part in jnp.split(rows, len(rows) // batch):
        # Waited for: parts that run beside each other would hold their memory together.
        images.append(jax.block_until_ready(_of_part(model, point, t, part)))
    return jnp.concatenate(images)[:count]
