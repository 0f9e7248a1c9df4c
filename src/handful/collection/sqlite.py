"""A collection in one SQLite file, `NAME.handful`.

Examples are rows that never change. A placement says under which label an example stands from one version until
another. Vectors are little-endian float32 with a checksum; no pickle.
"""

from __future__ import annotations

import getpass
import json
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import index
from pathlib import Path
from typing import Any, final

import numpy as np

from ..errors import CollectionError, DataError, StorageError, unknown_name
from ..files import storage_errors
from .database import Database, connect, in_memory, put_in_place
from .interface import Change, Collection, EncoderIdentity, Example, NewExample, Snapshot, checked_label, speller
from .reading import read_version

__all__ = ["SQLiteCollection", "collection_path", "create_collection", "open_collection"]


def collection_path(name: str | Path) -> Path:
    """The file of a collection: as named, or with `.handful` after it. Raises StorageError for no name (`..`)."""
    if (path := Path(name)).name in ("", ".."):
        raise StorageError(f"{str(name)!r}: expected the name of a collection (shop, or folder/shop), got a folder")
    return path if path.suffix == ".handful" else path.with_name(path.name + ".handful")


def create_collection(
    name: str | Path, encoder: EncoderIdentity, settings: Mapping[str, Any], examples: Sequence[NewExample]
) -> SQLiteCollection:
    """A new collection with its first examples, which are version 1. `":memory:"` keeps it in memory.

    Args:
        name: the path of its file; `.handful` is added where it is missing.
        encoder: what made the vectors.
        settings: JSON values to keep with it.
        examples: the first ones.

    Raises:
        StorageError: there is one already; nothing can be written there.
        DataError: as for `add`.
    """
    if str(name) == ":memory:":
        made = SQLiteCollection(Database(in_memory(), ":memory:", (encoder, settings)))
        made.add(examples, action="teach")
        return made
    path = collection_path(name)
    with put_in_place(path) as temporary:
        made = SQLiteCollection(Database(connect(temporary), str(path), (encoder, settings)))
        try:
            made.add(examples, action="teach")
            made.whole()
        finally:
            made.close()
    return open_collection(path)


def open_collection(name: str | Path) -> SQLiteCollection:
    """A collection that is there, to read and to change.

    Raises:
        CollectionError: none there, not one of ours, damaged, or of a newer format.
        StorageError: no permission.
    """
    path = collection_path(name)
    with storage_errors(path, "read"):
        if not path.is_file():
            near = sorted(p.name for p in path.parent.glob("*.handful")) if path.parent.is_dir() else []
            hint = f" There: {', '.join(near[:8])}." if near else ""
            raise CollectionError(f"{path}: no such collection; handful teach SOURCE --to {path.stem} makes one.{hint}")
        path.open("rb").close()
    return SQLiteCollection(Database(connect(path), str(path)))


