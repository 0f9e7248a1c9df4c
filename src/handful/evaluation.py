"""How well a learner does on tasks it has never seen, and how sure that is."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .data.assays import AssayEpisodes
from .data.episodes import Draw, Episodes, drawn
from .distributed import ALONE, Ranks
from .episode import Episode, EpisodeSource, join_data, leading
from .errors import DataError, ShapeError
from .learner import EmbeddingLearner, Learner
from .ops.curves import delta_auprc, roc_auc
from .ops.intervals import Mean, grouped_interval, mean_interval
from .ops.strangers import KNOWN_BY, area_under_curve, false_acceptance

__all__ = ["Evaluation", "Scored", "Strangers", "compare", "evaluate", "evaluation_mode", "scores"]


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


class Strangers(NamedTuple):
    """How well queries of none of the classes were told from the others."""

    values: NDArray[np.float64]  # [tasks] area under the ROC curve
    fpr95: Mean
    """Share of strangers taken for known where 95% of a task's queries are."""

    @property
    def auroc(self) -> Mean:
        """Mean over tasks with its 95% interval."""
        return mean_interval(self.values)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A learner's scores on a fixed set of tasks.

    Attributes:
        metric: "accuracy" (share of queries), "mse", or of assays "auc" (ROC) or "delta_auprc".
        values: [tasks] the score of each task.
        transductive: whether queries shared information.
        by_class: accuracy by class name, where the classes are known; of assays the score by name.
        seconds: time taken.
        not_finite: queries whose answer holds a NaN or an infinity: wrong, whatever the class; in regression their
            task's score is not finite either.
        tasks_digest: of which tasks these are: the rows and labels drawn, or, where only the episodes are known,
            their labels.
        assay: [tasks] which assay each is, where tasks are assays.
        interval_over: what another drawing would change: "tasks"; or the "supports" of these assays, or the "assays".
        strangers: where tasks have some, how well they are told from the queries, by each score of
            `ops.strangers.KNOWN_BY`.
    """

    metric: str
    values: NDArray[np.float64]
    transductive: bool
    by_class: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    not_finite: int = 0
    tasks_digest: str = ""
    assay: NDArray[np.int64] | None = None
    interval_over: Literal["tasks", "supports", "assays"] = "tasks"
    strangers: dict[str, Strangers] = field(default_factory=dict)

    @property
    def mean(self) -> Mean:
        """Mean over tasks with its 95% interval; of assays the mean of their means."""
        return self.interval_of(self.values)

    def interval_of(self, values: NDArray[np.float64]) -> Mean:
        """Mean and interval of other values [tasks] of the same tasks."""
        if self.assay is None:
            return mean_interval(values)
        return grouped_interval(values, self.assay, fixed=self.interval_over == "supports")

    @property
    def record(self) -> str:
        """SHA-256 of the per-task scores: equal records are equal evaluations."""
        return hashlib.sha256(np.ascontiguousarray(self.values, "<f8").tobytes()).hexdigest()

    def __str__(self) -> str:
        kind = "transductive" if self.transductive else "inductive"
        if self.metric == "accuracy":
            shown = f"{100 * self.mean.value:.2f} ± {100 * self.mean.ci95:.2f} %"
        else:
            shown = f"{self.metric} {self.mean}"
        failed = f", {self.not_finite} queries without a finite answer" if self.not_finite else ""
        told = "".join(f"; strangers told by {name}: AUROC {found.auroc}" for name, found in self.strangers.items())
        return f"{shown} ({len(self.values)} tasks, {kind}{failed}){told}"


def evaluate(learner: Learner, episodes: EpisodeSource, *, tasks: int = 1000, ranks: Ranks = ALONE) -> Evaluation:
    """Score a learner on the first `tasks` tasks of `episodes`.

    A learner that leaves its encoder alone has each example embedded once, however often it is drawn. The processes
    of `ranks` share the work, and each returns the whole evaluation.

    Raises:
        DataError: fewer than one task, or `episodes` ends before.
        ShapeError: the learner answers in another shape than the queries need.
    """
    begin = time.perf_counter()
    scored = list(scores(learner, episodes, tasks=tasks, ranks=ranks))
    not_finite = torch.tensor([part.not_finite for part in scored])
    found = (leaf for part in scored for leaf in (part.values, part.hits, *part.told.values()) if leaf is not None)
    ranks.sum_([not_finite, *found])
    told = {name: torch.cat([part.told[name] for part in scored], 1).numpy() for name in scored[0].told}
    evaluation = Evaluation(
        "mse" if scored[0].hits is None else "accuracy",
        torch.cat([part.values for part in scored]).numpy(),
        learner.transductive,
        _by_class(scored, episodes) if isinstance(episodes, Episodes) else {},
        time.perf_counter() - begin,
        int(not_finite.sum()),
        _digest(*(part.digest for part in scored)).hex(),
        strangers={name: Strangers(auroc, mean_interval(fpr)) for name, (auroc, fpr) in told.items()},
    )
    if not isinstance(episodes, AssayEpisodes):
        return evaluation
    assay = torch.cat([part.classes for part in scored if part.classes is not None]).numpy()
    by_assay = {episodes.pool.names[one]: float(evaluation.values[assay == one].mean()) for one in np.unique(assay)}
    metric, _, interval = episodes.pool.protocol
    return replace(evaluation, metric=metric, by_class=by_assay, assay=assay, interval_over=interval)


@torch.no_grad()  # as a decorator: the caller's code between two batches keeps its gradients
def scores(learner: Learner, episodes: EpisodeSource, *, tasks: int, ranks: Ranks = ALONE) -> Iterator[Scored]:
    """The scores of `tasks` tasks, batch by batch. The learner is in evaluation mode meanwhile.

    The scores of tasks that other ranks see to are 0.
    """
    if tasks < 1:
        raise DataError(f"evaluation: expected at least one task, got {tasks}")
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


def compare(a: Evaluation, b: Evaluation) -> Mean:
    """Mean of a − b over the same tasks with its 95% interval. Zero outside the interval: they differ.

    Raises:
        DataError: not the same metric, or not the same tasks.
    """
    if a.metric != b.metric or a.values.shape != b.values.shape:
        raise DataError(
            f"comparison: expected evaluations on the same tasks, got {a.metric} on {len(a.values)} tasks "
            f"and {b.metric} on {len(b.values)}"
        )
    if a.tasks_digest != b.tasks_digest:
        raise DataError(
            f"comparison: expected evaluations on the same tasks, got two sets of {len(a.values)} different tasks; "
            "draw both from the same classes with the same arguments and seed, `batch` among them"
        )
    return a.interval_of(a.values - b.values)


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
        digest, curve = _rows_digest(episodes, batch), CURVES.get(episodes.pool.protocol.metric)
    elif isinstance(batch, Draw) and isinstance(episodes, Episodes):
        y, ways, classes = batch.query_y, batch.classes.shape[1], batch.classes.gather(1, batch.query_y)
        digest = _rows_digest(episodes, batch)
    else:
        assert isinstance(batch, Episode)
        y, ways, classes = batch.query.y, batch.support.ways, None
        digest = _digest(batch.support.y, y)
    there = ways is not None and batch.strangers is not None and leading(batch.strangers)[1] > 0
    told = {name: torch.zeros(2, len(y), dtype=torch.float64) for name in KNOWN_BY if there}
    values = torch.zeros(len(y), dtype=torch.float64)
    hits = None if ways is None or curve is not None else torch.zeros(y.shape)
    if output is None:
        return Scored(values, hits, classes, 0, digest, told)
    own = slice(start, start + len(output))
    y = y[own].to(output.device)
    if there:
        output, strange = output[:, : y.shape[1]], output[:, y.shape[1] :]
        for name, measure in told.items():
            known, unknown = (KNOWN_BY[name](logits).cpu() for logits in (output, strange))
            measure[:, own] = torch.stack([area_under_curve(known, unknown), false_acceptance(known, unknown)])
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
        values[own] = torch.tensor([curve(*pair) for pair in pairs], dtype=values.dtype)
    elif hits is None:
        values[own] = (output - y).square().flatten(1).mean(1).cpu().double()
    else:
        hits[own] = ((output.argmax(-1) == y) & finite).float().cpu()  # the argmax of NaN is a class too
        values[own] = hits[own].mean(1).double()
    return Scored(values, hits, classes, not_finite, digest, told)


def _rows_digest(episodes: Episodes | AssayEpisodes, draw: Draw) -> bytes:
    return _digest(*(leaf for leaf in draw if leaf.numel()), "\0".join(episodes.pool.names).encode())


def _digest(*parts: Tensor | bytes) -> bytes:
    whole = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else bytes(part.detach().cpu().contiguous().view(torch.uint8).numpy())
        whole.update(len(content).to_bytes(8, "little") + content)
    return whole.digest()


def _by_class(scored: list[Scored], episodes: Episodes) -> dict[str, float]:
    known = [(part.hits, part.classes) for part in scored if part.hits is not None and part.classes is not None]
    classes = torch.cat([classes.flatten() for _, classes in known])
    hits = torch.cat([hits.flatten() for hits, _ in known]).double()
    names = episodes.pool.names
    seen = torch.bincount(classes, minlength=len(names))
    right = torch.bincount(classes, hits, minlength=len(names))
    return {name: float(right[i] / seen[i]) for i, name in enumerate(names) if seen[i]}


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
