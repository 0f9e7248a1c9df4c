"""Texts as hashed counts of words and of pieces of words (Weinberger et al. 2009, arXiv:0902.2206), by NumPy alone.

The numbers are those of scikit-learn's `HashingVectorizer`: token t with MurmurHash3 h(t) adds the sign of h(t) to
column |h(t)| mod the number of columns, and rows are scaled to length 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["hashed", "hashes", "pieces", "words"]

AT_ONCE = 64
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text in small letters, and each two that stand side by side."""
    found = _WORD.findall(text.lower())
    return found + [f"{one} {other}" for one, other in pairwise(found)]


def pieces(text: str) -> list[str]:
    """The pieces of 3 to 5 characters of each word between spaces; of a shorter word all of it."""
    found = []
    for word in text.lower().split():
        padded = f" {word} "
        for length in (3, 4, 5):
            if len(padded) <= length:
                found.append(padded)
                break
            found += [padded[start : start + length] for start in range(len(padded) - length + 1)]
    return found


def hashed(texts: Sequence[str], tokens: Callable[[str], list[str]], columns: int) -> NDArray[np.float64]:
    """Signed counts of each text's tokens, of length 1 (or all zeros without a token): [n, columns]."""
    found = np.zeros((len(texts), columns))
    for start in range(0, len(texts), AT_ONCE):
        each = [tokens(text) for text in texts[start : start + AT_ONCE]]
        number = hashes([token for group in each for token in group])
        row = np.repeat(np.arange(start, start + len(each)), [len(group) for group in each])
        np.add.at(found, (row, np.abs(number) % columns), np.where(number < 0, -1, 1))
    length = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-300)
    found /= length
    return found


def hashes(tokens: Sequence[str]) -> NDArray[np.int64]:
    """MurmurHash3 (32 bits, seed 0, Appleby's public domain algorithm) of each token in UTF-8, as signed numbers."""
    encoded = [token.encode("utf-8", "replace") for token in tokens]
    length = np.array([len(token) for token in encoded], np.int64)
    found = np.zeros(len(encoded), np.uint32)
    for blocks in np.unique(length // 4):  # tokens of as many whole words of 32 bits together
        rows = np.flatnonzero(length // 4 == blocks)
        width = 4 * (int(blocks) + 1)
        padded = b"".join(encoded[row].ljust(width, b"\0") for row in rows)
        word = np.frombuffer(padded, "<u4").reshape(len(rows), -1).astype(np.uint32)  # [rows, blocks + 1]
        word = _turned(word * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        h = np.zeros(len(rows), np.uint32)
        for block in range(blocks):
            h = _turned(h ^ word[:, block], 13) * np.uint32(5) + np.uint32(0xE6546B64)
        h ^= word[:, -1] ^ length[rows].astype(np.uint32)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
        found[rows] = h ^ (h >> np.uint32(16))
    return found.view(np.int32).astype(np.int64)


def _turned(x: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    return (x << np.uint32(bits)) | (x >> np.uint32(32 - bits))
