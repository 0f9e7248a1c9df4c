"""Where data live on this machine, and pools written there once and opened at once ever after.

A stored pool is a folder: `examples.safetensors`, opened memory-mapped, and `pool.json`, which says what
must be found there. Nothing in it is trusted: what does not agree is a `DataError`, and the loader that wrote
the pool builds it again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import DataError
from ..files import new_folder, recover_folder, storage_errors, write_file
from .pool import ClassPool

__all__ = ["checksum", "data_folder", "load_pool", "store_pool"]

FORMAT = 1


def data_folder() -> Path:
    """The folder for data, perhaps not there yet: `HANDFUL_DATA`, or `handful` in the user's cache folder."""
    chosen = os.environ.get("HANDFUL_DATA")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "handful"


def checksum(x: Tensor) -> str:
    """The SHA-256 of a tensor's bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(x.contiguous().view(torch.uint8).numpy().data).hexdigest()


def store_pool(folder: Path, pool: ClassPool, about: Mapping[str, object]) -> None:
    """Write a pool, without its splits, whole or not at all. A pool that was there is replaced.

    Args:
        folder: the pool's own folder.
        pool: its examples are written class by class.
        about: where the data come from, to be read by people; must fit JSON.

    Raises:
        StorageError: full disk, no permission.
    """
    examples = pool.examples.index_select(0, pool.rows())
    described = {
        "format": FORMAT,
        "shape": list(examples.shape),
        "dtype": str(examples.dtype),
        "sha256": checksum(examples),
        "counts": pool.counts.tolist(),
        "families": pool.families.tolist(),
        "names": list(pool.names),
        "classes sha256": _classes(pool.names, pool.counts.tolist(), pool.families.tolist()),
        "about": dict(about),
    }
    with new_folder(folder) as new:
        write_file(new / "pool.json", json.dumps(described, ensure_ascii=False))
        write_file(new / "examples.safetensors", save({"examples": examples}))


def _classes(names: Sequence[str], counts: Sequence[int], families: Sequence[int]) -> str:
    return hashlib.sha256(json.dumps([list(names), list(counts), list(families)]).encode()).hexdigest()


def load_pool(folder: Path) -> ClassPool:
    """Open a stored pool, memory-mapped, after checking every byte of it (some 20 ms for 25 MB). No splits.

    Raises:
        DataError: nothing there, or not what was written: cut short, altered, of another format.
        StorageError: no permission.
    """
    recover_folder(folder)
    if not folder.is_dir():
        raise DataError(f"no stored pool at {folder}; expected a folder written by store_pool")
    with storage_errors(folder, "read"):
        try:
            described = json.loads((folder / "pool.json").read_bytes())
            if described["format"] != FORMAT:
                raise DataError(
                    f"stored pool {folder}: expected format {FORMAT}, got {described['format']}; delete it to rebuild"
                )
            with safe_open(folder / "examples.safetensors", framework="pt") as file:
                examples: Tensor = file.get_tensor("examples")
            found = [list(examples.shape), str(examples.dtype), checksum(examples)]
            if found != [described["shape"], described["dtype"], described["sha256"]]:
                raise DataError(f"stored pool {folder} is broken: its examples changed; delete it to rebuild")
            names, counts, families = described["names"], described["counts"], described["families"]
            if described["classes sha256"] != _classes(names, counts, families):
                raise DataError(f"stored pool {folder} is broken: its classes changed; delete it to rebuild")
            return ClassPool.grouped(examples, counts, names, families=families)
        except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"stored pool {folder} is broken ({error}); delete it to rebuild") from error
