"""Numbers as text, for tables, figures and reports."""

import numpy as np


def format_size(log_size: float, grid: tuple[float, float] | None = None) -> str:
    """Write a size for a table, from its natural logarithm.

    Args:
      log_size: log size; ``-inf`` and ``+inf`` mean below and above ``grid``.
      grid: smallest and largest size that was measured; without it (a prediction) a size below 1 is "< 1",
        one of ``-inf`` is "never" (the direction never freezes) and one of ``+inf`` is "inf".

    Example:
      >>> format_size(7.44), format_size(10000.0), format_size(float("inf"), (2, 16384)), format_size(-3.0)
      ('1.7e3', '10^4343', '> 16384', '< 1')
    """
    if np.isnan(log_size):
        return "n/a"
    if np.isinf(log_size) and grid is not None:
        return f"< {grid[0]:.15g}" if log_size < 0 else f"> {grid[1]:.15g}"
    if np.isinf(log_size):
        return "never" if log_size < 0 else "inf"
    if log_size < 0:
        return "< 1"
    decades = log_size / np.log(10)
    if decades >= 16:
        return f"10^{decades:.0f}"
    size = np.exp(log_size)
    if size < 999.5:
        return f"{size:.3g}"
    mantissa, exponent = f"{size:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"
