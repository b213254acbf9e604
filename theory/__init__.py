"""Closed-form predictions: which directions of the data freeze out at which dataset size.

Everything here is computed from population parameters alone: variances along directions, a dataset size and a noise
*variance* ``t`` (variance-exploding convention, ``x = y + sqrt(t) z``; :mod:`theory.noise` converts from others).
:func:`spectrum_from_samples` estimates the variances where only the eigenvalues of a sample covariance are known.  No
dataset, no random key, no file.

Shapes.  ``variances`` is ``(d,)``; ``n`` and ``t`` broadcast to a shape ``s``; results have shape ``s`` or
``s + (d,)``.  Wherever ``n`` stands, ``log_n=`` (nats) may be given instead.  Everything works under ``jit``
(``law`` static), ``vmap`` and ``grad``; memory grows with ``d``, never with its square.
"""

from . import noise, random_energy, random_energy_spectrum
from .condensation import basin_multiplicity, condensation_time, log_critical_size, onset_time
from .duplicates import effective_log_size, log_size_at_participation
from .effective_noise import effective_noise
from .finite_size import (
    finite_size_gain,
    finite_size_participation,
    mean_finite_size_gain,
    mean_finite_size_participation,
)
from .freeze_out import dataset_size_for, freeze_out_sizes, freeze_out_times
from .generalization import best_generalization_time
from .information import condensation_time_from_mmse, information_from_mmse, mutual_information
from .laws import LAWS, SCOPES, Law, Scope, gain, soft_dimension
from .learning_time import gradient_descent_gain, gradient_flow_gain, learning_time, mean_gradient_flow_gain
from .planted import PlantedResponse, planted_response
from .pointwise import clt_breakdown_time, condensation_time_at, log_annealed_participation
from .population import wiener_gain
from .sample_spectrum import SampleSpectrum, spectrum_from_samples
from .typical import finite_size_gain_quantile, gain_quantile

__distribution__ = "geomem-jax"

__all__ = [
    "LAWS",
    "SCOPES",
    "Law",
    "PlantedResponse",
    "SampleSpectrum",
    "Scope",
    "basin_multiplicity",
    "best_generalization_time",
    "clt_breakdown_time",
    "condensation_time",
    "condensation_time_at",
    "condensation_time_from_mmse",
    "dataset_size_for",
    "effective_log_size",
    "effective_noise",
    "finite_size_gain",
    "finite_size_gain_quantile",
    "finite_size_participation",
    "freeze_out_sizes",
    "freeze_out_times",
    "gain",
    "gain_quantile",
    "gradient_descent_gain",
    "gradient_flow_gain",
    "information_from_mmse",
    "learning_time",
    "log_annealed_participation",
    "log_critical_size",
    "log_size_at_participation",
    "mean_finite_size_gain",
    "mean_finite_size_participation",
    "mean_gradient_flow_gain",
    "mutual_information",
    "noise",
    "onset_time",
    "planted_response",
    "random_energy",
    "random_energy_spectrum",
    "soft_dimension",
    "spectrum_from_samples",
    "wiener_gain",
]
