r"""The laws that are held against measurements at a class of points, each with what it leaves open.

An exact law, and any that the user gives, states one gain.  An asymptotic one states a *range*, its finite-size error:

* the linear law one part in ``N`` either way: the mean of the resolvent of a sample covariance is off its limit by that
  order, and on ladders of 6 to 96 directions by less;
* the empirical and the planted law whatever lies between them and the exact average, where that is known.  Where it is
  not, they are taken at their word.

Source.  Derived here.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

import theory
from geomem_jax.errors import InputError
from geomem_jax.freeze_out import predicted_crossings, predicted_sizes
from geomem_jax.gains import distinct_variances
from geomem_jax.laws import EXACT_AT, law_size

CLOSED_FORMS = ("population", "linear", "empirical", "planted")


class Contender(NamedTuple):
    """A law at a class of points; dataset size, noise variance and distinct variance are ``k``, ``j`` and ``g``.

    Attributes:
      name: of the law.
      exact: whether it states one gain.
      gain: ``(k, j, g)``.
      error: ``(k, j, g)`` numerical error of the gain, or of the exact average that ends its range.
      lower, upper: ``(k, j, g)``, the range; both ``gain`` for an exact law.
      dimension: ``(k, j)`` soft dimension.
      log_sizes: ``(j, g)`` freeze-out sizes; where there is no closed form, interpolated and censored as measured ones.
    """

    name: str
    exact: bool
    gain: np.ndarray
    error: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    dimension: np.ndarray
    log_sizes: np.ndarray


def _stored_as(law: str, point: str) -> str:
    """The name under which a result keeps a law: exact averages have one for each point class."""
    if law != "finite_size":
        return law
    return next((label for label, at in EXACT_AT.items() if at == point), "")


def _speaks_of(law: str, point: str) -> bool:
    if law == "finite_size":
        return point in EXACT_AT.values()
    return law not in theory.SCOPES or theory.SCOPES[law].point in ("any", point)


def names_at(dataset: xr.Dataset, point: str, names: Sequence[str] | None = None) -> list[str]:
    """Which laws speak of a point class: of ``names``, or of the closed forms and the exact average if it is stored.

    Raises:
      InputError: for a name that is neither stored in the result nor in :data:`theory.LAWS`, and for a law of medians.
    """
    stored = [str(name) for name in dataset["law"].values]
    for name in names or ():
        if name not in theory.LAWS and name not in stored:
            raise InputError(f"law {name!r} is not known; choose of {', '.join(theory.LAWS)}")
        if name in theory.SCOPES and theory.SCOPES[name].statistic != "mean":
            raise InputError(f"law {name!r} is of medians, the league of means; leave it out")
    if names is None:
        names = (*CLOSED_FORMS, *(["finite_size"] if _stored_as("finite_size", point) in stored else []))
    return [name for name in names if _speaks_of(name, point)]


def _evaluated(dataset: xr.Dataset, law: str | theory.Law, name: str, point: str) -> list[np.ndarray]:
    """Gains and numerical errors, ``(k, j, d)``: stored ones, else those of :mod:`theory`."""
    stored = _stored_as(name, point)
    if stored in dataset["law"].values:
        variables = [variable for variable in ("predicted_gain", "predicted_gain_error") if variable in dataset]
        found = [
            dataset[variable].sel(law=stored).transpose("dataset_size", "noise_variance", "direction").values
            for variable in variables
        ]
    else:
        n = law_size(name, dataset["dataset_size"].values, centred=bool(dataset.attrs["centred"]))[:, None]
        grid = dataset["variance"].values, n, dataset["noise_variance"].values
        try:
            average = theory.mean_finite_size_gain(*grid, point) if law == "finite_size" else None
            parts = [theory.gain(*grid, law)] if average is None else [average.mean, average.error]
            found = [np.asarray(part) for part in parts]
        except (TypeError, ValueError) as error:
            raise InputError(f"law {name!r}: {error}".splitlines()[0]) from error
    gain, *numerical = (np.asarray(part, np.float64) for part in found)
    if gain.shape[-1] != dataset.sizes["direction"]:
        raise InputError(
            f"law {name!r}: {gain.shape[-1]} gains of {dataset.sizes['direction']} directions; give one for each"
        )
    if not np.isfinite(gain).all():
        raise InputError(f"law {name!r}: {np.count_nonzero(~np.isfinite(gain))} of its gains are not finite; mend it")
    return [gain, numerical[0] if numerical else np.zeros_like(gain)]


def contender(
    dataset: xr.Dataset, law: str | theory.Law, name: str, point: str, exact: Contender | None = None
) -> Contender:
    """Evaluate a law at the grid of a result.

    Args:
      dataset: a result.
      law: a name, or a function ``(variances, log_n, t) -> gains``.
      name: how it is called.
      point: ``"train"``, ``"held_out"`` or ``"origin"``.
      exact: the exact average there, where known.

    Raises:
      InputError: if the function does not give one finite gain for each direction.
    """
    per_direction = _evaluated(dataset, law, name, point)
    weights = distinct_variances(dataset).weights
    gain, error = (part @ weights for part in per_direction)
    scope = theory.SCOPES.get(name)
    lower = upper = gain
    if name == "linear":
        n = law_size(name, dataset["dataset_size"].values, centred=bool(dataset.attrs["centred"]))[:, None, None]
        lower, upper = gain * (1 - 1 / np.maximum(n, 1)), gain * (1 + 1 / np.maximum(n, 1))
    elif scope is not None and not scope.exact and exact is not None:
        lower, upper, error = np.minimum(gain, exact.gain), np.maximum(gain, exact.gain), exact.error
    times = dataset["noise_variance"].values
    if scope is None or name == "finite_size":
        rho = gain / (dataset["reference_gain"].values.astype(np.float64) @ weights)
        sizes = [predicted_crossings(dataset["dataset_size"].values, rho[:, at]) for at in range(len(times))]
    else:
        sizes = [predicted_sizes(dataset, t, name) for t in times]
    exactly = scope is None or scope.exact
    return Contender(name, exactly, gain, error, lower, upper, per_direction[0].sum(axis=-1), np.array(sizes))


def contenders(
    dataset: xr.Dataset, point: str, names: Sequence[str] | None, others: Mapping[str, theory.Law]
) -> list[Contender]:
    """Evaluate all laws that speak of a point class, as :func:`names_at` names them, and the user's ``others``."""
    wanted = names_at(dataset, point, names)
    exact = contender(dataset, "finite_size", "finite_size", point) if "finite_size" in wanted else None
    found = [contender(dataset, name, name, point, exact) for name in wanted if name != "finite_size"]
    found += [exact] if exact is not None else []
    return found + [contender(dataset, law, name, point) for name, law in others.items()]
