"""The pure forms of torch's optimizers."""

from __future__ import annotations

from dataclasses import fields

import torch

from ..errors import SpecError
from .optimizers import SGD, Adagrad, Adam, AdamW, InnerOptimizer, RMSprop

__all__ = ["like"]

_TWINS: dict[type[torch.optim.Optimizer], type[InnerOptimizer]] = {
    torch.optim.SGD: SGD,
    torch.optim.Adam: Adam,
    torch.optim.AdamW: AdamW,
    torch.optim.RMSprop: RMSprop,
    torch.optim.Adagrad: Adagrad,
}


def like(optimizer: torch.optim.Optimizer) -> InnerOptimizer:
    """The pure form of a torch optimizer: its rule and numbers, not what it remembers, nor which parameters it holds.

    It moves all that it is asked to: where the torch optimizer holds some parameters only, name them in `adapted`.

    Raises:
        SpecError: no such rule here; several groups of parameters; a flag that only torch's own form has.
    """
    kind = type(optimizer)
    if kind not in _TWINS:
        names = ", ".join(twin.__name__ for twin in _TWINS)
        raise SpecError(f"inner optimizer: there is no pure form of {kind.__name__}; expected one of {names}")
    if len(optimizer.param_groups) != 1:
        raise SpecError("inner optimizer: expected one group of parameters; give rates by name, lr={name: rate}")
    options = {
        k: v for k, v in optimizer.param_groups[0].items() if k not in ("params", "initial_lr", "differentiable")
    }
    for flag in ("foreach", "fused", "capturable"):
        if options.pop(flag, None):
            raise SpecError(f"inner optimizer: {flag} is how torch's own {kind.__name__} computes; leave it out")
    decoupled = options.pop("decoupled_weight_decay", False)
    twin = AdamW if decoupled else _TWINS[kind]
    known = [field.name for field in fields(twin)]
    for option in options:
        if option not in known:
            raise SpecError(f"inner optimizer: torch's {kind.__name__} has an option {option!r} that is not known here")
    return twin(**options)
