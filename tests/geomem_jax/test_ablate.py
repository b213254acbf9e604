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
