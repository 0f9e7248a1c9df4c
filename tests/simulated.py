"""An accelerator that is not there: tensors that name another device and compute on the CPU.

It refuses what a GPU refuses: a tensor of one axis or more that is not there beside one that is. So tests find tensors
that were made in the wrong place. The device is called `meta`, which every build of torch knows; it has no autocast and
no random numbers of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map

__all__ = ["ACCELERATOR", "Accelerated", "simulated"]

ACCELERATOR = torch.device("meta")
COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
"""From one device to the other."""
INDEXED = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}
"""What is indexed may be there, and its indices on the CPU; not the other way."""


class Accelerated(Tensor):
    """A tensor on the accelerator; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, requires_grad: bool = False) -> Accelerated:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=ACCELERATOR,
            requires_grad=requires_grad,
        )
        made.held = held
        return made  # type: ignore[no-any-return]

    def __init__(self, held: Tensor, requires_grad: bool = False) -> None:
        pass

    def tolist(self) -> Any:
        """Its numbers, which torch reads of no subclass."""
        return self.held.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"Accelerated({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The operation on the CPU, its results where they belong."""
    given = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [isinstance(leaf, Accelerated) for leaf in given]
    target = kwargs.get("device")
    lands = any(there) if target is None else torch.device(target).type == ACCELERATOR.type
    if any(there) and func not in COPIES and not (func in INDEXED and there[0]):
        strays = [leaf for leaf in given if not isinstance(leaf, Accelerated) and leaf.dim() > 0]
        if strays:
            found = tuple(strays[0].shape)
            raise RuntimeError(f"{func}: expected all tensors on the accelerator, found one of shape {found} elsewhere")
    if target is not None:
        kwargs = {**kwargs, "device": "cpu"}
    plain = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    inner = tree_map(lambda leaf: leaf.held if isinstance(leaf, Accelerated) else leaf, (tuple(args), plain))
    found = func(*inner[0], **inner[1])
    if not lands:
        return found
    found = tree_map(lambda leaf: Accelerated(leaf) if isinstance(leaf, Tensor) else leaf, found)
    return return_and_correct_aliasing(func, tuple(args), dict(kwargs), found)


class Simulation(TorchDispatchMode):
    """Tensors that are made on the accelerator, or moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class NoNoise:
    """The accelerator's random numbers, which nothing in a test draws."""

    @staticmethod
    def get_rng_state(device: torch.device) -> Tensor:
        """As `torch.cuda.get_rng_state`."""
        return torch.empty(0, dtype=torch.uint8)

    @staticmethod
    def set_rng_state(state: Tensor, device: torch.device) -> None:
        """As `torch.cuda.set_rng_state`."""


@contextmanager
def simulated() -> Iterator[None]:
    """Within, `ACCELERATOR` can be named."""

    def instead(real: Callable[..., Any], here: Callable[..., Any]) -> Callable[..., Any]:
        """`here` where the first argument names the accelerator."""

        def chosen(kind: Any, *args: Any, **options: Any) -> Any:
            named = torch.device(kind).type == ACCELERATOR.type
            return here() if named else real(kind, *args, **options)

        return chosen

    def moved(real: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A maker of tensors that no dispatch sees, on the CPU and then moved."""

        def made(*args: Any, device: Any = None, **options: Any) -> Tensor:
            found = real(*args, **options)
            return found if device is None else found.to(device)

        return made

    changes = {
        "autocast": instead(torch.autocast, nullcontext),
        "is_autocast_enabled": instead(torch.is_autocast_enabled, lambda: False),
        "get_autocast_dtype": instead(torch.get_autocast_dtype, lambda: torch.bfloat16),
        "get_device_module": instead(torch.get_device_module, NoNoise),
        "tensor": moved(torch.tensor),
        "as_tensor": moved(torch.as_tensor),
    }
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with patch.multiple(torch, **changes), Simulation():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
