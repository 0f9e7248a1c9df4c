"""Products of matrices by the compiled kernel. Derivatives of products are products: there are as many as one wants."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .library import lies, spread

__all__ = ["product", "worth"]

LEAST = 1 << 20
"""Multiplications from which a product is given to the kernel: a smaller one is over before Python has done so."""
LEAST_EACH = 1 << 12
"""The same for each matrix of a batch: smaller ones are no faster."""


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b, [B, ..., M, K] [B, ..., K, O] -> [B, ..., M, O] with one more axis at most, by the kernel if it is large."""
    if not (worth(a, b) and lies(a, b)):
        return torch.matmul(a, b)
    c: Tensor = _Product.apply(a, b)  # type: ignore[no-untyped-call]
    return c


def worth(a: Tensor, b: Tensor) -> bool:
    """Whether a product is large enough for the kernel."""
    each = a.shape[-2] * a.shape[-1] * b.shape[-1]
    return each >= LEAST_EACH and each * math.prod(a.shape[:-2]) >= LEAST


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        (a, row, column), c = _neighbors(a), a.new_empty(*a.shape[:-1], b.shape[-1])
        inner, sizes = math.prod(a.shape[1:-2]), (a.shape[-2], a.shape[-1], b.shape[-1])
        of_a, of_b = (leaf.stride()[:2] if leaf.dim() > 3 else (leaf.stride(0), 0) for leaf in (a, b))

        def part(_: int, start: int, stop: int) -> tuple[Tensor | int, ...]:
            return a, *of_a, row, column, b, *of_b, *b.stride()[-2:], c, start, stop, inner, *sizes

        spread("matmul", a.dtype, len(a) * inner * sizes[0], part)
        return c

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (g,), (a, b), (of_a, of_b) = upstream, ctx.saved_tensors, ctx.needs_input_grad
        ga, gb = _as(a, g, b.mT) if of_a else None, _as(b, a.mT, g) if of_b else None
        return ga, gb


def _as(like: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a b, whose rows or columns are next to each other as in `like`, for which it is the gradient."""
    return product(b.mT, a.mT).mT if like.stride(-2) == 1 != like.stride(-1) else product(a, b)


def _neighbors(a: Tensor) -> tuple[Tensor, int, int]:
    """a with its rows or its columns next to each other, and how far apart they lie."""
    rows, columns = a.shape[-2:]
    if not (columns == 1 or a.stride(-1) == 1 or rows == 1 or a.stride(-2) == 1):
        a = a.contiguous()
    return (a, a.stride(-2), 1) if columns == 1 or a.stride(-1) == 1 else (a, 1, a.stride(-1))
