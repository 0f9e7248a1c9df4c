"""mini-ImageNet: 100 classes of ImageNet, 600 pictures each, 84×84, in the split of Ravi & Larochelle.

Source: Vinyals et al. 2016, arXiv:1606.04080; Ravi & Larochelle 2017, openreview.net/forum?id=rJY0-Kcll.

Which pictures belong to it is known by their names ('n0153282900000005.jpg', the class and a number), of which a
checksum is kept. The pictures themselves go round in several versions, shrunk by different programs, and figures
differ a little between them; the ledger keeps the digest of the pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import DataError
from ..pictures import Form
from .pool import ClassPool
from .published import add_pictures, class_table, expect_counts, picture_names, stored, with_splits

__all__ = ["add_mini_imagenet", "mini_imagenet"]

PLACE, TITLE = "mini-imagenet", "mini-ImageNet"
NAMES = "0f3d86bb524a0170b74dbfbbfbe4842768a4dd54ee4099891418a3dde6747b94"  # SHA-256 of all file names, sorted
EACH = 600
WANTED = picture_names(r"(?:^|/)(?P<key>(?P<name>n\d{8})\d{8})")
EXPECTED = (
    "archives (.tar.xz, .tar.gz, .zip ...) or a folder with its 60,000 files such as n0153282900000005.jpg, in any "
    "folders; pickles and other sizes of the set are not read"
)
REMEDY = (
    "nobody publishes it for direct download: get the pictures (ImageNet's terms: research), then run "
    "`handful data add mini-imagenet --from PATH` on the archives or the folder"
)


def mini_imagenet() -> ClassPool:
    """mini-ImageNet as [3, 84, 84] uint8. Splits: train 64 classes, val 16, test 20, named as 'house finch'.

    Raises:
        DataError: not on this machine yet; says how to add it.
    """
    rows = class_table(PLACE)
    names = {row["class"]: row["name"] for row in rows}
    pool = with_splits(stored(PLACE, TITLE, REMEDY), rows)
    return replace(pool, names=tuple(names[name] for name in pool.names))


def add_mini_imagenet(source: Path) -> Path:
    """Store mini-ImageNet from files at hand, for `mini_imagenet` to find; other sizes are brought to 84×84.

    Args:
        source: an archive, a folder of archives, or an unpacked folder.

    Returns:
        The folder of the stored pool.

    Raises:
        DataError: missing, unreadable, or other pictures than the split's.
        StorageError: full disk, no permission.
    """
    counts = {row["class"]: EACH for row in class_table(PLACE)}

    def check(keys: Mapping[str, Sequence[str]]) -> None:
        expect_counts(TITLE, source, counts)(keys)
        names = sorted(f"{key}.jpg" for of in keys.values() for key in of)
        if hashlib.sha256("\n".join(names).encode()).hexdigest() != NAMES:
            raise DataError(f"{source}: 600 pictures a class, but not those of the published split; get them again")

    return add_pictures(PLACE, source, WANTED, Form.of(84, 3, "stretch"), check, EXPECTED)
