"""Numbers wide enough for what is computed with them, and functions that are safe at zero."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["double_where_there", "log_mass", "precise", "safe_sqrt"]


def precise(x: Tensor) -> Tensor:
    """The same, of single precision at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def double_where_there(device: torch.device) -> torch.dtype:
    """Double precision, and single on Apple's accelerators, which have no double."""
    return torch.float32 if device.type == "mps" else torch.float64


def safe_sqrt(x: Tensor) -> Tensor:
    """√x, with derivative 0 where x is 0; 0 for negative x, which only rounding makes."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def log_mass(mass: Tensor) -> Tensor:
    """log, −∞ at 0 without a gradient."""
    empty = mass == 0
    return torch.where(empty, -torch.inf, torch.where(empty, 1.0, mass).log())
