r"""A source made of given points: real data, seen in their principal directions.

With ``M`` points :math:`x_\mu` of mean :math:`\bar x`, the directions and variances are the eigenvectors and
eigenvalues of

.. math:: C = \frac1{M-1} \sum_\mu (x_\mu - \bar x)(x_\mu - \bar x)^\top.

The factor is :math:`1/(M-1)` because ``C`` is then, for every ``N``, exactly the mean over all subsets of
``N`` points of the subset's own covariance (with :math:`1/(N-1)`), and unbiased for the population behind the
points.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from geomem_jax.data.source import MAX_BASIS, Draw, Source
from geomem_jax.errors import InputError

MIN_POINTS = 3
# Squared distances must stay inside float32 (1e-38 to 3e38) after sums over as many as 10**6 coordinates.
SMALLEST_SPREAD, LARGEST_VALUE = 1e-15, 1e15


def from_points(points: ArrayLike, name: str) -> Source:
    """Build a source whose training sets are random subsets of the given points.

    The mean of all points is subtracted once, before anything is drawn.  A draw is a random order of the
    points: training points from its front, held-out points from its end, so that the held-out points do not
    depend on the training size and lie outside the largest training set.  All is computed in float64, and
    points are drawn in JAX's own default precision.

    Args:
      points: ``(M, D)``, or ``(M, ...)`` such as images, which are flattened; numbers of any real dtype.
      name: shown in figures, reports and errors.

    Returns:
      A source with a basis ``(D, D)``; variances below the rounding error of the covariance are 0.

    Raises:
      InputError: as :func:`check_points`; a draw raises it when it asks for more points than there are.
    """
    rows = check_points(points, name)
    num_points, dimension = rows.shape
    # From the first point before from the mean: constant coordinates are then exactly 0, however large.
    centred = rows - rows[0]
    centred -= centred.mean(axis=0)
    variances, basis = np.linalg.eigh(centred.T @ centred / (num_points - 1))
    variances, basis = variances[::-1], np.ascontiguousarray(basis[:, ::-1])
    # The usual threshold of a numerical rank.  Rounding must not pass for a direction, nor be negative.
    rounding = max(num_points, dimension) * np.finfo(np.float64).eps * variances[0]
    variances = np.where(variances > rounding, variances, 0.0)

    def rows_of(key: jax.Array, num_train: int, num_held_out: int) -> tuple[np.ndarray, np.ndarray]:
        if num_train < 0 or num_held_out < 0:
            raise InputError(
                f"{name}: {num_train} training and {num_held_out} held-out points; neither can be negative"
            )
        if num_train + num_held_out > num_points:
            raise InputError(
                f"{name}: N = {num_train} training points and {num_held_out} held-out points are "
                f"{num_train + num_held_out}, but there are {num_points}; lower one of them"
            )
        order = np.asarray(jax.random.permutation(key, num_points))
        return order[:num_train], order[num_points - num_held_out :]

    def draw(key: jax.Array, num_train: int, num_held_out: int) -> Draw:
        train, held_out = rows_of(key, num_train, num_held_out)
        return Draw(jnp.asarray(centred[train]), jnp.asarray(centred[held_out]))

    return Source(
        name=name,
        variances=variances,
        basis=basis,
        gaussian=False,
        centred=True,
        max_points=num_points,
        draw=draw,
        points=centred,
        rows=rows_of,
    )


def check_points(points: ArrayLike, name: str) -> np.ndarray:
    """Return the points as a float64 array ``(M, D)``, one point per row.

    Raises:
      InputError: as :func:`check_layout`; or if a value is NaN or infinite, if all points are equal, or if
        the values are so large or their differences so small that squares leave the range of float32.
    """
    points = np.asarray(points)
    check_layout(points.shape, points.dtype, name)
    with np.errstate(over="ignore"):  # long doubles beyond float64 become infinite, which the next check reports
        rows = points.reshape(len(points), -1).astype(np.float64)
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.unravel_index(np.argmin(finite), finite.shape)
        raise InputError(
            f"{name}: {np.count_nonzero(~finite)} of {finite.size} values are NaN or infinite, the first in "
            f"row {row}, column {column} (counted from 0); remove or fill them"
        )
    largest = max(rows.max(), -rows.min())
    if largest > LARGEST_VALUE:
        raise InputError(
            f"{name}: the largest value is {largest:.3g}, above {LARGEST_VALUE:g}, and variances would "
            "overflow float32; rescale the data"
        )
    spread = np.ptp(rows, axis=0).max()
    if spread == 0:
        raise InputError(f"{name}: all {len(rows)} points are equal; give data that vary")
    if spread < SMALLEST_SPREAD:
        raise InputError(
            f"{name}: the points differ by {spread:.3g} at most, below {SMALLEST_SPREAD:g}, and variances "
            "would underflow float32; rescale the data"
        )
    return rows


def check_layout(shape: tuple[int, ...], dtype: np.dtype, name: str) -> None:
    """Check what can be told from shape and dtype alone, before an array is read.

    Raises:
      InputError: if the dtype is not boolean, integer or floating; if there is one axis only, or none; if
        there are fewer than 3 points, no coordinates, or more than ``MAX_BASIS`` of them.
    """
    if dtype.kind not in "biuf":
        raise InputError(f"{name}: dtype is {_kind(dtype)}; need real numbers, save the array as float32 or float64")
    if len(shape) < 2:
        raise InputError(f"{name}: shape is {shape}; need (points, coordinates), one point per row")
    num_points, dimension = shape[0], math.prod(shape[1:])
    if num_points < MIN_POINTS:
        raise InputError(f"{name}: shape {shape} has {num_points} points; need at least {MIN_POINTS}, one per row")
    if dimension == 0:
        raise InputError(f"{name}: shape {shape} has no coordinates; need at least one column")
    if dimension > MAX_BASIS:
        raise InputError(
            f"{name}: {dimension} coordinates per point are more than {MAX_BASIS}; crop, pool or project the data first"
        )


def _kind(dtype: np.dtype) -> str:
    """Name a dtype briefly: structured ones print at any length."""
    kinds = {"O": "object", "V": "structured or unknown", "U": "text", "S": "text"}
    return kinds.get(dtype.kind, str(dtype))
