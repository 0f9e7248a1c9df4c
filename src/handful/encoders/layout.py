"""The order in which the numbers of pictures lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels import traced
from .normalization import called_plainly

__all__ = ["channels_last"]


def channels_last(x: Tensor) -> Tensor:
    """Pictures [n, C, H, W] with the channels of a pixel side by side, where that is faster: on a CPU, in float32, for
    first derivatives. Numbers and shape stay the same, and layers keep the order.

    A first convolution of one channel to 64 takes a sixteenth of the time by it, forward, on 28×28 pictures; a relation
    network's training step seven tenths. What flattens a map by `view` does not take it.
    """
    if traced() or x.device.type != "cpu" or x.dtype != torch.float32 or not called_plainly():
        return x
    if x.shape[1] == 1:  # both orders are the same: torch goes by the strides
        height, width = x.shape[2:]
        return x.contiguous().as_strided(x.shape, (height * width, 1, width, 1))
    return x.contiguous(memory_format=torch.channels_last)
