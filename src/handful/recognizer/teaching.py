"""A recognizer is taught, or opened again: an encoder, the name of a head, and examples and descriptions as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..collection import NewExample, collection_path, create_collection, open_collection, refuse_existing, speller
from ..errors import CollectionError, DataError
from .answers import checked_epsilon
from .descriptions import NAMES, Descriptions, described, describer_for, read_descriptions
from .embedders import Embedder, embedded, embedder_for
from .fitting import embedder_and_head, refuse_ways
from .in_memory import readable_twice
from .inputs import Item, kind_of, taught, without_copies
from .pixels import readable
from .recognizer import Recognizer
from .thumbnails import with_thumbnails

if TYPE_CHECKING:
    from ..learner import Learner

__all__ = ["open_recognizer", "teach"]


def teach(
    source: object = None,
    to: str | Path = ":memory:",
    *,
    encoder: str | None = None,
    head: str | None = None,
    learner: Learner | None = None,
    descriptions: str | Path | Descriptions | None = None,
    epsilon: float = 0.1,
    skip_unreadable: bool = False,
    nested: bool = False,
    encoding: str = "utf-8",
) -> Recognizer:
    """Teach a new recognizer.

    Args:
        source: a folder of pictures (`photos/mug/1.jpg`), a table of texts or molecules (`.csv`, `.tsv`, `.jsonl`,
            `.parquet`, columns text or smiles, and label), vectors (`.npz`, arrays x and y); or in memory {label:
            examples}, or (examples, labels), where examples are texts (SMILES, if the encoder is one of molecules),
            vectors, or paths of pictures.
        to: the collection to make; in memory by default.
        encoder: a built-in encoder's name or a checkpoint's folder; by default what fits the kind of examples.
        head: squared, cosine or ridge; auto, the best of these; a learner of the catalog that needs no training; by
            default a checkpoint's own learner, or auto.
        learner: a learner in memory, trained, instead of encoder and head.
        descriptions: what classes are called or what they are like, which makes a first recognizer without examples:
            as `read_descriptions`. Leave out the head then, and the source if there is no example yet.
        epsilon: how often a known thing may be refused wrongly, and the true class be missing among the candidates.
        skip_unreadable: leave out pictures that cannot be read, with a warning that names each.
        nested: classes are the innermost folders, named 'birds/robin'; otherwise the outermost, with all they hold.
        encoding: of a CSV, TSV or JSONL file, and of a file of descriptions.

    Raises:
        DataError: nothing to learn from, something unreadable, one thing in two classes.
        UnknownNameError, CheckpointError: no such encoder or head.
        StorageError: a collection is there already, or nothing can be written.
    """
    epsilon = checked_epsilon(epsilon)
    if str(to) != ":memory:":
        refuse_existing(collection_path(to))  # before all the work, that is; `create_collection` asks again
    embedder, chosen, rows = _to_teach(source, encoder, head, learner, descriptions, skip_unreadable, nested, encoding)
    settings = {"kind": embedder.kind, "encoder": embedder.identity.name, "head": chosen, "epsilon": epsilon}
    return Recognizer(create_collection(to, embedder.identity, settings, rows), embedder)


def open_recognizer(place: str | Path, *, encoder: str | None = None, learner: Learner | None = None) -> Recognizer:
    """A recognizer that was taught before.

    Args:
        place: its collection.
        encoder: the encoder's place, if it has moved.
        learner: the learner in memory that it was taught with.

    Raises:
        CollectionError: no such collection, damaged, or its vectors were made by another encoder.
        StorageError, CheckpointError: cannot be read.
    """
    collection = open_collection(place)
    try:
        settings, identity = collection.settings, collection.encoder
        missing = [name for name in ("kind", "encoder", "head", "epsilon") if name not in settings]
        if missing:
            raise CollectionError(
                f"{collection.place}: expected settings as handful teach writes them, there is no "
                f"{', '.join(map(repr, missing))}; take an older copy of it, or teach it again"
            )
        name = encoder or (settings["encoder"] if learner is None else None)
        embedder, _ = embedder_and_head(settings["kind"], name, settings["head"], learner, identity.features)
        identity.refuse(embedder.identity, collection.place)
        return Recognizer(collection, embedder)
    except BaseException:
        collection.close()
        raise


def _to_teach(
    source: object,
    encoder: str | None,
    head: str | None,
    learner: Learner | None,
    descriptions: str | Path | Descriptions | None,
    skip_unreadable: bool,
    nested: bool,
    encoding: str,
) -> tuple[Embedder, str, Sequence[NewExample]]:
    """Arguments and errors: those of `teach`."""
    source = readable_twice(source)
    if descriptions is None:
        if source is None:
            raise DataError("teach: expected examples, or descriptions of classes; got neither")
        if head == NAMES:
            raise DataError("head 'names': expected descriptions of the classes (--classes names.txt)")
        kind = kind_of(source, encoder, encoding=encoding)
        items = taught(source, kind, encoding=encoding, nested=nested)
        features = len(items[0].content) if kind == "vectors" else 0
        embedder, chosen = embedder_and_head(kind, encoder, head, learner, features)
        items = _usable(items, embedder, source, skip_unreadable)
        refuse_ways(embedder, len({item.label for item in items}))
        return embedder, chosen, with_thumbnails(embedded(embedder, items, chosen), items)
    if head is not None or learner is not None:
        raise DataError("teach: descriptions have a rule of their own; leave out head and learner")
    told = read_descriptions(descriptions, encoding=encoding)
    if source is None:
        embedder = describer_for(encoder)
        return embedder, NAMES, described(embedder, told)
    kind = kind_of(source, encoder, encoding=encoding)
    embedder = embedder_for(kind, encoder, 0)
    items = _usable(taught(source, kind, encoding=encoding, nested=nested), embedder, source, skip_unreadable)
    named = {item.label.strip() for item in items}
    spelled = speller(named)
    told = [(spelled(label), text) for label, text in told]
    untold = named - {label for label, _ in told}
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
