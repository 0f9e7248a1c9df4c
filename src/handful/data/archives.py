"""Small files from folders, zips and tars that somebody else made: read in memory, never unpacked to disk."""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import DataError
from ..files import files_in, storage_errors

__all__ = ["Member", "members"]

DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    OSError,  # a place before the beginning
    ValueError,
    RuntimeError,  # an encrypted zip, an unknown compression
)


class Member(NamedTuple):
    """A file: its name inside, where it lies as errors tell it, and its bytes."""

    name: str
    place: str
    content: bytes


def members(path: Path, wanted: re.Pattern[str], *, largest: int) -> Iterator[Member]:
    """The wanted files of a zip, of a tar however compressed, or of a folder (named from its own name on).

    Args:
        path: the folder or archive.
        wanted: what is found somewhere in the names of files to read.
        largest: bytes that a file may have.

    Raises:
        DataError: cut short or damaged; a wanted file is a link, leads outside, or is larger than `largest`.
        StorageError: not there, no permission.
    """
    with storage_errors(path, "read"):
        if path.is_dir():
            for file in files_in(path):
                name = file.relative_to(path.parent).as_posix()
                if wanted.search(name) and file.is_file():
                    _admit(str(file), name, file.stat().st_size, largest)
                    yield Member(name, str(file), file.read_bytes())
            return
        path.open("rb").close()  # so that what fails from here on is the content
        try:
            read = _zipped if zipfile.is_zipfile(path) else _taped
            yield from read(path, wanted, largest)
        except DataError:
            raise
        except DAMAGE as error:
            said = str(error).partition("\n")[0].rstrip(":")
            raise DataError(f"{path}: not a zip or tar, or cut short or damaged ({said}); get it again") from error


def _zipped(path: Path, wanted: re.Pattern[str], largest: int) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            if wanted.search(item.filename) and not item.is_dir():
                place = f"{item.filename} in {path}"
                _admit(place, item.filename, item.file_size, largest)
                yield Member(item.filename, place, archive.read(item))


def _taped(path: Path, wanted: re.Pattern[str], largest: int) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for item in archive:
            if wanted.search(item.name) and not item.isdir():
                place = f"{item.name} in {path}"
                _admit(place, item.name, item.size, largest, plain=item.isfile())
                file = archive.extractfile(item)
                if file:
                    yield Member(item.name, place, file.read())


def _admit(place: str, name: str, size: int, largest: int, *, plain: bool = True) -> None:
    inside = PurePosixPath(name)
    if not plain or inside.is_absolute() or ".." in inside.parts:
        raise DataError(f"{place}: refused, it is a link or leads outside; get the data from their source")
    if size > largest:
        raise DataError(f"{place}: refused, {size} bytes; expected files of at most {largest}")
