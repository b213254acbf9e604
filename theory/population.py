r"""Infinite data: the gain of the Wiener filter.

Model.  Data :math:`y\sim\mathcal N(0,\Sigma)` with variances :math:`\sigma_i^2` along the directions
:math:`u_i`, seen through :math:`x=y+\sqrt t\,z`, :math:`z\sim\mathcal N(0,I)`; ``t`` is a noise variance.

Result.  The denoiser :math:`D(x,t)=\mathbb E[y\mid x]=\Sigma(\Sigma+t)^{-1}x` has, in every direction, the **gain**

.. math:: g_i = u_i^\top\nabla_xD\,u_i = \frac{\sigma_i^2}{\sigma_i^2+t}. \tag{1}

A gain of 1 means that the model moves freely along :math:`u_i`, 0 that the direction is frozen.

Scope.  Exact for Gaussian data.  For other data of the same covariance it is an upper bound on the mean gain.
Source.  Classical (Wiener); :math:`t|J_i|=1-g_i` is eq. (1) of the spectra of arXiv 2410.05898.
"""

import jax

from ._inputs import ArrayLike, as_positive, as_variances, working_dtype


@jax.jit
def _wiener_gain(variances: jax.Array, t: jax.Array) -> jax.Array:
    return variances / (variances + t[..., None])


def wiener_gain(variances: ArrayLike, t: ArrayLike) -> jax.Array:
    r"""Return the gain :math:`\sigma_i^2/(\sigma_i^2+t)` of infinite Gaussian data, eq. (1).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      t: noise variance ``> 0``, of any shape ``s``.

    Returns:
      Gains in [0, 1), shape ``s + (d,)``.

    Raises:
      ValueError: for variances that are negative or not finite, or ``t`` that is not positive and finite.

    Example:
      >>> wiener_gain([3.0, 1.0, 0.0], t=1.0).tolist()
      [0.75, 0.5, 0.0]
    """
    dtype = working_dtype(variances, t)
    return _wiener_gain(as_variances(variances, dtype), as_positive("t", t, dtype))
