"""Which laws of :mod:`theory` a run is held against, and at which size: an estimated mean costs the linear law one."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

LAWS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"population": ("population",), "linear": ("linear",), "empirical": ("empirical", "finite_size"), "network": ()}
)
"""The laws of every rung at held-out points, the leading order first; no law is claimed for networks."""

EXACT_AT: Mapping[str, Literal["held_out", "train"]] = MappingProxyType(
    {"finite_size": "held_out", "finite_size_train": "train"}
)
"""The exact averages of a result, by the name under which it stores them: of which points they are."""

LABELS: Mapping[str, str] = MappingProxyType(dict.fromkeys(EXACT_AT, "exact-average"))
"""How a law is called in words where its name alone says too little."""


def label(law: str) -> str:
    """Return what a law is called in words."""
    return LABELS.get(law, law)


def law_size(law: str, n: ArrayLike, *, centred: bool) -> np.ndarray:
    """Return the dataset size at which a law describes ``n`` points: ``n - 1`` for the linear law if ``centred``."""
    return np.asarray(n, float) - (centred and law == "linear")


def data_log_size(law: str, log_n: ArrayLike, *, centred: bool) -> np.ndarray:
    """Return the log size of the data that a law of log size ``log_n`` describes, the inverse of :func:`law_size`."""
    log_n = np.asarray(log_n, np.float64)
    return np.logaddexp(log_n, 0.0) if centred and law == "linear" else log_n
