"""A result whose rungs obey their laws up to noise from seed to seed, for tests of figures and reports."""

import json

import numpy as np
import xarray as xr

import theory
from geomem_jax import results

LADDER = np.concatenate([np.repeat(2.0 ** -np.arange(6), 4), np.zeros(8)])
SIZES = np.array([2, 8, 32, 128, 512, 2048])
TIMES = np.array([0.03, 0.1, 0.3, 1.0])
RUNGS = ("population", "linear", "empirical")


def simulated(variances=LADDER, num_seeds=8, noise=0.03, draw=0, **attributes):
    rng = np.random.default_rng(draw)
    dataset = results.empty(
        rungs=RUNGS,
        laws=RUNGS,
        dataset_sizes=SIZES,
        noise_variances=TIMES,
        seeds=range(num_seeds),
        variances=variances,
        attributes={
            "name": "ladder",
            "configuration": json.dumps({"data": None, "seeds": num_seeds}),
            "versions": json.dumps({"jax": "0.10"}),
            "gaussian_relative": 0,
            "centred": 0,
            "max_points": -1,
            **attributes,
        },
    )
    dataset["complete"][:] = 1
    dataset["reference_gain"][:] = theory.wiener_gain(variances, TIMES)
    for rung in RUNGS:
        law = np.asarray(theory.gain(variances, SIZES[:, None], TIMES, rung))
        dataset["predicted_gain"].loc[{"law": rung}] = law
        shape = (*law.shape[:2], num_seeds, law.shape[2])
        gain = law[:, :, None] * (1 + (noise * rng.standard_normal(shape) if rung != "population" else 0))
        dataset["gain"].loc[{"rung": rung}] = gain
        dataset["gain_median"].loc[{"rung": rung}] = gain
        dataset["soft_dimension"].loc[{"rung": rung}] = gain.sum(axis=-1)
        dataset["singular_value"].loc[{"rung": rung}] = np.sort(1 - gain)[..., ::-1]
        dataset["gap_dimension"].loc[{"rung": rung}] = np.count_nonzero(variances)
    # Falls with t through 1/2 exactly at the condensation time.
    ratio = TIMES / np.asarray(theory.condensation_time(variances, SIZES))[:, None]
    participation = 1 / (1 + ratio)
    spread = 1 + noise * rng.standard_normal((len(SIZES), 1, num_seeds))
    dataset["participation"].loc[{"rung": "empirical"}] = participation[:, :, None] * spread
    return dataset


def with_exact(dataset, factor=0.7, error=0.0):
    """The same with an exact average, ``factor`` times the empirical law, which the empirical rung obeys instead."""
    names = np.array([*dataset["law"].values, "finite_size"])
    found = dataset.reindex(law=[*dataset["law"].values, "?"]).assign_coords(law=names)
    exact = factor * dataset["predicted_gain"].sel(law="empirical").values
    found["predicted_gain"].loc[{"law": "finite_size"}] = exact
    found["predicted_gain_error"].loc[{"law": "finite_size"}] = error * exact
    for name in ("gain", "gain_median", "soft_dimension"):
        found[name].loc[{"rung": "empirical"}] = factor * dataset[name].sel(rung="empirical").values
    return found


def with_network(dataset, factor=1.2):
    """The same with networks at four sizes and on two sets, ``factor`` times the empirical rung; one failed."""
    names = np.array([*dataset["rung"].values, results.NETWORK])
    found = dataset.reindex(rung=[*dataset["rung"].values, "?"], fill_value={"complete": 0}).assign_coords(rung=names)
    found = found.assign_attrs(network_steps=300)
    planned = np.zeros(found["complete"].shape[1:], bool)
    planned[[0, 2, 4, 5], :2] = True
    found["singular_value"].loc[{"rung": results.NETWORK}] = 1 - factor * (
        1 - found["singular_value"].sel(rung="empirical")
    )
    for name in ("gain", "gain_median", "soft_dimension"):
        values = factor * found[name].sel(rung="empirical")
        values = values.where(xr.DataArray(planned, dims=("dataset_size", "seed"))).transpose(*values.dims)
        found[name].loc[{"rung": results.NETWORK}] = values
    found["complete"].loc[{"rung": results.NETWORK}] = planned.astype(np.int8)
    found["complete"].loc[{"rung": results.NETWORK, "dataset_size": SIZES[2], "seed": 1}] = results.FAILED
    found["gain"].loc[{"rung": results.NETWORK, "dataset_size": SIZES[2], "seed": 1}] = np.nan
    return found


def partial(dataset):
    """Interrupted: half of the seeds lack the three largest sizes, the largest size is nowhere."""
    dataset["complete"][:, 3:, 4:] = 0
    dataset["complete"][:, -1] = 0
    for name in ("gain", "gain_median", "participation", "soft_dimension", "singular_value", "gap_dimension"):
        dataset[name] = dataset[name].where(dataset["complete"] == 1).transpose(*results.DIMENSIONS[name])
    return dataset


def best_times(variances, n):
    """In place of the time of best generalization, which takes seconds to compile; it crosses the condensation time."""
    return 0.7 * np.asarray(n, float) ** -0.05
