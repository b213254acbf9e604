"""What is saved comes back bit for bit, whenever the process was killed, and nothing else is taken for it."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import PartitionSpec as P

from geomem_jax import checkpoints, data, sharding, training
from geomem_jax.denoisers import mlp
from geomem_jax.errors import InputError

MODEL = mlp.edm_mlp(3, 8, 2, 0.5)
RECIPE = training.Recipe(MODEL, training.optimizer("adam", 1e-2, clip=1.0, warmup=3), batch_size=16, ema_decay=0.9)
DESCRIPTION: dict[str, object] = {"configuration": {"sizes": [5, 40], "steps": 12}, "data_fingerprint": "a0"}


@functools.cache
def setup() -> tuple[training.Data, training.Members, training.State, Callable[[training.State, int], training.State]]:
    points = training.draw_data(data.linear_manifold([1.0, 0.5, 0.1]), [jax.random.key(k) for k in range(2)], 40, 8)
    members = training.grid_members([5, 40], 2, (0.05, 2.0))
    mesh = sharding.ensemble_mesh(len(members.size), RECIPE.batch_size)
    points = sharding.put(points, mesh, P())
    members, state = sharding.put((members, training.start(RECIPE, jax.random.key(7), members)), mesh, P("member"))
    return points, members, state, functools.partial(training.advance, RECIPE, mesh, points, members)


@functools.cache
def after(steps: int) -> training.State:
    *_, state, advance = setup()
    return advance(state, steps)


def continue_run(folder: Path, last: int) -> None:
    """Train to a step, three steps between two saves, from the latest checkpoint on."""
    *_, template, advance = setup()
    state = checkpoints.restore(folder, template, DESCRIPTION) or template
    while int(sharding.fetch(state.step)[0]) < last:
        state = advance(state, 3)
        checkpoints.save(folder, state, DESCRIPTION)


def main() -> None:
    """What a child process does: train to a step, and from what it saved there to the next one."""
    for last in map(int, sys.argv[2:]):
        continue_run(Path(sys.argv[1]), last)
    *_, template, advance = setup()
    restored = checkpoints.restore(Path(sys.argv[1]), template, DESCRIPTION)
    assert restored is not None
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    advance(advance(restored, 1), 1)
    assert not [event for event in compiled if "backend_compile" in event]
    jax.jit(lambda step: step + 12345)(restored.step)
    assert [event for event in compiled if "backend_compile" in event]
    print(len(restored.step.sharding.device_set))


def numbers(state: training.State) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))]


def assert_same(one: training.State, other: training.State) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(numbers(one), numbers(other), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoint").iterdir())


def refusal(folder: Path, template: training.State, description: dict[str, object] = DESCRIPTION) -> str:
    with pytest.raises(InputError) as caught:
        checkpoints.restore(folder, template, description)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_nothing_is_saved_yet(tmp_path: Path) -> None:
    *_, template, _ = setup()
    assert checkpoints.restore(tmp_path / "new", template, DESCRIPTION) is None
    (tmp_path / "checkpoint" / ".3.partial").mkdir(parents=True)
    assert checkpoints.restore(tmp_path, template, DESCRIPTION) is None


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    *_, template, advance = setup()
    whole = after(12)
    checkpoints.save(tmp_path, after(5), DESCRIPTION)
    compiled = training.advance._cache_size()
    restored = checkpoints.restore(tmp_path, template, DESCRIPTION)
    assert restored is not None
    assert_same(restored, after(5))
    assert_same(advance(restored, 7), whole)
    assert training.advance._cache_size() == compiled
    with pytest.raises(AssertionError):
        assert_same(advance(restored, 6), whole)


def test_either_precision_comes_back_and_is_not_taken_for_the_other(x64: bool, tmp_path: Path) -> None:
    def cast(dtype: type) -> training.State:
        state = after(5)
        floats = {name: getattr(state, name) for name in ("params", "ema", "loss")}
        return state._replace(**jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) / 3, floats))

    state = cast(jnp.float64 if x64 else jnp.float32)
    checkpoints.save(tmp_path, state, DESCRIPTION)
    restored = checkpoints.restore(tmp_path, state, DESCRIPTION)
    assert restored is not None
    assert_same(restored, state)
    assert restored.loss.dtype == (jnp.float64 if x64 else jnp.float32)
    with jax.enable_x64(not x64):
        message = refusal(tmp_path, cast(jnp.float32 if x64 else jnp.float64))
    assert "is of another model: params." in message
    assert "float64[4" in message


def test_the_latest_two_are_kept_and_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    *_, template, _ = setup()
    for steps in (2, 5, 12):
        (tmp_path / "checkpoint" / f".{steps - 1}.partial" / "state").mkdir(parents=True)
        (tmp_path / "checkpoint" / ".0.removed").mkdir()
        checkpoints.save(tmp_path, after(steps), DESCRIPTION)
    assert names(tmp_path) == ["12", "5"]
    file = tmp_path / "checkpoint" / "12" / "description.json"
    before = file.stat().st_mtime_ns
    checkpoints.save(tmp_path, after(12), DESCRIPTION)
    assert file.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="holds step 12, later than 5; resume from it"):
        checkpoints.save(tmp_path, after(5), DESCRIPTION)
    restored = checkpoints.restore(tmp_path, template, DESCRIPTION)
    assert restored is not None
    assert_same(restored, after(12))


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (DESCRIPTION | {"data_fingerprint": "b1"}, r"was trained on other data \(fingerprint a0, here b1\); give what"),
        (
            {"configuration": {"sizes": [5], "steps": 9}, "data_fingerprint": "a0"},
            r"was trained with configuration.sizes = \[5, 40\], not \[5\]; give what",
        ),
        (DESCRIPTION | {"more": None}, "was trained with more = nothing, not null; "),
        ({"data_fingerprint": "a0"}, r"was trained with configuration.sizes = \[5, 40\], not nothing; "),
    ],
)
def test_another_run_is_refused(tmp_path: Path, description: dict[str, object], message: str) -> None:
    *_, template, _ = setup()
    checkpoints.save(tmp_path, after(2), DESCRIPTION)
    refusal(tmp_path, template, description)
    with pytest.raises(InputError, match=message):
        checkpoints.restore(tmp_path, template, description)
    with pytest.raises(InputError, match=message):
        checkpoints.save(tmp_path, after(5), description)
    assert names(tmp_path) == ["2"]


def test_descriptions_are_compared_as_json(tmp_path: Path) -> None:
    *_, template, _ = setup()
    checkpoints.save(tmp_path, after(2), {"sizes": (1, 2), "rate": 0.1, "cap": float("nan")})
    assert checkpoints.restore(tmp_path, template, {"cap": float("nan"), "rate": 0.1, "sizes": [1, 2]}) is not None


def test_another_model_optimizer_or_generator_is_refused(tmp_path: Path) -> None:
    *_, template, _ = setup()
    checkpoints.save(tmp_path, after(2), DESCRIPTION)

    def other(recipe: training.Recipe) -> training.State:
        params = jax.eval_shape(jax.vmap(recipe.model.init), template.key)
        optimizer = jax.eval_shape(jax.vmap(recipe.optimizer.init), params)
        return template._replace(params=params, ema=params, optimizer=optimizer)

    wide = other(RECIPE._replace(model=mlp.edm_mlp(3, 9, 2, 0.5)))
    message = refusal(tmp_path, wide)
    assert 'is of another model: params.hidden.0.bias is "float32[4, 8]", here "float32[4, 9]"; give what' in message
    sgd = other(RECIPE._replace(optimizer=training.optimizer("sgd", 1e-2, clip=1.0, warmup=3)))
    message = refusal(tmp_path, sgd)
    assert "is of another model: optimizer.1.0.count is " in message
    assert message.endswith(", here nothing; give what that run was given, or another folder")
    rbg = template._replace(key=jax.random.split(jax.random.key(0, impl="rbg"), 4))
    assert 'key is "key<fry>[4]", here "key<rbg>[4]"' in refusal(tmp_path, rbg)


def damages(content: bytes) -> list[bytes | None]:
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]
    return [None, b"", content[:middle], flipped, b"\xff\x00garbage" * 20]


def test_damage_to_any_file_is_noticed(tmp_path: Path) -> None:
    *_, template, _ = setup()
    checkpoints.save(tmp_path, after(2), DESCRIPTION)
    checkpoints.save(tmp_path, after(5), DESCRIPTION)
    latest = tmp_path / "checkpoint" / "5"
    files = [path for path in latest.rglob("*") if path.is_file()]
    assert len(files) > 5
    for file in files:
        content = file.read_bytes()
        for damage in damages(content):
            file.unlink() if damage is None else file.write_bytes(damage)
            message = refusal(tmp_path, template)
            if file.parent != latest:
                assert message.startswith(f"checkpoint {latest} is damaged: {file.relative_to(latest)} ")
                assert message.endswith("delete this folder to go on from step 2")
        file.write_bytes(content)
    shutil.rmtree(latest / "state")
    assert "is lost; delete this folder to go on from step 2" in refusal(tmp_path, template)
    # The advice is good.
    shutil.rmtree(latest)
    restored = checkpoints.restore(tmp_path, template, DESCRIPTION)
    assert restored is not None
    assert_same(restored, after(2))
    (tmp_path / "checkpoint" / "2" / "description.json").write_text("{")
    assert "is damaged: description.json is not JSON; delete this folder to start again" in refusal(tmp_path, template)


def foreign_orbax(path: Path) -> None:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "3", {"weights": jnp.zeros(3)})


def foreign_file(path: Path) -> None:
    path.mkdir()
    (path / "checkpoint_3").write_bytes(b"\x82\xa6params\xc0")  # as flax names and writes them


def foreign_number(path: Path) -> None:
    path.mkdir()
    (path / "3").write_text("something")


def foreign_json(path: Path) -> None:
    (path / "3").mkdir(parents=True)
    (path / "3" / "description.json").write_text('{"name": "a photograph"}')


def no_folder(path: Path) -> None:
    path.write_text("something")


@pytest.mark.parametrize("make", [foreign_orbax, foreign_file, foreign_number, foreign_json, no_folder])
def test_what_is_foreign_is_refused_and_left_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    *_, template, _ = setup()
    make(tmp_path / "checkpoint")
    before = sorted(tmp_path.rglob("*"))
    message = refusal(tmp_path, template)
    assert "is not a training checkpoint of geomem" in message or "is a file, not a folder" in message
    assert "move it away" in message
    with pytest.raises(InputError, match="move it away"):
        checkpoints.save(tmp_path, after(5), DESCRIPTION)
    assert sorted(tmp_path.rglob("*")) == before


class Killed(BaseException):
    pass


def killed(*args: object, **kwargs: object) -> None:
    raise Killed


def killed_while_removing(path: Path) -> None:
    (path / "description.json").unlink()
    raise Killed


@pytest.mark.parametrize(
    ("moment", "found"),
    [
        ((ocp.StandardCheckpointHandler, "finalize"), 5),  # orbax has not named its folder
        ((checkpoints, "_digests"), 5),  # no description
        ((Path, "rename"), 5),  # all written, not named
        ((checkpoints, "_remove"), 12),
        ((shutil, "rmtree"), 12),  # half removed
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_save_that_stops_anywhere_leaves_a_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: tuple[object, str], found: int
) -> None:
    *_, template, _ = setup()
    for steps in (2, 5):
        checkpoints.save(tmp_path, after(steps), DESCRIPTION)
    with monkeypatch.context() as patch:
        patch.setattr(*moment, killed_while_removing if moment[1] == "rmtree" else killed)
        with pytest.raises(Killed):
            checkpoints.save(tmp_path, after(12), DESCRIPTION)
    assert all((path / "description.json").exists() for path in (tmp_path / "checkpoint").glob("[0-9]*"))
    restored = checkpoints.restore(tmp_path, template, DESCRIPTION)
    assert restored is not None
    assert_same(restored, after(found))
    checkpoints.save(tmp_path, after(13), DESCRIPTION)
    assert names(tmp_path) == sorted(["13", str(found)])


def child(folder: Path, *lasts: int, **environment: str) -> subprocess.Popen[str]:
    code = "import test_checkpoints; test_checkpoints.main()"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, str(folder), *map(str, lasts)],
        env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def latest(folder: Path) -> int:
    return max((int(path.name) for path in (folder / "checkpoint").glob("[0-9]*")), default=0)


@pytest.mark.parametrize(
    "delays",
    [
        (0.0,),
        # Starting a process for each takes most of a minute.
        pytest.param((0.003, 0.01, 0.02, 0.03, 0.05, 0.08, 0.13), marks=pytest.mark.slow),
    ],
    ids=["once", "often"],
)
def test_a_run_that_is_killed_ends_bit_for_bit_where_it_would_have_ended(
    tmp_path: Path, delays: tuple[float, ...]
) -> None:
    *_, template, _ = setup()
    for delay in delays:  # in seconds, after a save has been seen to begin
        begun = latest(tmp_path)
        process = child(tmp_path, 10**9)
        deadline = time.monotonic() + 120
        while latest(tmp_path) < begun + 9 or not list((tmp_path / "checkpoint").glob(".*.partial")):
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    last = latest(tmp_path) + 9
    process = child(tmp_path, last)
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, "1\n")  # no warnings or logs of orbax either
    assert names(tmp_path) == sorted([str(last - 3), str(last)])
    restored = checkpoints.restore(tmp_path, template, DESCRIPTION)
    assert restored is not None
    assert_same(restored, after(last))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="compares with a child process on CPU devices")
def test_saved_on_four_devices_and_resumed_on_one(tmp_path: Path) -> None:
    *_, template, _ = setup()
    process = child(tmp_path, 3, 9, XLA_FLAGS="--xla_force_host_platform_device_count=4", JAX_PLATFORMS="cpu")
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, "4\n")
    restored = checkpoints.restore(tmp_path, template, DESCRIPTION)
    assert restored is not None
    assert restored.step.sharding == template.step.sharding
    # One member per device is another program: equal to rounding, enlarged by nine steps of Adam.
    for left, right in zip(numbers(restored), numbers(after(9)), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5)
