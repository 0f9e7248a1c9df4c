"""Wrong labels planted in real data: how many of those named are wrong, and how many of the wrong ones are named."""

from __future__ import annotations

from typing import Any

import numpy as np

from handful.ops.nearest_mean import fit_nearest_mean
from handful.recognizer.doctor import likely_mislabeled

from .vectors import VectorSet

__all__ = ["SHARES", "SHOTS", "mislabeled"]

WAYS = 10
SHOTS = (5, 10, 20)
SHARES = (0.05, 0.1, 0.2)
RESAMPLED = 1000


def mislabeled(data: VectorSet, shots: int, share: float, tasks: int, seed: int = 0) -> dict[str, Any]:
    """Precision and recall over all tasks together; intervals by drawing the tasks again."""
    random, rows = np.random.default_rng(seed), data.rows
    counts = []  # [tasks, 3]: found and wrong, found, wrong
    while len(counts) < tasks:
        chosen = random.choice(len(rows), WAYS, replace=False)
        support = np.concatenate([random.choice(rows[label], shots, replace=False) for label in chosen])
        y = np.repeat(np.arange(WAYS), shots)
        wrong = random.choice(len(y), max(1, round(share * len(y))), replace=False)
        y[wrong] = (y[wrong] + random.integers(1, WAYS, len(wrong))) % WAYS
        if len(np.unique(y)) == WAYS:
            named = {doubt.row for doubt in likely_mislabeled(fit_nearest_mean(data.x[support], y, WAYS, "squared"))}
            counts.append((len(named & {*wrong.tolist()}), len(named), len(wrong)))
    total = np.array(counts)
    again = random.multinomial(tasks, np.full(tasks, 1 / tasks), RESAMPLED) @ total
    row = {"set": data.title, "encoder": data.encoder, "ways": WAYS, "shots": shots, "share": share}
    row |= {"tasks": tasks, "seed": seed}
    for name, column in (("precision", 1), ("recall", 2)):
        low, high = np.quantile(again[:, 0] / np.maximum(again[:, column], 1), [0.025, 0.975])
        row[name] = (float(total[:, 0].sum() / max(1, total[:, column].sum())), float(high - low) / 2)
    return row
