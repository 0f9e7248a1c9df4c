"""Vectors made before, found again by what decides them: the encoder, its preprocessing, the content.

One SQLite file in the data folder. It holds nothing that could not be made again, so nothing about it is ever an
error: what is damaged is deleted, what cannot be written is made anew each time, and a warning says so.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageError
from ..files import data_folder
from ..progress import progress
from .inputs import Item
from .pixels import with_pixels

if TYPE_CHECKING:
    from .embedders import Embedder

__all__ = ["Usage", "VectorCache", "cache_file", "usage", "vectors_of"]

Vectors = NDArray[np.float32]
CHUNK = 256
"""Examples read and embedded together, and then kept: what was done is not lost if the program is stopped."""
MEGABYTES = 1024
VARIABLE = "HANDFUL_CACHE_MB"
FEWEST = 8
"""Fewer are made sooner than looked up and kept."""
WAIT = 5.0
"""Seconds for other processes to be done with the file."""
PREPARATION = 2
"""Counts up when pictures are decoded or fitted in another way, or a model gives other features of them."""
QUICK = ("vectors", "ngrams", "morgan", "maccs")
"""Encoders that are faster than a look into the cache."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
    encoder TEXT NOT NULL, content TEXT NOT NULL, vector BLOB NOT NULL, checksum INTEGER NOT NULL,
    used INTEGER NOT NULL, PRIMARY KEY (encoder, content)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON vectors (used);
