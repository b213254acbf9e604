"""How many training steps per second does an ensemble of denoisers take, all members together?

The claims, for 16 members on two CPU cores: 25, 8, 3 and 1.5 times as many model-steps per second as an eager PyTorch
loop, with dimension, width and batch (8, 32, 32), (16, 64, 64), (32, 128, 128) and (64, 256, 256) and three hidden
layers; and in the last two at least half of the rate of bare matrix products.

It races `geomem_jax.training.advance`, the members spread over as many virtual devices as there are cores, against
one model after another in eager PyTorch (fused Adam, the fastest number of threads; skipped where torch is not
installed) and in a jitted JAX step that a Python loop calls.  Network, loss, clip, Adam and average of parameters are
the same in all three; the ensemble also keeps a running loss and guards every step against what is not finite.  The
bound is the best rate seen of matrix products, of those of the network's shape and of large ones, in XLA, NumPy and
PyTorch.  Claims that are not met are printed as such.  The exit status is 1 if the three disagree after a few steps
from the same weights with the same draws.
"""

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import optax
from empirical_gains import interleave, run
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from geomem_jax import data, sharding, training
from geomem_jax.denoisers import edm, mlp
from geomem_jax.denoisers.trainable import Params

HAS_TORCH = importlib.util.find_spec("torch") is not None
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # that it may use
jax.config.update("jax_num_cpu_devices", CORES)
# As PyTorch does by default: on accelerators JAX would round factors to fewer bits.
jax.config.update("jax_default_matmul_precision", "highest")

QUICK = [(8, 32, 32, (1, 16), 3)]
FULL = [(d, width, width, (1, 4, 16, 64), 9) for d, width in ((8, 32), (16, 64), (32, 128), (64, 256))]
FASTER_THAN_PYTORCH = {8: 25.0, 16: 8.0, 32: 3.0, 64: 1.5}  # dimension: claim
HALF_OF_BOUND = (32, 64)  # dimensions
CLAIMED_MEMBERS = 16

DEPTH = 3
TRAINING_POINTS = 1000
DATA_VARIANCE = 0.5
NOISE_RANGE = (0.02, 2.0)  # standard deviations
LEARNING_RATE, CLIP, EMA_DECAY = 1e-3, 1.0, 0.999
CALL_S = 0.3  # seconds that a timed call should take
CHECKED_STEPS = 5
# Rounding: a gradient has some 1e-6 of its largest entry, and the first steps of Adam, which has lengths of all entries
# alike, enlarge that for the small ones.  A wrong constant changes the path by far more.
AGREEMENT = 1e-3


