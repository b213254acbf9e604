"""Closed-form predictions: which directions of the data freeze out at which dataset size.

Everything here is computed from population parameters alone: variances along directions, a dataset size and a noise
*variance* ``t`` (variance-exploding convention, ``x = y + sqrt(t) z``; :mod:`theory.noise` converts from others).
:func:`spectrum_from_samples` estimates the variances where only the eigenvalues of a sample covariance are known.  No
dataset, no random key, no file.

Shapes.  ``variances`` is ``(d,)``; ``n`` and ``t`` broadcast to a shape ``s``; results have shape ``s`` or
``s + (d,)``.  Wherever ``n`` stands, ``log_n=`` (nats) may be given instead.  Everything works under ``jit``
(``law`` static), ``vmap`` and ``grad``; memory grows with ``d``, never with its square.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# At once: whoever imported the modules of these names later would put them in the place of the functions.
from .effective_noise import effective_noise
from .learning_time import learning_time

__distribution__ = "geomem-jax"

# Modules and what they offer here.  They are loaded when first asked for, as most uses need few of them.
_OFFERED = {
    "condensation": ("basin_multiplicity", "condensation_time", "log_critical_size", "onset_time"),
    "duplicates": ("effective_log_size", "log_size_at_participation"),
    "effective_noise": ("effective_noise",),
    "finite_size": ("finite_size_gain", "finite_size_participation"),
    "freeze_out": ("dataset_size_for", "freeze_out_sizes", "freeze_out_times"),
    "generalization": ("best_generalization_time",),
    "information": ("condensation_time_from_mmse", "information_from_mmse", "mutual_information"),
    "laws": ("LAWS", "SCOPES", "Law", "Scope", "gain", "soft_dimension"),
    "learning_time": (
        "gradient_descent_gain",
        "gradient_flow_gain",
        "learning_time",
        "mean_gradient_flow_gain",
    ),
    "mean_finite_size": ("mean_finite_size_gain", "mean_finite_size_participation"),
    "planted": ("PlantedResponse", "planted_response"),
    "pointwise": ("clt_breakdown_time", "condensation_time_at", "log_annealed_participation"),
    "population": ("wiener_gain",),
    "sample_spectrum": ("SampleSpectrum", "spectrum_from_samples"),
    "typical": ("finite_size_gain_quantile", "gain_quantile"),
}
_MODULES = ("noise", "random_energy", "random_energy_spectrum", "random_matrix")  # offered whole
_MODULE_OF = {name: module for module, names in _OFFERED.items() for name in names}

__all__ = sorted([*_MODULES, *_MODULE_OF])

if TYPE_CHECKING:  # the same for programs that read this file and do not run it
    from . import noise, random_energy, random_energy_spectrum, random_matrix
    from .condensation import basin_multiplicity, condensation_time, log_critical_size, onset_time
    from .duplicates import effective_log_size, log_size_at_participation
    from .finite_size import finite_size_gain, finite_size_participation
    from .freeze_out import dataset_size_for, freeze_out_sizes, freeze_out_times
    from .generalization import best_generalization_time
    from .information import condensation_time_from_mmse, information_from_mmse, mutual_information
    from .laws import LAWS, SCOPES, Law, Scope, gain, soft_dimension
    from .learning_time import gradient_descent_gain, gradient_flow_gain, mean_gradient_flow_gain
    from .mean_finite_size import mean_finite_size_gain, mean_finite_size_participation
    from .planted import PlantedResponse, planted_response
    from .pointwise import clt_breakdown_time, condensation_time_at, log_annealed_participation
    from .population import wiener_gain
    from .sample_spectrum import SampleSpectrum, spectrum_from_samples
    from .typical import finite_size_gain_quantile, gain_quantile
else:  # a type checker would take any name for offered

    def __getattr__(name: str) -> object:
        if name in _MODULES or name in _OFFERED:
            return import_module(f".{name}", __name__)
        if name in _MODULE_OF:
            found = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
