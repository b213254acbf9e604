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
      ('1700', '10^4343', '> 16384', '< 1')
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
    three = f"{np.exp(log_size):.3g}"
    if decades < 6:
        return f"{float(three):.15g}"
    mantissa, exponent = three.split("e")
    return f"{mantissa}e{int(exponent)}"


def format_interval(log_sizes: tuple[float, float, float], grid: tuple[float, float]) -> str:
    """Write a measured size with its interval; a censored one, or one without an interval, stands alone.

    Args:
      log_sizes: log size, lower and upper end, as :func:`format_size` takes them.
      grid: smallest and largest size that was measured.

    Example:
      >>> format_interval((2.0, 1.8, 2.3), (2, 100)), format_interval((float("inf"),) * 3, (2, 100))
      ('7.39 [6.05, 9.97]', '> 100')
    """
    value, lower, upper = (format_size(number, grid) for number in log_sizes)
    alone = np.isnan(log_sizes[1]) or (np.isinf(log_sizes[0]) and value == lower == upper)
    return value if alone else f"{value} [{lower}, {upper}]"


def spaced(count: int, most: int = 24) -> np.ndarray:
    """Return at most ``most`` of ``count`` positions, evenly spaced by rank, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def one_line(name: str) -> str:
    """Return a name for a title: one line, not too long."""
    line = " ".join(name.split())
    return line if len(line) <= 50 else line[:49] + "…"
