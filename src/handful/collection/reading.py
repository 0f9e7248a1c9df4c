"""A version of a collection out of its file; of a version that is known, only what changed since."""

from __future__ import annotations

import zlib
from collections.abc import Container, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .database import Database
from .interface import Example, Snapshot

__all__ = ["read_version"]

CHANGED = "SELECT DISTINCT example FROM placements WHERE since > ? OR until > ?"
STANDING = (
    "FROM placements JOIN examples ON id = example WHERE since <= ? AND (until IS NULL OR until > ?) "
    f"AND example IN ({CHANGED})"
)
"""The examples of a version that came, went or moved after another one."""


def read_version(database: Database, version: int, features: int, known: Snapshot | None = None) -> Snapshot:
    """A version within a transaction.

    Args:
        database: where it is.
        version: of 1 to the newest.
        features: F, the length of a vector.
        known: an earlier version, of which the vectors need not be read again; a later one is of no use.

    Raises:
        CollectionError: a vector is not what was written.
    """
    if known is not None and known.version == version:
        return known
    if known is None or known.version > version:
        known = Snapshot(0, (), np.empty((0, features), np.float32))
    since = (known.version, known.version)
    asked = (version, version, *since)
    (count,) = database.sql.execute(f"SELECT count(*) {STANDING}", asked).fetchone()
    length, shared = 4 * features, dict[Any, Any]()  # names and times are kept once
    read: list[Example] = []
    content = bytearray(count * length)
    columns = "id, label, source, sha256, added, by, vector, checksum"
    for row, found in enumerate(database.sql.execute(f"SELECT {columns} {STANDING} ORDER BY id", asked)):
        *about, vector, checksum = found
        if len(vector) != length or zlib.crc32(vector) != checksum:
            raise database.damaged(f"the vector of example {about[0]} is not what was written")
        content[row * length : (row + 1) * length] = vector
        read.append(Example(*[shared.setdefault(value, value) for value in about]))
    if len(read) != count:
        raise database.damaged(f"{len(read)} examples found, of {count} counted")
    vectors = np.frombuffer(content, "<f4").reshape(count, features).astype(np.float32, copy=False)
    if known.examples:
        changed = {example for (example,) in database.sql.execute(CHANGED, since)}
        return _merged(version, known, changed, read, vectors)
    vectors.flags.writeable = False
    return Snapshot(version, tuple(read), vectors)


def _merged(
    version: int, known: Snapshot, changed: Container[int], read: Sequence[Example], vectors: NDArray[np.float32]
) -> Snapshot:
    """What is known without what changed, and what was read, by id; with their vectors."""
    rows = [row for row, one in enumerate(known.examples) if one.id not in changed]
    examples = [known.examples[row] for row in rows] + list(read)
    at = np.array(rows + [-1 - row for row in range(len(read))], np.int64)
    if read and rows and read[0].id < known.examples[rows[-1]].id:  # some were there before
        order = sorted(range(len(examples)), key=lambda row: examples[row].id)
        examples, at = [examples[row] for row in order], at[order]
    found = np.empty((len(at), vectors.shape[1]), np.float32)
    np.take(known.vectors, at, 0, out=found, mode="clip")  # no second copy of all
    found[at < 0] = vectors[-1 - at[at < 0]]
    found.flags.writeable = False
    return Snapshot(version, tuple(examples), found)
