"""Sentences with their vectors and intents, and the few of each class that a learner is shown."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handful.data.intents import intent_texts
from handful.data.texts import text_pool
from handful.ops.seeds import generator

__all__ = ["ASKED", "INTENTS", "Sentences", "intents", "packed", "shown", "support", "unpacked", "worded"]

Name = Literal["banking77", "clinc150", "hwu64"]
INTENTS: dict[Name, str] = {"banking77": "BANKING77", "clinc150": "CLINC150", "hwu64": "HWU64"}
HALF = 0.5
ASKED = 1500
"""Test sentences that are asked where a rival takes long, at most; of more, so many at random."""


class Sentences(NamedTuple):
    """The sentences of a set, class by class."""

    texts: list[str]
    z: Tensor  # [M, F] vectors of the frozen encoder
    y: NDArray[np.int64]  # [M]
    part: NDArray[np.str_]  # [M] "train", "val" or "test"
    names: list[str]

    def rows(self, part: str, most: int | None = None) -> NDArray[np.int64]:
        """The sentences of a part; of more than `most`, as many at random, always the same."""
        found = np.flatnonzero(self.part == part)
        if most is None or len(found) <= most:
            return found
        return np.sort(generator("asked", 0).permutation(found)[:most])


def intents(name: Name) -> Sentences:
    """BANKING77 and CLINC150 with their published parts; HWU64, which has none, halved within each class."""
    parts = intent_texts(name)
    parts.pop("oos", None)
    rows = [(text, label, part) for part, of in parts.items() for text, label in of]
    keys = [f"{label}\n{part}" for _, label, part in rows]
    pool = text_pool([text for text, *_ in rows], keys, what=INTENTS[name])
    order = np.argsort(np.unique(keys, return_inverse=True)[1], kind="stable")
    names = sorted({label for _, label, _ in rows})
    number = {label: index for index, label in enumerate(names)}
    y = np.array([number[rows[index][1]] for index in order])
    part = np.array([rows[index][2] for index in order])
    if "all" in parts:
        part = _halved(y)
    return Sentences([rows[index][0] for index in order], pool.examples, y, part, names)


def shown(data: Sentences, shots: int, seed: int) -> NDArray[np.int64]:
    """[classes · shots] rows of the training part, so many of each class, class by class."""
    random = generator("shown", seed)
    train = data.part == "train"
    of = [random.permutation(np.flatnonzero(train & (data.y == label)))[:shots] for label in range(len(data.names))]
    return np.concatenate(of)


def support(data: Sentences, shots: int, seed: int, names: bool) -> tuple[list[str], NDArray[np.int64]]:
    """The sentences of `shown` and their classes; with names, the name of each class is one more sentence of it."""
    rows = shown(data, shots, seed)
    texts, y = [data.texts[row] for row in rows], data.y[rows]
    if names:
        texts, y = texts + [worded(name) for name in data.names], np.concatenate([y, np.arange(len(data.names))])
    return texts, y


def worded(name: str) -> str:
    """The name of an intent as words."""
    return name.replace("_", " ").replace("/", " ")


def packed(hits: NDArray[np.bool_]) -> str:
    """Which sentences were answered rightly, in hexadecimal digits."""
    return np.packbits(hits).tobytes().hex()


def unpacked(text: str, count: int) -> NDArray[np.bool_]:
    """The same as an array."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:count].astype(bool)


def _halved(y: NDArray[np.int64]) -> NDArray[np.str_]:
    part = np.full(len(y), "test ")
    random = generator("halves", 0)
    for label in np.unique(y):
        rows = random.permutation(np.flatnonzero(y == label))
        part[rows[: round(HALF * len(rows))]] = "train"
    return np.char.strip(part)
