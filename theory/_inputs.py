"""The border of the package: what a user may pass, in which precision it is computed, and what is refused.

Concrete values are checked on the host and refused with one line.  Traced values (inside ``jit``, ``vmap`` or
``grad``) cannot be checked: outside their stated range the functions return nan or inf.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import jax.typing
import numpy as np
import numpy.typing as npt

ArrayLike = jax.typing.ArrayLike | Sequence[float]


def _refuse(name: str, condition: str, values: np.ndarray, bad: np.ndarray) -> None:
    if bad.any():
        where = np.unravel_index(int(np.argmax(bad)), bad.shape)
        position = f"[{', '.join(map(str, where))}]" if where else ""
        raise ValueError(f"{name} must be {condition}, got {name}{position} = {values[where]}")


def _concrete(values: ArrayLike) -> np.ndarray | None:
    return None if isinstance(values, jax.core.Tracer) else np.asarray(values, np.float64)


def working_dtype(*arrays: ArrayLike) -> np.dtype:
    """Decide the precision: that of the arrays given; Python numbers, lists and integers take jax's default float."""
    typed = [array for array in arrays if not isinstance(array, Sequence)]
    return np.dtype(jnp.promote_types(jnp.result_type(*typed, 1.0), jnp.float32))


def as_variances(variances: ArrayLike, dtype: np.dtype, name: str = "variances") -> jax.Array:
    """Check and convert variances; ``name`` is the argument that an error names.

    Raises:
      ValueError: if not one-dimensional, empty, negative or not finite in ``dtype``.
    """
    if np.ndim(variances) != 1 or np.size(variances) == 0:
        raise ValueError(f"{name} must have shape (d,) with d >= 1, got shape {np.shape(variances)}")
    values = _concrete(variances)
    if values is not None:
        representable = values <= np.finfo(dtype).max
        _refuse(name, f"finite and >= 0 in {dtype}", values, ~(representable & (values >= 0)))
    return jnp.asarray(variances, dtype)


def as_positive(name: str, values: ArrayLike, dtype: np.dtype) -> jax.Array:
    """Check and convert a positive, finite number or array.

    Raises:
      ValueError: if it is not positive and finite in ``dtype``.
    """
    concrete = _concrete(values)
    if concrete is not None:
        limits = np.finfo(dtype)  # compiled code takes subnormal numbers for 0
        bad = ~((concrete >= limits.tiny) & (concrete <= limits.max))
        _refuse(name, f"finite and > 0 in {dtype}", concrete, bad)
    return jnp.asarray(values, dtype)


def as_between(name: str, values: ArrayLike, low: float, high: float, dtype: np.dtype) -> jax.Array:
    """Check and convert a number or array of the closed interval from ``low`` to ``high``; traced, outside: nan.

    Raises:
      ValueError: if it is outside, or not finite in ``dtype``.
    """
    concrete = _concrete(values)
    if concrete is not None:
        largest = min(high, float(np.finfo(dtype).max))
        condition = f"between {low:g} and {high:g}" if math.isfinite(high) else f"finite and >= {low:g} in {dtype}"
        _refuse(name, condition, concrete, ~((concrete >= low) & (concrete <= largest)))
    array = jnp.asarray(values, dtype)
    return jnp.where((array >= low) & (array <= high), array, jnp.nan)


def as_point(name: str, values: ArrayLike, dimensions: int, dtype: np.dtype) -> jax.Array:
    """Check and convert points, one coordinate per direction along the last axis.

    Raises:
      ValueError: if the last axis has another length or a coordinate is not finite in ``dtype``.
    """
    shape = np.shape(values)
    if not shape or shape[-1] != dimensions:
        raise ValueError(f"{name} must have shape (..., {dimensions}), got shape {shape}")
    concrete = _concrete(values)
    if concrete is not None:
        _refuse(name, f"finite in {dtype}", concrete, ~(np.abs(concrete) <= np.finfo(dtype).max))
    return jnp.asarray(values, dtype)


