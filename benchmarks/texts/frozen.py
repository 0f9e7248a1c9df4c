"""The frozen encoder and the head that validation chose, on the supports that SetFit had, for its table.

Once as it is, once with a metric that was learned on the two other sets.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handful.encoders.sentences import sentence_vectors

from . import metric
from .heads import head
from .intents import chosen
from .sentences import ASKED, INTENTS, Sentences, intents, packed, support

__all__ = ["run"]

RESULTS = Path(__file__).parents[2] / "results" / "texts"


def run(done: list[dict[str, Any]], seconds: float, results: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """A row for each support that SetFit has learned from."""
    rows = json.loads((results / "setfit.json").read_text())
    label = chosen(json.loads((results / "intents.json").read_text()), "all classes")[0]
    share = metric.chosen(json.loads((results / "metric.json").read_text()))
    known = {(row["data"], row["shots"], row["seed"], row["names"], row["metric"]) for row in done}
    for name, learned in itertools.product(INTENTS, (False, True)):
        supports = dict.fromkeys((row["shots"], row["seed"], row["names"]) for row in rows if row["data"] == name)
        wanted = [one for one in supports if (name, *one, learned) not in known]
        if not wanted:
            continue
        data, vectors = intents(name), sentence_vectors
        if learned:
            others = tuple(other for other in INTENTS if other != name)
            data = data._replace(z=metric.features(name, share, others))
            vectors = partial(metric.vectors, share=share, learned_on=others)
        vectors(["loads the model"])
        for shots, seed, names in wanted:
            texts, y = support(data, shots, seed, names)
            job = {"data": name, "shots": shots, "seed": seed, "names": names, "metric": learned}
            yield job | _answered(data, texts, torch.from_numpy(y), label, vectors)


def _answered(
    data: Sentences, texts: list[str], y: Tensor, label: str, vectors: Callable[[list[str]], Tensor]
) -> dict[str, Any]:
    """By a head on vectors that are made anew, to see how long that takes."""
    learner, asked, times = head(label, data.z.shape[1]), data.rows("test", ASKED), []
    with torch.no_grad():
        for _ in range(3):
            begin, began = time.process_time(), time.perf_counter()
            state = learner.adapt_features(vectors(texts)[None], y[None], len(data.names))
            times.append((time.process_time() - begin, time.perf_counter() - began))
        answers = learner.predict_features(state, data.z[torch.from_numpy(asked)][None])[0].argmax(-1).numpy()
    cpu, wall = np.median(times, 0).tolist()
    hits = answers == data.y[asked]
    return {
        "head": label,
        "value": float(np.mean(hits)),
        "cpu_seconds": round(cpu, 6),
        "wall_seconds": round(wall, 6),
        "hits": packed(hits),
        "asked": len(asked),
    }
