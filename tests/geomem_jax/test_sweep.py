"""The measurement against an independent recomputation, compiled once, interrupted and resumed bit for bit."""

import dataclasses
import io
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from geomem_jax import data, overlay, plots, report, results, sweep, sweep_spectra
from geomem_jax.config import OverlayOptions
from geomem_jax.denoisers import empirical, linear
from geomem_jax.errors import InputError

POINTS = np.random.default_rng(3).normal(size=(40, 3)) * [1.0, 0.5, 0.2] + 2.0
GRID = sweep.Grid(sizes=(3, 8, 24), noise_variances=(0.02, 0.1, 0.6), seeds=3, points=7, held_out=4, seed=11)
SOURCES = {
    "axes": lambda: data.linear_manifold([1.0, 0.25, 0.25]),
    "embedded": lambda: data.linear_manifold([1.0, 0.25], embedding=3, embedding_key=jax.random.key(5)),
    "points": lambda: data.from_points(POINTS, "points"),
}


def measured(source, grid=GRID):
    dataset = sweep.prepare(source, grid, {})
    sweep.measure(dataset, source, grid, lambda seed, size: None)
    return dataset


def empirical_gains(train, x, t):
    """Posterior variance over t along each axis and the weights' sum of squares, by the definition in float64."""
    distances = ((x[:, None, :] - train[None]) ** 2).sum(-1)
    weights = np.exp(-(distances - distances.min(1, keepdims=True)) / (2 * t))
    weights /= weights.sum(1, keepdims=True)
    mean = weights @ train
    variance = (weights[:, :, None] * (train[None] - mean[:, None]) ** 2).sum(1)
    return variance / t, (weights**2).sum(1)


