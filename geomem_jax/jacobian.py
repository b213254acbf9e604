r"""Jacobians of any denoiser: gains, singular values, eigenvalues; fast, and within a limit of memory.

All is said of :math:`G=\nabla_xD(x,t)`, ``(d, d)``.  The score is :math:`s=(D-x)/t`, so that
:math:`t\,\nabla s=G-1`: frozen directions have a singular value of 1 there, directions of large variance one near 0.

A model is a function ``(x, t) -> x_hat`` of one point ``(d,)`` and a noise variance.  Given as a pytree,
``jax.tree_util.Partial(denoise, params)``, one compiled program serves all parameters, as it serves all ``t``.  The
solvable rungs, :class:`geomem_jax.denoisers.population.Model`, :class:`geomem_jax.denoisers.linear.LinearModel` and
:class:`geomem_jax.denoisers.empirical_jacobian.Model`, are measured by their closed forms
(:mod:`geomem_jax.closed_forms`); everything else by forward-mode products, the model linearized once at every point.
Products along many directions are matrix products of many rows, and reverse mode has no fewer of them while it holds
more.

Points and directions are taken in batches that a limit of memory allows (:mod:`geomem_jax.batching`); results do not
depend on these beyond rounding.  Points that are spread over devices, as by :func:`geomem_jax.sharding.put` with
``PartitionSpec("batch")``, are measured where they are.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from geomem_jax import batching, closed_forms
from geomem_jax.batching import MEMORY_LIMIT, Plan, Quantity, Sizes
from geomem_jax.denoisers.empirical import in_chunks
from geomem_jax.errors import InputError
from geomem_jax.products import Model, check_points, check_result


class Spectrum(NamedTuple):
    """Spectra at ``B`` points.

    Attributes:
      singular_values: ``(B, d)`` of G - 1, descending.
      eigenvalues: ``(B, d)`` of the symmetric part of G, descending.
      asymmetry: ``(B,)`` Frobenius norm of G less its transpose, over that of their sum; 0 for the gradient of a
        function, as every exact score is.
    """

    singular_values: jax.Array
    eigenvalues: jax.Array
    asymmetry: jax.Array


def gains(
    model: Model,
    x: jax.Array,
    t: jax.Array | float,
    basis: jax.Array | None = None,
    *,
    memory_limit: int = MEMORY_LIMIT,
) -> jax.Array:
    r"""Gains :math:`g_i = u_i^\top G\,u_i` at every point.

    Args:
      model: the denoiser of one point.
      x: points ``(B, d)``.
      t: noise variance.
      basis: ``(d, k)``, orthonormal directions in columns; the coordinate axes by default.
      memory_limit: bytes to be held at a time beyond the arguments, results included.

    Returns:
      ``(B, k)``.

    Raises:
      InputError: as :func:`geomem_jax.products.check_call`, if the basis does not fit, or if one point and one
        direction at a time need more memory than the limit.
    """
    return _measure("gains", model, x, t, basis, memory_limit)


def singular_values(model: Model, x: jax.Array, t: jax.Array | float, *, memory_limit: int = MEMORY_LIMIT) -> jax.Array:
    """Singular values of G - 1 at every point, descending, ``(B, d)``; arguments and errors as of :func:`gains`."""
    return _measure("singular_values", model, x, t, None, memory_limit)


def spectrum(model: Model, x: jax.Array, t: jax.Array | float, *, memory_limit: int = MEMORY_LIMIT) -> Spectrum:
    """Spectra at every point; arguments and errors as of :func:`gains`.

    Where singular values are all that is wanted, :func:`singular_values` takes little more than half the time.
    """
    return _measure("spectrum", model, x, t, None, memory_limit)


def full(model: Model, x: jax.Array, t: jax.Array | float, *, memory_limit: int = MEMORY_LIMIT) -> jax.Array:
    """G itself at every point, ``(B, d, d)``; arguments and errors as of :func:`gains`."""
    return _measure("full", model, x, t, None, memory_limit)


def plan(
    model: Model,
    x: jax.Array,
    t: jax.Array | float,
    basis: jax.Array | None = None,
    *,
    of: Quantity = "spectrum",
    memory_limit: int = MEMORY_LIMIT,
) -> Plan:
    """Say what one of the functions here would take, without computing it; ``print(plan)`` is a line.

    It compiles the program, which the function then need not, and times a matrix product once per process.

    Args:
      model: as of the function, as are ``x``, ``t``, ``basis`` and ``memory_limit``.
      x: points.
      t: noise variance.
      basis: of gains.
      of: the name of the function.
      memory_limit: bytes.

    Raises:
      InputError: as the function.
    """
    return batching.plan(_program, of, _checked(model, x, t, basis), memory_limit)


def _checked(model: Model, x: jax.Array, t: jax.Array | float, basis: jax.Array | None) -> tuple:
    """The arguments of the program."""
    model, x, t = check_points(model, x, t)
    basis = None if basis is None else jnp.asarray(basis, x.dtype)
    if basis is not None and (basis.ndim != 2 or basis.shape[0] != x.shape[1] or not basis.size):
        raise InputError(f"basis must be ({x.shape[1]}, k), directions in columns, got shape {basis.shape}")
    return model, x, t, basis


def _measure(
    quantity: Quantity, model: Model, x: jax.Array, t: jax.Array | float, basis: jax.Array | None, memory_limit: int
) -> Any:
    arguments = _checked(model, x, t, basis)
    sizes = batching.sizes(_program, quantity, arguments, memory_limit)
    return _program(*arguments, quantity=quantity, sizes=sizes)


@functools.partial(jax.jit, static_argnames=("quantity", "sizes"))
def _program(model: Any, x: jax.Array, t: jax.Array, basis: jax.Array | None, quantity: Quantity, sizes: Sizes) -> Any:
    """Measure points in batches; each device its own, if they are spread over some."""
    local = functools.partial(_local, quantity=quantity, sizes=sizes)
    if sizes.mesh is None:
        return local(model, x, t, basis)
    split = P(sizes.axes)
    # Nothing is summed over devices, so nothing needs checking; models with loops of their own would not pass.
    return jax.shard_map(local, mesh=sizes.mesh, in_specs=(P(), split, P(), P()), out_specs=split, check_vma=False)(
        model, x, t, basis
    )


def _local(model: Any, x: jax.Array, t: jax.Array, basis: jax.Array | None, quantity: Quantity, sizes: Sizes) -> Any:
    """Measure the points of one device."""
    if closed_forms.exists(model):
        chunk = functools.partial(_exactly, quantity, model, t, basis)
    else:
        chunk = functools.partial(_by_products, quantity, model, t, basis, sizes.directions)
    return in_chunks(chunk, x, sizes.points)


def _exactly(quantity: Quantity, model: Any, t: jax.Array, basis: jax.Array | None, x: jax.Array) -> Any:
    """A quantity at a batch of points, by the closed form."""
    if quantity == "gains":
        return closed_forms.gains(model, x, t, jnp.eye(x.shape[1], dtype=x.dtype) if basis is None else basis)
    if quantity == "full":
        return closed_forms.full(model, x, t)
    eigenvalues = closed_forms.eigenvalues(model, x, t)
    values = jnp.sort(jnp.abs(eigenvalues - 1), axis=1)[:, ::-1]
    return values if quantity == "singular_values" else Spectrum(values, eigenvalues, jnp.zeros_like(values[:, 0]))


def _by_products(
    quantity: Quantity,
    model: Model,
    t: jax.Array,
    basis: jax.Array | None,
    directions: int,
    x: jax.Array,
) -> Any:
    """A quantity at a batch of points, by products of the Jacobian with so many directions at a time."""
    dimension = x.shape[1]

    def direction(index: jax.Array) -> jax.Array:
        return (jnp.arange(dimension) == index).astype(x.dtype) if basis is None else basis[:, index]

    def at_point(point: jax.Array) -> jax.Array:
        denoised, product = jax.linearize(lambda point: model(point, t), point)
        check_result(denoised.shape, point)

        def along(index: jax.Array) -> jax.Array:
            moved = product(direction(index))
            return jnp.sum(direction(index) * moved) if quantity == "gains" else moved

        return in_chunks(jax.vmap(along), jnp.arange(dimension if basis is None else basis.shape[1]), directions)

    found = jax.vmap(at_point)(x)
    if quantity == "gains":
        return found
    jacobian = jnp.swapaxes(found, 1, 2)
    if quantity == "full":
        return jacobian
    values = jnp.linalg.svd(jacobian - jnp.eye(dimension, dtype=x.dtype), compute_uv=False)
    if quantity == "singular_values":
        return values
    total, difference = jacobian + found, jacobian - found
    norms = jnp.linalg.norm(total, axis=(1, 2)), jnp.linalg.norm(difference, axis=(1, 2))
    asymmetry = jnp.where(norms[1] > 0, norms[1] / norms[0], 0)
    return Spectrum(values, jnp.linalg.eigvalsh(total / 2)[:, ::-1], asymmetry)
