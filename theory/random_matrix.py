r"""Random matrices: bulks, gaps and eigenvectors of the scores of random manifolds and of finite data.

Model.  Covariances of :math:`n` Gaussian points with variances :math:`v_j` along the directions,
:math:`S=Y^\top Y/n`.  Two uses:

- the *linear* score of :math:`N` points, :math:`\nabla D=S(S+t)^{-1}`, with :math:`n=N` (:func:`sample_covariance`);
- the *population* score of data :math:`y=Fz`, :math:`z\sim\mathcal N(0,I_m)`, on a random linear manifold,
  :math:`\nabla D=FF^\top(FF^\top+t)^{-1}`, :math:`F_{ij}\sim\mathcal N(0,\sigma_j^2/\nu)` of shape ``(d, m)``: the
  positive eigenvalues of :math:`FF^\top` are those of :math:`F^\top F`, the covariance of :math:`n=d` points with
  variances :math:`v_j=\sigma_j^2d/\nu` (:func:`random_manifold`).

Both gradients are symmetric.  An eigenvalue :math:`\lambda` gives the gain :math:`\lambda/(\lambda+t)` and the singular
value :math:`t/(\lambda+t)` of the score Jacobian :math:`t\nabla s=\nabla D-1`.

Results.  Each eigenvalue is the negative of a noise, and the effective noise of the linear score,
(2) of :mod:`theory.effective_noise`, continues to it as a complex number :math:`\kappa(\lambda)`:

.. math:: \lambda=-\kappa\Bigl[1-\frac1n\sum_j\frac{v_j}{v_j+\kappa}\Bigr],\qquad\operatorname{Im}\kappa\le0, \tag{1}

the equation of Marchenko-Pastur and Silverstein with :math:`\underline m=1/\kappa`.  The density of eigenvalues, per
dimension (``d`` of them, zeros included), has a continuous part and an atom at 0,

.. math:: \rho(\lambda)=\frac n{\pi d}\operatorname{Im}\frac1\kappa,\qquad
          1-\frac1d\min\bigl(n,\#\{v_j>0\}\bigr), \tag{2}

and the gains :math:`g=\lambda/(\lambda+t)` have, with the same atom at :math:`g=0`,

.. math:: \rho_t(g)=\frac t{(1-g)^2}\,\rho\Bigl(\frac{t\,g}{1-g}\Bigr). \tag{3}

Outside of the bulks :math:`\kappa=-\ell` is real, and :math:`\ell` the variance of a single direction whose eigenvalue
would be seen there,

.. math:: \psi(\ell)=\ell\Bigl[1+\frac1n\sum_j\frac{v_j}{\ell-v_j}\Bigr],\qquad
          \psi'(\ell)=1-\frac1n\sum_j\frac{v_j^2}{(\ell-v_j)^2}. \tag{4}

A bulk ends at :math:`\lambda=\psi(\ell)` where

.. math:: \psi'(\ell)=0; \tag{5}

the outermost of its eigenvalues fluctuates about that by the Tracy-Widom law, in units of

.. math:: \Bigl(\frac{\ell^4\,|\psi''(\ell)|}{2n^2}\Bigr)^{1/3}. \tag{6}

*Gaps.*  Eigenvalues above :math:`a` and below :math:`b` (0: the total gap) leave a gap between gains, and between
singular values, of height

.. math:: \Delta(t)=\frac a{a+t}-\frac b{b+t}=\frac{t\,(a-b)}{(a+t)(b+t)}. \tag{7}

It is at least as high as a resolution :math:`\Delta` for :math:`t_-\le t\le t_+` and highest at :math:`\sqrt{ab}`,

.. math:: t_\pm=\frac{(a-b)-\Delta(a+b)\pm\sqrt{[(a-b)-\Delta(a+b)]^2-4\Delta^2ab}}{2\Delta},\qquad
          \Delta_{\max}=\frac{\sqrt a-\sqrt b}{\sqrt a+\sqrt b}. \tag{8}

*The linear score beyond its mean.*  With the gains :math:`a_i=v_i/(v_i+\kappa)` at the positive noise :math:`t`,
:math:`w_i=a_i(1-a_i)` and :math:`\gamma=\frac1N\sum_ja_j^2`, gains vary over training sets by

.. math:: \operatorname{Var}g_i=\frac{2w_i^2}{N(1-\gamma)}, \tag{9}

.. math:: \operatorname{Var}\sum_i\alpha_ig_i=\frac{2\sum_iw_i^2\beta_i^2}{N(1-\gamma)}
          +\frac{2\bigl(\sum_iw_ia_i\beta_i\bigr)^2}{N^2(1-\gamma)^2},\qquad
          \beta_i=\alpha_i-\frac{\sum_j\alpha_jw_j}{N(1-\gamma)}. \tag{10}

The eigenvector of :math:`S` at :math:`\lambda` has the mean squared overlap

.. math:: \mathbb E\,(u_i\cdot v_\lambda)^2=\frac1n\,\frac{v_i\,|\kappa|^2}{\lambda\,|v_i+\kappa|^2} \tag{11}

with a direction of the population.  A single direction of variance :math:`\ell` beside the others has an eigenvalue
outside of the bulks, and an overlap with its eigenvector,

.. math:: \lambda=\psi(\ell),\qquad(u\cdot v)^2=\ell\,\frac{\psi'(\ell)}{\psi(\ell)}, \tag{12}

if :math:`\psi'(\ell)>0`, that is, if there are more points than

.. math:: N^*=\sum_j\frac{v_j^2}{(\ell-v_j)^2}. \tag{13}

Scope.  Asymptotic, :math:`d\to\infty` at fixed :math:`d/n`: fractions of eigenvalues to :math:`O(1/d)`, the outermost
ones to :math:`O(d^{-2/3})`, variances (9), (10) to a relative :math:`O(1/d)` (10 % at 30 directions), overlaps and
spikes likewise.  The spectrum holds for any independent entries, the fluctuations for Gaussian ones.  Eigenvectors of a
random manifold are uniform in the ambient space; (11) describes those of :math:`F^\top F` in the latent space.
Source.  Marchenko and Pastur (1967), Silverstein (1995), edges: Silverstein and Choi (1995); (6): El Karoui (2007);
(11): Ledoit and Peche (2011); spikes: Baik, Ben Arous and Peche (2005), Bai and Yao (2012).  Score and gaps: arXiv
2410.05898.  All rederived, (9), (10) and (13) derived here: DERIVATIONS.md, section M.
"""

