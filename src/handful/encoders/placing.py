"""What is added to an encoder comes to where it is, in its precision; so do examples."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from ..episode import Data, as_floats, map_data

__all__ = ["placed", "taken"]

P = TypeVar("P", bound=nn.Module | Tensor)


def placed(part: P, model: nn.Module) -> P:
    """The part on the device and of the type of a model that it joins: those of its first floating parameter."""
    like = _like(model)
    return part if like is None else part.to(like.device, like.dtype)  # type: ignore[return-value]


def taken(x: Data, model: nn.Module) -> Data:
    """Examples as a model takes them: bytes as floats, those of single or double precision in its own."""
    like, usual = _like(model), (torch.float32, torch.float64)
    if like is None or like.dtype not in usual:  # one of half precision sees to that itself
        return as_floats(x)
    return map_data(lambda leaf: leaf.to(like.dtype) if leaf.dtype in usual else leaf, as_floats(x))


def _like(model: nn.Module) -> Tensor | None:
    return next((leaf for leaf in model.parameters() if leaf.is_floating_point()), None)
