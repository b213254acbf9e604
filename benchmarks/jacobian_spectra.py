"""How fast are the Jacobians of 256 points measured, on one core?

The claims.  The singular values of all Jacobians of a network of three hidden layers of 512 units are found 1.8, 2 and
2.5 times as fast, at 64, 128 and 256 dimensions, as by `torch.func.vmap(jacrev)` and `svdvals`, and 10 times as fast
as by a loop of one backward pass per output; all gains 1.3 times and the gains of 16 directions 4 times as fast as the
full spectrum, singular values and eigenvalues of the symmetric part; the Jacobians alone take no more than twice the
time of the products that they need, at the rate of a large one.  A convolutional network on 16 x 16 pixels is 3 times
as fast as the loop.  The Jacobian of the empirical score in the span of its training points takes no more than 5 times
the time of the score.

It races `geomem_jax.jacobian` against PyTorch (skipped where torch is not installed), which has the same weights, and
against the centred normal bundle, the singular values of 4 d scores of noised points written plainly in JAX, which
is another quantity at the same cost.  On a CPU all run on one core and one thread; an accelerator is used as it is.
Claims that are not met are printed as such, those of singular values beside the ratio that the machine allows: with the
products at the rate of a large one, and the decomposition of matrices that are there already.  The exit status is 1 if
Jacobians or singular values disagree.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.metadata import version

if hasattr(os, "sched_setaffinity"):
    # One core, before JAX counts them.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np
from empirical_gains import interleave, run
from jax.tree_util import Partial

import theory
from geomem_jax import jacobian
from geomem_jax.denoisers import convolutional, edm, empirical_jacobian, mlp

HAS_TORCH = importlib.util.find_spec("torch") is not None
# As PyTorch does by default: on accelerators JAX would round factors to fewer bits.
jax.config.update("jax_default_matmul_precision", "highest")

POINTS = 256  # of the claims
QUICK = [("network", 64, 64, 2), ("convolutional", 256, 2, 2), ("empirical", 128, POINTS, 3)]
FULL = [
    *(("network", d, POINTS, repeats) for d, repeats in ((64, 9), (128, 7), (256, 4))),
    ("convolutional", 256, 16, 5),
    ("empirical", 128, POINTS, 15),
]
FASTER_THAN_VMAP = {64: 1.8, 128: 2.0, 256: 2.5}  # dimension: claim
FASTER_THAN_LOOP, FASTER_THAN_CONVOLUTIONAL_LOOP = 10.0, 3.0
FASTER_THAN_SPECTRUM = {"all_gains": 1.3, "top_16_gains": 4.0}
TIMES_SCORE = 5.0

WIDTH, DEPTH, DATA_VARIANCE, T = 512, 3, 0.5, 0.3
CHANNELS, SHAPE = 32, (16, 16, 1)
TRAINING_POINTS, RANK = 5000, 16
LOOP_POINTS = 4  # of the loop, whose time is proportional to them
CHECKED = 2  # points compared with float64
# Rounding: products of 512 terms of order 1, and singular values of matrices of norm 1.
AGREEMENT = 2e-5


def on_gpu() -> bool:
    """Whether both rivals have the GPU."""
    import torch

    return jax.default_backend() == "gpu" and torch.cuda.is_available()


def tensor(array: jax.Array) -> object:
    """Array of PyTorch, on its device."""
    import torch

    return torch.tensor(np.asarray(array), device="cuda" if on_gpu() else "cpu")


def torch_denoiser(params: dict, image: tuple[int, int, int] | None) -> Callable:
    """The same network of one point in PyTorch, channels first if it is of images."""
    import torch

    torch.set_num_threads(1)
    torch.set_default_device("cuda" if on_gpu() else "cpu")
    layers = [*(params["hidden"][index] for index in range(DEPTH)), params["last"]]
    kernels = [
        tensor(layer["kernel"].T if image is None else layer["kernel"].transpose(3, 2, 0, 1)) for layer in layers
    ]
    biases = [tensor(layer["bias"]) for layer in layers]
    total = torch.tensor(DATA_VARIANCE + T)
    angles = torch.log(torch.tensor(T)) / 8 * (np.pi / 2) * 2.0 ** torch.arange(edm.FREQUENCIES)
    noise = torch.cat([torch.sin(angles), torch.cos(angles)])
    functional = torch.nn.functional

    def network(x: object) -> object:
        if image is None:
            hidden = torch.cat([x, noise])
            for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
                hidden = functional.silu(functional.linear(hidden, kernel, bias))
            return functional.linear(hidden, kernels[-1], biases[-1])
        hidden = x.reshape(1, image[2], *image[:2])
        for index, (kernel, bias) in enumerate(zip(kernels[:-1], biases[:-1], strict=True)):
            moved = bias + noise @ tensor(params["embed"]["kernel"]) if index == 0 else bias
            hidden = functional.silu(functional.conv2d(hidden, kernel, moved, padding=1))
        return functional.conv2d(hidden, kernels[-1], biases[-1], padding=1).reshape(-1)

    def denoise(x: object) -> object:
        return DATA_VARIANCE / total * x + (DATA_VARIANCE * T / total).sqrt() * network(x * total.rsqrt())

    return denoise


def torch_rivals(params: dict, x: jax.Array, image: tuple[int, int, int] | None) -> dict[str, Callable[[], object]]:
    """Singular values of G - 1 by PyTorch; by the loop only at the first few points."""
    import torch

    denoise, points = torch_denoiser(params, image), tensor(x)
    identity = torch.eye(x.shape[1])
    jacobians = torch.func.vmap(torch.func.jacrev(denoise))

    def finished(values: object) -> np.ndarray:
        return values.cpu().numpy()  # waits for the device

    def batched() -> np.ndarray:
        return finished(torch.linalg.svdvals(jacobians(points) - identity))

    def loop() -> np.ndarray:
        found = []
        for point in points[:LOOP_POINTS]:
            point = point.clone().requires_grad_(True)
            output = denoise(point)
            rows = [torch.autograd.grad(entry, point, retain_graph=True)[0] for entry in output]
            found.append(torch.linalg.svdvals(torch.stack(rows) - identity))
        return finished(torch.stack(found))

    return {"torch_vmap_jacrev": batched, "torch_loop": loop}


def matmul_gflops(repeats: int) -> float:
    """Best rate of a large float32 product."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    square = jnp.full((size, size), 1 / size)
    calls: dict[str, Callable[[], object]] = {"xla": lambda: jnp.matmul(square, square)}
    if HAS_TORCH:
        peer = tensor(square)
        calls["torch"] = lambda: float((peer @ peer)[0, 0])
    for call in calls.values():
        jax.block_until_ready(call())
    seconds = interleave(calls, repeats)
    return 2 * size**3 / min(times["min_s"] for times in seconds.values()) / 1e9


