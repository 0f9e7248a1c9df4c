"""What can be taught and asked: folders of pictures, tables of texts or molecules, vectors; and these in memory."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, StorageError
from ..files import files_in, storage_errors
from .in_memory import pairs, plain, vector, zipped
from .molecules import FINGERPRINTS, content_digest
from .sheets import KINDS, table_kind, table_rows

__all__ = ["Item", "asked", "kind_of", "taught", "without_copies"]

LONGEST_TEXT = 100_000
MANY = 0.05
"""Share of vectors that are equal to others, beyond which a promise suffers visibly if they are of the same things."""


class Item(NamedTuple):
    """An example before it has a vector."""

    content: Any  # a text, a SMILES, a vector, or the bytes of a picture's file; or the error that reading it gave
    label: str
    source: str
    sha256: str
    preview: str | None = None


def kind_of(things: object, encoder: str | None = None, *, encoding: str = "utf-8") -> str:
    """pictures, texts, molecules or vectors, by a file's suffix and columns, or what values are in memory.

    Texts in memory are molecules if the encoder is one of molecules.

    Raises:
        DataError: none of these.
    """
    if isinstance(things, str | Path):
        path = Path(things)
        if os.path.isdir(path):
            return "pictures"
        if path.suffix.lower() in KINDS:
            return table_kind(path, encoding=encoding)
        if path.suffix.lower() != ".npz":
            raise DataError(
                f"{path}: expected a folder of pictures (PATH/mug/1.jpg), a table of texts or molecules "
                f"({', '.join(KINDS)}, with the columns text or smiles, and label) or vectors (.npz with x and y)"
            )
        return "vectors"
    values = [value for value, _ in pairs(things)]
    if not values:
        raise DataError("teach: expected examples, got none")
    first = next((value for value in values if isinstance(value, str)), values[0])  # beside what is missing
    if isinstance(first, Path):
        return "pictures"
    if isinstance(first, str):
        return "molecules" if encoder in FINGERPRINTS else "texts"
    return "vectors"


def taught(things: object, kind: str, *, encoding: str = "utf-8", nested: bool = False) -> list[Item]:
    """Labeled examples, from a path, a mapping of labels to examples, or a pair of examples and labels.

    Args:
        things: they.
        kind: as `kind_of` says.
        encoding: of a CSV, TSV or JSONL file.
        nested: classes are the innermost folders of pictures.

    Raises:
        DataError, ShapeError: nothing there, no labels, broken; names the place.
        StorageError: no such file, no permission. Of a picture its item holds it instead.
    """
    if isinstance(things, str | Path):
        path = Path(things)
        if kind in ("texts", "molecules"):
            items = _table(path, kind, encoding=encoding)
        else:
            items = _pictures(path, nested) if kind == "pictures" else _arrays(path)
    else:
        rows = enumerate(pairs(things))
        items = [_item(kind, value, label, f"memory:{row}") for row, (value, label) in rows]
    if not items:
        raise DataError(f"{things}: expected labeled examples, found none")
    return items


def asked(kind: str, things: Sequence[object], *, encoding: str = "utf-8") -> list[Item]:
    """Examples without labels: files of pictures, texts and SMILES or tables of them, arrays of vectors or files.

    Raises:
        DataError, StorageError: as `taught`; one thing that is not in a list.
    """
    things, one = plain(things), isinstance(things, str | bytes | Path | Mapping)
    if one or not hasattr(things, "__iter__") or getattr(things, "ndim", 1) == 0:
        raise DataError(f"expected a list of things, got {str(things)[:50]!r}; put it in a list")
    found: list[Item] = []
    for number, thing in enumerate(things):
        path = Path(thing) if isinstance(thing, str | Path) and len(str(thing)) < 4000 else None
        if kind == "pictures":
            if path is None:
                raise DataError(f"picture {number}: expected a file, got {str(thing)[:50]!r}")
            _refuse_other(path, (*KINDS, ".npz"), "pictures, or folders of them")
            found += [_picture(one, "") for one in (_inside(path) if os.path.isdir(path) else [path])]
        elif kind != "vectors" and path is not None and _names_table(path):
            found += _table(path, kind, labeled=False, encoding=encoding)
        elif kind == "vectors" and path is not None:
            if path.suffix.lower() != ".npz":
                raise DataError(f"{path}: expected a vector or a file of vectors (.npz), as this collection holds them")
            found += _arrays(path, labeled=False)
        else:
            if kind == "texts" and path is not None:
                _refuse_file(path, str(thing))
            found.append(_item(kind, thing, "", f"asked:{number}"))
    return found


def _names_table(path: Path) -> bool:
    """Whether a text is the name of a table; one that is not there has no spaces in it."""
    return path.suffix.lower() in KINDS and (os.path.isfile(path) or len(str(path).split()) == 1)


def _refuse_file(path: Path, text: str) -> None:
    """Raises DataError for what is a file or folder, and no word that one happens to be called."""
    if (path.suffix or "/" in text or os.sep in text) and os.path.exists(path):
        what = "a folder" if os.path.isdir(path) else "another file"
        raise DataError(f"{path}: expected a text or a table of texts ({', '.join(KINDS)}), got {what}")


def without_copies(items: Sequence[Item], known: Set[str] = frozenset()) -> list[Item]:
    """One of each content. Vectors may be equal without being of one thing, so they stay; of many there is a warning.

    Args:
        items: new examples.
        known: the hashes of vectors that are examples already.

    Raises:
        DataError: one content in two classes.
    """
    seen: dict[str, Item] = {}
    kept = []
    for item in items:
        first = seen.setdefault(item.sha256, item)
        if isinstance(item.content, np.ndarray) or first is item:
            kept.append(item)
        elif first.label != item.label:
            raise DataError(
                f"{first.source} ({first.label}) and {item.source} ({item.label}) are the same: expected one thing in "
                "one class; remove one of them"
            )
    again = len(kept) - len(seen.keys() - known)
    if again > MANY * len(kept):
        warnings.warn(
            f"{again} of {len(kept)} vectors are equal to others: if they are of the same things, these count twice, "
            "and no promise holds; give each thing once",
            stacklevel=2,
        )
    return kept


def _pictures(path: Path, nested: bool) -> list[Item]:
    from ..data.folder import picture_files

    files = picture_files(path, nested=nested)
    _say_unread(path, files_in(path))
    full = {parent for file in files for parent in file.path.parents}
    for folder in sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith((".", "__MACOSX"))):
        if folder not in full:
            warnings.warn(f"{folder}: no pictures in it, so no class of that name", stacklevel=2)
    names, folders = {file.name for file in files}, {file.path.parent for file in files}
    if len(names) == 1 and len(folders) > 1 and files[0].split is None and not nested:
        warnings.warn(
            f"{path}: one class, {min(names)}, whose folders are taken together; if these are the classes, say so "
            "(nested, --nested)",
            stacklevel=2,
        )
    return [_picture(file.path, file.name) for file in files]


def _inside(folder: Path) -> list[Path]:
    from ..pictures import SUFFIXES, unread

    there = files_in(folder)
    found = [path for path in there if path.suffix.lower() in SUFFIXES]
    if not found:
        phone = unread(there)
        raise DataError(f"{folder}: no pictures found{phone and f'; {phone}'}; expected {', '.join(sorted(SUFFIXES))}")
    _say_unread(folder, there)
    return found


def _say_unread(folder: Path, there: Sequence[Path]) -> None:
    """Warn of what a phone wrote that is passed over."""
    from ..pictures import unread

    if phone := unread(there):
        warnings.warn(f"{folder}: {phone}", stacklevel=2)


def _picture(path: Path, label: str) -> Item:
    source = _printable(path)
    try:
        with storage_errors(path, "read"):
            content = path.read_bytes()
    except StorageError as error:  # is said with all the others that cannot be read, or they are left out
        return Item(error, label, source, hashlib.sha256(f"unreadable {source}".encode()).hexdigest())
    return Item(content, label, source, hashlib.sha256(content).hexdigest())


def _printable(path: Path) -> str:
    """The path as a text that can be stored, whatever bytes it is made of."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _table(path: Path, kind: str, *, labeled: bool = True, encoding: str = "utf-8") -> list[Item]:
    rows = table_rows(path, kind, _printable(path), labeled=labeled, encoding=encoding)
    return [_item(kind, content, label, place) for content, label, place in rows]


