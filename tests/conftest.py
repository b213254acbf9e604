"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator

# Before NumPy is loaded, here and in subprocesses: tests run in several processes, whose threads of BLAS would wait for
# each other; for the small matrices here one thread is as fast.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def x64(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run the test twice, in single and in double precision, and leave the configuration as it was."""
    with jax.enable_x64(request.param):
        yield request.param
