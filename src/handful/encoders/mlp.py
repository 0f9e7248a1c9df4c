"""A multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from ..errors import ShapeError
from .normalization import Policy, normalization

__all__ = ["MLP"]


@final
class MLP(nn.Module):
    """Linear layers with ReLU between; the last hidden layer is the features, unless `outputs` follow.

    Args:
        shape: shape of an example, flattened.
        hidden: width of each layer; (40, 40) is MAML's for the sinusoid, (256, 128, 64, 64) for Omniglot.
        outputs: a last linear layer to so many outputs, for a network that is to be a whole model.
        scale: draw weights from a normal distribution of this standard deviation, cut at two of them, and start
            from zero biases (0.01 in MAML's sinusoid); PyTorch's own initialization if None.
        normalization: before each ReLU; "none" by default.
        steps: inner steps with statistics of their own (only for "per_step").

    Raises:
        ShapeError: a width below 1, or instance normalization, which leaves nothing of a vector.
        UnknownNameError: no such normalization.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = (1,),
        hidden: Sequence[int] = (40, 40),
        outputs: int | None = None,
        scale: float | None = None,
        normalization: Policy = "none",
        steps: int = 1,
    ) -> None:
        super().__init__()
        if any(width < 1 for width in (*shape, *hidden)) or (outputs is not None and outputs < 1):
            raise ShapeError(
                f"MLP: expected sizes of at least 1, got shape {list(shape)}, hidden {list(hidden)}, outputs {outputs}"
            )
        inputs, layers = math.prod(shape), list[nn.Module]()
        for width in hidden:
            layers += _layer(inputs, width, normalization, steps)
            inputs = width
        if outputs is not None:
            layers.append(nn.Linear(inputs, outputs))
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        if scale is not None:
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=scale, a=-2 * scale, b=2 * scale)
                    nn.init.zeros_(layer.bias)
        self.shape = tuple(shape)
        self.out_features = inputs

    def forward(self, x: Tensor) -> Tensor:
        """[examples, *shape] -> [examples, out_features]. Whole numbers are read as floats."""
        weight = next(self.parameters(), x)
        whole = not (x.is_floating_point() or x.is_complex())
        return self.layers((x.to(weight.dtype) if whole else x).flatten(1))  # type: ignore[no-any-return]


def _layer(inputs: int, width: int, policy: Policy, steps: int) -> list[nn.Module]:
    linear = nn.Linear(inputs, width)
    layers: list[nn.Module] = [linear, normalization(policy, width, steps=steps, area=1), nn.ReLU()]
    return [layer for layer in layers if not isinstance(layer, nn.Identity)]
