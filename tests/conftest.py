"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator

# Before NumPy is loaded, here and in subprocesses: tests run in several processes, whose threads of BLAS would wait for
# each other; for the small matrices here one thread is as fast.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Compile quickly in the default selection, where programs of small arrays run once or twice.

    Most of its time would go into optimizing them.  Unoptimized, and by the older of XLA's two emitters of kernels for
    the CPU (known to jaxlib 0.10 to 0.12; a flag it does not know ends the process), they are compiled in a third of
    the time.  Their rounding is another one, which is a test in itself.  Slow tests, notebooks and benchmarks compile
    as users do.
    """
    if "not slow" in config.option.markexpr:  # as by default: pyproject.toml
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for subprocesses
        jax.config.update("jax_disable_most_optimizations", True)
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false".strip()


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def x64(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run the test twice, in single and in double precision, and leave the configuration as it was."""
    with jax.enable_x64(request.param):
        yield request.param
