"""Ablations: every response against brute force, orders known by construction, and the job from end to end."""

import dataclasses
import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import theory
from geomem_jax import (
    ablate,
    ablate_job,
    ablate_networks,
    ablate_orders,
    ablate_tables,
    cells,
    cli,
    plots,
    responses,
    statistics,
    toy_gaps,
    toy_networks,
    training,
)
from geomem_jax.ablate import Condition
from geomem_jax.config import AblateOptions
from geomem_jax.denoisers import mlp, trainable_linear
from geomem_jax.denoisers.trainable import Trainable
from geomem_jax.errors import InputError

LEVELS = ((2, 1.0), (1, 0.2))
T = 0.3
TINY = Condition("f", "tiny", LEVELS, (4, 16), (T,))


def quiet():
    return Console(quiet=True)


# Orders


def steps(log_sizes, grid, noise=0.0, sets=6):
    """Responses that rise through 1/2 at given log sizes, with noise between training sets."""
    rng = np.random.default_rng(0)
    rise = 0.5 + 0.2 * (np.log(grid)[:, None] - np.asarray(log_sizes))
    return rise + noise * rng.standard_normal((sets, 1, len(log_sizes)))


GRID = 2.0 ** np.arange(1, 12)
VARIANCE = np.array([1.0, 0.3, 0.1])


@pytest.mark.parametrize(
    ("log_sizes", "kind", "tau"),
    [([2, 3, 4], "fine first", 1), ([4, 3, 2], "salient first", -1), ([3, 4, 2], "salient first", -1 / 3)],
)
def test_an_order_that_is_built_in_is_found(log_sizes, kind, tau):
    found = ablate_orders.order(VARIANCE, GRID, steps(log_sizes, GRID, 0.01))
    # Sizes to the noise of six sets in log N, 0.01 / 0.2 / sqrt(6) = 0.02; five of these.
    np.testing.assert_allclose(found.sizes.estimate, log_sizes, atol=0.1)
    assert found.tau.estimate == pytest.approx(tau)
    assert ablate_orders.verdict(found) == kind
    assert found.ratio.estimate == pytest.approx(log_sizes[2] - log_sizes[0], abs=0.14)


def test_noise_between_training_sets_makes_an_order_undecided():
    found = ablate_orders.order(VARIANCE, GRID, steps([3, 3, 3], GRID, 0.3))
    assert found.tau.lower < 0 < found.tau.upper
    assert ablate_orders.verdict(found) == "undecided"


def test_equal_or_censored_sizes_have_no_order():
    for log_sizes in ([3, 3, 3], [-50, -50, -50], [50, 50, 50]):
        found = ablate_orders.order(VARIANCE, GRID, steps(log_sizes, GRID))
        assert ablate_orders.verdict(found) == "no order"
    # One side known is enough.
    assert ablate_orders.verdict(ablate_orders.order(VARIANCE, GRID, steps([-50, 3, 50], GRID, 0.01))) == "fine first"
    assert ablate_orders.order(VARIANCE, GRID, steps([-50, 3, 50], GRID, 0.01)).ratio.estimate == np.inf


def test_two_groups_have_one_pair():
    two = np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0]])
    np.testing.assert_array_equal(statistics.concordance(two, np.array([0.0, 1.0]), least=2), [1, -1, np.nan])
    assert np.isnan(statistics.concordance(two, np.array([0.0, 1.0]))).all()
    assert ablate_orders.verdict(ablate_orders.order(VARIANCE[:2], GRID, steps([3, 2], GRID, 0.01))) == "salient first"


def test_one_training_set_has_no_interval():
    found = ablate_orders.order(VARIANCE, GRID, steps([2, 3, 4], GRID, sets=1))
    assert found.tau.estimate == 1
    assert np.isnan(found.tau.lower)
    assert ablate_orders.verdict(found) == "undecided"
    assert ablate_orders.tau_in_words(found) == "+1.00"


def test_words_name_every_condition_under_its_order():
    orders = {
        name: ablate_orders.order(VARIANCE, GRID, steps(log_sizes, GRID, 0.01))
        for name, log_sizes in {"one": [2, 3, 4], "two": [4, 3, 2], "three": [50, 50, 50]}.items()
    }
    said = ablate_orders.sentence("f", orders)
    assert said.startswith("(f) definition of frozen. Fine first: one (τ = +1.00 [+1.00, +1.00]). Salient first: two")
    assert said.endswith("No order: three.")
    held_out = ("Gaussian", "held-out points", orders["one"])
    answer, salient, where = ablate_orders.conclusion([held_out, ("normalized", "√t e_i", orders["two"]), held_out])
    assert answer.startswith("Of 3 conditions 2 have fine detail first and 1 salient directions, as in 'salient")
    assert "; 0 are undecided, 0 have no order" in answer
    assert salient == "Salient first: normalized data at √t e_i (1)."
    assert where == f"{salient} Fine first: Gaussian data at held-out points (2)."
    answer, salient, where = ablate_orders.conclusion([("Gaussian", "the origin", orders["three"])])
    assert "0 are undecided, 1 has no order" in answer
    assert salient == "Salient first: nowhere."
    assert where == "No order: Gaussian data at the origin (1)."


