"""Inner optimizers: torch's update rules as pure functions of tensors, differentiable in everything they are given.

    optimizer = Adam(lr=0.01)                                     # any number here may be a tensor to be learned
    memory = optimizer.init(theta)                                # tensors by name
    theta, memory = optimizer.step(theta, gradients, memory)      # new tensors; the old ones stay

Numbers, flags and their defaults are those of `torch.optim`. Rules are element by element, so that tensors may have
leading axes of tasks, said in `step`, or be mapped by `vmap`. A complex parameter is its real and imaginary parts,
as in torch. A square root has derivative 0 at 0, where its own is infinite: a parameter that the loss ignores, whose
gradient is exactly 0, would otherwise make meta-gradients NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

import torch
from torch import Tensor

from ..errors import SpecError, unknown_name
from .precision import double_where_there, safe_sqrt
from .tasks import Named
from .vectors import totals

__all__ = ["INNER_OPTIMIZERS", "SGD", "Adagrad", "Adam", "AdamW", "InnerOptimizer", "RMSprop"]

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

    Raises:
        SpecError: a number out of range, or of the wrong type.
    """

    lr: Rate = 1e-3
    weight_decay: Number = 0.0
    maximize: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value, flag, optional = getattr(self, field.name), isinstance(field.default, bool), field.default is None
            if isinstance(value, list):
                object.__setattr__(self, field.name, value := tuple(value))
            parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]
            for part in parts:
                if flag != isinstance(part, bool):
                    raise SpecError(f"{self._name}: expected {field.name} {_kind(flag)}, got {part!r}")
                if flag or isinstance(part, Tensor) or (optional and part is None):
                    continue
                if not isinstance(part, int | float) or not part >= 0 or (optional and part == 0):
                    raise SpecError(f"{self._name}: expected {field.name} {_kind(flag, above=optional)}, got {part!r}")
                if field.name == "betas" and (part >= 1 or len(value) != 2):
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
        options = dict(table)
        name = options.pop("name", None)
        if name not in INNER_OPTIMIZERS:
            raise unknown_name("inner optimizer", name, INNER_OPTIMIZERS)
        if "lr" in options:
            raise SpecError(f"optimizer {name}: say the inner learning rate by `inner_rate`, not by `lr`")
        cls = INNER_OPTIMIZERS[name]
        known = [field.name for field in fields(cls)]
        for option in options:
            if option not in known:
                raise unknown_name(f"option of optimizer {name}", option, known)
        return cls(lr=lr, **options)

    @final
    def init(self, theta: Named) -> dict[str, dict[str, Tensor]]:
        """What there is to remember before the first step, by parameter; nothing of the values of `theta` is in it."""
        return {name: self._slots(_real(leaf)) for name, leaf in theta.items()}

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
        rate = self.lr if lr is None else lr
        after, kept = dict(theta), dict(memory)
        there = {name: _real(g) for name, g in gradients.items() if g is not None}
        for name, g in self._clipped(there, task_axes).items():
            own, leaf = rate[name] if isinstance(rate, Mapping) else rate, theta[name]
            if leaf.is_complex() and isinstance(own, Tensor) and own.ndim:
                own = own.unsqueeze(-1)
            moved, kept[name] = self._update(_real(leaf), -g if self.maximize else g, memory[name], own)
            after[name] = torch.view_as_complex(moved.contiguous()) if leaf.is_complex() else moved
        return after, kept

    @abstractmethod
    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        """The memory of one parameter before its first step."""

    @abstractmethod
    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        """One parameter and its memory after a step."""

    def _decayed(self, theta: Tensor, g: Tensor) -> Tensor:
        return g + self.weight_decay * theta if _on(self.weight_decay) else g

    def _clipped(self, gradients: Named, task_axes: int) -> Named:
        if self.clip_value is not None:
            most = self.clip_value
            gradients = {name: g.clamp(-most, most) for name, g in gradients.items()}
        if self.clip_norm is None or not gradients:
            return gradients
        norm = safe_sqrt(totals({name: g.square() for name, g in gradients.items()}, task_axes))  # [*tasks]
        factor = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
        return {name: g * factor.reshape(factor.shape + (1,) * (g.ndim - task_axes)) for name, g in gradients.items()}


