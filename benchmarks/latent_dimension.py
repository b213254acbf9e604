"""Which estimators find the dimension of a manifold that is known, and with what interval?

The claims: from a network trained on a plane, the total gap of the Jacobian and that of the centred normal bundle give
its dimension or say that there is no gap, at every noise; and the estimates from points agree with scikit-dimension on
the same points (`pip install 'geomem-jax[peers]'`; skipped and said so where it is not installed).

For every manifold of `geomem_jax.data.manifolds`: estimates from the points alone, then from two denoisers at held-out
points and several noises, the exact score of the points (which has memorized them where the noise is small, and then
leaves no dimension) and a network trained on them.  Noise is given in units of the standard deviation of the data per
dimension.  On curved manifolds no rule can know what the network has not resolved: numbers that are found and wrong are
listed, as those of the exact score are.  Each record holds all rows; on standard error they are printed as a table.
The exit status is 1 if a claim fails.
"""

import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
from empirical_gains import run

from geomem_jax import dimension, model_free, sharding, training
from geomem_jax.data import Source, manifolds
from geomem_jax.denoisers import mlp

HAS_PEER = importlib.util.find_spec("skdim") is not None
KEY = jax.random.key(7)
ZOO: dict[str, Callable[[int], manifolds.Manifold]] = {
    "affine": lambda d: manifolds.affine(16, d, KEY),
    "two_level": lambda d: manifolds.two_level((4, 8), (1.0, 0.09), d, KEY),
    "sphere": lambda d: manifolds.sphere(8, d, KEY),
    "torus": lambda d: manifolds.torus(4, d, KEY),
    "squiggly": lambda d: manifolds.squiggly(4, d, KEY),
    "spheres": lambda d: manifolds.spheres([2, 8], d, KEY),
    "hidden_manifold": lambda d: manifolds.hidden_manifold(8, d, KEY),
    "small_affine": lambda d: manifolds.affine(4, d, KEY),
}
# Name, ambient dimensions, training points, width of the network, training steps.
QUICK = [("small_affine", 24, 800, 128, 600)]
FULL = [(name, 128, 5000, 512, 4000) for name in ("affine", "two_level", "sphere", "torus", "squiggly", "spheres")] + [
    ("hidden_manifold", 400, 5000, 512, 4000)
]
NOISES = (0.05, 0.1, 0.2, 0.4, 0.8)
POINTS, COPIES_PER_DIMENSION = 32, 4
NEIGHBOURS, PCA_NEIGHBOURS, PCA_POINTS = 20, 100, 200
Row = dict[str, object]


def row(estimator: str, found: dimension.Dimension, seconds: float, **more: object) -> Row:
    """Write an estimate as numbers that JSON knows."""
    numbers = zip(("estimate", "lower", "upper", "confidence"), found[:4], strict=True)
    plain = {name: float(value) if np.isfinite(value) else None for name, value in numbers}
    return {"estimator": estimator, **more, **plain, "found": found.found, "seconds": seconds}


def timed(call: Callable[..., dimension.Dimension], *arguments: object) -> tuple[dimension.Dimension, float]:
    """Call and time."""
    start = time.perf_counter()
    found = call(*arguments)
    return found, time.perf_counter() - start


def from_points(points: np.ndarray) -> list[Row]:
    """Estimates that need no model, compiled before they are timed."""
    calls = {
        "maximum_likelihood": lambda: model_free.maximum_likelihood(points, NEIGHBOURS),
        "two_neighbours": lambda: model_free.two_neighbours(points),
        "local_pca": lambda: model_free.local_pca(points, PCA_NEIGHBOURS, PCA_POINTS),
    }
    for call in calls.values():
        call()
    return [row(name, *timed(call)) for name, call in calls.items()]


def from_peer(points: np.ndarray) -> list[Row]:
    """The same from scikit-dimension, without intervals."""
    import skdim

    queries = np.linspace(0, len(points), PCA_POINTS, endpoint=False).astype(int)
    calls = {
        "skdim MLE": lambda: skdim.id.MLE().fit(points, n_neighbors=NEIGHBOURS).dimension_,
        "skdim TwoNN": lambda: skdim.id.TwoNN().fit(points).dimension_,
        "skdim lPCA": lambda: np.mean(
            [skdim.id.lPCA().fit(points[near]).dimension_ for near in nearest_rows(points, queries)]
        ),
        "skdim FisherS": lambda: skdim.id.FisherS().fit(points).dimension_,
    }
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, call in calls.items():
            start = time.perf_counter()
            value = float(call())
            found = dimension.Dimension(value, np.nan, np.nan, np.nan, bool(np.isfinite(value)), np.array([value]))
            rows.append(row(name, found, time.perf_counter() - start))
    return rows