@final
class SQLiteCollection(Collection):
    """See `create_collection` and `open_collection`."""

    def __init__(self, database: Database) -> None:
        self._database, self._place, self._sql = database, database.place, database.sql
        self._about = database.about
        self._errors, self._transaction, self._damaged = database.errors, database.transaction, database.damaged

    @property
    def place(self) -> str:
        """As `Collection.place`."""
        return self._place

    @property
    def encoder(self) -> EncoderIdentity:
        """As `Collection.encoder`."""
        return EncoderIdentity(**self._about["encoder"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """As `Collection.settings`."""
        return dict(self._about["settings"])

    @property
    def version(self) -> int:
        """As `Collection.version`."""
        with self._errors():
            return int(self._sql.execute("SELECT coalesce(max(version), 0) FROM changes").fetchone()[0])

    @property
    def labels(self) -> tuple[str, ...]:
        """As `Collection.labels`."""
        with self._errors():
            query = "SELECT DISTINCT label FROM placements WHERE until IS NULL ORDER BY label"
            return tuple(label for (label,) in self._sql.execute(query))

    def find(self, sha256: str) -> Example | None:
        """As `Collection.find`."""
        with self._errors():
            row = self._sql.execute(
                "SELECT id, label, source, sha256, added, by FROM examples JOIN placements ON id = example "
                "WHERE sha256 = ? AND until IS NULL ORDER BY id",
                (sha256,),
            ).fetchone()
        return None if row is None else Example(*row)

    def read(self, version: int | None = None, *, known: Snapshot | None = None) -> Snapshot:
        """As `Collection.read`."""
        with self._errors(), self._transaction("DEFERRED"):
            newest = self.version
            if version is not None and not 1 <= version <= newest:
                raise DataError(f"{self._place}: expected a version from 1 to {newest}, got {version}")
            at = newest if version is None else int(version)
            return read_version(self._database, at, self.encoder.features, known)

    def preview(self, example: int) -> str | bytes | None:
        """As `Collection.preview`."""
        with self._errors():
            row = self._sql.execute("SELECT preview FROM examples WHERE id = ?", (index(example),)).fetchone()
        return None if row is None else row[0]

    def add(self, examples: Sequence[NewExample], *, action: str = "add", new: Container[str] = ()) -> int:
        """As `Collection.add`."""
        if not examples:
            raise DataError(f"{self._place}: expected at least one example to add, got none")
        labels = [checked_label(example.label) for example in examples]
        detail: dict[str, Any] = {"examples": len(examples)}
        with self._change(action, detail) as (version, time, by):
            labels = list(map(speller(self.labels), labels))
            detail["labels"] = sorted(set(labels))
            for example, label in zip(examples, labels, strict=True):
                if example.sha256 in new and (one := self.find(example.sha256)) is not None:
                    raise DataError(f"{example.source}: is example {one.id} of {one.label} already; nothing was added")
                vector = self._checked_vector(example)
                row = (vector, zlib.crc32(vector), example.source, example.sha256, time, by, example.preview)
                made = self._sql.execute(
                    "INSERT INTO examples (vector, checksum, source, sha256, added, by, preview) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
                self._place_example(int(made.lastrowid or 0), label, version)
        return version

    def remove(self, examples: Sequence[int]) -> int:
        """As `Collection.remove`."""
        try:
            ids = list(dict.fromkeys(index(example) for example in examples))
        except TypeError:
            raise DataError(f"{self._place}: expected the ids of examples, got {examples!r}") from None
        if not ids:
            raise DataError(f"{self._place}: expected at least one example to remove, got none")
        with self._change("remove", {"ids": ids}) as (version, _, _):
            for example in ids:
                if not 0 <= example < 2**63 or not self._take_out(example, version):
                    raise DataError(f"{self._place}: no example {example}; recognize --json gives ids of the nearest")
            if not self.labels:
                raise DataError(f"{self._place}: these are all examples; expected one to stay. Remove the file instead")
        return version

    def rename(self, label: str, new: str) -> int:
        """As `Collection.rename`."""
        name = checked_label(new)
        detail: dict[str, Any] = {}
        with self._change("rename", detail) as (version, _, _):
            (label,) = self._known([label])
            detail |= {"label": label, "new": name}
            others = set(self.labels) - {label}
            if name == label or speller(others)(name) in others:
                raise DataError(f"{self._place}: there is a class {name!r} already; merge makes one of two classes")
            self._relabel([label], name, version)
        return version

    def merge(self, labels: Sequence[str], into: str) -> int:
        """As `Collection.merge`."""
        name = checked_label(into)
        if isinstance(labels, str):
            raise DataError(f"{self._place}: expected a list of classes to merge, got {labels!r}; put it in a list")
        detail: dict[str, Any] = {}
        with self._change("merge", detail) as (version, _, _):
            labels, name = self._known(labels), speller(self.labels)(name)
            if not set(labels) - {name}:
                raise DataError(f"{self._place}: expected classes to merge into {name!r}, got {labels}")
            detail |= {"labels": labels, "into": name}
            self._relabel([label for label in labels if label != name], name, version)
        return version

    def undo(self) -> int:
        """As `Collection.undo`."""
        detail: dict[str, Any] = {}
        with self._change("undo", detail) as (version, _, _):
            last = self._sql.execute(
                "SELECT version, action FROM changes WHERE action != 'undo' AND version NOT IN "
                "(SELECT undoes FROM changes WHERE undoes IS NOT NULL) ORDER BY version DESC LIMIT 1"
            ).fetchone()
            if last is None or last[1] == "teach":
                raise DataError(f"{self._place}: nothing to undo; handful history shows what was done")
            before, now = self._placed(last[0] - 1), self._placed(version)
            for example, _ in now.items() - before.items():
                self._take_out(example, version)
            for example, label in before.items() - now.items():
                self._place_example(example, label, version)
            detail |= {"undoes": last[0], "action": last[1]}
        return version

    def history(self) -> list[Change]:
        """As `Collection.history`."""
        with self._errors():
            rows = self._sql.execute("SELECT version, time, by, action, detail FROM changes ORDER BY version")
            return [Change(version, time, by, did, json.loads(detail)) for version, time, by, did, detail in rows]

    def whole(self) -> None:
        """Bring everything into the one file, which closing does too, but keeps silent where the disk is full."""
        with self._errors():
            self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """As `Collection.close`."""
        with self._errors():
            self._sql.close()

    @contextmanager
    def _change(self, action: str, detail: Mapping[str, Any]) -> Iterator[tuple[int, str, str]]:
        """A transaction that makes the next version: (version, time, by)."""
        time, by = datetime.now(UTC).isoformat(timespec="seconds"), _who()
        with self._errors(), self._transaction("IMMEDIATE"):
            version = self.version + 1
            yield version, time, by
            row = (version, time, by, action, json.dumps(detail, ensure_ascii=False), detail.get("undoes"))
            self._sql.execute("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)", row)

    def _checked_vector(self, example: NewExample) -> bytes:
        vector = np.asarray(example.vector, "<f4")
        if vector.shape != (self.encoder.features,):
            raise DataError(
                f"{example.source}: expected a vector of {self.encoder.features} numbers, got shape {vector.shape}"
            )
        if not np.isfinite(vector).all():
            raise DataError(f"{example.source}: its vector holds NaN or infinite values; expected finite numbers")
        return vector.tobytes()

    def _known(self, labels: Sequence[str]) -> list[str]:
        """Labels as they are written here; raises if there is no such class."""
        there = set(self.labels)
        spelled = speller(there)
        for label in labels:
            if spelled(label) not in there:
                raise unknown_name(f"class of {self._place}", label, there)
        return [spelled(label) for label in labels]

    def _placed(self, version: int) -> dict[int, str]:
        rows = self._sql.execute(
            "SELECT example, label FROM placements WHERE since <= ? AND (until IS NULL OR until > ?)",
            (version, version),
        )
        return dict(rows.fetchall())

    def _place_example(self, example: int, label: str, version: int) -> None:
        self._sql.execute("INSERT INTO placements VALUES (?, ?, ?, NULL)", (example, label, version))

    def _take_out(self, example: int, version: int) -> bool:
        query = "UPDATE placements SET until = ? WHERE example = ? AND until IS NULL"
        return bool(self._sql.execute(query, (version, example)).rowcount)

    def _relabel(self, labels: Sequence[str], new: str, version: int) -> None:
        for label in dict.fromkeys(labels):
            query = "SELECT example FROM placements WHERE label = ? AND until IS NULL"
            for (example,) in self._sql.execute(query, (label,)).fetchall():
                self._take_out(example, version)
                self._place_example(example, new, version)


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
