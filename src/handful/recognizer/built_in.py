"""Encoders that have learned nothing: they work offline at once, and are weak."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..collection import EncoderIdentity
from ..errors import ShapeError
from .about import About
from .ngrams import hashed, pieces, words

__all__ = ["GivenVectors", "Gradients", "HashedNGrams"]

Vectors = NDArray[np.float32]
BATCH = 64


@final
class GivenVectors:
    """Vectors that are features already, from an encoder of the user's own.

    Args:
        features: F.
    """

    kind = "vectors"
    form = None
    about = About("not known here: the vectors were given, ask who made them", "not known here: the vectors were given")

    def __init__(self, features: int) -> None:
        self.identity = EncoderIdentity("vectors", hashlib.sha256(b"vectors").hexdigest(), features)

    def embed(self, contents: Sequence[NDArray[Any]]) -> Vectors:
        """The vectors themselves."""
        for vector in contents:
            if vector.shape != (self.identity.features,):
                raise ShapeError(f"vectors: expected {self.identity.features} numbers each, got shape {vector.shape}")
        return np.stack(contents)


@final
class HashedNGrams:
    """Texts by the words and the pieces of words in them, hashed to 2 × 1,024 counts of length 1 together.

    It has learned nothing: it sees spelling, not meaning, and works in any language without a download.
    """

    kind = "texts"
    form = None
    about = About("nothing: it counts pieces of words", "MIT, as Handful")
    identity = EncoderIdentity("ngrams", hashlib.sha256(b"ngrams 1: words 1-2, pieces 3-5").hexdigest(), 2048)

    def embed(self, contents: Sequence[str]) -> Vectors:
        """Raises DataError for a text without a letter or figure."""
        parts = [hashed(contents, tokens, 1024) for tokens in (words, pieces)]
        found: Vectors = (np.concatenate(parts, 1) / np.sqrt(2)).astype(np.float32)
        return found


@final
class Gradients:
    """Pictures by the directions of their edges, and a little by their colors; of length 1.

    It has learned nothing: it sees outlines (histograms of oriented gradients, Dalal & Triggs 2005) and where which
    color is, not what things are. An encoder that was trained does better: --with CHECKPOINT.
    """

    kind = "pictures"
    form = (3, 64, 64)
    about = About("nothing: it measures edges and colors", "MIT, as Handful")
    identity = EncoderIdentity("gradients", hashlib.sha256(b"gradients 1: 64, 8x8x9, 4x4x3").hexdigest(), 624)

    def embed(self, contents: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Of [3, 64, 64] pictures."""
        parts = [_edges_and_colors(np.stack(contents[at : at + BATCH])) for at in range(0, len(contents), BATCH)]
        return np.concatenate(parts)


def _edges_and_colors(pictures: NDArray[np.uint8]) -> Vectors:
    x = pictures.astype(np.float32) / 255  # [n, 3, 64, 64]
    dy, dx = np.gradient(x.mean(1), axis=(1, 2))
    strength, turn = np.hypot(dx, dy), np.arctan2(dy, dx) % np.pi * (9 / np.pi)
    cells = np.empty((len(x), 9, 8, 8), np.float32)
    for direction in range(9):  # each edge counts for the two directions beside its own
        apart = np.abs(turn - direction)
        share = np.maximum(1 - np.minimum(apart, 9 - apart), 0)
        cells[:, direction] = (strength * share).reshape(len(x), 8, 8, 8, 8).sum((2, 4))
    energy = np.pad(np.square(cells).sum(1), ((0, 0), (1, 1), (1, 1)))
    around = sum(energy[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3))
    edges = (cells / np.sqrt(around + 0.1)[:, None]).reshape(len(x), -1)
    colors = (x.reshape(len(x), 3, 4, 16, 4, 16).mean((3, 5)) - 0.5).reshape(len(x), -1)
    found = np.concatenate([edges, colors], 1)
    unit: Vectors = (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)).astype(np.float32)
    return unit
