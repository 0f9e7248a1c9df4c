"""How well scores tell strangers from known things. That strangers are caught is not promised, so it is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

from handful.ops.conformal import p_values
from handful.ops.heads import fit_head, strangeness
from handful.ops.intervals import mean_interval, paired_difference

from .tasks import draw
from .vectors import VectorSet

__all__ = ["ASKED", "OURS", "SCORES", "unknown"]

ASKED = 30
OURS = "d/√o"
SCORES = {
    OURS: "distance to the nearest mean over the root of that to the second: the score of the promise",
    "p": "the greatest p-value of any class by that score, which decides whether a thing is unknown",
    "d/o": "distance to the nearest mean over that to the second",
    "d": "distance to the nearest mean",
    "probability": "the greatest calibrated probability (Hendrycks & Gimpel 2017)",
    "energy": "−T·log Σ exp(−d/T) with the calibrated T (Liu et al. 2020)",
    "neighbor": "distance to the nearest example (Sun et al. 2022)",
    "Mahalanobis": "distance to the nearest mean by one covariance of all classes, shrunk as Ledoit & Wolf 2004 "
    "(Lee et al. 2018)",
}
Floats = NDArray[np.floating]


def unknown(data: VectorSet, ways: int, shots: int, asked: int, tasks: int, seed: int = 0) -> list[dict[str, Any]]:
    """A row for each score: AUROC and FPR95 in each task, averaged, with the 95% interval over tasks."""
    random = np.random.default_rng(seed)
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(tasks):
        task = draw(data, random, ways=ways, shots=shots, known=asked, strangers=asked)
        z = np.concatenate([task.known, task.strangers])
        for name, values in _scores(task.x, task.y, ways, z).items():
            known, strange = values[: len(task.known)], values[len(task.known) :]
            found.setdefault(name, []).append((auroc(known, strange), false_positives(known, strange)))
    ours = np.array(found[OURS])
    rows = []
    for name, values in found.items():
        pairs = np.array(values)
        row = {"set": data.title, "encoder": data.encoder, "ways": ways, "shots": shots, "asked": asked}
        row |= {"tasks": tasks, "seed": seed, "score": name}
        row |= {"auroc": mean_interval(pairs[:, 0]), "fpr95": mean_interval(pairs[:, 1])}
        rows.append({**row, "auroc less ours": paired_difference(pairs[:, 0], ours[:, 0])})
    return rows


def auroc(known: Floats, strange: Floats) -> float:
    """The share of pairs in which the known thing has the greater score; ties count half."""
    order = np.sort(known)
    below = (np.searchsorted(order, strange, "left") + np.searchsorted(order, strange, "right")) / 2
    return float(1 - below.mean() / len(known))


def false_positives(known: Floats, strange: Floats) -> float:
    """FPR95: the share of strangers that pass where 95% of the known pass."""
    least = np.sort(known)[int(0.05 * len(known))]
    return float((strange >= least).mean())


def _scores(x: Floats, y: NDArray[np.int64], ways: int, z: Floats) -> dict[str, Floats]:
    """Greater for what is familiar."""
    head, calibration = fit_head("squared", x, y, ways)
    temperature = calibration.temperature
    to_means = strangeness(head, z).astype(np.float64)
    first, second = np.partition(to_means, 1, 1)[:, :2].T
    logits = -to_means / temperature
    whole = logsumexp(logits, axis=1)
    residuals = x - np.stack([x[y == label].mean(0) for label in range(ways)])[y]
    between = (z * z).sum(1)[:, None] + (x * x).sum(1) - 2 * z @ x.T
    found = {
        OURS: -first / np.sqrt(np.maximum(second, 1e-12)),
        "p": p_values(head, z).overall.max(1),
        "d/o": -first / np.maximum(second, 1e-12),
        "d": -first,
        "probability": np.exp(logits.max(1) - whole),
        "energy": temperature * whole,
        "neighbor": -between.min(1),
    }
    if len(x) > ways:
        half = np.linalg.cholesky(LedoitWolf(assume_centered=True).fit(residuals).precision_.astype(np.float64))
        means = np.stack([x[y == label].mean(0) for label in range(ways)]) @ half
        far = z @ half
        squared = (far * far).sum(1)[:, None] + (means * means).sum(1) - 2 * far @ means.T
        found["Mahalanobis"] = -squared.min(1)
    return found
