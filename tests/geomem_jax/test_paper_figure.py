"""The paper's figure: positions of gaps against brute force, networks against one alone, and what is said of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geomem_jax import ablate_job, ablate_tables, cells, plots, responses, toy_gaps, toy_networks, training
from geomem_jax.denoisers import mlp, trainable_linear
from geomem_jax.denoisers.trainable import Trainable


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
    counts, visible, kept = toy_gaps.measure(chosen, 7, 0)
    assert counts.shape == (2, 2, 3, 2, 2, 30)
    assert visible.shape == kept.shape == (2, 2, 3, 2, 2, 2)
    assert (counts[..., 25] > 0).any()
    # Of at most so many points, and none where the gap is elsewhere.
    assert (kept <= counts[..., 25:26] * (1 + 1e-5)).all()
    assert (kept <= visible * (1 + 1e-5)).all()
    np.testing.assert_array_equal((visible == kept).all(axis=-1), counts[..., 25] == counts.sum(axis=-1))
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
                shares = (vectors[:, above:] ** 2).sum(axis=1)
                of_groups = np.array([shares[:2].mean(), shares[2:7].mean()])
                # Singular vectors of float32 matrices whose gaps are a hundredth.
                np.testing.assert_allclose(visible[where], of_groups, atol=1e-3)
                np.testing.assert_allclose(kept[where], of_groups * (above == 25), atol=1e-3)


# Networks


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
        return toy_gaps.count_positions(lambda *at: toy_networks.shifts(model, params, *at), data, chosen).counts

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
    assert last.positions.counts.shape == (2, 2, 2, 3, 2, 30)
    np.testing.assert_array_equal(last.positions.counts.sum(axis=-1)[..., 0, :], 1)
    np.testing.assert_array_equal(last.positions.counts.sum(axis=-1)[..., 1:, :], 2)

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

    of_one = toy_gaps.count_positions(shifts, data, gaps)
    np.testing.assert_array_equal(last.positions.counts[0, 1, 0], of_one.counts[0])
    np.testing.assert_allclose(last.positions.visible[0, 1, 0], of_one.visible[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(last.positions.kept[0, 1, 0], of_one.kept[0], rtol=1e-3, atol=1e-5)


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
    np.testing.assert_array_equal((found.positions.counts == 0).all(axis=(2, 3, 4, 5)), failed)
    np.testing.assert_array_equal((found.positions.visible == 0).all(axis=(2, 3, 4, 5)), failed)
    assert not found.positions.kept[failed].any()
    for losses in (found.train_loss, found.held_out_loss):
        np.testing.assert_array_equal(np.isnan(losses), np.broadcast_to(failed[..., None], losses.shape))


def told(*of_sizes):
    """The figure of the paper with given positions ``(seed, time)`` of networks of the smallest size and of others."""
    gaps = toy_gaps.Plan((20, 40), (0.1, 0.2, 0.3, 0.4), 1, 2)
    networks = toy_networks.Plan((7,), (20, 40, 80)[: len(of_sizes)], 2)
    toy = ablate_job.prepare_toy(gaps, networks, {})
    toy.exact["count"][..., 23] = 1
    toy.exact["complete"][:] = 1
    for size, positions in enumerate(of_sizes):
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
    exact, networks = answer.split(" In networks of 20 points of normalized data after 7 steps ")
    assert exact == "In the exact score of normalized data the gap is not seen."
    assert networks.startswith("(loss at fresh points 2.0 [2.0, 2.0] times that at training points) ")
    assert said.endswith(" Brackets of networks are ranges of 2 training sets.")
    assert conclusion in networks
    assert [
        words in networks for words in ("made by scarce", "geometry, not", "is undecided whether", "not seen")
    ].count(True) == 1
    assert "N = 20 and 40: 2.00 and 1.00 (Gaussian, 7 steps)" in said


def with_visible(few, many):
    """Networks of normalized data in which given shares ``(seed, group)`` are visible, at few and at many points."""
    toy = told([[25, 25, 25, 23], [25, 25, 23, 23]], [[23, 23, 23, 23]] * 2)
    lost, every = (toy.networks["count"][:, 1, 0, ..., 25], toy.networks["count"][:, 1, 1].sum("above"))
    toy.networks["kept"][:, 1, 0] = lost.values[..., None] * np.float32(few)[:, None, None, None]
    toy.networks["visible"][:, 1, 1] = every.values[..., None] * np.float32(many)[:, None, None, None]
    return toy


@pytest.mark.parametrize(
    ("salient", "first"), [(0.9, "more fine detail is lost"), (0.1, "more salient directions are lost")]
)
def test_what_few_points_hide_tells_which_directions_go_first(salient, first):
    toy = with_visible([[salient, 0.5], [0.8 * salient, 0.4]], [[0.95, 0.9], [0.9, 0.85]])
    answer = ablate_tables.toy_answer(toy)
    mean = (3 + 2 * 0.8) / 5  # of the second training set, which has two of the five gaps
    assert f"Where it is there at N = 20, {first} for want of data." in answer
    assert "visible" not in answer
    assert (
        f"{answer.split('In networks')[1]} Of the salient directions {salient * mean:.2f} [{0.8 * salient:.2f}, "
        f"{salient:.2f}] are visible there, of the fine ones {0.5 * mean:.2f} [0.40, 0.50]; with N = 40 at the same "
        "noise 0.93 [0.90, 0.95] and 0.88 [0.85, 0.90]."
    ) in ablate_tables.toy_sentence(toy)
    toy.networks["train_loss"][:, 1, 0, 1, 2] = 0.4  # ratios of 2 and 2.5, of means 1 / 0.45
    assert "2.2 [2.0, 2.5] times that at" in ablate_tables.toy_answer(toy)


@pytest.mark.parametrize(
    ("fine", "said"),
    [(0.8, "more fine detail is"), (0.97, "next to none of either are"), (1.0, "next to none of either are")],
)
def test_what_many_points_do_not_show_is_not_lost_for_want_of_data(fine, said):
    # Fewer of the salient directions are visible, but no fewer than with many points.
    answer = ablate_tables.toy_answer(with_visible([[0.5, fine]] * 2, [[0.5, 1.0]] * 2))
    assert f"Where it is there at N = 20, {said} lost for want of data." in answer


def test_a_difference_of_next_to_nothing_is_none():
    for fine, said in ((0.76, "about as many of both"), (0.84, "about as many"), (0.7, "more fine"), (0.9, "more s")):
        answer = ablate_tables.toy_answer(with_visible([[0.4, fine]] * 2, [[0.5, 0.9]] * 2))
        assert f"Where it is there at N = 20, {said}" in answer, fine


def test_training_sets_that_differ_leave_it_undecided_which_go_first():
    answer = ablate_tables.toy_answer(with_visible([[0.9, 0.5], [0.4, 0.5]], [[1.0, 1.0]] * 2))
    assert ", it is undecided of which more are lost for want of data." in answer
    # Means that agree say nothing, neither of what is lost nor of the difference.
    for few in ([[0.6, 0.4], [0.1, 0.4]], [[0.7, 0.5], [0.7, 1.0]]):
        answer = ablate_tables.toy_answer(with_visible(few, [[0.7, 0.7]] * 2))
        assert ", it is undecided of which more are lost for want of data." in answer


def test_what_is_hidden_is_compared_at_the_same_noise():
    # The gap is seen at the second noise alone, and there at two of three points of one class.
    few = toy_gaps.Positions(np.zeros((1, 2, 2, 30), int), np.zeros((1, 2, 2, 2)), np.zeros((1, 2, 2, 2)))
    many = toy_gaps.Positions(*(part.copy() for part in few))
    few.counts[..., 28], many.counts[..., 23] = 3, 6
    few.counts[0, 1, 1, 25], few.counts[0, 1, 1, 28] = 2, 1
    few.kept[0, 1, 1] = 2 * 0.25, 2 * 0.75
    many.visible[...] = 6 * 0.1
    many.visible[0, 1, 1] = 6 * 0.5, 6 * 1.0
    found = toy_gaps.hidden(few, many)
    np.testing.assert_allclose(found.estimate, [0.25, 0.75, 0.5, 1.0, 0.25, 0.25, 0.0])
    many.counts[0, 1] = 0  # failed there
    assert np.isnan(toy_gaps.hidden(few, many).estimate).all()


def test_networks_of_every_size_are_compared_with_those_of_most_points():
    toy = told([[25, 25, 25, 25]] * 2, [[25, 23, 23, 23]] * 2, [[25, 25, 23, 23]] * 2)
    toy.networks["train_loss"][:, 1, 1, :, 3] = 0.25
    for size, kept in enumerate((0.3, 0.6)):
        lost = toy.networks["count"][:, 1, size, ..., 25].values[..., None]
        toy.networks["kept"][:, 1, size] = lost * np.array([kept, 0.5], np.float32)
    toy.networks["visible"][:, 1, 2] = 0.9
    *_, fewest, more = ablate_tables.toy_sentence(toy).split("In networks of ")
    assert fewest.startswith("20 points of normalized data after 7 steps (loss at fresh points 2.0 [2.0, 2.0] times ")
    assert "made by scarce data" in fewest
    assert "0.30 [0.30, 0.30] are visible there, of the fine ones 0.50 [0.50, 0.50]" in fewest
    assert "with N = 80 at the same noise 0.90 [0.90, 0.90]" in fewest
    assert "more salient directions are lost" in fewest
    assert more.startswith("40 points of normalized data after 7 steps (loss at fresh points 4.0 [4.0, 4.0] times ")
    assert "no less frequent with many points" in more
    assert "0.60 [0.60, 0.60] are visible there, of the fine ones 0.50 [0.50, 0.50]" in more
    assert "more fine detail is lost" in more


@pytest.mark.parametrize("change", [0, 1], ids=["less", "no less"])
def test_networks_that_did_not_memorize_are_not_held_for_or_against_memorization(change):
    toy = told(*([[[25, 25, 25, 23]] * 2, [[25, 23, 23, 23]] * 2][:: (-1) ** change]))
    assert "stays open" not in ablate_tables.toy_sentence(toy)
    toy.networks["train_loss"][:, :, 0, :, 2] = 0.95
    said = ablate_tables.toy_sentence(toy)
    assert said.endswith("what memorization does in them stays open.")
    assert "hardly memorized" in said
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
    toy.networks["count"][:, 1, 0] = 0  # all of the smaller size
    toy.networks["train_loss"][:, 1, 0] = np.nan
    assert "networks of 20 points" not in ablate_tables.toy_answer(toy)
    toy.networks["count"][:] = 0
    toy.networks["complete"][:] = 0
    said = ablate_tables.toy_sentence(toy)
    assert "Exact score" in said
    assert "etworks" not in said
    assert len(plots.toy_gaps(toy).axes) == 12
