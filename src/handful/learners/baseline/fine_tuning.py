"""Fine-tuning: a trained network goes on learning from the support, and if it may, from all queries of the task.

Paper: Dhillon, Chaudhari, Ravichandran & Soatto 2020, arXiv:1909.02729.
    z(x; θ) -> features        w, b (eq. 6) -> "/weight" [B, N, F] and "/bias" [B, N] in Adapted.parameters
    logits (eq. 7) -> forward_each        Θ* (eq. 8), with or without its second term -> tuned
Departures:
    1. z are the encoder's features; the authors take the logits of the training classes, rectified. Of many features
       with a common mean the entropy's steps can give all queries to few classes: see docs/methods/fine_tuning.md.
    2. Each example is normalized by its policy, in evaluation by running estimates; the authors' code tunes by the
       statistics of the batch, and moves the estimates.
    3. Examples are taken as they are, in both trainings; the authors augment them, and pre-train with label smoothing
       and mixup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...encoders.normalization import adapting
from ...episode import Data, Episode, Support, join_data
from ...errors import unknown_name
from ...gradient_learner import Adapted, GradientLearner
from ...learner import plain_encoder
from ...ops.classes import membership
from ...ops.engine import Engine
from ...ops.optimizers import InnerOptimizer, Memory
from ...ops.precision import precise
from ...ops.tasks import Named, call_each, map_tasks
from ...pretrained_learner import classification_loss, classifier_of

__all__ = ["FineTuning", "TransductiveFineTuning"]

HEAD = ("/weight", "/bias")
"""No module of an encoder can have a parameter of these names."""


class _FineTuning(GradientLearner):
    """Gradient steps on the encoder and on a head that begins with cosines to the class means; see `FineTuning`."""

    paper = "Dhillon, Chaudhari, Ravichandran & Soatto 2020, arXiv:1909.02729"
    kind = "baseline"
    regression = False
    any_ways = True

    def __init__(
        self,
        encoder: nn.Module,
        *,
        classes: int | None = None,
        adapted: Literal["all", "head"] = "all",
        steps: int = 25,
        rate: float = 5e-5,
        optimizer: Mapping[str, Any] | None = None,
        engine: Engine | None = None,
    ) -> None:
        if adapted not in ("all", "head"):
            raise unknown_name("adapted", adapted, ("all", "head"))
        own = [name for name, leaf in encoder.named_parameters() if leaf.requires_grad and adapted == "all"]
        super().__init__(plain_encoder(encoder), inner_steps=steps, adapted=(*own, *HEAD), engine=engine)
        self.optimizer = InnerOptimizer.of(optimizer or {"name": "adam"}, lr=rate)
        self.classifier = classifier_of(encoder, classes)

    @property
    def encoder(self) -> nn.Module:
        """What classification trains."""
        return self.model

    def meta_loss(self, episode: Episode) -> tuple[Tensor, Named]:
        """Cross-entropy: of all examples among all training classes, or, without `classes`, of the queries."""
        if self.classifier is None:
            return super().meta_loss(episode)
        self._ways(episode.support)
        state = super().begin(episode.support)
        x = join_data([episode.support.x, episode.query.x], 1)
        logits = self.classifier(self.features({**state.parameters, **state.buffers}, x))  # [B, S + Q, classes]
        return classification_loss(logits, episode), state.buffers

    def begin(self, support: Support) -> Adapted:
        """Every task with the encoder's own tensors, the head w_k = c_k / ‖c_k‖, b_k = 0 (eq. 6), and its support."""
        ways = self._ways(support)
        state, apart = super().begin(support), super().begin(support).parameters
        with adapting(0):  # on views apart: the gradient in θ is for a given head, and does not go through c
            z = precise(self.features({**apart, **state.buffers}, support.x))  # [B, S, F]
        member = membership(support.y, ways, support.weight, dtype=z.dtype)  # [B, S, N]
        w = normalize(member.mT @ z, dim=-1)  # [B, N, F] sums and means have one direction
        head = dict(zip(HEAD, (w, w.new_zeros(w.shape[:2])), strict=True))
        return state._replace(parameters={**state.parameters, **head}, support=support.x, member=member)

    def features(self, state: Named, x: Data) -> Tensor:
        """z by each task's own encoder: [B, S, *shape] -> [B, S, F]."""
        return call_each(self.model, {name: leaf for name, leaf in state.items() if name[0] != "/"}, x)

    def forward_each(self, state: Named, x: Data) -> Tensor:
        """Logits w·z/‖z‖ + b (eq. 7)."""
        return _logits(state, self.features(state, x))  # [B, S, N]

    def tuned(self, state: Adapted, queries: Data | None = None) -> Adapted:
        """Θ after `steps` times a step on the support's cross-entropy and, with queries, one on their entropy (eq. 8).

        Args:
            state: from `begin`.
            queries: [B, Q, *shape].
        """
        assert state.support is not None
        assert state.member is not None
        theta, member = state.parameters, state.member
        examples = {"/support": state.support} | ({} if queries is None else {"/queries": queries})
        if self.adapted == HEAD:  # then features stay as they are, and are all that is needed of the encoder
            with adapting(0):
                z = {name: self.features({**theta, **state.buffers}, data) for name, data in examples.items()}
            theta = {**{name: theta[name] for name in HEAD}, **z}

        def log_p(theta: Named, name: str) -> Tensor:
            with adapting(0):
                z = theta[name] if name in theta else self.features(theta, examples[name])
            return _logits(theta, z).log_softmax(-1)

        def cross_entropy(theta: Named) -> Tensor:
            return -(member * log_p(theta, "/support")).sum((1, 2)) / member.sum((1, 2))  # [B]

        def entropy(theta: Named) -> Tensor:
            log = log_p(theta, "/queries")
            return -(log.exp() * log).sum(2).mean(1)  # [B]

        losses = [cross_entropy] if queries is None else [cross_entropy, entropy]
        memory: Memory = self.optimizer.init({name: theta[name] for name in self.adapted})
        for _ in range(self.steps):
            for loss in losses:
                g = self.engine.gradients(loss, theta, state.buffers, self.adapted)
                theta, memory = self.optimizer.step(theta, g, memory, task_axes=1)
        moved = {name: theta[name] for name in self.adapted}
        return state._replace(parameters={**state.parameters, **moved}, support=None, member=None)


