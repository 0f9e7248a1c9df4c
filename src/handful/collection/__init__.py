"""A person's taught classes: examples with where they come from, and every change that was made."""

from .database import refuse_existing
from .interface import Change, Collection, EncoderIdentity, Example, NewExample, Snapshot, speller
from .sqlite import SQLiteCollection, collection_path, create_collection, open_collection

__all__ = [
    "Change",
    "Collection",
    "EncoderIdentity",
    "Example",
    "NewExample",
    "SQLiteCollection",
    "Snapshot",
    "collection_path",
    "create_collection",
    "open_collection",
    "refuse_existing",
    "speller",
]
