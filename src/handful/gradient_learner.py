"""The protocol of learners that descend the support loss: what they all need, so that a paper is its own steps only.

A subclass says `descend`, how the tensors of a chunk of tasks become those of its adapted models, and, if its
meta-gradient is not that of the query loss, `meta_loss`. Mapping over tasks, memory and the form of the gradient are
the engine's (`ops/engine.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import ClassVar, NamedTuple, TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from .encoders.normalization import adapting, policies_of
from .encoders.placing import placed, taken
from .episode import Data, Episode, Query, Support, join_data, leading
from .errors import LabelError, ShapeError
from .learner import Learner, at_least_one, features_of, task_losses
from .ops.buffers import settle_
from .ops.engine import Engine
from .ops.tasks import Named, call_each, check_embeddings, map_tasks

__all__ = ["Adapted", "GradientLearner", "mini_batch", "numbers_in", "with_head"]

V = TypeVar("V")
S = TypeVar("S", Support, Query)


class Adapted(NamedTuple):
    """What a support taught: a model of its own for each task."""

    parameters: dict[str, Tensor]  # [B, ...] by name
    buffers: dict[str, Tensor]  # [B, ...] by name
    support: Data | None  # [B, S, *shape], kept if queries need it
    ways: Tensor | None = None  # [B] number of classes, kept where several members of a task answer together
    member: Tensor | None = None  # [B, S, N] how much an example counts in each class, kept if queries are learned from


class GradientLearner(Learner):
    """A learner that adapts tensors of its model by the gradient of the support loss.

    Args:
        model: any module from [examples, *shape] to logits or outputs.
        inner_steps: gradient steps on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        engine: how gradients are computed, or a table of its arguments; None: chosen by device and size.
        adapted: names of the parameters that a task adapts; None for all that require gradients now.

    Raises:
        SpecError: a number of steps below one; an embedding with max_norm or sparse gradients.
        ShapeError: nothing to adapt; a complex parameter, for a learner that takes none; a lazy module without a shape.
    """

    kind = "gradient"
    regression = True
    any_ways = False
    takes_complex: ClassVar[bool] = True
    """Whether it can adapt complex parameters."""

    def __init__(
        self,
        model: nn.Module,
        *,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        engine: Engine | None = None,
        adapted: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        name = type(self).__name__
        if adapted is None:
            adapted = [name for name, leaf in model.named_parameters() if leaf.requires_grad]
        self.adapted = tuple(adapted)
        if not self.adapted:
            raise ShapeError(f"{name}: no parameter requires a gradient, so there is nothing to adapt; unfreeze some")
        lazy = [name for name, leaf in model.named_parameters() if isinstance(leaf, UninitializedParameter)]
        if lazy:
            raise ShapeError(f"{name}: {lazy[0]!r} has no shape yet; call the model once on a batch of examples")
        strange = [name for name, leaf in model.named_parameters() if leaf.is_complex() and name in self.adapted]
        if strange and not self.takes_complex:
            raise ShapeError(
                f"{name}: expected real parameters, {strange[0]!r} is complex; keep its parts as a real parameter "
                "[..., 2], for torch.view_as_complex in the module, or use MAML, which adapts complex ones"
            )
        at_least_one(name, inner_steps=inner_steps, evaluation_steps=evaluation_steps)
        self.inner_steps, self.evaluation_steps = inner_steps, evaluation_steps
        self.engine = Engine.of(engine)
        check_embeddings(model, name)
        self.keeps_support = "support" in policies_of(model)

    @abstractmethod
    def descend(self, support: Support) -> Adapted:
        """What these tasks taught: from `begin`, by steps along `slopes`."""

    def meta_loss(self, episode: Episode) -> tuple[Tensor, Named]:
        """What meta-training descends, the mean over these tasks, and each task's buffers afterward [B, ...].

        Buffers of the model by its names for them; of the learner itself by theirs after a dot (".count").
        """
        state = self.descend(episode.support)
        return task_losses(self.answer(state, episode.query.x), episode.query.y).mean(), state.buffers

    @property
    def steps(self) -> int:
        """Inner steps in the present mode."""
        return self.inner_steps if self.training or self.evaluation_steps is None else self.evaluation_steps

    def begin(self, support: Support) -> Adapted:
        """Every task with the model's own tensors."""
        tasks = len(support.y)
        own: dict[str, Tensor] = dict(self.model.named_parameters())
        if not torch.is_grad_enabled():  # a view of a parameter would ask for gradients nevertheless
            own = {name: leaf.detach() for name, leaf in own.items()}
        theta = {name: leaf.expand(tasks, *leaf.shape) for name, leaf in own.items()}
        buffers = {name: leaf.expand(tasks, *leaf.shape).clone() for name, leaf in self.model.named_buffers()}
        return Adapted(theta, buffers, support.x if self.keeps_support else None)

    def slopes(
        self,
        theta: Named,
        buffers: Named,
        support: Support,
        step: int,
        *,
        first_order: bool = False,
        rows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """∇L(θ) of each task's support loss in the adapted tensors that take part: [B, ...] by name.

        With `rows` [B, n] the loss is that of these examples of each task.
        """
        losses = self.support_losses(support, step, rows)
        return self.engine.gradients(losses, theta, buffers, self.adapted, first_order=first_order)

    def support_losses(self, support: Support, step: int, rows: Tensor | None = None) -> Callable[[Named], Tensor]:
        """L of each task's support, or of these rows [B, n] of it: parameters and buffers [B, ...] by name -> [B]."""
        x, y, weight = support.x, support.y, support.weight
        if rows is not None:
            picked = torch.arange(len(rows), device=rows.device).unsqueeze(1), rows
            x, y, weight = map_tasks(lambda leaf: leaf[picked], (x, y, weight))

        def losses(state: Named) -> Tensor:
            with adapting(step):
                output = self.forward_each(state, x)
            self._check(output, y, support.ways)
            return task_losses(output, y, weight)

        return losses

    def by_name(self, values: Iterable[V]) -> dict[str, V]:
        """One value for each adapted tensor, in their order, by its name."""
        return dict(zip(self.adapted, values, strict=True))

    def forward_each(self, state: Named, x: Data) -> Tensor:
        """Outputs of each task's model, whose parameters and buffers are [B, ...]: [B, S, *shape] -> [B, S, *out]."""
        return call_each(self.model, state, x)

    def answer(self, state: Adapted, x: Data, *, steps: int | None = None) -> Tensor:
        """Outputs of each task's model: [B, Q, *out]. Writes into the state's buffers in training.

        Args:
            steps: how many its parameters have taken; None for all.
        """
        model, steps = {**state.parameters, **state.buffers}, self.steps if steps is None else steps
        if state.support is None:
            with adapting(steps, 0):
                return self.forward_each(model, x)
        _, kept = leading(state.support)
        with adapting(steps, kept):
            return self.forward_each(model, join_data([state.support, x], 1))[:, kept:]

    @final
    def adapt(self, support: Support) -> Adapted:
        """As `Learner.adapt`. Works inside `torch.no_grad` too."""
        track = torch.is_grad_enabled()
        support = self._usable(support)

        def part(own: GradientLearner, start: int, stop: int) -> Adapted:
            with torch.inference_mode(False), torch.set_grad_enabled(track):
                return own.descend(support.part(start, stop))

        parts = self.engine.map(self, part, len(support.y), numbers_in(support.x), _tensors(support))
        joined: Adapted = parts[0] if len(parts) == 1 else map_tasks(lambda *leaves: torch.cat(leaves), *parts)
        return joined

    @final
    def predict(self, state: Adapted, x: Data) -> Tensor:
        """Outputs of each task's own model: [B, Q, *out]; a ShapeError for queries of another number of tasks."""
        x, tasks = self._taken(x), len(next(iter(state.parameters.values())))
        if leading(x)[0] != tasks:
            raise ShapeError(
                f"{type(self).__name__}: expected queries [tasks, examples, ...] of {tasks} tasks, as the support, got "
                f"{leading(x)[0]}; a single task is a batch of one (x[None])"
            )

        def part(own: GradientLearner, start: int, stop: int) -> Tensor:
            piece, queries = map_tasks(lambda leaf: leaf[start:stop], (state, x))
            piece = piece._replace(buffers=map_tasks(torch.clone, piece.buffers))  # the model may write into them
            return own.answer(piece, queries)

        return torch.cat(self.engine.map(self, part, leading(x)[0], numbers_in(x)))

    @final
    def loss(self, episode: Episode) -> Tensor:
        """Mean over tasks of `meta_loss`. Running statistics, where a layer keeps them, see every task."""

        track = torch.is_grad_enabled()
        usable = replace(episode, support=self._usable(episode.support), query=self._usable(episode.query))

        def part(own: GradientLearner, start: int, stop: int) -> tuple[Tensor, Named]:
            with torch.inference_mode(False), torch.set_grad_enabled(track):
                value, buffers = own.meta_loss(usable.part(start, stop))
            return value, map_tasks(torch.detach, buffers)

        outside = (*_tensors(usable.support), *_tensors(usable.query))
        value, seen = self.engine.mean(self, part, episode.tasks, numbers_in(episode.support.x), outside)
        if self.training:
            own = {f".{name}": leaf for name, leaf in self.named_buffers() if f".{name}" in seen[0]}
            for name, buffer in {**dict(self.model.named_buffers()), **own}.items():
                settle_(buffer, torch.cat([buffers[name] for buffers in seen]))
        return value

    def _usable(self, examples: S) -> S:
        """The same, where gradients can be computed: tensors made in inference mode are copied."""
        x = self._taken(examples.x)
        examples = examples if x is examples.x else replace(examples, x=x)
        if not any(leaf.is_inference() for leaf in _tensors(examples)):
            return examples
        with torch.inference_mode(False):
            copies = {name: map_tasks(torch.clone, value) for name, value in _data(examples).items()}
            return replace(examples, **copies)

    def _taken(self, x: Data) -> Data:
        """Examples as the model takes them, looked at while one can: under vmap nothing says what they hold."""
        x, first = taken(x, self.model), self.model
        while isinstance(first, nn.Sequential) and len(first):
            first = first[0]
        check = getattr(first, "check_examples", None)  # of what gets them as they are; parts within may get others
        if check is not None and isinstance(x, Tensor):
            check(x.flatten(0, 1))
        return x

    def _check(self, output: Tensor, y: Tensor, ways: int | None) -> None:
        name = type(self).__name__
        if ways is None:
            if output.shape != y.shape:
                raise ShapeError(
                    f"{name}: the model gives {tuple(output.shape)} for targets {tuple(y.shape)}; "
                    "expected the same shape [B, S, *out]: set outputs= to the number of targets"
                )
        elif output.ndim != 3 or output.shape[-1] != ways:
            raise LabelError(
                f"{name}: the model gives outputs {tuple(output.shape[2:])} for tasks of {ways} ways; its head "
                f"is fixed, so train and use it with as many ways as outputs (outputs={ways})"
            )


def with_head(encoder: nn.Module, outputs: int | None) -> nn.Module:
    """The encoder, followed by a linear layer to so many outputs unless None: where the encoder is, in its precision.

    Raises:
        ShapeError: the encoder does not say its `out_features`.
    """
    if outputs is None:
        return encoder
    head = nn.Linear(features_of(encoder, f"a head of {outputs} outputs"), outputs)
    return nn.Sequential(encoder, placed(head, encoder))


def mini_batch(order: Tensor, step: int, size: int) -> Tensor:
    """The examples of a step [B, min(size, S)]: one mini-batch after the other through the order [B, S], again and
    again."""
    examples = order.shape[1]
    places = torch.arange(step * size, step * size + min(size, examples), device=order.device)
    return order[:, places % examples]


def numbers_in(x: Data) -> int:
    """How many numbers the examples of one task hold; those of tensors by name together."""
    return sum(leaf[0].numel() for leaf in _leaves(x))


def _data(examples: Support | Query) -> dict[str, Data]:
    leaves = {field.name: getattr(examples, field.name) for field in fields(examples)}
    return {name: leaf for name, leaf in leaves.items() if isinstance(leaf, Tensor | Mapping)}


def _tensors(examples: Support | Query) -> list[Tensor]:
    return [leaf for value in _data(examples).values() for leaf in _leaves(value)]


def _leaves(x: Data) -> list[Tensor]:
    return [x] if isinstance(x, Tensor) else list(x.values())
