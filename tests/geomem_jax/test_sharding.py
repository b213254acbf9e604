"""One device, eight devices and two processes train and measure the same ensembles."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from geomem_jax import sharding
from geomem_jax.errors import InputError

SCRIPT = Path(__file__).with_name("sharded.py")
RUNS = ("one", "eight", "first", "second")
Results = dict[str, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What each run saved, all of them at the same time, each in processes of its own."""
    folder = tmp_path_factory.mktemp("sharded")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    devices = {"one": ["1"], "eight": ["8"], "first": ["1", address, "0", "2"], "second": ["1", address, "1", "2"]}
    running = {
        name: subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder / f"{name}.npz"), *devices[name]],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in RUNS
    }
    try:
        printed = {name: process.communicate(timeout=300)[0] for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    assert {name: process.returncode for name, process in running.items()} == dict.fromkeys(RUNS, 0), printed
    loaded = {}
    for name in RUNS:
        with np.load(folder / f"{name}.npz") as file:
            loaded[name] = dict(file)
    return loaded


def test_meshes_are_those_meant(results: Results) -> None:
    """(member, batch): members first, then the batch."""
    found = {name: [list(run[f"{case} mesh"]) for case in ("four", "three")] for name, run in results.items()}
    assert found == {
        "one": [[1, 1], [1, 1]],
        "eight": [[4, 2], [1, 8]],
        "first": [[2, 1], [1, 2]],
        "second": [[2, 1], [1, 2]],
    }


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    if np.issubdtype(expected.dtype, np.integer):  # keys, steps, failures
        np.testing.assert_array_equal(found, expected)
    else:
        # Sums of 16 points are taken in another order: rounding of 1e-7, enlarged a little by ten steps of Adam, whose
        # first steps have the sign of the gradient alone.
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["eight", "first"])
def test_the_same_training_and_measurement(results: Results, name: str) -> None:
    expected = results["one"]
    assert results[name].keys() == expected.keys()
    for key in expected.keys() - {"four mesh", "three mesh"}:
        assert_same(results[name][key], expected[key])


def test_all_processes_get_the_same_bits(results: Results) -> None:
    for key, value in results["first"].items():
        np.testing.assert_array_equal(results["second"][key], value)


def test_another_training_set_would_be_noticed(results: Results) -> None:
    """Members 0 and 1 differ in the seed alone."""
    for name in ("state.ema['last']['kernel']", "state.loss", "snapshot.gain", "copied"):
        value = results["one"][f"four {name}"]
        with pytest.raises(AssertionError):
            assert_same(value[1], value[0])


def test_everything_was_trained(results: Results) -> None:
    assert (results["one"]["four state.step"] == 10).all()
    assert (results["one"]["three state.failed"] == -1).all()
    assert np.isfinite(results["one"]["three snapshot.gain"]).all()
    assert (results["one"]["four copied"] > 0).all()


def test_several_processes_need_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "devices", lambda: [None] * 8)
    message = "3 members with batches of 12 occupy 4 of 8 devices, and several processes need all; "
    with pytest.raises(InputError, match=re.escape(message)):
        sharding.ensemble_mesh(3, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 0, 2), "add coordinator"),
        (("host:1", None, 2), "add process id"),
        (("host:1", 0, None), "add number of processes"),
        (("host:1", 2, 2), "process id 2 must be from 0 to 1"),
        (("host:1", -1, 2), "process id -1 must be from 0 to 1"),
        (("host", 0, 2), "coordinator 'host' has no port"),
        (("auto", 0, None), "leave them out"),
    ],
)
def test_processes_that_cannot_be_joined(arguments: tuple, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.distributed, "initialize", lambda *arguments: pytest.fail("reached"))
    with pytest.raises(InputError, match=message) as caught:
        sharding.initialize(*arguments)
    assert "\n" not in str(caught.value)


def test_processes_are_joined_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *arguments: calls.append(arguments))
    sharding.initialize(None, None, None)
    assert calls == []
    sharding.initialize("auto", None, None)
    sharding.initialize("host:1", 1, 2)
    assert calls == [(), ("host:1", 2, 1)]


def test_fetch_gives_keys_as_their_data_and_numbers_as_they_are() -> None:
    key, numbers, count = sharding.fetch((jax.random.key(3), np.arange(3), 4))
    np.testing.assert_array_equal(key, jax.random.key_data(jax.random.key(3)))
    np.testing.assert_array_equal(numbers, np.arange(3))
    assert count == 4
