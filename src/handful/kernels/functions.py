"""What autograd functions have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

__all__ = ["Function", "mapped", "positional"]


class Function(torch.autograd.Function):
    """torch's own, whose `apply` has no types."""

    if TYPE_CHECKING:

        @classmethod
        def apply(cls, *args: Any) -> Any:
            """What `forward` gives."""


def mapped(function: Callable[..., Any], info: Any, in_dims: Any, inputs: tuple[Any, ...]) -> Any:
    """The function on [V, B, ...] as on [V·B, ...]."""
    size: int = info.batch_size

    def flat(value: Any, dim: int | None) -> Any:
        if not isinstance(value, Tensor):
            return value
        moved = value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0) if dim else value
        return moved.squeeze(1) if moved.shape[1] == 1 else moved.flatten(0, 1)

    flattened = [flat(value, dim) for value, dim in zip(inputs, in_dims, strict=True)]
    tasks = len(flattened[0]) // size
    results = function(*flattened)
    unflat = tuple(None if value is None else value.unflatten(0, (size, tasks)) for value in results)
    return unflat, tuple(None if value is None else 0 for value in results)


class _Bound(inspect.BoundArguments):
    """Arguments given by position, all of them."""

    args: Any = ()
    kwargs: Any = {}  # noqa: RUF012

    def apply_defaults(self) -> None:
        pass


class _Positional(inspect.Signature):
    """Takes arguments as they are: torch binds those of a function at every call, which takes a while."""

    def bind(self, *args: Any, **kwargs: Any) -> _Bound:
        bound = _Bound(self, {})
        bound.args = args
        return bound


def positional(*functions: type[torch.autograd.Function]) -> None:
    """Have torch take the arguments of these functions as they are."""
    for function in functions:
        parameters = inspect.signature(function.forward).parameters.values()
        setattr(function.forward, "__signature__", _Positional(list(parameters)))  # noqa: B010