# Responses


def brute(train, x, t):
    """Gains and participation ratio at one point by the plain formulas, in float64."""
    train, x = np.asarray(train, np.float64), np.asarray(x, np.float64)
    weight = np.exp(-((x - train) ** 2).sum(axis=1) / (2 * t))
    weight /= weight.sum()
    return weight @ (train - weight @ train) ** 2 / t, weight @ weight


def expected(condition, size, points=8):
    """The response of training set 0 at one size, from the points as the module docstring of ablate states them."""
    source = responses.source_of(condition)
    data = responses.draw(condition, source, 5, 0, points)
    train, d = np.asarray(data.train)[:size], 3
    noise = {
        name: np.asarray(jax.random.normal(key, (points, d)))
        for name, key in (("train", data.train_key), ("held_out", data.held_out_key))
    }
    spread = (condition.probe * T) ** 0.5
    x = {
        "train": train[np.arange(points) % size] + spread * noise["train"],
        "held_out": np.asarray(data.held_out) + spread * noise["held_out"],
        "origin": np.zeros((1, d)),
        "axis": T**0.5 * np.eye(d),
    }[condition.point]
    found = [brute(train, point, T) for point in x]
    gain, ratio = np.array([one for one, _ in found]), np.array([one for _, one in found])
    if condition.point == "axis":
        seen, sharing = np.diagonal(gain), ratio
    else:
        seen = np.median(gain, axis=0) if condition.frozen == "median" else gain.mean(axis=0)
        sharing = np.full(d, ratio.mean())
    if condition.frozen == "participation":
        seen = 1 - sharing
    if condition.frozen in ("mean", "median"):
        seen = seen * (source.variances + T) / source.variances
    return np.array([seen[:2].mean(), seen[2]])


CASES = [
    {"point": point, "probe": probe, "frozen": frozen}
    for point, probe in (("held_out", 1.0), ("train", 1.0), ("train", 0.0), ("train", 1 / 3), ("origin", 1.0))
    for frozen in ("mean", "median", "absolute", "participation")
] + [{"point": "axis", "frozen": frozen} for frozen in ("mean", "absolute", "participation")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(value)[:8] for value in case.values()))
def test_responses_are_those_of_brute_force(case):
    condition = TINY._replace(**case)
    found = responses.respond(condition, responses.reference(condition, 5), 5, 0, 8)
    # (2) of denoisers.empirical: 1e-4 absolute and 4 eps (|x|^2 + |y|^2) / t, 1e-5 here, relative; over gains >= 0.4.
    for row, size in enumerate(condition.sizes):
        np.testing.assert_allclose(found[row], expected(condition, size), rtol=1e-4, atol=3e-4)
    # A control: another training set has other numbers.
    other = responses.respond(condition, responses.reference(condition, 5), 5, 1, 8)
    assert np.abs(found - other).max() > 0.003


def test_linear_scores_freeze_in_the_order_of_their_law():
    levels = ((20, 1.0), (20, 0.1))
    condition = Condition("g", "linear", levels, (5, 10, 20, 40, 80, 160), (0.03,), model="linear")
    infinite = responses.reference(condition, 0)
    measured = np.stack([responses.respond(condition, infinite, 0, seed, 2) for seed in range(8)])
    found = ablate_orders.order(np.array([1.0, 0.1]), condition.grid, measured)
    assert ablate_orders.verdict(found) == "fine first"
    predicted = np.asarray(theory.freeze_out_sizes(ablate.variances_of(levels, False), 0.03, "linear"))[[0, -1]]
    # The law is of infinite dimension, and sizes are interpolated on a grid of factors of two.
    np.testing.assert_allclose(found.sizes.estimate, predicted, atol=0.2)
    assert predicted[1] - predicted[0] > 0.4


def test_clean_training_points_freeze_salient_directions_first_as_planted_points_do():
    levels = ((3, 1.0), (3, 0.1))
    errors = {}
    for probe, t in ((0.0, 0.4), (0.0, 0.1), (1.0, 0.4)):
        sizes = tuple(2**k for k in range(1, 11 if t == 0.4 else 14))
        condition = Condition("e", "", levels, sizes, (t,), point="train", probe=probe)
        infinite = responses.reference(condition, 0)
        measured = np.stack([responses.respond(condition, infinite, 0, seed, 32) for seed in range(12)])
        found = ablate_orders.order(np.array([1.0, 0.1]), condition.grid, measured)
        law = theory.freeze_out_sizes(ablate.variances_of(levels, False), t, "planted", probe=probe)
        predicted = np.asarray(law)[[0, -1]]
        errors[probe, t] = np.abs(found.sizes.estimate - predicted).max()
        if probe == 0:
            assert predicted[0] - predicted[1] > 0.3
            assert ablate_orders.verdict(found) == "salient first"
        else:
            assert predicted[0] == pytest.approx(predicted[1])  # they freeze together, to leading order
            assert ablate_orders.verdict(found) != "salient first"
    # The law is of leading order: its error falls as sizes grow, here from 30 to 1000.
    assert errors[0.0, 0.1] < 0.7 * errors[0.0, 0.4] < 0.7 * 0.5


