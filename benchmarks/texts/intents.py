"""BANKING77, CLINC150 and HWU64 from 1, 5 and 10 sentences a class.

All classes: a learner is shown so many sentences of the training part of each class and asked all of the test part; ten
draws, the interval is over them. Episodes: five of the test classes, 15 queries of each, 1,000 tasks of seed 2.
Kind, strength and scale of heads are chosen on CLINC150's validation part and validation classes, once for all three.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handful import Episodes, evaluate
from handful.data import ClassPool, banking77, clinc150, hwu64
from handful.learner import EmbeddingLearner
from handful.ops.intervals import mean_interval, paired_difference

from .heads import HEADS, head, kind_of
from .sentences import INTENTS, Name, Sentences, intents, shown

__all__ = ["SHOTS", "all_classes", "chosen", "run"]

SHOTS = (1, 5, 10)
SEEDS, CHOOSING = tuple(range(10)), (100, 101, 102)
TASKS = 1000
LARGE = ("nearest neighbor",)
"""Too large in memory, with all classes at once."""
POOLS: dict[Name, Callable[[], ClassPool]] = {"banking77": banking77, "clinc150": clinc150, "hwu64": hwu64}


def run(done: list[dict[str, Any]], _: float) -> Iterator[dict[str, Any]]:
    """First how each head does where heads are chosen, then what is reported."""
    known = {(row["data"], row["protocol"], row["part"], row["shots"], row["head"]) for row in done}
    rows = list(done)
    for part in ("val", "test"):
        for name in INTENTS if part == "test" else ("clinc150",):
            data, pool = intents(name), POOLS[name]()
            for protocol in ("all classes", "5-way"):
                for shots in SHOTS:
                    for label in HEADS if part == "val" else chosen(rows, protocol):
                        if (name, protocol, part, shots, label) in known or (label in LARGE and "all" in protocol):
                            continue
                        values, seconds = (
                            all_classes(data, head(label, 384), shots, part, SEEDS if part == "test" else CHOOSING)
                            if protocol == "all classes"
                            else episodes(pool, head(label, 384), shots, part)
                        )
                        mean = mean_interval(values)
                        row = {"data": name, "protocol": protocol, "part": part, "shots": shots, "head": label}
                        row |= {"value": mean.value, "ci95": mean.ci95, "seconds": round(seconds, 3)}
                        row |= {"values": [round(float(value), 6) for value in values]} if len(values) < 20 else {}
                        row |= {"number": len(values), "classes": len(data.names) if "all" in protocol else 5}
                        rows.append(row)
                        yield row


def chosen(rows: list[dict[str, Any]], protocol: str) -> list[str]:
    """The best of each kind of head by the mean over shots on validation data, the best kind first."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["part"] == "val" and row["protocol"] == protocol:
            found.setdefault(row["head"], []).append(row["value"])
    best: dict[str, str] = {}
    for label in sorted(found, key=lambda label: -float(np.mean(found[label]))):
        best.setdefault(kind_of(label), label)
    return list(best.values())


def all_classes(
    data: Sentences, learner: EmbeddingLearner, shots: int, part: str, seeds: tuple[int, ...]
) -> tuple[NDArray[np.float64], float]:
    """Accuracy of each draw on a whole part, and the seconds of fitting one."""
    rows = torch.from_numpy(data.rows(part))
    y = torch.from_numpy(data.y)
    values, begin, spent = [], time.process_time(), 0.0
    for seed in seeds:
        support = torch.from_numpy(shown(data, shots, seed))
        begin = time.process_time()
        with torch.no_grad():
            state = learner.adapt_features(data.z[support][None], y[support][None], len(data.names))
            spent += time.process_time() - begin
            logits = learner.predict_features(state, data.z[rows][None])[0]
        values.append(float((logits.argmax(-1) == y[rows]).double().mean()))
    return np.array(values), spent / len(seeds)


def episodes(pool: ClassPool, learner: EmbeddingLearner, shots: int, part: str) -> tuple[NDArray[np.float64], float]:
    """Accuracy of each task of five classes, and the seconds of all."""
    tasks = Episodes(pool.split(part), ways=5, shots=shots, queries=15, batch=20, seed=2 if part == "test" else 1)
    begin = time.process_time()
    return evaluate(learner, tasks, tasks=TASKS).values, time.process_time() - begin


def difference(rows: list[dict[str, Any]], one: str, other: str, **where: Any) -> Any:
    """Mean of one head less another over the same draws, with its interval."""
    found = {row["head"]: row for row in rows if all(row[key] == value for key, value in where.items())}
    return paired_difference(found[one]["values"], found[other]["values"])
