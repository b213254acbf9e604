"""Ensembles train alike however they are cut, stopped or accompanied, and one bad member harms no other."""

import functools
from collections.abc import Iterator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from geomem_jax import data, sharding, training
from geomem_jax.denoisers import mlp
from geomem_jax.denoisers.trainable import Trainable
from geomem_jax.errors import InputError


@pytest.fixture(autouse=True)
def full_products() -> Iterator[None]:
    """Products of accelerators keep 10 bits otherwise, and these tests compare programs."""
    with jax.default_matmul_precision("highest"):
        yield


SOURCE = data.linear_manifold([1.0, 0.5, 0.1])
MODEL = mlp.edm_mlp(3, 8, 2, 0.5)
RECIPE = training.Recipe(MODEL, training.optimizer("adam", 1e-2, clip=1.0, warmup=3), batch_size=16, ema_decay=0.9)
ROOT = jax.random.key(7)


@functools.cache
def points() -> training.Data:
    return training.draw_data(SOURCE, [jax.random.key(seed) for seed in range(2)], 40, 8)


def run(
    recipe: training.Recipe, members: training.Members, cuts: tuple[int, ...], drawn: training.Data | None = None
) -> training.State:
    mesh = sharding.ensemble_mesh(len(members.size), recipe.batch_size)
    # Placed as the program leaves it, or the second call would be compiled for another placement.
    members, state = sharding.put((members, training.start(recipe, ROOT, members)), mesh, P("member"))
    for steps in cuts:
        state = training.advance(recipe, mesh, drawn or points(), members, state, steps)
    return state


def numbers(state: training.State) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))]


def select(tree, index: int):
    return jax.tree.map(lambda leaf: np.asarray(leaf[index]), tree)


# All tests with the same number of members share one compiled program.
MEMBERS = training.grid_members([5, 40], 2, (0.05, 2.0))


