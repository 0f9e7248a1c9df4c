"""Norms of tasks as papers have them, by plain operators. (Third derivatives of torch's own, by 2.13, are wrong.)"""

from __future__ import annotations

import torch
from torch import Tensor


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    over = (1, *range(3, x.dim()))
    centered = x - x.mean(over, keepdim=True)
    hat = centered / (centered.square().mean(over, keepdim=True) + eps).sqrt()
    weight, bias = (leaf.unsqueeze(1)[(..., *[None] * (x.dim() - 3))] for leaf in (weight, bias))
    return hat * weight + bias


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centered = x - x.mean(-1, keepdim=True)
    hat = centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt()
    return hat * weight[:, None] + bias[:, None]


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = (2 * torch.randn(shape, dtype=torch.float64) + 3).to(dtype).requires_grad_()
    weight, bias = (torch.randn(shape[0], shape[2], dtype=dtype).requires_grad_() for _ in range(2))
    return x, weight, bias
