"""How much memory and time do spectra of a Jacobian take that is too large to be formed?

The claim: at 4 points of d = 12 288 dimensions (64 x 64 x 3), with a small convolutional network, the 64 largest
eigenvalues with vectors, the trace and the spectral density are found in less than 4 GB of memory.

Each case runs in a process of its own, so that peak memory is its own.  The check: over the 3072 channels and pixels of
the smaller images, eigenvalues, trace and density agree with the whole symmetric matrix of one point within the errors
stated; at the larger ones, where that cannot be had, the vectors are orthonormal and their residuals, formed again
by differentiation in the other order, are those stated.  The exit status is 1 if not, or if memory is above the claim.
"""

import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from empirical_gains import peak_host_bytes, run
from jax import lax
from jax.tree_util import Partial

from geomem_jax import matrix_free, quadrature

CHANNELS = (3, 32, 32, 3)
T = 0.1
CLAIM = 4e9  # bytes
# Side of the square images, points, eigenvalues, whether the whole matrix is formed.
QUICK = [(8, 2, 8, True)]
FULL = [(32, 4, 64, True), (64, 4, 64, False)]


def network(params: list[tuple[jax.Array, jax.Array]], x: jax.Array, t: jax.Array) -> jax.Array:
    """Three channels-last convolutions with a skip, of one flat image."""
    side = round((len(x) / CHANNELS[0]) ** 0.5)
    hidden = x.reshape(1, side, side, CHANNELS[0])
    for index, (kernel, bias) in enumerate(params):
        hidden = jax.nn.silu(hidden) if index else hidden
        hidden = bias + lax.conv_general_dilated(
            hidden, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return (x + hidden.reshape(-1)) / (1 + t)


def draw(key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Parameters, kernels of variance one over the fan-in."""
    keys = jax.random.split(key, len(CHANNELS) - 1)
    sizes = zip(keys, CHANNELS, CHANNELS[1:], strict=False)
    return [(jax.random.normal(key, (3, 3, a, b)) / (9 * a) ** 0.5, jnp.zeros(b)) for key, a, b in sizes]


def timed(call: Callable[[], object]) -> tuple[object, float]:
    """Return the result and the seconds it took, compilation included."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return result, time.perf_counter() - start


def within(found: jax.Array, exact: np.ndarray, errors: jax.Array) -> float:
    """Largest deviation over the error stated."""
    return float(np.max(np.abs(np.asarray(found, np.float64) - exact) / np.asarray(errors)))


def measure(side: int, points: int, k: int, whole: bool) -> dict[str, object]:
    """Find all three and check them."""
    d = CHANNELS[0] * side**2
    params_key, points_key, start_key, trace_key, density_key = jax.random.split(jax.random.key(0), 5)
    model = Partial(network, draw(params_key))
    x = jax.random.normal(points_key, (points, d))
    seconds = {}
    pairs, seconds["leading"] = timed(lambda: matrix_free.leading(start_key, model, x, T, k))
    traces, seconds["traces"] = timed(lambda: matrix_free.traces(trace_key, model, x, T))
    density, seconds["density"] = timed(lambda: quadrature.density(density_key, model, x, T))
    peak_host = peak_host_bytes()
    peak_device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    vectors = pairs.vectors[0]
    gram = np.asarray(vectors.T @ vectors)
    record = {
        "d": d,
        "points": points,
        "k": k,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "seconds": seconds,
        "peak_host_mb": peak_host / 1e6,
        "peak_device_mb": None if peak_device is None else peak_device / 1e6,
        "jacobian_mb": 4 * d**2 / 1e6,
        "largest": [float(value) for value in pairs.values[0, :: k - 1]],
        "largest_error": float(pairs.error.max()),
        "trace": float(traces.trace.value[0]),
        "trace_error": float(traces.trace.error[0]),
        "off_orthonormal": float(np.abs(gram - np.eye(k)).max()),
    }
    agrees = peak_host < CLAIM and record["off_orthonormal"] < 1e-4
    if whole:
        forward = jax.jit(lambda model, x: jax.jacfwd(lambda x: model(x, jnp.asarray(T)))(x))
        jacobian, seconds["whole_matrix_of_a_point"] = timed(lambda: np.asarray(forward(model, x[0]), np.float64))
        exact, seconds["its_eigenvalues"] = timed(lambda: np.linalg.eigvalsh((jacobian + jacobian.T) / 2)[::-1])
        at = jnp.asarray(exact[[d // 10, d // 2]], x.dtype)
        below = quadrature.cumulative(density, at)
        fractions = np.mean(exact[:, None] <= np.asarray(at), axis=0)
        record["over_stated"] = {
            "eigenvalues": within(pairs.values[0], exact[:k], pairs.error[0]),
            "trace": within(traces.trace.value[0], np.trace(jacobian), traces.trace.error[0]),
            "squares": within(traces.squares.value[0], np.sum(jacobian**2), traces.squares.error[0]),
            # The weight of a node beside the error over probes.
            "density": within(below.value[0], fractions, below.error[0] + 1 / 32),
        }
        over = record["over_stated"]
        agrees = agrees and over["eigenvalues"] <= 1 and all(over[name] < 4 for name in ("trace", "squares", "density"))
    else:

        def gradient_of_form(vector: jax.Array) -> jax.Array:
            """Half the gradient, by v, of v . G v, which is S v."""

            def form(v: jax.Array) -> jax.Array:
                return v @ jax.jvp(lambda x: model(x, jnp.asarray(T)), (x[0],), (v,))[1]

            return jax.grad(form)(vector) / 2

        images = jnp.stack([jax.jit(gradient_of_form)(vectors[:, index]) for index in (0, k - 1)])
        residuals = jnp.linalg.norm(images - pairs.values[0, :: k - 1, None] * vectors[:, :: k - 1].T, axis=1)
        record["residuals_over_stated"] = [float(r) for r in residuals / pairs.error[0, :: k - 1]]
        agrees = agrees and max(record["residuals_over_stated"]) <= 1.01
    return record | {"agrees": bool(agrees)}


if __name__ == "__main__":
    sys.exit(run(__file__, __doc__, measure, QUICK, FULL))
