"""Measures points spread over eight devices, and by how much a process grows; prints both as JSON."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jax.tree_util import Partial

from geomem_jax import batching, jacobian, sharding
from geomem_jax.denoisers import empirical_jacobian, mlp

LIMIT = 48 * 2**20


def peak() -> int:
    """Largest memory of this process so far, where the system tells."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024


def network(dimension: int, width: int) -> Partial:
    trainable = mlp.edm_mlp(dimension, width, 2, 0.5)
    params = trainable.init(jax.random.key(0))
    params["last"]["kernel"] = jax.random.normal(jax.random.key(1), (width, dimension)) / width**0.5
    return Partial(trainable.denoise, params)


def growth() -> dict[str, int]:
    """Bytes that the process grows by, with the limit and with all points at a time."""
    model, x, t = network(32, 512), jnp.ones((1024, 32)), jnp.float32(0.3)
    batching.CACHE_BYTES = 2**40  # the limit alone is to decide
    # Compilers and libraries are loaded, and the program is compiled, before memory is read.
    sizes = jacobian.plan(model, x, t, of="gains", memory_limit=LIMIT).sizes
    arguments = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (model, x, t, None))
    programs = [
        jacobian._program.lower(*arguments, quantity="gains", sizes=which).compile()
        for which in (sizes, batching.Sizes(1024, 32))
    ]
    jax.block_until_ready(jnp.ones((2048, 512)) @ jnp.ones((512, 512)))  # with buffers of their own
    before, found = peak(), []
    for program in programs:
        jax.block_until_ready(program(model, x, t, None))
        found.append(peak() - before)
    return {"limit": LIMIT, "grown": found[0], "grown without": found[1]}


def spread() -> dict[str, object]:
    mesh = sharding.ensemble_mesh(1, 16)
    x = jax.random.normal(jax.random.key(2), (16, 6))
    models = {"gains": network(6, 8), "singular_values": network(6, 8)}
    models["empirical"] = empirical_jacobian.fit(np.random.default_rng(0).normal(size=(30, 6)))
    found: dict[str, object] = {"devices": mesh.shape["batch"]}
    for name, model in models.items():
        measure = jacobian.gains if name == "gains" else jacobian.singular_values
        for kind, points in (("one", x), ("eight", sharding.put(x, mesh, P("batch"))), ("shuffled", x[::-1])):
            values = measure(model, points, 0.3)
            found[f"{name} {kind}"] = np.asarray(values).tolist()
            if kind == "eight":
                shard = values.addressable_shards[0].data
                found["compiled for"] = f"{len(values.devices())} devices, points {len(shard)} of {len(values)}"
    return found


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    json.dump(growth() | spread(), sys.stdout)
