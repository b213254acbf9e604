r"""The order in which directions freeze: its statistic, its verdict, and what is said of it.

Order.  Kendall's :math:`\tau` of log sizes with *minus* the variance, over pairs whose order is known: +1 if fine
detail (small variance) freezes first as data get scarce, -1 if salient directions do, as the paper says.  Two censored
on the same side are no pair.  Its 95 % interval is over training sets.  *Fine first*: the interval is positive;
*salient first*: negative; *undecided*: it holds 0; *no order*: no pair can be told apart.  Sizes of one condition come
from the same training sets, so that their order can be certain where their intervals overlap.  Each interval is of 95 %
on its own: of sixty orders about three may be wrongly decided.

Source.  Derived here.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from geomem_jax.ablate import TITLES
from geomem_jax.freeze_out import first_to_freeze, largest_crossing
from geomem_jax.statistics import Bootstrap, concordance, expanded_bootstrap, expanded_percentile, percentile_interval

KINDS = ("salient first", "fine first", "undecided", "no order")


class Order(NamedTuple):
    """The sequence of collapse under one condition; natural logarithms.

    Attributes:
      variance: ``(g,)`` distinct variances, descending.
      sizes: log freeze-out sizes (or times) ``(g,)`` with intervals over training sets; infinite where censored.
      tau: Kendall's tau, positive if fine detail freezes first, with its interval; nan without a pair.
      ratio: log size of the smallest variance less that of the largest, with its interval; nan where both are
        censored on the same side.
    """

    variance: np.ndarray
    sizes: Bootstrap
    tau: Bootstrap
    ratio: Bootstrap


def _interval_of(replicates: np.ndarray, estimate: float, num_sets: int) -> Bootstrap:
    """Interval over the replicates in which a number is defined."""
    defined = replicates[~np.isnan(replicates)]
    if num_sets < 2 or np.isnan(estimate) or not len(defined):
        return Bootstrap(np.array(estimate), np.array(np.nan), np.array(np.nan), replicates)
    return Bootstrap(np.array(estimate), *percentile_interval(defined, expanded_percentile(num_sets)), replicates)


def order(variance: np.ndarray, grid: np.ndarray, response: np.ndarray, *, bootstrap_seed: int = 0) -> Order:
    """Find the sequence of collapse, see the module docstring.

    Args:
      variance: ``(g,)``, descending.
      grid: ``(k,)`` dataset sizes or noise variances, ascending.
      response: ``(S, k, g)`` of ``S`` training sets.
      bootstrap_seed: of the resampling of training sets.
    """
    abscissa, num_sets = np.log(grid), len(response)
    sizes = expanded_bootstrap(
        np.swapaxes(np.asarray(response, np.float64), 1, 2),
        lambda means: largest_crossing(abscissa, means),
        bootstrap_seed,
    )

    def each(function: Callable[[np.ndarray], np.ndarray]) -> Bootstrap:
        estimate = float(function(sizes.estimate[None])[0])
        replicates = function(sizes.replicates) if num_sets > 1 else np.full(1, np.nan)
        return _interval_of(replicates, estimate, num_sets)

    def difference(found: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # both censored on one side: nan, as it must be
            return found[:, -1] - found[:, 0]

    return Order(variance, sizes, each(lambda found: concordance(found, -variance, least=2)), each(difference))


def verdict(found: Order) -> str:
    """``"fine first"``, ``"salient first"``, ``"undecided"`` or ``"no order"``."""
    return first_to_freeze(found.tau)


def tau_in_words(found: Order) -> str:
    """Write tau with its interval."""
    if np.isnan(found.tau.estimate):
        return "n/a"
    alone = f"{float(found.tau.estimate):+.2f}"
    return alone if np.isnan(found.tau.lower) else f"{alone} [{found.tau.lower:+.2f}, {found.tau.upper:+.2f}]"


def sentence(letter: str, found: dict[str, Order]) -> str:
    """Say of one experiment under which of its conditions which order holds."""
    parts = []
    for kind in ("fine first", "salient first", "undecided", "no order"):
        named = [
            f"{label} (τ = {tau_in_words(one)})" if kind != "no order" else label
            for label, one in found.items()
            if verdict(one) == kind
        ]
        if named:
            parts.append(f"{kind}: {'; '.join(named)}")
    return f"({letter}) {TITLES[letter]}. {'. '.join(part[0].upper() + part[1:] for part in parts)}."


def conclusion(found: list[tuple[str, str, Order]]) -> tuple[str, str, str]:
    """Answer the paper's claim: how often each order is found, and for which data and at which points.

    Args:
      found: data (Gaussian or normalized), place and order of every condition.

    Returns:
      Counts and where salient directions freeze first, in a sentence each, and where each order is found.
    """
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for data, place, one in found:
        counts[verdict(one)][f"{data} data at {place}"] += 1
    salient, fine, undecided, none = (counts[kind].total() for kind in KINDS)
    answer = (
        f"Of {len(found)} conditions {fine} have fine detail first and {salient} salient directions, as in 'salient "
        f"features collapse first'; {undecided} {'is' if undecided == 1 else 'are'} undecided, {none} "
        f"{'has' if none == 1 else 'have'} no order (intervals of 95 % each)."
    )
    where = [
        f"{kind[0].upper()}{kind[1:]}: {'; '.join(f'{place} ({count})' for place, count in places.most_common())}."
        for kind, places in counts.items()
        if places
    ]
    reversed_at = where[0] if counts["salient first"] else "Salient first: nowhere."
    return answer, reversed_at, " ".join(where)
