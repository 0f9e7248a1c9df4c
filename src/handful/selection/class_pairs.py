"""Class pairs: classes that the learner confuses meet in a task more often.

Paper: Liu, Wang, Sahoo, Fang, Zhang & Hoi 2020, arXiv:2007.08735, greedy class-pair sampling.
    log C(i, j) -> potentials        τ -> memory        α -> eagerness
    p̄(i, j) -> the mean probability that queries of i get for j, and queries of j for i
Departures:
    1. Confusions are those after the step on a task, not before it, so that a step is a function of (seed, t, state).
    2. τ and α have values of our own; the paper chooses them for each data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.episodes import Draw, Episodes
from ..errors import SpecError
from ..learner import Learner
from ..ops.seeds import generator
from .base import Selection

__all__ = ["ClassPairs"]


@final
class ClassPairs(Selection):
    """Classes drawn greedily, each with a probability that is the product of its potentials with those before.

    Args:
        episodes: as for `Selection`; its pool may have some ten thousand classes: potentials are a square of them.
        held_out: not used.
        learner: as for `Selection`.
        memory: τ, the power to which a potential is raised when its classes meet again, from 0 (no memory) to 1.
        eagerness: α, how much a confusion counts; 0 is uniform sampling.

    Raises:
        SpecError: a number out of range, or tasks that draw one class of a family at most.
    """

    paper = "Liu et al. 2020, arXiv:2007.08735"

    def __init__(
        self,
        episodes: Episodes,
        held_out: Episodes | None,
        learner: Learner,
        *,
        memory: float = 0.5,
        eagerness: float = 1.0,
    ) -> None:
        super().__init__(episodes, held_out, learner)
        if not 0 <= memory <= 1 or eagerness < 0:
            raise SpecError(
                f"class pairs: expected memory from 0 to 1 and eagerness of at least 0, got {memory} and {eagerness}"
            )
        if episodes.families:
            raise SpecError("class pairs: draws classes, whatever their family; expected families = false")
        self.memory, self.eagerness = memory, eagerness
        classes = episodes.pool.classes
        self.potentials = np.zeros((classes, classes), dtype=np.float32)  # log C, symmetric; C overflows where τ = 1
        np.fill_diagonal(self.potentials, -np.inf)  # never a class with itself
        self.totals = np.full(classes, np.log(max(classes - 1, 1)))  # log of the sum of C over each class's pairs

    def draw(self, t: int) -> Draw:
        """A pair with probability C(i, j), then class after class with Π C(i, k) over those chosen before."""
        random = generator("class pairs", self.episodes.seed, t)
        ways = int(random.integers(self.episodes.ways[0], self.episodes.ways[1] + 1))
        logs = np.tile(self.totals, (self.episodes.batch, 1))  # [B, C]
        chosen = []
        for place in range(ways):
            below = np.exp(logs - logs.max(1, keepdims=True)).cumsum(1)
            threshold = random.random((len(logs), 1)) * below[:, -1:]
            chosen.append((below <= threshold).sum(1))  # [B]
            logs = (logs if place else 0.0) + self.potentials[chosen[-1]].astype(np.float64)
        return self.episodes.draw(t, random.permuted(np.stack(chosen, 1), axis=1))

    def note(self, t: int, draw: Draw) -> None:
        """C(i, j) ← C(i, j)^τ · exp(α·p̄(i, j)) for the pairs of each task."""
        right = torch.nn.functional.one_hot(draw.query_y, draw.classes.shape[1]).float()  # [B, Q, N]
        given = right.mT @ self.answers(draw).float() / right.sum(1).clamp(min=1).unsqueeze(-1)  # [B, N, N], i to j
        confusions = ((given + given.mT) / 2).numpy()
        for classes, confusion in zip(draw.classes.numpy(), confusions, strict=True):
            pairs = np.ix_(classes, classes)
            own = np.nan_to_num(self.potentials[pairs], neginf=0.0)
            self.potentials[pairs] = self.memory * own + self.eagerness * confusion
            self.potentials[classes, classes] = -np.inf
        touched = np.unique(draw.classes)
        self.totals[touched] = _log_sums(self.potentials[touched])

    def state(self) -> Mapping[str, Tensor]:
        """The pairs that have met, and the logarithms of their potentials."""
        rows, columns = np.nonzero(np.triu(self.potentials, 1))
        pairs = torch.from_numpy(np.stack([rows, columns]))
        return {"pairs": pairs, "log_potentials": torch.from_numpy(self.potentials[rows, columns])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        rows, columns = state["pairs"].numpy()
        kept = state["log_potentials"] if "log_potentials" in state else state["potentials"].log()  # of earlier runs
        self.potentials.fill(0)
        np.fill_diagonal(self.potentials, -np.inf)
        self.potentials[rows, columns] = self.potentials[columns, rows] = kept.numpy()
        self.totals = _log_sums(self.potentials)


def _log_sums(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """log Σ exp of each row."""
    return np.array([row.max() + np.log(np.exp(row - row.max()).sum(dtype=np.float64)) for row in rows])
