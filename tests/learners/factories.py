"""A small learner of every kind, on a smooth encoder in double precision, and small tasks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from handful.encoders.normalization import Policy, normalization
from handful.episode import Episode, Query, Support
from handful.learner import Learner
from handful.learners import LEARNERS

WAYS = 3
CLASSES = 6
"""Classes in the pool that tasks are drawn from."""
SHAPE = (1, 6, 6)


class Smooth(nn.Module):
    """Convolution, normalization, tanh, pooling: everything has all derivatives."""

    def __init__(self, policy: Policy = "none", *, steps: int = 1, features: int = 8) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, features, 3, padding=1)
        self.layer = normalization(policy, features, steps=steps)
        self.out_features = 4 * features

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.layer(self.convolution(x)))
        return nn.functional.avg_pool2d(z, 3).flatten(1)


def shaken(module: nn.Module) -> nn.Module:
    """Double precision, and no scale of one, shift of zero or untouched running estimate."""
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point():
                buffer += 0.2 * torch.rand_like(buffer) * (1 if "var" in name else -1)
    return module


Reference = Callable[[Any, Episode], tuple[Tensor, Tensor | None]]
"""The loss of a batch as plainly as it can be written (and, if at hand, the outputs [B, Q, ways])."""


@dataclass(frozen=True)
class Variant:
    """One way to configure a learner, for the laws."""

    name: str
    reference: Reference
    policy: Policy = "none"
    options: dict[str, Any] = field(default_factory=dict)
    encoder: Callable[..., nn.Module] = Smooth
    """Called with the policy and `steps=`; smooth, so that finite differences hold."""
    exempt: dict[str, str] = field(default_factory=dict)
    """Laws (names of tests) that cannot hold for it, each with the reason."""
    toy_rate: float = 0.02
    """Of Adam in the sixty toy steps."""

    def make(self, *, steps: int = 1) -> Learner:
        """The learner, the same at every call, in training mode."""
        torch.manual_seed(1)
        return LEARNERS[self.name](shaken(self.encoder(self.policy, steps=steps)), **self.options).double()

    def __str__(self) -> str:
        said = "-".join(f"{key}={value}" for key, value in self.options.items() if key not in ("outputs", "inner_rate"))
        return "-".join(part for part in (self.name, self.policy, said) if part)


def tasks(batch: int = 3, *, ragged: bool = False, queries: int = 6, seed: int = 0) -> Episode:
    """Random tasks with some signal: each class has a mean picture of its own."""
    random = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    centers = noise(batch, WAYS, *SHAPE)
    y = torch.tensor([0, 1, 1, 1, 2, 2] if ragged else [0, 1, 2, 0, 1, 2])
    y = torch.stack([y[torch.randperm(6, generator=random)] for _ in range(batch)])
    qy = torch.randint(WAYS, (batch, queries), generator=random)
    every = torch.arange(batch)[:, None]
    x, qx = centers[every, y] + 0.5 * noise(batch, 6, *SHAPE), centers[every, qy] + 0.5 * noise(batch, queries, *SHAPE)
    classes = (every + torch.arange(WAYS)) % CLASSES
    return Episode(Support(x, y, WAYS), Query(qx, qy), classes)


def answers(learner: Learner, episode: Episode) -> Tensor:
    """Logits of the queries."""
    return learner.predict(learner.adapt(episode.support), episode.query.x)


def slopes(loss: Tensor, learner: Learner) -> list[Tensor]:
    """The gradient in every parameter that wants one (zero where there is none)."""
    wanted = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)]
