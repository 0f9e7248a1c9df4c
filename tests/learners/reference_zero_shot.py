"""Zero-shot learners as plainly as they can be written: one task, one query and one class after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call

from handful.episode import Episode
from handful.learners import CLIP, DeViSE, ZeroShotPrototypical


def unit(v: Tensor) -> Tensor:
    """v/‖v‖."""
    return v / v.square().sum().sqrt()


def each_task(
    learner: CLIP | DeViSE | ZeroShotPrototypical,
    episode: Episode,
    code: Callable[[list[Tensor]], Tensor],
    score: Callable[[Tensor, Tensor], Tensor],
    cost: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, None]:
    """The mean over tasks of cost(scores [Q, N], y), by the code of each class and the score of each pair."""
    assert episode.support.ways is not None
    losses = []
    for a, y, x, qy in zip(episode.support.x, episode.support.y, episode.query.x, episode.query.y, strict=True):
        codes = [code(list(a[y == k])) for k in range(episode.support.ways)]
        left = {name: leaf.clone() for name, leaf in learner.encoder.named_buffers()}
        z = functional_call(learner.encoder, left, (x,))
        losses.append(cost(torch.stack([torch.stack([score(row, c) for c in codes]) for row in z]), qy))
    return torch.stack(losses).mean(), None


def entropy(scores: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each row, mean over rows."""
    return torch.stack([-row.softmax(0)[label].log() for row, label in zip(scores, y, strict=True)]).mean()


def prototypical(learner: ZeroShotPrototypical, episode: Episode) -> tuple[Tensor, None]:
    """−‖f − c‖², c of unit length."""

    def code(descriptions: list[Tensor]) -> Tensor:
        return unit(torch.stack([learner.describer(a[None])[0] for a in descriptions]).mean(0))

    def score(z: Tensor, c: Tensor) -> Tensor:
        return -(learner.projection(z) - c).square().sum()

    return each_task(learner, episode, code, score, entropy)


def devise(learner: DeViSE, episode: Episode) -> tuple[Tensor, None]:
    """Dot products, and the hinge."""

    def cost(scores: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros(())
        for row, label in zip(scores, y, strict=True):
            for wrong, value in enumerate(row):
                if wrong != label:
                    total = total + torch.relu(learner.margin - row[label] + value)
        return total / len(y)

    return each_task(
        learner,
        episode,
        lambda descriptions: unit(torch.stack([unit(a.flatten()) for a in descriptions]).mean(0)),
        lambda z, c: (learner.projection(z) * c).sum(),
        cost,
    )


def clip(learner: CLIP, episode: Episode) -> tuple[Tensor, None]:
    """Cosines at a temperature, and both cross-entropies."""

    def cost(scores: Tensor, y: Tensor) -> Tensor:
        back = []
        for k in range(scores.shape[1]):
            right = [q for q, label in enumerate(y) if label == k]
            if right:
                back.append(-torch.stack([scores[:, k].softmax(0)[q].log() for q in right]).mean())
        return (entropy(scores, y) + torch.stack(back).mean()) / 2

    return each_task(
        learner,
        episode,
        lambda descriptions: unit(torch.stack([unit(learner.describer(a[None])[0]) for a in descriptions]).mean(0)),
        lambda z, c: learner.log_scale.exp() * (unit(learner.projection(z)) * c).sum(),
        cost,
    )
