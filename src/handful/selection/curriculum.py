"""Curriculum on ways: tasks of few classes first, of one more whenever the learner is good enough.

Paper: Bengio, Louradour, Collobert & Weston 2009, doi:10.1145/1553374.1553380, from easy to hard.
Departures:
    1. Difficulty is the number of ways, and rises with the learner's accuracy, not by a schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np
import torch
from torch import Tensor

from ..data.episodes import Draw, Episodes
from ..errors import SpecError
from ..learner import Learner
from ..ops.seeds import generator
from .base import Selection

__all__ = ["Curriculum"]

SMOOTHING = 0.9


@final
class Curriculum(Selection):
    """Uniform tasks whose ways rise from `least` to those of the episodes, by one at a time.

    Args:
        episodes: as for `Selection`; its greatest number of ways is the last.
        held_out: not used.
        learner: as for `Selection`; one that answers tasks of any ways.
        least: ways at the start.
        goal: the smoothed accuracy on the training tasks at which ways rise.

    Raises:
        SpecError: a learner with a fixed head, or a number out of range.
    """

    paper = "Bengio et al. 2009, doi:10.1145/1553374.1553380"

    def __init__(
        self,
        episodes: Episodes,
        held_out: Episodes | None,
        learner: Learner,
        *,
        least: int = 2,
        goal: float = 0.9,
    ) -> None:
        super().__init__(episodes, held_out, learner)
        if not learner.any_ways:
            raise SpecError(f"curriculum: {type(learner).__name__} answers one number of ways only; train it uniformly")
        if not 2 <= least <= episodes.ways[1] or not 0 < goal <= 1:
            raise SpecError(
                f"curriculum: expected least from 2 to {episodes.ways[1]} ways and a goal in (0, 1], "
                f"got {least} and {goal}"
            )
        self.goal, self.ways, self.accuracy = goal, least, 0.0

    def draw(self, t: int) -> Draw:
        """Uniform classes, as many as now."""
        random = generator("curriculum", self.episodes.seed, t)
        return self.episodes.draw(t, self.episodes.classes(random, self.ways))

    def note(self, t: int, draw: Draw) -> None:
        """One more way when the smoothed accuracy reaches the goal; it is then smoothed from 0 again."""
        hits = float((self.answers(draw).argmax(-1) == draw.query_y).float().mean())
        self.accuracy = SMOOTHING * self.accuracy + (1 - SMOOTHING) * hits
        if self.accuracy >= self.goal and self.ways < self.episodes.ways[1]:
            self.ways, self.accuracy = self.ways + 1, 0.0

    def state(self) -> Mapping[str, Tensor]:
        """Ways and accuracy."""
        return {"ways": torch.tensor(self.ways), "accuracy": torch.from_numpy(np.array(self.accuracy))}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self.ways, self.accuracy = int(state["ways"]), float(state["accuracy"])
