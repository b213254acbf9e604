"""The league table on real runs of solvable rungs: right laws stay, wrong laws go, and as seldom wrong as stated.

Slow: the default run of `geomem overlay` without networks takes two minutes on two cores, the twenty small runs one.
"""

from functools import cache

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from geomem_jax import compare, data, sweep
from geomem_jax.league_cells import Cells, rejects, separation

pytestmark = pytest.mark.slow

DECIDABLE = 4.0  # standard errors between two laws
OWN = {
    "population": ("population",),
    "linear": ("linear",),
    "empirical": ("empirical", "planted", "finite_size"),  # the exact averages and their leading orders
}
EXACTLY = {("population", "any"): "population", ("linear", "any"): "linear", ("empirical", "held_out"): "finite_size"}
EXACTLY[("empirical", "train")] = "finite_size_train"  # as it is stored


def run(source, grid, prepared=None):
    dataset = sweep.prepare(source, grid, {}, sweep.laws_of(source)) if prepared is None else prepared.copy(deep=True)
    sweep.measure(dataset, source, grid, lambda seed, size: None)
    return dataset


@cache
def default_run():
    source = data.linear_manifold(np.concatenate([np.repeat(2.0 ** -np.arange(6), 4), np.zeros(8)]))
    sizes, held_out = sweep.default_sizes(source, 256)
    return run(source, sweep.Grid(sizes, sweep.default_noise_variances(source.variances, sizes), 16, 256, held_out, 0))


def groups(found):
    """Rows of the same measurement, without the origin, of which no law of the empirical score speaks."""
    measured = {}
    for row in found.rows:
        if row.point != "origin":
            measured.setdefault((row.rung, row.point, row.noise_variance), {})[row.law] = row
    return measured


def with_swapped(dataset, stored):
    """The same with a law ``swapped``: gains of neighbouring variances of the law that is ``stored`` exchanged."""
    names = [*map(str, dataset["law"].values), "swapped"]
    found = dataset.reindex(law=[*dataset["law"].values, "?"]).assign_coords(law=names)
    order = np.arange(dataset.sizes["direction"])
    order[:24] = np.arange(24).reshape(3, 2, 4)[:, ::-1].ravel()
    for variable in ("predicted_gain", "predicted_gain_error"):
        found[variable].loc[{"law": "swapped"}] = dataset[variable].sel(law=stored).values[..., order]
    return found


class Counts:
    """Cells in which two laws, one of them right, differ by more than four standard errors."""

    def __init__(self):
        self.tested = self.all = self.decidable = self.pairs = self.wrong_gone = self.right_gone = self.far = self.far_gone = 0

    def add(self, right: Cells, wrong: Cells, comparisons: int):
        apart = separation(right, wrong)
        decidable = apart > DECIDABLE
        gone = rejects(wrong, comparisons)
        self.pairs += decidable.sum()
        self.wrong_gone += (gone & decidable).sum()
        self.right_gone += (rejects(right, comparisons) & decidable).sum()
        # Far enough for the family-wise threshold, and another four for chance.
        threshold = compare.critical_t(0.05, comparisons, wrong.degrees)
        far = apart > threshold + 4
        self.far += far.sum()
        self.far_gone += (far & gone).sum()
        return decidable


def test_right_laws_are_accepted_and_wrong_ones_rejected_in_the_default_run():
    found = compare.league(default_run())
    counts = Counts()
    undecided = []
    for (rung, point, t), rows in groups(found).items():
        right = [rows[law] for law in OWN[rung] if law in rows]
        right = [row for row in right if row.claimed]
        assert right
        assert all(row.outcome != "rejected" for row in right), (rung, point, t)
        decidable = np.zeros(right[0].cells.measured.shape, bool)
        for law, row in rows.items():
            if law in OWN[rung]:
                continue
            differs = [counts.add(one.cells, row.cells, found.comparisons) for one in right]
            decidable |= differs[-1]  # from the exact one
            strong = np.nanmax(np.append(separation(right[-1].cells, row.cells).ravel(), 0)) > 12
            assert row.outcome == "rejected" or not strong, (rung, point, t, law)
            if row.outcome != "rejected":
                undecided.append((rung, point, t, law, row.outcome))
        counts.all += decidable.size
        counts.decidable += decidable.sum()
        counts.tested += right[-1].tested
    print("tested", counts.tested / counts.all, "decidable", counts.decidable / counts.all)
    print("pairs", counts.pairs, "wrong gone", counts.wrong_gone / counts.pairs, "right gone", counts.right_gone)
    print("far", counts.far, counts.far_gone, "not rejected", undecided)
    assert counts.decidable >= 0.7 * counts.all
    assert counts.right_gone == 0
    assert counts.far_gone == counts.far


