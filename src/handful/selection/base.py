"""What every selection of tasks is: a source of episodes that is told after each step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from ..data.episodes import Draw, Episodes
from ..episode import Episode
from ..learner import Learner
from ..ops.seeds import seed_of
from ..scoring import evaluation_mode

__all__ = ["Selection"]


class Selection(ABC):
    """Batches of tasks that depend on the learner.

    `selection[t]` is a function of data, seed, t, the learner's weights and `state()`; it changes none of them.
    `learned(t)` takes note of what the learner, after step t, makes of the batch of step t.

    Args:
        episodes: uniform tasks, whose pool, sizes and seed it uses.
        held_out: tasks of other classes to judge by, where there are any.
        learner: what is being trained.
    """

    paper: ClassVar[str] = ""
    """Author, year and identifier."""

    def __init__(self, episodes: Episodes, held_out: Episodes | None, learner: Learner) -> None:
        self.episodes, self.held_out, self.learner = episodes, held_out, learner

    @abstractmethod
    def draw(self, t: int) -> Draw:
        """The tasks of step t as numbers."""

    @abstractmethod
    def note(self, t: int, draw: Draw) -> None:
        """Change the state by what the learner makes of the tasks of step t."""

    @abstractmethod
    def state(self) -> Mapping[str, Tensor]:
        """What it must remember to go on."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""

    @final
    def __getitem__(self, t: int) -> Episode:
        """The tasks of step t."""
        self._drawn = self.draw(t)
        return self.episodes.make(self._drawn)

    @final
    def learned(self, t: int) -> None:
        """Step t, the one whose tasks were asked for last, is done."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed_of("selection", self.episodes.seed, t))
            self.note(t, self._drawn)

    @property
    def device(self) -> torch.device:
        """Where the learner is."""
        return next((p.device for p in self.learner.parameters()), torch.device("cpu"))

    @final
    def answers(self, draw: Draw) -> Tensor:
        """Probabilities that the learner, as it is now, gives the queries of these tasks: [B, Q, N]."""
        episode = self.episodes.make(draw).to(self.device)
        with torch.no_grad(), evaluation_mode(self.learner):
            logits = self.learner.predict(self.learner.adapt(episode.support), episode.query.x)
        return logits.softmax(-1).cpu()
