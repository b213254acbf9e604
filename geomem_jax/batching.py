"""How many points, and how many directions, are taken at a time within a limit of memory; and what it will take.

Sizes are chosen from the program as written (:mod:`geomem_jax.memory`).  Where arguments are arrays, the program is
then compiled, and sizes fall until what the compiler says it holds is within the limit too.  The estimate is the larger
one as a rule, and on a CPU nearer to the truth, as the compiler does not count what the libraries that it calls hold.
Inside a caller's ``jit`` there is nothing compiled to ask, and under ``vmap`` all is held once for each of the batch.

On a CPU no more is taken at a time than its caches hold, which is faster than larger batches.
"""

import functools
import math
from typing import Any, Literal, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding

from geomem_jax import closed_forms, memory
from geomem_jax.errors import InputError

MEMORY_LIMIT = 2**30  # bytes, by default
CACHE_BYTES = 10 * 2**20  # of a core of a CPU, two levels of them
LEAST_DIRECTIONS = 64  # at a time, if the limit allows: with fewer rows, matrix products are slow

Quantity = Literal["gains", "singular_values", "spectrum", "full"]
# Decompositions, in units of the singular values.
DECOMPOSITIONS = {"gains": 0, "singular_values": 1, "spectrum": 2, "full": 0}


class Sizes(NamedTuple):
    """How a program is laid out.

    Attributes:
      points: at a time, on each device.
      directions: at a time at each of these points.
      mesh: of devices that the points are spread over; ``None`` if they are on one.
      axes: of the mesh, that split the points.
    """

    points: int
    directions: int
    mesh: Mesh | None = None
    axes: tuple[str, ...] = ()


class Plan(NamedTuple):
    """What a measurement takes; as a string, a line.

    Attributes:
      sizes: points and directions at a time.
      bytes: held at a time beyond the arguments, on each device, results included.
      memory_limit: on these bytes.
      operations: of matrix products and convolutions, in all, two for each multiplication and addition.
      seconds: that these would take at the rate of a large matrix product, with the decompositions at the rate of one;
        rather the least than the expected.
    """

    sizes: Sizes
    bytes: int
    memory_limit: int
    operations: int
    seconds: float

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"{self.sizes.points} points and {self.sizes.directions} directions at a time: "
            f"{self.bytes / 1e6:.3g} MB of at most {self.memory_limit / 1e6:.3g} MB, "
            f"{self.operations / 1e9:.3g} GFLOP, {self.seconds:.2g} s or more"
        )


def _abstract(arguments: tuple) -> tuple:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jax.numpy.shape(leaf), jax.numpy.result_type(leaf)), arguments
    )


def _local(arguments: tuple, points: int) -> tuple:
    """Arguments with another number of points."""
    model, x, t, basis = arguments
    return model, jax.ShapeDtypeStruct((points, x.shape[1]), x.dtype), t, basis


def _traced(program: Any, quantity: Quantity, arguments: tuple, sizes: Sizes) -> memory.Jaxpr:
    alone = functools.partial(program, quantity=quantity, sizes=sizes._replace(mesh=None, axes=()))
    return jax.make_jaxpr(alone)(*arguments).jaxpr


