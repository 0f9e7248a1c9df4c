"""Reptile: the initialization moves toward where a few steps on each task lead.

Paper: Nichol, Achiam & Schulman 2018, arXiv:1803.02999.
    φ (algorithm 1) -> θ, the model's parameters        φ̃ = U^k(φ) -> Adapted.parameters        k -> inner_steps
    φ ← φ + ε·(φ̃ − φ) -> the gradient θ − φ̃ of ½·mean‖θ − sg(φ̃)‖², descended by SGD at rate ε
Departures:
    1. The tasks of a batch begin at the same memory of the inner optimizer, and the mean of what they leave is kept;
       the authors work through them in a row.
    2. A loss in evaluation mode takes mini-batches as in training; `adapt` takes all examples at each step, in both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from ...episode import Episode, Support
from ...gradient_learner import Adapted, GradientLearner, mini_batch, with_head
from ...learner import at_least_one
from ...ops.engine import Engine
from ...ops.optimizers import InnerOptimizer
from ...ops.tasks import Named
from ...ops.vectors import totals

__all__ = ["Reptile"]


@final
class Reptile(GradientLearner):
    """Plain training on a task from a learned initialization; no derivative through it.

    In `loss` the supports and queries of a task are training examples alike, as Reptile does not split them. What the
    inner optimizer remembers (Adam's second moment) goes on from task to task, is kept in buffers, and is what new
    tasks begin with.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        inner_rate: of the inner optimizer.
        inner_steps: k, steps on a task while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        inner_batch: examples of each training step, drawn without replacement until all were seen; None: all.
        last_step: move along the last of the k steps alone (FOML in the authors' code).
        optimizer: of the inner loop, a table such as {"name": "sgd"}; None: Adam without momentum, as published.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a number of steps or examples below one; an optimizer's option out of range.
        ShapeError: nothing to adapt, or `outputs` for an encoder that does not say its `out_features`.
    """

    paper = "Nichol, Achiam & Schulman 2018, arXiv:1803.02999"
    takes_complex = False

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        inner_rate: float = 1e-3,
        inner_steps: int = 5,
        evaluation_steps: int | None = None,
        inner_batch: int | None = None,
        last_step: bool = False,
        optimizer: Mapping[str, Any] | None = None,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, engine=engine)
        at_least_one("Reptile", inner_batch=inner_batch)
        self.inner_batch, self.last_step = inner_batch, last_step
        self.optimizer = InnerOptimizer.of(optimizer or {"name": "adam", "betas": [0.0, 0.999]}, lr=inner_rate)
        theta = dict(model.named_parameters())
        memory = self.optimizer.init({name: theta[name].detach() for name in self.adapted})
        self.slots = {name: {slot: f"{slot}_{number}" for slot in memory[name]} for number, name in enumerate(memory)}
        for name, slots in self.slots.items():
            for slot, key in slots.items():
                self.register_buffer(key, memory[name][slot])

    def descend(self, support: Support) -> Adapted:
        """φ̃ = U^k(φ) on all examples."""
        ((state, _),) = deque(self.path(support, None), maxlen=1)
        return state

    def path(self, support: Support, order: Tensor | None) -> Iterator[tuple[Adapted, dict[str, Any]]]:
        """State and memory before the first step and after each; `order` [B, S] shuffles mini-batches."""
        state = self.begin(support)
        memory: dict[str, Any] = {name: self._remembered(slots, len(support.y)) for name, slots in self.slots.items()}
        yield state, memory
        for step in range(self.steps):
            rows = None if order is None else mini_batch(order, step, self.inner_batch or order.shape[1])
            g = self.slopes(state.parameters, state.buffers, support, step, first_order=True, rows=rows)
            theta, memory = self.optimizer.step(state.parameters, g, memory, task_axes=1)
            state = state._replace(parameters=theta)
            yield state, memory

    def meta_loss(self, episode: Episode) -> tuple[Tensor, Named]:
        """½·mean‖θ − sg(φ̃)‖², or with the last step alone in the place of φ̃ − θ."""
        examples = episode.together()
        order = None
        if self.inner_batch is not None:
            order = torch.rand(examples.y.shape[:2], device=examples.y.device).argsort(1)
        first = self.begin(examples)
        (before, _), (last, memory) = deque(self.path(examples, order), maxlen=2)
        start = before if self.last_step else first
        squares = {}
        for name in self.adapted:
            theta = first.parameters[name]
            target = (theta + (last.parameters[name] - start.parameters[name])).detach()
            squares[name] = (theta - target).square()
        left = {f".{key}": memory[name][slot] for name, slots in self.slots.items() for slot, key in slots.items()}
        counted = {key: leaf if leaf.is_floating_point() else leaf.expand(episode.tasks) for key, leaf in left.items()}
        return totals(squares).mean() / 2, {**last.buffers, **counted}

    def _remembered(self, slots: Mapping[str, str], tasks: int) -> dict[str, Tensor]:
        """The memory of one parameter, for each task; counters are of all tasks."""
        found = {slot: self.get_buffer(key) for slot, key in slots.items()}
        return {
            slot: leaf.expand(tasks, *leaf.shape) if leaf.is_floating_point() else leaf for slot, leaf in found.items()
        }
