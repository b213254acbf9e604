"""Device meshes for ensembles: the same program on one device, many, or many processes.

The mesh has two axes: ``member``, over which an ensemble is split (no communication), and ``batch``, over which each
step's batch is split (one mean over gradients).  Members come first; only what is left of the devices splits
batches.

With several processes, each runs the same program, holds all inputs and gets all results; only the work is split.
"""

import math
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from geomem_jax.errors import InputError


def initialize(coordinator: str | None, process_id: int | None, num_processes: int | None) -> None:
    """Join the other processes, before anything else is asked of jax; does nothing if all three are ``None``.

    Args:
      coordinator: address ``"host:port"`` of process 0, the same in every process; ``"auto"`` if jax finds the
        processes itself, as under SLURM or on a Cloud TPU.
      process_id: number of this process, from 0.
      num_processes: how many there are.

    Raises:
      InputError: if some are given and others missing, or the number of the process is out of range.
    """
    if coordinator == "auto":
        if process_id is not None or num_processes is not None:
            raise InputError("coordinator 'auto' finds the process id and the number of processes; leave them out")
        jax.distributed.initialize()
        return
    given = {"coordinator": coordinator, "process id": process_id, "number of processes": num_processes}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return
    if coordinator is None or process_id is None or num_processes is None:
        raise InputError(f"several processes need a coordinator, a process id and their number; add {missing[0]}")
    if not 0 <= process_id < num_processes:
        raise InputError(
            f"process id {process_id} must be from 0 to {num_processes - 1}, below the number of processes"
        )
    if not coordinator.rpartition(":")[2].isdecimal():
        raise InputError(f"coordinator {coordinator!r} has no port; write host:port, or auto")
    jax.distributed.initialize(coordinator, num_processes, process_id)


def ensemble_mesh(num_members: int, batch_size: int) -> Mesh:
    """Lay all devices of all processes out for an ensemble.

    Args:
      num_members: members; the ``member`` axis has the largest common divisor of this and the number of devices.
      batch_size: points per step; the ``batch`` axis has the largest common divisor with the devices left.

    Returns:
      A mesh with axes ``member`` and ``batch``.  Devices beyond their product stay idle.

    Raises:
      InputError: if there are several processes and devices would stay idle, as a process might have no part.
    """
    devices = jax.devices()
    members = math.gcd(num_members, len(devices))
    batch = math.gcd(batch_size, len(devices) // members)
    if jax.process_count() > 1 and members * batch < len(devices):
        raise InputError(
            f"{num_members} members with batches of {batch_size} occupy {members * batch} of {len(devices)} devices, "
            f"and several processes need all; make the number of members or the batch a multiple of {len(devices)}"
        )
    return Mesh(np.array(devices[: members * batch]).reshape(members, batch), ("member", "batch"))


def put(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Place arrays, which every process holds in full or which are on the mesh already, on the mesh."""
    # An axis of one device is left out, as programs leave it out of their results: else a program that is called with
    # its own result would be compiled for it again.
    split = PartitionSpec(*(axis if axis is not None and mesh.shape[axis] > 1 else None for axis in spec))
    target = NamedSharding(mesh, split if any(split) else PartitionSpec())

    def one(leaf: Any) -> jax.Array:
        if target.is_fully_addressable or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
            return jax.device_put(leaf, target)
        if _is_key(leaf):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, target, lambda index: whole[index])

    return jax.tree.map(one, tree)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def fetch(tree: Any) -> Any:
    """Bring arrays to the host as NumPy, in full on every process, all of which must call this; keys as their data."""

    def one(leaf: Any) -> np.ndarray:
        if _is_key(leaf):
            leaf = jax.random.key_data(leaf)
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        return np.asarray(leaf)

    return jax.tree.map(one, tree)


def from_first(value: int) -> int:
    """The number that process 0 has, on every process; all must call this."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))