@final
@dataclass(frozen=True, kw_only=True)
class SGD(InnerOptimizer):
    """Gradient descent; arguments as `torch.optim.SGD`."""

    momentum: Number = 0.0
    dampening: Number = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (not _on(self.momentum) or _on(self.dampening)):
            raise SpecError("SGD: nesterov needs a momentum, and no dampening")

    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        return {"step": _counter(theta), "velocity": torch.zeros_like(theta)} if _on(self.momentum) else {}

    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        g = self._decayed(theta, g)
        if memory:
            counted = torch.where(memory["step"] == 0, g, (1 - self.dampening) * g)  # the first one in full
            velocity = self.momentum * memory["velocity"] + counted
            memory = {"step": memory["step"] + 1, "velocity": velocity}
            g = g + self.momentum * velocity if self.nesterov else velocity
        return theta - lr * g, memory


@dataclass(frozen=True, kw_only=True)
class Adam(InnerOptimizer):
    """Kingma & Ba 2015, arXiv:1412.6980; arguments as `torch.optim.Adam`."""

    betas: tuple[Number, Number] = (0.9, 0.999)
    eps: Number = 1e-8
    amsgrad: bool = False

    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        names = ("mean", "square", "greatest") if self.amsgrad else ("mean", "square")
        return {"step": _counter(theta), **{name: torch.zeros_like(theta) for name in names}}

    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        return self._move(theta, self._decayed(theta, g), memory, lr)

    def _move(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        first, second = self.betas
        mean = first * memory["mean"] + (1 - first) * g
        square = second * memory["square"] + (1 - second) * g * g
        after = {"step": memory["step"] + 1, "mean": mean, "square": square}
        if self.amsgrad:
            square = after["greatest"] = torch.maximum(memory["greatest"], square)
        t = after["step"].to(double_where_there(g.device))  # 1 − 0.999 has few digits in single precision, none in half
        first_share, second_share = (1 - first**t).to(g.dtype), (1 - second**t).to(g.dtype)
        root = safe_sqrt(square) / second_share.sqrt() + self.eps
        return theta - lr / first_share * (mean / root), after


@final
@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Loshchilov & Hutter 2019, arXiv:1711.05101; arguments as `torch.optim.AdamW`."""

    weight_decay: Number = 1e-2

    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        return self._move(theta * (1 - lr * self.weight_decay), g, memory, lr)


@final
@dataclass(frozen=True, kw_only=True)
class RMSprop(InnerOptimizer):
    """Tieleman & Hinton 2012 (centered: Graves 2013, arXiv:1308.0850); arguments as `torch.optim.RMSprop`."""

    lr: Rate = 1e-2
    alpha: Number = 0.99
    eps: Number = 1e-8
    momentum: Number = 0.0
    centered: bool = False

    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        named = {"square": True, "velocity": _on(self.momentum), "mean": self.centered}
        return {name: torch.zeros_like(theta) for name, used in named.items() if used}

    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        g = self._decayed(theta, g)
        after = {"square": self.alpha * memory["square"] + (1 - self.alpha) * g * g}
        spread = after["square"]
        if self.centered:
            after["mean"] = self.alpha * memory["mean"] + (1 - self.alpha) * g
            spread = spread - after["mean"].square()
        g = g / (safe_sqrt(spread) + self.eps)
        if "velocity" in memory:
            g = after["velocity"] = self.momentum * memory["velocity"] + g
        return theta - lr * g, after


@final
@dataclass(frozen=True, kw_only=True)
class Adagrad(InnerOptimizer):
    """Duchi, Hazan & Singer 2011, JMLR 12; arguments as `torch.optim.Adagrad`."""

    lr: Rate = 1e-2
    lr_decay: Number = 0.0
    initial_accumulator_value: Number = 0.0
    eps: Number = 1e-10

    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        return {"step": _counter(theta), "sum": torch.zeros_like(theta) + self.initial_accumulator_value}

    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        g = self._decayed(theta, g)
        total = memory["sum"] + g * g
        rate = lr / (1 + memory["step"].to(g.dtype) * self.lr_decay)
        return theta - rate * (g / (safe_sqrt(total) + self.eps)), {"step": memory["step"] + 1, "sum": total}


INNER_OPTIMIZERS: dict[str, type[InnerOptimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}


def _kind(flag: bool, *, above: bool = False) -> str:
    return "true or false" if flag else "to be a number above 0" if above else "to be a number of at least 0"


def _on(value: Number) -> bool:
    """Whether a number does anything; one that is learned does."""
    return isinstance(value, Tensor) or value != 0


def _real(leaf: Tensor) -> Tensor:
    """The same numbers; of complex ones the parts along a last axis of two."""
    return torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf


def _counter(theta: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.long, device=theta.device)