def as_log_size(n: ArrayLike | None, log_n: ArrayLike | None, dtype: np.dtype) -> jax.Array:
    """Return the logarithm of the dataset size, in nats.

    Python and NumPy sizes are logged on the host in float64 (Python integers of any length), so a size beyond
    the range of ``dtype`` is fine; a traced size is limited to its own dtype.

    Raises:
      TypeError: unless exactly one of ``n`` and ``log_n`` is given.
      ValueError: if ``n < 1`` or ``log_n < 0``, or nan.
    """
    if (n is None) == (log_n is None):
        raise TypeError("give the dataset size as n or as log_n, one of the two")
    if log_n is not None:
        concrete = _concrete(log_n)
        if concrete is not None:
            _refuse("log_n", ">= 0", concrete, ~(concrete >= 0))
        return jnp.asarray(log_n, dtype)
    assert n is not None
    if isinstance(n, int):
        if n < 1:
            raise ValueError(f"n must be >= 1, got n = {n}")
        return jnp.asarray(math.log(n), dtype)
    concrete = _concrete(n)
    if concrete is None:
        return jnp.log(jnp.asarray(n, dtype))
    _refuse("n", ">= 1", concrete, ~(concrete >= 1))
    return jnp.asarray(np.log(concrete), dtype)


def as_counts(name: str, values: ArrayLike) -> jax.Array:
    """Check and convert whole numbers >= 0 that fit into ``int32``.

    Raises:
      ValueError: if one is negative, not whole or too large.
    """
    concrete = _concrete(values)
    if concrete is not None:
        whole = (concrete >= 0) & (concrete <= np.iinfo(np.int32).max) & (np.floor(concrete) == concrete)
        _refuse(name, f"whole and between 0 and {np.iinfo(np.int32).max}", concrete, ~whole)
    return jnp.asarray(values).astype(jnp.int32)


def as_multiplicities(multiplicities: npt.ArrayLike) -> np.ndarray:
    """Check and convert how often each point appears, on the host.

    Raises:
      ValueError: if not one-dimensional, empty, below 1, not whole or not finite.
    """
    values = np.asarray(multiplicities, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"multiplicities must have shape (M,) with M >= 1, got shape {values.shape}")
    whole = np.isfinite(values) & (np.floor(values) == values)
    _refuse("multiplicities", "whole numbers >= 1", values, ~(whole & (values >= 1)))
    return values


def as_loss_curve(t: ArrayLike, mmse: ArrayLike, dtype: np.dtype) -> tuple[jax.Array, jax.Array]:
    """Check and convert a denoising loss as a function of the noise variance.

    Raises:
      ValueError: unless ``t`` is ``(k,)``, ``k >= 2``, positive, finite and ascending in ``dtype`` and ``mmse`` is
        ``(k,)`` or ``(k, d)``, ``>= 0`` and finite; or if the loss at the largest noise leaves no way to extrapolate.
    """
    if np.ndim(t) != 1 or np.size(t) < 2:
        raise ValueError(f"t must have shape (k,) with k >= 2, got shape {np.shape(t)}")
    shape = np.shape(mmse)
    if len(shape) not in (1, 2) or shape[0] != np.size(t) or shape[-1] == 0:
        raise ValueError(f"mmse must have shape (k,) or (k, d) with k = {np.size(t)} as t, got shape {shape}")
    noises = as_positive("t", t, dtype)
    t_values, values = _concrete(t), _concrete(mmse)
    if t_values is not None:
        t_values = t_values.astype(dtype).astype(np.float64)
        _refuse("t", f"ascending in {dtype}", t_values, np.diff(t_values, prepend=0) <= 0)
    if values is not None:
        _refuse("mmse", f"finite and >= 0 in {dtype}", values, ~((values <= np.finfo(dtype).max) & (values >= 0)))
    if t_values is not None and values is not None:
        if values.ndim == 2:
            _refuse("mmse[-1]", f"below t[-1] = {t_values[-1]}", values[-1], values[-1] >= t_values[-1])
        else:
            # The loss over a factor of 2 in t, as it is extrapolated from.
            far = max(np.searchsorted(t_values, t_values[-1] / 2, side="right") - 1, 0)
            if values[-1] > 0 and values[-1] * t_values[far] >= values[far] * t_values[-1]:
                raise ValueError(
                    "mmse must grow more slowly than t at the largest noise (extend the grid to larger t), got "
                    f"mmse = {values[far]}, {values[-1]} at t = {t_values[far]}, {t_values[-1]}"
                )
    return noises, jnp.asarray(mmse, dtype)
