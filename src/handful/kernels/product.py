"""Products of matrices by the compiled kernel. Derivatives of products are products: there are as many as one wants."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .functions import Function
from .library import lies, spread

__all__ = ["product", "worth"]

LEAST = 1 << 20
"""Multiplications from which a product is given to the kernel: a smaller one is over before Python has done so."""
LEAST_EACH = 1 << 12
"""The same for each matrix of a batch: smaller ones are no faster."""

Turned = tuple[bool, bool]


def product(a: Tensor, b: Tensor, turned: Turned = (False, False)) -> Tensor:
    """a b, [B, ..., M, K] [B, ..., K, O] -> [B, ..., M, O] with one more axis at most, by the kernel if it is large.

    turned: whether a, and b, is given as its transpose. What is turned here needs no node of the graph for it.
    """
    if worth(a, b, turned) and lies(a, b):
        c: Tensor = _Product.apply(a, b, turned)
        return c
    return torch.matmul(*_turned(a, b, turned))


def worth(a: Tensor, b: Tensor, turned: Turned) -> bool:
    """Whether a product is large enough for the kernel."""
    *lead, rows, columns = a.shape
    each = rows * columns * b.shape[-2 if turned[1] else -1]
    return each >= LEAST_EACH and each * math.prod(lead) >= LEAST


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, turned: Turned) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.turned = turned
        a, b = _turned(a, b, turned)
        (a, row, column), c = _neighbors(a), a.new_empty(*a.shape[:-1], b.shape[-1])
        inner, sizes = math.prod(a.shape[1:-2]), (a.shape[-2], a.shape[-1], b.shape[-1])
        of_a, of_b = (leaf.stride()[:2] if leaf.dim() > 3 else (leaf.stride(0), 0) for leaf in (a, b))

        def part(_: int, start: int, stop: int) -> tuple[Tensor | int, ...]:
            return a, *of_a, row, column, b, *of_b, *b.stride()[-2:], c, start, stop, inner, *sizes

        spread("matmul", a.dtype, len(a) * inner * sizes[0], part)
        return c

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (a, b), (of_a, of_b, _) = upstream, ctx.saved_tensors, ctx.needs_input_grad
        a_turned, b_turned = ctx.turned
        ga = gb = None
        if of_a:
            ga = _as(a, b, g, (b_turned, True)) if a_turned else _as(a, g, b, (False, not b_turned))
        if of_b:
            gb = _as(b, g, a, (True, a_turned)) if b_turned else _as(b, a, g, (not a_turned, False))
        return ga, gb, None


def _as(like: Tensor, a: Tensor, b: Tensor, turned: Turned) -> Tensor:
    """a b, whose rows or columns are next to each other as in `like`, for which it is the gradient."""
    if like.stride(-2) == 1 != like.stride(-1):
        return product(b, a, (not turned[1], not turned[0])).mT
    return product(a, b, turned)


def _turned(a: Tensor, b: Tensor, turned: Turned) -> tuple[Tensor, Tensor]:
    return a.mT if turned[0] else a, b.mT if turned[1] else b


def _neighbors(a: Tensor) -> tuple[Tensor, int, int]:
    """a with its rows or its columns next to each other, and how far apart they lie."""
    rows, columns = a.shape[-2:]
    if not (columns == 1 or a.stride(-1) == 1 or rows == 1 or a.stride(-2) == 1):
        a = a.contiguous()
    return (a, a.stride(-2), 1) if columns == 1 or a.stride(-1) == 1 else (a, 1, a.stride(-1))