"""


def cache_file() -> Path:
    """Where the vectors are kept. Raises StorageError as `data_folder`."""
    return data_folder() / "embeddings.sqlite"


def limit() -> int:
    """The greatest size of the file in bytes: `HANDFUL_CACHE_MB` megabytes, or 1024; 0 for no cache."""
    try:
        return max(0, int(float(os.environ.get(VARIABLE) or MEGABYTES) * 1_000_000))
    except (ValueError, OverflowError):
        warnings.warn(f"{VARIABLE}: expected a number of megabytes, got {os.environ[VARIABLE]!r}", stacklevel=2)
        return MEGABYTES * 1_000_000


class Usage(NamedTuple):
    """What `handful doctor` tells of the cache."""

    path: Path
    bytes: int
    limit: int


def usage() -> Usage:
    """Where the cache is, how large it is and may become. Raises StorageError as `data_folder`."""
    path = cache_file()
    sizes = [file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.is_file()]
    return Usage(path, sum(sizes), limit())


def vectors_of(embedder: Embedder, items: Sequence[Item], *, skippable: bool = True) -> Vectors:
    """The vectors of examples, [n, F]; only new ones pass the encoder, each content once, with a progress bar.

    `skippable` is that of `with_pixels`.

    Raises:
        DataError: one that cannot be read.
    """
    if embedder.identity.name in QUICK:
        return embedder.embed([item.content for item in items])
    size = 0 if len(items) < FEWEST or getattr(embedder, "exported", False) else limit()
    if size == 0:
        return _made(embedder, items, None, skippable)
    try:
        path = cache_file()
    except StorageError as error:
        warnings.warn(f"no cache of vectors, so they are made anew each time: {error}", stacklevel=2)
        return _made(embedder, items, None, skippable)
    about = f"{embedder.identity.sha256} {embedder.identity.features} {embedder.form} {PREPARATION}"
    key = hashlib.sha256(about.encode()).hexdigest()
    return _made(embedder, items, VectorCache(path, key, embedder.identity.features, size), skippable)


def _made(embedder: Embedder, items: Sequence[Item], cache: VectorCache | None, skippable: bool) -> Vectors:
    found = dict(cache.get([item.sha256 for item in items])) if cache else {}
    new = list({item.sha256: item for item in items if item.sha256 not in found}.values())
    with progress(f"embedding by {embedder.identity.name}" if len(new) > CHUNK else None, len(new)) as advance:
        for start in range(0, len(new), CHUNK):
            part = new[start : start + CHUNK]
            vectors = embedder.embed(with_pixels(part, embedder.form, skippable=skippable))
            made = {item.sha256: vector for item, vector in zip(part, vectors, strict=True)}
            found |= made
            if cache:
                cache.put(made)
            advance(len(part))
    return np.stack([found[item.sha256] for item in items])


@final
class VectorCache:
    """The vectors of one encoder in the file. Several processes may use it at once.

    Args:
        path: of the file, made if need be.
        encoder: what decides vectors besides the content.
        features: F.
        limit: bytes that the file may have; the vectors not used for the longest time go first.
    """

    def __init__(self, path: Path, encoder: str, features: int, limit: int) -> None:
        self.path, self.encoder, self.features, self.limit = path, encoder, features, limit
        self.broken = False

    def get(self, contents: Sequence[str]) -> Mapping[str, Vectors]:
        """Those that are there, by the hash of their content; they count as used now."""
        found: dict[str, Vectors] = {}
        with self._opened() as sql:
            if sql is None:
                return found
            asked = list(dict.fromkeys(contents))
            for start in range(0, len(asked), 500):
                part = asked[start : start + 500]
                marks = ",".join("?" * len(part))
                rows = sql.execute(
                    f"SELECT content, vector, checksum FROM vectors WHERE encoder = ? AND content IN ({marks})",
                    [self.encoder, *part],
                ).fetchall()
                for content, vector, checksum in rows:
                    if zlib.crc32(vector) == checksum and len(vector) == 4 * self.features:
                        found[content] = np.frombuffer(vector, np.float32)
            self._touch(sql, list(found))
        return found

    def put(self, vectors: Mapping[str, Vectors]) -> None:
        """Keep vectors by the hash of their content."""
        now = time.time_ns()
        with self._opened() as sql:
            if sql is None:
                return
            rows = [(self.encoder, content, z.astype(np.float32).tobytes()) for content, z in vectors.items()]
            sql.execute("BEGIN IMMEDIATE")
            sql.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)",
                [(*row, zlib.crc32(row[2]), now) for row in rows],
            )
            sql.execute("COMMIT")
            self._shrink(sql)

    def _touch(self, sql: sqlite3.Connection, contents: Sequence[str]) -> None:
        sql.execute("BEGIN IMMEDIATE")
        sql.executemany(
            "UPDATE vectors SET used = ? WHERE encoder = ? AND content = ?",
            [(time.time_ns(), self.encoder, content) for content in contents],
        )
        sql.execute("COMMIT")

    def _shrink(self, sql: sqlite3.Connection) -> None:
        """Forget the oldest tenth until what is left has room; its pages are written over."""

        def pages(name: str) -> int:
            return int(sql.execute(f"PRAGMA {name}").fetchone()[0])

        while (pages("page_count") - pages("freelist_count")) * pages("page_size") > self.limit:
            count = int(sql.execute("SELECT count(*) FROM vectors").fetchone()[0])
            if count == 0:
                return
            sql.execute(
                "DELETE FROM vectors WHERE (encoder, content) IN "
                "(SELECT encoder, content FROM vectors ORDER BY used LIMIT ?)",
                [max(1, count // 10)],
            )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection | None]:
        """A connection; None, or an end of the block before its time, where the file cannot be used."""
        if self.broken:
            yield None
            return
        sql = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            sql = sqlite3.connect(self.path, isolation_level=None, timeout=WAIT)
            _prepare(sql)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            if sql is not None:
                sql.close()
            yield None
            return
        try:
            yield sql
        except sqlite3.Error as error:
            self._give_up(error)
        finally:
            sql.close()

    def _give_up(self, error: Exception) -> None:
        """Damaged: begun anew. Anything else: done without."""
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm"):
                try:
                    self.path.with_name(name).unlink(missing_ok=True)
                except OSError:
                    break
            what = "was damaged, and is begun anew"
        else:
            self.broken = True
            what = "cannot be used, so vectors are made anew each time"
        warnings.warn(f"cache of vectors {self.path}: {what} ({error}); HANDFUL_CACHE_MB=0 does without", stacklevel=4)


def _prepare(sql: sqlite3.Connection) -> None:
    """Many may read while one writes, and the table is there.

    While one process turns the write-ahead log on, SQLite tells another at once that the file is locked, whatever
    its timeout; so this asks again.
    """
    end = time.monotonic() + WAIT
    while True:
        try:
            sql.execute("PRAGMA journal_mode = WAL")
            sql.execute("PRAGMA synchronous = NORMAL")
            sql.executescript(SCHEMA)
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.005)
