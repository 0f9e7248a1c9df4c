"""Labels as vectors, and sums over the examples of each class, for classes of any sizes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..errors import LabelError, ShapeError

__all__ = ["class_means", "label_vectors", "membership"]


def membership(y: Tensor, ways: int, weight: Tensor | None = None, *, dtype: torch.dtype) -> Tensor:
    """How much each example counts in each class: [B, S] in [0, ways), weights [B, S] -> [B, S, ways]."""
    member = one_hot(y, ways).to(dtype)
    return member if weight is None else member * weight.to(dtype).unsqueeze(-1)


def class_means(z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Tensor:
    """Mean (weighted mean) of the examples of each class: [B, S, F], [B, S] in [0, ways) -> [B, ways, F]."""
    member = membership(y, ways, weight, dtype=z.dtype)  # [B, S, N]
    return member.transpose(1, 2) @ z / member.sum(1).unsqueeze(-1)


def label_vectors(y: Tensor, ways: int, outputs: int) -> Tensor:
    """Labels for a learner that takes them as input: [B, S] in [0, ways) as one-hot rows, [B, S, outputs] floats as is.

    Raises:
        LabelError: another number of ways than outputs.
        ShapeError: another number of targets than outputs.
    """
    if y.is_floating_point():
        if y.shape[2:] != (outputs,):
            raise ShapeError(
                f"expected targets [B, S, {outputs}], got {tuple(y.shape)}; set outputs= to the number of targets"
            )
        return y
    if ways != outputs:
        raise LabelError(
            f"this learner's labels are {outputs} wide, and a task of {ways} ways came; "
            f"train and use it with as many ways as outputs (outputs={ways})"
        )
    return one_hot(y, ways)
