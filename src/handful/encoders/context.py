"""Context: a few numbers of a task that condition a network (Zintgraf et al. 2019, arXiv:1810.03642).

They enter a linear layer beside its input, or scale and shift the channels of a map (FiLM: Perez et al. 2018,
arXiv:1709.07871). They are a parameter that no optimizer is to move: at zero in the module, a task's own in each task.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from ..errors import ShapeError
from .normalization import BatchNorm
from .placing import placed

__all__ = ["CONTEXT", "ContextInput", "FiLM", "conditioned"]

CONTEXT = "context"
"""The name of the parameter."""


@final
class ContextInput(nn.Module):
    """A linear layer of its input and the context: W[x; φ] + b.

    Args:
        linear: whose weights for the input it takes over; if they are frozen, so are those for the context.
        size: of the context.
    """

    def __init__(self, linear: nn.Linear, size: int) -> None:
        super().__init__()
        self.context = nn.Parameter(torch.zeros(size).to(linear.weight), requires_grad=False)
        wider = nn.Linear(linear.in_features + size, linear.out_features, bias=linear.bias is not None)
        self.linear = placed(wider, linear)
        with torch.no_grad():
            self.linear.weight[:, : linear.in_features] = linear.weight
            if linear.bias is not None:
                self.linear.bias.copy_(linear.bias)
        for name, leaf in linear.named_parameters():
            self.linear.get_parameter(name).requires_grad_(leaf.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        z: Tensor = self.linear(torch.cat([x, self.context.expand(*x.shape[:-1], -1)], -1))
        return z


@final
class FiLM(nn.Module):
    """A layer, and after it (1 + γ)·z + β for each channel, where γ and β are linear in the context.

    Args:
        layer: what comes before.
        channels: of its output [examples, channels, ...].
        size: of the context.
    """

    def __init__(self, layer: nn.Module, channels: int, size: int) -> None:
        super().__init__()
        self.layer = layer
        self.context = nn.Parameter(placed(torch.zeros(size), layer), requires_grad=False)
        self.linear = placed(nn.Linear(size, 2 * channels), layer)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer."""
        z = self.layer(x)
        shape = (-1,) + (1,) * (z.ndim - 2)
        gamma, beta = self.linear(self.context).view(2, *shape)
        return (1 + gamma) * z + beta  # type: ignore[no-any-return]


def conditioned(model: nn.Module, size: int, *, film: int | None = None) -> str:
    """Give a model a context, in place; returns the context's name among its parameters.

    Args:
        model: to be changed.
        size: how many numbers.
        film: after which normalization layer, from 1, FiLM is to come; None: the first linear layer gets the context
            as further inputs. Subclasses of nn.Linear do not: attention reads the weights of its own.

    Raises:
        ShapeError: a size below one, or no such layer in the model.
    """
    if size < 1:
        raise ShapeError(f"context: expected at least one number, got {size}")
    found = [
        (name, layer)
        for name, layer in model.named_modules()
        if (type(layer) is nn.Linear if film is None else isinstance(layer, BatchNorm | nn.GroupNorm))
    ]
    number = 1 if film is None else film
    if not 1 <= number <= len(found):
        what = "a linear layer" if film is None else f"normalization layer {film}"
        raise ShapeError(f"context: {type(model).__name__} has {len(found)} layers of that kind; expected {what}")
    name, layer = found[number - 1]
    if not name:
        kind = type(layer).__name__
        raise ShapeError(
            f"context: the model is a {kind} itself; expected one that holds it, as nn.Sequential({kind}(...))"
        )
    if isinstance(layer, nn.Linear):
        made: nn.Module = ContextInput(layer, size)
    else:
        channels = layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.get_parameter("weight").shape[-1]
        made = FiLM(layer, channels, size)
    path, _, last = name.rpartition(".")
    parent = model.get_submodule(path)
    parent.add_module(last, made)
    return f"{name}.{CONTEXT}"
