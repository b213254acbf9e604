"""Gains of the empirical score against NumPy, automatic differentiation and the bare matrix products.

Prints one JSON object per case; ``--quick`` takes seconds.  Times are medians of interleaved repeats after compilation.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from geomem_jax.denoisers import empirical

T = 0.3
QUERIES = 256


@jax.jit
def bare_products(data: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The three products that the gains need, in the same blocks, and nothing else."""
    block = min(empirical.BLOCK, len(data))

    def step(index: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        points = jax.lax.dynamic_slice_in_dim(data, index * block, block)
        weights = x @ points.T
        return sums[0] + weights @ points, sums[1] + weights @ points**2

    return jax.lax.fori_loop(0, len(data) // block, step, (jnp.zeros_like(x), jnp.zeros_like(x)))


@jax.jit
def by_differentiation(data: jax.Array, x: jax.Array) -> jax.Array:
    """All gains from the Jacobian of the denoiser, sixteen points at a time."""
    jacobian = jax.jacfwd(empirical.denoise, argnums=1)
    return jax.lax.map(lambda point: jnp.diagonal(jacobian(data, point, T)), x, batch_size=16)


def by_numpy(data: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The direct formula, sixteen points at a time."""
    gains = []
    for points in np.split(x, len(x) // 16):
        log_weights = (points @ data.T - 0.5 * (data**2).sum(axis=1)) / T
        weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        gains.append((weights @ data**2 - (weights @ data) ** 2) / T)
    return np.concatenate(gains)


def times(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each function, called in turn."""
    for function in functions.values():
        jax.block_until_ready(function())
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> int:
    """Run the cases; exit status 1 if the gains disagree with NumPy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    full = [(n, d) for n in (10**4, 10**5, 10**6) for d in (64, 128, 784) if n * d < 10**8]
    cases = [(5000, 64), (5000, 128)] if arguments.quick else [(5000, 128), *full]
    failed = False
    for n, d in cases:
        data_key, point_key = jax.random.split(jax.random.key(0))
        data = jax.random.normal(data_key, (n, d))
        x = data[:QUERIES] + T**0.5 * jax.random.normal(point_key, (QUERIES, d))
        functions: dict[str, Callable[[], object]] = {
            "gains_s": partial(empirical.posterior, data, n, x, T),
            "products_s": partial(bare_products, data, x),
        }
        record: dict[str, object] = {"n": n, "d": d, "queries": QUERIES, "device": jax.devices()[0].device_kind}
        if n <= 10**5:
            host = np.asarray(data), np.asarray(x)
            functions["numpy_s"] = partial(by_numpy, *host)
            # The plain moments lose eps |y|^2/t about a mean of 0; 1e-3 is far above that and far below a wrong term.
            error = float(np.abs(np.asarray(empirical.posterior(data, n, x, T).gain) - by_numpy(*host)).max())
            record["max_difference_from_numpy"] = error
            failed |= not error < 1e-3
        if n == 5000 and d == 128:
            functions["jacfwd_s"] = partial(by_differentiation, data, x)
        found = times(functions, 2 if arguments.quick else 5)
        record |= found | {f"{name[:-2]}_over_gains": value / found["gains_s"] for name, value in found.items()}
        record["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        record["jax"] = jax.__version__
        print(json.dumps(record), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
