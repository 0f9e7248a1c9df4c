"""The frozen encoder and the head that validation chose, on the supports that SetFit had, for its table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.encoders.sentences import sentence_vectors

from .heads import head
from .intents import chosen
from .sentences import ASKED, intents, packed, shown

__all__ = ["run"]

RESULTS = Path(__file__).parents[2] / "results" / "texts"


def run(done: list[dict[str, Any]], seconds: float, results: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """A row for each support that SetFit has learned from."""
    rows = json.loads((results / "setfit.json").read_text())
    label = chosen(json.loads((results / "intents.json").read_text()), "all classes")[0]
    known = {(row["data"], row["shots"], row["seed"]) for row in done}
    sentence_vectors(["loads the model"])
    for name, shots, seed in dict.fromkeys((row["data"], row["shots"], row["seed"]) for row in rows):
        if (name, shots, seed) in known:
            continue
        data = intents(name)
        support, asked = shown(data, shots, seed), data.rows("test", ASKED)
        learner, texts = head(label, data.z.shape[1]), [data.texts[row] for row in support]
        y = torch.from_numpy(data.y[support])
        times = []
        with torch.no_grad():
            for _ in range(3):
                begin, began = time.process_time(), time.perf_counter()
                state = learner.adapt_features(sentence_vectors(texts)[None], y[None], len(data.names))
                times.append((time.process_time() - begin, time.perf_counter() - began))
            cpu, wall = np.median(times, 0).tolist()
            answers = learner.predict_features(state, data.z[torch.from_numpy(asked)][None])[0].argmax(-1).numpy()
        hits = answers == data.y[asked]
        yield {
            "data": name,
            "shots": shots,
            "seed": seed,
            "head": label,
            "value": float(np.mean(hits)),
            "cpu_seconds": round(cpu, 6),
            "wall_seconds": round(wall, 6),
            "hits": packed(hits),
            "asked": len(asked),
        }