@partial(jax.jit, static_argnames="batch")
def draw(points: jax.Array, key: jax.Array, step: jax.Array, batch: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Clean points, noise variances and standard normals of one step, as `training` draws them."""
    rows_key, level_key, noise_key = jax.random.split(jax.random.fold_in(key, step), 3)
    low, high = np.log(NOISE_RANGE)
    t = jnp.exp(2 * (low + jax.random.uniform(level_key, (batch,)) * (high - low)))
    clean = points[jax.random.randint(rows_key, (batch,), 0, len(points))]
    return clean, t, jax.random.normal(noise_key, clean.shape)


def jax_loop(recipe: training.Recipe, points: jax.Array, params: Params, key: jax.Array) -> Callable[[int], tuple]:
    """One model, a jitted step, a Python loop; returns what takes steps from the start."""

    @jax.jit
    def one(state: tuple, step: jax.Array) -> tuple:
        params, average, moments = state
        clean, t, noise = draw(points, key, step, recipe.batch_size)
        noisy = clean + jnp.sqrt(t)[:, None] * noise

        def loss(params: Params) -> jax.Array:
            denoised = jax.vmap(recipe.model.denoise, (None, 0, 0))(params, noisy, t)
            return jnp.mean(recipe.model.weight(t) * jnp.mean((denoised - clean) ** 2, axis=1))

        updates, moments = recipe.optimizer.update(jax.grad(loss)(params), moments, params)
        params = optax.apply_updates(params, updates)
        decay = jnp.minimum(EMA_DECAY, (1 + step) / (10 + step))
        return params, jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params), moments

    def take(steps: int) -> tuple:
        state = (params, params, recipe.optimizer.init(params))
        for step in range(steps):
            state = one(state, step)
        return jax.block_until_ready(state)

    return take


def on_gpu() -> bool:
    """Whether both rivals have the GPU."""
    import torch

    return jax.default_backend() == "gpu" and torch.cuda.is_available()


def pytorch(points: np.ndarray, params: Params, batch: int, threads: int) -> Callable:
    """One model in an eager loop; returns what takes steps from the start, with given draws or its own."""
    import torch

    torch.set_default_device("cuda" if on_gpu() else "cpu")
    layers = [*params["hidden"].values(), params["last"]]
    modules: list[torch.nn.Module] = []
    for layer in layers:
        linear = torch.nn.Linear(*layer["kernel"].shape)
        modules += [linear, torch.nn.SiLU()]
    network = torch.nn.Sequential(*modules[:-1])
    start = [torch.tensor(np.asarray(leaf)) for layer in layers for leaf in (layer["kernel"].T, layer["bias"])]
    own = torch.tensor(points)
    weights = list(network.parameters())
    octaves = (np.pi / 2) * 2.0 ** torch.arange(edm.FREQUENCIES)
    low, high = np.log(NOISE_RANGE)

    def take(steps: int, draws: list | None = None) -> tuple[np.ndarray, ...]:
        torch.set_num_threads(threads)
        with torch.no_grad():
            for weight, value in zip(weights, start, strict=True):
                weight.copy_(value)
        average = [value.clone() for value in start]
        adam = torch.optim.Adam(weights, lr=LEARNING_RATE, fused=True)
        for step in range(steps):
            if draws is None:
                clean = own[torch.randint(len(own), (batch,))]
                t = torch.exp(2 * (low + torch.rand(batch) * (high - low)))[:, None]
                noise = torch.randn(clean.shape)
            else:
                clean, t, noise = (torch.tensor(np.asarray(part)) for part in draws[step])
                t = t[:, None]
            noisy, total = clean + t.sqrt() * noise, DATA_VARIANCE + t
            angles = t.log() / 8 * octaves
            output = network(torch.cat([noisy * total.rsqrt(), angles.sin(), angles.cos()], dim=1))
            denoised = DATA_VARIANCE / total * noisy + (DATA_VARIANCE * t / total).sqrt() * output
            loss = (total / (DATA_VARIANCE * t) * (denoised - clean) ** 2).mean()
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, CLIP)
            adam.step()
            decay = min(EMA_DECAY, (1 + step) / (10 + step))
            with torch.no_grad():
                for old, new in zip(average, weights, strict=True):
                    old.lerp_(new, 1 - decay)
        return tuple(torch.cat([part.detach().ravel() for part in parts]).cpu().numpy() for parts in (weights, average))

    return take


def flat(layers: Params | np.ndarray) -> np.ndarray:
    """All parameters in the order and orientation of PyTorch, which gives them as such."""
    if isinstance(layers, np.ndarray):
        return layers
    every = [*layers["hidden"].values(), layers["last"]]
    return np.concatenate([np.ravel(leaf) for layer in every for leaf in (layer["kernel"].T, layer["bias"])])


def matmul_gflops(width: int, repeats: int) -> dict[str, float]:
    """Best rates of bare float32 products on all cores: of the network's shape, member by member, and large ones."""
    members, large = CLAIMED_MEMBERS, 2048
    rounds = max(1, int(CALL_S / 4 * 1e11 / (2 * members * width**3)))
    mesh = sharding.ensemble_mesh(members, 1)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=P("member"), out_specs=P("member"))
    def layers(x: jax.Array) -> jax.Array:
        return lax.fori_loop(0, rounds, lambda _, y: y @ x, x)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P("member"), P()), out_specs=P("member"))
    def rows(x: jax.Array, y: jax.Array) -> jax.Array:
        return x @ y

    batched = sharding.put(jnp.full((members, width, width), 1 / width), mesh, P("member"))
    square = jnp.full((large, large), 1 / large)
    host = np.asarray(square)
    split, whole = sharding.put(square, mesh, P("member")), sharding.put(square, mesh, P())
    calls: dict[str, Callable[[], object]] = {
        "xla_layers": lambda: layers(batched),
        "xla_large": lambda: jnp.matmul(square, square),
        "xla_large_sharded": lambda: rows(split, whole),
        "numpy_large": lambda: host @ host,
    }
    work = dict.fromkeys(calls, 2.0 * large**3) | {"xla_layers": 2.0 * rounds * members * width**3}
    if HAS_TORCH:
        import torch

        torch.set_num_threads(CORES)
        peer, peer_batched = torch.tensor(host), torch.full((members, width, width), 1 / width)

        def peer_layers() -> None:
            for _ in range(rounds):
                torch.bmm(peer_batched, peer_batched)
            wait()

        def peer_large() -> None:
            peer @ peer
            wait()

        wait = torch.cuda.synchronize if on_gpu() else lambda: None
        calls |= {"torch_layers": peer_layers, "torch_large": peer_large}
        work |= {"torch_layers": work["xla_layers"], "torch_large": work["xla_large"]}
    for call in calls.values():
        jax.block_until_ready(call())
    seconds = interleave(calls, repeats)
    return {name: work[name] / seconds[name]["min_s"] / 1e9 for name in calls}


def ensemble(
    recipe: training.Recipe, mesh: Mesh, points: training.Data, members: training.Members, root: jax.Array
) -> Callable[[int], tuple[Params, Params]]:
    """What takes steps with all members from the start and returns parameters and averages."""
    state = training.start(recipe, root, members)
    points = sharding.put(points, mesh, P())
    members, state = sharding.put((members, state), mesh, P("member"))

    def take(steps: int) -> tuple[Params, Params]:
        end = jax.block_until_ready(training.advance(recipe, mesh, points, members, state, steps))
        return end.params, end.ema

    return take


