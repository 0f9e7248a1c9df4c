"""Adaptive task scheduler: a small network learns which of several candidate tasks help on other classes.

Paper: Yao, Wang, Wei, Zhao, Mahdavi, Lian & Finn 2021, arXiv:2110.14057.
    candidate pool -> `pool` batches of uniform tasks        scheduler φ -> hidden, output
    features of a task: its query loss, and the similarity of its support and query gradients
    reward -> how much the loss on held-out classes falls
Departures:
    1. The reward is that of the training step itself, not of a step on a temporary copy that is then taken again.
    2. Gradients are compared by their cosine, the support's being that of the support as its own query; features
       are standardized over the candidates.
    3. Tasks are chosen one after the other without putting back, and φ follows the exact gradient of the logarithm of
       that probability by plain gradient ascent, with a running mean of the rewards as baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from ..data.episodes import Draw, Episodes
from ..episode import Episode, Query
from ..errors import SpecError
from ..learner import Learner
from ..ops.seeds import generator, seed_of
from ..scoring import evaluation_mode
from .base import Selection

__all__ = ["TaskScheduler"]

SMOOTHING = 0.9


@final
class TaskScheduler(Selection):
    """The tasks of a step are chosen among several times as many.

    Args:
        episodes: as for `Selection`, with one number of ways and of shots.
        held_out: tasks of the split "val".
        learner: as for `Selection`.
        pool: how many batches of candidates there are for each that is chosen.
        rate: learning rate of the scheduler.
        hidden: its hidden units.

    Raises:
        SpecError: a number out of range, ranges of ways or shots, or no split "val".
    """

    paper = "Yao et al. 2021, arXiv:2110.14057"

    def __init__(
        self,
        episodes: Episodes,
        held_out: Episodes | None,
        learner: Learner,
        *,
        pool: int = 2,
        rate: float = 0.1,
        hidden: int = 16,
    ) -> None:
        super().__init__(episodes, held_out, learner)
        if pool < 2 or rate < 0 or hidden < 1:
            raise SpecError(
                "scheduler: expected a pool of at least 2 batches, a rate of at least 0 and a hidden unit, "
                f"got {pool}, {rate} and {hidden}"
            )
        if len({*episodes.ways}) > 1 or len({*episodes.shots}) > 1 or episodes.ragged:
            raise SpecError("scheduler: expected one number of ways and of shots, so that candidates are of one size")
        if held_out is None:
            raise SpecError("scheduler: judges by classes of the split 'val', which these data do not have")
        self.pool, self.rate, self.judges = pool, rate, held_out
        random = torch.Generator().manual_seed(seed_of("scheduler", episodes.seed))
        self.network = [
            (torch.randn(2, hidden, generator=random) / 2**0.5).requires_grad_(),
            torch.zeros(hidden).requires_grad_(),
            (torch.randn(hidden, 1, generator=random) / hidden**0.5).requires_grad_(),
        ]
        self.baseline = torch.zeros(())

    def draw(self, t: int) -> Draw:
        """The candidates that come first when each score has Gumbel noise added: a choice without putting back."""
        batches = [self.episodes.draw(t * self.pool + part) for part in range(self.pool)]
        candidates = Draw(*(torch.cat(leaves) for leaves in zip(*batches, strict=True)))
        self._features = self._seen(candidates)
        noise = torch.from_numpy(generator("scheduler", self.episodes.seed, t).gumbel(size=candidates.tasks)).float()
        self._order = (self._scores().detach() + noise).argsort(descending=True)
        self._before = self._judged(t)
        chosen = self._order[: self.episodes.batch]
        return Draw(*(leaf[chosen] for leaf in candidates))

    def note(self, t: int, draw: Draw) -> None:
        """φ ← φ + rate · (reward − baseline) · ∇ log p(chosen)."""
        reward = self._before - self._judged(t)
        scores = self._scores()[self._order]
        left = scores.flip(0).logcumsumexp(0).flip(0)  # of those not yet chosen at each place
        chosen = (scores - left)[: draw.tasks].sum()  # log p
        slopes = torch.autograd.grad(chosen, self.network)
        with torch.no_grad():
            for weight, slope in zip(self.network, slopes, strict=True):
                weight += self.rate * (reward - self.baseline) * slope
        self.baseline = SMOOTHING * self.baseline + (1 - SMOOTHING) * reward

    def state(self) -> Mapping[str, Tensor]:
        """The scheduler's weights and its baseline."""
        weights = {f"network.{place}": weight.detach().clone() for place, weight in enumerate(self.network)}
        return {**weights, "baseline": self.baseline.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self.network = [state[f"network.{place}"].clone().requires_grad_() for place in range(len(self.network))]
        self.baseline = state["baseline"]

    def _scores(self) -> Tensor:
        """log p of each candidate, up to a constant: [M]."""
        first, bias, last = self.network
        return torch.mv(torch.tanh(self._features @ first + bias), last[:, 0])

    def _seen(self, candidates: Draw) -> Tensor:
        """Query loss, and cosine of support and query gradients, of each candidate, standardized: [M, 2]."""
        rows = []
        for task in range(candidates.tasks):
            episode = self.episodes.make(candidates.part(task, task + 1))
            loss, slope = self._slope(episode)
            _, inner = self._slope(Episode(episode.support, Query(episode.support.x, episode.support.y)))
            rows.append(torch.stack([loss, torch.cosine_similarity(slope, inner, 0)]))
        features = torch.stack(rows)
        return (features - features.mean(0)) / (features.std(0) + 1e-6)

    def _slope(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """The learner's loss on a task, and its gradient as one vector."""
        wanted = [parameter for parameter in self.learner.parameters() if parameter.requires_grad]
        with torch.enable_grad(), evaluation_mode(self.learner):
            loss = self.learner.loss(episode.to(self.device))
            found = torch.autograd.grad(loss, wanted, allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)]
        return loss.detach().cpu(), torch.cat([leaf.flatten() for leaf in flat]).cpu()

    def _judged(self, t: int) -> Tensor:
        """The learner's loss on the t-th batch of held-out classes."""
        with torch.no_grad(), evaluation_mode(self.learner):
            return self.learner.loss(self.judges[t].to(self.device)).cpu()
