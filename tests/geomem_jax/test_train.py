"""Training as a job: a tiny run from end to end, resumed, refused, and laid out as it was measured."""

import dataclasses
import json
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import theory
from geomem_jax import (
    cells,
    checkpoints,
    cli,
    config,
    copying,
    data,
    memorization,
    plots,
    results,
    sampling,
    sweep,
    tables,
    train,
    trained_results,
    training,
    training_job,
)
from geomem_jax.config import TrainOptions
from geomem_jax.errors import InputError

TINY = TrainOptions(
    variances="1,0.25,0.1",
    sizes="4,16",
    seeds=2,
    steps=30,
    snapshots=3,
    width=8,
    depth=1,
    batch=8,
    learning_rate=0.1,  # a hundred steps of warm-up are never over
    points=6,
    seed=3,
)


def quiet():
    return Console(quiet=True)


def tiny(folder, **changes):
    return train.run(dataclasses.replace(TINY, out=folder, **changes), quiet())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder, dataset = tiny(tmp_path_factory.mktemp("run") / "whole")
    return folder, dataset


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take seconds and change nothing; the first run has one."""
    for name in ("training", "phases"):
        monkeypatch.setattr(plots, name, lambda dataset: None)
    monkeypatch.setattr(plots, "save", lambda figure, path: None)


def test_the_result_is_a_plain_file(whole):
    folder, dataset = whole
    assert {path.name for path in folder.iterdir()} == {"trained.nc", "training.png", "phases.png", "checkpoint"}
    with xr.open_dataset(folder / "trained.nc") as opened:
        assert {name: opened[name].dims for name in opened} == trained_results.DIMENSIONS
        assert opened.training_step.values.tolist() == [1, 3, 30]
        assert opened.dataset_size.values.tolist() == [4, 16]
        assert opened.noise_variance.values.tolist() == [0.01, 0.1]
        assert opened.variance.values.tolist() == [1.0, 0.25, 0.1]
        assert json.loads(opened.attrs["configuration"])["variances"] == "1,0.25,0.1"
        assert {"flax", "optax", "orbax-checkpoint", "jax"} <= set(json.loads(opened.attrs["versions"]))
        assert (opened.attrs["random_seed"], opened.attrs["samples"], opened.attrs["held_out"]) == (3, 128, 6)
        xr.testing.assert_identical(opened.load(), dataset)
    assert (dataset.complete == 1).all()
    assert (dataset.failed == -1).all()
    for name in ("gain", "gain_median", "loss", "empirical_gain", "predicted_gain", "copied", "held_out_copied"):
        assert np.isfinite(dataset[name]).all()
    np.testing.assert_allclose(dataset.reference_gain, theory.wiener_gain([1.0, 0.25, 0.1], [0.01, 0.1]), rtol=1e-6)
    for law in ("linear", "empirical"):
        for size in (4, 16):
            got = dataset.predicted_gain.sel(law=law, dataset_size=size)
            np.testing.assert_allclose(got, theory.gain([1.0, 0.25, 0.1], size, [0.01, 0.1], law), rtol=1e-5)


def test_training_sets_points_and_noise_are_those_of_a_sweep(whole):
    # Measured by the sweep on its own: equal points and noise mean equal gains of the empirical score.
    dataset = whole[1]
    source = data.linear_manifold([1.0, 0.25, 0.1])
    grid = sweep.Grid((4, 16), (0.01, 0.1), 2, 6, 6, 3)
    swept = sweep.prepare(source, grid, {})
    sweep.measure(swept, source, grid, lambda *cell: None)
    other = sweep.prepare(source, grid._replace(seed=4), {})
    sweep.measure(other, source, grid._replace(seed=4), lambda *cell: None)
    found, expected, wrong = dataset.empirical_gain, *(one.gain.sel(rung="empirical") for one in (swept, other))
    # The error of the weights in single precision, (2) of denoisers.empirical.
    np.testing.assert_allclose(found, expected.transpose(*found.dims), atol=2e-4)
    assert np.abs(found - wrong.transpose(*found.dims)).max() > 0.1


def test_directions_of_rotated_data_are_those_of_a_sweep():
    job = training_job.job_of(dataclasses.replace(TINY, embedding=3).resolved())
    np.testing.assert_array_equal(
        job.source.basis, data.linear_manifold([1, 0.25, 0.1], embedding=3, embedding_key=jax.random.key(3)).basis
    )
    dataset = training_job.prepare(job, {})
    training_job.measure_empirical(dataset, job, lambda: None)
    swept = sweep.prepare(job.source, job.grid, {})
    sweep.measure(swept, job.source, job.grid, lambda *cell: None)
    found, expected = dataset.empirical_gain, swept.gain.sel(rung="empirical")
    np.testing.assert_array_equal(found, expected.transpose(*found.dims))


def test_every_network_is_where_its_size_and_training_set_are(whole):
    # Gains of one network, from the saved parameters and by central differences, at its own points.
    folder, dataset = whole
    job = training_job.job_of(TINY.resolved())
    root = jax.random.fold_in(jax.random.key(3), train.NETWORKS)
    template = training.start(job.recipe, root, job.members)
    description = {
        "configuration": results.configuration(dataset),
        "data_fingerprint": dataset.attrs["data_fingerprint"],
    }
    state = checkpoints.restore(folder, template, description)
    sample_key = jax.random.fold_in(jax.random.key(3), cells.SAMPLES)
    levels = sampling.noise_levels(0.02, 3, copying.STEPS)
    sample = jax.jit(lambda params, x: sampling.probability_flow(partial(job.recipe.model.denoise, params), x, levels))
    for size_index, size in enumerate((4, 16)):
        for seed in range(2):
            params = jax.tree.map(lambda leaf, at=2 * size_index + seed: leaf[at], state.ema)
            data_key, train_key, held_out_key = cells.seed_keys(3, seed)
            drawn = job.source.draw(data_key, 16, 6)
            for point, clean, key in (
                ("train", drawn.train[:size], train_key),
                ("held_out", drawn.held_out, held_out_key),
            ):
                clean = clean[jnp.arange(6) % len(clean)]
                noisy = clean + jnp.sqrt(0.1) * jax.random.normal(key, clean.shape)
                many = jax.vmap(job.recipe.model.denoise, (None, 0, None))
                gains = [
                    (many(params, noisy + s, jnp.float32(0.1)) - many(params, noisy - s, jnp.float32(0.1)))[:, i]
                    for i, s in enumerate(0.01 * jnp.eye(3))
                ]
                expected = np.mean(gains, axis=1) / 0.02
                at = {"point": point, "training_step": 30, "dataset_size": size, "noise_variance": 0.1, "seed": seed}
                # Step^2 / 6 times a third derivative of order one, and rounding 1e-7 over the step.
                np.testing.assert_allclose(dataset.gain.sel(at), expected, atol=2e-4)
                error = np.mean(np.asarray(many(params, noisy, jnp.float32(0.1)) - clean) ** 2, axis=0)
                np.testing.assert_allclose(dataset.error.sel(at), error, rtol=1e-4)
            start = sampling.pure_noise(jax.random.fold_in(sample_key, seed), (128, 3), 3.0)
            for found, x in (
                (dataset.copied.sel(training_step=30), sample(params, start)),
                (dataset.held_out_copied, drawn.held_out),
            ):
                ratio = memorization.nearest_ratio(x, drawn.train[:size])[0]
                # Rounding: one sample may be on the other side.
                copies = np.mean(ratio < 1 / 3)
                np.testing.assert_allclose(found.sel(dataset_size=size, seed=seed), copies, atol=1.01 / 128)
    assert np.ptp(dataset.copied.sel(training_step=30).values) > 3 / 128
    # Networks differ, so that a network at the place of another is noticed.
    ends = dataset.gain.sel(training_step=30, point="held_out", noise_variance=0.1).values.reshape(4, -1)
    assert np.abs(ends[:, None] - ends).max(axis=-1)[~np.eye(4, dtype=bool)].min() > 1e-3


def test_resumed_is_equal(whole, tmp_path, monkeypatch, undrawn):
    _, expected = whole
    store, stored = train._store, []

    def stop(*arguments):
        store(*arguments)
        stored.append(arguments[2])
        if len(stored) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "_store", stop)
    with pytest.raises(KeyboardInterrupt):
        tiny(tmp_path / "run")
    partly = results.load(tmp_path / "run" / "trained.nc", trained_results.DIMENSIONS)
    assert partly.complete.values.all(axis=(1, 2)).tolist() == [True, False, False]
    assert (tmp_path / "run" / "checkpoint" / "3").is_dir()  # though the last one saved in passing was of step 1
    monkeypatch.setattr(train, "_store", store)
    folder, resumed = train.run(TrainOptions(resume=tmp_path / "run"), quiet())
    assert folder == tmp_path / "run"
    for name in resumed.data_vars:
        np.testing.assert_array_equal(resumed[name], expected[name])
    before = (folder / "trained.nc").read_bytes()
    train.run(TrainOptions(resume=folder), quiet())  # a finished run stays as it is
    assert (folder / "trained.nc").read_bytes() == before


def test_a_killed_run_without_a_checkpoint_starts_again(whole, tmp_path, monkeypatch, undrawn):
    def dies(*arguments):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(train, "_store", dies)
        with pytest.raises(RuntimeError, match="killed"):
            tiny(tmp_path / "run")
    _, resumed = train.run(TrainOptions(resume=tmp_path / "run"), quiet())
    np.testing.assert_array_equal(resumed.gain, whole[1].gain)


def test_a_failed_network_is_named_and_left_out(whole, tmp_path, monkeypatch, capsys, undrawn):
    start = training.start

    def poisoned(*arguments):
        state = start(*arguments)
        return state._replace(params=jax.tree.map(lambda leaf: leaf.at[2].set(jnp.nan), state.params))

    monkeypatch.setattr(training, "start", poisoned)
    _, dataset = train.run(dataclasses.replace(TINY, out=tmp_path / "run"), Console(stderr=True, width=200))
    assert dataset.failed.values.tolist() == [[-1, -1], [0, -1]]
    said = "a network failed and is left out from there: N = 16, training set 1: not finite at step 1"
    assert capsys.readouterr().err.count(said) == 1
    view = trained_results.at_step(dataset, 30)
    assert view.complete.sel(rung="trained").values.tolist() == [[1, 1], [0, 1]]
    good = {"dataset_size": 4, "training_step": 30}
    np.testing.assert_array_equal(dataset.gain.sel(good), whole[1].gain.sel(good))


ALONE = {"network": "linear", "width": None, "depth": None}  # the linear denoiser without options of the mlp
REFUSED = [
    ({"sizes": "1,4"}, "--sizes has 1"),
    ({"steps": 0}, "--steps is 0; give at least 1"),
    ({"steps": 2**31}, "--steps is 2147483648; give at most"),
    ({"snapshots": 0}, "--snapshots is 0"),
    ({"batch": 0}, "--batch is 0"),
    ({"width": 0}, "--width is 0"),
    ({"learning_rate": -1.0}, "--learning-rate is -1"),
    ({"learning_rate": float("nan")}, "--learning-rate is nan"),
    ({"ema_decay": 1.0}, "--ema-decay is 1"),
    ({"noise_range": "1"}, "--noise-range is '1'"),
    ({"noise_range": "3,1"}, "--noise-range is 3,1; give two ascending"),
    ({"t": "0.0001"}, "--t has 0.0001, a noise variance; networks are trained from 0.0004 to 9"),
    ({"t": "-1"}, "--t is -1"),
    ({"width": 10**6, "depth": 9}, "more than half of memory; lower --sizes"),
    ({"network": "toy"}, "--width, --depth and --bfloat16 are of the mlp"),
    ({"network": "linear"}, "--width, --depth and --bfloat16 are of the mlp"),
    (ALONE | {"bfloat16": True}, "--width, --depth and --bfloat16 are of the mlp"),
    (ALONE | {"optimizer": "adam"}, "--optimizer is not for --network linear"),
    (ALONE | {"ema_decay": 0.0}, "--ema-decay is not for --network linear"),
    (ALONE | {"noise_range": "0.1,1"}, "--noise-range is not for --network linear"),
    (ALONE | {"t": "0.1,0.2"}, "--t is 0.1,0.2; --network linear is trained and measured at one noise variance"),
    (ALONE | {"learning_rate": 1e-32}, "--learning-rate is 1e-32; single precision"),
    (ALONE | {"learning_rate": 1e32}, "--learning-rate is 1e.32; single precision"),
    ({"data": "ladder"}, "both name the data"),
    ({"coordinator": "host:1"}, "--coordinator needs --out"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refuses_what_cannot_be_done(changes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message.replace("'", ".")) as raised:
        train.run(dataclasses.replace(TINY, **changes), quiet())
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_resume_refuses_other_options_and_other_data(whole, tmp_path):
    folder, dataset = whole
    with pytest.raises(InputError, match="finishes that run with its own options"):
        train.run(TrainOptions(resume=folder, steps=7), quiet())
    with pytest.raises(InputError, match=r"none/trained.nc: no such file; give the trained.nc"):
        train.run(TrainOptions(resume=tmp_path / "none"), quiet())
    (tmp_path / "old").mkdir()
    results.save(dataset.drop_vars("copied"), tmp_path / "old" / "trained.nc")
    with pytest.raises(InputError, match="not a result of geomem, 'copied' is missing"):
        train.run(TrainOptions(resume=tmp_path / "old"), quiet())
    with pytest.raises(InputError, match="exists; give another --out"):
        tiny(folder)
    for attribute, value, message in (
        ("data_fingerprint", "0", "was trained on other data"),
        ("configuration", '{"nonsense": 1}', "not one of this version"),
        (
            "configuration",
            json.dumps(results.configuration(dataset) | {"sizes": "4,8"}),
            "other options than it states",
        ),
    ):
        changed = dataset.assign_attrs({attribute: value})
        (tmp_path / attribute).mkdir(exist_ok=True)
        results.save(changed, tmp_path / attribute / "trained.nc")
        with pytest.raises(InputError, match=message):
            train.run(TrainOptions(resume=tmp_path / attribute), quiet())


def test_given_options_win_over_a_preset_and_a_preset_over_defaults():
    ladder = TrainOptions(preset="ladder", seeds=5).resolved()
    assert (ladder.seeds, ladder.steps, ladder.width, ladder.data, ladder.t) == (5, 48_000, 128, "ladder", "0.01,0.1")
    assert TrainOptions(preset="ladder", variances="1,1").resolved().data is None
    toy = TrainOptions(preset="paper-toy", normalized=True, steps=10).resolved()
    assert (toy.network, toy.optimizer, toy.steps, toy.width, toy.normalized) == ("toy", "radam", 10, None, True)
    assert ladder.resolved() == ladder
    assert toy.resolved() == toy
    source = data.from_options(toy)
    assert source.name == "levels-normalized"
    assert len(source.variances) == 30
    assert TrainOptions(preset="ladder").resolved().check() is None
    assert set(config.TRAIN_DEFAULTS) < {field.name for field in dataclasses.fields(TrainOptions)}


def test_the_linear_denoiser_has_options_of_its_own():
    resolved = TrainOptions(network="linear").resolved()
    assert (resolved.steps, resolved.t, resolved.learning_rate) == (20_000, "0.1", None)
    assert (resolved.optimizer, resolved.ema_decay, resolved.noise_range, resolved.width) == (None,) * 4
    assert resolved.resolved() == resolved
    given = TrainOptions(network="linear", preset="paper-toy", steps=7, t="0.3").resolved()
    assert (given.steps, given.t, given.optimizer, given.learning_rate) == (7, "0.3", None, None)
    assert TrainOptions(network="linear", preset="ladder").resolved().steps == 48_000
    job = training_job.job_of(TrainOptions(network="linear", variances="3,1", sizes="4", t="0.5").resolved())
    # A twentieth of one over the mean squared norm, 3 + 1 + 2 * 0.5; the rate of a mean over two coordinates.
    assert job.step_time == pytest.approx(0.05 / 5)
    assert job.recipe.optimizer is training.optimizer("sgd", 2 * job.step_time, clip=None, warmup=0)
    assert job.recipe.ema_decay == 0
    np.testing.assert_allclose(np.exp([job.members.log_noise_low, job.members.log_noise_high]) ** 2, 0.5, rtol=1e-6)
    with_rate = TrainOptions(network="linear", variances="3,1", sizes="4", learning_rate=0.3).resolved()
    assert training_job.job_of(with_rate).step_time == pytest.approx(0.15)


def test_a_linear_run_has_its_prediction_and_is_resumed(tmp_path, monkeypatch, capsys, undrawn):
    options = dataclasses.replace(TINY, learning_rate=None, **ALONE)
    store = train._store

    def stop(*arguments):
        store(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "_store", stop)
        with pytest.raises(KeyboardInterrupt):
            train.run(dataclasses.replace(options, out=tmp_path / "run"), quiet())
    _, dataset = train.run(TrainOptions(resume=tmp_path / "run"), quiet())
    assert (dataset.complete == 1).all()
    v, t, rate = [1.0, 0.25, 0.1], 0.1, 0.05 / (1.35 + 0.3)
    np.testing.assert_allclose(dataset.training_time, rate * np.array([1, 3, 30]), rtol=1e-6)
    for size in (4, 16):
        for step in (1, 30):
            got = dataset.predicted_training_gain.sel(dataset_size=size, training_step=step, noise_variance=t)
            np.testing.assert_allclose(got, theory.mean_gradient_flow_gain(v, size, t, rate * step), rtol=1e-5)
    assert dataset.attrs["samples"] == 0  # trained at one noise variance
    assert np.isnan(dataset.copied).all()
    assert np.isnan(dataset.held_out_copied).all()
    # The same at every point, up to rounding.
    np.testing.assert_allclose(dataset.gain.sel(point="train"), dataset.gain.sel(point="origin"), rtol=1e-5)
    tables.print_trained(dataset)
    printed = capsys.readouterr().out
    assert "\nthe five readings of networks are left out: " in printed
    assert printed.count("linear denoisers have the gains of gradient flow while they train: ") == 1


def test_linear_denoisers_of_real_data_have_all_their_points(tmp_path):
    # They subtract no mean of their own, as the linear rung does.
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(30, 3)))
    options = TrainOptions(network="linear", data=str(tmp_path / "points.npy"), sizes="4", steps=30, snapshots=3)
    job = training_job.job_of(options.resolved())
    found = training_job.prepare(job, {}).sel(dataset_size=4, training_step=30)
    v, t = job.source.variances, 0.1
    expected = theory.mean_gradient_flow_gain(v, 4, t, 30 * job.step_time)
    np.testing.assert_allclose(found.predicted_training_gain[0], expected, rtol=1e-5)
    np.testing.assert_allclose(found.predicted_gain.sel(law="linear")[0], theory.gain(v, 3, t, "linear"), rtol=1e-5)


def test_networks_that_are_not_linear_have_no_prediction_of_training(whole):
    for name in ("predicted_training_gain", "training_time"):
        assert np.isnan(whole[1][name]).all()


def test_the_ladder_is_measured_at_the_steps_that_others_ask_for():
    job = training_job.job_of(TrainOptions(preset="ladder").resolved())
    assert {4000, 16_000, 48_000} < set(job.steps)
    assert len(job.source.variances) == 32
    assert job.grid.sizes == (20, 40, 80, 160, 320, 640, 1280, 20_000)
    assert training_job.job_of(TrainOptions(preset="ladder", steps=1000).resolved()).steps[-1] == 1000


def test_the_network_of_the_paper_is_trained_unclipped():
    toy, ladder = (training_job.job_of(TrainOptions(preset=name).resolved()) for name in ("paper-toy", "ladder"))
    assert toy.recipe.optimizer is training.optimizer("radam", 1e-4, clip=None, warmup=0)
    assert ladder.recipe.optimizer is training.optimizer("adam", 1e-3, clip=1.0, warmup=100)


def test_the_command_prints_a_table_and_readings(whole, tmp_path, monkeypatch, capsys, undrawn):
    given = {name: value for name, value in dataclasses.asdict(TINY).items() if value not in (None, False)}
    options = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    monkeypatch.setattr("sys.argv", ["geomem", "train", *options, "--out", str(tmp_path / "run")])
    cli.main()
    printed = capsys.readouterr().out
    assert "\nphases after 30 steps at noise variance t = 0.01: at training points " in printed
    assert "freeze-out sizes N* of networks at noise variance t = 0.01" in " ".join(printed.split())
    for number in range(1, 6):
        assert f"\n{number} " in printed
    np.testing.assert_array_equal(
        results.load(tmp_path / "run" / "trained.nc", trained_results.DIMENSIONS).gain, whole[1].gain
    )


def test_the_command_makes_every_core_a_device():
    # In a process of its own, as devices cannot be changed once they run.
    code = """
import jax
from geomem_jax import cli, config, train
def run(options, console):
    print(jax.device_count())
    raise KeyboardInterrupt
train.run = run
cli._train(config.TrainOptions())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment["JAX_PLATFORMS"] = "cpu"
    for added, devices in (({}, os.cpu_count()), ({"JAX_NUM_CPU_DEVICES": "3"}, 3)):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment | added)
        assert done.stdout.split() == [str(devices)], done.stderr
