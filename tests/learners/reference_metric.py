"""Metric learners as plainly as they can be written: one task, one query, one class after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from handful.episode import Episode

Logits = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""From a learner and z [S, F], y [S], zq [Q, F] of one task to logits [Q, N]."""


def looped(logits: Logits) -> Callable[[Any, Episode], tuple[Tensor, None]]:
    """The mean cross-entropy over tasks."""

    def reference(learner: Any, episode: Episode) -> tuple[Tensor, None]:
        losses = [F.cross_entropy(logits(learner, z, y, zq), qy) for z, y, zq, qy in embedded(learner, episode)]
        return torch.stack(losses).mean(), None

    return reference


def embedded(learner: Any, episode: Episode) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    support, query = episode.support, episode.query
    parts = []
    for x, y, qx, qy in zip(support.x, support.y, query.x, query.y, strict=True):
        z, zq = learner.encoder(torch.cat([x, qx])).split([len(x), len(qx)])
        parts.append((z, y, zq, qy))
    return parts


def nearest(centers: Callable[[Any, Tensor, Tensor], Tensor]) -> Logits:
    """Negative squared distances to centers [N, F]."""
    return lambda learner, z, y, zq: -torch.stack([((q - centers(learner, z, y)) ** 2).sum(1) for q in zq])


def classes(z: Tensor, y: Tensor) -> list[Tensor]:
    return [z[y == label] for label in range(int(y.max()) + 1)]


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (a.pow(2).sum().sqrt() * b.pow(2).sum().sqrt())


def cosine_prototypes(learner: Any, z: Tensor, y: Tensor, zq: Tensor) -> Tensor:
    means = [own.mean(0) for own in classes(z, y)]
    return torch.stack([torch.stack([learner.scale * _cosine(q, c) for c in means]) for q in zq])


def siamese(learner: Any, episode: Episode) -> tuple[Tensor, None]:
    """Koch's or Hadsell's loss: the mean over same pairs and the mean over different pairs, half and half."""
    losses = []
    for z, y, zq, qy in embedded(learner, episode):
        every, labels = [*z, *zq], [*y.tolist(), *qy.tolist()]
        same: list[Tensor] = []
        different: list[Tensor] = []
        for i in range(len(every)):
            for j in range(i):
                alike = labels[i] == labels[j]
                if learner.objective == "contrastive":
                    d = (every[i] - every[j]).pow(2).sum().sqrt()
                    value = d**2 / 2 if alike else (learner.margin - d).clamp(min=0) ** 2 / 2
                else:
                    gap = (every[i] - every[j]).abs()
                    p = torch.sigmoid((learner.compare.weight[0] * gap).sum() + learner.compare.bias[0])
                    value = -(p if alike else 1 - p).log()
                (same if alike else different).append(value)
        losses.append(torch.stack(same).mean() / 2 + torch.stack(different).mean() / 2)
    return torch.stack(losses).mean(), None