def normal_bundle(model: Partial, x: jax.Array, key: jax.Array) -> jax.Array:
    """Singular values of 4 d scores of noised copies of every point, less their mean: the centred normal bundle."""
    d = x.shape[1]

    def at_point(point: jax.Array) -> jax.Array:
        copies = point + T**0.5 * jax.random.normal(key, (4 * d, d))
        scores = (jax.vmap(model, (0, None))(copies, jnp.float32(T)) - copies) / T
        return jnp.linalg.svd(scores - jnp.mean(scores, axis=0), compute_uv=False)

    return jax.lax.map(at_point, x, batch_size=4)


def claim(
    text: str, found: float | None, wanted: float, *, at_most: bool = False, allowed: float | None = None
) -> dict[str, object]:
    """A claim, what was found, and whether it is met; ``None`` if it could not be tried.

    With ``allowed``, the most that the machine can reach.
    """
    met = None if found is None else found <= wanted if at_most else found >= wanted
    return {"claim": text, "found": found, "met": met} | ({} if allowed is None else {"machine_allows": allowed})


def network(kind: str, d: int, count: int) -> tuple[Partial, dict, jax.Array, int]:
    """The network, its parameters, points, and what its Jacobian needs of products per point."""
    image = SHAPE if kind == "convolutional" else None
    model = convolutional.edm_convolutional(SHAPE, CHANNELS, DEPTH, DATA_VARIANCE) if image else None
    model = model or mlp.edm_mlp(d, WIDTH, DEPTH, DATA_VARIANCE)
    params = jax.jit(model.init)(jax.random.key(0))
    kernel = params["last"]["kernel"]
    # It starts at 0; at this size the singular values are spread around 1.
    params["last"]["kernel"] = (
        jax.random.normal(jax.random.key(1), kernel.shape) / (kernel.size / kernel.shape[-1]) ** 0.5
    )
    x = jax.random.normal(jax.random.key(2), (count, d))
    kernels = [*(params["hidden"][index]["kernel"] for index in range(DEPTH)), params["last"]["kernel"]]
    pixels = SHAPE[0] * SHAPE[1] if image else 1
    # Every weight once for each direction (and pixel); the product of a perceptron's first layer with the directions is
    # the same at all points.
    weights = sum(leaf.size for leaf in kernels) - (0 if image else kernels[0].size)
    return Partial(model.denoise, params), params, x, 2 * d * pixels * weights


