"""The convolutional network against plain sums in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from geomem_jax.denoisers import convolutional

SHAPE, WIDTH, DEPTH, V = (4, 5, 2), 3, 2, 0.3


def convolve(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Correlate an image (h, w, c) with a kernel (3, 3, c, out), zeros outside."""
    height, width, _ = image.shape
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((height, width, kernel.shape[-1])) + bias
    for row in range(height):
        for column in range(width):
            patch = padded[row : row + 3, column : column + 3]
            out[row, column] += np.tensordot(patch, kernel, axes=3)
    return out


def test_equals_the_sums_as_written(x64: bool) -> None:
    model = convolutional.edm_convolutional(SHAPE, WIDTH, DEPTH, V)
    params = model.init(jax.random.key(0))
    params["last"]["kernel"] = jax.random.normal(jax.random.key(1), (3, 3, WIDTH, 2))
    rng = np.random.default_rng(2)
    image = rng.normal(size=SHAPE)
    t = 0.2
    found = model.denoise(params, jnp.asarray(image.reshape(-1)), jnp.asarray(t, float))

    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    angles = np.log(t) / 8 * np.pi / 2 * 2.0 ** np.arange(8)
    embedded = np.concatenate([np.sin(angles), np.cos(angles)]) @ weights["embed"]["kernel"]
    hidden = image / np.sqrt(V + t)
    for index in range(DEPTH):
        layer = weights["hidden"][index]
        hidden = convolve(hidden, layer["kernel"], layer["bias"]) + (embedded if index == 0 else 0)
        hidden = hidden / (1 + np.exp(-hidden))
    output = convolve(hidden, weights["last"]["kernel"], weights["last"]["bias"])
    expected = V / (V + t) * image + np.sqrt(V * t / (V + t)) * output
    # Rounding of sums of some 30 terms of order 1; a wrong tap is wrong by 0.1 and more.
    np.testing.assert_allclose(found, expected.reshape(-1), atol=1e-12 if x64 else 1e-5)


def test_starts_from_the_skip_connection() -> None:
    model = convolutional.edm_convolutional(SHAPE, WIDTH, DEPTH, V)
    x = jnp.arange(40.0)
    found = model.denoise(model.init(jax.random.key(0)), x, jnp.float32(0.1))
    np.testing.assert_allclose(found, 0.75 * x, rtol=1e-6)
    np.testing.assert_allclose(model.weight(jnp.float32(0.1)), 0.4 / 0.03, rtol=1e-6)


def test_noise_enters() -> None:
    model = convolutional.edm_convolutional(SHAPE, WIDTH, DEPTH, V)
    params = model.init(jax.random.key(0))
    params["last"]["kernel"] = jax.random.normal(jax.random.key(1), (3, 3, WIDTH, 2))
    silent = params | {"embed": {"kernel": jnp.zeros_like(params["embed"]["kernel"])}}
    x = jnp.linspace(-1, 1, 40)
    difference = model.denoise(params, x, jnp.float32(0.1)) - model.denoise(silent, x, jnp.float32(0.1))
    assert jnp.abs(difference).max() > 1e-2
