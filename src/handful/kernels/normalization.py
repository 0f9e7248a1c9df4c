"""Batch normalization with batch statistics by the compiled kernels, differentiable as often as anyone wants.

    y = γ x̂ + β,   x̂ = (x - mean) / sqrt(variance + eps)     over the examples and places of a channel of a task

torch composes the gradient of its gradient of some forty operators; in closed form it is two passes. (And the gradient
of that, by torch 2.13, is wrong in x; here it is right.) Of B tasks, n examples each: x [B, n, C, ...], γ and β [B, C];
of one task also without the B.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .library import lies, spread

__all__ = ["batch_norm"]


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """y as x, by the kernel; x, weight and bias lie in memory as `lies` asks."""
    y: Tensor = _Normalization.apply(x, weight, bias, eps)  # type: ignore[no-untyped-call]
    return y


def _slopes(gy: Tensor, x: Tensor, weight: Tensor, saved: tuple[Tensor, Tensor], eps: float) -> tuple[Tensor, ...]:
    if not lies(gy, x, weight):
        return _slopes_by_torch(gy, x, weight, eps)
    found: tuple[Tensor, ...] = _Slopes.apply(gy, x, weight, *saved, eps)  # type: ignore[no-untyped-call]
    return found


class _Normalization(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        planes, scale, shift = x.contiguous(), weight.contiguous(), bias.contiguous()
        y, means, rstds = torch.empty_like(planes), torch.empty_like(scale), torch.empty_like(scale)
        _each("normalize", scale, planes, (scale, shift, _number(eps), y, means, rstds))
        ctx.save_for_backward(x, weight, means, rstds)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *saved = ctx.saved_tensors
        return *_slopes(upstream[0], x, weight, saved, ctx.eps), None


class _Slopes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gy: Tensor, x: Tensor, weight: Tensor, means: Tensor, rstds: Tensor, eps: float
    ) -> tuple[Tensor, ...]:
        planes, slopes, scale = x.contiguous(), gy.contiguous(), weight.contiguous()
        gx, gweight, gbias = torch.empty_like(planes), torch.empty_like(scale), torch.empty_like(scale)
        _each("normalize_slopes", scale, planes, (slopes, scale, means, rstds, gx, gweight, gbias))
        ctx.save_for_backward(gy, x, weight, means, rstds)
        ctx.eps = eps
        return gx, gweight, gbias

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gy, x, weight, *saved = ctx.saved_tensors
        if torch.is_grad_enabled() or not lies(gy, x, weight, *upstream):
            return *_curves_by_torch(gy, x, weight, upstream, ctx.eps), None, None, None
        planes, slopes, scale, *along = (leaf.contiguous() for leaf in (x, gy, weight, *upstream))
        ggy, gx, gweight = torch.empty_like(planes), torch.empty_like(planes), torch.empty_like(scale)
        _each("normalize_curves", scale, planes, (slopes, scale, *saved, *along, ggy, gx, gweight))
        return ggy, gx, gweight, None, None, None


def _each(name: str, weight: Tensor, x: Tensor, others: tuple[Tensor, ...]) -> None:
    """A kernel on every channel."""
    each, channels, *sides = x.shape[weight.dim() - 1 :]

    def part(_: int, start: int, stop: int) -> tuple[Tensor | int, ...]:
        return x, *others, each, channels, math.prod(sides), start, stop

    spread(name, x.dtype, weight.numel(), part)


@lru_cache(64)
def _number(eps: float) -> Tensor:
    return torch.tensor(eps, dtype=torch.float64, device="cpu")


def _slopes_by_torch(gy: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, ...]:
    to = _Standard(x, weight, eps)
    return to.scale * to.across(gy), to.sum(gy * to.hat), to.sum(gy)


def _curves_by_torch(
    gy: Tensor, x: Tensor, weight: Tensor, upstream: tuple[Tensor, ...], eps: float
) -> tuple[Tensor, ...]:
    """What Σ v gx + vweight gweight + vbias gbias changes by with gy, x and the weight."""
    to = _Standard(x, weight, eps)
    v, vweight, vbias = upstream[0], to.wide(upstream[1]), to.wide(upstream[2])
    along, across = to.across(v), to.across(gy)
    bent = to.mean(v * across) * to.hat + to.mean(gy * to.hat) * along + to.mean(v * to.hat) * across
    ggy = to.scale * along + vweight * to.hat + vbias
    return ggy, to.rstd * (vweight * across - to.scale * bent), to.sum(v * to.rstd * across)


class _Standard:
    """x̂, and what its derivatives are made of."""

    def __init__(self, x: Tensor, weight: Tensor, eps: float) -> None:
        self.examples = weight.dim() - 1
        self.over = (self.examples, *range(self.examples + 2, x.dim()))
        centered = x - self.mean(x)
        self.rstd = (self.mean(centered.square()) + eps).rsqrt()
        self.hat = centered * self.rstd
        self.scale = self.wide(weight) * self.rstd

    def mean(self, u: Tensor) -> Tensor:
        return u.mean(self.over, keepdim=True)

    def sum(self, u: Tensor) -> Tensor:
        return u.sum(self.over)

    def wide(self, leaf: Tensor) -> Tensor:
        return leaf.unsqueeze(self.examples)[(..., *[None] * (len(self.over) - 1))]

    def across(self, u: Tensor) -> Tensor:
        """u without what batch norm does not let through: its mean, and its part along x̂."""
        return u - self.mean(u) - self.hat * self.mean(u * self.hat)
