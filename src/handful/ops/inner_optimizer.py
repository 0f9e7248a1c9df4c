"""What all inner optimizers have in common; the rules themselves are in `optimizers.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import Any, final

import torch
from torch import Tensor

from ..errors import SpecError, unknown_name
from .precision import safe_sqrt
from .tasks import Named
from .vectors import totals

__all__ = ["InnerOptimizer", "Memory", "Number", "Rate", "Slots", "on", "real"]

Number = float | Tensor
Rate = Number | Mapping[str, Number]
"""One for all parameters, or one for each by name; a tensor of the parameter's shape is a rate for each number."""
Slots = Mapping[str, Tensor]
"""What an optimizer remembers of one parameter, by name."""
Memory = Mapping[str, Slots]


@dataclass(frozen=True, kw_only=True)
class InnerOptimizer(ABC):
    """An update rule.

    Args:
        lr: the learning rate.
        weight_decay: times the parameters, added to the gradient (taken from the parameters in AdamW).
        maximize: ascend.
        clip_norm: greatest norm of all gradients of a task together.
        clip_value: greatest size of each number in a gradient.
        others: rules in the place of this one for some parameters by name, with rates of their own; None: no others.

    Raises:
        SpecError: a number out of range, or of the wrong type; another rule that clips, or has others itself.
    """

    lr: Rate = 1e-3
    weight_decay: Number = 0.0
    maximize: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    others: Mapping[str, InnerOptimizer] | None = None

    def __post_init__(self) -> None:
        for name, other in (self.others or {}).items():
            if not isinstance(other, InnerOptimizer) or other.clip_norm or other.clip_value or other.others:
                raise SpecError(
                    f"{self._name}: expected in others a rule that clips nothing for {name!r}, got {other!r}"
                )
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), list):  # as JSON has it
                object.__setattr__(self, field.name, tuple(value))
            if field.name != "others":
                self._check(field)

    def _check(self, field: Field[Any]) -> None:
        """Raises SpecError unless the number or numbers of a field are in range; those that are learned may be any."""
        value, flag, optional = getattr(self, field.name), isinstance(field.default, bool), field.default is None
        wanted = "true or false" if flag else f"to be a number {'above' if optional else 'of at least'} 0"
        for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]:
            if flag or isinstance(part, bool):
                right = flag and isinstance(part, bool)
            elif isinstance(part, int | float):
                right = part > 0 if optional else part >= 0
            else:
                right = isinstance(part, Tensor) or (optional and part is None)
            if not right:
                raise SpecError(f"{self._name}: expected {field.name} {wanted}, got {part!r}")
        if field.name == "betas" and not isinstance(value, Tensor):
            pair = isinstance(value, tuple) and len(value) == 2
            if not pair or any(not isinstance(beta, Tensor) and beta >= 1 for beta in value):
                raise SpecError(f"{self._name}: expected two betas in [0, 1), got {value!r}")

    @property
    def _name(self) -> str:
        return type(self).__name__

    @final
    @staticmethod
    def of(table: Mapping[str, Any], *, lr: Rate) -> InnerOptimizer:
        """An optimizer from a table as a spec has it, {"name": "adam", "betas": [0.0, 0.999]}, and the rate.

        Raises:
            UnknownNameError: no such optimizer or option.
            SpecError: the rate is in the table, or an option is out of range.
        """
        from .optimizers import INNER_OPTIMIZERS  # which are made of this class

        options = dict(table)
        name = options.pop("name", None)
        if name not in INNER_OPTIMIZERS:
            raise unknown_name("inner optimizer", name, INNER_OPTIMIZERS)
        if "lr" in options:
            raise SpecError(f"optimizer {name}: say the inner learning rate by `inner_rate`, not by `lr`")
        cls = INNER_OPTIMIZERS[name]
        known = [field.name for field in fields(cls) if field.name != "others"]
        for option in options:
            if option not in known:
                raise unknown_name(f"option of optimizer {name}", option, known)
        return cls(lr=lr, **options)

    @final
    def init(self, theta: Named) -> dict[str, dict[str, Tensor]]:
        """What there is to remember before the first step, by parameter; nothing of the values of `theta` is in it."""
        return {name: self._of(name)._slots(real(leaf)) for name, leaf in theta.items()}

    @final
    def step(
        self,
        theta: Named,
        gradients: Mapping[str, Tensor | None],
        memory: Memory,
        *,
        lr: Rate | None = None,
        task_axes: int = 0,
    ) -> tuple[dict[str, Tensor], dict[str, Slots]]:
        """Parameters and memory after a step.

        Args:
            theta: parameters by name.
            gradients: by name; a parameter without one, or with None, stays as it is.
            memory: from `init` or the step before.
            lr: another rate for this step.
            task_axes: how many leading axes are tasks; norms are taken within a task.
        """
        after, kept = dict(theta), dict(memory)
        there = {name: real(g) for name, g in gradients.items() if g is not None}
        for name, g in self._clipped(there, task_axes).items():
            rule, leaf = self._of(name), theta[name]
            rate = rule.lr if lr is None else lr
            own = rate[name] if isinstance(rate, Mapping) else rate
            if leaf.is_complex() and isinstance(own, Tensor) and own.ndim:
                own = own.unsqueeze(-1)
            moved, kept[name] = rule._update(real(leaf), -g if rule.maximize else g, memory[name], own)
            after[name] = torch.view_as_complex(moved.contiguous()) if leaf.is_complex() else moved
        return after, kept

    def _of(self, name: str) -> InnerOptimizer:
        """The rule of a parameter."""
        return (self.others or {}).get(name, self)

    @abstractmethod
    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        """The memory of one parameter before its first step."""

    @abstractmethod
    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        """One parameter and its memory after a step."""

    def _decayed(self, theta: Tensor, g: Tensor) -> Tensor:
        return g + self.weight_decay * theta if on(self.weight_decay) else g

    def _clipped(self, gradients: Named, task_axes: int) -> Named:
        if self.clip_value is not None:
            most = self.clip_value
            gradients = {name: g.clamp(-most, most) for name, g in gradients.items()}
        if self.clip_norm is None or not gradients:
            return gradients
        norm = safe_sqrt(totals({name: g.square() for name, g in gradients.items()}, task_axes))  # [*tasks]
        factor = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
        return {name: g * factor.reshape(factor.shape + (1,) * (g.ndim - task_axes)) for name, g in gradients.items()}


def on(value: Number) -> bool:
    """Whether a number does anything; one that is learned does."""
    return isinstance(value, Tensor) or value != 0


def real(leaf: Tensor) -> Tensor:
    """The same numbers; of complex ones the parts along a last axis of two."""
    return torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf
