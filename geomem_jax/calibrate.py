r"""Calibration: the few numbers that networks add to the laws, with intervals and predictive bands.

Question.  The gains of a network that memorized are about those of the exact score of its points, of one with many
points those of the linear law.  At which dataset size does it move from the one to the other, how sharply, and which
gains will networks on new training sets have?  The model is that of :mod:`geomem_jax.calibration_model`, sampled by
NUTS; :func:`calibrate` returns the posterior, or refuses where the chains did not converge.

*One noise variance at a time.*  All noise variances of a result are measured on the same few networks, so that they are
not independent data.  Calibrate at several to see how the numbers move.

*What is left out.*  Networks on fewer than ten points (:data:`SMALLEST`).  At held-out points these are asked about
places where they were never trained, and their gains are on no law: at N = 2 they are above those at N = 12.

What the model misses, in the default result and in ``geomem train --preset ladder --steps 4000``, at held-out points:
at the smallest sizes gains of large variances are 3 to 5 hundredths below, those of small ones 5 to 7 hundredths above
one effective noise, with the same sign in every training set, although the model takes what is left for independent.
So the band of a small variance is too narrow there, and too wide at large sizes, for one ``residual`` serves both.
Gains of undertrained networks on many points are above those of infinite data at small variances and below at large
ones, which one ``floor`` cannot be.  ``advantage`` is relative to the leading order of the empirical law, and falls
with t: it is a summary, not a property of the network alone.  With two or three training sets ``set_spread`` is known
from its prior only, and with it how far new sets may be from these.  A second explanation, a smaller capacity and a
large spread over networks, is tens of nats less probable, but where a size near the crossover is left out chains may
stay at it: the comparison of laws (:mod:`geomem_jax.rival_laws`) is then refused.  At training points the empirical law
does not apply.

Source.  Derived here.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import theory
from geomem_jax import calibration_model
from geomem_jax.calibration_model import LAWS, Law, Measurements, Parameters, in_words
from geomem_jax.convergence import diagnose, refuse
from geomem_jax.errors import InputError
from geomem_jax.formatting import spaced
from geomem_jax.freeze_out import comparison_noise
from geomem_jax.gains import distinct_variances, grid_position, group_means, is_complete
from geomem_jax.laws import law_size
from geomem_jax.results import NETWORK

POINT = "held_out"
SMALLEST = 10
FEWEST_SIZES = 4
BAND_SIZES = 48
BAND_DRAWS = 1000
ENDS = (0.025, 0.975)


class Parameter(NamedTuple):
    """Posterior of a parameter of :mod:`geomem_jax.calibration_model`.

    Attributes:
      median: of the posterior.
      lower: lower end of its central 95 % interval.
      upper: upper end.
      prior_lower: lower end of that of the prior; where the two intervals are alike, the data say nothing.
      prior_upper: upper end.
      r_hat: rank-normalized.
      effective_draws: the smaller of bulk and tail.
    """

    median: float
    lower: float
    upper: float
    prior_lower: float
    prior_upper: float
    r_hat: float
    effective_draws: float


class Bands(NamedTuple):
    """Relative gains that a network on a new training set would have.

    Attributes:
      dataset_size: ``(n,)``.
      median: ``(n, g)``, of the mean over training sets.
      lower: ``(n, g)``, lower end of the central 95 % interval for one network, not counting the error of points.
      upper: ``(n, g)``, upper end.
    """

    dataset_size: np.ndarray
    median: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


class Calibration(NamedTuple):
    """What networks add to the laws at one noise variance.

    Attributes:
      law: ``"mixture"``, or a rival.
      rung: of which networks.
      t: noise variance.
      variance: ``(g,)`` distinct variances, descending.
      dataset_size: ``(k,)`` sizes in use.
      relative_gain: ``(k, s, g)`` measured; nan where there is no network.
      parameters: by name.
      draws: by name, ``(chain, draw)``.
      bands: predictive.
      covered: share of the measured gains within the bands (widened by the error of points).
    """

    law: Law
    rung: str
    t: float
    variance: np.ndarray
    dataset_size: np.ndarray
    relative_gain: np.ndarray
    parameters: dict[str, Parameter]
    draws: dict[str, np.ndarray]
    bands: Bands
    covered: float


def measurements(
    dataset: xr.Dataset, t: float | None = None, *, rung: str = NETWORK, point: str = POINT, smallest: int = SMALLEST
) -> Measurements:
    """Collect the gains of networks at one noise variance, and what the laws need.

    Args:
      dataset: a result, or a view of one training step (:func:`geomem_jax.trained_results.at_step`).
      t: noise variance on the grid of the result; that at which freeze-out sizes are compared if not given.
      rung: of which networks, ``"trained"`` in views of training.
      point: point class.
      smallest: smallest dataset size to be used, at least 2.

    Raises:
      InputError: if rung, point class or noise variance are not in the result, a gain is not finite, or fewer than four
        sizes are measured.
    """
    t = comparison_noise(dataset) if t is None else t
    at = grid_position(dataset, "noise_variance", t)
    complete, sizes = is_complete(dataset, rung), dataset["dataset_size"].values
    if smallest < 2:
        raise InputError(f"smallest: {smallest} points, of which the empirical law has no gains; give 2 or more")
    rows = np.flatnonzero(complete.any(axis=1) & (sizes >= smallest))
    rows = rows[np.argsort(sizes[rows])]
    sets = np.flatnonzero(complete[rows].any(axis=0))
    if len(rows) < FEWEST_SIZES:
        raise InputError(
            f"{rung}: measured at {len(rows)} dataset sizes of {smallest} points or more; a calibration needs "
            f"{FEWEST_SIZES}"
        )
    known = complete[np.ix_(rows, sets)]
    gain = group_means(dataset, rung, point)[:, at][np.ix_(rows, sets)]
    if not np.isfinite(gain[known]).all():
        raise InputError(f"{rung}: a gain at t = {t:.3g} is not finite; leave that training set out")
    groups = distinct_variances(dataset)
    error = np.zeros_like(gain)
    if "gain_sem" in dataset:
        sem = dataset["gain_sem"].sel(rung=rung, point=point).isel(noise_variance=at)
        points = sem.transpose("dataset_size", "seed", "direction").values[np.ix_(rows, sets)].astype(float)
        error = np.nan_to_num(np.sqrt(points**2 @ groups.weights**2))
    variances = dataset["variance"].values[groups.weights.any(axis=1)]
    n = law_size("linear", sizes[rows], centred=bool(dataset.attrs["centred"]))
    log_n = np.log(sizes[rows])
    return Measurements(
        *(
            jnp.asarray(numbers)
            for numbers in (
                variances,
                groups.variance,
                dataset["noise_variance"].values[at],
                log_n,
                theory.effective_noise(variances, n, t, "linear"),
                np.where(known[..., None], gain, 0),
                error,
                known,
                (log_n[0] + log_n[-1]) / 2,
                (log_n[-1] - log_n[0]) / 2,
            )
        )
    )


def calibrate(
    key: jax.Array,
    dataset: xr.Dataset,
    t: float | None = None,
    *,
    rung: str = NETWORK,
    point: str = POINT,
    law: Law = "mixture",
    smallest: int = SMALLEST,
    draws: int = 2000,
) -> Calibration:
    """Infer what networks add to the laws, with NUTS on four chains.

    Args:
      key: random key.
      dataset: as :func:`measurements`, and so are the next four.
      t: noise variance.
      rung: of which networks.
      point: point class.
      law: ``"mixture"``, or the rivals ``"linear"`` and ``"empirical"``.
      smallest: smallest dataset size.
      draws: of each chain, after 1000 of warm-up.

    Raises:
      InputError: as :func:`measurements`; for an unknown law; or if the chains did not converge.
    """
    if law not in LAWS:
        raise InputError(f"law {law!r} cannot be calibrated; choose one of {', '.join(LAWS)}")
    m = measurements(dataset, t, rung=rung, point=point, smallest=smallest)
    sampling, predicting = jax.random.split(key)
    found = calibration_model.sample(sampling, m, law, draws)
    samples = {name: np.asarray(values, np.float64) for name, values in found.draws.items()}
    converged = diagnose(samples)
    refuse(converged, int(found.diverging.sum()), in_words(law, m))
    priors = calibration_model.prior(m, law)
    parameters = {}
    for name, values in samples.items():
        median, lower, upper = (float(end) for end in np.quantile(values, [0.5, *ENDS]))
        prior_lower, prior_upper = (float(end) for end in priors[name].icdf(jnp.asarray(ENDS)))
        parameters[name] = Parameter(median, lower, upper, prior_lower, prior_upper, *converged[name])
    at = grid_position(dataset, "noise_variance", float(m.t))
    reference = dataset["reference_gain"].values[at].astype(np.float64) @ distinct_variances(dataset).weights
    bands, covered = _predict(predicting, m, law, found.draws, reference, centred=bool(dataset.attrs["centred"]))
    measured = np.where(m.known[..., None], m.gain, np.nan) / reference
    return Calibration(
        law,
        rung,
        float(dataset["noise_variance"].values[at]),
        np.asarray(m.variance),
        np.exp(m.log_n).round().astype(int),
        measured,
        parameters,
        samples,
        bands,
        covered,
    )


def _thinned(draws: Parameters, count: int) -> Parameters:
    """At most ``count`` draws of all chains, evenly spaced: by name, ``(count,)``."""
    every = {name: jnp.ravel(values) for name, values in draws.items()}
    return {name: values[jnp.asarray(spaced(len(values), count))] for name, values in every.items()}


@partial(jax.jit, static_argnames="law")
def _draw_gains(key: jax.Array, m: Measurements, law: Law, p: Parameters) -> tuple[jax.Array, jax.Array]:
    """Mean gains, and those of a network on a new training set, one for each draw of the parameters: ``(r, k, g)``."""
    mean, of_network, of_set = jax.vmap(lambda one: calibration_model.moments(m, law, one))(p)
    set_key, network_key, residual_key = jax.random.split(key, 3)
    new = (
        mean
        + of_set * jax.random.normal(set_key, (len(mean), 1, 1))
        + of_network * jax.random.normal(network_key, (*mean.shape[:2], 1))
        + p["residual"][:, None, None] * jax.random.normal(residual_key, mean.shape)
    )
    return mean, new


def _predict(
    key: jax.Array, m: Measurements, law: Law, draws: Parameters, reference: np.ndarray, *, centred: bool
) -> tuple[Bands, float]:
    """Bands of relative gains on a dense grid, and the share of measured gains within those of their own size."""
    gain_key, point_key = jax.random.split(key)
    log_dense = jnp.linspace(m.log_n[0], m.log_n[-1], BAND_SIZES)
    dense = np.exp(np.asarray(log_dense, np.float64))
    linear_noise = theory.effective_noise(m.variances, law_size("linear", dense, centred=centred), m.t, "linear")
    # Those of the measured sizes follow, in one compiled program.
    both = m._replace(
        log_n=jnp.concatenate([log_dense, m.log_n]), linear_noise=jnp.concatenate([linear_noise, m.linear_noise])
    )
    mean, new = _draw_gains(gain_key, both, law, _thinned(draws, BAND_DRAWS))
    ends = np.quantile(np.asarray(new[:, :BAND_SIZES], np.float64), ENDS, axis=0) / reference
    bands = Bands(dense, np.median(np.asarray(mean[:, :BAND_SIZES], np.float64), axis=0) / reference, *ends)
    measured_again = new[:, BAND_SIZES:, None] + m.error * jax.random.normal(point_key, (len(new), *m.gain.shape))
    lower, upper = np.quantile(np.asarray(measured_again), ENDS, axis=0)
    gain = np.asarray(m.gain)
    inside = (lower <= gain) & (gain <= upper)
    return bands, float(inside[np.asarray(m.known)].mean())
