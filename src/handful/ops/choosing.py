"""One of several rules, chosen by the examples themselves without breaking the promise.

Chosen by the examples alone, a rule would know them and not what is asked, so that the scores of both could not be
compared. Here the new example takes part: for each class that it might be of, it is added to that class, every rule
judges all n + 1 examples, each without itself (`ops.augmented`), and the rule with the least loss gives the scores. The
choice does not depend on which of the n + 1 is new. So if they are exchangeable, then so are their scores, and the
p-value is at most ε at most ε of the time, as with one rule (Vovk, Gammerman & Shafer 2005: any score will do that
treats all examples alike).

Where fewer than half of the n + 1 can be judged, since the others are alone in their class, the first rule stays. Where
the new one is a vector of zeros, which has no direction, the last one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .augmented import judge
from .mean_ranks import Ranks, mean_ranks
from .nearest_mean import NearestMean, distances
from .ridge_margin import RidgeMargin, ridge_answers, ridge_ranks

__all__ = ["Chosen", "chosen_ranks", "rule_distances", "rule_ranks"]

Floats = NDArray[np.floating]
Rule = NearestMean | RidgeMargin


class Chosen(NamedTuple):
    """Rules fitted to the same examples.

    Attributes:
        rules: the first one stays where little can be judged, the last one where there is no direction.
        best: the one that gives probabilities, chosen by the examples alone; no promise rests on it.
    """

    rules: tuple[Rule, ...]
    best: int

    @property
    def y(self) -> NDArray[np.int64]:
        """[n] labels of the examples."""
        return self.rules[0].y

    @property
    def size(self) -> Floats:
        """[K] sizes of the classes."""
        return self.rules[0].size


def chosen_ranks(state: Chosen, z: Floats, *, strictly: bool = False) -> Ranks:
    """As `mean_ranks`, by the rule that is best for the examples and the new one together."""
    rules, asked = state.rules, np.arange(len(z))[:, None]
    if len(rules) == 1 or len(state.size) == 1 or not len(state.y):
        return rule_ranks(rules[0], z, strictly=strictly)
    judged = [judge(rule, z) for rule in rules]
    best = np.argmin([one.loss for one in judged], 0)  # [Q, K]
    best[judged[0].share < 0.5] = 0
    best[~np.asarray(z).any(1)] = len(rules) - 1
    ranks = [rule_ranks(rule, z, strictly=strictly) for rule in rules]
    classes = np.arange(len(state.size))
    return Ranks(
        np.stack([one.all for one in ranks])[best, asked, classes],
        np.stack([one.own for one in ranks])[best, asked, classes],
    )


def rule_ranks(rule: Rule, z: Floats, *, strictly: bool = False) -> Ranks:
    """How many examples are at least as strange as each new one, in each class."""
    if not len(rule.y):
        zeros = np.zeros((len(z), len(rule.size)), np.int64)
        return Ranks(zeros, zeros)
    if isinstance(rule, NearestMean):
        return mean_ranks(rule, z, strictly=strictly)
    return ridge_ranks(rule, z, strictly=strictly)


def rule_distances(rule: Rule, z: Floats) -> Floats:
    """How far new examples are from each class, in the rule's own measure: [Q, F] -> [Q, K]."""
    return distances(rule, z) if isinstance(rule, NearestMean) else -ridge_answers(rule, z)
