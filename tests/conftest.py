"""Fixtures shared by all tests."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def x64(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run the test twice, in single and in double precision, and leave the configuration as it was."""
    with jax.enable_x64(request.param):
        yield request.param
