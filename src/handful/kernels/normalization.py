"""Batch and layer normalization by the compiled kernels, differentiable as often as anyone wants.

    y = γ x̂ + β,   x̂ = (x - mean) / sqrt(variance + eps)

Batch norm (Ioffe & Szegedy 2015, arXiv:1502.03167) takes mean and variance over the examples and places of a channel of
a task: x [B, n, C, ...], γ and β [B, C]; of one task also without the B. Layer norm (Ba et al. 2016, arXiv:1607.06450)
takes them over the numbers of a row: x [B, n, D], γ and β [B, D].

torch composes the gradient of their gradient of some forty operators; in closed form it is two passes. (And the
gradient of that, by torch 2.13, is wrong in x for both; here it is right.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .functions import Function
from .library import lies, spread

__all__ = ["batch_norm", "layer_norm"]


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """y as x, by the kernel; x, weight and bias lie in memory as `lies` asks."""
    y: Tensor = _Normalization.apply(x, weight, bias, eps, False)
    return y


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """y as x, by the kernel; x, weight and bias lie in memory as `lies` asks."""
    y: Tensor = _Normalization.apply(x, weight, bias, eps, True)
    return y


class _Normalization(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, rows: bool) -> Tensor:
        planes, scale, shift = x.contiguous(), weight.contiguous(), bias.contiguous()
        y, (means, rstds) = torch.empty_like(planes), scale.new_empty(2, *(x.shape[:2] if rows else weight.shape))
        _each("normalize", rows, planes, (scale, shift, _number(eps), y, means, rstds), means)
        ctx.save_for_backward(x, weight, means, rstds)
        ctx.how = eps, rows
        return y

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight, *saved), (gy,) = ctx.saved_tensors, upstream
        if not lies(gy, x, weight):
            return *_slopes_by_torch(gy, x, weight, *ctx.how), None, None
        return *_Slopes.apply(gy, x, weight, *saved, *ctx.how), None, None


class _Slopes(Function):
    @staticmethod
    def forward(
        ctx: Any, gy: Tensor, x: Tensor, weight: Tensor, means: Tensor, rstds: Tensor, eps: float, rows: bool
    ) -> tuple[Tensor, ...]:
        planes, slopes, scale = x.contiguous(), gy.contiguous(), weight.contiguous()
        gx, sums = torch.empty_like(planes), [_sums(scale, rows) for _ in range(2)]
        _each("normalize_slopes", rows, planes, (slopes, scale, means, rstds, gx), means, sums)
        ctx.save_for_backward(gy, x, weight, means, rstds)
        ctx.how = eps, rows
        return gx, *(leaf.sum(0).to(x.dtype) if rows else leaf for leaf in sums)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gy, x, weight, *saved = ctx.saved_tensors
        if torch.is_grad_enabled() or not lies(gy, x, weight, *upstream):
            return *_curves_by_torch(gy, x, weight, upstream, *ctx.how), None, None, None, None
        planes, slopes, scale, *along = (leaf.contiguous() for leaf in (x, gy, weight, *upstream))
        (ggy, gx), rows = (torch.empty_like(planes) for _ in range(2)), ctx.how[1]
        sums = [_sums(scale, rows)]
        _each("normalize_curves", rows, planes, (slopes, scale, *saved, *along, ggy, gx), saved[0], sums)
        return ggy, gx, sums[0].sum(0).to(x.dtype) if rows else sums[0], None, None, None, None


def _each(
    name: str, rows: bool, x: Tensor, others: tuple[Tensor, ...], means: Tensor, sums: Sequence[Tensor] = ()
) -> None:
    """A kernel on every channel, or on every row: each thread then adds to sums of its own."""
    if rows:
        sizes = tuple(x.shape[1:])
    else:
        each, channels, *sides = x.shape[means.dim() - 1 :]
        sizes = (each, channels, math.prod(sides))

    def part(number: int, start: int, stop: int) -> tuple[Tensor | int, ...]:
        own = [leaf[number] if rows else leaf for leaf in sums]
        return x, *others, *own, *sizes, start, stop

    spread(f"{name}_rows" if rows else name, x.dtype, means.numel(), part)


def _sums(weight: Tensor, rows: bool) -> Tensor:
    """Room for what belongs to the weight or bias: for a row not all of it."""
    if not rows:
        return torch.empty_like(weight)
    return weight.new_zeros(torch.get_num_threads(), *weight.shape, dtype=torch.float64)


@lru_cache(64)
def _number(eps: float) -> Tensor:
    return torch.tensor(eps, dtype=torch.float64, device="cpu")


def _slopes_by_torch(gy: Tensor, x: Tensor, weight: Tensor, eps: float, rows: bool) -> tuple[Tensor, ...]:
    to = _Standard(x, weight, eps, rows)
    return to.rstd * to.across(to.weight * gy), to.sum(gy * to.hat), to.sum(gy)


def _curves_by_torch(
    gy: Tensor, x: Tensor, weight: Tensor, upstream: tuple[Tensor, ...], eps: float, rows: bool
) -> tuple[Tensor, ...]:
    """What Σ v gx + vweight gweight + vbias gbias changes by with gy, x and the weight."""
    to = _Standard(x, weight, eps, rows)
    v, vweight, vbias = upstream[0], to.wide(upstream[1]), to.wide(upstream[2])
    u = to.weight * gy
    along, across = to.across(v), to.across(u)
    bent = to.mean(v * across) * to.hat + to.mean(u * to.hat) * along + to.mean(v * to.hat) * across
    ggy = to.weight * to.rstd * along + vweight * to.hat + vbias
    return ggy, to.rstd * (to.across(vweight * gy) - to.rstd * bent), to.sum(to.rstd * along * gy)


class _Standard:
    """x̂, and what its derivatives are made of."""

    def __init__(self, x: Tensor, weight: Tensor, eps: float, rows: bool) -> None:
        self.examples = weight.dim() - 1
        places = range(self.examples + 2, x.dim())
        self.normalized = (-1,) if rows else (self.examples, *places)
        self.shared = (self.examples, *places)
        centered = x - self.mean(x)
        self.rstd = (self.mean(centered.square()) + eps).rsqrt()
        self.hat = centered * self.rstd
        self.weight = self.wide(weight)

    def mean(self, u: Tensor) -> Tensor:
        return u.mean(self.normalized, keepdim=True)

    def sum(self, u: Tensor) -> Tensor:
        """Over what a weight is that of."""
        return u.sum(self.shared)

    def wide(self, leaf: Tensor) -> Tensor:
        return leaf.unsqueeze(self.examples)[(..., *[None] * (len(self.shared) - 1))]

    def across(self, u: Tensor) -> Tensor:
        """u without what is not let through: its mean, and its part along x̂."""
        return u - self.mean(u) - self.hat * self.mean(u * self.hat)
