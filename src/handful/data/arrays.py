"""A user's own arrays in an npz file."""

from __future__ import annotations

import tokenize
import zipfile
from typing import Any, BinaryIO

import numpy as np

from ..errors import DataError, unknown_name
from ..files import expanded, storage_errors
from .archives import DAMAGE
from .pool import ClassPool
from .splitting import Split, split_pool

__all__ = ["arrays"]


def arrays(
    *,
    path: str,
    x: str = "x",
    y: str = "y",
    split: Split | None = None,
    within: bool = False,
    split_seed: int = 0,
) -> ClassPool:
    """Examples and labels from the arrays of an .npz file: uint8 are pictures, all other numbers become floats.

    Args:
        path: of the file.
        x: name of the array of examples [M, *shape].
        y: name of the array of labels [M], integers or texts.
        split, within, split_seed: as `split_pool`.

    Raises:
        DataError: not an npz file, pickled objects inside, no such array; or as `ClassPool.from_labels`.
        StorageError: no such file, no permission.
    """
    file = expanded(path)
    with storage_errors(file, "read"):
        opened = file.open("rb")
    try:
        with opened, _archive(opened) as content:
            for name in (x, y):
                if name not in content:
                    raise unknown_name(f"array in {file}", name, content.files)
            found = content[x], content[y]
    except (*DAMAGE, AttributeError, TypeError, SyntaxError, MemoryError, tokenize.TokenError) as error:
        raise DataError(f"{file}: expected an .npz file of plain arrays (numpy.savez), {error}") from error
    return split_pool(ClassPool.from_labels(*found), split, within=within, seed=split_seed)


def _archive(opened: BinaryIO) -> Any:
    if not zipfile.is_zipfile(opened):
        raise ValueError("got another file; numpy.savez(path, x=..., y=...) writes one")
    opened.seek(0)
    return np.load(opened, allow_pickle=False)
