"""A network that was trained before, as an encoder: kept as it is, trained on, or with its first layers frozen."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from ..errors import SpecError

__all__ = ["Pretrained", "freeze"]


class Pretrained(nn.Module):
    """A network that was trained before: kept as it is, trained on, or with its first layers frozen."""

    network: nn.Module
    frozen: bool

    def keep(self, network: nn.Module, frozen: bool, freeze_layers: int, model: str) -> None:
        """Take the network in.

        Raises:
            SpecError: it has fewer layers than are to be frozen.
        """
        self.network, self.frozen = network, frozen
        freeze(network, freeze_layers, model)
        if frozen:
            network.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As any module; but what is frozen stays as in evaluation (no dropout, no moving estimates)."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Examples [n, *shape] -> [n, out_features]."""
        inputs = self.prepared(x)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.features_of(*inputs)

    @abstractmethod
    def prepared(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the network is given for examples [n, *shape]."""

    @abstractmethod
    def features_of(self, *inputs: Tensor) -> Tensor:
        """[n, out_features] of what was prepared."""


def freeze(network: nn.Module, layers: int, what: str) -> None:
    """Freeze the first layers of a network, and what comes before them (embeddings).

    Raises:
        SpecError: fewer layers than that.
    """
    if layers == 0:
        return
    lists = [part for part in network.modules() if isinstance(part, nn.ModuleList | nn.Sequential)]
    blocks = max(lists, key=_size, default=nn.ModuleList())
    if not 0 <= layers <= len(blocks):
        raise SpecError(f"{what}: expected freeze_layers from 0 to {len(blocks)}, its number of layers, got {layers}")
    inside = {id(parameter) for parameter in blocks.parameters()}
    for parameter in network.parameters():
        if id(parameter) in inside:
            break
        parameter.requires_grad_(False)
    for block in list(blocks)[:layers]:
        block.requires_grad_(False)


def _size(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
