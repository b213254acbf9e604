"""Sources of training sets: linear manifolds, bundled real data and the user's own arrays."""

import os
from pathlib import Path

import jax

from geomem_jax import spectra
from geomem_jax.config import SpectrumOptions
from geomem_jax.data import manifolds
from geomem_jax.data.bundled import BUNDLED
from geomem_jax.data.files import read_array
from geomem_jax.data.manifolds import Manifold
from geomem_jax.data.points import from_points
from geomem_jax.data.source import Draw, Source
from geomem_jax.data.synthetic import linear_manifold
from geomem_jax.errors import InputError

__all__ = [
    "BUNDLED",
    "Draw",
    "Manifold",
    "Source",
    "from_options",
    "from_points",
    "linear_manifold",
    "load",
    "manifolds",
    "read_array",
]


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


def from_options(options: SpectrumOptions, seed: int = 0) -> Source:
    """Load the data that the options name; ``seed`` draws the rotation of ``--embedding``."""
    options.check()
    if options.data is not None:
        return load(options.data)
    if options.variances is not None:
        variances, name = spectra.parse_variances(options.variances), "variances"
    elif options.two_level is not None:
        variances, name = spectra.parse_levels(options.two_level), "levels"
    elif options.power_law is not None:
        variances, name = spectra.parse_power_law(options.power_law), "power-law"
    else:
        ladder = load("ladder")
        variances, name = ladder.variances, ladder.name
    return linear_manifold(
        variances,
        normalized=options.normalized,
        embedding=options.embedding,
        embedding_key=None if options.embedding is None else jax.random.key(seed),
        name=name + ("-normalized" if options.normalized else ""),
    )
