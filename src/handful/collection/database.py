"""The SQLite file below a collection: its tables, its transactions, and what its errors mean.

Write-ahead log with full synchronization: when a change returns, it has been flushed to the disk. The system is asked
for that; whether a disk keeps its word when the power fails is not for a program to say.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, final

from ..errors import CollectionError, StorageError
from ..files import alone, flush, storage_errors, temporary_beside
from .interface import EncoderIdentity

__all__ = ["Database", "connect", "in_memory", "put_in_place", "refuse_existing"]

FORMAT = 1
APPLICATION = 0x48414E44  # "HAND": tells the file from other SQLite files
WAIT = 10.0
_WRITABLE = "it and its folder must be writable, and the disk must have space"
REMEDIES = {
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_IOERR: "free some space, or see whether the disk is in order",
}
"""What helps where the file may be as good as ever."""
SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE examples (
    id INTEGER PRIMARY KEY AUTOINCREMENT, vector BLOB NOT NULL, checksum INTEGER NOT NULL, source TEXT NOT NULL,
    sha256 TEXT NOT NULL, added TEXT NOT NULL, by TEXT NOT NULL, preview ANY
) STRICT;
CREATE TABLE placements (
    example INTEGER NOT NULL REFERENCES examples, label TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER,
    PRIMARY KEY (example, since)
) STRICT, WITHOUT ROWID;
CREATE INDEX content ON examples (sha256);
CREATE INDEX placed ON placements (until, example);
CREATE TABLE changes (
    version INTEGER PRIMARY KEY, time TEXT NOT NULL, by TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL,
    undoes INTEGER UNIQUE
) STRICT;
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there; where its folder may not be written, or is full, to a copy in memory.

    SQLite needs a file beside it for its readers to know of writers. So a copy stays what it was when it was opened.

    Raises:
        StorageError: it cannot be opened.
    """
    beside = (path.with_name(f"{path.name}{end}").exists() for end in ("-wal", "-shm"))
    try:
        if not os.access(path.parent, os.W_OK) and not any(beside):
            return _copied(path)
        connection = _connected(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=WAIT)
        return _copied(path) if _lacks_room(connection, path) else connection
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"{path}: cannot be opened ({error}); it and its folder must be readable, and the disk have space"
        ) from None


def _lacks_room(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is whole but cannot be read for want of another beside it; then closes the connection."""
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.DatabaseError as error:  # what others mean, a `Database` says
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            return False
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:  # what it holds is not in the file yet
            raise
        return True
    return False


def _copied(path: Path) -> sqlite3.Connection:
    content = bytearray(path.read_bytes())
    content[18:20] = b"\x01\x01"  # no write-ahead log, which memory has none of
    copy = in_memory()
    copy.deserialize(bytes(content))
    copy.execute("PRAGMA query_only = ON")
    return copy


def in_memory() -> sqlite3.Connection:
    """A connection to a database that nobody else sees."""
    return _connected(":memory:")


def _connected(place: str, **options: Any) -> sqlite3.Connection:
    """For any thread: a `Database` lets one in at a time. No transactions but those that are said."""
    made: sqlite3.Connection = sqlite3.connect(place, isolation_level=None, check_same_thread=False, **options)
    return made


def refuse_existing(path: Path) -> None:
    """See that there is no collection yet.

    Raises:
        StorageError: there is one, or nobody can tell.
    """
    with storage_errors(path):
        if path.exists():
            raise StorageError(
                f"{path}: there is a collection already; add to it (handful add), remove the file, or name another"
            )


@contextmanager
def put_in_place(path: Path) -> Iterator[Path]:
    """Where to write a file that stands at `path` when the block is done, whole, and nowhere if it is not.

    Raises:
        StorageError: there is one already; nothing can be written there.
    """
    temporary = temporary_beside(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path):
            _discard(path.parent.glob(f".{escape(path.name)}.*.tmp*"))  # of processes that were killed
            refuse_existing(path)
            try:
                temporary.touch()
                yield temporary
                temporary.rename(path)
                flush(path.parent)
            finally:
                _discard(path.parent.glob(f"{escape(temporary.name)}*"))


def _discard(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _let_go(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        connection.close()


@final
class Database:
    """A connection that knows what it must find, and says in our words what went wrong.

    Args:
        connection: to a file, or to memory.
        place: for messages.
        new: make the tables, for vectors of this encoder and with these settings.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        place: str,
        new: tuple[EncoderIdentity, Mapping[str, Any]] | None = None,
    ) -> None:
        self.place, self.sql, self._lock = place, connection, threading.RLock()
        connection.text_factory = bytes  # the name of a file may be no UTF-8
        self._process = os.getpid() if connection.execute("PRAGMA database_list").fetchone()[2] else None
        connection.text_factory = str
        weakref.finalize(self, _let_go, connection)  # who forgets to close it need not hear of it
        try:
            with self.errors():
                if new is not None:
                    self._make(*new)
                self.about = self._verified()
                if new is None and connection.execute("SELECT 1 FROM changes LIMIT 1").fetchone() is None:
                    raise CollectionError(f"{place}: teaching was interrupted; remove the file and teach again")
                connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise

    def damaged(self, why: object) -> CollectionError:
        """The error to raise."""
        return CollectionError(f"{self.place}: damaged ({why}); use a copy of it, or teach it again from its sources")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns SQLite's errors into ours. One thread at a time is in here."""
        if self._process not in (None, os.getpid()):  # the locks are the parent's: what is written could be lost
            raise CollectionError(
                f"{self.place}: was opened before this process was forked; open it anew, by open_recognizer, in each"
            )
        try:
            with self._lock:
                yield
        except sqlite3.ProgrammingError as error:
            if "closed" not in str(error):
                raise
            raise CollectionError(f"{self.place}: the collection is closed; open it again") from None
        except sqlite3.DatabaseError as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StorageError(f"{self.place}: another process is changing it; try again in a moment") from None
            if code in REMEDIES:
                raise StorageError(f"{self.place}: cannot be read or written ({error}); {REMEDIES[code]}") from None
            raise self.damaged(error) from None

    @contextmanager
    def transaction(self, kind: str) -> Iterator[None]:
        """DEFERRED to read one state, IMMEDIATE to change it: all of the block, or nothing."""
        self.sql.execute(f"BEGIN {kind}")
        try:
            yield
            self.sql.execute("COMMIT")
        except BaseException:
            if self.sql.in_transaction:
                self.sql.execute("ROLLBACK")
            raise

    def _make(self, encoder: EncoderIdentity, settings: Mapping[str, Any]) -> None:
        about = {"format": FORMAT, "encoder": encoder.__dict__, "settings": dict(settings)}
        self.sql.execute("PRAGMA journal_mode = WAL")
        self.sql.execute(f"PRAGMA application_id = {APPLICATION}")
        self.sql.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        self.sql.executemany(
            "INSERT INTO about VALUES (?, ?)", [(name, json.dumps(value)) for name, value in about.items()]
        )

    def _verified(self) -> dict[str, Any]:
        if self.sql.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise CollectionError(f"{self.place}: not a collection of Handful; handful teach makes one")
        try:
            about = {name: json.loads(value) for name, value in self.sql.execute("SELECT name, value FROM about")}
            if about["format"] > FORMAT:
                raise CollectionError(
                    f"{self.place}: written in format {about['format']}, and this program reads up to {FORMAT}: "
                    "upgrade Handful"
                )
            EncoderIdentity(**about["encoder"])
            dict(about["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise self.damaged(f"it does not say what it is: {error}") from None
        return about
