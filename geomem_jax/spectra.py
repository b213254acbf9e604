"""Spectra from command-line strings: lists of variances, levels and power laws.

A spectrum is a float64 array ``(d,)`` of variances, in the order in which it was written.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from geomem_jax.errors import InputError

MAX_DIRECTIONS = 10**6
# Squared distances, sums over up to 10**6 directions, must stay inside float32 (1e-38 to 3e38).
SMALLEST_TOP, LARGEST_TOP = 1e-30, 1e30


def check_variances(variances: ArrayLike, what: str = "variances") -> np.ndarray:
    """Return variances as a float64 array ``(d,)``, unchanged.

    Raises:
      InputError: if they are not a non-empty list of finite, non-negative numbers, if none is positive, or if
        the largest lies outside ``[1e-30, 1e30]``, where float32 arithmetic on the data breaks down.
    """
    try:
        values = np.asarray(variances, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: not a list of numbers; give variances such as 1,1,0.09") from error
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"{what}: need a non-empty list, got shape {values.shape}; give variances such as 1,1,0.09")
    if values.size > MAX_DIRECTIONS:
        raise InputError(f"{what}: {values.size} directions are more than {MAX_DIRECTIONS}; give fewer")
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if wrong.size:
        raise InputError(
            f"{what}: number {wrong[0] + 1} is {values[wrong[0]]:g}; variances are finite and not negative"
        )
    top = values.max()
    if top == 0:
        raise InputError(f"{what}: every variance is 0; at least one must be positive")
    if not SMALLEST_TOP <= top <= LARGEST_TOP:
        raise InputError(
            f"{what}: the largest is {top:g}, outside [{SMALLEST_TOP:g}, {LARGEST_TOP:g}]; choose other units"
        )
    return values


def parse_variances(text: str) -> np.ndarray:
    """Parse a list of variances, one per direction.

    Raises:
      InputError: if a part is not a number, or as in :func:`check_variances`.

    Example:
      >>> parse_variances("1,1,0.09").tolist()
      [1.0, 1.0, 0.09]
    """
    what = f"variances {_shown(text)}"
    return check_variances([_number(part, what) for part in text.split(",")], what)


def parse_levels(text: str) -> np.ndarray:
    """Parse ``count:variance`` pairs, any number of levels.

    Raises:
      InputError: if a pair is malformed, a count is below 1, there are more than 10**6 directions, or as in
        :func:`check_variances`.

    Example:
      >>> parse_levels("2:1,3:0.09").tolist()
      [1.0, 1.0, 0.09, 0.09, 0.09]
    """
    what = f"levels {_shown(text)}"
    counts, values = [], []
    for part in text.split(","):
        pair = part.split(":")
        if len(pair) != 2:
            raise InputError(f"{what}: {_shown(part)} is not count:variance; write for example 8:1,8:0.09")
        counts.append(_count(pair[0], what))
        values.append(_number(pair[1], what))
    _check_total(sum(counts), what)
    return check_variances(np.repeat(values, counts), what)


def parse_power_law(text: str) -> np.ndarray:
    """Parse ``count:exponent`` or ``count:exponent:top`` into ``v_k = top * k**-exponent``, ``k = 1..count``.

    The top variance is 1 unless given.

    Raises:
      InputError: if the text is malformed, the count is below 1 or above 10**6, the exponent is negative or
        not finite, or as in :func:`check_variances`.

    Example:
      >>> parse_power_law("3:1:12").tolist()
      [12.0, 6.0, 4.0]
    """
    what = f"power law {_shown(text)}"
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise InputError(f"{what}: not count:exponent or count:exponent:top; write for example 64:1.5 or 64:1.5:4")
    count = _count(parts[0], what)
    _check_total(count, what)
    exponent = _number(parts[1], what)
    if not (math.isfinite(exponent) and exponent >= 0):
        raise InputError(f"{what}: the exponent is {exponent:g}; it must be finite and not negative")
    top = _number(parts[2], what) if len(parts) == 3 else 1.0
    # Checked before it is multiplied, so that an error speaks of what was typed.
    check_variances([top], what)
    return check_variances(top * np.arange(1, count + 1, dtype=np.float64) ** -exponent, what)


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{what}: {_shown(text)} is not a number; write numbers such as 0.09") from error


def _count(text: str, what: str) -> int:
    try:
        count = int(text)
    except ValueError as error:
        raise InputError(f"{what}: {_shown(text)} is not a whole number of directions; write 1 or more") from error
    if count < 1:
        raise InputError(f"{what}: {_shown(text)} directions; a count must be 1 or more")
    return count


def _check_total(total: int, what: str) -> None:
    # Before anything is allocated.
    if total > MAX_DIRECTIONS:
        raise InputError(f"{what}: more than {MAX_DIRECTIONS} directions; lower the count")


def _shown(text: str) -> str:
    """Quote what the user typed, on one line and not at length."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
