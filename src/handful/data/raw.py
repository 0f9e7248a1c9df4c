"""Small published files (texts, mostly): kept as they are, and known by their checksum wherever they come from."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ..files import files_in, storage_errors, write_file
from .cache import data_folder
from .download import download

__all__ = ["RawFile", "add_raw", "adder", "raw_files"]

LARGEST = 1 << 26  # bytes, unpacked
PACKED: Mapping[str, Callable[[io.BytesIO], io.BufferedIOBase]] = {
    ".xz": lzma.LZMAFile,
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
}


class RawFile(NamedTuple):
    """A published file: the name it is kept under, the SHA-256 of its content, and where it is published."""

    name: str
    sha256: str
    url: str | None = None


def raw_files(place: str, files: Sequence[RawFile], name: str) -> dict[str, Path]:
    """Where the files of a data set are, downloaded if need be, each checked.

    Args:
        place: their folder in the data folder.
        files: those that are needed.
        name: of the data set, for `handful data add NAME --from PATH`.

    Raises:
        DataError: a file that nobody publishes for download is not here, or is broken.
        DownloadError: no network.
        StorageError: full disk, no permission.
    """
    found = {}
    for file in files:
        path = data_folder() / place / file.name
        if file.url is not None:
            offline = f"handful data add {name} --from PATH"
            download(file.url, path, checksum=f"sha256:{file.sha256}", offline=offline)
        elif not path.is_file():
            raise DataError(
                f"{name}: {file.name} is not on this machine; get it (see `handful list data`), then run "
                f"`handful data add {name} --from PATH` on the file or its folder"
            )
        elif hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
            raise DataError(f"{path}: broken, its checksum is not the published one; add it again")
        found[file.name] = path
    return found


def add_raw(place: str, source: Path, files: Sequence[RawFile]) -> Path:
    """Keep the files of a data set that are at hand, known by their content; other .xz and .gz are unpacked.

    Args:
        place: their folder in the data folder.
        source: a file, or a folder that holds some or all of them at any depth.
        files: all files of the data set.

    Returns:
        The folder where they are kept.

    Raises:
        DataError: none of them found.
        StorageError: full disk, no permission.
    """
    wanted = {file.sha256: file.name for file in files}
    folder, kept, problem = data_folder() / place, [], ""
    with storage_errors(source, "read"):
        paths = [source] if source.is_file() else [path for path in files_in(source) if path.is_file()]
        for path in paths:
            if path.stat().st_size > LARGEST:
                continue
            content = path.read_bytes()
            name = wanted.get(hashlib.sha256(content).hexdigest())
            if name is None and path.suffix in PACKED:
                try:
                    content = _unpacked(content, path.suffix)
                except (lzma.LZMAError, OSError, EOFError, zlib.error) as error:
                    problem = f"; {path} is cut short or damaged ({error}): get it again"
                    continue
                name = wanted.get(hashlib.sha256(content).hexdigest())
            if name is not None:
                write_file(folder / name, content)
                kept.append(name)
    if not kept:
        names = ", ".join(file.name for file in files)
        raise DataError(
            f"{source}: expected some of the published files {names}; found none with their content{problem}"
        )
    return folder


def _unpacked(content: bytes, suffix: str) -> bytes:
    with PACKED[suffix](io.BytesIO(content)) as packed:
        return packed.read(LARGEST + 1)


def adder(place: str, files: Sequence[RawFile]) -> Callable[[Path], Path]:
    """`add_raw` of these files, as the catalog wants it."""
    return lambda source: add_raw(place, source, files)
