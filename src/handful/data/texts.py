"""Texts as examples: vectors of a frozen sentence encoder, or the numbers of their words.

Word numbers need no vocabulary: a word is its CRC-32, so that a text of any source, now or later, has the same
numbers everywhere. Of 5,000 different words some 14% share their number with another.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..encoders import intents
from ..encoders.hub_texts import token_numbers
from ..encoders.sentences import sentence_vectors
from ..errors import DataError, ShapeError, unknown_name
from ..progress import progress
from .cache import cached_pool
from .pool import ClassPool

__all__ = [
    "VOCABULARY",
    "WORD",
    "Reading",
    "check_text",
    "check_texts",
    "grouped",
    "text_pool",
    "word_numbers",
    "words_of",
]

Reading = Literal["vectors", "words", "tokens"]
"""What becomes of a text: [F] features of a sentence encoder, or [length] numbers of words or of a model's tokens."""

VOCABULARY = 32768
LONGEST = 20_000
"""Characters that a text may have."""
WORD = re.compile(r"\w+|[^\w\s]")


def words_of(text: str) -> list[str]:
    """The words and signs of a text, in small letters."""
    return WORD.findall(text.lower())


def word_numbers(texts: Sequence[Sequence[str]], length: int) -> Tensor:
    """[M, length] int32 numbers in [1, 32768) of each text's first words, 0 where it has no more."""
    if not 1 <= length <= 4096:
        raise ShapeError(f"texts: expected a length of 1 to 4096 words, got {length}")
    numbers = torch.zeros(len(texts), length, dtype=torch.int32)
    for row, words in enumerate(texts):
        found = [1 + zlib.crc32(word.lower().encode()) % (VOCABULARY - 1) for word in words[:length]]
        numbers[row, : len(found)] = torch.tensor(found, dtype=torch.int32)
    return numbers


def check_text(value: object, name: str) -> str:
    """The text of a cell of the column `name`; refused as `check_texts` does."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError(f"no {name}")
    if not isinstance(value, str):
        raise DataError(f"{name} is not text, got {str(value)[:40]!r}")
    if len(value) > LONGEST:
        raise DataError(f"{name} has more than {LONGEST:,} characters")
    return value


def check_texts(texts: Sequence[object], what: str) -> list[str]:
    """The texts, if each is one.

    Raises:
        DataError: not a text, an empty or a far too long one; names their rows from 1 on.
    """
    problems = {
        "are not text": [row for row, text in enumerate(texts, 1) if not isinstance(text, str)],
        "are empty": [row for row, text in enumerate(texts, 1) if isinstance(text, str) and not text.strip()],
        f"have more than {LONGEST:,} characters": [
            row for row, text in enumerate(texts, 1) if isinstance(text, str) and len(text) > LONGEST
        ],
    }
    for problem, rows in problems.items():
        if rows:
            more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
            raise DataError(f"{what}: rows {', '.join(map(str, rows[:5]))}{more} {problem}; mend or remove them")
    return [str(text) for text in texts]


def text_pool(
    texts: Sequence[object],
    labels: Sequence[str],
    *,
    what: str,
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 64,
) -> ClassPool:
    """A pool of texts, without splits. Vectors are made once, and found again by the hash of texts and labels.

    Args:
        texts: M of them.
        labels: M class names.
        what: what they are, in errors and beside the bar.
        reading: "vectors" [F] by a frozen sentence encoder; "words" [length] for an encoder that learns them;
            "tokens" [length] for a transformer that is trained on, `HubTexts`.
        model: the sentence encoder, see `sentence_vectors`; with "tokens", whose tokenizer.
        length: with "words" or "tokens", how many are kept.

    Raises:
        DataError: no texts, or some that are none.
        MissingExtraError: vectors without the extra `text`.
    """
    checked = check_texts(texts, what)
    if reading == "words":
        return grouped(word_numbers([words_of(text) for text in checked], length), labels)
    if reading == "tokens":
        return grouped(token_numbers(checked, length, model), labels)
    if reading != "vectors":
        raise unknown_name("reading of texts", reading, ("vectors", "words", "tokens"))
    made_by = f"{model} {intents.SHA256}" if model == intents.NAME else model
    digest = hashlib.sha256(json.dumps([made_by, checked, list(labels)]).encode()).hexdigest()

    def make() -> ClassPool:
        with progress(f"embedding {what}", len(checked)) as advance:
            return grouped(sentence_vectors(checked, model=model, advance=advance), labels)

    return cached_pool(f"texts-{digest[:16]}", {"sha256": digest, "model": model}, make)


def grouped(x: Tensor, labels: Sequence[str]) -> ClassPool:
    """As `ClassPool.from_labels`, but integers stay integers."""
    if len(x) == 0:
        raise DataError("texts: expected at least one, got none")
    names = sorted(set(labels))
    number = {name: index for index, name in enumerate(names)}
    y = torch.tensor([number[label] for label in labels])
    return ClassPool.grouped(x[y.argsort(stable=True)], torch.bincount(y).tolist(), names)
