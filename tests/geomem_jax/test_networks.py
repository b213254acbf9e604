"""The network rung: trained on the sets and measured at the points of the other rungs, once, whatever interrupts it."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from geomem_jax import data, networks, overlay, plots, report, results, sharding, snapshots, sweep, training
from geomem_jax.config import OverlayOptions

# One source for all tests, so that everything is compiled once.
POINTS = np.random.default_rng(3).normal(size=(40, 2)) @ [[1.0, 0.3], [0.0, 0.4]] + 2.0
GRID = sweep.Grid((3, 8, 24), (0.02, 0.1, 0.6), seeds=3, points=7, held_out=7, seed=2, network_steps=100)


def prepared():
    source = data.from_points(POINTS, "points")
    return source, sweep.prepare(source, GRID, {})


def measured(source, dataset, seen=None):
    return networks.measure(
        dataset, source, GRID, lambda step, loss: None, lambda *cell: None if seen is None else seen.append(cell)
    )


@pytest.fixture(scope="module")
def whole():
    """The source, what was measured without interruption, the cells in order, and whether any was pending before."""
    source, dataset = prepared()
    seen, before = [], networks.pending(dataset, GRID)
    assert measured(source, dataset, seen) == []
    return source, dataset, seen, before


def trained(source, seed, size):
    """Parameters of one network, from a training set drawn as the empirical rung draws it."""
    recipe, members = networks.prepare(source, GRID)
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(GRID.seed), seed), 3)[0] for seed in range(2)]
    draws = [source.draw(key, 24, 0).train for key in keys]
    order = jnp.arange(48).reshape(2, 24)
    state = training.start(recipe, jax.random.fold_in(jax.random.key(GRID.seed), 2**31 - 1), members)
    mesh = sharding.ensemble_mesh(6, recipe.batch_size)
    everything = training.Data(jnp.concatenate(draws), order, order[:, :0])
    state = training.advance(recipe, mesh, everything, members, state, GRID.network_steps)
    (member,) = np.flatnonzero((np.asarray(members.size) == size) & (np.asarray(members.seed) == seed))
    return recipe.model, jax.tree.map(lambda leaf: leaf[member], state.ema)


def test_gains_are_those_of_the_networks_at_the_points_of_the_other_rungs(whole):
    source, dataset, seen, before = whole
    assert before
    assert not networks.pending(dataset, GRID)
    assert seen == [(0, 3), (1, 3), (0, 8), (1, 8), (0, 24), (1, 24)]
    done = dataset.complete.sel(rung="network")
    assert (done == 1).values.tolist() == [[True, True, False]] * 3
    assert not dataset.complete.sel(rung=list(sweep.RUNGS)).any()
    assert np.isfinite(dataset.gain.sel(rung="network")).sum() == 6 * 3 * 3 * 2
    seed, size, t = 1, 8, 0.1
    model, params = trained(source, seed, size)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(GRID.seed), seed), 3)
    drawn = source.draw(keys[0], 24, 7)
    which = {"train": np.asarray(drawn.train)[np.arange(7) % size], "held_out": np.asarray(drawn.held_out)}
    for (point, clean), key in zip(which.items(), keys[1:], strict=True):
        # As the empirical rung: rotated into the directions, noise along them; then back.
        noisy = (clean @ source.basis + np.sqrt(t) * np.asarray(jax.random.normal(key, (7, 2)))) @ source.basis.T
        jacobians = jax.vmap(jax.jacrev(lambda x: model.denoise(params, x, jnp.float32(t))))(jnp.asarray(noisy))
        gain = np.einsum("ai,bac,ci->bi", source.basis, np.asarray(jacobians, np.float64), source.basis)
        cell = dataset.sel(rung="network", point=point, dataset_size=size, noise_variance=t, seed=seed)
        # Two programs (without held-out rows here), whose rounding 100 steps of Adam enlarge.
        close = {"rtol": 1e-3, "atol": 1e-4}
        np.testing.assert_allclose(cell.gain, gain.mean(0), **close)
        np.testing.assert_allclose(cell.gain_median, np.median(gain, 0), **close)
        np.testing.assert_allclose(cell.gain_sem, gain.std(0, ddof=1) / np.sqrt(7), **close)
        np.testing.assert_allclose(cell.soft_dimension, gain.sum(1).mean(), **close)
        assert np.isnan(cell.participation)
        singular_values = np.linalg.svd(np.asarray(jacobians, np.float64) - np.eye(2), compute_uv=False)
        np.testing.assert_allclose(cell.singular_value, singular_values.mean(0), **close)
        # Gains along the axes, or of another network, are others.
        along_axes = np.einsum("bii->bi", jacobians).mean(0)
        assert not np.allclose(cell.gain, along_axes, rtol=1e-2)
        other = dataset.sel(rung="network", point=point, dataset_size=24, noise_variance=t, seed=seed)
        assert not np.allclose(cell.gain, other.gain, rtol=1e-2)
    origin = dataset.sel(rung="network", point="origin", dataset_size=size, noise_variance=t, seed=seed)
    jacobian = np.asarray(jax.jacrev(lambda x: model.denoise(params, x, jnp.float32(t)))(jnp.zeros(2)), np.float64)
    np.testing.assert_allclose(origin.gain, np.diag(source.basis.T @ jacobian @ source.basis), rtol=1e-3)
    assert np.isnan(origin.gain_sem).all()


def test_the_noise_trained_at_covers_what_is_measured():
    source = data.from_points(POINTS, "points")
    _, members = networks.prepare(source, GRID)
    low, high = np.exp([members.log_noise_low[0], members.log_noise_high[0]])
    np.testing.assert_allclose([low, high], [np.sqrt(0.02) / 1.5, 3 * np.sqrt(source.variances[0])], rtol=1e-5)
    _, members = networks.prepare(source, GRID._replace(noise_variances=(0.02, 100.0)))
    assert np.exp(members.log_noise_high[0]) == pytest.approx(15.0)


def test_sizes_are_spread_in_the_logarithm_and_seeds_are_two():
    sizes, _ = sweep.default_sizes(data.linear_manifold([1.0]), 8)
    assert networks.chosen(GRID._replace(sizes=sizes)) == ([2, 12, 64, 512, 2048, 16384], 2)
    assert networks.chosen(GRID._replace(sizes=(5,), seeds=1)) == ([5], 1)
    assert networks.default_steps(data.linear_manifold([1.0] * 256)) == networks.DEFAULT_STEPS
    assert networks.default_steps(data.linear_manifold([1.0] * 257)) == 0


def test_a_network_that_fails_is_named_and_left_out(monkeypatch):
    source, dataset = prepared()
    draw_data = training.draw_data

    def spoiled(*arguments):
        drawn = draw_data(*arguments)
        # Only the largest training set of the first seed holds this row.
        other = jnp.concatenate([drawn.points, jnp.full((1, 2), jnp.nan)])
        return drawn._replace(points=other, train=drawn.train.at[0, 20].set(len(other) - 1))

    monkeypatch.setattr(training, "draw_data", spoiled)
    (failure,) = measured(source, dataset)
    assert failure.startswith("N = 24, training set 1: not finite at step ")
    assert dataset.complete.sel(rung="network").values.tolist() == [[1, 1, 0], [1, 1, 0], [results.FAILED, 1, 0]]
    assert not networks.pending(dataset, GRID)
    assert np.isnan(dataset.gain.sel(rung="network", dataset_size=24, seed=0)).all()


def test_what_interrupts_training_or_measuring_changes_no_number(whole, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "overlay", lambda dataset: None)
    monkeypatch.setattr(plots, "save", lambda figure, path: path.touch())
    monkeypatch.setattr(report, "write", lambda dataset, path: path.touch())
    np.save("points.npy", POINTS)
    shown = io.StringIO()

    def run(**options):
        return overlay.run(OverlayOptions(**options), Console(file=shown, width=200))[1]

    small = {"data": "points.npy", "sizes": "3,8,24", "t": "0.02,0.1,0.6", "seeds": 3, "points": 7, "seed": 2}
    small |= {"network_steps": 100, "out": tmp_path / "run"}
    measure, count = snapshots.measure, iter(range(100))

    def interrupted(*arguments):
        if next(count) == 4:
            raise KeyboardInterrupt
        return measure(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(**small)
    assert "interrupted with 9 of 9 cells measured, no network trained; finish with" in shown.getvalue()
    stored = results.load(tmp_path / "run" / "results.nc")
    assert stored.complete.sel(rung="network").sum() == 0
    assert stored.complete.sum() == 27
    with monkeypatch.context() as patched:  # the other rungs are not measured again
        patched.setattr(sweep, "_measure_cell", None)
        resumed = run(resume=tmp_path / "run")
    _, expected, *_ = whole
    for name in ("gain", "gain_sem", "gain_median", "soft_dimension", "complete"):
        xr.testing.assert_equal(resumed[name].sel(rung="network"), expected[name].sel(rung="network"))
    with monkeypatch.context() as patched:  # nor anything, now
        patched.setattr(snapshots, "measure", None)
        patched.setattr(sweep, "_measure_cell", None)
        xr.testing.assert_equal(run(resume=tmp_path / "run"), resumed)