def exact_jacobian(params: dict, x: np.ndarray) -> np.ndarray:
    """Jacobian of the multilayer perceptron at one point by the chain rule, in float64."""
    total = DATA_VARIANCE + T
    angles = np.log(T) / 8 * (np.pi / 2) * 2.0 ** np.arange(edm.FREQUENCIES)
    hidden = np.concatenate([x / total**0.5, np.sin(angles), np.cos(angles)])
    chain = np.eye(len(hidden))[:, : len(x)] / total**0.5
    for index in range(DEPTH):
        kernel, bias = (np.asarray(params["hidden"][index][name], np.float64) for name in ("kernel", "bias"))
        inner = hidden @ kernel + bias
        logistic = 1 / (1 + np.exp(-inner))
        hidden = inner * logistic
        chain = (logistic + hidden * (1 - logistic))[:, None] * (kernel.T @ chain)
    last = np.asarray(params["last"]["kernel"], np.float64)
    return DATA_VARIANCE / total * np.eye(len(x)) + (DATA_VARIANCE * T / total) ** 0.5 * last.T @ chain


def measure_network(kind: str, d: int, count: int, repeats: int) -> dict[str, object]:
    """Race one network."""
    model, params, x, flops_per_point = network(kind, d, count)
    basis = jnp.linalg.qr(jax.random.normal(jax.random.key(3), (d, 16)))[0]
    t = jnp.float32(T)
    matrices = jacobian.full(model, x, t) - jnp.eye(d)
    decompose = jax.jit(lambda matrices: jnp.linalg.svd(matrices, compute_uv=False))
    calls: dict[str, Callable[[], object]] = {
        "singular_values": lambda: jacobian.singular_values(model, x, t),
        "jacobians": lambda: jacobian.full(model, x, t),
        "svd_alone": lambda: decompose(matrices),
        "top_16_gains": lambda: jacobian.gains(model, x, t, basis),
    }
    if kind == "network":
        calls["all_gains"] = lambda: jacobian.gains(model, x, t)
        calls["spectrum"] = lambda: jacobian.spectrum(model, x, t)
        bundle = jax.jit(normal_bundle)
        calls["normal_bundle"] = lambda: bundle(model, x, jax.random.key(4))
    if HAS_TORCH:
        calls |= torch_rivals(params, x, SHAPE if kind == "convolutional" else None)

    results = {name: jax.block_until_ready(call()) for name, call in calls.items()}
    plans = {"singular_values": str(jacobian.plan(model, x, t, of="singular_values"))}
    seconds = interleave(calls, repeats)
    if HAS_TORCH:  # of as many points as the others
        share = min(LOOP_POINTS, count) / count
        seconds["torch_loop"] = {name: value / share for name, value in seconds["torch_loop"].items()}
    times = {name: found["min_s"] / seconds["singular_values"]["min_s"] for name, found in seconds.items()}
    gflops = matmul_gflops(repeats)
    achieved = flops_per_point * count / seconds["jacobians"]["min_s"] / 1e9

    if kind == "network":
        expected = np.stack([exact_jacobian(params, point) for point in np.asarray(x[:CHECKED], np.float64)])
    else:
        with jax.enable_x64(True):  # by forward mode too: in reverse mode it would take ten times as long as all else
            exact = Partial(model.func, jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params))
            wide = jnp.asarray(x[:CHECKED], jnp.float64)
            expected = np.asarray(jax.jit(jax.vmap(jax.jacfwd(lambda point: exact(point, jnp.float64(T)))))(wide))
    values = np.linalg.svd(expected - np.eye(d), compute_uv=False)
    directions = np.asarray(basis, np.float64)
    differences = {
        "jacobians": np.abs(np.asarray(results["jacobians"])[:CHECKED] - expected).max(),
        "top_16_gains": np.abs(
            np.asarray(results["top_16_gains"])[:CHECKED] - np.einsum("ik,bij,jk->bk", directions, expected, directions)
        ).max(),
        **{
            name: np.abs(np.asarray(results[name])[:CHECKED] - values).max()
            for name in ("singular_values", "torch_vmap_jacrev", "torch_loop")
            if name in results
        },
    }
    if kind == "network":
        gains = np.asarray(results["all_gains"])[:CHECKED]
        differences["all_gains"] = np.abs(gains - np.einsum("bii->bi", expected)).max()
    claims: list[dict[str, object]] = []
    vmap, loop = times.get("torch_vmap_jacrev"), times.get("torch_loop")
    least = flops_per_point * count / gflops / 1e9 + seconds["svd_alone"]["min_s"]
    allowed = None if vmap is None else seconds["torch_vmap_jacrev"]["min_s"] / least
    if kind == "convolutional":
        wanted = FASTER_THAN_CONVOLUTIONAL_LOOP
        claims = [claim(f"{wanted:g} times as fast as a loop of backward passes", loop, wanted)]
    elif count == POINTS:
        wanted = FASTER_THAN_VMAP[d]
        claims = [
            claim(f"{wanted:g} times as fast as vmap(jacrev) and svdvals", vmap, wanted, allowed=allowed),
            claim(f"{FASTER_THAN_LOOP:g} times as fast as a loop of backward passes", loop, FASTER_THAN_LOOP),
            *(
                claim(f"{name} {ratio:g} times as fast as the full spectrum", times["spectrum"] / times[name], ratio)
                for name, ratio in FASTER_THAN_SPECTRUM.items()
            ),
            claim("Jacobians at half of the rate of a large product", achieved / gflops, 0.5),
        ]
    return {
        "seconds": seconds,
        "times_singular_values": times,
        "flops": flops_per_point * count,
        "gflops": achieved,
        "matmul_gflops": gflops,
        "plans": plans,
        "claims": claims,
        "differences": {name: float(value) for name, value in differences.items()},
        "agrees": bool(max(differences.values()) <= AGREEMENT),
    }


