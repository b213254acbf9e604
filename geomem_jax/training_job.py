"""What a job of training consists of: data, networks, points and directions, and the predictions beside."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import theory
from geomem_jax import cells, copying, data, results, sweep, trained_results, training
from geomem_jax.config import TrainOptions, parse_noise_range, parse_noise_variances, parse_sizes
from geomem_jax.data.source import Source
from geomem_jax.denoisers import mlp, trainable_linear
from geomem_jax.denoisers.trainable import Trainable
from geomem_jax.errors import InputError
from geomem_jax.laws import law_size

CLIP = 1.0  # largest norm of a gradient of the perceptron; the losses are of order one
WARMUP = 100  # steps in which Adam's learning rate rises; RAdam has a rise of its own
STEP_TIME = 0.05  # training time of a step of the linear denoiser, over the mean squared norm of a noised point
DEFAULT_SIZES = (16, 64, 256, 1024, 4096)
EXTRA_STEPS = (4000, 16_000)  # snapshots of the preset ladder beside those evenly spaced


class Job(NamedTuple):
    """What a run does, from its options and its data.

    Attributes:
      source: the data.
      grid: sizes, noise variances, seeds and points, as of a sweep.
      steps: training steps at which is measured, ascending; the last is the end.
      recipe: how every network is trained.
      members: the ensemble, sizes by seeds, seeds running fastest.
      noise_range: smallest and largest noise standard deviation trained at.
      step_time: training time of a step (:mod:`theory.learning_time`) of the linear denoiser; ``None`` of others.
    """

    source: Source
    grid: sweep.Grid
    steps: tuple[int, ...]
    recipe: training.Recipe
    members: training.Members
    noise_range: tuple[float, float]
    step_time: float | None


def _step_time(options: TrainOptions, source: Source, t: float) -> float | None:
    """Training time of a step: the learning rate of the loss summed over coordinates; the trainer's loss is their mean.

    By default a twentieth of the inverse mean squared norm of a noised point: steps are stable whatever the batch, and
    gradient flow is followed to 5 % of the training time, better where there are several directions.
    """
    assert options.steps is not None
    if options.network != "linear":
        return None
    dimension = len(source.variances)
    if options.learning_rate is None:
        return float(STEP_TIME / (np.sum(source.variances) + dimension * t))
    step_time = options.learning_rate / dimension
    if not 1e-30 <= step_time <= 1e30 / options.steps:
        raise InputError(
            f"--learning-rate is {options.learning_rate:g}; single precision has no training time for it: leave it "
            "out, or give a number of the order of 0.1"
        )
    return step_time


def _noise_range(options: TrainOptions, noise_variances: tuple[float, ...]) -> tuple[float, float]:
    """Noise standard deviations to train at; the linear denoiser is trained at the one at which it is measured."""
    if options.network == "linear":
        if len(noise_variances) > 1:
            raise InputError(
                f"--t is {options.t}; --network linear is trained and measured at one noise variance: give one"
            )
        return noise_variances[0] ** 0.5, noise_variances[0] ** 0.5
    assert options.noise_range is not None
    low, high = parse_noise_range(options.noise_range)
    for t in noise_variances:
        # Rounding must not refuse an end of the range.
        if not 0.999 * low <= t**0.5 <= 1.001 * high:
            raise InputError(
                f"--t has {t:g}, a noise variance; networks are trained from {low**2:g} to {high**2:g}: "
                "choose it between, or another --noise-range (in standard deviations)"
            )
    return low, high


def _recipe(options: TrainOptions, source: Source, step_time: float | None) -> training.Recipe:
    assert options.batch is not None
    model = _network(options, source)
    if step_time is not None:
        optimizer = training.optimizer("sgd", step_time * len(source.variances), clip=None, warmup=0)
        return training.Recipe(model, optimizer, options.batch, ema_decay=0.0)
    assert options.optimizer is not None
    assert options.learning_rate is not None
    assert options.ema_decay is not None
    warmup = WARMUP if options.optimizer == "adam" else 0
    clip = None if options.network == "toy" else CLIP  # the paper's network is trained as in the authors' code
    optimizer = training.optimizer(options.optimizer, options.learning_rate, clip=clip, warmup=warmup)
    return training.Recipe(model, optimizer, options.batch, options.ema_decay)


def _network(options: TrainOptions, source: Source) -> Trainable:
    dimension = len(source.variances)
    if options.network == "linear":
        return trainable_linear.trainable(dimension)
    if options.network == "toy":
        return mlp.paper_toy(dimension)
    assert options.width is not None
    assert options.depth is not None
    variance = float(np.mean(source.variances))
    return mlp.edm_mlp(dimension, options.width, options.depth, variance, bfloat16=options.bfloat16)


def _check_memory(job: Job) -> None:
    """Refuse, by an InputError, an ensemble that memory cannot hold; allocates nothing."""
    shapes = jax.eval_shape(job.recipe.model.init, jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    networks, directions = len(job.members.size), len(job.source.variances)
    # Parameters, their average, two moments, a gradient and an update; points, drawn one by one and put together.
    numbers = 6 * networks * parameters + 2 * job.grid.seeds * (max(job.grid.sizes) + job.grid.held_out) * directions
    if 4 * numbers > sweep.memory_bytes() // 2:
        raise InputError(
            f"{networks} networks of {parameters} parameters, N up to {max(job.grid.sizes)} and {job.grid.seeds} "
            f"training sets need about {4 * numbers / 2**30:.3g} GiB, more than half of memory; lower --sizes, "
            "--seeds or the network's --width"
        )


def job_of(options: TrainOptions) -> Job:
    """Work out what to do from options that are resolved (:meth:`TrainOptions.resolved`).

    Raises:
      InputError: if the options cannot be carried out.
    """
    assert options.steps is not None
    assert options.snapshots is not None
    assert options.points is not None
    assert options.t is not None
    assert options.seeds is not None
    source = data.from_options(options, options.seed)
    available, held_out = sweep.default_sizes(source, options.points)
    if options.sizes is not None:
        sizes = parse_sizes(options.sizes, "--sizes", least=2)
    else:
        sizes = tuple(sorted({min(size, max(available)) for size in DEFAULT_SIZES}))
    noise_variances = parse_noise_variances(options.t, "--t")
    noise = _noise_range(options, noise_variances)
    grid = sweep.Grid(sizes, noise_variances, options.seeds, options.points, held_out, options.seed)
    sweep.check(source, grid)
    extra = {step for step in EXTRA_STEPS if options.preset == "ladder" and step < options.steps}
    steps = tuple(sorted({*training.snapshot_steps(options.steps, options.snapshots), options.steps, *extra}))
    step_time = _step_time(options, source, noise_variances[0])
    members = training.grid_members(sizes, options.seeds, noise)
    job = Job(source, grid, steps, _recipe(options, source, step_time), members, noise, step_time)
    _check_memory(job)
    return job


def is_sampled(job: Job) -> bool:
    """Whether members can be sampled: they are trained at many noise levels."""
    return job.noise_range[0] < job.noise_range[1]


def prepare(job: Job, configuration: dict[str, object]) -> xr.Dataset:
    """Build the result in which nothing is measured yet, with the predictions beside."""
    packages = ("flax", "optax", "orbax-checkpoint")
    attributes = sweep.provenance(job.source, configuration, packages) | {
        "points": job.grid.points,
        "held_out": job.grid.held_out,
        "random_seed": job.grid.seed,
        "samples": copying.SAMPLES if is_sampled(job) else 0,
    }
    variances, t = job.source.variances, np.asarray(job.grid.noise_variances)
    dataset = trained_results.empty(
        training_steps=job.steps,
        dataset_sizes=job.grid.sizes,
        noise_variances=job.grid.noise_variances,
        seeds=job.grid.seeds,
        variances=variances,
        attributes=attributes,
    )
    for law in trained_results.LAWS:
        for size in job.grid.sizes:
            n = law_size(law, size, centred=job.source.centred)
            gain = np.asarray(theory.gain(variances, n, t, law))
            dataset["predicted_gain"].loc[{"law": law, "dataset_size": size}] = gain
    if job.step_time is not None:
        training_time = job.step_time * np.array(job.steps, float)
        dataset["training_time"][:] = training_time
        for size in job.grid.sizes:
            # Of all N points, centred data or not: see trained_results.
            gain = np.asarray(theory.mean_gradient_flow_gain(variances, size, t, training_time[:, None]))
            dataset["predicted_training_gain"].loc[{"dataset_size": size}] = gain
    dataset["reference_gain"][:] = np.asarray(theory.wiener_gain(variances, t))
    return dataset


class Measurement(NamedTuple):
    """Points, keys of noise and directions of a job."""

    data: training.Data
    noise_keys: jax.Array
    basis: jax.Array
    t: jax.Array
    points: int


def measurement_of(job: Job) -> Measurement:
    """Draw the data of a job; its training sets, points and noise are those of a sweep with the same seed."""
    keys = jnp.stack([cells.seed_keys(job.grid.seed, seed) for seed in range(job.grid.seeds)])
    drawn = training.draw_data(job.source, list(keys[:, 0]), max(job.grid.sizes), job.grid.held_out)
    dtype = drawn.points.dtype
    basis = np.eye(len(job.source.variances)) if job.source.basis is None else job.source.basis
    return Measurement(
        drawn, keys[:, 1:], jnp.asarray(basis, dtype), jnp.asarray(job.grid.noise_variances, dtype), job.grid.points
    )


def plan_of(job: Job, drawn: training.Data) -> copying.Plan | None:
    """Plan the sampling of all members; ``None`` where they cannot be sampled."""
    key = jax.random.fold_in(jax.random.key(job.grid.seed), cells.SAMPLES)
    return copying.plan(drawn, job.members, key, job.noise_range) if is_sampled(job) else None


def measure_empirical(dataset: xr.Dataset, job: Job, after: Callable[[], None]) -> None:
    """Fill in ``empirical_gain``, calling ``after`` with every size of every training set."""
    for seed in range(job.grid.seeds):
        drawn = cells.draw(job.source, job.grid, seed)
        for size in job.grid.sizes:
            found = sweep.measure_empirical(job.grid, drawn, size)
            gain = np.stack([found[point].gain for point in results.POINT_CLASSES])
            dataset["empirical_gain"].loc[{"seed": seed, "dataset_size": size}] = gain
            after()