def test_swapping_variances_swaps_sizes():
    one, other = (((3, 1.0), (3, 0.1)), ((3, 0.1), (3, 1.0)))
    condition = Condition("b", "", one, (4, 16), (T,))
    found = [
        responses.respond(at, responses.reference(at, 0), 0, 0, 8)
        for at in (condition, condition._replace(levels=other))
    ]
    np.testing.assert_array_equal(*found)  # by variance, whichever group has it
    assert np.all(found[0][:, 0] > found[0][:, 1])  # and the smaller one is the more frozen


def test_normalized_infinite_data_along_an_axis_are_those_of_quadrature():
    condition = Condition("e", "", ((1, 1.0), (1, 0.3)), (2,), (0.2,), normalized=True, point="axis")
    found = responses.reference(condition, 0)
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    y = np.stack([np.cos(angle), np.sin(angle)])
    density = 1 / (y[0] ** 2 / 1.0 + y[1] ** 2 / 0.3)  # of the angle of a Gaussian
    for i in range(2):
        weight = density * np.exp(y[i] / 0.2**0.5)
        weight /= weight.sum()
        gain = (weight @ y[i] ** 2 - (weight @ y[i]) ** 2) / 0.2
        # Of 131072 draws of which the weights leave a tenth or more: 1 % is three standard errors.
        assert found.gain[0, i] == pytest.approx(gain, rel=0.01)
    assert found.participation[0] < 1e-3
    assert np.abs(found.gain[0] - responses.source_of(condition).variances / 0.2).min() > 0.1  # not the plain variance


def test_finite_differences_tend_to_the_jacobian():
    rng = np.random.default_rng(1)
    train, x = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((6, 3), (2, 3)))

    def denoise(x):
        return jax.nn.softmax(-jnp.sum((train - x) ** 2, axis=1) / (2 * T)) @ train

    exact = jax.vmap(jax.jacfwd(denoise))(x) - jnp.eye(3)
    key, count, t = jax.random.key(0), jnp.asarray(6), jnp.asarray(T, jnp.float32)
    short, long = (responses.probed(key, train, count, x, t, jnp.float32(length), False) for length in (0.03, 1.0))
    # Errors of second order, and 1e-6 of rounding over the length.
    np.testing.assert_allclose(short, exact, atol=2e-3)
    assert np.abs(long - exact).max() > 0.05
    one_sided = responses.probed(key, train, count, x, t, jnp.float32(0.03), True)
    # What one side adds is of rank one, the shift D - x at the point in its columns.
    added, shift = np.asarray(one_sided - short), np.asarray(jax.vmap(denoise)(x) - x)
    for matrix, direction in zip(added, shift, strict=True):
        off = matrix - np.outer(direction, direction @ matrix) / (direction @ direction)
        assert np.abs(off).max() < 0.05 * np.abs(matrix).max()


def test_the_visible_subspace_is_below_the_largest_drop():
    values = jnp.array([[3.0, 1.0, 0.9, 0.2, 0.1]])
    shift = jax.vmap(jnp.diag)(values[:, ::-1])
    share, above = responses.visible(shift, 1)
    np.testing.assert_allclose(share[0], [1, 1, 0, 0, 0], atol=1e-6)
    assert above.tolist() == [3]
    assert responses.visible(shift)[1].tolist() == [1]


@pytest.mark.parametrize("estimator", ["jacobian", "probes", "short probes", "one-sided"])
def test_the_gap_sees_groups_that_are_free(estimator):
    # Many points at small noise: the variance 1 is visible and the variance 1e-4 is not, by whatever estimator.
    levels = ((2, 1.0), (4, 1e-4))
    condition = Condition("f", "", levels, (4000,), (0.05,), frozen="gap", estimator=estimator, point="origin")
    found = responses.respond(condition, responses.reference(condition, 0), 0, 0, 4)[0]
    assert found[0] > 0.9
    assert found[1] < 0.1


# The paper's figure


def test_sequences_and_distances_of_gaps():
    d = len(toy_gaps.VARIANCES)
    at = {position: np.eye(d)[position] * 4 for position in (23, 25, 28)}
    falling = np.stack([[at[25], at[23], at[23], at[28]]] * 4)
    assert toy_gaps.sequence(falling) == [28, 23, 25]
    other = np.stack([[at[23], at[23], at[23], at[28]]] * 4)
    assert toy_gaps.distance(falling, falling).estimate == 0
    assert toy_gaps.distance(other, falling).estimate == 0.25
    assert toy_gaps.control(falling) == 0
    assert toy_gaps.share(falling, 25).estimate == 0.25
    assert toy_gaps.share(other, 25).estimate == 0