def measure_empirical(d: int, count: int, repeats: int) -> dict[str, object]:
    """Race the Jacobian of the empirical score against the score; data of low rank."""
    data_key, basis_key, noise_key = jax.random.split(jax.random.key(0), 3)
    subspace = jnp.linalg.qr(jax.random.normal(basis_key, (d, RANK)))[0]
    data = jax.random.normal(data_key, (TRAINING_POINTS, RANK)) @ subspace.T
    t = theory.condensation_time(jnp.ones(RANK), TRAINING_POINTS)  # where some training points share the weight
    x = data[:count] + jnp.sqrt(t) * jax.random.normal(noise_key, (count, d))
    model = empirical_jacobian.fit(data)

    @jax.jit
    def score(data: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        weights = jax.nn.softmax((x @ data.T - jnp.sum(data**2, axis=1) / 2) / t)
        return (weights @ data - x) / t

    calls: dict[str, Callable[[], object]] = {
        "score": lambda: score(data, x, t),
        "score_in_span": lambda: score(model.coordinates, (x - model.origin) @ model.basis, t),
        "jacobian_in_span": lambda: empirical_jacobian.jacobian(model, x, t),
        "singular_values": lambda: jacobian.singular_values(model, x, t),
        "gains": lambda: jacobian.gains(model, x, t),
    }
    results = {name: jax.block_until_ready(call()) for name, call in calls.items()}
    seconds = interleave(calls, repeats)
    times = {name: found["min_s"] / seconds["score"]["min_s"] for name, found in seconds.items()}

    with jax.enable_x64(True):
        points, exact = jnp.asarray(x[:CHECKED], jnp.float64), jnp.asarray(data, jnp.float64)

        def denoise(x: jax.Array) -> jax.Array:
            return jax.nn.softmax(-jnp.sum((exact - x) ** 2, axis=1) / (2 * jnp.float64(t))) @ exact

        expected = np.asarray(jax.jit(jax.vmap(jax.jacfwd(denoise)))(points))
    basis = np.asarray(model.basis, np.float64)
    found = basis @ np.asarray(results["jacobian_in_span"], np.float64)[:CHECKED] @ basis.T
    gains = np.sqrt(np.maximum(np.einsum("bii->bi", expected), 0))
    norms = np.sum(np.asarray(x[:CHECKED]) ** 2, axis=1) + float(jnp.max(jnp.sum(data**2, axis=1)))
    # Equation (2) of `geomem_jax.denoisers.empirical`.
    relative = 4 * np.finfo(np.float32).eps * norms[:, None, None] / float(t)
    tolerance = 1e-4 + relative * gains[:, :, None] * gains[:, None, :]
    errors = np.abs(found - expected)
    return {
        "n": TRAINING_POINTS,
        "rank": RANK,
        "t": float(t),
        "seconds": seconds,
        "times_score": times,
        "plans": {"singular_values": str(jacobian.plan(model, x, t, of="singular_values"))},
        "claims": [claim("5 times the time of the score", times["jacobian_in_span"], TIMES_SCORE, at_most=True)],
        "differences": {"jacobian_in_span": float(errors.max())},
        "largest_error_over_tolerance": float((errors / tolerance).max()),
        "agrees": bool(np.all(errors <= tolerance)),
    }


def measure(kind: str, d: int, count: int, repeats: int) -> dict[str, object]:
    """Race one case."""
    measured = measure_empirical(d, count, repeats) if kind == "empirical" else measure_network(kind, d, count, repeats)
    return {
        "kind": kind,
        "d": d,
        "points": count,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "torch": version("torch") if HAS_TORCH else "skipped: not installed (pip install 'geomem-jax[peers]')",
        **measured,
    }


if __name__ == "__main__":
    sys.exit(run(__file__, __doc__, measure, QUICK, FULL))
