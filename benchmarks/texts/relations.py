"""FewRel with a frozen sentence encoder: which reading and head, how tasks of any size go, wrong labels, strangers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any, NamedTuple

from handful import Episodes, Identity, evaluate
from handful.data import ClassPool, fewrel
from handful.learner import EmbeddingLearner
from handful.learners import RNNP, RobustPrototypes

from .heads import HEADS, head
from .intents import chosen

__all__ = ["CHOOSING", "PLACES", "Trial", "run", "trials"]

TASKS, QUERIES = 600, 5
PLACES = {
    "wiki, 8 test relations": ("wiki", "test"),
    "wiki, all 16 relations": ("wiki", "train+test"),
    "PubMed, 10 relations": ("pubmed", "test"),
}
CHOOSING = "wiki, 8 training relations"
READINGS = ("places", "vectors")
CANDIDATES = ("ridge 0.3", "ridge 1", "ridge 3", "prototypes", "prototypes, cosine", "centered Baseline++ 10 0.3")
ROBUST = {
    "prototypes, median": partial(RobustPrototypes, center="median"),
    "prototypes, by similarity": partial(RobustPrototypes, center="similarity", temperature=0.1),
    "RNNP": RNNP,
}
NOISE, STRANGERS = (0.0, 0.1, 0.3, 0.5), 0.3


class Trial(NamedTuple):
    """Tasks, and who answers them."""

    part: str
    place: str
    reading: str
    head: str
    ways: int
    shots: int
    noise: float = 0.0
    strangers: float = 0.0


def run(done: list[dict[str, Any]], _: float) -> Iterator[dict[str, Any]]:
    """What is chosen on the training relations, then what is reported."""
    rows = list(done)
    known = {Trial(*(row[key] for key in Trial._fields)) for row in done}
    for part in ("val", "test"):
        for trial in trials(part, rows):
            if trial not in known:
                rows.append(trial._asdict() | _scored(trial))
                yield rows[-1]


def trials(part: str, rows: list[dict[str, Any]]) -> Iterator[Trial]:
    """All trials of a part; those of the test need the rows of what was chosen before."""
    if part == "val":
        for reading in READINGS:
            for label in CANDIDATES:
                yield from (Trial(part, CHOOSING, reading, label, 5, shots, 0.0, STRANGERS) for shots in (1, 5))
        return
    best = {
        reading: chosen([row | {"protocol": reading} for row in rows if row["reading"] == reading], reading)
        for reading in READINGS
    }
    for reading in READINGS:
        for place in PLACES:
            for label in dict.fromkeys((*best[reading], "prototypes, cosine")):
                for ways in (5, 10) if "8" not in place else (5,):
                    for shots in (1, 5):
                        strangers = STRANGERS if ways == 5 else 0.0
                        yield Trial(part, place, reading, label, ways, shots, 0.0, strangers)
    for noise in NOISE[1:]:
        for label in dict.fromkeys((*best["places"], "prototypes, cosine", *ROBUST)):
            yield Trial(part, "wiki, all 16 relations", "places", label, 5, 5, noise)
    yield from (Trial(part, "wiki, all 16 relations", "places", label, 5, 5) for label in ROBUST)


def _scored(trial: Trial) -> dict[str, Any]:
    pool = _pool(trial.place, trial.reading)
    options = {"label_noise": trial.noise, "strangers": trial.strangers}
    seed = 1 if trial.part == "val" else 2
    tasks = Episodes(
        pool, ways=trial.ways, shots=trial.shots, queries=QUERIES, batch=20, seed=seed, **options  # type: ignore[arg-type]
    )  # fmt: skip
    found = evaluate(_learner(trial.head, pool), tasks, tasks=TASKS)
    told = {
        name: {"auroc": one.auroc.value, "ci95": one.auroc.ci95, "fpr95": one.fpr95.value, "fpr95_ci95": one.fpr95.ci95}
        for name, one in found.strangers.items()
    }
    return {"value": found.mean.value, "ci95": found.mean.ci95, "number": TASKS, "seed": seed, "told": told}


def _learner(label: str, pool: ClassPool) -> EmbeddingLearner:
    return head(label, pool.shape) if label in HEADS else ROBUST[label](Identity(shape=pool.shape))


@cache
def _pool(place: str, reading: str) -> ClassPool:
    domain, split = PLACES.get(place, ("wiki", "train"))
    return fewrel(reading=reading, test=domain).split(split)  # type: ignore[arg-type]