def test_gaps_of_the_toy_are_those_of_brute_force():
    chosen = toy_gaps.Plan((40, 120), (0.02, 0.08), 3, 1)
    counts, kept = toy_gaps.measure(chosen, 7, 0)
    assert counts.shape == (2, 2, 3, 2, 2, 30)
    assert kept.shape == (2, 2, 3, 2, 2, 2)
    assert (counts[..., 25] > 0).any()
    # Of at most so many points, and none where the gap is elsewhere.
    assert (kept <= counts[..., 25:26] * (1 + 1e-5)).all()
    np.testing.assert_array_equal(counts.sum(axis=-1)[:, :, 0], 1)
    np.testing.assert_array_equal(counts.sum(axis=-1)[:, :, 1:], 3)
    grid = cells.Grid(chosen.sizes, chosen.times, 1, 3, 3, 7)
    for at_data, normalized in enumerate((False, True)):
        source = responses.linear_manifold(toy_gaps.VARIANCES, normalized=normalized)
        train = np.asarray(cells.draw(source, grid, 0).train, np.float64)
        for at_size, size in enumerate(chosen.sizes):
            for at_time, t in enumerate(chosen.times):
                weight = np.exp(-(train[:size] ** 2).sum(axis=1) / (2 * t))
                weight /= weight.sum()
                deviation = train[:size] - weight @ train[:size]
                shift = (weight[:, None] * deviation).T @ deviation / t - np.eye(30)
                vectors, values, _ = np.linalg.svd(shift)
                above = 20 + np.argmax(values[19:-1] - values[20:])
                where = 0, at_data, 0, at_size, at_time
                assert np.argmax(counts[where]) == above
                visible = (vectors[:, above:] ** 2).sum(axis=1) * (above == 25)
                # Singular vectors of float32 matrices whose gaps are a hundredth.
                np.testing.assert_allclose(kept[where], [visible[:2].mean(), visible[2:7].mean()], atol=1e-3)


# Networks of the paper's figure


TRUE = np.repeat([1.0, 0.09, 1e-4], [2, 5, 23])
LOST = np.repeat([1e-4, 0.09, 1e-4], [2, 5, 23])  # of which the salient directions are frozen


def known(xp):
    """A denoiser that is known, as a function of (variances, x, t): linear, and a part that is not."""
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(30, 30)))[0]

    def denoise(variances, x, t):
        linear = rotation @ (variances / (variances + t) * (rotation.T @ x))
        return linear + 0.4 * t * xp.sin(3 * x + 1)

    return denoise


def brute_positions(variances, data, chosen):
    """Positions ``(reading, point, time, B)`` by plain finite differences and scores, in float64."""
    denoise = known(np)
    noise = np.asarray(jax.random.normal(data.held_out_key, (chosen.points, 30)), np.float64)
    clean = [np.zeros((1, 30)), *(np.asarray(part[: chosen.points], float) for part in (data.held_out, data.train))]

    def position(rows):
        values = np.linalg.svd(rows, compute_uv=False)
        drops = values[19:-1] - values[20:]
        assert np.diff(np.sort(drops)[-2:]) > 1e-3  # not a matter of rounding
        return 20 + np.argmax(drops)

    found = [[], []]
    for x in clean:
        of_point = [[], []]
        probes = np.asarray(jax.random.orthogonal(jax.random.fold_in(data.held_out_key, 1), 30, (len(x),)), np.float64)
        for t in chosen.times:
            noised = x + t**0.5 * noise[: len(x)] * (len(x) > 1)  # none at the origin
            rows = [
                [
                    (denoise(variances, at + step, t) - denoise(variances, at - step, t)) / 2e-5
                    for step in 1e-5 * np.eye(30)
                ]
                for at in noised
            ]
            of_point[0].append([position(np.array(row) - np.eye(30)) for row in rows])
            scores = [
                [(denoise(variances, at + step, t) - at - step) / t for step in t**0.5 * q]
                for at, q in zip(x, probes, strict=True)
            ]
            of_point[1].append([position(t**0.5 * np.array(stack)) for stack in scores])
        for reading, positions in zip(found, of_point, strict=True):
            reading.append(positions)
    return found


def test_positions_of_a_network_are_those_of_brute_force():
    chosen = toy_gaps.Plan((5,), (0.003, 0.3, 0.9), 3, 1)
    data = cells.draw(toy_gaps.source("Gaussian"), cells.Grid((5,), chosen.times, 1, 3, 3, 1), 0)
    model = Trainable(lambda key: TRUE, known(jnp), lambda t: 1 / t)

    def counts(variances):
        params = jnp.asarray(variances, jnp.float32)
        return toy_gaps.count_positions(lambda *at: toy_networks.shifts(model, params, *at), data, chosen)[0]

    found = counts(TRUE)
    wanted = brute_positions(TRUE, data, chosen)
    for reading in range(2):
        for point, of_point in enumerate(wanted[reading]):
            for time, positions in enumerate(of_point):
                np.testing.assert_array_equal(found[reading, point, time], np.bincount(positions, minlength=30))
    seen = [int(np.argmax(of_time)) for of_time in found[0, 0]]
    assert seen == [23, 28, 28]
    assert (found[0] != found[1]).any()  # the readings are not the same
    # A control: without the salient directions the gap is elsewhere, where it should be.
    assert [int(np.argmax(of_time)) for of_time in counts(LOST)[0, 0]] == [25, 25, 25]


