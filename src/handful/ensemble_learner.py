"""The protocol of gradient learners with several models for each task: members, which answer together."""

from __future__ import annotations

from torch import Tensor, full_like

from .episode import Data, Support
from .gradient_learner import Adapted, GradientLearner
from .ops.ensembles import each_time, folded, mixture, unfolded
from .ops.tasks import Named

__all__ = ["EnsembleLearner"]


class EnsembleLearner(GradientLearner):
    """A learner whose state holds L members for each task: parameters and buffers [B, L, ...].

    A subclass says `descend`, which ends with `taught`. Arguments and errors: those of GradientLearner.
    """

    kind = "generative"
    takes_complex = False

    def taught(self, parameters: Named, buffers: Named, support: Support) -> Adapted:
        """What a support taught, from the members' parameters and buffers [B, L, ...] by name."""
        ways = None if support.ways is None else full_like(support.y[:, 0], support.ways)  # [B]
        return Adapted(dict(parameters), dict(buffers), support.x if self.keeps_support else None, ways)

    def apart(self, state: Adapted) -> Adapted:
        """Every member as a task of its own, with the parameters that all have in common: [B·L, ...]."""
        own = folded(state.parameters)
        each, members = len(next(iter(own.values()))), _members(state)
        common = {name: leaf.expand(each, *leaf.shape) for name, leaf in self.model.named_parameters()}
        return Adapted({**common, **own}, folded(state.buffers), each_time(state.support, members))

    def answer(self, state: Adapted, x: Data, *, steps: int | None = None) -> Tensor:
        """The logarithm of the mean probability of the members, or the mean of their outputs: [B, Q, *out]."""
        return mixture(self.answer_each(state, x, steps=steps), classes=state.ways is not None)

    def answer_each(self, state: Adapted, x: Data, *, steps: int | None = None) -> Tensor:
        """The predictive distribution by its members: [B, L, Q, *out]."""
        members = _members(state)
        outputs = super().answer(self.apart(state), each_time(x, members), steps=steps)  # [B·L, Q, *out]
        return unfolded(outputs, members)  # type: ignore[no-any-return]

    def left(self, state: Adapted) -> dict[str, Tensor]:
        """The buffers that a step of training leaves, those of the first member: [B, ...] by name."""
        return {name: leaf[:, 0] for name, leaf in state.buffers.items()}


def _members(state: Adapted) -> int:
    return next(iter(state.parameters.values())).shape[1]
