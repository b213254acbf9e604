"""The league table on results whose truth is known."""

import functools
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import theory
from geomem_jax import compare, league_cells, league_words, statistics, tables
from geomem_jax.errors import InputError
from geomem_jax.laws import label
from geomem_jax.verdict import percent
from theory.laws import linear_law, population_law

from . import plotted
from .test_readings import expected

D = len(plotted.LADDER)


def only(found, rung, law, t=0.1, point=None, step=None):
    rows = [row for row in found.rows if (row.rung, row.law, row.noise_variance) == (rung, law, t)]
    (row,) = [row for row in rows if point in (None, row.point) and row.step == step]
    return row


def slightly_off(factor):
    return lambda variances, log_n, t: factor * population_law(variances, log_n, t)


def at_other_size(log_factor):
    return lambda variances, log_n, t: linear_law(variances, log_n + log_factor, t)


def swapped(variances, log_n, t):
    """Gains of neighbouring variances of the linear law, exchanged; four directions have each."""
    gains = linear_law(variances, log_n, t)
    return jnp.concatenate([gains[:24].reshape(3, 2, 4)[:, ::-1].ravel(), gains[24:]])


@functools.cache
def usual():
    return compare.league(plotted.simulated(), others={"swapped": swapped})


def test_every_law_is_held_against_every_rung_once():
    found = usual()
    laws = ["population", "linear", "empirical", "swapped"]
    assert {(row.rung, row.point) for row in found.rows} == {(rung, "any") for rung in plotted.RUNGS}
    assert [row.law for row in found.rows] == laws * 3 * len(plotted.TIMES)
    assert [row.claimed for row in found.rows[:4]] == [True, False, False, False]
    # Every cell is tested: six sizes, four noise variances, six variances.
    assert found.comparisons == len(laws) * 3 * 6 * 4 * 6 == sum(row.tested for row in found.rows)
    assert found.alpha == 0.05
    np.testing.assert_allclose(found.variance, 2.0 ** -np.arange(6))


def test_the_right_law_agrees_and_the_wrong_ones_are_rejected():
    for rung in plotted.RUNGS:
        right = only(usual(), rung, rung)
        assert (right.outcome, right.unrejected, right.deviating) == ("agrees", (), 0)
        assert right.decidable > 0.9
        assert np.isnan(right.seeds_needed)
        for law in (*plotted.RUNGS, "swapped"):
            wrong = only(usual(), rung, law)
            assert law == rung or wrong.outcome == "rejected"
            assert law == rung or wrong.log_score < right.log_score - 1


def test_the_log_score_is_the_density_of_the_means():
    gains = plotted.simulated()["gain"].sel(rung="linear", point="train", noise_variance=0.1).values[..., :24]
    groups = gains.astype(float).reshape(6, 8, 6, 4).mean(axis=-1)
    law = np.asarray(theory.gain(plotted.LADDER, plotted.SIZES, 0.1, "linear"), float)[:, :24:4]
    error = groups.std(axis=1, ddof=1) / np.sqrt(8)
    wanted = stats.norm.logpdf(groups.mean(axis=1), law, error).mean()
    # Means are off by a few times half a percent, and so much do scores differ from plain ones.
    assert only(usual(), "linear", "linear").log_score == pytest.approx(wanted, abs=0.02)


def test_the_swapped_law_is_rejected_wherever_it_can_be_told():
    right, wrong = (only(usual(), "linear", law).cells for law in ("linear", "swapped"))
    apart = league_cells.separation(right, wrong)
    gone = league_cells.rejects(wrong, usual().comparisons)
    threshold = statistics.critical_t(0.05, usual().comparisons, 7)
    assert gone[apart > threshold + 5].all()
    assert (apart > threshold + 5).sum() > 10


def test_a_cell_contradicts_only_a_rejected_law_and_is_then_held_against_its_row_alone():
    own = only(usual(), "linear", "linear").cells
    # Between the thresholds of 36 cells and of all: 4.9 and 9.1 with seven degrees of freedom.
    limits = [float(statistics.critical_t(0.05, count, 7)) for count in (36, usual().comparisons)]
    score = np.zeros_like(own.score)
    score[0] = [sum(limits) / 2, -sum(limits) / 2, limits[0] - 0.01, 0, 0, 0]
    for gate, wanted in ((limits[1] - 0.01, 0), (limits[1] + 0.01, 3)):
        score[1, 0] = gate
        found = league_cells.contradicts(own._replace(score=score), usual().comparisons)
        assert found.sum() == wanted
        assert not found[0, 2]


