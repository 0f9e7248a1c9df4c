"""What is to be kept of what is taught: an encoder, the name of a head, and examples and descriptions as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..collection import NewExample
from ..errors import DataError
from .descriptions import NAMES, Descriptions, described, describer_for, read_descriptions
from .embedders import Embedder, embedded, embedder_for
from .fitting import embedder_and_head, refuse_ways
from .in_memory import readable_twice
from .inputs import Item, kind_of, taught, without_copies
from .pixels import readable
from .thumbnails import with_thumbnails

if TYPE_CHECKING:
    from ..learner import Learner

__all__ = ["to_teach"]


def to_teach(
    source: object,
    encoder: str | None,
    head: str | None,
    learner: Learner | None,
    descriptions: str | Path | Descriptions | None,
    *,
    skip_unreadable: bool = False,
) -> tuple[Embedder, str, Sequence[NewExample]]:
    """Arguments and errors: those of `teach`."""
    source = readable_twice(source)
    if descriptions is None:
        if source is None:
            raise DataError("teach: expected examples, or descriptions of classes; got neither")
        if head == NAMES:
            raise DataError("head 'names': expected descriptions of the classes (--classes names.txt)")
        items, kind = taught(source, encoder), kind_of(source, encoder)
        features = len(items[0].content) if kind == "vectors" else 0
        embedder, chosen = embedder_and_head(kind, encoder, head, learner, features)
        items = _usable(items, embedder, source, skip_unreadable)
        refuse_ways(embedder, len({item.label for item in items}))
        return embedder, chosen, with_thumbnails(embedded(embedder, items, chosen), items)
    if head is not None or learner is not None:
        raise DataError("teach: descriptions have a rule of their own; leave out head and learner")
    told = read_descriptions(descriptions)
    if source is None:
        embedder = describer_for(encoder)
        return embedder, NAMES, described(embedder, told)
    embedder = embedder_for(kind_of(source, encoder), encoder, 0)
    items = _usable(taught(source, encoder), embedder, source, skip_unreadable)
    untold = {item.label.strip() for item in items} - {label for label, _ in told}
    told += read_descriptions(sorted(untold)) if untold else []
    names = described(embedder, told)
    return embedder, NAMES, [*names, *with_thumbnails(embedded(embedder, items, NAMES), items)]


def _usable(items: list[Item], embedder: Embedder, source: object, skip_unreadable: bool) -> list[Item]:
    """One of each content; without those that cannot be read, if so asked."""
    if skip_unreadable:
        items = readable(items, embedder.form)
        if not items:
            raise DataError(f"{source}: expected pictures that can be read, found none")
    return without_copies(items)
