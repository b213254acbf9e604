"""The answer in plain words: which directions freeze first, as far as the training sets can tell."""

import numpy as np
import pytest

from geomem_jax import answers, compare

from . import plotted

FINE = "fine detail (small variance) freezes first"
SALIENT = "salient directions (large variance) freeze first"


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


@pytest.mark.parametrize(("sign", "words"), [(1, FINE), (-1, SALIENT)])
def test_the_order_is_that_of_the_sizes(sign, words):
    linear, empirical = said(with_order(sign))
    assert linear.startswith("The best linear denoiser")
    assert words in linear
    assert FINE in empirical
    low, high = (np.exp(3 + side * sign * 0.3 * 2.5) for side in (-1, 1))
    # Between the sizes of the grid the rise is not straight: 10 % of a size.
    sizes = [float(part.split()[0].rstrip("[")) for part in linear.split("free above ")[1].split(" and ")]
    np.testing.assert_allclose(sizes, [low, high], rtol=0.1)
    assert "points at variance 1 and " in linear
    assert "points at variance 0.0312." in linear


def test_sizes_that_scatter_more_than_they_differ_leave_it_undecided():
    assert "which directions freeze first is undecided" in said(with_order(0, noise=0.3))[0]


def test_an_order_that_the_grid_hides_cannot_be_seen():
    dataset = plotted.simulated()
    dataset["gain"].loc[{"rung": "linear"}] *= 0.1
    assert "cannot be seen at these dataset sizes. Directions are free above > 2048 points" in said(dataset)[0]


def test_networks_are_named_and_what_is_not_measured_is_not():
    both = said(plotted.with_network(plotted.simulated()))
    assert len(both) == 3
    assert both[2].startswith("Small networks")
    dataset = plotted.simulated()
    dataset["complete"][:] = 0
    assert said(dataset) == []


def test_the_intervals_are_those_of_the_table():
    row = compare.freeze_out_table(plotted.simulated(), 0.1)[0]
    value, lower, upper = (f"{np.exp(end):.3g}" for end in row.measured["linear"])
    assert f"free above {value} [{lower}, {upper}] points at variance 1" in said(plotted.simulated())[0]


@pytest.mark.parametrize(("sizes", "words"), [([1.0, 2.0], FINE), ([2.0, 1.0], SALIENT), ([np.inf, 2.0], SALIENT)])
def test_two_variances_have_an_order_and_one_training_set_decides_none(sizes, words, monkeypatch):
    found = np.array(sizes)
    for ends, num_seeds in ((found, 8), (np.full(2, np.nan), 1)):
        replicates = np.tile(found, (20, 1))
        measured = compare.FreezeOut(np.array([1.0, 0.1]), np.ones(2), found, ends, ends, replicates, (2, 9), num_seeds)
        monkeypatch.setattr(answers, "freeze_out_sizes", lambda *which, measured=measured: measured)
        assert (words if num_seeds > 1 else "is undecided") in said(plotted.simulated())[0]
