"""A convolution's weights as the compiled passes read them, and back."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .library import call

__all__ = ["LANES", "pack", "unpack", "widened"]

LANES = 32
"""Channels that a pass writes at once: what it gives has a multiple of them."""


def pack(name: str, w: Tensor, taps: int) -> tuple[Tensor, int]:
    """Packed weights of each task, and how far apart tasks lie: 0 if all have the same.

    Args:
        name: "pack", or "pack_turned" for the transposed weights turned by half a turn.
        w: [B, O, C, 3, 3].
        taps: 9, or 16 for Winograd's tiles.
    """
    outputs, inputs = w.shape[-4:-2]
    tasks = 1 if w.stride(0) == 0 else len(w)
    packed = w.new_empty(tasks, taps * inputs * outputs)
    call(name, w.dtype, w[:tasks].contiguous(), taps, tasks, outputs, inputs, packed)
    return packed, 0 if tasks == 1 else packed.shape[1]


def unpack(packed: Tensor, taps: int, outputs: int, inputs: int) -> Tensor:
    """[B, taps · C · O] -> [B, O, C, 3, 3]."""
    w = packed.new_empty(len(packed), outputs, inputs, 3, 3)
    call("unpack", w.dtype, packed.contiguous(), taps, len(packed), outputs, inputs, w)
    return w


def widened(w: Tensor, spare: int) -> Tensor:
    """[B, O, C, 3, 3] -> [B, O, C + spare, 3, 3], nothing added."""
    return F.pad(w, (0, 0, 0, 0, 0, spare))
