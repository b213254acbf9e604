"""Closed-form predictions: which directions of the data freeze out at which dataset size.

Everything here is computed from population parameters alone: variances along directions, a dataset size and a noise
*variance* ``t`` (variance-exploding convention, ``x = y + sqrt(t) z``).  No dataset, no random key, no file.

Shapes.  ``variances`` is ``(d,)``; ``n`` and ``t`` broadcast to a shape ``s``; results have shape ``s`` or
``s + (d,)``.  Wherever ``n`` stands, ``log_n=`` (nats) may be given instead.  Everything works under ``jit``
(``law`` static), ``vmap`` and ``grad``; memory grows with ``d``, never with its square.
"""

from .condensation import basin_multiplicity, condensation_time, log_critical_size, onset_time
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
from .generalization import best_generalization_time
from .information import mutual_information
from .planted import PlantedResponse, planted_response
from .pointwise import clt_breakdown_time, condensation_time_at, log_annealed_participation
from .population import wiener_gain

__distribution__ = "geomem-jax"

__all__ = [
    "LAWS",
    "SCOPES",
    "Law",
    "PlantedResponse",
    "Scope",
    "basin_multiplicity",
    "best_generalization_time",
    "clt_breakdown_time",
    "condensation_time",
    "condensation_time_at",
    "dataset_size_for",
    "effective_noise",
    "freeze_out_sizes",
    "freeze_out_times",
    "gain",
    "log_annealed_participation",
    "log_critical_size",
    "mutual_information",
    "onset_time",
    "planted_response",
    "soft_dimension",
    "wiener_gain",
]
