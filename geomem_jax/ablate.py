r"""Ablations: which definition or condition decides the order in which directions freeze.

Yardstick.  Of a *condition* (data, score model, point, estimator, definition of frozen) one number per group of
directions of equal variance is measured, its *response* :math:`R_g`: 1 where infinite data leave it, 0 where it is
frozen.  As everywhere in this package the group is **frozen where R < 1/2**, the mean of ``R`` over training sets, and
its freeze-out size :math:`N_g^*(t)` (in one experiment its time :math:`t_g^*(N)`) is the largest crossing of 1/2.
The order of the sizes is found by :mod:`geomem_jax.ablate_orders`.  The definitions of frozen differ in ``R``; with the
gains :math:`g_i` at points ``x``, and those of infinite data,

======================  ==============================================================================================
``mean``                mean over points of :math:`g_i` over that of infinite data (the definition of this package)
``median``              median over points of :math:`g_i` over the mean gain of infinite data
``absolute``            mean over points of :math:`g_i`: no reference
``participation``       :math:`1-Y`, :math:`Y=\sum_\mu w_\mu^2` the participation ratio at the point.  At points common
                        to all directions it is one number, which has no order.  At the points
                        :math:`\sqrt t\,e_i` there is one per direction: the predictor of arXiv 2410.08727
``gap``                 share of the group that lies in the visible subspace, the singular vectors of
                        :math:`t\nabla s` below its largest drop, mean over points
======================  ==============================================================================================

Point classes are ``held_out`` (a fresh point) and ``train`` (a training point), with noise of variance
:math:`r\,t`, ``r`` the *probe norm* (1 unless stated), ``origin``, and ``axis``: of direction ``i`` the point
:math:`\sqrt t\,e_i`, so that every direction is measured at a point of its own.

Infinite data.  Gaussian: the Wiener gain, at every point.  Normalized: at ``axis`` the population by importance
sampling; elsewhere the exact score of a disjoint set of many points, at fresh points of the class, whose participation
ratio is kept (see :mod:`geomem_jax.responses`).

Source.  The definitions are those of arXiv 2410.08727 and of this project; what is concluded is measured here.
"""

import math
from typing import Literal, NamedTuple

import numpy as np

import theory
from geomem_jax.data.synthetic import linear_manifold

Frozen = Literal["mean", "median", "absolute", "participation", "gap"]
Point = Literal["held_out", "train", "origin", "axis"]
Estimator = Literal["jacobian", "probes", "short probes", "one-sided"]
Model = Literal["empirical", "linear", "network"]
Levels = tuple[tuple[int, float], ...]

TITLES = {
    "a": "N (order in the noise)",
    "b": "variances swapped",
    "c": "directions per group",
    "d": "normalized or not",
    "e": "point and probe norm",
    "f": "definition of frozen",
    "g": "score model and training",
    "h": "estimator",
}
LADDER: Levels = ((3, 1.0), (3, 0.3), (3, 0.1), (3, 0.03))
LADDER_T = 0.1
WEAK: Levels = ((30, 1.0), (120, 0.16))
"""Many directions per group: where the order of the paper is real (normalized, at sqrt(t) e_i)."""
PROBED_SIZE = 300  # at which the random-energy participation ratio of the salient group is 1/2, by the choice of t


class Condition(NamedTuple):
    """One measured sequence of collapse; along ``sizes`` at one noise variance, or along ``times`` at one size.

    Attributes:
      experiment: letter, a key of :data:`TITLES`.
      label: what is special about it.
      levels: (count, variance) of the Gaussian data.
      sizes: dataset sizes, ascending.
      times: noise variances, ascending.
      normalized: whether points are divided by their norm.
      point: where it is measured.
      probe: ``r``, variance of the noise at the points over ``t``.
      frozen: definition.
      estimator: of the Jacobian.
      model: the score.
      width: of the network.
      step: training step of the network.
      averaged: whether the average of its parameters is measured.
    """

    experiment: str
    label: str
    levels: Levels
    sizes: tuple[int, ...]
    times: tuple[float, ...]
    normalized: bool = False
    point: Point = "held_out"
    probe: float = 1.0
    frozen: Frozen = "mean"
    estimator: Estimator = "jacobian"
    model: Model = "empirical"
    width: int = 0
    step: int = 0
    averaged: bool = True

    @property
    def place(self) -> str:
        """Where it is measured, in words."""
        if self.point == "train":
            return (
                "noised training points (r = 1)" if self.probe == 1 else "clean or nearly clean training points (r < 1)"
            )
        return {"held_out": "held-out points", "origin": "the origin", "axis": "√t e_i"}[self.point]

    @property
    def along_time(self) -> bool:
        """Whether the order is that of freeze-out times."""
        return len(self.times) > 1

    @property
    def grid(self) -> np.ndarray:
        """Sizes or noise variances along which the response is measured, ascending."""
        return np.asarray(self.times if self.along_time else self.sizes, float)


