"""MAML: an initialization from which a few gradient steps on the support solve a task.

Paper: Finn, Abbeel & Levine 2017, arXiv:1703.03400.
    θ -> the model's parameters        α -> rates        θ'_i (eq. 1) -> Adapted.parameters
    meta-objective Σ_i L_i(θ'_i) -> loss (here the mean over tasks)
Departures:
    1. The inner loss is the mean over examples. The authors sum and divide by shots, which is N times as large:
       their α = 0.4 for 5 ways is 2.0 here.
    2. `rates="learned"` learns one rate for each parameter tensor (Antoniou et al. 2019, without the step axis).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from ...encoders.normalization import adapting, policies_of
from ...episode import Data, Episode, Support, join_data, leading
from ...errors import LabelError, ShapeError, SpecError, unknown_name
from ...learner import Learner, task_losses
from ...ops.tasks import bounded_mean, call_each, chunks, map_tasks

__all__ = ["MAML", "Adapted"]


class Adapted(NamedTuple):
    """What a support taught: a model of its own for each task."""

    parameters: dict[str, Tensor]  # [B, ...] by name
    buffers: dict[str, Tensor]  # [B, ...] by name
    support: Data | None  # [B, S, *shape], kept if its statistics normalize the queries


@final
class MAML(Learner):
    """Gradient descent from a meta-learned initialization; exact second-order meta-gradients.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        inner_rate: α.
        inner_steps: gradient steps on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives (FOMAML).
        rates: "fixed", or "learned": one rate for each parameter tensor, starting from `inner_rate`.
        tasks_at_once: bound on the tasks held in memory together; 1 maps plainly, one task after the other.

    Parameters that do not require gradients when it is made stay as they are.

    Raises:
        SpecError: a number of steps or tasks below one; an embedding with max_norm.
        ShapeError: nothing to adapt, or `outputs` for an encoder that does not say its `out_features`.
    """

    paper = "Finn, Abbeel & Levine 2017, arXiv:1703.03400"
    kind = "gradient"
    regression = True
    any_ways = False
    rates: nn.Parameter | None

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        inner_rate: float = 0.01,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        rates: Literal["fixed", "learned"] = "fixed",
        tasks_at_once: int | None = None,
    ) -> None:
        super().__init__()
        self.model = encoder if outputs is None else nn.Sequential(encoder, _head(encoder, outputs))
        self.adapted = tuple(name for name, p in self.model.named_parameters() if p.requires_grad)
        if not self.adapted:
            raise ShapeError("MAML: no parameter requires a gradient, so there is nothing to adapt; unfreeze some")
        counts = {"inner_steps": inner_steps, "evaluation_steps": evaluation_steps, "tasks_at_once": tasks_at_once}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise SpecError(f"MAML: expected {name} of at least 1, got {count}")
        self.inner_steps, self.evaluation_steps = inner_steps, evaluation_steps
        self.first_order, self.tasks_at_once = first_order, tasks_at_once
        if rates not in ("fixed", "learned"):
            raise unknown_name("kind of rates", rates, ("fixed", "learned"))
        self.inner_rate = inner_rate
        learned = nn.Parameter(torch.full((len(self.adapted),), inner_rate)) if rates == "learned" else None
        self.register_parameter("rates", learned)
        if any(getattr(layer, "max_norm", None) is not None for layer in self.model.modules()):
            raise SpecError("MAML: an embedding with max_norm rewrites its weights whenever it is used; leave it out")
        self.keeps_support = "support" in policies_of(self.model)

    def adapt(self, support: Support) -> Adapted:
        """θ' = θ − α·∇L(θ) on the support, `inner_steps` times (eq. 1). Works inside `torch.no_grad` too."""
        parts = [self._descend(support.part(a, b)) for a, b in chunks(len(support.y), self.tasks_at_once)]
        joined: Adapted = map_tasks(lambda *leaves: torch.cat(leaves), *parts)
        return joined

    def predict(self, state: Adapted, x: Data) -> Tensor:
        """Outputs of each task's own model: [B, Q, outputs]."""
        tasks = next(iter(state.parameters.values())).shape[0]
        parts = []
        for a, b in chunks(tasks, self.tasks_at_once):
            part = map_tasks(lambda leaf, a=a, b=b: leaf[a:b], state)
            if self.training:  # batch norm would write into the state
                part = part._replace(buffers=map_tasks(torch.clone, part.buffers))
            parts.append(self._answer(part, map_tasks(lambda leaf, a=a, b=b: leaf[a:b], x)))
        return torch.cat(parts)

    def loss(self, episode: Episode) -> Tensor:
        """Mean over tasks of the query loss at θ'. Running statistics, where a layer keeps them, see every task."""
        seen: list[dict[str, Tensor]] = []

        def part(start: int, stop: int) -> Tensor:
            piece = episode.part(start, stop)
            state = self._descend(piece.support)
            output = self._answer(state, piece.query.x)
            seen.append(map_tasks(torch.detach, state.buffers))
            return task_losses(output, piece.query.y).mean()

        value = bounded_mean(part, list(self.parameters()), episode.tasks, self.tasks_at_once)
        if self.training:
            for name, buffer in self.model.named_buffers():
                every = torch.cat([buffers[name] for buffers in seen])
                buffer.copy_(every.mean(0) if every.is_floating_point() else every[0])
        return value

    def _steps(self) -> int:
        return self.inner_steps if self.training or self.evaluation_steps is None else self.evaluation_steps

    def _descend(self, support: Support) -> Adapted:
        tasks = len(support.y)
        exact = torch.is_grad_enabled() and not self.first_order
        track = torch.is_grad_enabled()
        steps = self._steps()
        rates: Sequence[float | Tensor] = [self.inner_rate] * len(self.adapted)
        if self.rates is not None:
            rates = self.rates.unbind()
        with torch.inference_mode(False), torch.enable_grad():
            x, y, weight = (map_tasks(_usable, leaf) for leaf in (support.x, support.y, support.weight))
            buffers = {n: p.expand(tasks, *p.shape).clone() for n, p in self.model.named_buffers()}
            theta = {n: self._initial(n, p).expand(tasks, *p.shape) for n, p in self.model.named_parameters()}
            for step in range(steps):
                if not track:
                    theta = {n: p.detach().requires_grad_(n in self.adapted) for n, p in theta.items()}
                with adapting(step):
                    output = call_each(self.model, {**theta, **buffers}, x)
                self._check(output, support)
                loss = task_losses(output, y, weight).sum()
                wanted = [theta[name] for name in self.adapted]
                gradients = torch.autograd.grad(loss, wanted, create_graph=exact, allow_unused=True)
                for rate, name, gradient in zip(rates, self.adapted, gradients, strict=True):
                    if gradient is not None:
                        theta[name] = theta[name] - rate * gradient
                if step == 0 and any(gradient is None for gradient in gradients):
                    _warn_unused([n for n, g in zip(self.adapted, gradients, strict=True) if g is None])
        if not track:
            theta = {name: leaf.detach() for name, leaf in theta.items()}
        return Adapted(theta, buffers, support.x if self.keeps_support else None)

    def _initial(self, name: str, parameter: Tensor) -> Tensor:
        frozen_since = name in self.adapted and not parameter.requires_grad  # it is adapted all the same
        return parameter.detach().requires_grad_() if frozen_since else parameter

    def _answer(self, state: Adapted, x: Data) -> Tensor:
        steps = self._steps()
        model = {**state.parameters, **state.buffers}
        if state.support is None:
            with adapting(steps):
                return call_each(self.model, model, x)
        _, kept = leading(state.support)
        with adapting(steps, kept):
            return call_each(self.model, model, join_data([state.support, x], 1))[:, kept:]

    def _check(self, output: Tensor, support: Support) -> None:
        if support.ways is None:
            if output.shape != support.y.shape:
                raise ShapeError(
                    f"MAML: the model gives {tuple(output.shape)} for targets {tuple(support.y.shape)}; "
                    "expected the same shape [B, S, *out]: set outputs= to the number of targets"
                )
        elif output.ndim != 3 or output.shape[-1] != support.ways:
            raise LabelError(
                f"MAML: the model gives outputs {tuple(output.shape[2:])} for tasks of {support.ways} ways; its head "
                f"is fixed, so train and use it with as many ways as outputs (outputs={support.ways})"
            )


def _head(encoder: nn.Module, outputs: int) -> nn.Linear:
    features = getattr(encoder, "out_features", None)
    if not isinstance(features, int):
        raise ShapeError(
            f"MAML: {type(encoder).__name__} does not say its out_features, which a head of {outputs} outputs needs; "
            "give it that attribute, or leave `outputs` out if it ends in logits already"
        )
    return nn.Linear(features, outputs)


def _warn_unused(names: list[str]) -> None:
    warnings.warn(
        f"MAML: {', '.join(names)} took no part in the forward pass and stays as it is; "
        "if that is meant, freeze it (requires_grad_(False)) before MAML is made",
        stacklevel=4,
    )


def _usable(leaf: Tensor) -> Tensor:
    return leaf.clone() if leaf.is_inference() else leaf
