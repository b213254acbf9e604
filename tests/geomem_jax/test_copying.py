"""Copies among the samples of ensembles that copy by construction, or do not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geomem_jax import copying, data, memorization, sharding, training
from geomem_jax.denoisers import empirical, population
from geomem_jax.denoisers.trainable import Trainable
from geomem_jax.errors import InputError
from geomem_jax.statistics import critical_z

VARIANCES = [1.0, 0.25]
RANGE = (0.01, 20.0)  # noise standard deviations: little is left of either end
# Eight fractions are held against chance.
CRITICAL = critical_z(1e-4, 8)


def memorizing(params, x, t):
    """The exact empirical score of the member's own points; ``params``: points and how many."""
    return empirical.posterior(params[0], params[1], x[None], t).mean[0]


def gaussian(params, x, t):
    return population.denoise(jnp.asarray(VARIANCES), jnp.eye(2), x, t)


@pytest.fixture(scope="module")
def ensemble():
    drawn = training.draw_data(data.linear_manifold(VARIANCES), [jax.random.key(seed) for seed in range(2)], 30, 400)
    members = training.grid_members([5, 30], 2, RANGE)
    plan = copying.plan(drawn, members, jax.random.key(3), RANGE)
    return drawn, members, plan, sharding.ensemble_mesh(1, 1)


def fractions(denoise, params, ensemble, samples=400):
    drawn, members, plan, mesh = ensemble
    model = Trainable(lambda key: None, denoise, lambda t: 1.0)
    return np.asarray(copying.measure(model, mesh, drawn, members, params, plan, samples), np.float64)


def test_samples_of_the_exact_empirical_score_are_copies_and_of_the_population_are_not(ensemble):
    drawn, members, plan, mesh = ensemble
    own = drawn.points[drawn.train[members.seed]], members.size
    copies = fractions(memorizing, own, ensemble)
    # At the end of the flow a sample is a training point; a few of 400 are caught between two.
    assert copies.min() > 0.97
    # Each member against its own points: those of the other training set are copied by chance alone.
    others = drawn.points[drawn.train[1 - members.seed]], members.size
    free, foreign = fractions(gaussian, jnp.zeros(4), ensemble), fractions(memorizing, others, ensemble)
    chance = np.asarray(copying.by_chance(mesh, drawn, members, plan), np.float64)
    error = np.sqrt(chance * (1 - chance) * 2 / 400)
    assert np.abs((free - chance) / error).max() < CRITICAL
    assert foreign.max() < 0.5
    # Negative control: the exact score is nowhere near chance.
    assert ((copies - chance) / error).min() > 3 * CRITICAL
    # Chance is that of the report of one model.
    for member, (size, seed) in enumerate(zip(members.size, members.seed, strict=True)):
        train = drawn.points[drawn.train[seed, :size]]
        ratio = memorization.nearest_ratio(drawn.points[drawn.held_out[seed]], train)[0]
        np.testing.assert_allclose(chance[member], np.mean(ratio < 1 / 3), atol=1e-6)


def test_starting_points_are_shared_by_sizes_and_not_by_training_sets(ensemble):
    # A denoiser that leaves points where they are: samples are the starting points.
    seen = []

    def note(member, x, t):
        seen.append((int(member), float(t), np.asarray(x).tolist()))

    def watching(params, x, t):
        jax.debug.callback(note, params, x, t)
        return x

    fractions(watching, jnp.arange(4), ensemble, samples=2)
    jax.effects_barrier()
    first = {member: sorted(x for of, t, x in seen if of == member and t > 399) for member in range(4)}
    assert first[0] == first[2] != first[1] == first[3]  # members 0 and 2 have the same training set


def test_equal_training_points_are_one():
    points = jnp.asarray([[0.0, 0], [0, 0], [1, 0], [0, 1], [1, 0], [5, 5]])
    drawn = training.Data(points, jnp.asarray([[0, 1, 2, 4, 3], [3, 2, 1, 0, 4]]), jnp.asarray([[5], [5]]))
    members = training.grid_members([2, 3, 4, 5], 2, RANGE)
    plan = copying.plan(drawn, members, jax.random.key(0), RANGE)
    assert plan.counts.reshape(4, 2).tolist() == [[1, 2], [2, 3], [2, 3], [3, 3]]
    assert [rows[:3] for rows in plan.rows.tolist()] == [[0, 2, 3], [3, 2, 1]]
    assert np.isnan(np.asarray(copying.by_chance(sharding.ensemble_mesh(1, 1), drawn, members, plan))).tolist() == [
        True,  # one distinct point has no second nearest
        *[False] * 7,
    ]
    # A sample beside a point that is there twice is a copy of it.
    near = jnp.full((8, 3, 2), jnp.asarray([0.01, 0.0]))
    assert np.asarray(copying._in_turn(drawn, plan, members.seed, plan.counts, near))[2:].tolist() == [1.0] * 6
    broken = near.at[3, 1].set(jnp.nan)
    assert np.isnan(np.asarray(copying._in_turn(drawn, plan, members.seed, plan.counts, broken)))[3]
    with pytest.raises(InputError, match="all 5 points are equal"):
        copying.plan(drawn._replace(train=jnp.zeros((2, 5), int)), members, jax.random.key(0), RANGE)


def test_one_program_serves_all_snapshots(ensemble):
    traces = []

    def counted(params, x, t):
        traces.append(1)
        return params * x

    drawn, members, plan, mesh = ensemble
    model = Trainable(lambda key: None, counted, lambda t: 1.0)
    measure = partial(copying.measure, model, mesh, drawn, members)
    found = [measure(params, plan, samples=3) for params in (jnp.full(4, 0.5), jnp.full(4, 0.9))]
    once = len(traces)
    measure(jnp.full(4, 0.7), plan._replace(key=jax.random.key(8)), samples=3)
    assert len(traces) == once
    assert all(np.isfinite(fraction).all() for fraction in found)