def _powers(largest: int) -> tuple[int, ...]:
    return tuple(2**k for k in range(1, 1 + int(math.log2(largest))))


def variances_of(levels: Levels, normalized: bool) -> np.ndarray:
    """Variances along the directions, descending; of the normalized points where they are."""
    spread = np.concatenate([np.full(count, variance) for count, variance in levels])
    return linear_manifold(spread, normalized=normalized).variances


def noise_at(levels: Levels, normalized: bool, size: int = 300) -> float:
    """The condensation time of ``size`` points, two digits: where sizes about it are telling."""
    return float(f"{float(theory.condensation_time(variances_of(levels, normalized), size)):.2g}")


def axis_noise(levels: Levels, normalized: bool, ratio: float = 0.5) -> float:
    r"""Noise at which the random-energy :math:`Y` along the salient axis is ``ratio`` at :data:`PROBED_SIZE` points.

    :math:`1-t/t_c=Y` with :math:`t_c^2=t\sigma^2/2\log N` (normalized) gives :math:`t=(1-Y)^2\sigma^2/2\log N`.  Of
    data that are not normalized the condensation time of the origin, which is that of all axes within 1/8 nat.
    """
    if not normalized:
        variances = variances_of(levels, normalized)
        times = variances.max() * np.geomspace(1e-4, 100, 1000)
        nats = np.asarray(theory.log_critical_size(variances, times, probe=2.0))  # of the origin
        return float(f"{times[np.argmin(np.abs(nats - math.log(PROBED_SIZE)))]:.2g}")
    return float(f"{(1 - ratio) ** 2 * variances_of(levels, normalized).max() / (2 * math.log(PROBED_SIZE)):.2g}")