def _logits(state: Named, z: Tensor) -> Tensor:
    return normalize(precise(z), dim=-1) @ state[HEAD[0]].mT + state[HEAD[1]].unsqueeze(1)  # [B, S, N]


@final
class FineTuning(_FineTuning):
    """Fine-tuning on the support: each query is answered by itself.

    Gradient steps on the encoder and on a head that begins with cosines to the class means.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        classes: how many classes the training pool has; None: train episode by episode, through the steps.
        adapted: "all" tunes the whole network, "head" the head alone.
        steps: on each of the losses.
        rate: of a step.
        optimizer: its rule, a table such as {"name": "sgd"}; None: Adam, as published.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        UnknownNameError: neither "all" nor "head".
        SpecError: fewer than one step; an option of the optimizer out of range; an embedding with max_norm.
        ShapeError: `classes` for an encoder that does not say its `out_features`; a normalization that needs a
            meta-learned encoder; when called, a regression task.
    """

    def descend(self, support: Support) -> Adapted:
        """Θ from the support's cross-entropy."""
        return self.tuned(self.begin(support))


@final
class TransductiveFineTuning(_FineTuning):
    """Fine-tuning on the support and all queries, when these are to be answered.

    Arguments and errors: those of FineTuning.
    """

    uses_queries = True

    def descend(self, support: Support) -> Adapted:
        """Where the task begins, and its support: what is tuned is tuned with the queries."""
        return self.begin(support)

    def answer(self, state: Adapted, x: Data, *, steps: int | None = None) -> Tensor:
        """Logits of Θ* (eq. 8)."""
        track = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(track):
            state, x = map_tasks(lambda leaf: leaf.clone() if leaf.is_inference() else leaf, (state, x))
            return super().answer(self.tuned(state, x), x)
