"""Closed-form predictions: which directions of the data freeze out at which dataset size.

Everything here is computed from population parameters alone: variances along directions, a dataset size and a noise
*variance* ``t`` (variance-exploding convention, ``x = y + sqrt(t) z``).  No dataset, no random key, no file.

Shapes.  ``variances`` is ``(d,)``; ``n`` and ``t`` broadcast to a shape ``s``; results have shape ``s`` or
``s + (d,)``.  Wherever ``n`` stands, ``log_n=`` (nats) may be given instead.  Everything works under ``jit``
(``law`` static), ``vmap`` and ``grad``; memory grows with ``d``, never with its square.
"""

from .condensation import condensation_time, log_critical_size, onset_time
from .effective_noise import effective_noise
from .freeze_out import (
    LAWS,
    SCOPES,
    Law,
    Scope,
    dataset_size_for,
    freeze_out_sizes,
    freeze_out_times,
    gain,
    soft_dimension,
)
from .information import condensation_time_from_mmse, information_from_mmse, mutual_information
from .population import wiener_gain

__distribution__ = "geomem-jax"

__all__ = [
    "LAWS",
    "SCOPES",
    "Law",
    "Scope",
    "condensation_time",
    "condensation_time_from_mmse",
    "dataset_size_for",
    "effective_noise",
    "freeze_out_sizes",
    "freeze_out_times",
    "gain",
    "information_from_mmse",
    "log_critical_size",
    "mutual_information",
    "onset_time",
    "soft_dimension",
    "wiener_gain",
]
