"""Full conformal prediction: candidate sets that hold the true class as often as promised, from every example there is.

A new example is added to a class, all examples are scored by one rule that does not know which of them is new, and
the share of scores at least as strange as the new one's is its p-value for that class. If the new example comes from
where the others came from (they are exchangeable), a p-value is at most ε at most ε of the time. So the classes with a
p-value above ε are candidates, and the true class is missing at most ε of the time. No candidate at all: unknown.

Sources: Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World", chapters 2 and 4 (full and Mondrian
conformal prediction). That no quantile is clamped: with n examples no p-value is below 1/(n+1), and a promise that
needs a smaller one keeps every class.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .choosing import Chosen, Rule, chosen_ranks, rule_ranks
from .mean_ranks import Ranks

__all__ = ["Adaptive", "Head", "PValues", "candidates", "examples_needed", "p_values", "refusals_are_too_many"]

Floats = NDArray[np.floating]
ROUNDING = 1e-9


class Adaptive(Protocol):
    """A rule that ranks by itself, and answers as it likes."""

    @property
    def y(self) -> NDArray[np.int64]:
        """[n] labels of the examples that are ranked."""

    @property
    def without(self) -> Floats:
        """[n, K] distances of the examples, each by a learner that has not seen it."""

    @property
    def size(self) -> Floats:
        """[K] sizes of the classes."""

    def ranks(self, z: Floats, *, strictly: bool = False) -> Ranks:
        """As `mean_ranks`."""

    def distances(self, z: Floats) -> Floats:
        """How far new examples are from each class: [Q, F] -> [Q, K]."""


Head = Rule | Chosen | Adaptive


class PValues(NamedTuple):
    """For each new example and class."""

    overall: Floats  # [Q, K], among all examples
    own: Floats  # [Q, K], among the examples of that class


def examples_needed(epsilon: float) -> int:
    """The fewest examples that a promise to err at most ε of the time can be made from: 9 for 0.1, 19 for 0.05."""
    return math.ceil(1 / epsilon - ROUNDING) - 1


def p_values(head: Head, z: Floats, *, random: np.random.Generator | None = None) -> PValues:
    """How usual each new example would be in each class.

    Args:
        head: a rule that has been fitted to examples without weights.
        z: [Q, F].
        random: break ties at random: p-values are then uniform, not only at least uniform, but an answer is no longer
            the same each time.
    """
    ranks = _ranks(head, z)
    sizes = np.bincount(head.y, minlength=len(head.size))
    if random is None:
        return PValues((ranks.all + 1) / (len(head.y) + 1), (ranks.own + 1) / (sizes + 1))
    above, u = _ranks(head, z, strictly=True), random.random(ranks.all.shape)
    return PValues(
        (above.all + u * (ranks.all - above.all + 1)) / (len(head.y) + 1),
        (above.own + u * (ranks.own - above.own + 1)) / (sizes + 1),
    )


def _ranks(head: Head, z: Floats, *, strictly: bool = False) -> Ranks:
    if isinstance(head, Chosen):
        return chosen_ranks(head, z, strictly=strictly)
    return rule_ranks(head, z, strictly=strictly) if isinstance(head, Rule) else head.ranks(z, strictly=strictly)


def candidates(p: PValues, sizes: NDArray[np.integer], epsilon: float, *, each_class: bool = True) -> NDArray[np.bool_]:
    """Which classes stay in: [Q, K].

    A class stays in if its p-value among all examples is above ε: the true class is then missing at most ε of the
    time, over all that is asked. With `each_class`, classes that have enough examples get promises of their own. Where
    all have, each is judged among its own examples, from which the promise over all follows. Where only some have,
    these also stay in if their p-value among their own examples is above ε: a set that only grows keeps the promise
    over all.

    Args:
        p: the p-values.
        sizes: [K], examples of each class.
        epsilon: ε, in (0, 1).
        each_class: whether classes get promises of their own.
    """
    overall, own = p.overall > epsilon + ROUNDING, p.own > epsilon + ROUNDING
    if not each_class:
        return overall
    enough = np.asarray(sizes) >= examples_needed(epsilon)
    return own if enough.all() else overall | (own & enough)


def refusals_are_too_many(refused: int, asked: int, epsilon: float, *, chance: float = 1e-3) -> bool:
    """Whether so many of those asked were refused that, if all were known things like the examples, it would be a
    coincidence of less than `chance`: then there are strangers among them, or they differ from the examples.
    """
    count = np.arange(asked + 1)
    choices = np.concatenate([[0.0], np.cumsum(np.log(np.arange(asked, 0, -1) / np.arange(1, asked + 1)))])
    log_binomial = choices + count * math.log(epsilon) + (asked - count) * math.log1p(-epsilon)
    return float(np.exp(log_binomial[refused:]).sum()) < chance
