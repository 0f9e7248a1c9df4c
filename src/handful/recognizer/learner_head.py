"""Any learner as the head of a recognizer: in closed form where it has one, else by cross-conformal prediction.

A learner must treat its examples alike, whatever their order. Most do; to those that hear them one after the other
they are given in an order that depends on nothing but what they are.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..episode import Support
from ..learner import EmbeddingLearner, Learner
from ..learners import PrototypicalNetwork
from ..ops.conformal import Head
from ..ops.cross_conformal import fold_ranks, folds_of, margins, miss_bound
from ..ops.heads import fit_head
from ..ops.mean_ranks import Ranks
from ..ops.temperature import Calibration, calibrate

__all__ = ["CrossConformal", "fit_learner"]

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]
FOLDS = 50
FEWEST = 10
MEMORY = 1 << 28
"""Numbers that the adapted learners of all folds may hold together, unless that leaves fewer than ten folds."""
QUERIES = 1 << 24
"""Numbers of queries that are given to adapted learners at once."""
_STREAM = threading.RLock()


def fit_learner(
    learner: Learner, x: Floats, y: Integers, ways: int, shape: tuple[int, ...]
) -> tuple[Head, Calibration]:
    """A learner adapted to examples, and the temperature of its probabilities.

    Args:
        learner: in evaluation mode; it answers each query by itself.
        x: [n, F] float32, features of its encoder, or examples, as rows.
        y: [n] in [0, ways), every class at least once.
        ways: K.
        shape: of a row before it was flattened.
    """
    if isinstance(learner, PrototypicalNetwork) and len(shape) == 1:
        return fit_head("squared", x, y, ways)
    head = CrossConformal(learner, x, y, ways, shape)
    return head, calibrate(_finite(head.without), head.y, guess=1.0)


class _Adapted(NamedTuple):
    """Learners adapted to the examples of several folds that lack the same classes."""

    folds: Integers  # [B]
    classes: Integers  # [N], those that are there
    state: Any


@final
class CrossConformal:
    """A learner adapted to all examples, which answers, and to all but a fold, for each fold, which rank.

    Attributes:
        y: [n] labels of the examples held out.
        size: [K] of all examples.
        without: [n, K] distances by learners that have not seen them; infinite to a class unknown without the fold.
    """

    def __init__(self, learner: Learner, x: Floats, y: Integers, ways: int, shape: tuple[int, ...]) -> None:
        self._learner, self._shape, self._ways = learner, shape, ways
        place = np.argsort([hashlib.sha256(row.tobytes()).hexdigest() for row in x], kind="stable")
        self._rank = place.argsort()  # of each example in the order in which learners hear them
        self._x, self._y = torch.tensor(x, dtype=torch.float32).view(len(x), *shape), y
        self.size = np.bincount(y, minlength=ways).astype(np.float64)
        self._all = self._adapted(np.arange(len(x))[None])
        held = sum(leaf.numel() for leaf in _leaves(self._all[0].state))
        self.folds = folds_of(len(x), min(FOLDS, max(FEWEST, MEMORY // max(held, 1))))
        self._parts = self._adapted(self.folds.kept)
        answers = np.full((*self.folds.held.shape, ways), np.inf)  # [folds, m, K]
        for part in self._parts:
            queries = self._x[self.folds.held[part.folds]]  # [B, m, *shape]
            answers[np.ix_(part.folds, np.arange(queries.shape[1]), part.classes)] = self._distances(part, queries)
        labels = y[self.folds.held]
        self._held = np.take_along_axis(margins(answers), labels[..., None], 2)[..., 0]  # [folds, m]
        self._labels, self.y, self.without = labels, labels.ravel(), answers.reshape(-1, ways)

    def missed(self, epsilon: float) -> float:
        """How often the true class may be missing at most, where about ε is aimed at."""
        return miss_bound(self.folds.examples, len(self.folds.held), epsilon)

    @property
    def each_class(self) -> bool:
        """Whether the bound holds for each class by itself: with folds of one example."""
        return len(self.folds.held) == self.folds.examples

    def ranks(self, z: Floats, *, strictly: bool = False) -> Ranks:
        """As `mean_ranks`, each example by learners that have not seen it."""
        found = [fold_ranks(self._held, self._labels, part, strictly=strictly) for part in self._asked(z)]
        return Ranks(np.concatenate([one.all for one in found]), np.concatenate([one.own for one in found]))

    def distances(self, z: Floats) -> Floats:
        """Minus the logits of the learner that has seen all examples: [Q, F] -> [Q, K]."""
        (part,) = self._all
        queries = torch.from_numpy(np.asarray(z, np.float32)).view(len(z), *self._shape)
        found: Floats = self._distances(part, queries[None])[0]
        return found

    def _asked(self, z: Floats) -> Iterator[Floats]:
        """Scores of new examples for each label, to the learners of each fold: [some, folds, K]."""
        x = torch.from_numpy(np.asarray(z, np.float32)).view(len(z), *self._shape)
        step = max(1, QUERIES // max(1, x[0].numel() * len(self.folds.held)))
        for start in range(0, len(z), step):
            some = x[start : start + step]
            answers = np.full((len(self.folds.held), len(some), self._ways), np.inf)
            for part in self._parts:
                queries = some.expand(len(part.folds), *some.shape)
                answers[np.ix_(part.folds, np.arange(len(some)), part.classes)] = self._distances(part, queries)
            yield margins(answers).transpose(1, 0, 2)

    def _adapted(self, rows: Integers) -> list[_Adapted]:
        """Learners adapted to [B, S] examples each; to those without examples none, nor, without a class, to those
        whose learner needs every class."""
        rows = np.take_along_axis(rows, self._rank[rows].argsort(1), 1)
        there = [tuple(np.unique(self._y[some]).tolist()) for some in rows]
        found = []
        for classes, group in groupby(sorted(range(len(rows)), key=there.__getitem__), key=there.__getitem__):
            folds = np.array(list(group))
            if not classes or (len(classes) < self._ways and not self._learner.any_ways):
                continue
            number = np.full(self._ways, -1)
            number[list(classes)] = np.arange(len(classes))
            x, y = self._x[rows[folds]], torch.from_numpy(number[self._y[rows[folds]]])
            with _repeatable():
                state = (
                    self._learner.adapt_features(x, y, len(classes))
                    if isinstance(self._learner, EmbeddingLearner)
                    else self._learner.adapt(Support(x, y, len(classes)))
                )
            found.append(_Adapted(folds, np.array(classes), state))
        return found

    def _distances(self, part: _Adapted, x: Tensor) -> Floats:
        """Minus logits for queries [B, Q, *shape] of adapted learners: [B, Q, N]."""
        with _repeatable():
            logits = (
                self._learner.predict_features(part.state, x)
                if isinstance(self._learner, EmbeddingLearner)
                else self._learner.predict(part.state, x)
            )
        found: Floats = -logits.double().numpy()
        return found


def _finite(distance: Floats) -> Floats:
    """A class that is not known as far as the farthest that is; where none is, all alike."""
    known = np.isfinite(distance)
    farthest = np.where(known, distance, -np.inf).max(1, keepdims=True)
    found: Floats = np.where(known, distance, np.where(np.isfinite(farthest), farthest, 0))
    return found


def _leaves(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | tuple | list):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _leaves(part)


@contextmanager
def _repeatable() -> Iterator[None]:
    """Learners that draw random numbers draw the same ones each time; one thread at a time, for all have one stream."""
    with _STREAM, torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(0)
        yield
