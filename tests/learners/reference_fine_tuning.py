"""Fine-tuning as plainly as it can be written: one task after the other, nothing of the library's own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from reference import Named
from reference_features import unit
from reference_gradient import adam, rows
from torch import Tensor
from torch.func import functional_call

from handful.episode import Episode


def fine_tuning(learner: Any, episode: Episode) -> tuple[Tensor, Tensor]:
    """The mean query loss through all steps, and the query logits."""
    assert episode.support.ways is not None
    outputs = [tuned(learner, x, y, qx, episode.support.ways) for x, y, qx, _ in rows(episode)]
    losses = [F.cross_entropy(output, y) for output, y in zip(outputs, episode.query.y, strict=True)]
    return torch.stack(losses).mean(), torch.stack(outputs)


def tuned(learner: Any, x: Tensor, y: Tensor, queries: Tensor, ways: int) -> Tensor:
    """The query logits of one task."""
    body = dict(learner.encoder.named_parameters())
    z = learner.encoder(x)
    w = torch.stack([unit(z[y == label].mean(0)) for label in range(ways)])
    own: Named = {name: leaf.clone() for name, leaf in body.items()}  # w is of the leaves, not of what is tuned
    own |= {"w": w, "b": torch.zeros(ways, dtype=z.dtype, requires_grad=True)}
    names = list(own) if "convolution.weight" in learner.adapted else ["w", "b"]

    def logits(x: Tensor) -> Tensor:
        return unit(functional_call(learner.encoder, {name: own[name] for name in body}, (x,))) @ own["w"].T + own["b"]

    def entropy() -> Tensor:
        p = logits(queries).softmax(1)
        return -(p * p.log()).sum(1).mean()

    move, update = adam(learner.optimizer.lr, (0.9, 0.999), learner.optimizer.eps), 0
    for _ in range(learner.steps):
        for on_queries in (False, True) if learner.uses_queries else (False,):
            loss = entropy() if on_queries else F.cross_entropy(logits(x), y)
            slopes = torch.autograd.grad(loss, [own[name] for name in names], create_graph=True)
            own |= {name: move(update, name, own[name], g) for name, g in zip(names, slopes, strict=True)}
            update += 1
    return logits(queries)
