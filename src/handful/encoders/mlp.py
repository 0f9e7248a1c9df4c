"""A multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from .normalization import Policy, normalization

__all__ = ["MLP"]


@final
class MLP(nn.Module):
    """Linear layers with ReLU between; the last hidden layer is the features.

    Args:
        shape: shape of an example, flattened.
        hidden: width of each layer; (40, 40) is MAML's for the sinusoid, (256, 128, 64, 64) for Omniglot.
        normalization: before each ReLU; "none" by default.
        steps: inner steps with statistics of their own (only for "per_step").
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = (1,),
        hidden: Sequence[int] = (40, 40),
        normalization: Policy = "none",
        steps: int = 1,
    ) -> None:
        super().__init__()
        inputs, layers = math.prod(shape), list[nn.Module]()
        for width in hidden:
            layers += _layer(inputs, width, normalization, steps)
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.shape = tuple(shape)
        self.out_features = inputs

    def forward(self, x: Tensor) -> Tensor:
        """[examples, *shape] -> [examples, out_features]."""
        return self.layers(x.flatten(1))  # type: ignore[no-any-return]


def _layer(inputs: int, width: int, policy: Policy, steps: int) -> list[nn.Module]:
    linear = nn.Linear(inputs, width)
    return [linear, nn.ReLU()] if policy == "none" else [linear, normalization(policy, width, steps=steps), nn.ReLU()]
