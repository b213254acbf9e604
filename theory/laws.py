r"""Laws: the gain of every direction as a function of variances, dataset size and noise.

A **law** is a function ``(variances, log_n, t) -> gains`` with ``variances`` of shape ``(d,)`` and the other two
scalars.  :data:`LAWS` names those of this package; what else one of them needs is a keyword (``probe`` of the planted
law, ``quantile`` of the typical one, ``point`` and ``probe`` of the exact average).  :data:`SCOPES` says what each law
predicts, where it holds, and whether it is exact or asymptotic.

=================  =====================================================  ==================================
name               gains of                                               formula
=================  =====================================================  ==================================
``"population"``   infinite data                                          :mod:`theory.population`
``"linear"``       the linear score                                       :mod:`theory.effective_noise` (2)
``"empirical"``    the empirical score at held-out points, leading order  :mod:`theory.effective_noise` (3)
``"finite_size"``  the same, averaged exactly at any size                 :mod:`theory.mean_finite_size`
``"typical"``      the same, median over points                           :mod:`theory.typical` (2)
``"planted"``      the empirical score at noised training points          :mod:`theory.planted` (3)
=================  =====================================================  ==================================

Source.  As the modules.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ._inputs import ArrayLike, as_between, as_log_size, as_positive, as_variances, working_dtype
from .effective_noise import NOISES
from .mean_finite_size import finite_size_law, mean_finite_size_gain
from .planted import planted_law
from .typical import check_quantile, typical_law

Law = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Parameters = tuple[tuple[str, Any], ...]  # keywords of a law, sorted: they are static under jit


class Scope(NamedTuple):
    """What a law predicts and where it holds.

    Attributes:
      exact: whether it holds at every size; for Gaussian data, as all of them.
      limit: else, the limit in which it holds.
      point: ``"any"``, ``"held_out"`` or ``"train"``: where the gain is taken.
      statistic: ``"mean"`` or ``"median"`` over points and training sets.
    """

    exact: bool
    limit: str
    point: Literal["any", "held_out", "train"]
    statistic: Literal["mean", "median"]


def population_law(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Gains of infinite data: exact for Gaussian data."""
    return variances / (variances + NOISES["population"](variances, log_n, t))


def linear_law(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Mean gains of the linear score: asymptotic, d to infinity at fixed d/N."""
    return variances / (variances + NOISES["linear"](variances, log_n, t))


def empirical_law(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Mean gains of the empirical score at held-out points: asymptotic, d to infinity at fixed log N/d."""
    return variances / (variances + NOISES["empirical"](variances, log_n, t))


LAWS: Mapping[str, Law] = MappingProxyType(
    {
        "population": population_law,
        "linear": linear_law,
        "empirical": empirical_law,
        "finite_size": finite_size_law,
        "typical": typical_law,
        "planted": planted_law,
    }
)
SCOPES: Mapping[str, Scope] = MappingProxyType(
    {
        "population": Scope(True, "", "any", "mean"),
        "linear": Scope(False, "d -> infinity at fixed d/N", "any", "mean"),
        "empirical": Scope(False, "d -> infinity at fixed log N / d", "held_out", "mean"),
        "finite_size": Scope(True, "", "held_out", "mean"),
        "typical": Scope(False, "d -> infinity at fixed log N / d", "held_out", "median"),
        "planted": Scope(False, "d -> infinity at fixed log N / d", "train", "mean"),
    }
)


def check_parameters(parameters: Mapping[str, Any]) -> Parameters:
    """Check the values of a law's keywords; the names are checked by the law that takes them."""
    if "probe" in parameters:
        as_between("probe", parameters["probe"], 0, jnp.inf, jnp.dtype("float32"))
    if "quantile" in parameters:
        check_quantile(parameters["quantile"])
    return tuple(sorted(parameters.items()))


def function_of(law: str | Law, parameters: Parameters) -> Law:
    """Look a law up and bind its keywords."""
    if not callable(law) and law not in LAWS:
        raise ValueError(f"law must be one of {', '.join(LAWS)}, got {law!r}")
    return partial(law if callable(law) else LAWS[law], **dict(parameters))


@partial(jax.jit, static_argnums=(0, 1))
def _gain(law: str | Law, parameters: Parameters, variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    function = function_of(law, parameters)
    return jnp.vectorize(lambda log_n, t: function(variances, log_n, t), signature="(),()->(d)")(log_n, t)


def gain(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    law: str | Law = "empirical",
    *,
    log_n: ArrayLike | None = None,
    **parameters: Any,
) -> jax.Array:
    r"""Return the predicted gain of every direction: the mean, or the median where the law says so.

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``.
      t: noise variance ``> 0``; broadcast with ``n`` to a shape ``s``.
      law: a name in :data:`LAWS`, or any function of their signature.
      log_n: logarithm of the dataset size in nats, instead of ``n``.
      **parameters: keywords of the law, Python numbers (static under ``jit``): ``probe=0.0`` with ``"planted"``.

    Returns:
      Gains (no unit), shape ``s + (d,)``.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, ``n < 1``, an
        unknown law, or a keyword out of its range.
      TypeError: unless ``t`` and one of ``n`` and ``log_n`` are given; for a keyword that the law does not take.

    Example:
      >>> gain([1.0, 1.0, 0.0], n=1000, t=1.0, law="population").tolist()
      [0.5, 0.5, 0.0]
    """
    if t is None:
        raise TypeError("give the noise variance t")
    if law == "finite_size":  # equal variances are integrated once, which shows only outside of jit
        check_parameters(parameters)
        return mean_finite_size_gain(variances, n, t, log_n=log_n, **parameters).mean
    dtype = working_dtype(variances, t)
    checked = as_variances(variances, dtype), as_log_size(n, log_n, dtype), as_positive("t", t, dtype)
    return _gain(law, check_parameters(parameters), *checked)


def soft_dimension(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    law: str | Law = "empirical",
    *,
    log_n: ArrayLike | None = None,
    **parameters: Any,
) -> jax.Array:
    r"""Return the soft dimension :math:`\hat m=\sum_ig_i`, the trace of the denoiser's Jacobian.

    Arguments and errors are those of :func:`gain`; the result (a count of directions) has shape ``s``.

    Example:
      >>> soft_dimension([1.0, 1.0, 0.0], n=1000, t=1.0, law="population").item()
      1.0
    """
    return jnp.sum(gain(variances, n, t, law, log_n=log_n, **parameters), axis=-1)
