"""What a program takes, read off the program before it is compiled: bytes held at a time, products, seconds.

Bytes are those of a program that computes its equations in order and frees each array after its last use; a compiler
that fuses equations holds less.  Operations are those of matrix products and convolutions, two for each multiplication
and addition; loops whose number of turns depends on numbers count as one turn.
"""

import functools
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

Jaxpr = Any  # jax.extend.core.Jaxpr, whose stubs know no attributes
RATE_SIZE = 1024  # of the matrices whose products are timed
DECOMPOSED_SIZE = 128  # of the matrices whose singular values are timed


def _inner(equation: Any) -> Iterator[Jaxpr]:
    """Programs within an equation: bodies of loops, branches, called functions."""
    leaves = jax.tree.leaves(
        list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "jaxpr") or hasattr(leaf, "eqns")
    )
    for leaf in leaves:
        inner = getattr(leaf, "jaxpr", leaf)
        if hasattr(inner, "eqns"):
            yield inner


def _bytes(variable: Any) -> int:
    aval = variable.aval
    return math.prod(aval.shape) * aval.dtype.itemsize if hasattr(aval, "shape") else 0


def held_bytes(program: Jaxpr) -> int:
    """Most bytes that a program holds at a time beyond its arguments, its results included."""
    last_use = {}
    for step, equation in enumerate(program.eqns):
        for variable in (*equation.invars, *equation.outvars):
            if not isinstance(variable, jax.extend.core.Literal):
                last_use[variable] = step
    for variable in program.outvars:
        if not isinstance(variable, jax.extend.core.Literal):
            last_use[variable] = len(program.eqns)
    ends: dict[int, int] = {}
    held = most = 0
    for step, equation in enumerate(program.eqns):
        within = max((held_bytes(inner) for inner in _inner(equation)), default=0)
        if equation.primitive.name not in ("scan", "while"):  # whose turns have results of their own
            within -= min(within, sum(_bytes(variable) for variable in equation.outvars))
        for variable in equation.outvars:
            held += _bytes(variable)
            ends[last_use[variable]] = ends.get(last_use[variable], 0) + _bytes(variable)
        most = max(most, held + within)
        held -= ends.get(step, 0)
    return most


def operations(program: Jaxpr) -> int:
    """Floating-point operations of the matrix products and convolutions of a program."""
    total = 0
    for equation in program.eqns:
        shapes = [
            variable.aval.shape for variable in (*equation.invars, *equation.outvars) if hasattr(variable, "aval")
        ]
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * math.prod(shapes[-1]) * math.prod(shapes[0][axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            # Every entry of the kernel (out, in, ...) once for every point of the result and each of its images.
            dimensions = equation.params["dimension_numbers"]
            out = dimensions.out_spec
            total += 2 * math.prod(shapes[1]) * math.prod(shapes[2]) // shapes[2][out[1]]
        turns = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        total += turns * sum(operations(inner) for inner in _inner(equation))
    return total


def _seconds(call: Any, matrix: jax.Array) -> float:
    """Shortest of a few timed calls."""
    jax.block_until_ready(call(matrix))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        jax.block_until_ready(call(matrix))
        times.append(time.perf_counter() - begin)
    return min(times)


@functools.cache
def product_rate(dtype: str) -> float:
    """Operations per second of a large matrix product on the default device, measured once: tenths of a second."""
    matrix = jnp.full((RATE_SIZE, RATE_SIZE), 1 / RATE_SIZE, dtype)
    return 2 * RATE_SIZE**3 / _seconds(jax.jit(lambda matrix: matrix @ matrix), matrix)


@functools.cache
def decomposition_seconds(dtype: str) -> float:
    """Seconds that the singular values of a ``(1, 1)`` matrix would take if the time were cubic at all sizes."""
    matrix = jax.random.normal(jax.random.key(0), (DECOMPOSED_SIZE, DECOMPOSED_SIZE), dtype)
    values = jax.jit(functools.partial(jnp.linalg.svd, compute_uv=False))
    return _seconds(values, matrix) / DECOMPOSED_SIZE**3
