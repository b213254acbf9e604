"""Device meshes for ensembles: the same program on one device, many, or many hosts.

The mesh has two axes: ``member``, over which an ensemble is split (no communication), and ``batch``, over which each
step's batch is split (one mean over gradients).  Members come first; only what is left of the devices splits
batches.
"""

import math
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def ensemble_mesh(num_members: int, batch_size: int) -> Mesh:
    """Lay all devices of all processes out for an ensemble.

    Args:
      num_members: members; the ``member`` axis has the largest common divisor of this and the number of devices.
      batch_size: points per step; the ``batch`` axis has the largest common divisor with the devices left.

    Returns:
      A mesh with axes ``member`` and ``batch``.  Devices beyond their product stay idle, but for a mesh over
      several processes, which needs all of them.
    """
    devices = jax.devices()
    members = math.gcd(num_members, len(devices))
    batch = math.gcd(batch_size, len(devices) // members)
    return Mesh(np.array(devices[: members * batch]).reshape(members, batch), ("member", "batch"))


def put(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Place arrays, which every process holds in full, on the mesh."""
    # An axis of one device is left out, as programs leave it out of their results: else a program that is called with
    # its own result would be compiled for it again.
    split = PartitionSpec(*(axis if axis is not None and mesh.shape[axis] > 1 else None for axis in spec))
    return jax.device_put(tree, NamedSharding(mesh, split if any(split) else PartitionSpec()))


def fetch(tree: Any) -> Any:
    """Bring arrays to the host as NumPy, in full on every process."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(tree, tiled=True)
