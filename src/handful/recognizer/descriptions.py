"""Classes known by name: descriptions stand in a collection beside the examples, and count as no example.

So they are added, removed, renamed, merged and undone with them. An encoder can describe if it takes texts, or if it
has `embed_text(texts) -> [n, F]`, which puts texts where its pictures are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..collection import Example, NewExample, Snapshot
from ..errors import DataError
from ..files import storage_errors
from ..rows import KINDS, LABELS, decoded, numbered_columns
from .embedders import Embedder, embedder_for
from .in_memory import class_name

__all__ = [
    "NAMES",
    "Descriptions",
    "described",
    "describer_for",
    "is_description",
    "name_vectors",
    "read_descriptions",
    "without_them",
]

NAMES = "names"
"""The head of a collection with descriptions."""
MARK = "description:"
NAMED, TEXTS = (*LABELS, "name"), ("description", "text")

Descriptions = Mapping[str, str | Sequence[str]] | Sequence[str]


def read_descriptions(source: str | Path | Descriptions, *, encoding: str = "utf-8") -> list[tuple[str, str]]:
    """Labels and what each is described by; a label without a description by itself, `_` read as a space.

    Args:
        source: a table (.csv, .tsv, .jsonl, .parquet) with the columns label and description; any other file has a
            class in each line, its description after a tab if it has one; or in memory {label: one or more
            descriptions}, or labels.
        encoding: of a file, as in `numbered_columns`.

    Raises:
        DataError: nothing there, no words, another encoding. StorageError: cannot be read.
        MissingExtraError: Parquet without the extra `tables`.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        pairs = (_table if path.suffix.lower() in KINDS else _lines)(path, encoding)
    elif isinstance(source, Mapping):
        groups = {label: [text] if isinstance(text, str) else list(text) for label, text in source.items()}
        pairs = [(class_name(label, "descriptions"), text) for label, group in groups.items() for text in group]
    else:
        pairs = [(class_name(label, "descriptions"), "") for label in source]
    found = [(label.strip(), (text or label.replace("_", " ")).strip()) for label, text in pairs]
    for label, text in found:
        if not label:
            raise DataError(f"class {text[:50]!r}: expected a name before its description, got none")
        if not any(character.isalnum() for character in text):
            raise DataError(f"class {label!r}: expected a description in words, got {text[:50]!r}")
    if not found:
        raise DataError("classes: expected a name in each line, found none")
    return found


def _lines(path: Path, encoding: str) -> list[tuple[str, str]]:
    with storage_errors(path, "read"):
        content = path.read_bytes()
    parts = [line.partition("\t") for line in decoded(path, content, encoding).splitlines() if line.strip()]
    return [(label, more) for label, _, more in parts]


def _table(path: Path, encoding: str) -> list[tuple[str, str]]:
    columns, numbers = numbered_columns(path, encoding=encoding)
    named = {name.strip().lower(): name for name in reversed(columns)}
    label, text = (next((named[name] for name in names if name in named), None) for names in (NAMED, TEXTS))
    if label is None:
        listed = ", ".join(columns)[:200] or "none"
        raise DataError(f"{path}: expected a column 'label' (and 'description') in its first line, got {listed}")
    labels = [class_name(value, f"{path}:{number}") for value, number in zip(columns[label], numbers, strict=True)]
    texts = ["" if value is None else str(value) for value in columns[text]] if text else [""] * len(labels)
    return list(zip(labels, texts, strict=True))


def describer_for(encoder: str | None) -> Embedder:
    """The encoder by name that will embed examples, of whichever kind, and can embed descriptions.

    Raises:
        UnknownNameError, CheckpointError: no such encoder.
        DataError: it knows no words.
    """
    try:
        return embedder_for("texts", encoder, 0)
    except DataError:
        found = embedder_for("pictures", encoder, 0)
    _describing(found)
    return found


def described(embedder: Embedder, descriptions: Sequence[tuple[str, str]]) -> list[NewExample]:
    """Descriptions as a collection keeps them. Raises DataError if the encoder knows no words."""
    texts = [text for _, text in descriptions]
    vectors = _describing(embedder)(texts)
    for (label, text), vector in zip(descriptions, vectors, strict=True):
        if not vector.any():
            raise DataError(f"class {label!r}: the encoder makes nothing of {text[:50]!r}; describe it in other words")
    return [
        NewExample(label, vector, "description", MARK + hashlib.sha256(text.encode()).hexdigest(), text[:300])
        for (label, text), vector in zip(descriptions, vectors, strict=True)
    ]


def is_description(example: Example) -> bool:
    """Whether it describes its class instead of being of it."""
    return example.sha256.startswith(MARK)


def without_them(snapshot: Snapshot) -> Snapshot:
    """The examples alone."""
    rows = [row for row, one in enumerate(snapshot.examples) if not is_description(one)]
    if len(rows) == len(snapshot.examples):
        return snapshot
    return Snapshot(snapshot.version, tuple(snapshot.examples[row] for row in rows), snapshot.vectors[rows])


def name_vectors(snapshot: Snapshot) -> NDArray[np.float32] | None:
    """For each class the mean of its descriptions at length 1, [K, F]; None if there is none at all.

    A class whose descriptions were removed is where the others are on average: it is then known by its examples.
    """
    number = {name: index for index, name in enumerate(snapshot.labels)}
    rows = [row for row, one in enumerate(snapshot.examples) if is_description(one)]
    if not rows:
        return None
    vectors = snapshot.vectors[rows] / np.linalg.norm(snapshot.vectors[rows], axis=1, keepdims=True)
    found = np.zeros((len(number), vectors.shape[1]), np.float32)
    np.add.at(found, [number[snapshot.examples[row].label] for row in rows], vectors)
    found[~found.any(1)] = vectors.mean(0)
    return found


def _describing(embedder: Embedder) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    if embedder.kind == "texts":
        return embedder.embed
    own: Callable[[Sequence[str]], NDArray[np.float32]] | None = getattr(embedder, "embed_text", None)
    if own is None:
        raise DataError(
            f"encoder {embedder.identity.name!r} takes {embedder.kind} and knows no words, so that names say nothing "
            "to it; expected one of texts, or one that puts pictures and texts into one space"
        )
    return own
