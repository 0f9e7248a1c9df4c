"""What was promised beside what came: coverage, labels a set, refusals, and what probabilities are worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful.ops.conformal import candidates, p_values
from handful.ops.head_choice import fit_best
from handful.ops.heads import fit_head, strangeness
from handful.ops.intervals import mean_interval
from handful.ops.temperature import BINS, probabilities

from .tasks import draw
from .vectors import VectorSet

__all__ = ["EPSILONS", "SHOTS", "coverage"]

WAYS, KNOWN, STRANGERS = 5, 10, 5
EPSILONS = (0.2, 0.1, 0.05)
SHOTS = (1, 2, 5, 10, 20)
RESAMPLED = 400


def coverage(data: VectorSet, head: str, shots: int, tasks: int, seed: int = 0) -> list[dict[str, Any]]:
    """A row for each promise; each value with the half width of its 95% interval over tasks."""
    random = np.random.default_rng(seed)
    found: dict[float, list[tuple[float, ...]]] = {epsilon: [] for epsilon in EPSILONS}
    right: list[float] = []
    loss: dict[str, list[float]] = {"before": [], "after": []}
    gaps: dict[str, list[NDArray[np.float64]]] = {"before": [], "after": []}
    ways = 2 if data.paired else WAYS
    for _ in range(tasks):
        task = draw(data, random, ways=ways, shots=shots, known=KNOWN, strangers=STRANGERS)
        fitted, calibration = fit_best(task.x, task.y, ways) if head == "auto" else fit_head(head, task.x, task.y, ways)
        p = p_values(fitted, np.concatenate([task.known, task.strangers]))
        rows = np.arange(len(task.known))
        for epsilon, kept in found.items():
            stays = candidates(p, np.full(ways, shots), epsilon)
            inside, none = stays[rows], ~stays.any(1)
            covered = inside[rows, task.truth].mean()
            caught = none[len(rows) :].mean() if len(task.strangers) else 0.0
            kept.append((covered, inside.sum(1).mean(), none[rows].mean(), caught))
        far = strangeness(fitted, task.known)
        right.append(float((far.argmin(1) == task.truth).mean()))
        for name, temperature in (("before", 1.0), ("after", calibration.temperature)):
            q = probabilities(far, temperature)
            loss[name].append(-float(np.log(np.maximum(q[rows, task.truth], 1e-12)).mean()))
            gaps[name].append(_gaps(q, task.truth))
    shared = {"set": data.title, "encoder": data.encoder, "head": head, "shots": shots, "tasks": tasks, "seed": seed}
    shared |= {"accuracy": mean_interval(right)}
    shared |= {f"log loss {name}": mean_interval(values) for name, values in loss.items()}
    shared |= {f"calibration error {name}": _error(np.array(values), seed) for name, values in gaps.items()}
    rows_out = []
    for epsilon, kept in found.items():
        names = ("covered", "labels", "refused", "strangers caught")
        values = {name: mean_interval(column) for name, column in zip(names, np.array(kept).T, strict=True)}
        if data.paired:
            del values["strangers caught"]
        rows_out.append({**shared, "promised": round(1 - epsilon, 6), **values})
    return rows_out


def _gaps(p: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each bin of confidence the sum of (hit − confidence), divided by the number of answers: [BINS]."""
    confidence = p.max(1)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return np.bincount(place, (p.argmax(1) == truth) - confidence, BINS) / len(truth)


def _error(gaps: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Expected calibration error of all answers together, and its interval by drawing the tasks again."""
    random = np.random.default_rng(seed)
    weight = random.multinomial(len(gaps), np.full(len(gaps), 1 / len(gaps)), RESAMPLED) / len(gaps)
    again = np.abs(weight @ gaps).sum(1)
    low, high = np.quantile(again, [0.025, 0.975])
    return float(np.abs(gaps.mean(0)).sum()), float(high - low) / 2
