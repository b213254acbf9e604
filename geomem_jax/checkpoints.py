"""Checkpoints of ensembles in training: whole or not there, and only for the run that they belong to.

A checkpoint is a folder ``checkpoint/<step>``: the arrays of :class:`geomem_jax.training.State`, written by orbax, and
``description.json`` with what the caller says of the run, the names and shapes of all arrays, and a digest of every
file, because orbax itself returns wrong numbers where a bit of its files has changed.

The folder is filled under a hidden name and renamed at the end; a process that is killed at any moment leaves the
checkpoints that it had and at most a hidden folder, which the next :func:`save` removes.

With several processes all of them call both functions, with arrays on the mesh and a folder that all of them see.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from geomem_jax import sharding
from geomem_jax.errors import InputError
from geomem_jax.training import State

KEEP = 2  # the latest ones: should the last be damaged later on, there is one to go back to
FORMAT = "geomem training checkpoint 1"
APART = "give what that run was given, or another folder"


def _steps(root: Path) -> list[int]:
    """List the steps of all checkpoints, ascending; refuse a folder that holds anything else."""
    if not root.exists():
        return []
    if not root.is_dir():
        raise InputError(f"{root} is a file, not a folder of checkpoints; move it away")
    names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    for name in names:
        if not (name.isascii() and name.isdigit() and name == str(int(name))):
            raise InputError(f"{root / name} is not a training checkpoint of geomem; move it away")
    return sorted(map(int, names))


def _arrays(state: State) -> dict[str, jax.Array]:
    """Name all arrays of a state, keys as their data, in the order of its leaves."""
    plain = state._replace(key=jax.random.key_data(state.key))
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(plain)
    }


def _shapes(state: State) -> dict[str, str]:
    shapes = {name: f"{array.dtype}{list(array.shape)}" for name, array in _arrays(state).items()}
    # With the kind of generator: to another one the same data mean other random numbers.
    return shapes | {"key": f"{state.key.dtype}{list(state.key.shape)}"}


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _flat(value: object, name: str = "") -> dict[str, str]:
    """Give every value of nested dictionaries its dotted name, as JSON, in which NaN equals NaN."""
    if isinstance(value, dict):
        parts = [_flat(part, f"{name}.{key}" if name else str(key)) for key, part in value.items()]
        return {name: text for part in parts for name, text in part.items()}
    return {name: json.dumps(value)}


def _difference(saved: object, wanted: object) -> tuple[str, str, str] | None:
    """Find the first name whose values differ, and both of them."""
    there, here = _flat(saved), _flat(wanted)
    for name in [*here, *there]:
        one, other = there.get(name, "nothing"), here.get(name, "nothing")
        if one != other:
            return name, one, other
    return None


def _remove(path: Path) -> None:
    """Delete a checkpoint; never is half of one under its name."""
    hidden = path.with_name(f".{path.name}.removed")
    path.rename(hidden)
    shutil.rmtree(hidden)


def save(folder: Path, state: State, description: dict[str, object]) -> None:
    """Save a state at its step below ``folder/checkpoint`` and keep the latest two; returns when it is there.

    Args:
      folder: of the run.
      state: after any number of steps; where this step is the latest saved one already, nothing is done.
      description: plain JSON that tells this run from others: configuration, ``"data_fingerprint"``.

    Raises:
      InputError: if there is a checkpoint of a later step or of another run, or something that is no checkpoint.
    """
    root = folder.absolute() / "checkpoint"
    step = int(sharding.fetch(state.step)[0])
    steps = _steps(root)
    for path in (root / str(one) for one in steps):  # some of which are about to be deleted
        _check_run(path, _header(path, "delete it"), description)
    if steps and step < steps[-1]:
        raise InputError(f"{root} holds step {steps[-1]}, later than {step}; resume from it or give another folder")
    if step in steps:
        return
    first = jax.process_index() == 0
    partial = root / f".{step}.partial"
    if first:
        root.mkdir(parents=True, exist_ok=True)
        for left in [*root.glob(".*.partial"), *root.glob(".*.removed")]:
            shutil.rmtree(left)
        partial.mkdir()
    multihost_utils.sync_global_devices("checkpoint begins")
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(partial / "state", args=ocp.args.StandardSave(_arrays(state)))
    if first:
        header = {
            "format": FORMAT,
            "description": description,
            "arrays": _shapes(state),
            "files": _digests(partial / "state"),
        }
        (partial / "description.json").write_text(json.dumps(header, indent=1), "utf-8")
        partial.rename(root / str(step))
        for old in [*steps, step][:-KEEP]:
            _remove(root / str(old))
    multihost_utils.sync_global_devices("checkpoint ends")


def _header(path: Path, mend: str) -> dict[str, Any]:
    foreign = f"{path} is not a training checkpoint of geomem"
    file = path / "description.json"
    try:
        header = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{foreign}, or {file.name} in it is lost; move it away, or {mend}") from None
    except ValueError:
        raise InputError(f"checkpoint {path} is damaged: {file.name} is not JSON; {mend}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"{foreign}; move it away")
    return header


def _check_run(path: Path, header: dict[str, Any], description: dict[str, object]) -> None:
    """Refuse the checkpoint of another run."""
    saved = header["description"]
    one, other = saved.get("data_fingerprint"), description.get("data_fingerprint")
    if one != other:
        raise InputError(f"checkpoint {path} was trained on other data (fingerprint {one}, here {other}); {APART}")
    if difference := _difference(saved, description):
        raise InputError("checkpoint {} was trained with {} = {}, not {}; {}".format(path, *difference, APART))


def restore(folder: Path, template: State, description: dict[str, object]) -> State | None:
    """Restore the latest state saved below ``folder/checkpoint``.

    Args:
      folder: of the run.
      template: a state such as the run starts with; the result has its structure and its placement on devices.
      description: of this run; that of the saved one must be equal.

    Returns:
      The state, bit for bit, or ``None`` if nothing is saved yet.

    Raises:
      InputError: if the checkpoint is of other data, another configuration or another model, if it is damaged, or if
        it is not one at all.
    """
    root = folder.absolute() / "checkpoint"
    steps = _steps(root)
    if not steps:
        return None
    path = root / str(steps[-1])
    mend = f"delete this folder to {f'go on from step {steps[-2]}' if len(steps) > 1 else 'start again'}"
    header = _header(path, mend)
    _check_run(path, header, description)
    if difference := _difference(header["arrays"], _shapes(template)):
        name, one, other = difference
        raise InputError(f"checkpoint {path} is of another model: {name} is {one}, here {other}; {APART}")
    found = _digests(path / "state")
    for name, digest in header["files"].items():
        if found.get(name) != digest:
            what = "has changed since it was written" if name in found else "is lost"
            raise InputError(f"checkpoint {path} is damaged: state/{name} {what}; {mend}")

    wanted = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=leaf.sharding)
        for (name, array), leaf in zip(_arrays(template).items(), jax.tree.leaves(template), strict=True)
    }
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        arrays = checkpointer.restore(path / "state", args=ocp.args.StandardRestore(wanted))
    state = jax.tree.unflatten(jax.tree.structure(template), [arrays[name] for name in wanted])
    return state._replace(key=jax.random.wrap_key_data(state.key, impl=jax.random.key_impl(template.key)))
