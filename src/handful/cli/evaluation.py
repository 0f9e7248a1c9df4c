"""`handful evaluate`."""

from __future__ import annotations

import csv
import errno
import io
import json as json_module
import os
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint, load_checkpoint
from ..data import DATASETS
from ..episode import EpisodeSource
from ..errors import SpecError
from ..evaluation import Evaluation, compare, evaluate
from ..files import storage_errors, write_file
from ..ledger import NAMES, percent
from ..parts import Part, completed, entry_of
from ..spec import Tasks, load_data
from ..tables import checked, plain_numbers
from ..transfer import foreign_data
from .progress import console
from .training import prepared

__all__ = ["run_evaluate"]

BATCH = 20
"""Tasks a batch. Fixed, because the tasks of a seed depend on it."""


def run_evaluate(
    path: Path,
    foreign: str | None,
    against: Path | None,
    record: Path | None,
    tasks_of: dict[str, Any],
    tasks: int,
    device: str,
    threads: int,
    json: bool,
) -> None:
    """Evaluate a checkpoint, alone or against another one on the same tasks."""
    with prepared(device, threads) as (ranks, own):
        checkpoint = load_checkpoint(path, ranks=ranks)
        other = None if against is None else load_checkpoint(against, ranks=ranks)
        if other is not None and foreign is None and not _same_data(other.spec.data, checkpoint.spec.data):
            raise SpecError(
                f"{path} and {against} are of different data, so that they have no tasks in common; "
                "--data NAME tests both on pictures of NAME"
            )
        trials = _trials(checkpoint, tasks_of)
        if record is not None and ranks.first:
            with storage_errors(record):  # all the tasks before this is known would be a pity
                record.parent.mkdir(parents=True, exist_ok=True)
                if record.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

        def draw(one: Checkpoint, data: Any) -> EpisodeSource:
            if foreign is None:
                return trials.draw_from(data)
            pool = foreign_data(foreign, one.spec, split=trials.split, ranks=ranks)
            return trials.model_copy(update={"split": "all"}).draw_from(pool)

        with console(ranks).status("evaluating"):
            data = load_data(checkpoint.spec, ranks=ranks) if foreign is None else None
            result, rival = (
                None if one is None else evaluate(one.learner.to(own), draw(one, data), tasks=tasks, ranks=ranks)
                for one in (checkpoint, other)
            )
        if not ranks.first or result is None:
            return
        if record is not None:
            write_file(record, _csv(result, rival))
        table = _table(path, checkpoint, foreign or checkpoint.spec.data.name, trials, result)
        if rival is not None and against is not None:
            difference = compare(result, rival)
            table["against"] = {
                "checkpoint": str(against),
                "value": rival.mean.value,
                "ci95": rival.mean.ci95,
                "not_finite": rival.not_finite,
                "transductive": rival.transductive,
            }
            table["difference"] = {"value": difference.value, "ci95": difference.ci95}
        if json:
            print(json_module.dumps(plain_numbers(table), indent=2, ensure_ascii=False))
        else:
            _show(table)


def _same_data(one: Part, two: Part) -> bool:
    """Whether two parts load the same, options that one leaves out at their defaults."""
    whole = [completed(entry_of("data set", part, DATASETS).load, part) for part in (one, two)]
    return whole[0] == whole[1]


def _trials(checkpoint: Checkpoint, tasks_of: dict[str, Any]) -> Tasks:
    usual = checkpoint.spec.validation or checkpoint.spec.train
    table = {"batch": BATCH, "families": usual.families, **tasks_of}
    for name in ("ways", "shots"):
        value = getattr(usual, name)
        if table[name] is None:
            table[name] = value[1] if isinstance(value, tuple) else value
    return checked(Tasks, table, "evaluation")


def _table(path: Path, checkpoint: Checkpoint, data: str, trials: Tasks, result: Evaluation) -> dict[str, Any]:
    return {
        "checkpoint": str(path),
        "data": data,
        "learner": checkpoint.spec.learner.name,
        "step": checkpoint.step,
        "metric": result.metric,
        "value": result.mean.value,
        "ci95": result.mean.ci95,
        "tasks": len(result.values),
        "not_finite": result.not_finite,
        "transductive": result.transductive,
        "evaluation": trials.model_dump(mode="json"),
        "seconds": round(result.seconds, 2),
        "record": result.record,
        "strangers": {
            name: {"auroc": found.auroc.value, "ci95": found.auroc.ci95, "fpr95": found.fpr95.value}
            for name, found in result.strangers.items()
        },
        "by_class": dict(sorted(result.by_class.items(), key=lambda one: one[1], reverse=result.metric == "mse")),
    }


def _show(table: dict[str, Any]) -> None:
    metric, trials = table["metric"], table["evaluation"]
    ways = "" if trials["ways"] is None else f"{trials['ways']}-way "
    print(f"{table['learner']}, {ways}{trials['shots']}-shot, split {trials['split']} of {table['data']}: ", end="")
    shown = percent(metric, table["value"], table["ci95"])
    print(f"{NAMES.get(metric, '')}{shown}  ({table['tasks']} tasks, {_kind(table, metric)})")
    if "difference" in table:
        other, difference = table["against"], table["difference"]
        print(f"{other['checkpoint']}: {percent(metric, other['value'], other['ci95'])}  ({_kind(other, metric)})")
        print(f"paired difference: {percent(metric, difference['value'], difference['ci95'])}")
    for name, told in table["strangers"].items():
        figures = (
            f"AUROC {percent('auroc', told['auroc'], told['ci95'])}, FPR95 {percent('fpr95', told['fpr95'], None)}"
        )
        print(f"strangers told by {name}: {figures}")
    if table["by_class"]:
        hardest = list(table["by_class"].items())[:5]
        if metric == "accuracy":
            print("hardest classes: " + ", ".join(f"{name} {100 * value:.0f} %" for name, value in hardest))
        else:
            of = "tasks" if metric == "mse" else "assays"
            print(f"hardest {of}: " + ", ".join(f"{name} {NAMES[metric]}{value:.3f}" for name, value in hardest))


def _kind(table: dict[str, Any], metric: str) -> str:
    """What a reader must know of a figure."""
    kind = "transductive: queries share information" if table["transductive"] else "each query by itself"
    count = "make the scores of their tasks not finite either" if metric == "mse" else "count as wrong"
    failed = f"; {table['not_finite']} queries without a finite answer {count}" if table["not_finite"] else ""
    return kind + failed


def _csv(result: Evaluation, rival: Evaluation | None) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", result.metric] + (["against"] if rival is not None else []))
    columns = [result.values] if rival is None else [result.values, rival.values]
    writer.writerows([index, *map(float, row)] for index, row in enumerate(zip(*columns, strict=True)))
    return out.getvalue()
