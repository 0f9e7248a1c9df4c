"""Multinomial logistic regression in batches of tasks, by Newton's method."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from .conjugate import conjugate_gradients
from .implicit import implicit
from .precision import double_where_there, precise
from .ridge import Linear

__all__ = ["logistic"]


def logistic(x: Tensor, member: Tensor, strength: float, *, steps: int = 50) -> Linear:
    """The W and b that minimize Σ_i weight_i CE(x_i W + b, y_i) + λ/2 ‖W‖², for each task; b is not penalized.

    scikit-learn's LogisticRegression(C=1/λ). Newton's steps are halved until they descend, and end where the gradient
    is within rounding of zero; where they do not suffice, what they found is the answer, without a gradient. In double
    precision, since long features leave few digits in single. Differentiable in x, once.

    Args:
        x: [B, S, F].
        member: [B, S, N] one-hot labels, each times the weight of its example.
        strength: λ > 0.
        steps: Newton's steps at most.
    """
    with torch.autocast(x.device.type, enabled=False):
        asked, wide = precise(x).dtype, double_where_there(x.device)
        x, member = pad(x.to(wide), (0, 1), value=1.0), member.to(wide)  # [B, S, F + 1], the last one for b
        weight = member.sum(-1, keepdim=True)  # [B, S, 1]
        place = torch.arange(x.shape[2], device=x.device)
        penalty = strength * (place < x.shape[2] - 1).to(wide).view(1, -1, 1)
        digits = torch.finfo(asked).eps

        def slope(x: Tensor, w: Tensor) -> Tensor:
            return x.mT @ (weight * (x @ w).softmax(-1) - member) + penalty * w

        def value(w: Tensor) -> Tensor:  # [B, 1, 1]
            each = -(member * (x @ w).log_softmax(-1)).sum((1, 2)) + (penalty * w.square()).sum((1, 2)) / 2
            return each.view(-1, 1, 1)

        def solve(w: Tensor, v: Tensor) -> Tensor:
            p = (seen @ w).softmax(-1)

            def curvature(direction: Tensor) -> Tensor:
                moved = weight * p * (seen @ direction)
                return seen.mT @ (moved - p * moved.sum(-1, keepdim=True)) + penalty * direction

            centered = v - (penalty == 0) * v.mean(-1, keepdim=True)  # a b for all classes alike has no curvature
            return conjugate_gradients(curvature, centered, iterations=4 * w[0].numel(), tolerance=100 * digits)

        seen = x.detach()
        w = x.new_zeros(len(x), x.shape[2], member.shape[2])
        with torch.no_grad():
            scale = slope(x, w).abs().flatten(1).amax(1).view(-1, 1, 1)
            for _ in range(steps):
                g = slope(x, w)
                active = g.abs().flatten(1).amax(1).view(-1, 1, 1) > 100 * digits * scale
                if not bool(active.any()):
                    break
                w = _descended(value, w, torch.where(active, solve(w, g), 0), digits)
                w[:, -1] -= w[:, -1].mean(-1, keepdim=True)  # a b for all classes alike changes nothing
            found = slope(x, w).abs().flatten(1).amax(1).view(-1, 1, 1) <= digits**0.5 * scale
        better = implicit(w, slope(x, w), lambda v: solve(w, v))
        w = torch.where(found, better, w).to(asked)  # a Newton step from elsewhere may lead anywhere
        return Linear(w[:, :-1], w[:, -1])


def _descended(value: Callable[[Tensor], Tensor], w: Tensor, step: Tensor, digits: float) -> Tensor:
    """w − step, each task's step halved until its value [B, 1, 1] does not rise; what does not descend is not taken."""
    now = value(w)
    rate = torch.ones_like(now)
    for _ in range(30):
        worse = value(w - rate * step) > now + digits * now.abs()
        if not bool(worse.any()):
            break
        rate = torch.where(worse, rate / 2, rate)
    return w - torch.where(worse, 0, rate) * step