def test_cells_decide_between_laws_so_far_apart_that_chance_cannot_hide_it():
    right, wrong = (only(usual(), "linear", law).cells for law in ("linear", "swapped"))
    count = usual().comparisons
    apart, found = league_cells.separation(right, wrong), league_cells.decides(right, wrong, count)
    np.testing.assert_array_equal(found, apart > statistics.critical_t(0.05, 36, 7) + 4)
    assert found.sum() > 10
    assert (league_cells.contradicts(wrong, count) | ~found).all()
    # The largest of distances that were smaller is enough for the row, and not for the level of all.
    limits = [float(statistics.critical_t(0.05, cells, 7)) for cells in (36, count)]
    for largest, enough in ((limits[1] + 3.8, False), (limits[1] + 4.2, True)):
        noisy = [cells._replace(sampling=cells.sampling * apart.max() / largest) for cells in (right, wrong)]
        smaller, found = league_cells.separation(*noisy), league_cells.decides(*noisy, count)
        assert ((smaller > limits[0]) & (smaller < limits[0] + 4)).any()
        assert (smaller > limits[0] + 4).any()
        np.testing.assert_array_equal(found, (smaller > limits[0] + 4) & enough)


def test_a_rejected_asymptotic_law_is_a_finite_size_deviation_of_stated_size():
    dataset = plotted.simulated()
    dataset["gain"].loc[{"rung": "linear"}] *= 1.6
    found = compare.league(dataset)
    row = only(found, "linear", "linear")
    assert (row.outcome, row.exact, row.claimed) == ("rejected", False, True)
    assert row.median_relative == pytest.approx(0.6, rel=0.05)
    assert row.deviating == 1
    words = league_words.describe(row)
    assert "the linear law is rejected, a finite-size deviation; it is off by 60 % in 100 % of the cells" in words
    assert league_words.verdict(row) == "rejected (finite size, 60 %)"


def test_a_deviation_within_the_range_of_an_asymptotic_law_agrees():
    # One part in N of the linear law, everywhere; of N = 2 that is much, of N = 2048 little.
    dataset = plotted.simulated(noise=0.002)
    n = plotted.SIZES[:, None, None, None]
    dataset["gain"].loc[{"rung": "linear"}] *= 1 + 0.9 / n
    found = only(compare.league(dataset), "linear", "linear")
    assert found.outcome == "agrees"
    assert found.deviating > 0.3
    assert league_words.verdict(found).startswith("agrees in the limit (here off ")
    assert "the linear law agrees in the limit, here it is off by " in league_words.describe(found)
    dataset["gain"].loc[{"rung": "linear"}] *= (1 + 1.5 / n) / (1 + 0.9 / n)
    assert only(compare.league(dataset), "linear", "linear").outcome == "rejected"


def test_a_leading_order_ranges_to_the_exact_average():
    dataset = plotted.with_exact(plotted.simulated())
    found = compare.league(dataset)
    for law in ("empirical", "finite_size"):
        assert only(found, "empirical", law).outcome == "agrees"
    leading, exact = (only(found, "empirical", law) for law in ("empirical", "finite_size"))
    np.testing.assert_allclose(leading.cells.lower, exact.cells.predicted)
    np.testing.assert_allclose(leading.cells.upper, leading.cells.predicted)
    assert leading.median_relative == pytest.approx(0.3, rel=0.05)
    assert exact.deviating == 0
    # Without the exact average it is taken at its word.
    alone = compare.league(dataset, laws=("population", "empirical"))
    assert only(alone, "empirical", "empirical").outcome == "rejected"
    # Neither end of the range is beyond reproach.
    dataset["gain"].loc[{"rung": "empirical"}] *= 0.9
    found = compare.league(dataset)
    assert (
        only(found, "empirical", "empirical").outcome == only(found, "empirical", "finite_size").outcome == "rejected"
    )


def single(seeds, noise, draw):
    """One dataset size, noise variance and variance: one cell, whose gain is that of infinite data, and a twin."""
    dataset = plotted.simulated(np.ones(1), num_seeds=seeds, noise=noise, draw=draw)
    dataset = dataset.isel(dataset_size=[5], noise_variance=[1], law=[0])
    rng = np.random.default_rng(draw)
    wiener = float(theory.wiener_gain(np.ones(1), 0.1)[0])
    dataset["gain"].loc[{"rung": "linear"}] = wiener * (1 + noise * rng.standard_normal((1, 1, 1, seeds, 1)))
    return dataset.sel(rung=["linear"])


