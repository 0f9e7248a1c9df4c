"""What is added to an encoder comes to where it is, in its precision."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

__all__ = ["placed"]

P = TypeVar("P", bound=nn.Module | Tensor)


def placed(part: P, model: nn.Module) -> P:
    """The part on the device and of the type of a model that it joins: those of its first floating parameter."""
    like = next((leaf for leaf in model.parameters() if leaf.is_floating_point()), None)
    return part if like is None else part.to(like.device, like.dtype)  # type: ignore[return-value]