def _estimated(program: Any, quantity: Quantity, arguments: tuple, memory_limit: int) -> tuple[Sizes, int]:
    """Sizes within the limit by the program as written, and the bytes that it holds."""
    count, dimension = arguments[1].shape
    directions = dimension if arguments[3] is None else arguments[3].shape[1]

    def held(points: int, directions: int, count: int | None = None) -> int:
        local = _local(arguments, points if count is None else count)
        return memory.held_bytes(_traced(program, quantity, local, Sizes(points, directions)))

    def affordable(one: int, two: int, room: int) -> int:
        return 1 + max(0, room - one) // max(1, two - one)

    fixed = held(1, 1, count) - held(1, 1)  # results, and points in batches
    room = memory_limit - fixed
    wanted = min(room, CACHE_BYTES) if jax.default_backend() == "cpu" else room
    whole = held(1, directions)
    if whole <= wanted or closed_forms.exists(arguments[0]):
        points = min(count, affordable(whole, held(2, directions), wanted)) if count > 1 else 1
    else:
        points = 1
        least = min(directions, LEAST_DIRECTIONS)
        directions = min(directions, max(least, affordable(held(1, 1), held(1, 2), wanted)))
    # The last batch is filled up with points that do not count: as few as possible.
    points = min(range(-(-points * 3 // 4), points + 1), key=lambda points: (-(-count // points) * points, -points))
    # The estimate is not quite linear in the sizes.
    sizes = Sizes(points, directions)
    while (found := held(*sizes[:2], count)) > memory_limit:
        sizes = _fewer(sizes, arguments[0], found, memory_limit, "by the program as written")
    return sizes, found


def _compiled_bytes(program: Any, quantity: Quantity, arguments: tuple, sizes: Sizes) -> int:
    held = program.lower(*arguments, quantity=quantity, sizes=sizes).compile().memory_analysis()
    return 0 if held is None else held.temp_size_in_bytes + held.output_size_in_bytes


@functools.lru_cache(maxsize=256)
def _fitted(
    program: Any,
    quantity: Quantity,
    structure: Any,
    leaves: tuple,
    sharding: Any,
    memory_limit: int,
) -> tuple[Sizes, int]:
    """Sizes within the limit by the compiler, and the bytes."""
    arguments = jax.tree.unflatten(structure, leaves)
    model, x, t, basis = arguments
    mesh, devices = None, 1
    axes: tuple[str, ...] = ()
    if sharding is not None:
        first = sharding.spec[0]
        mesh, axes = sharding.mesh, first if isinstance(first, tuple) else (first,)
        devices = math.prod(mesh.shape[axis] for axis in axes)
    local = _local(arguments, x.shape[0] // devices)
    sizes, estimate = _estimated(program, quantity, local, memory_limit)
    placed = model, jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), t, basis
    while True:
        sizes = sizes._replace(mesh=mesh, axes=axes)
        found = _compiled_bytes(program, quantity, placed, sizes)
        if found <= memory_limit:
            return sizes, max(found, estimate)
        sizes = _fewer(sizes, model, found, memory_limit, "by the compiled program")


def _fewer(sizes: Sizes, model: Any, found: int, memory_limit: int, source: str) -> Sizes:
    """Smaller sizes."""
    if sizes.points > 1:
        return sizes._replace(points=max(1, sizes.points * 3 // 4))
    if sizes.directions > 1 and not closed_forms.exists(model):
        return sizes._replace(directions=max(1, sizes.directions * 3 // 4))
    raise InputError(
        f"memory_limit is {memory_limit} bytes, and one point and one direction at a time, with all results, take "
        f"{found} {source}; allow a little more than that, or pass fewer points"
    )


def _sharding(x: jax.Array) -> NamedSharding | None:
    """How points are spread over devices, if they are."""
    sharding = x.sharding
    if isinstance(sharding, NamedSharding) and len(sharding.spec) > 0 and sharding.spec[0] is not None:
        return sharding
    return None


def _fit(program: Any, quantity: Quantity, arguments: tuple, memory_limit: int) -> tuple[Sizes, int]:
    leaves, structure = jax.tree.flatten(arguments)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return _estimated(program, quantity, _abstract(arguments), memory_limit)
    shapes = jax.tree.leaves(_abstract(arguments))
    return _fitted(program, quantity, structure, tuple(shapes), _sharding(arguments[1]), memory_limit)


def sizes(program: Any, quantity: Quantity, arguments: tuple, memory_limit: int) -> Sizes:
    """Choose how many points and directions are taken at a time.

    Args:
      program: jitted, of ``arguments`` with the static keywords ``quantity`` and ``sizes``.
      quantity: what it computes.
      arguments: model, points ``(B, d)``, noise variance, basis or ``None``.
      memory_limit: bytes beyond the arguments, results included, on each device.

    Raises:
      InputError: if the smallest sizes need more than the limit.
    """
    return _fit(program, quantity, arguments, memory_limit)[0]


def plan(program: Any, quantity: Quantity, arguments: tuple, memory_limit: int) -> Plan:
    """Say what the program takes; arguments and errors as of :func:`sizes`, arrays all."""
    sizes, found = _fit(program, quantity, arguments, memory_limit)
    model, x, _, _ = arguments
    size = x.shape[1]
    if closed_forms.exists(model):
        operations, size = closed_forms.operations(model, len(x)), closed_forms.decomposed_size(model, size)
    else:
        operations = memory.operations(_traced(program, quantity, _abstract(arguments), sizes))
    dtype = str(x.dtype)
    seconds = operations / memory.product_rate(dtype)
    if DECOMPOSITIONS[quantity]:
        seconds += DECOMPOSITIONS[quantity] * len(x) * size**3 * memory.decomposition_seconds(dtype)
    return Plan(sizes, found, memory_limit, operations, seconds)
