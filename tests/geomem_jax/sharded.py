"""Trains small ensembles over all devices and saves everything: `sharded.py FILE DEVICES [ADDRESS ID PROCESSES]`."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from geomem_jax import copying, data, sharding, snapshots, training
from geomem_jax.denoisers import mlp

RECIPE = training.Recipe(
    mlp.edm_mlp(3, 8, 2, 0.5), training.optimizer("adam", 1e-2, clip=1.0, warmup=3), batch_size=16, ema_decay=0.9
)
STEPS = 10
# Of four members each may have a device or more; three share each step's batch on any power of two of devices.
SIZES_AND_SEEDS = {"four": ([5, 40], 2), "three": ([5, 20, 40], 1)}


def trained(sizes: list[int], seeds: int) -> tuple[training.State, snapshots.Snapshot, jax.Array | None, list[int]]:
    drawn = training.draw_data(
        data.linear_manifold([1.0, 0.5, 0.1]), [jax.random.key(seed) for seed in range(seeds)], 40, 8
    )
    members = training.grid_members(sizes, seeds, (0.05, 2.0))
    mesh = sharding.ensemble_mesh(len(members.size), RECIPE.batch_size)
    state = training.start(RECIPE, jax.random.key(7), members)
    (state,) = training.train(RECIPE, mesh, drawn, members, state, (STEPS,))
    noise_keys = jax.random.split(jax.random.key(8), (seeds, 2))
    everywhere = sharding.put((drawn, noise_keys, jnp.eye(3), jnp.array([0.1, 0.5])), mesh, P())
    plan = copying.plan(drawn, members, jax.random.key(9), (0.05, 2.0))
    drawn, noise_keys, basis, t = everywhere
    members = sharding.put(members, mesh, P("member"))
    snapshot = snapshots.measure(RECIPE.model, mesh, drawn, members, state.ema, noise_keys, basis, t, 6)
    copied = None
    if seeds > 1:  # one case is enough
        plan = sharding.put(plan, mesh, P())
        copied = copying.measure(RECIPE.model, mesh, drawn, members, state.ema, plan, 200)
    return *sharding.fetch((state, snapshot, copied)), list(mesh.shape.values())


def main(file: str, devices: str, address: str | None = None, process: str = "0", processes: str = "1") -> None:
    jax.config.update("jax_num_cpu_devices", int(devices))
    jax.config.update("jax_disable_most_optimizations", True)  # compilation takes longer than anything else here
    if address is not None:
        sharding.initialize(address, int(process), int(processes))
    # As if each process were much slower than the one before, so that on its own it would report more often.
    training.BLOCK_S *= 1e-9 ** int(process)
    saved = {}
    for case, (sizes, seeds) in SIZES_AND_SEEDS.items():
        state, snapshot, copied, mesh = trained(sizes, seeds)
        for name, tree in (("state", state), ("snapshot", snapshot), ("copied", copied), ("mesh", np.array(mesh))):
            for path, leaf in jax.tree.leaves_with_path(tree):
                saved[f"{case} {name}{jax.tree_util.keystr(path)}"] = leaf
    np.savez(file, **saved)


if __name__ == "__main__":
    main(*sys.argv[1:])
