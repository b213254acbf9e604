"""The result file: plain netCDF, written whole or not at all, and refused in one line when it is something else."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

import theory
from geomem_jax import data, results, sweep
from geomem_jax.errors import InputError

POINTS = np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 0.5, 0.2]
GRID = sweep.Grid(sizes=(2, 8, 30), noise_variances=(0.05, 0.5, 2.0), seeds=2, points=4, held_out=5, seed=7)


def prepared(source=None):
    return sweep.prepare(data.linear_manifold([1.0, 0.25, 0.0]) if source is None else source, GRID, {"seed": 7})


def test_plain_xarray_opens_the_file(tmp_path):
    dataset = prepared()
    results.save(dataset, tmp_path / "results.nc")
    with xr.open_dataset(tmp_path / "results.nc") as opened:
        assert opened.sizes == {
            "rung": 3,
            "point": 3,
            "dataset_size": 3,
            "noise_variance": 3,
            "seed": 2,
            "order": 3,
            "direction": 3,
            "law": 3,
        }
        assert {name: opened[name].dims for name in opened} == results.DIMENSIONS
        np.testing.assert_array_equal(opened.variance, [1.0, 0.25, 0.0])
        assert opened.variance.dims == ("direction",)
        assert opened.rung.values.tolist() == ["population", "linear", "empirical"]
        assert opened.point.values.tolist() == ["train", "held_out", "origin"]
        assert opened.dataset_size.values.tolist() == [2, 8, 30]
        assert opened.noise_variance.values.tolist() == [0.05, 0.5, 2.0]
    loaded = results.load(tmp_path / "results.nc")
    xr.testing.assert_identical(loaded, dataset)
    assert results.configuration(loaded) == {"seed": 7}


def test_nothing_is_measured_at_first():
    dataset = prepared()
    assert not dataset.complete.any()
    for name in ("gain", "gain_sem", "gain_median", "participation", "soft_dimension"):
        assert np.isnan(dataset[name]).all()


@pytest.mark.parametrize("centred", [False, True])
def test_predictions_beside_are_the_theory(centred):
    source = data.from_points(POINTS, "points") if centred else data.linear_manifold([1.0, 0.25, 0.0])
    dataset = prepared(source)
    v, t = source.variances, np.asarray(GRID.noise_variances)
    assert dataset.law.values.tolist() == ["population", "linear", "empirical"]
    for law in dataset.law.values.tolist():
        for size in GRID.sizes:
            n = size - 1 if law == "linear" and centred else size
            stored = dataset.predicted_gain.sel(law=law, dataset_size=size)
            # The same function in another batch: equal up to the rounding of its float32 root.
            np.testing.assert_allclose(stored, theory.gain(v, n, t, law), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(dataset.reference_gain, v / (v + t[:, None]), rtol=1e-6)
    # The other convention would be noticed.
    wrong = theory.gain(v, 7 if not centred else 8, t, "linear")
    assert not np.allclose(dataset.predicted_gain.sel(law="linear", dataset_size=8), wrong, rtol=1e-2)


def test_exact_averages_are_those_of_their_points_with_their_errors(monkeypatch):
    def average(variances, n, t, point):
        mean = n * (1 + variances / t[:, None]) + 0.5 * (point == "train")
        return SimpleNamespace(mean=mean, error=mean / 100)

    monkeypatch.setattr(theory, "mean_finite_size_gain", average)  # takes half a minute; overlays in full have it
    source, seen = data.linear_manifold([1.0, 0.25]), []
    dataset = sweep.prepare(source, GRID, {}, ("finite_size", "finite_size_train"), seen.append)
    assert seen == list(GRID.sizes)
    ratio = source.variances / np.array(GRID.noise_variances)[:, None]
    for law, more in (("finite_size", 0.0), ("finite_size_train", 0.5)):
        for size in GRID.sizes:
            stored = dataset.sel(law=law, dataset_size=size)
            expected = size * (1 + ratio) + more
            np.testing.assert_allclose(stored.predicted_gain, expected, rtol=1e-6)  # float32
            np.testing.assert_allclose(stored.predicted_gain_error, expected / 100, rtol=1e-6)
    assert not prepared().predicted_gain_error.any()  # closed forms have none


def test_exact_averages_are_for_gaussian_data_of_few_variances():
    few, many = np.repeat(np.arange(1.0, 17), 3), np.arange(1.0, 18)
    assert {"finite_size", "finite_size_train"} <= set(sweep.laws_of(data.linear_manifold(few)))
    assert "finite_size" not in sweep.laws_of(data.linear_manifold(many))
    assert "finite_size" not in sweep.laws_of(data.from_points(POINTS, "points"))
    assert "finite_size" not in sweep.laws_of(data.linear_manifold(few, normalized=True))


def test_a_failing_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "results.nc"
    dataset = prepared()
    results.save(dataset, path)
    before = path.read_bytes()

    write_bytes = Path.write_bytes

    def fail(self, content):
        write_bytes(self, bytes(content)[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space"):
        results.save(dataset, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def refusal(path):
    with pytest.raises(InputError) as caught:
        results.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_what_is_no_result_is_refused(tmp_path):
    path = tmp_path / "results.nc"
    assert "no such file" in refusal(path)
    assert "no such file" in refusal(tmp_path)
    for content in (b"", b"not a netCDF file at all", b"CDF\x01" + bytes(60)):
        path.write_bytes(content)
        assert "not a readable netCDF file" in refusal(path)
    xr.Dataset({"x": ("y", [1.0, 2.0])}).to_netcdf(path, engine="h5netcdf")
    assert "'gain' is missing" in refusal(path)
    dataset = prepared()
    for name in ("complete", "reference_gain", "variance", "dataset_size"):
        dataset.drop_vars(name).to_netcdf(path, engine="h5netcdf")
        assert f"'{name}' is missing" in refusal(path)
    dataset.assign(gain=dataset.gain.isel(rung=0)).to_netcdf(path, engine="h5netcdf")
    assert "'gain' is missing or has other dimensions" in refusal(path)


@pytest.mark.parametrize("trial", range(24))
def test_a_damaged_file_is_refused(trial, tmp_path):
    path, rng = tmp_path / "results.nc", np.random.default_rng(trial)
    results.save(prepared(), path)
    whole = path.read_bytes()
    if trial % 2:
        damaged = bytearray(whole)
        for at in rng.integers(len(whole) // 8, size=20):  # where the structure is, not the numbers
            damaged[at] ^= 0xFF
    else:
        damaged = whole[: rng.integers(len(whole))]
    path.write_bytes(damaged)
    assert "not a readable netCDF file" in refusal(path)


def test_transposed_variables_come_back_in_order(tmp_path):
    dataset = prepared()
    dataset.transpose(..., "rung").to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    xr.testing.assert_identical(results.load(tmp_path / "results.nc"), dataset)
