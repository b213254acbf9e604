"""Gains of linear denoisers trained by ``geomem train`` against the law of gradient flow that is stored beside them.

The law is of many directions: its relative deviation is below one over their number, and how it decays is tested in
``tests/theory/test_learning_time.py``, where training sets need not be trained on.  Here it is allowed beside the error
bars; a training time that is wrong by a third is not.
"""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import theory
from geomem_jax import plots, train, training_job
from geomem_jax.config import TrainOptions
from geomem_jax.gains import distinct_variances
from geomem_jax.statistics import critical_t

SEEDS, DIMENSION, T = 16, 48, 0.3
OPTIONS = TrainOptions(
    network="linear",
    two_level="8:1,8:0.5,8:0.25,8:0.125,8:0.0625,8:0.03125",
    t=str(T),
    sizes="32,128,512",
    seeds=SEEDS,
    steps=400,
    snapshots=3,
    batch=8,  # the mean gain does not depend on it
    points=2,  # the gains are the same at every point
)
# Three steps, three sizes, six variances: correct code fails anywhere with probability 1e-4.
CRITICAL = float(critical_t(1e-4, 3 * 3 * 6, SEEDS - 1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    folder = tmp_path_factory.mktemp("linear") / "run"
    # Figures and the exact empirical score take seconds and change nothing.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_job, "measure_empirical", lambda *arguments: None)
        patch.setattr(plots, "training", lambda dataset: None)
        patch.setattr(plots, "save", lambda figure, path: None)
        return train.run(dataclasses.replace(OPTIONS, out=folder), Console(quiet=True))[1]


def excess(dataset: xr.Dataset, predicted: np.ndarray) -> np.ndarray:
    """Deviation ``(step, size, variance)`` over what is allowed: error bars, and 1/d of the prediction."""
    weights = distinct_variances(dataset).weights
    gain = dataset["gain"].sel(point="held_out").isel(noise_variance=0)
    gain = gain.transpose("training_step", "dataset_size", "seed", "direction").values @ weights
    error = gain.std(axis=2, ddof=1) / np.sqrt(SEEDS)
    law = predicted @ weights
    return np.abs(gain.mean(axis=2) - law) / (CRITICAL * error + law / DIMENSION)


def test_the_stored_prediction_is_what_is_measured(trained: xr.Dataset) -> None:
    assert (trained["failed"] == -1).all()
    found = excess(trained, trained["predicted_training_gain"].values[:, :, 0])
    assert found.shape == (3, 3, 6)
    assert found.max() < 1


@pytest.mark.parametrize("wrong", [1.3, 1 / 1.3])
def test_another_training_time_is_rejected(trained: xr.Dataset, wrong: float) -> None:
    sizes, times = trained["dataset_size"].values, trained["training_time"].values
    law = theory.mean_gradient_flow_gain(trained["variance"].values, sizes, T, wrong * times[:, None])
    found = excess(trained, np.asarray(law))
    assert (found[:2].max(axis=2) > 1).all()  # at every size, before learning ends


def test_other_data_are_rejected(trained: xr.Dataset) -> None:
    # For the fewest points, at the end: the law of four times as many, and of infinite data.
    law = trained["predicted_training_gain"].values[:, :, 0]
    infinite = np.broadcast_to(trained["reference_gain"].values[0], law.shape)
    for wrong in (np.roll(law, -1, axis=1), infinite):
        assert excess(trained, wrong)[-1, 0].max() > 1