import jax
import jax.numpy as jnp

from ._bulks import Bulks, Gaps, GapTimes, bulks, gap_height, gap_times, gaps
from ._inputs import ArrayLike, as_positive, working_dtype
from ._sample_eigenvectors import Spike, gain_sum_variance, gain_variance, overlap, points_to_see, spike
from ._silverstein import Ensemble, density_at, over_eigenvalues, random_manifold, sample_covariance

__all__ = [
    "Bulks",
    "Ensemble",
    "GapTimes",
    "Gaps",
    "Spike",
    "atom",
    "bulks",
    "density",
    "gain_density",
    "gain_sum_variance",
    "gain_variance",
    "gap_height",
    "gap_times",
    "gaps",
    "overlap",
    "points_to_see",
    "random_manifold",
    "sample_covariance",
    "spike",
]


@jax.jit
def _density(ensemble: Ensemble, eigenvalues: jax.Array) -> jax.Array:
    return over_eigenvalues(density_at, ensemble, eigenvalues)


@jax.jit
def _gain_density(ensemble: Ensemble, gains: jax.Array, t: jax.Array) -> jax.Array:
    gains, t = jnp.broadcast_arrays(gains, t)
    inside = (gains > 0) & (gains < 1)
    left = jnp.where(inside, 1 - gains, 1)
    return jnp.where(inside, _density(ensemble, t * gains / left) * (t / left**2), 0)


def density(ensemble: Ensemble, eigenvalues: ArrayLike) -> jax.Array:
    r"""Return the continuous density of the eigenvalues, eq. (2).

    Integrals over a bulk from :math:`a` to :math:`b` are best taken in :math:`\theta`,
    :math:`\lambda=\frac{a+b}2-\frac{b-a}2\cos\theta`: the density vanishes as a square root at both edges.

    Args:
      ensemble: from :func:`sample_covariance` or :func:`random_manifold`.
      eigenvalues: real numbers of any shape ``s``.

    Returns:
      Density in one over a variance, shape ``s``; its integral is 1 less :func:`atom`.  0 outside of the bulks.

    Example:
      Equal variances, as many points as directions: :math:`\sqrt{(4-\lambda)/\lambda}/2\pi`.

      >>> found = density(sample_covariance([1.0] * 6, n=6), [2.0, 5.0])
      >>> (2 * jnp.pi * found).round(5).tolist()
      [1.0, 0.0]
    """
    return _density(ensemble, jnp.asarray(eigenvalues, working_dtype(ensemble.variances)))


@jax.jit
def atom(ensemble: Ensemble) -> jax.Array:
    """Return the fraction of eigenvalues (and of gains) that are 0, eq. (2).

    Args:
      ensemble: from :func:`sample_covariance` or :func:`random_manifold`.

    Returns:
      A number from 0 to 1.

    Example:
      >>> atom(random_manifold([1.0] * 3, ambient=12)).item()
      0.75
    """
    rank = jnp.sum(jnp.where(ensemble.variances > 0, ensemble.counts, 0))
    return 1 - jnp.minimum(rank, ensemble.points) / ensemble.dimensions


def gain_density(ensemble: Ensemble, gains: ArrayLike, t: ArrayLike) -> jax.Array:
    r"""Return the continuous density of the gains, eq. (3).

    The eigenvalues :math:`r=g-1` of the score Jacobian :math:`t\nabla s` have the same density at :math:`g=1+r`, its
    singular values at :math:`g=1-|r|`.

    Args:
      ensemble: from :func:`sample_covariance` or :func:`random_manifold`.
      gains: real numbers; 0 outside of (0, 1).
      t: noise variance ``> 0``; broadcast with ``gains`` to a shape ``s``.

    Returns:
      Density (no unit), shape ``s``; its integral is 1 less :func:`atom`.

    Raises:
      ValueError: for ``t`` not positive and finite.

    Example:
      >>> found = gain_density(sample_covariance([1.0] * 6, n=6), 0.5, t=2.0)
      >>> round(float(2 * jnp.pi * found), 5)
      8.0
    """
    dtype = working_dtype(ensemble.variances)
    return _gain_density(ensemble, jnp.asarray(gains, dtype), as_positive("t", t, dtype))