def conditions(quick: bool) -> list[Condition]:
    """List what is measured, networks apart (:func:`geomem_jax.ablate_networks.conditions`)."""
    sizes, weak_sizes = (_powers(4096), _powers(512)) if quick else (_powers(65536), _powers(16384))
    made: list[Condition] = []

    def add(experiment: str, label: str, levels: Levels = LADDER, t: float = LADDER_T, **rest: object) -> None:
        grid = sizes if sum(count for count, _ in levels) <= 50 else weak_sizes
        made.append(Condition(experiment, label, levels, grid, (t,), **rest))  # type: ignore[arg-type]

    times = tuple(float(t) for t in np.geomspace(1e-3, 10, 9 if quick else 25))
    for size in (10, 100, 1000) if quick else (10, 30, 100, 1000, 10000):
        made.append(Condition("a", f"N = {size}, held-out", LADDER, (size,), times))
    weak_times = tuple(float(t) for t in np.geomspace(1e-5, 0.1, 9 if quick else 25))
    for size in (300,) if quick else (300, 5000):
        one = Condition("a", f"N = {size}, 30+120 normalized, √t e, 1-Y", WEAK, (size,), weak_times)
        made.append(one._replace(normalized=True, point="axis", frozen="participation"))

    few: Levels = ((3, 1.0), (9, 0.1))
    swapped: Levels = ((3, 0.1), (9, 1.0))
    for levels in (few, swapped):
        add("b", f"{_name(levels)}, held-out", levels, noise_at(levels, False))
    for levels in (WEAK, ((30, 0.16), (120, 1.0))):
        add("b", f"{_name(levels)}, normalized, √t e, 1-Y", levels, axis_noise(levels, True), **_AXIS_Y)

    for low, high in ((2, 5), (30, 120)) if quick else ((2, 5), (5, 20), (12, 48), (30, 120)):
        levels = ((low, 1.0), (high, 0.16))
        add("c", f"{low}+{high}, held-out, mean gain", levels, noise_at(levels, False))
        add("c", f"{low}+{high}, normalized, √t e, 1-Y", levels, axis_noise(levels, True), **_AXIS_Y)

    for normalized in (False, True):
        name, t = ("normalized" if normalized else "Gaussian"), noise_at(LADDER, normalized)
        add("d", f"{name}, held-out, mean gain", t=t, normalized=normalized)
        add("d", f"{name}, training, mean gain", t=t, normalized=normalized, point="train")
        at = axis_noise(LADDER, normalized)
        add("d", f"{name}, √t e, 1-Y", t=at, normalized=normalized, point="axis", frozen="participation")

    d = sum(count for count, _ in LADDER)
    add("e", "held-out")
    add("e", "origin", point="origin")
    for probe, name in ((0.0, "0"), (1 / d, "1/d"), (1.0, "1")):
        add("e", f"training, r = {name}", point="train", probe=probe)
    add("e", "√t e, each its own", point="axis")
    weak_t = noise_at(WEAK, True)
    add("e", "30+120 normalized, held-out", WEAK, weak_t, normalized=True)
    add("e", "30+120 normalized, training", WEAK, weak_t, normalized=True, point="train")
    add("e", "30+120 normalized, origin", WEAK, weak_t, normalized=True, point="origin")
    add("e", "30+120 normalized, √t e", WEAK, axis_noise(WEAK, True, 0.0), normalized=True, point="axis")

    definitions: tuple[Frozen, ...] = ("mean", "median", "absolute", "participation", "gap")
    for frozen in definitions:
        add("f", f"held-out, {_DEFINITIONS[frozen]}", frozen=frozen)
    for frozen in definitions[:2]:
        add("f", f"training, {_DEFINITIONS[frozen]}", frozen=frozen, point="train")
    for frozen in definitions[:4]:
        add("f", f"training, r = 0, {_DEFINITIONS[frozen]}", frozen=frozen, point="train", probe=0.0)
    add("f", "√t e, 1-Y", frozen="participation", point="axis")
    for frozen in ("mean", "absolute", "participation"):
        name = f"30+120 normalized, √t e, {_DEFINITIONS[frozen]}"
        at = axis_noise(WEAK, True, 0.5 if frozen == "participation" else 0.0)
        add("f", name, WEAK, at, normalized=True, point="axis", frozen=frozen)

    add("f", "30+120 Gaussian, √t e, 1-Y", WEAK, axis_noise(WEAK, False), point="axis", frozen="participation")

    add("g", "linear score", model="linear", t=0.03)

    places: tuple[tuple[str, Point, float], ...] = (
        ("held-out", "held_out", 1.0),
        ("training", "train", 1.0),
        ("training, r = 0", "train", 0.0),
    )
    for place, point, probe in places:
        for estimator, name in _ESTIMATORS.items():
            if not quick or estimator in ("jacobian", "short probes"):
                add("h", f"{place}, {name}", estimator=estimator, point=point, probe=probe)
        if not quick:
            name = f"{place}, one-sided, gap"
            add("h", name, estimator="one-sided", frozen="gap", point=point, probe=probe)
    return made


_AXIS_Y: dict[str, object] = {"normalized": True, "point": "axis", "frozen": "participation"}
_DEFINITIONS: dict[str, str] = {
    "mean": "mean gain",
    "median": "median gain",
    "absolute": "absolute gain",
    "participation": "1-Y",
    "gap": "gap",
}
_ESTIMATORS: dict[Estimator, str] = {
    "jacobian": "exact Jacobian",
    "probes": "probes of norm √(td)",
    "short probes": "probes of norm √t",
    "one-sided": "one-sided probes, √t",
}


def _name(levels: Levels) -> str:
    return " + ".join(f"{count} of {variance:g}" for count, variance in levels)
