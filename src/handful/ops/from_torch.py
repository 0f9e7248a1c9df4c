"""The pure forms of torch's optimizers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SpecError
from .inner_optimizer import real
from .optimizers import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, InnerOptimizer, RAdam, RMSprop

__all__ = ["like", "memory_of"]

_TWINS: dict[type[torch.optim.Optimizer], type[InnerOptimizer]] = {
    torch.optim.SGD: SGD,
    torch.optim.Adam: Adam,
    torch.optim.AdamW: AdamW,
    torch.optim.RMSprop: RMSprop,
    torch.optim.Adagrad: Adagrad,
    torch.optim.Adadelta: Adadelta,
    torch.optim.Adamax: Adamax,
    torch.optim.RAdam: RAdam,
    torch.optim.ASGD: ASGD,
}

_SLOTS = {
    "momentum_buffer": "velocity",
    "exp_avg": "mean",
    "grad_avg": "mean",
    "exp_avg_sq": "square",
    "square_avg": "square",
    "max_exp_avg_sq": "greatest",
    "exp_inf": "greatest",
    "acc_delta": "moved",
    "sum": "sum",
    "step": "step",
}
"""What torch's optimizers call what they remember, and what is its name here."""

_OTHERWISE = ("foreach", "fused", "capturable")
"""Flags of how torch's own form computes."""


def like(optimizer: torch.optim.Optimizer, module: nn.Module | None = None) -> InnerOptimizer:
    """The pure form of a torch optimizer: its rule and numbers, not what it remembers (see `memory_of`).

    Nor which parameters it holds, without the module: it moves all that it is asked to.

    Args:
        optimizer: of any number of groups, which may differ in their numbers and flags.
        module: whose parameters the optimizer holds. The rates are then by name, so that `adapted=list(rule.lr)` are
            those it moves now, frozen ones left out; None: one rate.

    Raises:
        SpecError: no such rule here; several groups without the module; a flag that only torch's own form has; a
            parameter that is none of the module's.
    """
    kind = type(optimizer)
    if kind not in _TWINS:
        known = ", ".join(twin.__name__ for twin in _TWINS)
        raise SpecError(f"inner optimizer: there is no pure form of {kind.__name__}; expected one of {known}")
    if module is None:
        if len(optimizer.param_groups) > 1:
            raise SpecError("inner optimizer: several groups of parameters; say like(optimizer, module)")
        return _rule(optimizer, optimizer.param_groups[0])
    names_of, rules = _names(optimizer, module), [_rule(optimizer, group) for group in optimizer.param_groups]
    first, rates, others = rules[0], dict[str, Any](), dict[str, InnerOptimizer]()
    for names, rule in zip(names_of, rules, strict=True):
        rates |= dict.fromkeys(names, rule.lr)
        if replace(rule, lr=first.lr) != first:
            others |= dict.fromkeys(names, rule)
    return replace(first, lr=rates, others=others or None)


def _rule(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> InnerOptimizer:
    """The rule of one group."""
    kind = type(optimizer)
    options = {option: group[option] for option in optimizer.defaults}  # what others write into groups is no option
    for flag in _OTHERWISE:
        if options.pop(flag, None):
            raise SpecError(f"inner optimizer: {flag} is how torch's own {kind.__name__} computes; leave it out")
    for option in ("differentiable", "t0"):  # every rule here is; of ASGD's average, which is not kept
        options.pop(option, None)
    twin = _TWINS[kind]
    if kind in (torch.optim.Adam, torch.optim.AdamW):
        twin = AdamW if options.pop("decoupled_weight_decay", False) else twin
    known = [field.name for field in fields(twin)]
    for option in options:
        if option not in known:
            raise SpecError(f"inner optimizer: torch's {kind.__name__} has an option {option!r} that is not known here")
    return twin(**options)


def memory_of(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, dict[str, Tensor]]:
    """What a torch optimizer remembers, for its pure form to go on with: `Adaptable(..., memory=memory_of(...))`.

    Args:
        optimizer: as for `like`.
        module: whose parameters it holds.

    Returns:
        Copies, by the names of the parameters that it moves now; of one that has made no step yet, the beginning.

    Raises:
        SpecError: as `like`.
    """
    rule, own = like(optimizer, module), dict(module.named_parameters())
    memory = rule.init({name: own[name] for names in _names(optimizer, module) for name in names})
    for name, slots in memory.items():
        for key, value in optimizer.state.get(own[name], {}).items():
            slot = _SLOTS.get(key)
            if slot in slots and value is not None:
                slots[slot] = real(torch.as_tensor(value).detach()).to(slots[slot], copy=True)
                if slot == "velocity" and "step" in slots:
                    slots["step"] = torch.ones_like(slots["step"])  # SGD's first gradient has been counted
    return memory


def _names(optimizer: torch.optim.Optimizer, module: nn.Module) -> list[list[str]]:
    """The parameters that each group moves now, by their names in the module."""
    names = {id(leaf): name for name, leaf in module.named_parameters()}
    for group in optimizer.param_groups:
        for leaf in group["params"]:
            if id(leaf) not in names:
                raise SpecError(
                    f"inner optimizer: it holds a parameter of shape {tuple(leaf.shape)} that is none of "
                    f"{type(module).__name__}'s; expected the module whose parameters it was made with"
                )
    return [[names[id(leaf)] for leaf in group["params"] if leaf.requires_grad] for group in optimizer.param_groups]