def test_networks_of_the_paper_are_measured_by_size_and_training_set(monkeypatch):
    gaps = toy_gaps.Plan((20, 40), (0.02, 0.5), 2, 2)
    monkeypatch.setattr(toy_networks, "LOSS_POINTS", 30)
    first, last = toy_networks.measure(
        toy_networks.Plan((3, 20), (20, 40), 2), gaps, "normalized", 5, lambda step: None
    )
    assert (first.step, last.step) == (3, 20)
    assert last.counts.shape == (2, 2, 2, 3, 2, 30)
    np.testing.assert_array_equal(last.counts.sum(axis=-1)[..., 0, :], 1)
    np.testing.assert_array_equal(last.counts.sum(axis=-1)[..., 1:, :], 2)

    # One network alone, on the smaller size of the second training set, trained as the preset says.
    data = cells.draw(toy_gaps.source("normalized"), cells.Grid((20, 40), gaps.times, 2, 2, 30, 5), 1)
    drawn = training.Data(data.train, jnp.arange(40)[None], jnp.arange(1)[None])
    model = mlp.paper_toy(30)
    recipe = training.Recipe(model, training.optimizer("radam", 1e-4, clip=None, warmup=0), 128, 0.9999)
    members = training.Members(*(jnp.array([value]) for value in (1, 20, np.log(0.01), np.log(50))))
    root = jax.random.fold_in(jax.random.key(5), cells.NETWORKS)
    mesh = jax.make_mesh((1, 1), ("member", "batch"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    start = training.start(recipe, root, members)
    state = training.advance(recipe, mesh, drawn, members._replace(seed=jnp.array([0])), start, 20)
    params = jax.tree.map(lambda leaf: leaf[0], state.ema)
    noise = np.asarray(jax.random.normal(jax.random.fold_in(data.held_out_key, 2), (30, 30)))
    for losses, clean in ((last.train_loss, data.train[:20]), (last.held_out_loss, data.held_out)):
        for at, t in enumerate(gaps.times):
            x = clean + t**0.5 * noise[: len(clean)]
            denoised = jax.vmap(model.denoise, (None, 0, None))(params, x, jnp.float32(t))
            alone = np.mean((denoised - clean) ** 2) / t
            # Rounding of 20 steps of training.
            np.testing.assert_allclose(losses[0, 1, at], alone, rtol=1e-4)
    for other in (last.train_loss[1, 1], last.train_loss[0, 0], first.train_loss[0, 1], last.held_out_loss[0, 1]):
        assert np.abs(other / last.train_loss[0, 1] - 1).max() > 1e-3  # controls: size, set, step, points

    def shifts(key, x, noised, t):
        matrix = jax.vmap(jax.jacfwd(lambda x: model.denoise(params, x, t)))(noised)
        return (matrix - jnp.eye(30),) * 2

    counts, kept = toy_gaps.count_positions(shifts, data, gaps)
    np.testing.assert_array_equal(last.counts[0, 1, 0], counts[0])
    np.testing.assert_allclose(last.kept[0, 1, 0], kept[0], rtol=1e-3, atol=1e-5)


def test_a_network_that_failed_has_no_numbers(monkeypatch):
    monkeypatch.setattr(mlp, "paper_toy", trainable_linear.trainable)
    original = training.train

    def train(*arguments):
        for state in original(*arguments):
            yield state._replace(failed=state.failed.at[2].set(1))  # the larger size of the first training set

    monkeypatch.setattr(training, "train", train)
    gaps, chosen = toy_gaps.Plan((20, 40), (0.1, 0.5), 2, 2), toy_networks.Plan((2,), (20, 40), 2)
    (found,) = toy_networks.measure(chosen, gaps, "Gaussian", 5, lambda step: None)
    failed = np.array([[False, False], [True, False]])
    np.testing.assert_array_equal((found.counts == 0).all(axis=(2, 3, 4, 5)), failed)
    assert not found.kept[failed].any()
    for losses in (found.train_loss, found.held_out_loss):
        np.testing.assert_array_equal(np.isnan(losses), np.broadcast_to(failed[..., None], losses.shape))


def told(few, many):
    """The figure of the paper with given positions of networks: ``(seed, time)`` at few and at many points."""
    gaps, networks = toy_gaps.Plan((20, 40), (0.1, 0.2, 0.3, 0.4), 1, 2), toy_networks.Plan((7,), (20, 40), 2)
    toy = ablate_job.prepare_toy(gaps, networks, {})
    toy.exact["count"][..., 23] = 1
    toy.exact["complete"][:] = 1
    for size, positions in enumerate((few, many)):
        for seed, of_seed in enumerate(positions):
            for time, position in enumerate(of_seed):
                toy.networks["count"][:, 1, size, seed, :, :, time, position] = 1  # normalized data
    toy.networks["count"][:, 0, ..., 23] = 1
    toy.networks["held_out_loss"][:] = 1
    toy.networks["train_loss"][:] = 1
    toy.networks["train_loss"][:, :, 0, :, 2] = 0.5  # memorized at one noise variance
    toy.networks["complete"][:] = 1
    return toy


@pytest.mark.parametrize(
    ("few", "many", "kind", "conclusion"),
    [
        ([[25, 25, 25, 23], [25, 25, 23, 23]], [[25, 23, 23, 23]] * 2, "Less at N = 40 than at 20", "made by scarce"),
        ([[25, 23, 23, 23]] * 2, [[25, 25, 25, 23], [25, 25, 23, 23]], "No less at N = 40 than at 20", "geometry, not"),
        ([[25, 23, 23, 23]] * 2, [[25, 23, 23, 23]] * 2, "No less at N = 40 than at 20", "geometry, not"),
        ([[25, 25, 25, 23]] * 2, [[25, 25, 25, 25], [25, 23, 23, 23]], "Undecided", "it is undecided whether"),
        ([[23, 23, 23, 23]] * 2, [[28, 28, 28, 23]] * 2, "Below 0.05 everywhere", "not seen"),
    ],
)
def test_what_is_said_of_the_networks_follows_from_their_numbers(few, many, kind, conclusion):
    said = ablate_tables.toy_sentence(told(few, many))
    _, of_networks = said.split("Networks, 7 steps. ")
    assert of_networks.startswith(kind)
    assert "Exact score. Below 0.05 everywhere." in said
    answer = ablate_tables.toy_answer(told(few, many))
    assert said.endswith(answer)
    exact, networks = answer.split(" In networks of 7 steps on normalized data ")
    assert exact == "In the exact score of normalized data the gap is not seen."
    assert networks.startswith("(those of 20 points memorized, with 2.0 times the loss at fresh points; range of 2 ")
    assert conclusion in networks
    assert [
        words in networks for words in ("made by scarce", "geometry, not", "is undecided whether", "not seen")
    ].count(True) == 1
    assert "N = 20 and 40: 2.00 and 1.00 (Gaussian, 7 steps)" in said


@pytest.mark.parametrize(("salient", "first"), [(0.9, "fine detail goes first"), (0.1, "salient directions go first")])
def test_what_is_visible_where_the_gap_is_tells_which_directions_go_first(salient, first):
    toy = told([[25, 25, 25, 23], [25, 25, 23, 23]], [[23, 23, 23, 23]] * 2)
    assert "visible" not in ablate_tables.toy_answer(toy).split("the gap is not seen.")[0]
    shares = np.array([salient, 0.5], np.float32)
    toy.networks["kept"][:, 1, 0] = toy.networks["count"].sel(above=25)[:, 1, 0].values[..., None] * shares
    toy.networks["kept"][:, 1, 0, 1] *= 0.8  # of the second training set, which has two of the five
    answer = ablate_tables.toy_answer(toy)
    mean = (3 + 2 * 0.8) / 5
    estimate = np.array([salient, 0.5]) * mean
    assert f"at N = 20, {estimate[0]:.2f} [{0.8 * salient:.2f}, {salient:.2f}] of the salient and" in answer
    assert f"{estimate[1]:.2f} [0.40, 0.50] of the fine directions are still visible: {first}." in answer


@pytest.mark.parametrize("change", [0, 1], ids=["less", "no less"])
def test_networks_that_did_not_memorize_are_not_held_for_or_against_memorization(change):
    toy = told(*([[[25, 25, 25, 23]] * 2, [[25, 23, 23, 23]] * 2][:: (-1) ** change]))
    assert "stays open" not in ablate_tables.toy_sentence(toy)
    toy.networks["train_loss"][:, :, 0, :, 2] = 0.6
    said = ablate_tables.toy_sentence(toy)
    assert said.endswith("what memorization does in them stays open.")
    assert "memorized by then" in said
    assert ("Networks, 7 steps. Less", "Networks, 7 steps. No less")[change] in said
    assert "scarce data" not in said
    assert "geometry" not in said


def test_networks_that_are_not_trained_or_failed_are_left_out():
    toy = told([[25, 25, 25, 23]] * 2, [[23, 23, 23, 23]] * 2)
    assert "0.75 [0.75, 0.75] and 0.00 [0.00, 0.00]" in ablate_tables.toy_sentence(toy)
    toy.networks["count"][:, 1, 0, 1] = 0  # one failed
    toy.networks["train_loss"][:, 1, 0, 1] = np.nan
    said = ablate_tables.toy_sentence(toy)
    assert "(0.75 and 0.00)" in said  # of one training set, without an interval
    assert "2.00 and 1.00 (normalized" in said
    toy.networks["count"][:] = 0
    toy.networks["complete"][:] = 0
    said = ablate_tables.toy_sentence(toy)
    assert "Exact score" in said
    assert "etworks" not in said
    assert len(plots.toy_gaps(toy).axes) == 12


# Networks


def test_networks_are_measured_by_size_and_training_set(monkeypatch):
    monkeypatch.setattr(ablate_networks, "LEARNING_RATE", 0.3)  # a hundred steps of warm-up are never over
    chosen = ablate_networks.Plan((3, 6), (2, 20), (4, 16), 2)
    assert [one.label for one in ablate_networks.conditions(chosen, 3)] == [
        "held-out, width 3, 20 steps",
        "training, width 3, 20 steps",
        "training, r = 0, width 3, 20 steps",
    ]
    wanted = ablate_networks.conditions(chosen, 6)
    assert len(wanted) == len({one.label for one in wanted}) == 9
    found = dict(ablate_networks.measure(chosen, 6, 3, 4, lambda step: None))
    assert set(found) == set(wanted)

    # One network alone, on the smaller size of the second training set, measured by plain derivatives.
    source = responses.source_of(wanted[0])
    keys = [cells.seed_keys(3, seed) for seed in range(2)]
    data = training.draw_data(source, [key[0] for key in keys], 16, 4)
    model = mlp.edm_mlp(12, 6, 3, float(np.mean(source.variances)))
    recipe = training.Recipe(model, training.optimizer("adam", 0.3, clip=1.0, warmup=100), 128, 0.999)
    low, high = np.log(ablate_networks.NOISE_RANGE)
    members = training.Members(*(jnp.array([value]) for value in (1, 4, low, high)))
    root = jax.random.fold_in(jax.random.key(3), cells.NETWORKS)
    mesh = jax.make_mesh((1, 1), ("member", "batch"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    state = training.advance(recipe, mesh, data, members, training.start(recipe, root, members), 20)
    params = jax.tree.map(lambda leaf: leaf[0], state.ema)
    noise = jax.random.normal(keys[1][2], (4, 12))
    held_out = data.points[data.held_out[1, :4]] + ablate_networks.T**0.5 * noise
    at_last = {(one.point, one.probe): one for one in wanted if one.step == 20 and one.averaged}
    for x, at in ((data.points[data.train[1, :4]], at_last["train", 0.0]), (held_out, at_last["held_out", 1.0])):
        matrix = jax.vmap(jax.jacfwd(lambda x: model.denoise(params, x, jnp.float32(ablate_networks.T))))(x)
        relative = np.diagonal(matrix, axis1=1, axis2=2).mean(axis=0) * (1 + ablate_networks.T / source.variances)
        alone = relative.reshape(4, 3).mean(axis=1)
        # Rounding of a few steps of training.
        np.testing.assert_allclose(found[at][1, 0], alone, rtol=1e-4)
    raw = next(one for one in wanted if one.point == "held_out" and not one.averaged)
    for other in (
        found[at][0, 0],
        found[at][1, 1],
        found[at][0, 1],
        found[raw][1, 0],
    ):  # controls: training set, size, no average
        assert np.abs(other / alone - 1).max() > 1e-3


# The job

FEW = [
    TINY._replace(label="mean"),
    TINY._replace(label="their own", point="axis", frozen="participation"),
    Condition("a", "times", LEVELS, (8,), (0.1, 0.5, 2.0)),
]


OPTIONS = AblateOptions(preset="quick", only="a,f,paper", seeds=3, seed=2)


def make_small(patch):
    """Few conditions, a toy of few noise variances and of linear networks, no other networks."""
    patch.setattr(ablate, "conditions", lambda quick: FEW)
    patch.setattr(toy_gaps, "plan", lambda quick, seeds: toy_gaps.Plan((20, 40), (0.1, 0.5), 2, seeds))
    patch.setattr(toy_networks, "plan", lambda quick, seeds: toy_networks.Plan((2, 6), (20, 40), 2))
    patch.setattr(mlp, "paper_toy", trainable_linear.trainable)  # compiles in no time


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small run that nothing interrupted: folder, result and toy."""
    out = tmp_path_factory.mktemp("ablate") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        return ablate_job.run(dataclasses.replace(OPTIONS, out=out), quiet())


@pytest.fixture
def small(monkeypatch):
    """Further small runs, whose figures are empty files: they are drawn once, by the run above."""
    make_small(monkeypatch)
    for name in ("ablations", "toy_gaps"):
        monkeypatch.setattr(plots, name, lambda dataset: None)
    monkeypatch.setattr(plots, "save", lambda figure, path: path.touch())


def test_a_run_that_was_interrupted_ends_with_the_same_numbers(whole, small, tmp_path, monkeypatch):
    folder, dataset, toy = whole
    names = {"ablate.nc", "toy.nc", "toy_networks.nc", "ablations.png", "toy.png", "summary.txt"}
    assert {path.name for path in folder.iterdir()} == names
    assert dataset["label"].values.tolist() == ["times", "mean", "their own"]
    assert (dataset["complete"] == 1).all()
    with xr.open_dataset(folder / "ablate.nc") as opened:
        xr.testing.assert_identical(opened.load(), dataset)
        assert json.loads(opened.attrs["configuration"])["seeds"] == 3
        assert {"jax", "xarray"} <= set(json.loads(opened.attrs["versions"]))
        assert opened.attrs["random_seed"] == 2
    summary = (folder / "summary.txt").read_text("utf-8")
    assert "(f) definition of frozen." in summary
    assert "have fine detail first and" in summary

    calls = []

    def respond(condition, *rest):
        calls.append(condition.label)
        if len(calls) == 5:  # in the second condition
            raise KeyboardInterrupt
        return original(condition, *rest)

    original = responses.respond
    monkeypatch.setattr(responses, "respond", respond)
    with pytest.raises(KeyboardInterrupt):
        ablate_job.run(dataclasses.replace(OPTIONS, out=tmp_path / "cut"), quiet())
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {"ablate.nc", "toy.nc", "toy_networks.nc"}
    folder, resumed, toy_resumed = ablate_job.run(AblateOptions(resume=tmp_path / "cut"), quiet())
    assert calls == ["times"] * 3 + ["mean"] * 2 + ["mean"] * 3 + ["their own"] * 3  # what was complete is kept
    xr.testing.assert_equal(resumed, dataset)
    xr.testing.assert_equal(toy_resumed.exact, toy.exact)
    xr.testing.assert_equal(toy_resumed.networks, toy.networks)
    assert {path.name for path in folder.iterdir()} == names

    other = ablate_job.run(dataclasses.replace(OPTIONS, out=tmp_path / "other", seed=3, only="f"), quiet())
    assert other[2] is None
    assert not np.allclose(other[1]["response"][0, :, :2, :2], dataset["response"][1, :, :2, :2])

    dataset.assign_attrs(random_seed=4).to_netcdf(tmp_path / "cut" / "ablate.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="other options than it states"):
        ablate_job.run(AblateOptions(resume=tmp_path / "cut"), quiet())


def test_training_that_was_interrupted_begins_anew_and_ends_with_the_same_numbers(whole, small, tmp_path, monkeypatch):
    options = dataclasses.replace(OPTIONS, only="paper")  # the toy is the same, whatever stands beside it
    expected = whole[2].networks
    assert expected["training_step"].values.tolist() == [2, 6]
    assert (expected["complete"] == 1).all()
    assert (expected["count"].sum("above").sel(point="train") == 2).all()
    assert (expected["train_loss"] > 0).all()
    calls = []

    def measure(chosen, gaps, name, *rest):
        for found in original(chosen, gaps, name, *rest):
            calls.append((name, found.step))
            if len(calls) == 4:  # at the last step of the second kind of data
                raise KeyboardInterrupt
            yield found

    original = toy_networks.measure
    monkeypatch.setattr(toy_networks, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        ablate_job.run(dataclasses.replace(options, out=tmp_path / "cut"), quiet())
    assert ablate_job.load_toy(tmp_path / "cut").networks["complete"].values.tolist() == [1, 0]
    folder, _, resumed = ablate_job.run(AblateOptions(resume=tmp_path / "cut"), quiet())
    assert calls == [(name, step) for name in ("Gaussian", "normalized", "normalized") for step in (2, 6)]
    xr.testing.assert_equal(resumed.networks, expected)
    other = ablate_job.run(dataclasses.replace(options, seed=3, out=tmp_path / "other"), quiet())[2]
    assert np.abs(other.networks["train_loss"] / expected["train_loss"] - 1).max() > 0.01
    # A run from before there were networks is refused.
    (folder / "toy_networks.nc").unlink()
    with pytest.raises(InputError, match=r"toy_networks.nc: no such file"):
        ablate_job.run(AblateOptions(resume=folder), quiet())


def test_figures_show_every_condition_and_its_order(whole):
    _, dataset, toy = whole
    figure = plots.ablations(dataset)
    top, bottom = figure.axes
    assert [label.get_text() for label in top.get_yticklabels()] == ["times"]
    assert [label.get_text() for label in bottom.get_yticklabels()] == ["mean", "their own"]
    words = {text.get_text() for text in bottom.texts}
    orders = ablate_job.orders(dataset)
    for found in orders["f"].values():
        assert f"{ablate_orders.tau_in_words(found)}   {ablate_orders.verdict(found)}" in words
    assert "(f) definition of frozen" in words
    shown = plots.toy_gaps(toy).axes
    assert len(shown) == 12
    rows = [f"{name}, {size}" for name in ("exact", "2 steps", "6 steps") for size in (20, 40)]
    assert [label.get_text() for label in shown[0].get_yticklabels()] == rows
    # A partial result is drawn and told too.
    dataset = dataset.copy(deep=True)
    dataset["complete"][1:] = 0
    assert len(plots.ablations(dataset).axes) == 1
    text = io.StringIO()
    ablate_tables.write(dataset, None, Console(file=text, width=150))
    assert "(a) times" in text.getvalue()
    assert "(f)" not in text.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "a,z"], "--only has 'z'; give some of a,b,c,d,e,f,g,h,paper"),
        (["--only", "a,a"], "--only a,a names an experiment twice"),
        (["--seeds", "0"], "--seeds is 0; give at least 1"),
        (["--seed", "-1"], "--seed is -1; give 0 to"),
        (["--out", "."], ". exists; give another --out"),
        (["--resume", "nowhere"], "ablate.nc: no such file"),
        (["--resume", "nowhere", "--seeds", "2"], "give no others"),
        (["--preset", "huge"], "huge"),
    ],
)
def test_wrong_options_are_refused_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["geomem", "ablate", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_presets_hold_what_is_asked_for():
    for quick in (True, False):
        listed = ablate.conditions(quick)
        assert {one.experiment for one in listed} == set(ablate.TITLES)
        assert len({(one.experiment, one.label) for one in listed}) == len(listed)
        assert {one.frozen for one in listed} == {"mean", "median", "absolute", "participation", "gap"}
        assert {one.point for one in listed} == {"held_out", "train", "origin", "axis"}
        assert {one.probe for one in listed if one.point == "train"} == {0.0, 1 / 12, 1.0}
        # Where the paper's order is real.
        weak = [one for one in listed if one.levels == ((30, 1.0), (120, 0.16)) and one.frozen == "participation"]
        assert any(one.normalized and one.point == "axis" for one in weak)
    assert ablate.axis_noise(ablate.WEAK, True) == pytest.approx(0.0203 / (8 * np.log(300)), rel=0.02)
