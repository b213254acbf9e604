"""The answer in plain words: which directions freeze first, as far as the training sets can tell."""

import numpy as np
import pytest

from geomem_jax import answers, compare
from geomem_jax.formatting import format_interval

from . import plotted

FINE = "fine detail"
SALIENT = "salient directions"


def said(dataset, t=0.1):
    return answers.answers(dataset, t)


def with_order(sign, noise=0.0):
    """Relative gains of the linear rung that rise with log N about 3, for small variance later or (-1) earlier."""
    dataset = plotted.simulated()
    rank = np.log2(1 / np.maximum(plotted.LADDER, 2.0**-5))
    scatter = noise * np.random.default_rng(0).standard_normal((8, len(rank)))
    middle = 3 + sign * 0.3 * (rank - 2.5) + scatter
    rise = 1 / (1 + np.exp(-2 * (np.log(plotted.SIZES)[:, None, None, None] - middle)))
    dataset["gain"].loc[{"rung": "linear"}] = rise * dataset["reference_gain"].values[:, None]
    return dataset


@pytest.mark.parametrize(("sign", "first"), [(1, FINE), (-1, SALIENT)])
def test_the_order_is_that_of_the_sizes(sign, first):
    linear, empirical = said(with_order(sign))
    assert (linear.rung, linear.first) == ("linear", first)
    assert (empirical.rung, empirical.first) == ("empirical", FINE)
    low, high = (np.exp(3 + side * sign * 0.3 * 2.5) for side in (-1, 1))
    # Between the sizes of the grid the rise is not straight: 10 % of a size.
    sizes = [float(size.split()[0]) for size in (linear.largest, linear.smallest)]
    np.testing.assert_allclose(sizes, [low, high], rtol=0.1)


def test_sizes_that_scatter_more_than_they_differ_leave_it_undecided():
    assert said(with_order(0, noise=0.3))[0].first == "undecided"


def test_an_order_that_the_grid_hides_cannot_be_seen():
    dataset = plotted.simulated()
    dataset["gain"].loc[{"rung": "linear"}] *= 0.1
    linear = said(dataset)[0]
    assert linear.first == "not seen at these sizes"
    assert linear.largest == linear.smallest == "> 2048"


def test_networks_are_named_and_what_is_not_measured_is_not():
    assert [one.rung for one in said(plotted.with_network(plotted.simulated()))] == ["linear", "empirical", "network"]
    dataset = plotted.simulated()
    dataset["complete"][:] = 0
    assert said(dataset) == []


def test_sizes_and_medians_are_those_of_the_table():
    first, *_, last = compare.freeze_out_table(plotted.simulated(), 0.1)
    for one in said(plotted.simulated()):
        grid = first.grid[one.rung]
        assert one.largest == format_interval(first.measured[one.rung], grid)
        assert one.smallest == format_interval(last.measured[one.rung], grid)
        assert one.median == format_interval(first.measured_median[one.rung], grid)


@pytest.mark.parametrize(("sizes", "first"), [([1.0, 2.0], FINE), ([2.0, 1.0], SALIENT), ([np.inf, 2.0], SALIENT)])
def test_two_variances_have_an_order_and_one_training_set_decides_none(sizes, first, monkeypatch):
    found = np.array(sizes)
    for ends, num_seeds in ((found, 8), (np.full(2, np.nan), 1)):
        replicates = np.tile(found, (20, 1))
        measured = compare.FreezeOut(np.array([1.0, 0.1]), np.ones(2), found, ends, ends, replicates, (2, 9), num_seeds)
        monkeypatch.setattr(answers, "freeze_out_sizes", lambda *which, measured=measured: measured)
        assert said(plotted.simulated())[0].first == (first if num_seeds > 1 else "undecided")


def test_the_sentence_names_the_models_where_they_differ():
    both = said(plotted.simulated())
    assert answers.in_words(both) == (
        "Fine detail (small variance) freezes first in the linear and empirical models, as data get scarce."
    )
    linear, empirical = said(with_order(-1))
    assert answers.in_words([linear, empirical]) == (
        "Salient directions (large variance) freeze first in the linear model; fine detail (small variance) freezes "
        "first in the empirical model, as data get scarce."
    )


def test_few_training_sets_have_a_sentence_of_their_own():
    *solved, networks = said(plotted.with_network(plotted.simulated()))
    assert (solved[0].num_sets, networks.num_sets) == (8, 2)
    both = answers.in_words([*solved, networks])
    assert {solved[0].first, solved[1].first} == {networks.first} == {"fine detail"}
    assert both == f"{answers.in_words(solved)} The same holds in the network model, from 2 training sets only."
    for first, words in (("salient directions", "Salient directions (large variance) freeze"), ("undecided", "Which")):
        other = answers.in_words([*solved, networks._replace(first=first)])
        assert other.startswith(f"{answers.in_words(solved)} {words}")
        assert other.endswith(" in the network model, from 2 training sets only.")
    (alone,) = said(plotted.simulated(num_seeds=1))[:1]
    assert answers.in_words([alone]) == (
        "Which directions freeze first is undecided in the linear model, from 1 training set only."
    )


def with_moving_nulls(gain, at):
    """Networks that move along the directions without variance, at one noise variance."""
    dataset = plotted.with_network(plotted.simulated())
    null = dataset["variance"].values == 0
    assert null.any()
    dataset["gain"].loc[{"rung": "network", "point": "held_out"}] *= 1 - null
    moved = dataset["gain"].sel(rung="network", point="held_out", noise_variance=at)
    dataset["gain"].loc[{"rung": "network", "point": "held_out", "noise_variance": at}] = moved + gain * null
    return dataset


def test_networks_that_move_without_variance_hide_small_ones():
    smallest = plotted.LADDER[plotted.LADDER > 0].min()
    noises = plotted.simulated()["noise_variance"].values
    largest = float(noises.max())
    half = 0.5 * smallest / (smallest + largest)
    text = answers.unlearned(with_moving_nulls(1.01 * half, largest), float(noises.min()))
    count = int((plotted.with_network(plotted.simulated())["complete"].sel(rung="network") == 1).sum())
    assert f"0 of {count} at t = {noises.min():.3g} and {count} of {count} at t = {largest:.3g}" in text
    assert f"variance {smallest:.3g}" in text
    assert answers.unlearned(with_moving_nulls(0.99 * half, largest), largest) == ""


def test_where_nothing_is_without_variance_nothing_is_said():
    dataset = plotted.with_network(plotted.simulated(np.array([1.0, 0.1])))
    assert answers.unlearned(dataset, 0.1) == ""
