"""Examples as tensors, and the checks at the door of an episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import index

import torch
from torch import Tensor

from .errors import DataError, LabelError, ShapeError

__all__ = [
    "Data",
    "as_floats",
    "check_finite",
    "check_labels",
    "check_range",
    "check_set",
    "form",
    "join_data",
    "leading",
    "map_data",
    "whole_ways",
]

Data = Tensor | Mapping[str, Tensor]
"""One tensor, or tensors by name that share their leading axes (token ids and mask, padded graphs)."""


def map_data(function: Callable[[Tensor], Tensor], x: Data) -> Data:
    """`function` of the tensor, or of each of the named tensors."""
    if isinstance(x, Tensor):
        return function(x)
    return {name: function(leaf) for name, leaf in x.items()}


def join_data(parts: Sequence[Data], axis: int) -> Data:
    """The parts one after the other along an axis; all are tensors, or all hold the same names."""
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if tensors:
        return torch.cat(tensors, axis)
    named = [part for part in parts if not isinstance(part, Tensor)]
    return {name: torch.cat([part[name] for part in named], axis) for name in named[0]}


def as_floats(x: Data) -> Data:
    """The same, but for a tensor of bytes (pictures): value / 255, in torch's default kind of number."""
    if isinstance(x, Tensor) and x.dtype == torch.uint8:
        return x.to(torch.get_default_dtype()).div_(255)
    return x


def leading(x: Data) -> tuple[int, int]:
    """The first two axes: tasks and examples."""
    shape = (x if isinstance(x, Tensor) else next(iter(x.values()))).shape
    return shape[0], shape[1]


def form(x: Data) -> tuple[int, ...] | dict[str, int]:
    """The shape of an example; of tensors by name how many axes each has, since padding may differ."""
    return tuple(x.shape[2:]) if isinstance(x, Tensor) else {name: leaf.ndim for name, leaf in x.items()}


def whole_ways(ways: int) -> int:
    """A number of ways as an int; a LabelError if it is not whole."""
    try:
        return index(ways)
    except TypeError:
        raise LabelError(f"support: expected a whole number of ways, got {ways!r}") from None


def check_set(kind: str, x: Data, y: Tensor, *, classes: bool) -> None:
    """A ShapeError unless examples and labels are tensors that agree; a DataError for NaN."""
    if not isinstance(y, Tensor) or not isinstance(x, Tensor | Mapping):
        raise ShapeError(
            f"{kind}: expected tensors, got {type(x).__name__} and {type(y).__name__}; torch.as_tensor makes them"
        )
    leaves = {"x": x} if isinstance(x, Tensor) else dict(x)
    if not leaves:
        raise ShapeError(f"{kind}: expected tensors, got an empty mapping")
    if y.ndim < 2 or y.shape[0] == 0 or y.shape[1] == 0:
        raise ShapeError(
            f"{kind} labels: expected [tasks, examples, ...] with at least one of each, got {tuple(y.shape)}; "
            "a single task is a batch of one (y[None])"
        )
    if classes and (y.ndim != 2 or y.is_floating_point() or y.dtype == torch.bool):
        raise ShapeError(
            f"{kind} labels: expected integers [tasks, examples], got {y.dtype} {tuple(y.shape)}; "
            "for regression leave ways=None and give floats"
        )
    if not classes and not y.is_floating_point():
        raise ShapeError(f"{kind} targets: expected floats, got {y.dtype}; for classes say how many ways there are")
    if not classes:
        check_finite(f"{kind} targets", y)
    for name, leaf in leaves.items():
        if not isinstance(leaf, Tensor):
            raise ShapeError(f"{kind} {name}: expected a tensor, got {type(leaf).__name__}; torch.as_tensor makes one")
        if leaf.shape[:2] != y.shape[:2]:
            raise ShapeError(
                f"{kind} {name}: expected its first two axes to be [tasks, examples] = {tuple(y.shape[:2])} "
                f"as the labels have, got {tuple(leaf.shape)}"
            )
        if leaf.is_floating_point():
            check_finite(f"{kind} {name}", leaf)


def check_finite(what: str, x: Tensor) -> None:
    """A DataError for a number that is not finite, where reading them costs nothing."""
    if x.device.type != "cpu" or bool(torch.isfinite(x.sum())):  # one pass in the usual case
        return
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        raise DataError(
            f"{what}: expected finite numbers, got {bad} NaN or infinite of {x.numel()}; clean or drop them"
        )


def check_range(kind: str, y: Tensor, ways: int) -> None:
    """A LabelError for a label outside [0, ways)."""
    if y.device.type == "cpu" and not (int(y.min()) >= 0 and int(y.max()) < ways):
        raise LabelError(
            f"{kind} labels: expected integers from 0 to {ways - 1} ({ways} ways), "
            f"got {int(y.min())} to {int(y.max())}; number the classes of each task from 0"
        )


def check_labels(y: Tensor, ways: int, weight: Tensor | None = None) -> None:
    """A LabelError unless labels are in [0, ways) and every class has an example (with a weight)."""
    if ways < 1:
        raise LabelError(f"support: expected at least one way, got {ways}")
    if y.device.type != "cpu":
        return
    check_range("support", y, ways)
    tasks = y.shape[0]
    slot = y + ways * torch.arange(tasks).unsqueeze(1)  # [B, S]
    weights = None if weight is None else weight.flatten().double()
    counts = torch.bincount(slot.flatten(), weights, minlength=tasks * ways).view(tasks, ways)
    if bool((counts == 0).any()):
        task, label = (counts == 0).nonzero()[0].tolist()
        raise LabelError(
            f"support: class {label} of task {task} has no example{'' if weight is None else ' with a weight'}; "
            f"each of the {ways} ways needs at least one"
        )
