"""Ridge regression in batches of tasks, and what it would answer for each example had it not seen it.

With A = D^½ X and D the diagonal of the examples' weights, two forms of one solution (Woodbury):

    W = (AᵀA + λI)⁻¹ Aᵀ D^½ Y          F × F, where there are fewer features than examples
      = Aᵀ (AAᵀ + λI)⁻¹ D^½ Y          S × S, elsewhere

An intercept is not penalized: X and Y are moved to their weighted means first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .precision import double_where_there, precise

__all__ = ["Linear", "leave_one_out", "ridge"]


class Linear(NamedTuple):
    """A linear map for each task."""

    w: Tensor  # [B, F, T]
    b: Tensor  # [B, T], zero without an intercept

    def __call__(self, x: Tensor) -> Tensor:
        """[B, Q, F] -> [B, Q, T]."""
        return torch.baddbmm(self.b.unsqueeze(1), x.to(self.w.dtype), self.w)


class _Problem(NamedTuple):
    a: Tensor  # [B, S, F] centered examples, each times the root of its weight
    t: Tensor  # [B, S, T] targets, likewise
    x_mean: Tensor  # [B, 1, F]
    y_mean: Tensor  # [B, 1, T]
    root: Tensor  # [B, S, 1] roots of the weights


def ridge(
    x: Tensor, y: Tensor, strength: float | Tensor, *, weight: Tensor | None = None, intercept: bool = False
) -> Linear:
    """The W (and b) that minimize Σ_i weight_i ‖x_i W + b − y_i‖² + λ‖W‖², for each task.

    Differentiable in everything. Solved in double precision, since equal examples and long features leave λ few digits
    in single; given in single precision at least, whatever the precision around it.

    Args:
        x: [B, S, F].
        y: [B, S, T] targets.
        strength: λ > 0, one number or one for each task [B].
        weight: [B, S] how much each example counts, or None.
        intercept: learn b, which is not penalized; else it is zero.
    """
    with torch.autocast(x.device.type, enabled=False):
        problem = _problem(x, y, weight, intercept)
        a, t = problem.a, problem.t
        if a.shape[1] > a.shape[2]:
            w = torch.linalg.solve(a.mT @ a + _diagonal(strength, a, 2), a.mT @ t)
        else:
            w = a.mT @ torch.linalg.solve(a @ a.mT + _diagonal(strength, a, 1), t)
        asked = precise(x).dtype
        return Linear(w.to(asked), (problem.y_mean - problem.x_mean @ w).squeeze(1).to(asked))


def leave_one_out(
    x: Tensor, y: Tensor, strength: float | Tensor, *, weight: Tensor | None = None, intercept: bool = False
) -> Tensor:
    """What `ridge` learned from all other examples answers for each example: [B, S, T], by one solution.

    The residual of example i, had it been left out, is its residual divided by 1 − H_ii, H being the matrix from
    targets to answers (Allen 1974; Golub, Heath & Wahba 1979, doi:10.1080/00401706.1979.10489751). With S × S
    matrices both are λ times something that does not vanish with λ, so that this is divided instead. An example of
    weight w is left out as a whole.

    Arguments as for `ridge`. With an intercept a task needs two examples of a positive weight.
    """
    with torch.autocast(x.device.type, enabled=False):
        problem = _problem(x, y, weight, intercept)
        a, t, _, _, root = problem
        share = root.square() / root.square().sum(1, keepdim=True) if intercept else torch.zeros_like(root)  # [B, S, 1]
        if a.shape[1] > a.shape[2]:
            solved = torch.linalg.solve(a.mT @ a + _diagonal(strength, a, 2), a.mT)  # [B, F, S]
            leverage = (a * solved.mT).sum(-1, keepdim=True) + share
            residual = (t - a @ (solved @ t)) / (1 - leverage)
        else:
            kernel = a @ a.mT + _diagonal(strength, a, 1)  # [B, S, S]
            if intercept:  # root is an eigenvector, of eigenvalue λ: raise it, that the inverse holds no 1 / λ
                total = root.square().sum(1, keepdim=True)
                raised = kernel.diagonal(dim1=1, dim2=2).mean(1).view(-1, 1, 1)
                kernel = kernel + raised / total * (root @ root.mT)
                share = share / (_column(strength, a) + raised)
            inverse = torch.linalg.inv(kernel)
            residual = inverse @ t / (inverse.diagonal(dim1=1, dim2=2).unsqueeze(-1) - share)
        counted = root > 0
        residual = residual / torch.where(counted, root, 1)
        fit = ridge(x, y, strength, weight=weight, intercept=intercept)
        return torch.where(counted, (y.to(residual.dtype) - residual).to(fit.w.dtype), fit(x))


def _problem(x: Tensor, y: Tensor, weight: Tensor | None, intercept: bool) -> _Problem:
    wide = double_where_there(x.device)
    x, y = x.to(wide), y.to(wide)
    weight = x.new_ones(x.shape[:2]) if weight is None else weight.to(wide)
    share = (weight / weight.sum(1, keepdim=True)).unsqueeze(1)  # [B, 1, S]
    x_mean, y_mean = share @ x, share @ y
    if not intercept:
        x_mean, y_mean = torch.zeros_like(x_mean), torch.zeros_like(y_mean)
    root = weight.sqrt().unsqueeze(-1)
    return _Problem(root * (x - x_mean), root * (y - y_mean), x_mean, y_mean, root)


def _column(strength: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(strength, dtype=like.dtype, device=like.device).reshape(-1, 1, 1)  # [1 or B, 1, 1]


def _diagonal(strength: float | Tensor, like: Tensor, axis: int) -> Tensor:
    return _column(strength, like) * torch.eye(like.shape[axis], dtype=like.dtype, device=like.device)