_LSTM = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _step(x: Tensor, h: Tensor, c: Tensor, w: Tensor, u: Tensor, b: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (w @ x + b + u @ h + d).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _read(xs: list[Tensor], *weights: Tensor) -> list[Tensor]:
    h = c = torch.zeros_like(xs[0])
    read = []
    for x in xs:
        h, c = _step(x, h, c, *weights)
        read.append(h)
    return read


def _attending(learner: Any, q: Tensor, g: Tensor) -> Tensor:
    h = c = torch.zeros_like(q)
    for _ in range(learner.reads):
        r = torch.softmax(g @ h, 0) @ g
        step, c = _step(torch.cat([q, r]), h, c, *(getattr(learner.query_lstm, name) for name in _LSTM))
        h = step + q
    return h


def matching(learner: Any, z: Tensor, y: Tensor, zq: Tensor) -> Tensor:
    """log Σ a(x̂, x_i) y_i."""
    g = z
    if learner.support_lstm is not None:
        weights = [[getattr(learner.support_lstm, f"{name}_l0{way}") for name in _LSTM] for way in ("", "_reverse")]
        forward, backward = _read(list(z), *weights[0]), _read(list(z.flip(0)), *weights[1])[::-1]
        g = torch.stack([a + b + own for a, b, own in zip(forward, backward, z, strict=True)])
    rows = []
    for q in zq:
        f = q if learner.support_lstm is None else _attending(learner, q, g)
        a = torch.softmax(torch.stack([learner.scale * _cosine(f, one) for one in g]), 0)
        rows.append(torch.stack([own.sum() for own in classes(a, y)]).log())
    return torch.stack(rows)


def relation(learner: Any, episode: Episode) -> tuple[Tensor, None]:
    """Squared error of relations, or cross-entropy of what is inside the sigmoid."""
    losses = []
    for z, y, zq, qy in embedded(learner, episode):
        channels, height, width = learner.shape
        pairs = [torch.cat([own.sum(0), q]).view(2 * channels, height, width) for q in zq for own in classes(z, y)]
        logits = learner.relation(torch.stack(pairs)).view(len(zq), -1)
        wanted = torch.eye(logits.shape[1], dtype=z.dtype)[qy]
        mse = ((1 / (1 + (-logits).exp()) - wanted) ** 2).mean()
        losses.append(mse if learner.objective == "mse" else F.cross_entropy(logits, qy))
    return torch.stack(losses).mean(), None


def feat(learner: Any, episode: Episode) -> tuple[Tensor, None]:
    losses = []
    for z, y, zq, qy in embedded(learner, episode):
        c = _transformed(learner, torch.stack([own.mean(0) for own in classes(z, y)]))
        loss = F.cross_entropy(torch.stack([-((q - c) ** 2).sum(1) / learner.temperature for q in zq]), qy)
        if learner.training:
            every, labels = torch.cat([z, zq]), torch.cat([y, qy])
            c = torch.stack([_transformed(learner, own).mean(0) for own in classes(every, labels)])
            away = torch.stack([-((one - c) ** 2).sum(1) / learner.contrast_temperature for one in every])
            loss = loss + learner.balance * F.cross_entropy(away, labels)
        losses.append(loss)
    return torch.stack(losses).mean(), None


def _transformed(learner: Any, z: Tensor) -> Tensor:
    q, k, v = (z @ layer.weight.T for layer in (learner.query, learner.key, learner.value))
    mixed = torch.stack([torch.softmax(k @ row / math.sqrt(z.shape[1]), 0) @ v for row in q])
    t = z + mixed @ learner.out.weight.T + learner.out.bias
    centered = t - t.mean(1, keepdim=True)
    spread = (centered.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()
    return centered / spread * learner.norm.weight + learner.norm.bias


def deepemd(learner: Any, z: Tensor, y: Tensor, zq: Tensor) -> Tensor:
    means = [own.mean(0).view(learner.shape[0], -1).T for own in classes(z, y)]  # [R, C]
    return torch.stack([torch.stack([_emd(learner, q.view(learner.shape[0], -1).T, c) for c in means]) for q in zq])


def _emd(learner: Any, u: Tensor, v: Tensor) -> Tensor:
    row, column = (u @ v.mean(0)).clamp(min=0) + 1e-3, (v @ u.mean(0)).clamp(min=0) + 1e-3
    row, column = row / row.sum(), column / column.sum()
    u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    similarity = torch.stack([torch.stack([_cosine(a, b) for b in v]) for a in u])
    kernel = torch.exp((similarity - 1) / learner.regularization)
    right = torch.ones_like(column)
    for _ in range(300):
        left = row / (kernel @ right)
        right = column / (kernel.T @ left)
    return learner.temperature * (left[:, None] * kernel * right * similarity).sum()


def refined(learner: Any, z: Tensor, y: Tensor) -> Tensor:
    hybrids = [learner.mix * a + (1 - learner.mix) * b for own in classes(z, y) for a in own for b in own]
    c = torch.stack([own.mean(0) for own in classes(z, y)])
    for _ in range(learner.refinements):
        shares = torch.stack([torch.softmax(-((h - c) ** 2).sum(1) / learner.temperature, 0) for h in hybrids])
        c = shares.T @ torch.stack(hybrids) / shares.sum(0)[:, None]
    return c


def robust(learner: Any, z: Tensor, y: Tensor) -> Tensor:
    return torch.stack([_center(learner, own) for own in classes(z, y)])


def _center(learner: Any, own: Tensor) -> Tensor:
    size = len(own)
    ascending = own.sort(0).values
    median = (ascending[(size - 1) // 2] + ascending[size // 2]) / 2
    if learner.center == "median":
        return median
    if learner.center == "similarity":
        apart = torch.stack([torch.stack([(a - b).pow(2).sum() for b in own]).mean() for a in own])
        return torch.softmax(-apart / learner.temperature, 0) @ own
    least, most, total = learner.trim * size, (1 - learner.trim) * size, torch.zeros_like(median)
    for i in range(size):
        total = total + max(0.0, min(i + 1, most) - max(i, least)) * ascending[i]
    return total / (most - least)