def _arrays(path: Path, *, labeled: bool = True) -> list[Item]:
    with storage_errors(path, "read"):
        content = path.read_bytes()
    if not content.startswith(b"PK"):
        raise DataError(f"{path}: not an .npz of plain arrays; numpy.savez writes one, with the arrays x and y")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            if not hasattr(stored, "files"):
                raise DataError(f"{path}: expected an .npz with the arrays x and y")
            names = stored.files
            missing = [name for name in (("x", "y") if labeled else ("x",)) if name not in names]
            if missing:
                raise DataError(
                    f"{path}: expected the arrays x [n, features] and y [n], got {', '.join(names) or 'none'}"
                )
            x = stored["x"]
            y = stored["y"] if labeled else np.full(x.shape[:1], "")
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile raise whatever they please for a broken file
        raise DataError(f"{path}: not an .npz of plain arrays, or broken ({error}); numpy.savez writes one") from None
    source = _printable(path)
    rows = enumerate(zipped(x, y, source))
    return [_item("vectors", value, label, f"{source}:{row}") for row, (value, label) in rows]


def _refuse_other(path: Path, suffixes: tuple[str, ...], expected: str) -> None:
    if path.suffix.lower() in suffixes:
        raise DataError(f"{path}: expected {expected}, as this collection holds them")


def _item(kind: str, value: Any, label: str, source: str) -> Item:
    """An example that is in memory, or of a picture the path of its file."""
    if kind == "pictures":
        return _picture(Path(value), label)
    if kind == "molecules":
        smiles = _smiles(value, source)
        return Item(smiles, label, source, content_digest(smiles, source), smiles[:300])
    if kind == "texts":
        text = _text(value, source)
        return Item(text, label, source, hashlib.sha256(text.encode()).hexdigest(), text[:300])
    own = vector(value, source)
    return Item(own, label, source, hashlib.sha256(own.tobytes()).hexdigest())


def _smiles(value: Any, source: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{source}: expected a SMILES, got {value!r:.50}")
    return value.strip().encode("utf-8", "replace").decode()


def _text(value: Any, source: str) -> str:
    if not isinstance(value, str) or not any(character.isalnum() for character in value):
        raise DataError(f"{source}: expected a text with letters or figures, got {value!r:.50}")
    if len(value) > LONGEST_TEXT:
        raise DataError(f"{source}: expected at most {LONGEST_TEXT} characters, got {len(value)}")
    return value.encode("utf-8", "replace").decode()