def nearest_rows(points: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Neighbours of the queries, for the peer's estimator of one neighbourhood."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=PCA_NEIGHBOURS + 1).fit(points).kneighbors(points[queries])[1]
    return found[:, 1:]


def from_spectra(
    model: str, std: float, spectra: np.ndarray, traces: np.ndarray, norms: np.ndarray, bundle: np.ndarray
) -> list[Row]:
    """All estimates from a denoiser at one noise."""
    calls = {
        "total_gap": lambda: dimension.total_gap(spectra),
        "normal_bundle": lambda: dimension.total_gap(bundle),
        "threshold": lambda: dimension.threshold_dimension(spectra),
        "soft": lambda: dimension.soft_dimension(traces),
        "flipd": lambda: dimension.flipd(traces, norms, std**2),
        "cliff": lambda: dimension.cliff(spectra),
        "cliff_average": lambda: dimension.cliff(spectra, average=True),
    }
    rows = [row(name, *timed(call), model=model, std=std) for name, call in calls.items()]
    plain = dimension.largest_drop(spectra)
    return [*rows, {"estimator": "largest_drop", "model": model, "std": std, "estimate": float(plain.mean())}]


def exact_score(data: np.ndarray) -> Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]:
    """Denoised point and Jacobian of the exact score of the points, as written, in float64."""
    half_norms = np.sum(data**2, axis=1) / 2

    def at(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        logits = (data @ x - half_norms) / t
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        mean = weights @ data
        used = weights > 1e-12
        centred = data[used] - mean
        return mean, (centred.T * weights[used]) @ centred / t

    return at


def exact_rows(data: np.ndarray, x: np.ndarray, std: float) -> list[Row]:
    """All estimates from the exact score."""
    t, at = std**2, exact_score(data)
    generator = np.random.default_rng(0)
    d = x.shape[1]
    found = [at(point, t) for point in x]
    spectra = np.stack([np.linalg.svd(jacobian - np.eye(d), compute_uv=False) for _, jacobian in found])
    traces = np.array([np.trace(jacobian) for _, jacobian in found])
    norms = np.linalg.norm([(mean - point) / t for (mean, _), point in zip(found, x, strict=True)], axis=1)
    half_norms = np.sum(data**2, axis=1) / 2
    bundle = []
    for point in x:
        noised = point + std * generator.standard_normal((COPIES_PER_DIMENSION * d, d))
        logits = (noised @ data.T - half_norms) / t
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = (weights @ data / weights.sum(axis=1, keepdims=True) - noised) / t
        bundle.append(np.linalg.svd(scores - scores.mean(axis=0), compute_uv=False) * std / np.sqrt(len(scores) - 1))
    return from_spectra("exact score", std, spectra, traces, norms, np.stack(bundle))


def train(source: Source, data: training.Data, width: int, steps: int, scale: float) -> Callable:
    """Train a network and return its denoiser ``(x, t) -> x_hat``."""
    d, size = data.points.shape[1], data.train.shape[1]
    recipe = training.Recipe(
        mlp.edm_mlp(d, width, 3, float(np.mean(source.variances))),
        training.optimizer("adam", 2e-3, clip=1.0, warmup=100),
        batch_size=256,
        ema_decay=0.999,
    )
    members = training.grid_members([size], 1, (0.4 * NOISES[0] * scale, 4 * NOISES[-1] * scale))
    state = training.start(recipe, jax.random.key(1), members)
    (state,) = training.train(recipe, sharding.ensemble_mesh(1, 256), data, members, state, (steps,))
    params = jax.tree.map(lambda leaf: leaf[0], state.ema)
    return lambda x, t: recipe.model.denoise(params, x, t)


def network_spectra(denoise: Callable) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]]:
    """Spectra, traces, norms of scores and spectra of centred scores; compiled once for all noises."""

    def one(point: jax.Array, key: jax.Array, t: jax.Array) -> tuple[jax.Array, ...]:
        d = len(point)
        jacobian = jax.jacfwd(denoise)(point, t)
        noised = point + jnp.sqrt(t) * jax.random.normal(key, (COPIES_PER_DIMENSION * d, d))
        scores = (jax.vmap(lambda copy: denoise(copy, t))(noised) - noised) / t
        return (
            jnp.linalg.svd(jacobian - jnp.eye(d), compute_uv=False),
            jnp.trace(jacobian),
            jnp.linalg.norm((denoise(point, t) - point) / t),
            jnp.linalg.svd(scores - jnp.mean(scores, axis=0), compute_uv=False) * jnp.sqrt(t / (len(scores) - 1)),
        )

    def at(x: jax.Array, t: jax.Array) -> tuple[jax.Array, ...]:
        keys = jax.random.split(jax.random.key(2), len(x))
        return jax.lax.map(lambda args: one(*args, t), (x, keys))

    return jax.jit(at)


