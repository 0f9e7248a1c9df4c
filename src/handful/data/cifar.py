"""CIFAR-FS and FC100: the 100 classes of CIFAR-100, 600 pictures each, 32×32, in two splits.

Sources: Krizhevsky 2009, "Learning multiple layers of features from tiny images"; CIFAR-FS by Bertinetto et al. 2019,
arXiv:1805.08136; FC100, which keeps superclasses together, by Oreshkin et al. 2018, arXiv:1805.10123.

One stored pool ('cifar100') serves both. Classes are in alphabetical order, which is that of the published labels.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..errors import DataError, DownloadError
from ..files import files_in, storage_errors
from ..pictures import BROKEN, Form
from .cache import data_folder, load_or_make
from .download import download
from .pool import ClassPool
from .published import add_pictures, class_table, expect_counts, members_in, picture_names, store_classes, with_splits

__all__ = ["add_cifar100", "cifar_fs", "fc100"]

PLACE, TITLE = "cifar100", "CIFAR-100"
URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
CHECKSUM = "md5:03b5dce01913d631647c71ecec9e9cb8"
OFFLINE = "handful data add cifar-fs --from FOLDER"
EACH, SIDE = 600, 32
RECORD = 2 + 3 * SIDE * SIDE
BINARY = re.compile(r"(?:^|/)(?:train|test)\.bin$")
EXPECTED = (
    "cifar-100-binary.tar.gz, or the pictures as CLASS/NAME.png in a folder or an archive; the pickles of "
    "cifar-100-python are not read"
)


def cifar_fs() -> ClassPool:
    """CIFAR-FS as [3, 32, 32] uint8. Splits: train 64 classes, val 16, test 20. The first call downloads 161 MB.

    Where only some classes were added, there are the splits that are whole.

    Raises:
        DownloadError: no network; the data can be added from files.
        StorageError: full disk, no permission.
    """
    return _split("cifar-fs")


def fc100() -> ClassPool:
    """FC100 as [3, 32, 32] uint8. Splits by superclass: train 60 classes, val 20, test 20; as `cifar_fs`."""
    return _split("fc100")


def add_cifar100(source: Path) -> Path:
    """Store CIFAR-100 from files at hand, for `cifar_fs` and `fc100` to find.

    Args:
        source: cifar-100-binary.tar.gz or what is in it; pictures in a folder for each class, or an archive of them;
            or lossless mosaics CLASS.webp of 24×25 pictures, some classes only if need be.

    Returns:
        The folder of the stored pool.

    Raises:
        DataError: missing, unreadable, or not CIFAR-100.
        StorageError: full disk, no permission.
    """
    classes = sorted(row["class"] for row in class_table("cifar-fs"))
    binary = {Path(file.name).name: file.content for file in members_in(source, BINARY, largest=200_000_000)}
    if binary:
        return _add_binary(source, binary, classes)
    with storage_errors(source, "read"):
        mosaics = [path for path in files_in(source) if path.suffix == ".webp"] if source.is_dir() else []
    known = [path for path in mosaics if path.stem in classes]
    if known:
        counts = {path.stem: EACH for path in sorted(known, key=lambda path: path.stem)}
        return store_classes(PLACE, _mosaics(known), counts, (3, SIDE, SIDE), source)

    def check(keys: Mapping[str, Sequence[str]]) -> None:
        expect_counts(TITLE, source, dict.fromkeys(classes, EACH))(keys)

    wanted = picture_names(rf"(?:^|/)(?P<name>{'|'.join(classes)})/(?P<key>[^/]+)")
    return add_pictures(PLACE, source, wanted, Form.of(SIDE, 3, "stretch"), check, EXPECTED)


def _split(name: str) -> ClassPool:
    def make() -> None:
        archive = data_folder() / "downloads" / Path(URL).name
        try:
            download(URL, archive, checksum=CHECKSUM, offline=OFFLINE)
        except DownloadError as error:
            raise DownloadError(f"{error} What it takes: {EXPECTED}.") from error
        add_cifar100(archive)

    return with_splits(load_or_make(data_folder() / PLACE, make), class_table(name))


def _add_binary(source: Path, binary: Mapping[str, bytes], classes: Sequence[str]) -> Path:
    content = b"".join(binary[name] for name in ("train.bin", "test.bin") if name in binary)
    expected = EACH * len(classes) * RECORD
    if len(content) != expected:
        raise DataError(
            f"{source}: expected {expected} bytes in train.bin and test.bin, got {len(content)}: get it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 1]
    if np.bincount(labels, minlength=len(classes)).tolist() != [EACH] * len(classes):
        raise DataError(f"{source}: expected {EACH} pictures of each of {len(classes)} classes: get it again")
    order = np.argsort(labels, kind="stable").reshape(len(classes), EACH)
    parts = (torch.from_numpy(records[rows, 2:].reshape(-1, 3, SIDE, SIDE)) for rows in order)
    return store_classes(PLACE, parts, dict.fromkeys(classes, EACH), (3, SIDE, SIDE), source)


def _mosaics(paths: Sequence[Path]) -> Iterator[torch.Tensor]:
    """[600, 3, 32, 32] of each mosaic: 24 rows of 25 pictures."""
    for path in sorted(paths, key=lambda path: path.stem):
        try:
            with Image.open(io.BytesIO(path.read_bytes()), formats=["WEBP"]) as image:
                if image.size != (25 * SIDE, 24 * SIDE):
                    raise DataError(f"{path}: expected a mosaic of {25 * SIDE}×{24 * SIDE} pixels, got {image.size}")
                tiles = np.array(image.convert("RGB")).reshape(24, SIDE, 25, SIDE, 3)
        except DataError:
            raise
        except BROKEN as error:
            raise DataError(f"{path}: not a readable picture ({error}); get it again") from error
        yield torch.from_numpy(np.ascontiguousarray(tiles.transpose(0, 2, 4, 1, 3)).reshape(EACH, 3, SIDE, SIDE))
