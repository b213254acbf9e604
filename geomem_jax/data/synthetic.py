r"""Linear manifolds: Gaussian data of given variances, also on the unit sphere or in a larger space.

Model.  :math:`y = \sum_i \sqrt{v_i}\,\xi_i\,u_i` with independent standard normal :math:`\xi_i` and
orthonormal directions :math:`u_i`: the axes, or the columns of a Haar random orthogonal matrix.

Normalized data are :math:`y/|y|`.  They are not Gaussian, but every reflection :math:`y_i \to -y_i` leaves
their law unchanged, so the directions stay uncorrelated, and with
:math:`|y|^{-2} = \int_0^\infty e^{-s|y|^2}\,ds` and
:math:`\mathbb E\,y_i^2e^{-sy_i^2} = v_i(1+2sv_i)^{-3/2}` their variances are

.. math:: \mathbb E\frac{y_i^2}{|y|^2}
   = \int_0^\infty \frac{v_i}{1+2sv_i} \prod_j (1+2sv_j)^{-1/2}\,ds. \qquad (1)

They sum to one, because the sum of the integrands is minus the derivative of the product.

Source.  Rederived here.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from geomem_jax.data.source import MAX_BASIS, Draw, Source
from geomem_jax.errors import InputError
from geomem_jax.spectra import check_variances

BLOCK = 2**18  # random numbers per block: tens of milliseconds of work, a megabyte of memory


def linear_manifold(
    variances: ArrayLike,
    *,
    normalized: bool = False,
    embedding: int | None = None,
    embedding_key: jax.Array | None = None,
    name: str = "linear manifold",
) -> Source:
    """Build a source of zero-mean points with the given variances along orthonormal directions.

    Args:
      variances: ``(d,)`` in any order, in squared units of the data; zeros are null directions.
      normalized: divide each point by its norm.  The variances of the source are then those of the normalized
        points, equation (1), and it does not count as Gaussian.
      embedding: dimension ``D >= d`` of a larger space, reached by adding ``D - d`` null directions and a
        random rotation; the basis and the variances of the source then have size ``D``.
      embedding_key: key of the rotation; required with ``embedding``.
      name: shown in figures and reports.

    Returns:
      A source whose draws are nested bit for bit: the first ``k`` of ``n`` rows are the draw of ``k`` rows.

    Raises:
      InputError: if :func:`geomem_jax.spectra.check_variances` refuses the variances, if ``embedding`` is
        smaller than ``d`` or too large, or if only one of ``embedding`` and ``embedding_key`` is given.
    """
    variances = np.sort(check_variances(variances))[::-1]
    # The norm is divided out, so any scale will do: this one keeps squares away from the ends of float32.
    stds = np.sqrt(variances / variances[0] if normalized else variances)
    if normalized:
        variances = normalized_variances(variances)
    basis = _basis(len(variances), embedding, embedding_key)
    if basis is not None:
        variances = np.pad(variances, (0, len(basis) - len(variances)))

    def draw(key: jax.Array, num_train: int, num_held_out: int) -> Draw:
        train_key, held_out_key = jax.random.split(key)
        rotation = None if basis is None else basis[:, : len(stds)].T
        return Draw(
            _points(train_key, num_train, stds, rotation, normalized),
            _points(held_out_key, num_held_out, stds, rotation, normalized),
        )

    return Source(
        name=name,
        variances=variances,
        basis=basis,
        gaussian=not normalized,
        centred=False,
        max_points=None,
        draw=draw,
    )


def normalized_variances(variances: np.ndarray) -> np.ndarray:
    r"""Variances of :math:`y/|y|` for zero-mean Gaussian ``y``, equation (1), relative error about 1e-14.

    The trapezoid rule in :math:`\log s`.  There the integrand is analytic for :math:`|\mathrm{Im}| < \pi`, so
    the error falls as :math:`e^{-2\pi^2/h}` with the step ``h``: 1e-34 at 1/4.  The range leaves out a
    relative :math:`e^{-40}` on either side: the integrand rises as ``s`` and falls at least as
    :math:`s^{-1/2}`.

    Args:
      variances: ``(d,)``, not negative, not all zero.

    Returns:
      ``(d,)``, summing to one.
    """
    positive = variances > 0
    log_2v = np.log(2 * variances[positive])
    step = 0.25
    total = np.zeros_like(log_2v)
    for log_s in np.arange(-np.log(2 * variances.sum()) - 40, 80 - log_2v.min(), step):
        z = log_s + log_2v  # log of 2 s v: logarithms throughout, since 2 s v itself can overflow
        log_product = -0.5 * np.logaddexp(0, z).sum()
        total += 0.5 * np.exp(log_product - np.logaddexp(0, -z))
    result = np.zeros(len(variances))
    result[positive] = step * total
    return result


def _basis(num_variances: int, embedding: int | None, key: jax.Array | None) -> np.ndarray | None:
    """Haar random orthogonal matrix ``(D, D)``, or ``None`` without an embedding."""
    if (embedding is None) != (key is None):
        raise InputError(f"embedding={embedding}: embedding and embedding_key go together; give both or neither")
    if embedding is None or key is None:
        return None
    if not num_variances <= embedding <= MAX_BASIS:
        raise InputError(
            f"embedding={embedding}: the larger space needs at least the {num_variances} dimensions of the "
            f"variances and at most {MAX_BASIS}"
        )
    return haar(key, embedding)


def haar(key: jax.Array, dimension: int) -> np.ndarray:
    """Draw a Haar random orthogonal matrix ``(dimension, dimension)``."""
    gaussian = np.asarray(jax.random.normal(key, (dimension, dimension)), np.float64)
    q, r = np.linalg.qr(gaussian)
    # QR is unique, and its Q Haar distributed, only once the diagonal of R is made positive.
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)


def _points(
    key: jax.Array, num_points: int, stds: np.ndarray, rotation: np.ndarray | None, normalized: bool
) -> jax.Array:
    """Draw ``(num_points, D)``, of which the first rows do not depend on ``num_points``."""
    scale, turn = jnp.asarray(stds), None if rotation is None else jnp.asarray(rotation)
    block = functools.partial(_block, stds=scale, rotation=turn, normalized=normalized)
    return in_blocks(key, num_points, max(1, BLOCK // len(stds)), block)


def in_blocks(key: jax.Array, num_points: int, rows: int, block: Callable[[jax.Array, int], jax.Array]) -> jax.Array:
    """Draw ``num_points`` rows of ``block(key, rows)``, of which the first do not depend on ``num_points``.

    Each block has its own key and always the same shape: one compiled program serves every size, which is
    also what makes draws of different sizes agree bit for bit.
    """
    if num_points < 0:
        raise InputError(f"number of points {num_points}: must not be negative")
    num_blocks = max(1, -(-num_points // rows))
    blocks = [block(jax.random.fold_in(key, i), rows) for i in range(num_blocks)]
    blocks[-1] = blocks[-1][: num_points - (num_blocks - 1) * rows]
    return jnp.concatenate(blocks)


@functools.partial(jax.jit, static_argnames=("rows", "normalized"))
def _block(key: jax.Array, rows: int, stds: jax.Array, rotation: jax.Array | None, normalized: bool) -> jax.Array:
    points = stds * jax.random.normal(key, (rows, len(stds)), stds.dtype)
    if normalized:
        points /= jnp.linalg.norm(points, axis=1, keepdims=True)
    if rotation is not None:
        # Full precision: null directions stay null to rounding also where products default to fewer bits.
        points = jnp.matmul(points, rotation, precision=jax.lax.Precision.HIGHEST)
    return points
