r"""Mutual information between a data point and its noised version.

Model.  :math:`x=y+\sqrt t\,z` with Gaussian :math:`y` of variances :math:`\sigma_i^2`; ``t`` is a noise variance.

Result.

.. math:: I(t) = I(y;x) = \tfrac12\sum_i\log\Bigl(1+\frac{\sigma_i^2}t\Bigr)\quad\text{(nats)}. \tag{1}

Reading.  The training set is a random codebook of :math:`N` words.  A noised point tells :math:`I(t)` nats about the
point it came from; while :math:`I(t)<\log N` it cannot tell which word that was, and nothing is memorized.

Scope.  Exact for Gaussian data, an upper bound for other data of the same covariance.
Source.  Shannon's formula for the Gaussian channel; the condensation criterion :math:`I(t_c)=\log N` is that of
Biroli et al. (2024), arXiv 2402.18491, for the collapse time.
"""

import jax
import jax.numpy as jnp

from ._inputs import ArrayLike, as_positive, as_variances, working_dtype


@jax.jit
def _mutual_information(variances: jax.Array, t: jax.Array) -> jax.Array:
    return 0.5 * jnp.sum(jnp.log1p(variances / t[..., None]), axis=-1)


def mutual_information(variances: ArrayLike, t: ArrayLike) -> jax.Array:
    r"""Return :math:`I(t)=\tfrac12\sum_i\log(1+\sigma_i^2/t)` in nats, eq. (1).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      t: noise variance ``> 0``, of any shape ``s``.

    Returns:
      Information in nats, shape ``s``.

    Raises:
      ValueError: for variances that are negative or not finite, or ``t`` that is not positive and finite.

    Example:
      >>> round(float(mutual_information([3.0, 3.0, 0.0], t=1.0)), 4)  # two directions of half log 4
      1.3863
    """
    dtype = working_dtype(variances, t)
    return _mutual_information(as_variances(variances, dtype), as_positive("t", t, dtype))