def test_one_program_whatever_the_cuts_and_the_same_bits() -> None:
    run(RECIPE, MEMBERS, (1,))
    programs = training.advance._cache_size()
    whole = run(RECIPE, MEMBERS, (20,))
    parts = run(RECIPE, MEMBERS, (1, 12, 7))
    again = run(RECIPE, MEMBERS, (20,))
    assert training.advance._cache_size() == programs
    for one, two, three in zip(numbers(whole), numbers(parts), numbers(again), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_groups_of_any_size_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, in pairs, all at once; as many together as memory is said to hold, if that divides their number."""
    mesh = sharding.ensemble_mesh(1, 1)
    state = training.start(RECIPE, ROOT, MEMBERS)
    # Parameters, average and two moments of 19 x 8, 8 x 8 and 8 x 3 weights with biases; Adam counts its steps twice.
    member = 4 * (4 * (20 * 8 + 9 * 8 + 9 * 3) + 2)
    grouped = []
    for held, together in ((0, 1), (member - 1, 1), (2 * member, 2), (3 * member, 2), (2**40, 4)):
        monkeypatch.setattr(training, "CACHE_BYTES", held)
        assert training._members_together(mesh, state) == (together if jax.default_backend() == "cpu" else 4)
        if held not in (0, 3 * member):
            training.advance.clear_cache()
            grouped.append(numbers(run(RECIPE, MEMBERS, (20,))))
    training.advance.clear_cache()
    for other in grouped[1:]:
        for one, two in zip(grouped[0], other, strict=True):
            np.testing.assert_allclose(one, two, atol=2e-5)  # as of a member alone


def test_a_member_alone_and_in_an_ensemble_agree() -> None:
    together = run(RECIPE, MEMBERS, (20,))
    for index in (0, 3):
        alone = jax.tree.map(lambda leaf, index=index: leaf[index : index + 1], MEMBERS)
        single = run(RECIPE, alone, (20,))
        # Rounding, enlarged by twenty steps of Adam, whose first steps have the sign of the gradient alone.
        chex.assert_trees_all_close(select(single.params, 0), select(together.params, index), atol=2e-5)
    other = select(together.params, 1)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(select(together.params, 0), other, atol=1e-3)


def test_only_the_first_points_of_the_own_order_are_seen() -> None:
    expected = run(RECIPE, MEMBERS, (10,))
    everything = points()
    spoiled = everything.points.at[everything.train[:, 5:]].set(jnp.nan).at[everything.held_out].set(jnp.nan)
    state = run(RECIPE, MEMBERS, (10,), everything._replace(points=spoiled))
    for index in (0, 1):  # those of size 5
        chex.assert_trees_all_equal(select(state.params, index), select(expected.params, index))
        assert state.failed[index] < 0
    assert (state.failed[2:] >= 0).all()


def test_a_member_that_is_not_finite_is_named_and_frozen_and_the_others_go_on() -> None:
    everything = points()
    # The larger members of the first seed meet the point that is not a number, the others never.
    row = everything.train[0, 20]
    spoiled = everything._replace(points=everything.points.at[row].set(jnp.nan))
    end = run(RECIPE, MEMBERS, (12,), spoiled)
    failed = int(end.failed[2])
    assert failed >= 0
    assert training.failures(MEMBERS, end) == [f"N = 40, training set 1: not finite at step {failed + 1}"]
    before = run(RECIPE, MEMBERS, (failed,), spoiled)
    chex.assert_trees_all_equal(select(end.params, 2), select(before.params, 2))
    chex.assert_trees_all_equal(select(end.ema, 2), select(before.ema, 2))
    chex.assert_tree_all_finite(end.params)
    healthy = run(RECIPE, MEMBERS, (12,))
    for index in (0, 1, 3):
        chex.assert_trees_all_equal(select(end.params, index), select(healthy.params, index))


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_a_gradient_alone_that_is_not_finite_fails(what: str) -> None:
    """Square root of a parameter at 0, or an infinite offset that no parameter changes."""

    def denoise(params: dict[str, jax.Array], x: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.sqrt(params["a"]) * x if what == "gradient" else jnp.stack([params["a"] * t, jnp.inf, 0.0])

    model = Trainable(lambda key: {"a": jnp.float32(what == "loss")}, denoise, lambda t: 1 / t)
    recipe = RECIPE._replace(model=model, optimizer=optax.sgd(0.1))
    end = run(recipe, MEMBERS, (2,))
    assert np.asarray(end.failed).tolist() == [0] * 4
    chex.assert_trees_all_equal(end.params, {"a": jnp.full(4, float(what == "loss"))})


def test_a_step_is_what_a_plain_loop_does() -> None:
    """One member, written again with nothing but NumPy's formula of the loss and optax by hand."""
    state = training.start(RECIPE, ROOT, MEMBERS)
    params = select(state.params, 0)
    average, moments = params, RECIPE.optimizer.init(params)

    @jax.jit
    @jax.grad
    def gradient_of(params, noisy, t, clean):
        return (0.5 + t) / (0.5 * t) * jnp.sum((MODEL.denoise(params, noisy, t) - clean) ** 2) / 3

    for step in range(3):
        rows_key, level_key, noise_key = jax.random.split(jax.random.fold_in(state.key[0], step), 3)
        clean = points().points[:5][jax.random.randint(rows_key, (16,), 0, 5)]
        std = 0.05 * (2.0 / 0.05) ** jax.random.uniform(level_key, (16,))
        noisy = clean + std[:, None] * jax.random.normal(noise_key, (16, 3))

        gradients = [gradient_of(params, *point) for point in zip(noisy, std**2, clean, strict=True)]
        gradient = jax.tree.map(lambda *parts: sum(parts) / 16, *gradients)
        updates, moments = RECIPE.optimizer.update(gradient, moments, params)
        params = optax.apply_updates(params, updates)
        decay = min(0.9, (1 + step) / (10 + step))
        average = jax.tree.map(lambda old, new, decay=decay: decay * old + (1 - decay) * new, average, params)
    trained = run(RECIPE, MEMBERS, (3,))
    chex.assert_trees_all_close(select(trained.params, 0), params, atol=1e-5)
    chex.assert_trees_all_close(select(trained.ema, 0), average, atol=1e-5)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(select(run(RECIPE, MEMBERS, (2,)).params, 0), params, atol=1e-3)


def test_clipping_is_per_member() -> None:
    """A member with a huge gradient does not shrink the step of another."""
    plain = Trainable(lambda key: jnp.zeros(3), lambda params, x, t: params, lambda t: 1.0)
    recipe = training.Recipe(plain, training.optimizer("sgd", 1.0, clip=1e-3, warmup=0), 16, 0.0)
    members = training.grid_members([5, 40], 1, (0.05, 2.0))
    steps = run(recipe, members, (1,)).params
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), 1e-3, rtol=1e-5)


def test_no_clip_lets_any_gradient_pass() -> None:
    for clip, passed in ((None, 5e6), (2.0, 2.0)):
        optimizer = training.optimizer("sgd", 1.0, clip=clip, warmup=0)
        step, _ = optimizer.update(jnp.array([3e6, 4e6]), optimizer.init(jnp.zeros(2)))
        np.testing.assert_allclose(np.linalg.norm(step), passed, rtol=1e-6)


def test_a_narrow_member_is_a_narrow_network_for_good() -> None:
    members = training.grid_members([5, 40], 1, (0.05, 2.0))._replace(width=jnp.array([4, 8]))
    state = run(RECIPE, members, (10,))
    narrow, wide = select(state.params, 0), select(state.params, 1)
    assert not narrow["hidden"][0]["kernel"][:, 4:].any()
    assert not narrow["hidden"][1]["kernel"][4:].any()
    assert not narrow["hidden"][1]["kernel"][:, 4:].any()
    assert not narrow["last"]["kernel"][4:].any()
    assert narrow["last"]["kernel"][:4].any()
    assert wide["hidden"][1]["kernel"].all()
    # The same as a network that has these units only.
    cut = {
        "hidden": {
            0: {"kernel": narrow["hidden"][0]["kernel"][:, :4], "bias": narrow["hidden"][0]["bias"][:4]},
            1: {"kernel": narrow["hidden"][1]["kernel"][:4, :4], "bias": narrow["hidden"][1]["bias"][:4]},
        },
        "last": {"kernel": narrow["last"]["kernel"][:4], "bias": narrow["last"]["bias"]},
    }
    x = jnp.array([0.3, -1.0, 0.2])
    small = mlp.edm_mlp(3, 4, 2, 0.5).denoise(cut, x, jnp.asarray(0.1))
    np.testing.assert_allclose(small, MODEL.denoise(narrow, x, jnp.asarray(0.1)), rtol=1e-5)


