"""What is measured of an ensemble at a training step: gains and denoising errors of every member."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from geomem_jax import jacobian
from geomem_jax.denoisers.trainable import Params, Trainable
from geomem_jax.training import Data, Members


class Snapshot(NamedTuple):
    """Statistics over points, ``(S, 3, T, d)``: member, point class (train, held_out, origin), noise, direction.

    Attributes:
      gain: mean.
      gain_sem: its standard error; nan at the origin, which is one point.
      gain_median: median.
      error: mean squared denoising error along the direction; nan at the origin.  At held-out points its sum over
        directions is what :func:`theory.information_from_mmse` wants.
    """

    gain: jax.Array
    gain_sem: jax.Array
    gain_median: jax.Array
    error: jax.Array


@partial(jax.jit, static_argnames=("model", "mesh", "points"))
def measure(
    model: Trainable,
    mesh: Mesh,
    data: Data,
    members: Members,
    params: Params,
    noise_keys: jax.Array,
    basis: jax.Array,
    t: jax.Array,
    points: int,
) -> Snapshot:
    """Measure every member at its own training points, at points held out from it, and at the origin.

    Args:
      model: the denoiser.
      mesh: as in training.
      data: points and training sets.
      members: the ensemble, ``(S,)``.
      params: of every member, usually the averaged ones, ``State.ema``.
      noise_keys: ``(R, 2)``, per seed the key of the noise at training points and at held-out points; as in a sweep
        it is drawn along the directions.
      basis: ``(d, d)`` directions in columns.
      t: ``(T,)`` noise variances.
      points: per class; where there are fewer, they are used again with other noise.

    Returns:
      A :class:`Snapshot`.
    """

    def at_points(params: Params, clean: jax.Array, key: jax.Array, basis: jax.Array, t: jax.Array) -> Snapshot:
        along = jax.random.normal(key, clean.shape, clean.dtype)
        noise = jnp.matmul(along, basis.T, precision=jax.lax.Precision.HIGHEST)

        def at_noise(t: jax.Array) -> Snapshot:
            noisy = clean + jnp.sqrt(t) * noise
            gain = jacobian.gains(partial(model.denoise, params), noisy, t, basis)
            denoised = jax.vmap(model.denoise, (None, 0, None))(params, noisy, t)
            error = jnp.matmul(denoised - clean, basis, precision=jax.lax.Precision.HIGHEST)
            sem = jnp.std(gain, axis=0, ddof=1) / jnp.sqrt(points)
            return Snapshot(jnp.mean(gain, axis=0), sem, jnp.median(gain, axis=0), jnp.mean(error**2, axis=0))

        return jax.lax.map(at_noise, t)

    def at_origin(params: Params, origin: jax.Array, basis: jax.Array, t: jax.Array) -> Snapshot:
        gain = jax.lax.map(lambda t: jacobian.gains(partial(model.denoise, params), origin, t, basis)[0], t)
        return Snapshot(gain, jnp.full_like(gain, jnp.nan), gain, jnp.full_like(gain, jnp.nan))

    def one(
        member: Members, params: Params, data: Data, noise_keys: jax.Array, origin: jax.Array, *grid: jax.Array
    ) -> Snapshot:
        own = data.train[member.seed, jnp.arange(points) % member.size]
        others = data.held_out[member.seed, jnp.arange(points) % data.held_out.shape[1]]
        keys = noise_keys[member.seed]
        classes = [
            at_points(params, data.points[own], keys[0], *grid),
            at_points(params, data.points[others], keys[1], *grid),
            at_origin(params, origin, *grid),
        ]
        return jax.tree.map(lambda *parts: jnp.stack(parts), *classes)

    def on_device(members: Members, params: Params, data: Data, noise_keys: jax.Array, *rest: jax.Array) -> Snapshot:
        # Derivative rules do not mix what differs between devices, as parameters, with what does not.
        rest = jax.tree.map(lambda part: jax.lax.pcast(part, "member", to="varying"), rest)
        return jax.vmap(one, (0, 0, *[None] * (2 + len(rest))))(members, params, data, noise_keys, *rest)

    spread = P("member")
    # Each member's points are not split over the batch axis: devices along it would repeat the work of the first.
    return jax.shard_map(on_device, mesh=mesh, in_specs=(spread, spread, P(), P(), P(), P(), P()), out_specs=spread)(
        members, params, data, noise_keys, jnp.zeros((1, basis.shape[0]), t.dtype), basis, t
    )
