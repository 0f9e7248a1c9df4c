"""What a collection is, wherever it is stored.

A collection is a sequence of versions. Each change is one transaction that makes the next version: it is there whole
or not at all, and when the call returns it is on the disk. An example never changes; versions say under which label
it stands. So any version can be read again, and undoing is one more change.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import CollectionError, DataError

__all__ = ["Change", "Collection", "EncoderIdentity", "Example", "NewExample", "Snapshot", "checked_label", "speller"]

LONGEST_LABEL = 1000
JOINERS = dict.fromkeys((0x200C, 0x200D))
"""What Persian, Hindi and emoji are spelled with, and Python holds for unprintable."""


@dataclass(frozen=True)
class EncoderIdentity:
    """What made the vectors. Vectors of two encoders have nothing to do with each other.

    Attributes:
        name: the encoder's name, or the checkpoint's place.
        sha256: of its weights, or of what else decides its vectors.
        features: F, the length of a vector.
    """

    name: str
    sha256: str
    features: int

    def refuse(self, other: EncoderIdentity, place: str) -> None:
        """Raises `CollectionError` if `other` is not the one that made the vectors of the collection at `place`."""
        if (self.sha256, self.features) != (other.sha256, other.features):
            raise CollectionError(
                f"{place}: its vectors were made by {self._shown()}, and this is {other._shown()}: they cannot be "
                f"compared. Use the encoder that made them, or teach a new collection with this one: "
                f"handful teach SOURCE --to ANOTHER --with {other.name}"
            )

    def _shown(self) -> str:
        return f"encoder {self.name!r} (weights {self.sha256[:12]}, {self.features} features)"


class NewExample(NamedTuple):
    """An example to keep.

    Attributes:
        vector: [F].
        source: where it came from: a path, a line of a file.
        sha256: of its content.
        preview: what to show of it: a text, or a small JPEG picture.
    """

    label: str
    vector: NDArray[np.float32]
    source: str
    sha256: str
    preview: str | bytes | None = None


class Example(NamedTuple):
    """An example that is kept."""

    id: int
    label: str
    source: str
    sha256: str
    added: str  # ISO 8601, UTC
    by: str


class Change(NamedTuple):
    """What made a version."""

    version: int
    time: str  # ISO 8601, UTC
    by: str
    action: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """A version of a collection.

    Attributes:
        version: its number.
        examples: in the order they were added.
        vectors: [n, F].
    """

    version: int
    examples: tuple[Example, ...]
    vectors: NDArray[np.float32]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, sorted."""
        return tuple(sorted({example.label for example in self.examples}))


class Collection(ABC):
    """A store of one collection. Every change returns the version it made.

    Every method may raise `StorageError` (disk full, no permission, in use elsewhere) and `CollectionError`
    (damaged); a change that raises has changed nothing.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, for messages."""

    @property
    @abstractmethod
    def encoder(self) -> EncoderIdentity:
        """What made the vectors."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """JSON values that were given when it was made."""

    @property
    @abstractmethod
    def version(self) -> int:
        """The newest version."""

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """The classes of the newest version, sorted; without reading the examples."""

    @abstractmethod
    def find(self, sha256: str) -> Example | None:
        """An example of this content in the newest version, if there is one."""

    @abstractmethod
    def read(self, version: int | None = None, *, known: Snapshot | None = None) -> Snapshot:
        """The newest version, or an older one; of a version that is known only what changed since is read."""

    @abstractmethod
    def preview(self, example: int) -> str | bytes | None:
        """What to show of an example."""

    @abstractmethod
    def add(self, examples: Sequence[NewExample], *, action: str = "add", new: Container[str] = ()) -> int:
        """Keep examples.

        Args:
            examples: one or more.
            action: what the history calls it.
            new: contents (sha256) that no example may have yet; also if another process adds them at the same time.

        Raises:
            DataError: none, not finite, of another length; a label that cannot be used; a content that is not new.
        """

    @abstractmethod
    def remove(self, examples: Sequence[int]) -> int:
        """Take examples out: from this version on they have no influence whatever."""

    @abstractmethod
    def rename(self, label: str, new: str) -> int:
        """Give a class another name, which no class has yet."""

    @abstractmethod
    def merge(self, labels: Sequence[str], into: str) -> int:
        """Make one class of several; `into` may be one of them."""

    @abstractmethod
    def undo(self) -> int:
        """Take back the newest change that has not been taken back. The teaching itself stays."""

    @abstractmethod
    def history(self) -> list[Change]:
        """All changes, the first first."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the store."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def checked_label(label: object) -> str:
    """The label without spaces around it.

    Raises:
        DataError: not a name for a class.
    """
    if not isinstance(label, str):
        raise DataError(f"label: expected a text, got {label!r}")
    name = label.strip()
    seen = name.translate(JOINERS)
    if not seen or not seen.isprintable():
        raise DataError(f"label {label!r}: expected a name of printable characters, in one line")
    if len(name) > LONGEST_LABEL:
        raise DataError(f"label {name[:30]!r}...: expected at most {LONGEST_LABEL} characters, got {len(name)}")
    return name


def speller(labels: Iterable[str]) -> Callable[[str], str]:
    """What gives a label as one of these is written, if both are the same text to Unicode, and else as it is.

    Some file systems write "ö" as "o" and two dots, which nobody sees: that is no class of its own. What is given
    without being known is known from then on.
    """
    exact = set(labels)
    written = {unicodedata.normalize("NFC", label): label for label in exact}

    def spelled(label: str) -> str:
        return label if label in exact else written.setdefault(unicodedata.normalize("NFC", label), label)

    return spelled