def measure(name: str, ambient: int, size: int, width: int, steps: int) -> dict[str, object]:
    """All estimates for one manifold."""
    manifold = ZOO[name](ambient)
    data = training.draw_data(manifold.source, [jax.random.key(0)], size, POINTS)
    points, x = (np.asarray(data.points[part[0]], float) for part in (data.train, data.held_out))
    _, own = manifold.dimensions(jax.random.key(0), size, POINTS)
    rows = from_points(points) + (from_peer(points) if HAS_PEER else [])

    scale = float(np.sqrt(manifold.source.variances.sum() / manifold.dimension))
    start = time.perf_counter()
    denoise = train(manifold.source, data, width, steps, scale)
    train_s = time.perf_counter() - start
    spectra_of = network_spectra(denoise)
    for noise in NOISES:
        std = noise * scale
        rows += exact_rows(points, x, std)
        found = spectra_of(jnp.asarray(x, data.points.dtype), jnp.asarray(std**2, data.points.dtype))
        rows += from_spectra("network", std, *map(np.asarray, found))
    by_name = {str(each["estimator"]): each for each in rows if "model" not in each}
    # Dimensions of a mixture differ from point to point; the median over points may be any of them.
    wrong = [
        {name: each[name] for name in ("estimator", "model", "std", "estimate", "confidence")}
        for each in rows
        if each["estimator"] in ("total_gap", "normal_bundle")
        and each["found"]
        and not (float(each["lower"]) <= max(own) and float(each["upper"]) >= min(own))
    ]
    right = "affine" not in name or all(each["model"] != "network" for each in wrong)
    same = not HAS_PEER or (
        abs(by_name["maximum_likelihood"]["estimate"] / by_name["skdim MLE"]["estimate"] - 1) < 1e-3
        and by_name["two_neighbours"]["lower"] < by_name["skdim TwoNN"]["estimate"] < by_name["two_neighbours"]["upper"]
    )
    truth = sorted(set(own.tolist()))
    print_table(f"{manifold.source.name} in {ambient}, N = {size}: truth {truth}", rows)
    return {
        "manifold": name,
        "truth": truth,
        "ambient": ambient,
        "n": size,
        "points": POINTS,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "scikit_dimension": version("scikit-dimension") if HAS_PEER else "not installed: skipped",
        "network": {"width": width, "steps": steps, "train_s": train_s},
        "rows": rows,
        "found_and_wrong": wrong,
        "agrees_with_peer": same if HAS_PEER else None,
        "agrees": right and same,
    }


def print_table(title: str, rows: list[Row]) -> None:
    """Print one line per estimate to standard error."""
    print(f"\n{title}" + ("" if HAS_PEER else "; scikit-dimension not installed: skipped"), file=sys.stderr)
    for each in rows:
        where = f"{each['model']}, std {each['std']:.3g}" if "model" in each else "points"
        shown = "no gap" if each["estimate"] is None else f"{each['estimate']:.2f}"
        if each.get("lower") is not None:
            shown += f" [{each['lower']:.2f}, {each['upper']:.2f}]"
        if each.get("confidence") is not None:
            shown += f"  confidence {each['confidence']:.3g}"
        print(f"  {where:24s} {each['estimator']:20s} {shown}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(__file__, __doc__, measure, QUICK, FULL))
