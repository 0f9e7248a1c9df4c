"""The pure forms of torch's optimizers."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor, nn

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


_OTHERWISE = ("foreach", "fused", "capturable")
"""Flags of how torch's own form computes."""


def like(optimizer: torch.optim.Optimizer, module: nn.Module | None = None) -> InnerOptimizer:
    """The pure form of a torch optimizer: its rule and numbers, not what it remembers.

    Nor which parameters it holds, without the module: it moves all that it is asked to.

    Args:
        optimizer: of any number of groups, which may differ in their learning rates.
        module: whose parameters the optimizer holds. The rates are then by name, so that `adapted=list(rule.lr)` are
            those it moves now, frozen ones left out; None: one rate.

    Raises:
        SpecError: no such rule here; groups that differ in something else, or several without the module; a flag that
            only torch's own form has; a parameter that is none of the module's.
    """
    kind = type(optimizer)
    if kind not in _TWINS:
        names = ", ".join(twin.__name__ for twin in _TWINS)
        raise SpecError(f"inner optimizer: there is no pure form of {kind.__name__}; expected one of {names}")
    # what schedules and people write into groups is no option
    first, *others = ({k: group[k] for k in optimizer.defaults} for group in optimizer.param_groups)
    for other in others:
        for option in first:
            if option != "lr" and other[option] != first[option]:
                raise SpecError(f"inner optimizer: expected groups that differ in lr alone, these differ in {option}")
    if others and module is None:
        raise SpecError("inner optimizer: several groups of parameters; say like(optimizer, module) for rates by name")
    for flag in _OTHERWISE:
        if first.pop(flag, None):
            raise SpecError(f"inner optimizer: {flag} is how torch's own {kind.__name__} computes; leave it out")
    first.pop("differentiable", None)
    twin = AdamW if first.pop("decoupled_weight_decay", False) else _TWINS[kind]
    known = [field.name for field in fields(twin)]
    for option in first:
        if option not in known:
            raise SpecError(f"inner optimizer: torch's {kind.__name__} has an option {option!r} that is not known here")
    if module is not None:
        first["lr"] = _rates(optimizer, module)
    return twin(**first)


def _rates(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, float | Tensor]:
    """The learning rate of each parameter that the optimizer moves, by its name in the module."""
    names = {id(leaf): name for name, leaf in module.named_parameters()}
    held = [(leaf, group["lr"]) for group in optimizer.param_groups for leaf in group["params"]]
    for leaf, _ in held:
        if id(leaf) not in names:
            raise SpecError(
                f"inner optimizer: it holds a parameter of shape {tuple(leaf.shape)} that is none of "
                f"{type(module).__name__}'s; expected the module whose parameters it was made with"
            )
    return {names[id(leaf)]: rate for leaf, rate in held if leaf.requires_grad}