@pytest.mark.parametrize(("factor", "outcome"), [(1.02, "indistinguishable"), (1.05, "undecided"), (1.2, "agrees")])
def test_two_laws_that_can_hardly_be_told_apart(factor, outcome):
    # One cell, measured in between or, of laws far apart, at the first, with an error of exactly 1 %.
    dataset = single(16, 0.0, 0)
    spread = stats.zscore(np.random.default_rng(0).standard_normal(16), ddof=1)
    middle = 1 if factor > 1.1 else (1 + factor) / 2
    dataset["gain"].loc[{"rung": "linear"}] *= middle * (1 + 0.01 * 4 * spread[:, None])
    found = compare.league(dataset, laws=("population",), others={"twin": slightly_off(factor)})
    row, twin = found.rows
    apart = league_cells.separation(row.cells, twin.cells)[0, 0]
    assert apart == pytest.approx(np.log(factor) / 0.01, rel=0.05)
    assert (apart > 4) == (outcome != "indistinguishable")
    assert row.outcome == outcome
    if outcome == "agrees":
        return
    assert row.unrejected == ("twin",)
    assert row.seeds_needed > 16
    words = league_words.describe(row)
    assert f"{row.seeds_needed:.0f} training sets would decide, there are 16" in words
    if outcome == "undecided":
        assert "it is undecided between the population law and twin" in words
        assert league_words.verdict(row) == f"undecided ({row.seeds_needed:.0f} sets needed)"
    else:
        assert "indistinguishable from twin" in words
        assert league_words.verdict(row) == "like twin"


