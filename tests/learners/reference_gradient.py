"""The gradient learners as plainly as they can be written: one task after the other, nothing of the library's own.

Each gives the mean loss and, where adapting without noise leads to them, the outputs [B, Q, ways].
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from reference import Named, task_loss
from torch import Tensor, nn
from torch.func import functional_call

from handful.encoders.normalization import adapting
from handful.episode import Episode

Move = Callable[[int, str, Tensor, Tensor], Tensor]


def rows(episode: Episode) -> list[tuple[Any, ...]]:
    """x, y, query x, query y of each task."""
    return list(zip(episode.support.x, episode.support.y, episode.query.x, episode.query.y, strict=True))


def tensors_of(model: nn.Module) -> tuple[Named, Named]:
    """Parameters, and copies of the buffers."""
    return dict(model.named_parameters()), {name: leaf.clone() for name, leaf in model.named_buffers()}


def walk(
    model: nn.Module, x: Tensor, y: Tensor, names: Sequence[str], steps: int, move: Move
) -> tuple[list[Named], Named]:
    """The parameters after each step, and the buffers in the end."""
    own, buffers = tensors_of(model)
    own |= {name: own[name].detach().clone().requires_grad_() for name in names if not own[name].requires_grad}
    found = []
    for step in range(steps):
        with adapting(step):
            loss = task_loss(functional_call(model, {**own, **buffers}, (x,)), y)
        slopes = torch.autograd.grad(loss, [own[name] for name in names], create_graph=True)
        own = own | {name: move(step, name, own[name], g) for name, g in zip(names, slopes, strict=True)}
        found.append(own)
    return found, buffers


def moved(learner: Any, episode: Episode, names: Sequence[str], move: Move) -> tuple[Tensor, Tensor]:
    """Any descent whose meta-objective is the query loss after the last step."""
    losses, outputs = [], []
    for x, y, qx, qy in rows(episode):
        path, buffers = walk(learner.model, x, y, names, learner.steps, move)
        with adapting(learner.steps):
            output = functional_call(learner.model, {**path[-1], **buffers}, (qx,))
        losses.append(task_loss(output, qy))
        outputs.append(output)
    return torch.stack(losses).mean(), torch.stack(outputs)


def adam(rate: float, betas: tuple[float, float], eps: float) -> Move:
    """Adam's rule, which begins anew at step 0."""
    kept: dict[str, tuple[Any, Any]] = {}

    def move(step: int, name: str, theta: Tensor, g: Tensor) -> Tensor:
        m, v = kept[name] if step else (0.0, 0.0)
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        kept[name] = m, v
        root = (v / (1 - betas[1] ** (step + 1))) ** 0.5
        return theta - rate * m / (1 - betas[0] ** (step + 1)) / (root + eps)

    return move


def maml_plus_plus(learner: Any, episode: Episode, shares: Sequence[float]) -> tuple[Tensor, Tensor]:
    """`shares`: of the query loss after each step."""

    def move(step: int, name: str, theta: Tensor, g: Tensor) -> Tensor:
        return theta - learner.rates[step][learner.adapted.index(name)] * g

    losses, outputs = [], []
    for x, y, qx, qy in rows(episode):
        path, buffers = walk(learner.model, x, y, learner.adapted, learner.steps, move)
        for step, (own, share) in enumerate(zip(path, shares, strict=True)):
            with adapting(step + 1):
                output = functional_call(learner.model, {**own, **buffers}, (qx,))
            losses.append(share * task_loss(output, qy))
        outputs.append(output)
    return torch.stack(losses).sum() / episode.tasks, torch.stack(outputs)


def proto_maml(learner: Any, episode: Episode) -> tuple[Tensor, Tensor]:
    """The head is two tensors beside the encoder's."""
    losses, outputs = [], []
    for x, y, qx, qy in rows(episode):
        own, buffers = tensors_of(learner.model)
        names = list(own)
        with adapting(0):
            z = functional_call(learner.model, {**own, **buffers}, (x,))
        c = [z[y == k].mean(0) for k in range(int(y.max()) + 1)]
        w, b = 2 * torch.stack(c), -torch.stack([row @ row for row in c])
        own = {name: leaf.clone() for name, leaf in own.items()}  # inner gradients hold the head fixed
        for step in range(learner.steps):
            with adapting(step):
                z = functional_call(learner.model, {**own, **buffers}, (x,))
            loss = task_loss(z @ w.T + b, y)
            *slopes, gw, gb = torch.autograd.grad(loss, [*(own[name] for name in names), w, b], create_graph=True)
            own = {name: own[name] - learner.inner_rate * g for name, g in zip(names, slopes, strict=True)}
            w, b = w - learner.inner_rate * gw, b - learner.inner_rate * gb
        with adapting(learner.steps):
            output = functional_call(learner.model, {**own, **buffers}, (qx,)) @ w.T + b
        losses.append(task_loss(output, qy))
        outputs.append(output)
    return torch.stack(losses).mean(), torch.stack(outputs)


def imaml(learner: Any, episode: Episode) -> tuple[Tensor, Tensor]:
    """The whole Hessian at the solution, and a direct solve."""
    names, theta = list(learner.adapted), [p for _, p in learner.model.named_parameters()]
    total, outputs = torch.zeros((), dtype=theta[0].dtype), []
    for x, y, qx, qy in rows(episode):

        def support_loss(*phi: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            return task_loss(functional_call(learner.model, dict(zip(names, phi, strict=True)), (x,)), y)

        phi = [p.detach().clone().requires_grad_() for p in theta]
        for _ in range(learner.steps):
            slopes = torch.autograd.grad(support_loss(*phi), phi)
            phi = [
                (f - learner.inner_rate * (g + learner.strength * (f - t))).detach().requires_grad_()
                for f, g, t in zip(phi, slopes, theta, strict=True)
            ]
        output = functional_call(learner.model, dict(zip(names, phi, strict=True)), (qx,))
        loss = task_loss(output, qy)
        v = torch.cat([g.flatten() for g in torch.autograd.grad(loss, phi, retain_graph=True)])
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(support_loss(*phi), phi, create_graph=True)])
        hessian = torch.stack(
            [torch.cat([h.flatten() for h in torch.autograd.grad(s, phi, retain_graph=True)]) for s in slope]
        )
        u = torch.linalg.solve(torch.eye(len(v), dtype=v.dtype) + hessian / learner.strength, v)
        flat = torch.cat([t.flatten() for t in theta])
        total = total + loss.detach() + (flat - flat.detach()) @ u
        outputs.append(output.detach())
    return total / episode.tasks, torch.stack(outputs)


def reptile(learner: Any, episode: Episode, optimizer: Callable[[Any], torch.optim.Optimizer]) -> tuple[Tensor, None]:
    """torch's own optimizer on a copy of the model."""
    distances = []
    for x, y, qx, qy in rows(episode):
        model = copy.deepcopy(learner.model)
        before = list(model.parameters())
        inner = optimizer(before)
        for step in range(learner.steps):
            before = [p.detach().clone() for p in model.parameters()]
            inner.zero_grad()
            with adapting(step):
                task_loss(model(torch.cat([x, qx])), torch.cat([y, qy])).backward()  # type: ignore[no-untyped-call]
            inner.step()
        for theta, last, second in zip(learner.model.parameters(), model.parameters(), before, strict=True):
            target = theta + last - second if learner.last_step else last
            distances.append((theta - target.detach()).pow(2).sum())
    return torch.stack(distances).sum() / 2 / episode.tasks, None
