"""Sources of training sets: linear manifolds, bundled real data and the user's own arrays."""

import os
from pathlib import Path

from geomem_jax.data.bundled import BUNDLED
from geomem_jax.data.files import read_array
from geomem_jax.data.points import from_points
from geomem_jax.data.source import Draw, Source
from geomem_jax.data.synthetic import linear_manifold
from geomem_jax.errors import InputError

__all__ = ["BUNDLED", "Draw", "Source", "from_points", "linear_manifold", "load", "read_array"]


def load(name_or_path: str | Path) -> Source:
    """Load bundled data by name, or the user's array from a ``.npy`` or ``.npz`` file.

    A bundled name wins over a file of that name; write ``./digits`` for the file.

    Raises:
      InputError: if it is neither a bundled name nor a path, or as :func:`read_array`.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text in BUNDLED:
        return BUNDLED[text]()
    if isinstance(name_or_path, Path) or os.sep in text or text.endswith((".npy", ".npz")) or os.path.lexists(text):
        return from_points(read_array(text), Path(text).name)
    raise InputError(f"data {text!r}: unknown; give one of {', '.join(BUNDLED)}, or a path to a .npy or .npz file")