def test_widths_need_a_model_that_has_one() -> None:
    members = training.grid_members([5], 1, (0.05, 2.0))._replace(width=jnp.array([4]))
    toy = RECIPE._replace(model=mlp.paper_toy(3))
    with pytest.raises(InputError, match="cannot be narrowed"):
        training.start(toy, ROOT, members)


def test_snapshots_are_where_they_were_asked_for_and_resuming_skips_the_past() -> None:
    members = MEMBERS
    mesh = sharding.ensemble_mesh(4, RECIPE.batch_size)
    state = training.start(RECIPE, ROOT, members)
    reported: list[int] = []
    seen = list(
        training.train(
            RECIPE, mesh, points(), members, state, (2, 5, 9), lambda state: reported.append(int(state.step[0]))
        )
    )
    assert [int(state.step[0]) for state in seen] == [2, 5, 9]
    assert reported == sorted(set(reported))
    assert reported[-1] == 9
    rest = list(training.train(RECIPE, mesh, points(), members, seen[0], (2, 5, 9)))
    assert [int(state.step[0]) for state in rest] == [2, 5, 9]
    for one, two in zip(numbers(seen[-1]), numbers(rest[-1]), strict=True):
        np.testing.assert_array_equal(one, two)
    assert [int(state.step[0]) for state in training.train(RECIPE, mesh, points(), members, seen[1], (2, 5, 9))] == [
        5,
        9,
    ]


def test_snapshot_steps_are_spread_in_the_logarithm() -> None:
    assert training.snapshot_steps(1000, 5) == (10, 32, 100, 316, 1000)
    assert training.snapshot_steps(2, 5) == (1, 2)


def test_rows_of_finite_data_are_the_draw() -> None:
    source = data.from_points(np.random.default_rng(0).normal(size=(30, 2)), "points")
    keys = [jax.random.key(seed) for seed in range(2)]
    drawn = training.draw_data(source, keys, 20, 5)
    for seed, key in enumerate(keys):
        expected = source.draw(key, 20, 5)
        np.testing.assert_array_equal(drawn.points[drawn.train[seed]], expected.train)
        np.testing.assert_array_equal(drawn.points[drawn.held_out[seed]], expected.held_out)
        assert not set(drawn.train[seed].tolist()) & set(drawn.held_out[seed].tolist())


def test_seeds_are_the_draws_of_their_keys() -> None:
    for seed in range(2):
        expected = SOURCE.draw(jax.random.key(seed), 40, 8)
        np.testing.assert_array_equal(points().points[points().train[seed]], expected.train)
        np.testing.assert_array_equal(points().points[points().held_out[seed]], expected.held_out)


def test_half_precision_is_for_products_alone() -> None:
    half = mlp.edm_mlp(3, 8, 2, 0.5, bfloat16=True)
    params = half.init(ROOT)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    trained = run(RECIPE._replace(model=half), MEMBERS, (5,))
    assert {leaf.dtype for leaf in jax.tree.leaves(trained.params)} == {jnp.dtype("float32")}
    params = select(trained.params, 0)
    x, t = jnp.array([0.3, -1.0, 0.2]), jnp.asarray(0.1)
    fine, coarse = MODEL.denoise(params, x, t), half.denoise(params, x, t)
    assert coarse.dtype == jnp.float32
    difference = np.abs(np.asarray(fine - coarse)).max()
    assert 0 < difference < 0.05  # bfloat16 keeps 8 bits


def test_the_toy_network_has_the_size_of_the_released_one() -> None:
    params = jax.eval_shape(mlp.paper_toy(30).init, ROOT)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 535_198


def test_weights_make_the_losses_those_of_the_networks() -> None:
    """The plain error of F for the MLP, of the predicted noise for the toy: at the start F is 0."""
    x, y, t = jnp.array([0.3, -1.0, 0.2]), jnp.array([0.1, 0.4, 0.9]), jnp.asarray(0.3)
    params = MODEL.init(ROOT)
    v = 0.5
    target = (y - v / (v + t) * x) / jnp.sqrt(v * t / (v + t))
    error = MODEL.denoise(params, x, t) - y
    np.testing.assert_allclose(MODEL.weight(t) * jnp.sum(error**2), jnp.sum(target**2), rtol=1e-5)
    toy = mlp.paper_toy(3)
    error = toy.denoise(toy.init(ROOT), x, t) - y
    predicted = (x - toy.denoise(toy.init(ROOT), x, t)) / jnp.sqrt(t)
    noise = (x - y) / jnp.sqrt(t)
    np.testing.assert_allclose(toy.weight(t) * jnp.sum(error**2), jnp.sum((predicted - noise) ** 2), rtol=1e-5)
