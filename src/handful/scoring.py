"""The scores of a learner, batch of tasks by batch of tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from .data.assays import AssayEpisodes
from .data.episodes import Draw, Episodes, drawn
from .distributed import ALONE, Ranks
from .episode import Episode, EpisodeSource, join_data, leading
from .errors import DataError, ShapeError
from .learner import EmbeddingLearner, Learner
from .ops.curves import delta_auprc, roc_auc
from .ops.strangers import KNOWN_BY, area_under_curve, false_acceptance

__all__ = ["Scored", "digest", "evaluation_mode", "scores"]

CURVES = {"auc": roc_auc, "delta_auprc": delta_auprc}
HUGE = 1e30
"""Logits that are infinite rank as this."""


class Scored(NamedTuple):
    """A scored batch of tasks."""

    values: Tensor  # [B] the metric of each task
    hits: Tensor | None  # [B, Q] whether each query was right, where accuracy is the metric
    classes: Tensor | None  # [B, Q] class of each query in the pool; where tasks are assays, [B] which
    not_finite: int  # queries whose answer holds a NaN or an infinity
    digest: bytes  # which tasks they are
    told: dict[str, Tensor]  # [2, B] area under the ROC curve, and false acceptance, by the score for known


@contextmanager
def evaluation_mode(learner: Learner) -> Iterator[None]:
    """Within, every part of the learner is in evaluation mode; afterward in the mode it was in."""
    before = [(module, module.training) for module in learner.modules()]
    learner.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@torch.no_grad()  # as a decorator: the caller's code between two batches keeps its gradients
def scores(learner: Learner, episodes: EpisodeSource, *, tasks: int, ranks: Ranks = ALONE) -> Iterator[Scored]:
    """The scores of `tasks` tasks, batch by batch. The learner is in evaluation mode meanwhile.

    The scores of tasks that other ranks see to are 0.
    """
    if not isinstance(tasks, Integral) or tasks < 1:
        raise DataError(f"evaluation: expected a whole number of tasks, at least one task, got {tasks!r}")
    device = next((p.device for p in learner.parameters()), torch.device("cpu"))
    with evaluation_mode(learner):
        inductive = not learner.transductive
        if inductive and isinstance(learner, EmbeddingLearner) and isinstance(episodes, Episodes | AssayEpisodes):
            yield from _embedded(learner, episodes, tasks, device, ranks)
            return
        done = turn = 0
        while done < tasks:
            try:
                batch, make = drawn(episodes, turn)
            except IndexError as error:
                raise DataError(
                    f"evaluation: expected {tasks} tasks, the episodes end after {done}: ask for fewer (tasks={done})"
                ) from error
            batch = batch.part(0, min(batch.tasks, tasks - done))
            start, stop = ranks.share(batch.tasks, turn)
            output = None
            if start < stop:
                episode = make(start, stop).to(device)
                asked = episode.query.x
                if episode.strangers is not None:
                    asked = join_data([asked, episode.strangers], 1)
                output = learner.predict(learner.adapt(episode.support), asked)
            yield _score(batch, episodes, output, start)
            done, turn = done + batch.tasks, turn + 1


def _embedded(
    learner: EmbeddingLearner, episodes: Episodes | AssayEpisodes, tasks: int, device: torch.device, ranks: Ranks
) -> Iterator[Scored]:
    count = -(-tasks // episodes.batch)
    draws = [episodes.draw(t) for t in range(count)]
    rows = torch.unique(torch.cat([part.flatten() for draw in draws for part in (draw.support, draw.asked)]))
    start, stop = ranks.share(len(rows))
    share = rows[start:stop] if start < stop else rows[:1]  # a rank without any must know the shape of a feature
    gather = episodes.pool.gather
    found = torch.cat([learner.embed(gather(part).unsqueeze(0).to(device))[0] for part in share.split(512)])
    features = found.new_zeros(len(rows), *found.shape[1:])
    features[start:stop] = found[: stop - start]
    ranks.sum_([features])
    for turn, draw in enumerate(draws):
        draw = draw.part(0, min(episodes.batch, tasks - turn * episodes.batch))
        start, stop = ranks.share(draw.tasks, turn)
        output = None
        if start < stop:
            own = draw.part(start, stop)
            z_support, z_asked = (features[torch.searchsorted(rows, part)] for part in (own.support, own.asked))
            ways = 0 if own.support_y.is_floating_point() else own.classes.shape[1]
            state = learner.adapt_features(z_support, own.support_y.to(device), ways)
            output = learner.predict_features(state, z_asked)
        yield _score(draw, episodes, output, start)


def _score(batch: Draw | Episode, episodes: EpisodeSource, output: Tensor | None, start: int) -> Scored:
    """The scores of a batch by the learner's output for its tasks from `start` on; 0 for all others."""
    ways: int | None
    curve: Callable[..., float] | None = None
    if isinstance(batch, Draw) and isinstance(episodes, AssayEpisodes):
        y, ways, classes = batch.query_y, episodes.pool.ways, torch.from_numpy(episodes.assay_of(batch))
        which, curve = _rows_digest(episodes, batch), CURVES.get(episodes.pool.protocol.metric)
    elif isinstance(batch, Draw) and isinstance(episodes, Episodes):
        y, ways, classes = batch.query_y, batch.classes.shape[1], batch.classes.gather(1, batch.query_y)
        which = _rows_digest(episodes, batch)
    else:
        assert isinstance(batch, Episode)
        y, ways, classes = batch.query.y, batch.support.ways, None
        which = digest(batch.support.y, y)
    there = ways is not None and batch.strangers is not None and leading(batch.strangers)[1] > 0
    told = {name: torch.zeros(2, len(y), dtype=torch.float64) for name in KNOWN_BY if there}
    values = torch.zeros(len(y), dtype=torch.float64)
    hits = None if ways is None or curve is not None else torch.zeros(y.shape, dtype=torch.double)
    if output is None:
        return Scored(values, hits, classes, 0, which, told)
    own = slice(start, start + len(output))
    y = y[own].to(output.device)  # [B, Q, ...] of the tasks that were answered
    if there:
        output, strange = output[:, : y.shape[1]], output[:, y.shape[1] :]
        for name, measure in told.items():
            known, unknown = (KNOWN_BY[name](logits).cpu() for logits in (output, strange))
            measure[:, own] = torch.stack([area_under_curve(known, unknown), false_acceptance(known, unknown)])
    values[own], right, not_finite = _judged(output, y, ways, curve)
    if hits is not None and right is not None:
        hits[own] = right
    return Scored(values, hits, classes, not_finite, which, told)