def steps_per_call(take: Callable[[int], object]) -> int:
    """How many steps take about `CALL_S`."""
    steps = 8
    while True:
        begin = time.perf_counter()
        take(steps)
        elapsed = time.perf_counter() - begin
        if elapsed > CALL_S / 4:
            return max(1, round(steps * CALL_S / elapsed))
        steps *= 4


def measure(d: int, width: int, batch: int, counts: tuple[int, ...], repeats: int) -> dict[str, object]:
    """Race one size of network and check that all train alike."""
    model = mlp.edm_mlp(d, width, DEPTH, DATA_VARIANCE)
    recipe = training.Recipe(model, training.optimizer("adam", LEARNING_RATE, clip=CLIP, warmup=0), batch, EMA_DECAY)
    root = jax.random.key(0)
    source = data.linear_manifold([1.0] * (d // 4) + [0.09] * (d - d // 4))
    drawn = training.draw_data(source, [jax.random.key(seed) for seed in range(max(counts))], TRAINING_POINTS, 1)
    first = training.start(recipe, root, training.grid_members([TRAINING_POINTS], 1, NOISE_RANGE))
    params, key = jax.tree.map(lambda leaf: leaf[0], first.params), first.key[0]
    points = drawn.points[drawn.train[0]]

    takes: dict[str, Callable] = {}
    for count in counts:
        members = training.grid_members([TRAINING_POINTS], count, NOISE_RANGE)
        takes[f"ensemble_{count}"] = ensemble(recipe, sharding.ensemble_mesh(count, batch), drawn, members, root)
    takes["jax_loop"] = jax_loop(recipe, points, params, key)
    if HAS_TORCH:
        for threads in [1] if on_gpu() else sorted({2**power for power in range(CORES.bit_length())} | {CORES}):
            takes[f"pytorch_{threads}_threads"] = pytorch(np.asarray(points), params, batch, threads)

    # All from the weights of the first member, with its draws.
    draws = [draw(points, key, step, batch) for step in range(CHECKED_STEPS)]
    first_call_s, change = {}, {}
    for name, take in takes.items():
        begin = time.perf_counter()
        ends = take(CHECKED_STEPS, draws) if name.startswith("pytorch") else take(CHECKED_STEPS)
        first_call_s[name] = time.perf_counter() - begin
        if name.startswith("ensemble"):
            ends = jax.tree.map(lambda leaf: leaf[0], ends)
        change[name] = np.concatenate([flat(end) - flat(params) for end in ends[:2]])
    difference = {
        name: float(np.linalg.norm(change[name] - change["jax_loop"]) / np.linalg.norm(change["jax_loop"]))
        for name in takes
    }

    steps = {name: steps_per_call(take) for name, take in takes.items()}
    seconds = interleave({name: partial(take, steps[name]) for name, take in takes.items()}, repeats)
    model_steps = {name: steps[name] * int(name.split("_")[1] if "ensemble" in name else 1) for name in takes}
    ms = {
        name: {kind: 1e3 * seconds[name][f"{kind}_s"] / model_steps[name] for kind in ("median", "min")}
        for name in takes
    }

    kernels = [*(layer["kernel"].size for layer in params["hidden"].values()), params["last"]["kernel"].size]
    # Forward, gradient to the weights, gradient to what goes in; the last is not needed at the first layer.
    flops = 2 * batch * (3 * sum(kernels) - kernels[0])
    gflops = matmul_gflops(width, repeats)
    bound = max(gflops.values())
    used = {name: flops / ms[name]["min"] * 1e3 / 1e9 / bound for name in takes}

    ours = f"ensemble_{CLAIMED_MEMBERS}"
    peers = [name for name in takes if name.startswith("pytorch")]
    times = min(ms[name]["median"] for name in peers) / ms[ours]["median"] if peers else None
    claims = [
        {
            "claim": f"{FASTER_THAN_PYTORCH[d]:g} times the model-steps per second of PyTorch, on two cores",
            "found": times,
            "met": None if times is None else times >= FASTER_THAN_PYTORCH[d],
        }
    ]
    if d in HALF_OF_BOUND:
        claims.append({"claim": "half of the rate of bare products", "found": used[ours], "met": used[ours] >= 0.5})
    return {
        "d": d,
        "width": width,
        "batch": batch,
        "depth": DEPTH,
        "cores": CORES,
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
        "jax": jax.__version__,
        "torch": version("torch") if HAS_TORCH else "skipped: not installed (pip install 'geomem-jax[peers]')",
        "first_call_s": first_call_s,
        "ms_per_model_step": ms,
        "model_steps_per_s": {name: 1e3 / ms[name]["median"] for name in takes},
        "flops_per_model_step": flops,
        "matmul_gflops": gflops,
        "bound_gflops": bound,
        "used_of_bound": used,
        "claims": claims,
        "difference_from_jax_loop": difference,
        "agrees": max(difference.values()) <= AGREEMENT,
    }


if __name__ == "__main__":
    sys.exit(run(__file__, __doc__, measure, QUICK, FULL))
