"""Points that a user gives for comparison: samples, training points, held-out points.

Unlike the points of a source of data (:mod:`geomem_jax.data.points`) they may all be equal, or only one.
"""

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from geomem_jax.data.points import LARGEST_VALUE
from geomem_jax.errors import InputError


def check_rows(points: ArrayLike, name: str, least: int = 1) -> np.ndarray:
    """Return points as rows of JAX's default precision.

    Args:
      points: ``(n, ...)`` numbers of any real dtype; further axes, as of images, are flattened.
      name: the argument, for errors.
      least: the fewest points that will do.

    Returns:
      ``(n, d)`` float32, or float64 where JAX computes in it.

    Raises:
      InputError: if the array is not real numbers, has no axis of points, fewer than ``least`` points or no
        coordinates; or if a value is NaN, infinite or so large that squares leave the range of float32.
    """
    try:
        points = np.asarray(points)
    except ValueError as error:
        raise InputError(f"{name}: rows differ in length; give an array, one point per row") from error
    if not any(jnp.issubdtype(points.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise InputError(f"{name}: dtype is {points.dtype}; give real numbers")
    if points.ndim < 2:
        raise InputError(f"{name}: shape is {points.shape}; give (points, coordinates), one point per row")
    if len(points) < least:
        raise InputError(f"{name}: shape {points.shape} has {len(points)} points; give at least {least}, one per row")
    if points.size == 0:
        raise InputError(f"{name}: shape {points.shape} has no coordinates; give at least one")
    with np.errstate(over="ignore"):  # beyond the range of the precision: infinite, which the next check reports
        rows = points.reshape(len(points), -1).astype(jnp.result_type(float), copy=False)
    usable = np.abs(rows) <= LARGEST_VALUE
    if not usable.all():
        raise InputError(
            f"{name}: {np.count_nonzero(~usable)} of {usable.size} values are NaN, infinite or above "
            f"{LARGEST_VALUE:g}, the first in point {np.argmin(usable.all(axis=1))} (counted from 0); remove or rescale"
        )
    return rows


def check_same_dimension(first: np.ndarray, name: str, second: np.ndarray, other: str) -> None:
    """Raise :class:`InputError` unless points of two arguments ``(n, d)`` have equally many coordinates."""
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"{name}: {first.shape[1]} coordinates per point, but {other} has {second.shape[1]}; "
            "give points of one space"
        )
