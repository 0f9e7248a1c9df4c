"""The tensors of a model as one vector for each task (or member of one), and back: [*lead, ...] by name, [*lead, P]."""

from __future__ import annotations

import torch
from torch import Tensor

from .tasks import Named

__all__ = ["joined", "parted", "totals"]


def joined(leaves: Named, axes: int = 1) -> Tensor:
    """[*lead, ...] by name -> [*lead, P], one after the other. The first `axes` axes lead."""
    return torch.cat([leaf.reshape(*leaf.shape[:axes], -1) for leaf in leaves.values()], axes)


def parted(vector: Tensor, like: Named) -> dict[str, Tensor]:
    """[*lead, P] -> tensors by name, of the shapes of those that were joined."""
    axes = vector.dim() - 1
    parts = torch.split(vector, [leaf.shape[axes:].numel() for leaf in like.values()], axes)
    return {name: part.reshape(leaf.shape) for (name, leaf), part in zip(like.items(), parts, strict=True)}


def totals(leaves: Named, axes: int = 1) -> Tensor:
    """The sum of all numbers of each task: [*lead, ...] by name -> [*lead]."""
    return torch.stack([leaf.reshape(*leaf.shape[:axes], -1).sum(-1) for leaf in leaves.values()]).sum(0)
