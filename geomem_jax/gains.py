"""Gains of a result averaged over directions of equal variance, and those that laws predict.

Directions of equal variance are statistically the same, so their mean is taken within each training set
before any error bar; the error bar is the spread over training sets (seeds), which share nothing.
"""

from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from geomem_jax.directions import group_by_variance
from geomem_jax.errors import InputError
from geomem_jax.laws import LAWS_OF

Statistic = Literal["mean", "median"]


class DistinctVariances(NamedTuple):
    """The distinct positive variances of a result.

    Attributes:
      variance: ``(g,)``, descending.
      multiplicity: ``(g,)``, how many directions share it.
      weights: ``(d, g)``; ``values @ weights`` averages over the directions of each variance.
    """

    variance: np.ndarray
    multiplicity: np.ndarray
    weights: np.ndarray


def distinct_variances(dataset: xr.Dataset) -> DistinctVariances:
    """Group the directions of a result, as :func:`geomem_jax.directions.group_by_variance` does."""
    variances = dataset["variance"].values
    groups = group_by_variance(variances)
    weights = np.zeros((len(variances), len(groups)))
    for column, members in enumerate(groups):
        weights[members, column] = 1 / len(members)
    return DistinctVariances(variances @ weights, np.array([len(members) for members in groups], int), weights)


def require(dataset: xr.Dataset, dimension: str, label: str) -> None:
    """Raise :class:`InputError` unless ``label`` is on ``dimension`` of the result."""
    labels = [str(value) for value in dataset[dimension].values]
    if label not in labels:
        raise InputError(f"{dimension} {label!r} is not in this result; choose one of {', '.join(labels)}")


def is_complete(dataset: xr.Dataset, rung: str) -> np.ndarray:
    """Where a rung is measured: ``(dataset_size, seed)``.

    Raises:
      InputError: if the result has no such rung.
    """
    require(dataset, "rung", rung)
    return dataset["complete"].sel(rung=rung).transpose("dataset_size", "seed").values == 1


def is_solved(dataset: xr.Dataset) -> np.ndarray:
    """Where every rung that a law describes is measured: ``(dataset_size, seed)``; networks are another matter."""
    rungs = [str(rung) for rung in dataset["rung"].values if LAWS_OF.get(str(rung))]
    return np.all([is_complete(dataset, rung) for rung in rungs], axis=0)


def grid_position(dataset: xr.Dataset, dimension: str, value: float) -> int:
    """Position of a number on the grid, within a relative 1e-6."""
    grid = dataset[dimension].values
    position = int(np.argmin(np.abs(grid - value)))
    if not np.isclose(grid[position], value, rtol=1e-6, atol=0):
        listed = ", ".join(f"{number:g}" for number in grid)
        raise InputError(f"{dimension} {value:g} is not in this result; choose one of {listed}")
    return position


def group_means(dataset: xr.Dataset, rung: str, point: str, statistic: Statistic = "mean") -> np.ndarray:
    """Gains averaged over directions of equal variance: ``(dataset_size, noise_variance, seed, g)``.

    Raises:
      InputError: if the result has no such rung or point class.
    """
    require(dataset, "rung", rung)
    require(dataset, "point", point)
    gain = dataset["gain" if statistic == "mean" else "gain_median"].sel(rung=rung, point=point)
    gain = gain.where(dataset["complete"].sel(rung=rung) == 1).transpose(
        "dataset_size", "noise_variance", "seed", "direction"
    )
    return gain.values.astype(np.float64) @ distinct_variances(dataset).weights


def relative_gain(dataset: xr.Dataset, rung: str, point: str, statistic: Statistic = "mean") -> xr.DataArray:
    r"""Relative gain :math:`\rho = g / g^{\rm ref}` per training set and distinct variance.

    Args:
      dataset: a result (:mod:`geomem_jax.results`).
      rung: the score model.
      point: where the gain is measured: ``"train"``, ``"held_out"`` or ``"origin"``.
      statistic: ``"mean"`` or ``"median"`` over the points of one training set.

    Returns:
      Dimensions ``dataset_size``, ``noise_variance``, ``seed``, ``distinct_variance``; nan where not
      complete.

    Raises:
      InputError: if the result has no such rung or point class.
    """
    groups = distinct_variances(dataset)
    reference = dataset["reference_gain"].values.astype(np.float64) @ groups.weights
    rho = group_means(dataset, rung, point, statistic) / reference[None, :, None, :]
    return xr.DataArray(
        rho,
        dims=("dataset_size", "noise_variance", "seed", "distinct_variance"),
        coords={
            "dataset_size": dataset["dataset_size"].values,
            "noise_variance": dataset["noise_variance"].values,
            "seed": dataset["seed"].values,
            "distinct_variance": groups.variance,
            "multiplicity": ("distinct_variance", groups.multiplicity),
        },
        name="relative_gain",
    )


def predicted_gain(dataset: xr.Dataset, law: str) -> np.ndarray:
    """Stored prediction of a law, ``(dataset_size, noise_variance, g)``.

    Raises:
      InputError: if the result has no such law.
    """
    require(dataset, "law", law)
    values = dataset["predicted_gain"].sel(law=law).transpose("dataset_size", "noise_variance", "direction").values
    return values.astype(np.float64) @ distinct_variances(dataset).weights


def predicted_relative_gain(dataset: xr.Dataset, law: str) -> np.ndarray:
    """Stored prediction of a law over the gain of infinite data, ``(dataset_size, noise_variance, g)``."""
    reference = dataset["reference_gain"].values.astype(np.float64) @ distinct_variances(dataset).weights
    return predicted_gain(dataset, law) / reference
