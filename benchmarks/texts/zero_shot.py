"""Classes told by their names and descriptions alone, no sentence of them shown.

A name is read by the encoder that reads the sentences, and a sentence belongs to the name with the greatest cosine. How
names are worded is chosen on CLINC150's validation classes, for relations on FewRel's 8 training relations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import torch

from handful import evaluate
from handful.data import ClassPool, DescribedPool, ZeroShotEpisodes, banking77, clinc150, fewrel, hwu64
from handful.data.raw import raw_files
from handful.data.relations import FILES
from handful.encoders.sentences import sentence_vectors
from handful.ops.intervals import mean_interval

from .heads import head
from .sentences import worded

__all__ = ["WORDINGS", "run"]

TASKS = 1000
INTENTS: dict[str, Callable[[], ClassPool]] = {"clinc150": clinc150, "banking77": banking77, "hwu64": hwu64}
WORDINGS: dict[str, tuple[str, ...]] = {
    "intents": ("{name}", "a question about {name}", "I want to know about {name}", "help me with {name}"),
    "fewrel": ("{name}", "{description}", "{name}: {description}", "one is the {name} of the other"),
}


def run(done: list[dict[str, Any]], _: float) -> Iterator[dict[str, Any]]:
    """Wordings where they are chosen, then the best one's figures."""
    rows = list(done)
    known = {(row["data"], row["part"], row["wording"], row["ways"]) for row in done}
    for part, data, classes in _places():
        kind = "fewrel" if data == "fewrel" else "intents"
        for wording in WORDINGS[kind] if part == "val" else (_best(rows, kind),):
            described = _described(data, classes, wording)
            for ways in (5, described.examples.classes):
                if (data, part, wording, ways) in known:
                    continue
                values = _episodes(described, part) if ways == 5 else _all(described)
                mean = mean_interval(values)
                row = {"data": data, "part": part, "classes": classes, "wording": wording, "ways": ways}
                rows.append(row | {"value": mean.value, "ci95": mean.ci95, "number": len(values)})
                yield rows[-1]


def _places() -> list[tuple[str, str, str]]:
    intents = [("test", data, split) for data in INTENTS for split in ("test", "all")]
    relations = [("test", "fewrel", "test"), ("test", "fewrel", "train+test")]
    return [("val", "clinc150", "val"), ("val", "fewrel", "train"), *intents, *relations]


def _best(rows: list[dict[str, Any]], kind: str) -> str:
    found: dict[str, float] = {}
    for row in rows:
        if row["part"] == "val" and (row["data"] == "fewrel") == (kind == "fewrel"):
            found[row["wording"]] = found.get(row["wording"], 0) + row["value"]
    return max(found, key=lambda wording: found[wording])


def _described(data: str, classes: str, wording: str) -> DescribedPool:
    pool = _pool(data).split(classes)
    texts = [wording.format_map(_about(data, name)) for name in pool.names]
    descriptions = ClassPool.grouped(sentence_vectors(texts), [1] * len(texts), pool.names)
    return DescribedPool(pool, descriptions)


def _about(data: str, name: str) -> Mapping[str, str]:
    if data != "fewrel":
        return {"name": worded(name)}
    number, _, title = name.partition(" ")
    path = raw_files("fewrel", [FILES["names"]], "fewrel")["pid2name.json"]
    return {"name": title, "description": json.loads(path.read_bytes())[number][1]}


@cache
def _pool(data: str) -> ClassPool:
    return fewrel() if data == "fewrel" else INTENTS[data]()


def _episodes(described: DescribedPool, part: str) -> Any:
    tasks = ZeroShotEpisodes(described, ways=5, queries=15, batch=20, seed=1 if part == "val" else 2)
    return evaluate(head("prototypes, cosine", described.shape), tasks, tasks=TASKS).values


def _all(described: DescribedPool) -> Any:
    """Whether each sentence of a pool comes nearest to its own class of all."""
    pool, names = described.examples, described.descriptions
    y = torch.arange(pool.classes).repeat_interleave(pool.counts)
    answers = (pool.gather(pool.rows()) @ names.gather(names.rows()).T).argmax(-1)
    return (answers == y).double().numpy()
