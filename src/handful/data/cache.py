"""Where data live on this machine, and pools written there once and opened at once ever after.

A stored pool is a folder: `examples.safetensors`, opened memory-mapped, and `pool.json`, which says what
must be found there. Nothing in it is trusted: what does not agree is a `DataError`, and the loader that wrote
the pool builds it again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import DataError
from ..files import alone, data_folder, kept_folder, new_folder, recover_folder, storage_errors, write_file
from .pool import ClassPool

__all__ = ["cached_pool", "checksum", "data_folder", "load_or_make", "load_pool", "store_examples", "store_pool"]

FORMAT = 1
_CODES = {
    torch.uint8: "U8",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float64: "F64",
}
"""How the file format calls the types of examples."""


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
    names, counts, families = list(pool.names), pool.counts.tolist(), pool.families.tolist()
    parts = (pool.examples[start : start + count] for start, count in zip(pool.starts.tolist(), counts, strict=True))
    shape = (sum(counts), *pool.shape)
    store_examples(folder, parts, shape, pool.examples.dtype, names, counts, families, about)


def store_examples(
    folder: Path,
    parts: Iterable[Tensor],
    shape: Sequence[int],
    dtype: torch.dtype,
    names: Sequence[str],
    counts: Sequence[int],
    families: Sequence[int],
    about: Mapping[str, object],
) -> None:
    """As `store_pool`, of examples that come in parts, class by class, and are never in memory as a whole.

    Raises:
        DataError: the parts do not add up to `shape` and `dtype`.
        StorageError: full disk, no permission.
    """
    size = math.prod(shape) * dtype.itemsize
    entry = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [0, size]}
    header = json.dumps({"examples": entry}).encode()
    header += b" " * (-len(header) % 8)
    digest, written = hashlib.sha256(), 0
    with alone(folder), new_folder(folder) as new:
        with storage_errors(folder), open(new / "examples.safetensors", "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for part in parts:
                if part.dtype != dtype or list(part.shape[1:]) != list(shape[1:]):
                    raise DataError(f"stored pool {folder}: expected {dtype} {shape}, got {part.dtype} {part.shape}")
                content = part.contiguous().view(torch.uint8).numpy().data
                file.write(content)
                digest.update(content)
                written += content.nbytes
        if written != size:
            raise DataError(f"stored pool {folder}: expected {size} bytes of examples, got {written}")
        described = {
            "format": FORMAT,
            "shape": list(shape),
            "dtype": str(dtype),
            "sha256": digest.hexdigest(),
            "counts": list(counts),
            "families": list(families),
            "names": list(names),
            "classes sha256": _classes(names, counts, families),
            "about": dict(about),
        }
        write_file(new / "pool.json", json.dumps(described))  # escaped: a folder's name need not be UTF-8


def _classes(names: Sequence[str], counts: Sequence[int], families: Sequence[int]) -> str:
    return hashlib.sha256(json.dumps([list(names), list(counts), list(families)]).encode()).hexdigest()


def load_pool(folder: Path) -> ClassPool:
    """Open a stored pool, memory-mapped, after checking every byte of it (some 20 ms for 25 MB). No splits.

    Raises:
        DataError: nothing there, or not what was written: cut short, altered, of another format.
        StorageError: no permission.
    """
    if not folder.is_dir() and kept_folder(folder).exists():  # being replaced, or left so
        with alone(folder):
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


def load_or_make(folder: Path, make: Callable[[], object], key: Mapping[str, object] | None = None) -> ClassPool:
    """The pool stored in a folder; where it is not, `make` stores it, in one process while others wait for it.

    Args:
        folder: the pool's own folder.
        make: stores the pool there.
        key: what the pool must have been stored with; a pool of another is made anew.
    """

    def load() -> ClassPool | None:
        try:
            if key is not None and json.loads((folder / "pool.json").read_bytes())["about"]["key"] != key:
                return None
        except (OSError, ValueError, LookupError, TypeError):
            return None
        try:
            return load_pool(folder)
        except DataError:
            return None

    pool = load()
    if pool is None:
        with alone(folder):
            pool = load()
            if pool is None:
                make()
                pool = load_pool(folder)
    return pool


def cached_pool(name: str, key: Mapping[str, object], make: Callable[[], ClassPool]) -> ClassPool:
    """The pool stored under `name` in the data folder, without splits; made anew if it is broken or of another `key`.

    Args:
        name: of its folder there.
        key: all that decides what is in it, as JSON has it: paths, sizes and times of files, options.
        make: makes the pool.
    """
    folder = data_folder() / name
    return load_or_make(folder, lambda: store_pool(folder, make(), {"key": key}), key)
