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

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..errors import SpecError
from .inner_optimizer import InnerOptimizer, Memory, Number, Rate, Slots, on
from .precision import double_where_there, safe_sqrt

__all__ = [
    "ASGD",
    "INNER_OPTIMIZERS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "InnerOptimizer",
    "Memory",
    "Number",
    "RAdam",
    "RMSprop",
    "Rate",
]


@final
@dataclass(frozen=True, kw_only=True)
class SGD(InnerOptimizer):
    """Gradient descent; arguments as `torch.optim.SGD`."""

    momentum: Number = 0.0
    dampening: Number = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (not on(self.momentum) or on(self.dampening)):
            raise SpecError("SGD: nesterov needs a momentum, and no dampening")

    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        return {"step": _counter(theta), "velocity": torch.zeros_like(theta)} if on(self.momentum) else {}

    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        g = self._decayed(theta, g)
        if memory:
            counted = torch.where(memory["step"] == 0, g, (1 - self.dampening) * g)  # the first one in full
            velocity = self.momentum * memory["velocity"] + counted
            memory = {"step": memory["step"] + 1, "velocity": velocity}
            g = g + self.momentum * velocity if self.nesterov else velocity
        return _down(theta, g, lr), memory


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
        first_share, second_share = (_share(beta, after["step"], g) for beta in self.betas)
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
        named = {"square": True, "velocity": on(self.momentum), "mean": self.centered}
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
        return _down(theta, g, lr), after


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


@final
@dataclass(frozen=True, kw_only=True)
class Adadelta(InnerOptimizer):
    """Zeiler 2012, arXiv:1212.5701; arguments as `torch.optim.Adadelta`."""

    lr: Rate = 1.0
    rho: Number = 0.9
    eps: Number = 1e-6

    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        return {"square": torch.zeros_like(theta), "moved": torch.zeros_like(theta)}

    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        g = self._decayed(theta, g)
        square = self.rho * memory["square"] + (1 - self.rho) * g * g
        delta = safe_sqrt(memory["moved"] + self.eps) / safe_sqrt(square + self.eps) * g
        moved = self.rho * memory["moved"] + (1 - self.rho) * delta * delta
        return theta - lr * delta, {"square": square, "moved": moved}


@final
@dataclass(frozen=True, kw_only=True)
class Adamax(InnerOptimizer):
    """Kingma & Ba 2015, arXiv:1412.6980, section 7.1; arguments as `torch.optim.Adamax`."""

    lr: Rate = 2e-3
    betas: tuple[Number, Number] = (0.9, 0.999)
    eps: Number = 1e-8

    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        return {"step": _counter(theta), "mean": torch.zeros_like(theta), "greatest": torch.zeros_like(theta)}

    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        g, (first, second) = self._decayed(theta, g), self.betas
        mean = first * memory["mean"] + (1 - first) * g
        greatest = torch.maximum(second * memory["greatest"], g.abs() + self.eps)
        after = {"step": memory["step"] + 1, "mean": mean, "greatest": greatest}
        return theta - lr / _share(first, after["step"], g) * (mean / greatest), after


@final
@dataclass(frozen=True, kw_only=True)
class RAdam(InnerOptimizer):
    """Liu et al. 2020, arXiv:1908.03265; arguments as `torch.optim.RAdam`."""

    betas: tuple[Number, Number] = (0.9, 0.999)
    eps: Number = 1e-8
    decoupled_weight_decay: bool = False

    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        return {"step": _counter(theta), "mean": torch.zeros_like(theta), "square": torch.zeros_like(theta)}

    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        first, second = self.betas
        if self.decoupled_weight_decay:
            theta = theta * (1 - lr * self.weight_decay)
        else:
            g = self._decayed(theta, g)
        mean = first * memory["mean"] + (1 - first) * g
        square = second * memory["square"] + (1 - second) * g * g
        after = {"step": memory["step"] + 1, "mean": mean, "square": square}
        t = after["step"].to(double_where_there(g.device))
        longest = 2 / (1 - second) - 1  # ρ_∞ of the paper, and ρ_t
        length = longest - 2 * t * second**t / (1 - second**t)
        rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        scale = (safe_sqrt(rectified) * (1 - second**t).sqrt()).to(g.dtype) / (safe_sqrt(square) + self.eps)
        scale = torch.where(length > 5, scale, 1.0)
        return theta - lr / _share(first, after["step"], g) * (mean * scale), after


@final
@dataclass(frozen=True, kw_only=True)
class ASGD(InnerOptimizer):
    """Polyak & Juditsky 1992, doi:10.1137/0330046; arguments as `torch.optim.ASGD`, but no average is kept."""

    lr: Rate = 1e-2
    lambd: Number = 1e-4
    alpha: Number = 0.75

    def _slots(self, theta: Tensor) -> dict[str, Tensor]:
        return {"step": _counter(theta)}

    def _update(self, theta: Tensor, g: Tensor, memory: Slots, lr: Number) -> tuple[Tensor, Slots]:
        rate = lr / (1 + self.lambd * lr * memory["step"].to(g.dtype)) ** self.alpha
        return theta * (1 - self.lambd * rate) - rate * self._decayed(theta, g), {"step": memory["step"] + 1}


INNER_OPTIMIZERS: dict[str, type[InnerOptimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "adamax": Adamax,
    "radam": RAdam,
    "asgd": ASGD,
}


def _down(theta: Tensor, g: Tensor, lr: Number) -> Tensor:
    """θ − lr·g, as one node of the graph where it can be."""
    return theta - lr * g if isinstance(lr, Tensor) else torch.sub(theta, g, alpha=lr)


def _counter(theta: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.long, device=theta.device)


def _share(beta: Number, step: Tensor, like: Tensor) -> Tensor:
    """1 − βᵗ, what of a mean has been seen; in double precision first: 1 − 0.999 has few digits in single, none in
    half."""
    return (1 - beta ** step.to(double_where_there(like.device))).to(like.dtype)