def test_the_seeds_that_are_needed_decide():
    options = {"laws": ("population",), "others": {"twin": slightly_off(1.05)}}
    noise = 0.1
    first = [compare.league(single(8, noise, draw), **options).rows[0] for draw in range(16)]
    needed = [row.seeds_needed for row in first if row.outcome != "agrees"]
    assert len(needed) > 8
    seeds = int(np.median(needed))
    # By hand: a twin 5 % off against an error of noise / sqrt(S).
    by_hand = next(s for s in range(9, 999) if 0.05 / noise * s**0.5 > statistics.detectable_shift(0.05, 2, s - 1))
    # The spread is known to a quarter from 8 seeds, and sizes go with its square; a quarter of that from medians.
    assert abs(seeds / by_hand - 1) < 0.25
    rows = {
        s: [compare.league(single(s, noise, draw), **options).rows for draw in range(30)]
        for s in (by_hand, by_hand // 3)
    }
    decided = {
        s: np.mean([right.outcome == "agrees" and wrong.outcome == "rejected" for right, wrong in found])
        for s, found in rows.items()
    }
    # Power 90 % less 2.5 % for a right law rejected, binomial error 6 %.
    assert 0.75 < decided[by_hand] <= 1
    assert decided[by_hand // 3] < 0.5


def test_no_number_of_seeds_decides_what_rounding_hides():
    found = compare.league(single(8, 0.05, 0), laws=("population",), others={"twin": slightly_off(1 + 2e-7)})
    row = found.rows[0]
    assert (row.outcome, row.seeds_needed) == ("indistinguishable", np.inf)
    assert "more training sets would not decide" in league_words.describe(row)


def test_a_law_alone_must_be_tested_to_half():
    assert compare.league(single(8, 0.05, 0), laws=("population",)).rows[0].outcome == "agrees"
    found = compare.league(single(3, 0.9, 3), laws=("population",)).rows[0]
    assert found.tested == 0 or found.outcome == "undecided"


def test_the_factor_that_a_run_could_detect_is_detected():
    # The linear law taken at its word.
    both = compare.league(plotted.simulated(), laws=("linear",), others={"same": at_other_size(0.0)})
    taken, asymptotic = (only(both, "linear", name) for name in ("same", "linear"))
    assert taken.outcome == asymptotic.outcome == "indistinguishable"
    strongest = float(np.min(taken.log_detectable))
    assert 0 < strongest < 0.3
    # Slopes are taken between sizes a factor of four apart.
    factors = {"more": 2 * strongest, "less": -2 * strongest, "near": strongest / 10}
    others = {name: at_other_size(factor) for name, factor in factors.items()}
    found = compare.league(plotted.simulated(), others=others)
    assert [only(found, "linear", name).outcome == "rejected" for name in others] == [True, True, False]
    # What an asymptotic law leaves open cannot be detected either; under a law without sizes there is none.
    assert (asymptotic.log_detectable > 1.01 * taken.log_detectable).all()
    assert (only(usual(), "linear", "population").log_detectable == np.inf).all()
    assert league_words.detectable(only(usual(), "linear", "population")) == "none"


def test_sizes_dimension_and_order():
    row = only(usual(), "linear", "linear")
    direct = compare.size_errors(plotted.simulated(), "linear", "held_out", 0.1, "linear")
    for found, wanted in zip(row.sizes[1:5], direct[1:5], strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert row.sizes.tau.estimate == direct.tau.estimate == 1
    assert only(usual(), "linear", "swapped").sizes.tau.estimate < 1
    gains = plotted.simulated()["gain"].sel(rung="linear", point="train", noise_variance=0.1)
    error = gains.mean("seed").sum("direction").values - np.asarray(
        theory.soft_dimension(plotted.LADDER, plotted.SIZES, 0.1, "population")
    )
    wrong = only(usual(), "linear", "population")
    assert wrong.dimension_at == plotted.SIZES[np.argmax(np.abs(error))] == 2
    assert wrong.dimension_error.value == pytest.approx(error[0], rel=1e-5)
    assert wrong.dimension_error.lower < error[0] < wrong.dimension_error.upper < 0
    # Eight sums of 24 gains, Student's threshold for six sizes.
    spread = gains.sum("direction").std("seed", ddof=1).values[0] / np.sqrt(8)
    half = stats.t.isf(0.05 / 12, 7) * spread
    assert wrong.dimension_error.upper - error[0] == pytest.approx(half, rel=1e-3)


def test_the_summary_names_every_law_once():
    rows = compare.league(plotted.with_network(plotted.simulated())).rows
    here = [row for row in rows if row.noise_variance == plotted.TIMES[1]]
    _, lines = league_words.summary(here)
    assert len({line[:2] for line in lines}) == len(lines)
    for line in lines:
        held = [row for row in here if (row.rung, league_words.POINTS[row.point]) == line[:2]]
        agree = [row for row in held if row.outcome == "agrees"]
        expected = (
            ", ".join(label(row.law) for row in agree if not row.deviating),
            ", ".join(f"{label(row.law)} ({percent(row.median_relative)})" for row in agree if row.deviating),
            ", ".join(label(row.law) for row in held if row.outcome == "rejected"),
        )
        assert line[2:5] == tuple(text or "none" for text in expected)
        left = [label(row.law) for row in held if row.outcome not in ("agrees", "rejected")]
        assert line[5].startswith(", ".join(left)) if left else line[5] == "none"


def test_what_would_decide_is_in_the_summary():
    row = next(row for row in compare.league(plotted.simulated()).rows if row.outcome == "agrees")
    few = row._replace(outcome="undecided", seeds_needed=12.0, num_seeds=2)
    more, alike = few._replace(seeds_needed=30.0), few._replace(outcome="indistinguishable", seeds_needed=np.inf)
    name = label(row.law)
    for rows, said in (
        ((few, more), f"{name}, {name} (30 training sets would decide, there are 2)"),
        ((alike,), f"{name} (too alike)"),
        ((few, more._replace(tested=0)), f"{name}, {name} (not tested)"),
    ):
        assert league_words.summary(rows)[1][0][5] == said


def test_the_factor_of_sizes_in_words():
    assert league_words.size_factor(only(usual(), "linear", "population")) == "no N*"
    assert league_words.size_factor(only(usual(), "linear", "linear")).startswith("1.")
    dataset = plotted.simulated()
    dataset["gain"].loc[{"rung": "linear"}] *= 0.1  # frozen on the whole grid
    row = only(compare.league(dataset), "linear", "linear")
    factor = plotted.SIZES[-1] / np.exp(row.sizes.predicted.min())
    assert league_words.size_factor(row) == f"more than {factor:.3g}"


def test_one_seed_tests_only_what_needs_none():
    found = compare.league(plotted.simulated(num_seeds=1))
    assert {row.outcome for row in found.rows if row.rung != "population"} == {"undecided"}
    assert only(found, "population", "population").outcome == "agrees"
    row = only(found, "linear", "linear")
    assert (row.tested, row.num_seeds) == (0, 1)
    assert np.isnan(row.seeds_needed)
    assert "is not tested" in league_words.describe(row)
    assert league_words.verdict(row) == "undecided (not tested)"
    league_words.table(found)


def test_two_seeds_are_tested_but_have_no_score():
    for num_seeds in (2, 3):
        rows = compare.league(plotted.simulated(num_seeds=num_seeds)).rows
        scores = [row.log_score for row in rows if row.tested]
        assert scores
        assert np.isnan(scores).all() == (num_seeds == 2)


def test_an_incomplete_run():
    found = compare.league(plotted.partial(plotted.simulated()))
    row = only(found, "linear", "linear")
    # Half of the seeds lack the three largest sizes, all the largest.
    assert row.tested == 5 * 6
    np.testing.assert_array_equal(row.cells.seeds[:, 0], [8, 8, 8, 4, 4, 0])
    np.testing.assert_allclose(row.cells.degrees[:, 0], [7, 7, 7, 3, 3, np.nan], rtol=1e-6)
    assert (row.outcome, row.num_seeds) == ("agrees", 8)
    dataset = plotted.simulated()
    dataset["complete"][:] = 0
    assert compare.league(dataset).rows == ()


def test_gains_that_are_not_finite_are_not_tested():
    dataset = plotted.simulated()
    dataset["gain"].loc[{"rung": "linear", "seed": 2, "dataset_size": 8}] = np.nan
    row = only(compare.league(dataset), "linear", "linear")
    assert row.tested == 5 * 6
    assert np.isnan(row.cells.degrees[1]).all()


def test_a_mean_that_few_training_sets_carry_is_not_tested():
    dataset = plotted.simulated(num_seeds=16)
    gain = dataset["gain"].sel(rung="empirical").copy()
    few = gain.copy()
    few[..., 2:, :] *= 1e-4
    half = gain.copy()
    half[..., 9:, :] *= 1e-4
    tested = []
    for changed in (few, half):
        dataset["gain"].loc[{"rung": "empirical"}] = changed
        tested.append(only(compare.league(dataset), "empirical", "population").tested)
    assert tested == [0, 36]


def test_points_and_networks():
    dataset = plotted.with_network(plotted.with_exact(plotted.simulated()))
    names = np.array([*map(str, dataset["law"].values), "finite_size_train"])
    dataset = dataset.reindex(law=[*dataset["law"].values, "?"]).assign_coords(law=names)
    training = 0.5 * dataset["predicted_gain"].sel(law="finite_size").values
    dataset["predicted_gain"].loc[{"law": "finite_size_train"}] = training
    dataset["predicted_gain_error"].loc[{"law": "finite_size_train"}] = 0
    dataset["gain"].loc[{"rung": "empirical", "point": "train"}] *= 0.5
    found = compare.league(dataset)
    laws = {}
    for row in found.rows:
        laws.setdefault((row.rung, row.point), set()).add(row.law)
    closed = {"population", "linear"}
    assert laws["empirical", "train"] == closed | {"planted", "finite_size"}
    assert laws["empirical", "held_out"] == closed | {"empirical", "finite_size"}
    assert laws["empirical", "origin"] == closed
    assert laws["network", "any"] == laws["linear", "any"] == closed | {"empirical", "finite_size"}
    for point in ("train", "held_out"):
        assert only(found, "empirical", "finite_size", point=point).outcome == "agrees"
    np.testing.assert_allclose(
        only(found, "empirical", "planted", point="train").cells.predicted[:, 0],
        theory.gain(plotted.LADDER, plotted.SIZES, 0.1, "planted")[:, 0],
        rtol=1e-5,
    )
    network = [row for row in found.rows if row.rung == "network"]
    assert not any(row.claimed for row in network)
    assert {row.num_seeds for row in network} == {2}


def test_exact_averages_that_are_asked_for_are_evaluated(monkeypatch):
    asked = []

    def average(variances, n, t, point):
        asked.append((np.ravel(n).tolist(), np.ravel(t).tolist(), point))
        mean = theory.gain(variances, n, t, "empirical")
        return SimpleNamespace(mean=mean, error=0.01 * mean)

    monkeypatch.setattr(theory, "mean_finite_size_gain", average)  # compiled in tens of seconds
    dataset = plotted.simulated()
    dataset["gain"].loc[{"point": "train"}] *= 1.01
    found = compare.league(dataset, laws=("finite_size",))
    assert asked == [(plotted.SIZES.tolist(), plotted.TIMES.tolist(), point) for point in ("train", "held_out")]
    row = only(found, "empirical", "finite_size", point="train")
    np.testing.assert_allclose(row.cells.predicted, only(usual(), "empirical", "empirical").cells.predicted, rtol=1e-5)
    np.testing.assert_allclose(row.cells.fixed, 0.01, rtol=1e-3)


def test_the_numerical_error_of_a_law_counts_with_its_own_degrees_of_freedom():
    dataset = plotted.with_exact(plotted.simulated(), error=0.02)
    cells = only(compare.league(dataset), "empirical", "finite_size").cells
    # Sampling 0.03 / 2 / sqrt(8) = 0.53 %: 2 % of the law are nearly all of the error.
    np.testing.assert_allclose(cells.fixed, 0.02, rtol=1e-3)
    share = cells.sampling**2, 0.02**2
    wanted = (share[0] + share[1]) ** 2 / (share[0] ** 2 / 7 + share[1] ** 2 / 7)
    np.testing.assert_allclose(cells.degrees, wanted, rtol=1e-3)
    assert (np.abs(cells.score) < 1).all()


def test_every_training_step_has_rows():
    dataset = expected()
    found = compare.league(dataset)
    steps = {row.step for row in found.rows if row.rung == "trained"}
    assert steps == {480, 4000, 48_000}
    assert {row.step for row in found.rows if row.rung == "empirical"} == {None}
    row = only(found, "empirical", "empirical", 0.01, "held_out")
    assert (row.outcome, row.claimed) == ("agrees", True)
    assert only(found, "trained", "linear", 0.01, "held_out", 48_000).outcome == "rejected"
    header, lines = league_words.table(found)
    assert ("trained, 480 steps", "training points") in {line[:2] for line in lines}
    assert all(len(line) == len(header) for line in lines)


def broken(variances, log_n, t):
    return jnp.full_like(variances, jnp.nan)


def too_short(variances, log_n, t):
    return variances[1:]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"laws": ("guess",)}, "law 'guess' is not known; choose of population, linear"),
        ({"laws": ("typical",)}, "law 'typical' is of medians"),
        ({"others": {"linear": linear_law}}, "law 'linear' is a name of this package"),
        ({"others": {"broken": broken}}, "law 'broken': 768 of its gains are not finite"),
        ({"others": {"short": too_short}}, "law 'short': 31 gains of 32 directions"),
    ],
)
def test_bad_input_is_named(options, words):
    with pytest.raises(InputError, match=words) as caught:
        compare.league(plotted.simulated(), **options)
    assert "\n" not in str(caught.value)