def _judged(
    output: Tensor, y: Tensor, ways: int | None, curve: Callable[..., float] | None
) -> tuple[Tensor, Tensor | None, int]:
    """The value of each task [B], which queries are right [B, Q] if that is what it means, how many are not finite.

    A value is the area under the curve, the squared error of a regression, or the accuracy: the mean of those right.
    """
    expected = y.shape if ways is None else (*y.shape, ways)
    if output.shape != expected:
        kind = "outputs [B, Q, *out]" if ways is None else "logits [B, Q, ways]"
        raise ShapeError(
            f"evaluation: expected {kind} = {tuple(expected)} for query labels {tuple(y.shape)}, "
            f"got {tuple(output.shape)} from the learner's predict"
        )
    flat = output.reshape(*y.shape[:2], -1)
    finite = flat.isfinite().all(2) if ways is None else flat.amax(2).isfinite()  # [B, Q]; −inf rules a class out
    not_finite = int((~finite).sum())
    if curve is not None:
        worst = torch.where(y == 1, -torch.inf, torch.inf)
        ranked = torch.where(finite, output[..., 1] - output[..., 0], worst).clamp(-HUGE, HUGE)
        pairs = zip(y.cpu().numpy(), ranked.double().cpu().numpy(), strict=True)
        return torch.tensor([curve(*pair) for pair in pairs], dtype=torch.float64), None, not_finite
    if ways is None:
        return (output - y).square().flatten(1).mean(1).cpu().double(), None, not_finite
    right = ((output.argmax(-1) == y) & finite).double().cpu()  # the argmax of NaN is a class too
    return right.mean(1), right, not_finite


def _rows_digest(episodes: Episodes | AssayEpisodes, draw: Draw) -> bytes:
    return digest(*(leaf for leaf in draw if leaf.numel()), "\0".join(episodes.pool.names).encode())


def digest(*parts: Tensor | bytes) -> bytes:
    """SHA-256 of tensors and bytes, one after the other."""
    whole = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else bytes(part.detach().cpu().contiguous().view(torch.uint8).numpy())
        whole.update(len(content).to_bytes(8, "little") + content)
    return whole.digest()
