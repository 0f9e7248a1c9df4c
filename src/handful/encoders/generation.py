"""Networks that make examples like those of a task. Smooth, and without normalization."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..episode import Support
from ..errors import ShapeError
from ..ops.noise import Noise

__all__ = ["ExampleGenerator", "InstanceEncoder", "TaskGenerator"]


class InstanceEncoder(nn.Module):
    """An example as a code, for a generator to be told what the examples of a task look like.

    Pictures pass two convolutions of stride 2; other examples one hidden layer.

    Args:
        shape: of an example.
        code: numbers in the code.
        width: channels, or hidden units.
    """

    def __init__(self, shape: Sequence[int], *, code: int, width: int = 32) -> None:
        super().__init__()
        if len(shape) == 3:
            channels = shape[0]
            area = math.prod(-(-side // 4) for side in shape[1:])
            self.layers = nn.Sequential(
                nn.Conv2d(channels, width, 3, stride=2, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, stride=2, padding=1),
                nn.SiLU(),
                nn.Flatten(),
                nn.Linear(width * area, code),
            )
        else:
            inputs = math.prod(shape)
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, code))

    def forward(self, x: Tensor) -> Tensor:
        """[examples, *shape] -> [examples, code]."""
        return self.layers(x)  # type: ignore[no-any-return]


class ExampleGenerator(nn.Module):
    """An example from a vector of noise and code.

    A picture grows from a quarter of its sides by two doublings, each followed by a convolution, and ends in [0, 1];
    other examples come from one hidden layer and are not bounded.

    Args:
        inputs: numbers in the vector.
        shape: of an example.
        width: channels, or hidden units.
    """

    def __init__(self, inputs: int, shape: Sequence[int], *, width: int = 32) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.start: tuple[int, ...] | None = None
        if len(shape) == 3:
            self.start = (width, *(-(-side // 4) for side in shape[1:]))
            self.first = nn.Linear(inputs, math.prod(self.start))
            self.middle: nn.Module = nn.Conv2d(width, width, 3, padding=1)
            self.last: nn.Module = nn.Conv2d(width, shape[0], 3, padding=1)
        else:
            self.first, self.middle = nn.Linear(inputs, width), nn.Identity()
            self.last = nn.Linear(width, math.prod(shape))

    def forward(self, z: Tensor) -> Tensor:
        """[examples, inputs] -> [examples, *shape]."""
        if self.start is None:
            return self.last(F.silu(self.first(z))).view(-1, *self.shape)  # type: ignore[no-any-return]
        x = F.silu(self.first(z)).view(-1, *self.start)
        x = F.silu(self.middle(F.interpolate(x, scale_factor=2)))
        x = self.last(F.interpolate(x, scale_factor=2))
        return torch.sigmoid(x[..., : self.shape[1], : self.shape[2]])


class TaskGenerator(nn.Module):
    """Examples like those of a task: from noise, and the mean code of the task's support.

    Args:
        shape: of an example.
        latent: numbers of noise for each example.
        code: numbers in the code.
    """

    def __init__(self, shape: Sequence[int], *, latent: int, code: int) -> None:
        super().__init__()
        self.latent = latent
        self.instances = InstanceEncoder(shape, code=code)
        self.examples = ExampleGenerator(latent + code, shape)

    def forward(self, support: Support, z: Tensor) -> Tensor:
        """n examples for each task, of the same noise [n, latent] for all: [B, n, *shape].

        Raises:
            ShapeError: examples of several tensors, or of whole numbers (words).
        """
        if not isinstance(support.x, Tensor):
            raise ShapeError("expected examples of one tensor, to make others like them; got tensors by name")
        if not support.x.is_floating_point():
            raise ShapeError(
                f"expected examples of real numbers, to make others like them; got {support.x.dtype}: read texts as "
                "vectors, or set generator = false"
            )
        x = support.x.to(next(self.parameters()).dtype)
        codes = self.instances(x.flatten(0, 1)).view(*support.y.shape[:2], -1)  # [B, S, code]
        weight = torch.ones_like(codes[..., 0]) if support.weight is None else support.weight.to(codes)
        h = (weight.unsqueeze(-1) * codes).sum(1) / weight.sum(1, keepdim=True)  # [B, code]
        inputs = torch.cat([z.expand(len(h), -1, -1), h.unsqueeze(1).expand(-1, len(z), -1)], -1)  # [B, n, ...]
        made: Tensor = self.examples(inputs.flatten(0, 1))
        return made.view(len(h), len(z), *made.shape[1:])

    def draw(self, support: Support, count: int, noise: Noise, purpose: str, *, moving: bool) -> Tensor:
        """So many examples for each task, of a learner's own noise (`purpose` is its key): [B, n, *shape]."""
        z = noise.normal(purpose, shape=(count, self.latent), like=next(self.parameters()), moving=moving)
        return self(support, z)  # type: ignore[no-any-return]