def test_the_printed_league_is_narrow(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    tables.print_league(usual(), 0.1)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    assert "family-wise level 5 %" in lines[0]
    assert sum("rejected" in line for line in lines) == 9
    assert sum("agrees" in line for line in lines) == 3
    # Not wrapped: a line for each law of each rung, three of the header, two sections, four of the caption at most.
    assert len(lines) <= 12 + 1 + 3 + 3 + 3


def test_scores_of_skewed_means_reject_as_often_as_they_should():
    rng = np.random.default_rng(0)
    draws, seeds, level = 100_000, 16, 1e-4
    critical = stats.t.isf(level / 2, seeds - 1)
    events = rng.poisson(1.0, (draws, seeds))
    families = {
        "normal": 1 + 0.1 * rng.standard_normal((draws, seeds)),
        "exponential": rng.exponential(size=(draws, seeds)),
        "compound": np.where(events > 0, rng.gamma(np.maximum(events, 1)), 0.0),
    }
    for name, values in families.items():
        mean, error = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(seeds)
        score = statistics.gain_score(mean, error / mean, np.ones(draws))
        # At most three times the level, plus the binomial error: 10 are expected.
        assert np.sum(np.abs(score) > critical) < 3 * level * draws + 4 * np.sqrt(3 * level * draws), name
        students = np.mean(np.abs(mean - 1) / error > critical) / level
        assert (students < 3) if name == "normal" else (students > 10), name


def test_the_score_is_the_plain_one_where_errors_are_small():
    mean = np.array([0.999, 1.0, 1.002])
    np.testing.assert_allclose(statistics.gain_score(mean, np.full(3, 1e-3), np.ones(3)), [-1, 0, 2], atol=0.005)
