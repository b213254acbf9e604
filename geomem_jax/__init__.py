"""Measure which directions of the data a diffusion model can still vary, and overlay the theory.

The predictions live in the package :mod:`theory`, which never sees a dataset; this package draws data, builds
score models, measures their gains and compares.  ``t`` is always a noise *variance* (variance-exploding
convention): ``x = y + sqrt(t) z``.
"""

import theory

if getattr(theory, "__distribution__", None) != "geomem-jax":
    raise ImportError(
        "geomem_jax needs the `theory` package of the geomem-jax distribution, but Python found "
        f"{getattr(theory, '__file__', None)!r} first. Rename or move that module."
    )

__version__ = "0.1.0"
