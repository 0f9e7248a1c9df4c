"""How well a learner does on tasks it has never seen, and how sure that is."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .data.assays import AssayEpisodes
from .data.episodes import Episodes
from .distributed import ALONE, Ranks
from .episode import EpisodeSource
from .errors import DataError
from .learner import Learner
from .ops.intervals import Mean, grouped_interval, mean_interval
from .scoring import Scored, digest, scores

__all__ = ["Evaluation", "Strangers", "compare", "evaluate"]


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

    Args:
        learner: put into evaluation mode meanwhile; its device is where tasks go.
        episodes: batches of tasks, from number 0 on.
        tasks: how many to score.
        ranks: processes that share the work, each of which calls this.

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
        digest(*(part.digest for part in scored)).hex(),
        strangers={name: Strangers(auroc, mean_interval(fpr)) for name, (auroc, fpr) in told.items()},
    )
    if not isinstance(episodes, AssayEpisodes):
        return evaluation
    assay = torch.cat([part.classes for part in scored if part.classes is not None]).numpy()
    by_assay = {episodes.pool.names[one]: float(evaluation.values[assay == one].mean()) for one in np.unique(assay)}
    metric, _, interval = episodes.pool.protocol
    return replace(evaluation, metric=metric, by_class=by_assay, assay=assay, interval_over=interval)


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
    with np.errstate(invalid="ignore"):  # both infinite: no number says by how much
        return a.interval_of(a.values - b.values)


def _by_class(scored: list[Scored], episodes: Episodes) -> dict[str, float]:
    known = [(part.hits, part.classes) for part in scored if part.hits is not None and part.classes is not None]
    classes = torch.cat([classes.flatten() for _, classes in known])
    hits = torch.cat([hits.flatten() for hits, _ in known]).double()
    names = episodes.pool.names
    seen = torch.bincount(classes, minlength=len(names))
    right = torch.bincount(classes, hits, minlength=len(names))
    return {name: float(right[i] / seen[i]) for i, name in enumerate(names) if seen[i]}
