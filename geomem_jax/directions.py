r"""Which directions of the data a set of vectors is: overlaps and angles with groups of equal variance.

Directions of the data of equal variance can be told apart by nothing, so they form a group :math:`U_g`
``(d, m_g)``.  Of orthonormal vectors :math:`v_1,\dots,v_k`, such as the free ones that a spectrum gives,

.. math:: o_{ig}=\|U_g^\top v_i\|^2,\qquad c_g=\frac1{m_g}\sum_io_{ig}=\frac1{m_g}\sum_j\cos^2\theta_{gj} \tag{1}

are how much of each vector lies in the group, and how much of the group the vectors hold; :math:`\theta_{gj}` are the
principal angles between the two spans.  A group with :math:`c_g` near 0 is lost, whatever the number of free vectors.

*Position of the largest gap* (arXiv 2410.08727).  With the free directions at the lower end of the descending singular
values of :math:`t\nabla s`, the largest gap has :math:`d-\sum_{g\in F}m_g` values above it, where :math:`F` are the
groups that are free: at :math:`d-m_1-m_2` nothing is lost, at :math:`d-m_2` the first group, at :math:`d-m_1` the
second.  A position counts directions and names none: groups of equal size, a direction of the data that constraints
make stiff, or half of one group and half of another give the same number.  Overlaps tell them apart.

Source.  Angles: Björck and Golub (1973), small ones from sines (Knyazev and Argentati 2002); the rest derived here.
"""

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from geomem_jax.errors import InputError

MOST_GROUPS = 12  # subsets are listed


def group_by_variance(variances: ArrayLike) -> list[np.ndarray]:
    """Positions of the directions of each distinct positive variance, largest first; those of variance 0 are left out.

    Variances within a relative 1e-6 are one, and those below the rounding of the largest are 0.

    Raises:
      InputError: if the variances are not a list of finite, non-negative numbers.

    Example:
      >>> [group.tolist() for group in group_by_variance([0.09, 1, 1, 0])]
      [[1, 2], [0]]
    """
    values = np.asarray(variances, np.float64)
    if values.ndim != 1 or not np.all(np.isfinite(values) & (values >= 0)):
        raise InputError(f"variances: {variances!r:.60} are not a list of finite, non-negative numbers; give one each")
    order = np.argsort(-values, kind="stable")
    # An eigenvalue below the rounding of the largest one is a zero (the rule of numpy.linalg.matrix_rank).
    zero = values.max(initial=0) * len(values) * np.finfo(np.float64).eps
    groups: list[list[int]] = []
    for direction in order[values[order] > zero]:
        if groups and values[direction] >= values[groups[-1][0]] * (1 - 1e-6):
            groups[-1].append(direction)
        else:
            groups.append([direction])
    return [np.array(group) for group in groups]


def _checked(vectors: ArrayLike, basis: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    v, u = np.asarray(vectors, np.float64), np.asarray(basis, np.float64)
    if u.ndim != 2 or v.ndim < 2 or v.shape[-2] != u.shape[0]:
        raise InputError(
            f"vectors: shape {v.shape} does not fit a basis of shape {u.shape}; give (..., d, k) vectors and a "
            "(d, m) basis, both in columns"
        )
    for name, columns in (("vectors", v), ("basis", u)):
        error = np.abs(np.swapaxes(columns, -1, -2) @ columns - np.eye(columns.shape[-1])).max(initial=0)
        if not error < 1e-3:  # float32 vectors of an eigensolver are within 1e-5
            raise InputError(f"{name}: columns are not orthonormal, off by {error:.2g}; normalize them")
    return v, u


def overlaps(vectors: ArrayLike, basis: ArrayLike, groups: list[np.ndarray]) -> np.ndarray:
    """How much of each vector lies in each group, eq. (1).

    Args:
      vectors: ``(..., d, k)`` orthonormal in columns, one set for each point.
      basis: ``(d, m)`` directions of the data in columns, orthonormal.
      groups: positions of columns of the basis, as :func:`group_by_variance` gives them.

    Returns:
      ``(..., k, groups)``, in ``[0, 1]``; what is missing to a sum of 1 over groups lies outside all of them.

    Raises:
      InputError: if shapes do not fit, or columns are not orthonormal.
    """
    v, u = _checked(vectors, basis)
    squares = (np.swapaxes(v, -1, -2) @ u) ** 2
    return np.stack([squares[..., group].sum(axis=-1) for group in groups], axis=-1)


def held(vectors: ArrayLike, basis: ArrayLike, groups: list[np.ndarray]) -> np.ndarray:
    """How much of each group the vectors hold, ``(..., groups)`` in ``[0, 1]``, eq. (1); arguments as :func:`overlaps`.

    Times the size of the group, it is the number of its directions among those of the vectors.
    """
    sizes = np.array([len(group) for group in groups])
    return overlaps(vectors, basis, groups).sum(axis=-2) / sizes


def principal_angles(vectors: ArrayLike, basis: ArrayLike, groups: list[np.ndarray]) -> list[np.ndarray]:
    """Principal angles between the span of the vectors and each group, ascending, in radians.

    Args:
      vectors: as :func:`overlaps`.
      basis: as :func:`overlaps`.
      groups: as :func:`overlaps`.

    Returns:
      For each group ``(..., min(k, size))``.  Accurate for small angles, where a cosine is not.

    Raises:
      InputError: as :func:`overlaps`.
    """
    v, u = _checked(vectors, basis)
    angles = []
    for group in groups:
        spans = (v, np.broadcast_to(u[:, group], (*v.shape[:-1], len(group))))
        larger, smaller = spans if v.shape[-1] >= len(group) else spans[::-1]
        inside = np.swapaxes(larger, -1, -2) @ smaller
        cosines = np.linalg.svd(inside, compute_uv=False)
        sines = np.linalg.svd(smaller - larger @ inside, compute_uv=False)[..., ::-1]
        angles.append(np.arctan2(sines, cosines))
    return angles


def free_groups(dimension: int, sizes: list[int]) -> list[tuple[int, ...]]:
    """Sets of groups that put the largest gap where it is: those of so many directions in all.

    Args:
      dimension: singular values below the largest gap, as :func:`geomem_jax.dimension.largest_drop` counts them.
      sizes: of the groups, their variances descending.

    Returns:
      All sets, as positions in ``sizes``; none if no whole groups have this dimension, several where they cannot be
      told apart.

    Raises:
      InputError: if there are more than 12 groups.

    Example:
      >>> [free_groups(free, [2, 5]) for free in (7, 5, 2, 6)]
      [[(0, 1)], [(1,)], [(0,)], []]
    """
    if len(sizes) > MOST_GROUPS:
        raise InputError(f"sizes: {len(sizes)} groups have too many subsets; give at most {MOST_GROUPS}")
    subsets = (subset for size in range(len(sizes) + 1) for subset in combinations(range(len(sizes)), size))
    return [subset for subset in subsets if sum(sizes[group] for group in subset) == dimension]
