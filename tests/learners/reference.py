"""MAML and prototypical networks as plainly as they can be written: one task after the other, `torch.autograd` only.

Shares nothing with the library but the modules it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from handful.encoders.normalization import adapting
from handful.episode import Data, Episode, map_data
from handful.learners import MAML

Named = dict[str, Tensor]


def rates_of(learner: MAML) -> Sequence[float | Tensor]:
    """The rate of each adapted tensor."""
    return [learner.inner_rate] * len(learner.adapted) if learner.rates is None else list(learner.rates)


def task_loss(output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean over the examples of one task."""
    each = (
        (output - y).square().reshape(len(y), -1).mean(1)
        if y.is_floating_point()
        else -output.log_softmax(1)[range(len(y)), y]
    )
    weight = torch.ones(len(y), dtype=each.dtype) if weight is None else weight
    return (weight * each).sum() / weight.sum()


def maml_task(
    model: nn.Module,
    episode: Episode,
    task: int,
    *,
    rates: Sequence[Tensor],
    steps: int,
    first_order: bool = False,
    support_policy: bool = False,
) -> tuple[Tensor, Tensor, Named]:
    """Query loss, query outputs and the buffers afterward, of one task."""
    x = map_data(lambda leaf: leaf[task], episode.support.x)
    qx = map_data(lambda leaf: leaf[task], episode.query.x)
    y, qy = episode.support.y[task], episode.query.y[task]
    weight = None if episode.support.weight is None else episode.support.weight[task]
    buffers = {name: leaf.detach().clone() for name, leaf in model.named_buffers()}
    own = dict(model.named_parameters())
    adapted = [name for name, leaf in own.items() if leaf.requires_grad]
    for step in range(steps):
        with adapting(step), sdpa_kernel(SDPBackend.MATH):
            loss = task_loss(functional_call(model, {**own, **buffers}, (x,)), y, weight)
        slopes = torch.autograd.grad(loss, [own[n] for n in adapted], create_graph=True, allow_unused=True)
        for rate, name, slope in zip(rates, adapted, slopes, strict=True):
            if slope is not None:
                own[name] = own[name] - rate * (slope.detach() if first_order else slope)
    both, kept = (_after(x, qx), len(y)) if support_policy else (qx, 0)
    with adapting(steps, kept) if support_policy else adapting(steps, 0):
        output = functional_call(model, {**own, **buffers}, (both,))[kept:]
    return task_loss(output, qy), output, buffers


def maml(model: nn.Module, episode: Episode, **options: object) -> tuple[Tensor, Tensor, list[Named]]:
    """Mean query loss, query outputs [B, Q, *out], and each task's buffers afterward."""
    tasks = [maml_task(model, episode, task, **options) for task in range(episode.tasks)]  # type: ignore[arg-type]
    return sum(loss for loss, _, _ in tasks) / len(tasks), torch.stack([o for _, o, _ in tasks]), [b for *_, b in tasks]


def prototypical(encoder: nn.Module, episode: Episode, *, together: bool) -> Tensor:
    """Mean query loss: distances to each class mean, squared and summed, one query after the other.

    Support and queries of a task pass the encoder `together`, as one batch, or each set by itself.
    """
    losses = []
    assert episode.support.ways is not None
    for x, y, qx, qy in zip(episode.support.x, episode.support.y, episode.query.x, episode.query.y, strict=True):
        z, zq = encoder(torch.cat([x, qx])).split([len(x), len(qx)]) if together else (encoder(x), encoder(qx))
        c = torch.stack([z[y == label].mean(0) for label in range(episode.support.ways)])
        for query, label in zip(zq, qy, strict=True):
            losses.append(F.cross_entropy(-(query - c).pow(2).sum(1)[None], label[None]))
    return torch.stack(losses).mean()


def _after(x: Data, qx: Data) -> Data:
    if isinstance(x, Tensor) and isinstance(qx, Tensor):
        return torch.cat([x, qx])
    assert isinstance(x, Mapping)
    assert isinstance(qx, Mapping)
    return {name: torch.cat([x[name], qx[name]]) for name in x}
