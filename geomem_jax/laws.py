"""Laws of :mod:`theory` applied to data whose mean was estimated: that costs the linear law one point."""

import numpy as np
from numpy.typing import ArrayLike


def law_size(law: str, n: ArrayLike, *, centred: bool) -> np.ndarray:
    """Return the dataset size at which a law describes ``n`` points: ``n - 1`` for the linear law if ``centred``."""
    return np.asarray(n, float) - (centred and law == "linear")


def data_log_size(law: str, log_n: ArrayLike, *, centred: bool) -> np.ndarray:
    """Return the log size of the data that a law of log size ``log_n`` describes, the inverse of :func:`law_size`."""
    log_n = np.asarray(log_n, np.float64)
    return np.logaddexp(log_n, 0.0) if centred and law == "linear" else log_n
