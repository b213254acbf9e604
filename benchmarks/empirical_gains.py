"""How fast are all gains of the empirical score, and in how much memory?

The claim: `geomem_jax.denoisers.empirical.posterior` finds the gains of 256 points in all directions at a small
multiple of the time of the three matrix products that they need, in memory that holds the data and little else: a
million points of 64 dimensions in less than 1.5 GB.

It races against the direct formula in NumPy (float32, weights of at most 64 MB at a time), `jax.jacfwd` through the
score, and the bare products x @ Y.T, W @ Y, W @ (Y * Y), in blocks as the code under test has them and at once.  Each
size runs in a process of its own, so that peak memory is that of its data and of `posterior`.  The exit status is 1 if
gains differ from the direct formula in float64 by more than the bound that the module `empirical` states.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import theory
from geomem_jax import sweep
from geomem_jax.denoisers import empirical

POINTS = 256
CHECKED = 16  # points compared with float64
JACFWD_SIZE = (5000, 128)
QUICK = [(5000, 64, 3), (*JACFWD_SIZE, 3)]  # points, dimensions, repeats
FULL = [
    (*JACFWD_SIZE, 11),
    *((n, d, 3 if n >= 10**6 else 11) for n in (10**4, 10**5, 10**6) for d in (64, 128, 784) if n * d < 2 * 10**8),
]
NUMPY_WEIGHTS = 2**24  # weights that exist at a time in the direct formula
UNBLOCKED_WEIGHTS = 2**28  # products are formed at once only up to this number of weights


@partial(jax.jit, static_argnums=(1, 2))
def draw(key: jax.Array, n: int, d: int) -> tuple[jax.Array, jax.Array]:
    """Training points, a quarter of the variances 1 and the others 0.09, and as many standard normals as points."""
    data_key, noise_key = jax.random.split(key)
    stds = jnp.where(jnp.arange(d) < d // 4, 1.0, 0.3)
    return stds * jax.random.normal(data_key, (n, d)), jax.random.normal(noise_key, (POINTS, d))


def direct(data: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
    """Gains from the formula as written, in the precision of the data."""
    half_norms, squares = np.sum(data**2, axis=1) / 2, data**2
    gains = []
    for points in np.array_split(x, -(-len(x) * len(data) // NUMPY_WEIGHTS)):
        weights = points @ data.T
        weights -= half_norms
        weights /= t
        weights -= weights.max(axis=1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=1, keepdims=True)
        gains.append((weights @ squares - (weights @ data) ** 2) / t)
    return np.concatenate(gains)


def jacfwd(data: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """All gains of all points by forward differentiation of the score."""
    half_norms = jnp.sum(data**2, axis=1) / 2

    def score(x: jax.Array) -> jax.Array:
        return (jax.nn.softmax((data @ x - half_norms) / t) @ data - x) / t

    return lax.map(lambda x: 1 + t * jnp.diag(jax.jacfwd(score)(x)), x, batch_size=16)


def products(data: jax.Array, x: jax.Array, block: int) -> tuple[jax.Array, jax.Array]:
    """The three products and nothing else, the data taken in blocks."""
    dot = partial(jnp.matmul, precision=lax.Precision.HIGHEST)

    def step(index: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        y = lax.dynamic_slice_in_dim(data, jnp.minimum(index * block, len(data) - block), block)
        weights = dot(x, y.T)
        return sums[0] + dot(weights, y), sums[1] + dot(weights, y * y)

    return lax.fori_loop(0, -(-len(data) // block), step, (jnp.zeros_like(x), jnp.zeros_like(x)))


def interleave(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of each call, taken in turn so that a slow moment of the machine hits all of them.

    After a pause: the threads of NumPy's matrix products wait busily for some 25 ms, at the cost of what runs next.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            time.sleep(0.05)
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return {name: {"median_s": statistics.median(s), "min_s": min(s)} for name, s in seconds.items()}


def peak_host_bytes() -> int:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # else KiB


def measure(n: int, d: int, repeats: int) -> dict[str, object]:
    """Race one size and check its gains."""
    data, noise = draw(jax.random.key(0), n, d)
    t = float(theory.condensation_time([1.0] * (d // 4) + [0.09] * (d - d // 4), n))
    # Half the points are noised training points, half typical of the noised population.
    stds = jnp.where(jnp.arange(d) < d // 4, 1.0, 0.3)
    x = jnp.concatenate([data[: POINTS // 2], jnp.zeros((POINTS // 2, d))])
    spread = jnp.where(jnp.arange(POINTS)[:, None] < POINTS // 2, jnp.sqrt(t), jnp.sqrt(t + stds**2))
    x = x + spread * noise

    compile_s = {}

    def compiled(name: str, function: Callable, *arguments: object, **static: int) -> Callable[[], object]:
        start = time.perf_counter()
        program = jax.jit(function, static_argnames=tuple(static)).lower(*arguments, **static).compile()
        compile_s[name] = time.perf_counter() - start
        jax.block_until_ready(program(*arguments))
        return lambda: program(*arguments)

    calls = {"posterior": compiled("posterior", empirical.posterior, data, n, x, t)}
    posterior = calls["posterior"]()
    jax.block_until_ready(posterior)
    peak_host = peak_host_bytes()  # read before anything else is run
    peak_device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    calls["blocked_products"] = compiled("blocked_products", products, data, x, block=min(n, empirical.BLOCK))
    if POINTS * n <= UNBLOCKED_WEIGHTS:
        calls["products"] = compiled("products", products, data, x, block=n)
    if (n, d) == JACFWD_SIZE:
        calls["jacfwd"] = compiled("jacfwd", jacfwd, data, x, t)
    data_host, x_host = np.asarray(data), np.asarray(x)
    calls["numpy"] = lambda: direct(data_host, x_host, t)
    seconds = interleave(calls, repeats)

    checked = np.linspace(0, POINTS - 1, CHECKED).astype(int)
    expected = direct(data_host.astype(np.float64), x_host[checked].astype(np.float64), t)
    centre = data_host.mean(axis=0, dtype=np.float64)
    largest = max(float(np.sum((block - centre) ** 2, axis=1).max()) for block in np.array_split(data_host, 100))
    norms = np.sum((x_host[checked] - centre) ** 2, axis=1, keepdims=True) + largest
    tolerance = 1e-4 + 4 * np.finfo(x_host.dtype).eps * norms / t * expected  # equation (2) of the module
    errors = np.abs(np.asarray(posterior.gain)[checked] - expected)
    return {
        "n": n,
        "d": d,
        "points": POINTS,
        "t": t,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "compile_s": compile_s,
        "seconds": seconds,
        "times_posterior": {name: s["median_s"] / seconds["posterior"]["median_s"] for name, s in seconds.items()},
        "posterior_over": {
            name: seconds["posterior"]["median_s"] / seconds[name]["median_s"]
            for name in ("products", "blocked_products")
            if name in seconds
        },
        "peak_host_mb": peak_host / 1e6,
        "peak_device_mb": None if peak_device is None else peak_device / 1e6,
        "data_mb": data.nbytes / 1e6,
        "mean_gain": float(expected.mean()),
        "largest_error": float(errors.max()),
        "largest_error_over_tolerance": float((errors / tolerance).max()),
        "agrees": bool(np.all(errors <= tolerance)),
    }


def processor() -> str:
    """Name of the processor of this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def records(
    benchmark: str, measure: Callable[..., dict[str, object]], cases: Sequence[tuple]
) -> Iterator[dict[str, object]]:
    """Measure every case in a fresh process."""
    origin = {"benchmark": benchmark, "commit": sweep._commit(), "processor": processor()}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for case in cases:
            yield origin | processes.submit(measure, *case).result()


def run(
    path: str,
    description: str,
    measure: Callable[..., dict[str, object]],
    quick: Sequence[tuple],
    full: Sequence[tuple],
) -> int:
    """Command line of the benchmark in the file ``path``: print one JSON object per case; return the exit status."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases only: seconds")
    parser.add_argument("--out", type=Path, help="file to which the JSON lines are appended")
    options = parser.parse_args()
    agrees = True
    for record in records(Path(path).stem, measure, quick if options.quick else full):
        line = json.dumps(record)
        print(line, flush=True)
        if options.out is not None:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        agrees = agrees and bool(record["agrees"])
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(run(__file__, __doc__, measure, QUICK, FULL))