def empirical_singular_values(train, x, t):
    """Of the posterior covariance over t, less one, at each point."""
    weights = np.exp(-((x[:, None, :] - train[None]) ** 2).sum(-1) / (2 * t))
    covariances = [np.cov(train.T, aweights=row, ddof=0) for row in weights]
    return np.linalg.svd(np.array(covariances) / t - np.eye(train.shape[1]), compute_uv=False)


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_cells_agree_with_an_independent_computation(make):
    source = make()
    dataset = measured(source)
    assert dataset.complete.all()
    basis = np.eye(len(source.variances)) if source.basis is None else source.basis
    for seed, size, t in ((0, 24, 0.1), (2, 8, 0.6), (1, 3, 0.02)):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(GRID.seed), seed), 3)
        drawn = source.draw(keys[0], 24, GRID.held_out)
        train = (np.asarray(drawn.train, np.float64) @ basis)[:size]
        held_out = np.asarray(drawn.held_out, np.float64) @ basis
        which = np.arange(GRID.points)  # seven of three or four points: some are used twice
        noise = [np.asarray(jax.random.normal(key, (GRID.points, train.shape[1])), np.float64) for key in keys[1:]]
        queries = {
            "train": train[which % size] + np.sqrt(t) * noise[0],
            "held_out": held_out[which % GRID.held_out] + np.sqrt(t) * noise[1],
            "origin": np.zeros((1, train.shape[1])),
        }
        for point, x in queries.items():
            cell = dataset.sel(rung="empirical", point=point, dataset_size=size, noise_variance=t, seed=seed)
            gain, participation = empirical_gains(train, x, t)
            # Eq. (2) of the empirical rung: 1e-4 and a thousandth of the gain at |x|^2 / t of some hundreds.
            close = {"rtol": 1e-3, "atol": 1e-4}
            np.testing.assert_allclose(cell.gain, gain.mean(0), **close)
            np.testing.assert_allclose(cell.gain_median, np.median(gain, 0), **close)
            np.testing.assert_allclose(cell.participation, participation.mean(), **close)
            np.testing.assert_allclose(cell.soft_dimension, gain.sum(1).mean(), **close)
            singular_values = empirical_singular_values(train, x, t)
            np.testing.assert_allclose(cell.singular_value, singular_values.mean(0), **close)
            np.testing.assert_allclose(
                cell.gap_dimension, sweep_spectra.summarize(singular_values[None]).gap_dimension[0]
            )
            if point == "origin":
                assert np.isnan(cell.gain_sem).all()
            else:
                sem = gain.std(0, ddof=1) / np.sqrt(GRID.points)
                np.testing.assert_allclose(cell.gain_sem, sem, **close)

        mean = train.mean(0) if source.centred else 0.0
        covariance = (train - mean).T @ (train - mean) / (size - source.centred)
        fitted = np.diag(covariance @ np.linalg.inv(covariance + t * np.eye(len(covariance))))
        wiener = source.variances / (source.variances + t)
        spectra = {"linear": t / (np.linalg.eigvalsh(covariance) + t), "population": np.sort(1 - wiener)[::-1]}
        for point in results.POINT_CLASSES:
            at = {"point": point, "dataset_size": size, "noise_variance": t, "seed": seed}
            for rung, gains in (("linear", fitted), ("population", wiener)):
                cell = dataset.sel(rung=rung, **at)
                # float32 eigendecomposition of a matrix of order one: a few units in the seventh digit, times 1/t.
                np.testing.assert_allclose(cell.gain, gains, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(cell.gain_median, gains, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(cell.soft_dimension, gains.sum(), rtol=1e-4)
                np.testing.assert_allclose(cell.singular_value, spectra[rung], rtol=1e-4, atol=1e-5)
                assert (cell.gain_sem == 0).all()
                assert np.isnan(cell.participation)


def test_training_sets_differ_and_classes_differ():
    dataset = measured(SOURCES["axes"]()).sel(rung="empirical", dataset_size=24, noise_variance=0.1)
    gains = dataset.gain.values.reshape(-1, 3)
    assert len(np.unique(gains.round(4), axis=0)) == len(gains) == 9


def test_sizes_noises_and_seeds_compile_once():
    source = SOURCES["axes"]()
    compiled = (
        sweep._empirical,
        sweep._empirical_at_origin,
        sweep_spectra.at_noises,
        linear.fit,
        linear.gains,
        empirical.posterior,
    )
    grid = sweep.Grid((2, 5, 25), (0.03, 0.3, 0.9), seeds=1, points=6, held_out=6, seed=0)
    measured(source, grid)
    before = [function._cache_size() for function in compiled]
    measured(source, grid._replace(sizes=(3, 9, 25), noise_variances=(0.1, 0.5, 2.0), seeds=3, seed=5))
    assert [function._cache_size() for function in compiled] == before
    # What would be noticed: another largest size is another shape.
    measured(source, grid._replace(sizes=(2, 5, 26)))
    assert [function._cache_size() for function in compiled] != before


def test_default_sizes_and_noises_fit_the_data():
    source = SOURCES["points"]()
    sizes, held_out = sweep.default_sizes(source, 256)
    assert (min(sizes), max(sizes), held_out) == (2, 32, 8)
    sweep.check(source, sweep.Grid(sizes, (0.1,), 1, 2, held_out, 0))
    with pytest.raises(InputError, match="dataset size 33 with 8 held-out points needs more than the 40 points"):
        sweep.check(source, sweep.Grid((33,), (0.1,), 1, 2, held_out, 0))
    sizes, held_out = sweep.default_sizes(SOURCES["axes"](), 256)
    assert (min(sizes), max(sizes), held_out) == (2, 16384, 256)
    times = sweep.default_noise_variances(np.array([1.0, 0.25]), sizes)
    assert len(times) == 9
    assert list(times) == sorted(times)


def test_the_fingerprint_sees_the_data():
    source = data.from_points(POINTS, "points")
    assert sweep.fingerprint(data.from_points(POINTS, "other name")) == sweep.fingerprint(source)
    changed = POINTS.copy()
    changed[7, 1] += 0.01
    # Negated and reordered points have the same covariance, yet other training sets.
    others = [-POINTS, POINTS[::-1], POINTS[:-1], changed]
    digests = {sweep.fingerprint(data.from_points(points, "points")) for points in others}
    assert len(digests | {sweep.fingerprint(source)}) == 5
    assert sweep.fingerprint(data.linear_manifold([1.0, 0.2])) != sweep.fingerprint(data.linear_manifold([1.0, 0.3]))


# Interrupt and resume


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the main job in an empty folder, without drawing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "overlay", lambda dataset: None)
    monkeypatch.setattr(plots, "save", lambda figure, path: path.touch())
    monkeypatch.setattr(report, "write", lambda dataset, path: path.touch())
    np.save("points.npy", POINTS)

    def go(**options):
        return overlay.run(OverlayOptions(**options), Console(file=io.StringIO()))

    return go


SMALL = {
    "data": "points.npy",
    "sizes": "3,8,24",
    "t": "0.02,0.1,0.6",
    "seeds": 3,
    "points": 7,
    "seed": 2,
    "network_steps": 0,
}


def interrupt_after(monkeypatch, cells):
    store_cell, count = sweep._store_cell, iter(range(10**6))

    def interrupted(*arguments):
        if next(count) == cells:
            raise KeyboardInterrupt
        store_cell(*arguments)

    monkeypatch.setattr(sweep, "_store_cell", interrupted)


@pytest.mark.parametrize("cells", [0, 4, 8])
def test_resumed_is_bit_equal_to_uninterrupted(run, monkeypatch, tmp_path, cells):
    _, whole = run(**SMALL, out=tmp_path / "whole")
    folder = tmp_path / "part"
    with monkeypatch.context() as patched:
        interrupt_after(patched, cells)
        with pytest.raises(KeyboardInterrupt):
            run(**SMALL, out=folder)
    assert [path.name for path in folder.iterdir()] == ["results.nc"]
    partial = results.load(folder / "results.nc")
    assert partial.complete.sum() == 3 * cells
    assert np.isfinite(partial.gain).sum() == cells * partial.gain.size / 9
    resumed_folder, resumed = run(resume=folder)
    assert resumed_folder == folder
    stored = results.load(folder / "results.nc")
    assert stored.complete.all()
    for finished in (resumed, stored):
        xr.testing.assert_equal(finished, whole)  # exactly: no tolerance
    assert {path.name for path in folder.iterdir()} == {"results.nc", "overlay.png", "report.html"}
    assert stored.attrs.keys() == whole.attrs.keys()


def test_an_interrupt_by_the_callback_keeps_complete_cells():
    source = SOURCES["axes"]()
    dataset, cells = sweep.prepare(source, GRID, {}), []

    def stop(seed, size):
        cells.append((seed, size))
        if len(cells) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.measure(dataset, source, GRID, stop)
    assert dataset.complete.sum() == 3 * 5
    assert len(sweep.remaining(dataset)) == 4
    assert not set(cells) & set(sweep.remaining(dataset))
    sweep.measure(dataset, source, GRID, lambda seed, size: None)
    xr.testing.assert_equal(dataset, measured(source))


def test_resume_refuses_what_it_cannot_continue(run, tmp_path):
    folder, dataset = run(**SMALL, out=tmp_path / "first")
    path = folder / "results.nc"

    def refused(match, **options):
        content = path.read_bytes() if path.is_file() else None
        with pytest.raises(InputError, match=match) as caught:
            run(**({"resume": folder} | options))
        assert "\n" not in str(caught.value)
        assert content is None or path.read_bytes() == content

    # Other content in the data file, or none.
    for points in (-POINTS, POINTS[::-1], POINTS + np.eye(40, 3)):
        np.save("points.npy", points)
        refused("other data than .*points.npy")
    (tmp_path / "points.npy").unlink()
    refused("no such file")
    np.save("points.npy", POINTS)

    refused("give no others", seeds=4)
    refused("give no others", data="points.npy")

    # Numbers that are not those of the stated configuration.
    changed = {
        "dataset_size": dataset.assign_coords(dataset_size=[3, 8, 23]),
        "noise_variance": dataset.assign_coords(noise_variance=[0.02, 0.1, 0.7]),
        "seeds": dataset.isel(seed=slice(2)),
        "points": dataset.assign_attrs(points=6),
        "held_out": dataset.assign_attrs(held_out=5),
        "random_seed": dataset.assign_attrs(random_seed=3),
        "network_steps": dataset.assign_attrs(network_steps=3),
        "rung": dataset.isel(rung=[1, 0, 2]),
    }
    for other in changed.values():
        results.save(other, path)
        refused("other options than it states")
    for configuration in ("[]", "{", '{"nonsense": 1}', '{"seeds": "many"}', "3"):
        results.save(dataset.assign_attrs(configuration=configuration), path)
        refused("its configuration is not one of this version")
    results.save(dataset.drop_attrs(), path)
    refused("its configuration is not one of this version")

    path.write_bytes(path.read_bytes()[:2000])
    refused("not a readable netCDF file")
    xr.Dataset({"x": 1.0}).to_netcdf(path, engine="h5netcdf")
    refused("not a result of geomem")
    path.unlink()
    refused("no such file")
    shutil.rmtree(folder)
    refused("no such file")
    assert not folder.exists()


def test_runs_get_new_folders_and_never_overwrite(run, tmp_path):
    folders = [run(**SMALL)[0].as_posix() for _ in range(3)]
    assert folders == ["runs/points", "runs/points-2", "runs/points-3"]
    given = tmp_path / "deep" / "er"
    assert run(**SMALL, out=given)[0] == given
    before = (given / "results.nc").read_bytes()
    with pytest.raises(InputError, match="exists; give another --out"):
        run(**SMALL, out=given)
    assert (given / "results.nc").read_bytes() == before


def test_a_run_that_cannot_be_saved_leaves_no_folder(run, monkeypatch, tmp_path):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        run(**SMALL, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_repeated_from_its_configuration(run, tmp_path):
    _, dataset = run(**SMALL)
    stored = results.configuration(dataset)
    assert stored.keys() == {field.name for field in dataclasses.fields(OverlayOptions)} - {"out", "resume"}
    assert stored["data"] == str(tmp_path / "points.npy")
    _, again = run(**stored)
    xr.testing.assert_equal(again, dataset)
