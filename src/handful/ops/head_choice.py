"""Families of rules to choose from (`ops.choosing`): heads, and weights of what is known of classes by name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .choosing import Chosen, Rule, rule_distances
from .heads import fit_head
from .nearest_mean import NearestMean, leave_one_out
from .ridge_margin import RidgeMargin, fit_ridge_margin, ridge_leave_one_out
from .temperature import Calibration, calibrate

__all__ = ["LARGEST", "fit_best", "fit_named"]

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]
LARGEST = 1 << 12
"""Examples times classes up to which a choice is made: beyond, it would take longer than all the rest."""
FAMILY = ("ridge", "cosine", "squared")
NAMED = (("cosine", 1.0), ("ridge", 1.0), ("cosine", 4.0), ("cosine", 0.05))
"""Rules that know names, and how many examples a name counts for."""


def fit_best(x: Floats, y: Integers, ways: int, weight: Floats | None = None) -> tuple[Rule | Chosen, Calibration]:
    """The rule that is best for the examples: ridge, cosine or squared; with very many only squared.

    Args:
        x: [n, F], finite.
        y: [n] in [0, ways), every class at least once.
        ways: K.
        weight: [n] above zero, as if an example were there so often.
    """
    count = len(x) if weight is None else float(weight.sum())
    if ways == 1 or count * ways > LARGEST or not x.any(1).all():
        return fit_head("squared", x, y, ways, weight)
    fitted = [fit_head(name, x, y, ways, weight) for name in FAMILY]
    return _chosen([rule for rule, _ in fitted], [found for _, found in fitted], weight)


def fit_named(x: Floats, y: Integers, names: Floats) -> tuple[Chosen, Calibration]:
    """The rule that is best for the examples among those that also know a vector for the name of each class.

    In a rule of weight κ a name counts as κ examples, which are never left out, nor compared with. A class without
    examples has its name only. With very many examples, or few that can be judged, a name counts as one.

    Args:
        x: [n, F] examples, none zero; n may be 0.
        y: [n] in [0, K).
        names: [K, F], none zero.
    """
    family = NAMED if 0 < len(x) * len(names) <= LARGEST and len(names) > 1 else NAMED[:1]
    rules = [_knowing(x, y, names, kind, weight) for kind, weight in family]
    return _chosen(rules, [_calibrated(rule, names) for rule in rules])


def _chosen(rules: list[Rule], found: list[Calibration], weight: Floats | None = None) -> tuple[Chosen, Calibration]:
    """With the rule that judges best without the new one as the one that answers."""
    y = rules[0].y
    w = np.ones(len(y)) if weight is None else weight
    few = 2 * w[np.bincount(y, w)[y] > np.minimum(w, 1)].sum() < w.sum() or not found[0].examples
    best = 0 if few else int(np.argmin([one.log_loss if one.examples else np.inf for one in found]))
    return Chosen(tuple(rules), best), found[best]


def _knowing(x: Floats, y: Integers, names: Floats, kind: str, weight: float) -> Rule:
    """A rule fitted to examples and weighted names, of which only the examples stay."""
    n, ways = len(x), len(names)
    length = np.linalg.norm(names, axis=1, keepdims=True)
    every = np.concatenate([x, (names / length).astype(x.dtype)])
    labels = np.concatenate([y, np.arange(ways)])
    weights = np.concatenate([np.ones(n), np.full(ways, weight)])
    if kind == "ridge":
        ridge = fit_ridge_margin(every, labels, ways, weight=weights)
        parts = {name: getattr(ridge, name)[:n] for name in ("y", "inside", "answers", "leverage")}
        return ridge._replace(**parts)
    rule, _ = fit_head(kind, every, labels, ways, weights)
    assert isinstance(rule, NearestMean)
    per_example = ("x", "y", "squares", "to_own", "own", "near", "near_class", "score")
    rule = rule._replace(**{name: getattr(rule, name)[:n] for name in per_example})
    return rule._replace(order=np.sort(rule.score))


def _calibrated(rule: Rule, names: Floats) -> Calibration:
    """The temperature, from examples judged without themselves; without any, a guess from names."""
    if not len(rule.y):
        apart = rule_distances(rule, names)
        return calibrate(apart[:0], rule.y, guess=float(np.median(apart)) / 4 or 1.0)
    if isinstance(rule, RidgeMargin):
        return calibrate(-ridge_leave_one_out(rule), rule.y, guess=0.25)
    rows, without = leave_one_out(rule)
    return calibrate(without, rule.y[rows], guess=0.1)
