"""What to label next: learning curves beside random choice, from one example of each class on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful.collection import Example, Snapshot
from handful.ops.conformal import candidates, p_values
from handful.ops.heads import strangeness
from handful.ops.intervals import mean_interval, paired_difference
from handful.ops.representatives import representatives
from handful.ops.temperature import probabilities
from handful.recognizer.built_in import GivenVectors
from handful.recognizer.learned import Learned, learn
from handful.recognizer.suggestions import rank

from .vectors import VectorSet

__all__ = ["BUDGETS", "OURS", "WAYS_TO_CHOOSE", "labeling"]

BUDGETS = (1, 2, 5, 10)
EPSILON, PROMISED = 0.1, 100
OURS = "suggest"
Vectors = NDArray[np.float32]
Choice = Callable[[Learned, Vectors, int, np.random.Generator], NDArray[np.int64]]


class Sizes(NamedTuple):
    """Classes, and of each at most so many without labels and asked at the end."""

    classes: int
    unlabeled: int
    asked: int


SIZES = {"digits": Sizes(10, 80, 60), "omniglot": Sizes(20, 14, 5), "mini-imagenet": Sizes(10, 80, 60)}
OTHERS = Sizes(10, 60, 60)


def _margins(learned: Learned, z: Vectors) -> NDArray[np.float64]:
    p = np.sort(probabilities(strangeness(learned.head, z), learned.calibration.temperature), 1)
    return p[:, -1] - p[:, -2]


def _farthest(learned: Learned, z: Vectors, count: int, _: np.random.Generator) -> NDArray[np.int64]:
    """The one farthest from all that is taught or chosen (k-center; Sener & Savarese 2018)."""
    far, chosen = learned.search.nearest(z, 1)[1][:, 0], []
    for _place in range(count):
        chosen.append(int(far.argmax()))
        far = np.minimum(far, ((z - z[chosen[-1]]) ** 2).sum(1))
        far[chosen[-1]] = -1
    return np.array(chosen)


WAYS_TO_CHOOSE: dict[str, Choice] = {
    "random": lambda learned, z, count, random: random.choice(len(z), count, replace=False),
    OURS: lambda learned, z, count, random: rank(learned, z, count),
    "diverse": lambda learned, z, count, random: representatives(z, learned.search.nearest(z, 1)[1][:, 0], count),
    "unsure": lambda learned, z, count, random: np.argsort(_margins(learned, z), kind="stable")[:count],
    "farthest": _farthest,
}


def labeling(name: str, data: VectorSet, uneven: bool, seeds: int) -> list[dict[str, Any]]:
    """A row for each choice and budget: accuracy, its paired difference to random, and coverage at 90%.

    Args:
        name: of the set.
        data: the set.
        uneven: classes have different shares of what is unlabeled, log-normal with a deviation of 1.
        seeds: as many sets of classes and examples.
    """
    sizes = SIZES.get(name, OTHERS)
    curves = [_curves(data, sizes, uneven, seed) for seed in range(seeds)]
    shared = {"set": data.title, "encoder": data.encoder, "uneven": uneven, "classes": sizes.classes, "seeds": seeds}
    found = []
    for choice in WAYS_TO_CHOOSE:
        for place, budget in enumerate((0, *BUDGETS)):
            ours, random = (np.array([curve[one][place] for curve in curves]) for one in (choice, "random"))
            row = {**shared, "choice": choice, "budget": budget, "accuracy": mean_interval(ours[:, 0])}
            row |= {"more than random": paired_difference(ours[:, 0], random[:, 0])}
            found.append({**row, "covered": mean_interval(ours[:, 1])})
    return found


def _curves(data: VectorSet, sizes: Sizes, uneven: bool, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Of each choice (accuracy, coverage) at each budget, 0 first."""
    random, rows = np.random.default_rng(seed), data.rows
    chosen = random.choice(len(rows), sizes.classes, replace=False)
    share = np.exp(random.normal(size=sizes.classes)) if uneven else np.ones(sizes.classes)
    first, pool, asked = [], [], []
    for label, part in zip(chosen, share / share.max(), strict=True):
        mixed = random.permutation(rows[label])
        first.append(mixed[:1])
        asked.append(mixed[1 : 1 + sizes.asked])
        rest = mixed[1 + sizes.asked : 1 + sizes.asked + sizes.unlabeled]
        pool.append(rest[: max(2, round(part * len(rest)))])
    begin, everything, test = (np.concatenate(parts) for parts in (first, pool, asked))
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, choose in WAYS_TO_CHOOSE.items():
        support, left, own = begin, everything, np.random.default_rng((seed, 1))
        learned = _learned(data, support)
        curves[name] = [_judged(data, learned, test)]
        for more in np.diff((0, *BUDGETS)) * sizes.classes:
            if len(left):
                picked = choose(learned, data.x[left], min(int(more), len(left)), own)
                support, left = np.concatenate([support, left[picked]]), np.delete(left, picked)
                learned = _learned(data, support)
            curves[name].append(_judged(data, learned, test))
    return curves


def _learned(data: VectorSet, rows: NDArray[np.int64]) -> Learned:
    examples = tuple(Example(int(row), f"{data.y[row]:04d}", "", "", "", "") for row in rows)
    return learn(Snapshot(1, examples, data.x[rows]), "squared", GivenVectors(data.x.shape[1]))


def _judged(data: VectorSet, learned: Learned, test: NDArray[np.int64]) -> tuple[float, float]:
    z, truth = data.x[test], np.searchsorted(learned.names, [f"{label:04d}" for label in data.y[test]])
    right = (strangeness(learned.head, z).argmin(1) == truth).mean()
    some = np.linspace(0, len(z) - 1, PROMISED).astype(np.int64)
    stays = candidates(p_values(learned.head, z[some]), learned.sizes, EPSILON)
    return float(right), float(stays[np.arange(len(some)), truth[some]].mean())