@pytest.mark.parametrize(("rung", "point"), EXACTLY)
def test_swapped_gains_of_neighbouring_variances_are_rejected(rung, point):
    stored = EXACTLY[rung, point]
    name = stored.removesuffix("_train")
    found = compare.league(with_swapped(default_run(), stored), laws=(name, "swapped"))
    counts = Counts()
    for (of_rung, at, t), rows in groups(found).items():
        if (of_rung, at) == (rung, point):
            counts.add(rows[name].cells, rows["swapped"].cells, found.comparisons)
            assert rows[name].outcome != "rejected"
            if np.nanmax(np.append(separation(rows[name].cells, rows["swapped"].cells).ravel(), 0)) > 12:
                assert rows["swapped"].outcome == "rejected", t
                assert rows[name].outcome == "agrees"
    print(rung, point, "pairs", counts.pairs, "gone", counts.wrong_gone / counts.pairs, "far", counts.far, counts.far_gone)
    assert counts.pairs > 100
    assert counts.far_gone == counts.far > 0
    assert counts.right_gone == 0


SMALL = np.repeat([1.0, 0.4, 0.15], 3)
TIMES = (0.05, 0.2, 0.6)
FRESH = 20


@cache
def fresh_leagues():
    source = data.linear_manifold(np.concatenate([SMALL, np.zeros(2)]))
    leagues, prepared = [], None
    for seed in range(FRESH):
        grid = sweep.Grid((4, 16, 64, 256, 1024), TIMES, 8, 64, 64, 1000 + seed)
        if prepared is None:
            prepared = sweep.prepare(source, grid, {}, sweep.laws_of(source))
        leagues.append(compare.league(run(source, grid, prepared)))
    return leagues


def rejected_own(found):
    return [row for row in found.rows if row.claimed and row.outcome == "rejected"]


def test_right_laws_are_rejected_no_more_often_than_stated():
    """Over fresh seeds: a league that rejects a right law anywhere is one failure, of probability 5 % at most."""
    failures = [bool(rejected_own(found)) for found in fresh_leagues()]
    largest = [max(np.nanmax(np.abs(row.cells.score) / compare.critical_t(0.05, found.comparisons, row.cells.degrees), initial=0)
                   for row in found.rows if row.claimed) for found in fresh_leagues()]
    print("failures", sum(failures), "largest score over threshold", np.round(sorted(largest), 2))
    # Correct code fails with probability 1e-3.
    assert sum(failures) <= stats.binom.isf(1e-3, FRESH, 0.05)
    # Tests that never reject would pass, too: single cells, without the family, reject about as often as they should.
    scores = np.concatenate([
        (np.abs(row.cells.score) / compare.critical_t(0.05, 1, row.cells.degrees))[~np.isnan(row.cells.degrees)]
        for found in fresh_leagues() for row in found.rows if row.claimed and row.exact and row.rung == "empirical"
    ])
    rate = np.mean(scores > 1)
    print("rate of single cells", rate, len(scores))
    assert 0.02 < rate < 0.1


def test_wrong_laws_are_rejected_in_every_fresh_run():
    for found in fresh_leagues():
        for (rung, point, t), rows in groups(found).items():
            for law, row in rows.items():
                if law not in OWN[rung] and point == "held_out" and t == TIMES[0]:
                    assert row.outcome == "rejected", (rung, law)
