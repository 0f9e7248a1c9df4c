import errno
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from handful.data.cache import cached_pool, checksum, data_folder, load_pool, store_pool
from handful.data.pool import ClassPool, rotations
from handful.errors import DataError, StorageError


@pytest.fixture
def pool() -> ClassPool:
    x = torch.arange(6 * 16, dtype=torch.uint8).reshape(6, 1, 4, 4)
    return ClassPool.grouped(x, [2, 3, 1], ["α/one", "two", "three"], splits={"train": ["two"]})


def test_data_folder_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.delenv("HANDFUL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_folder() == tmp_path / "cache" / "handful"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / ".cache" / "handful"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_what_was_stored_is_loaded(tmp_path: Path, pool: ClassPool, dtype: torch.dtype) -> None:
    stored = rotations(ClassPool.grouped(pool.examples.to(dtype), pool.counts.tolist(), pool.names))
    store_pool(tmp_path / "deep" / "pool", stored, {"source": "made up"})
    loaded = load_pool(tmp_path / "deep" / "pool")
    assert loaded.examples.dtype == dtype
    for name in ("examples", "starts", "counts", "families"):
        assert torch.equal(getattr(loaded, name), getattr(stored, name)), name
    assert loaded.names == stored.names
    assert loaded.splits == {}
    assert json.loads((tmp_path / "deep" / "pool" / "pool.json").read_text())["about"] == {"source": "made up"}


def test_a_subset_is_stored_alone(tmp_path: Path, pool: ClassPool) -> None:
    store_pool(tmp_path / "pool", pool.subset([2, 0]), {})
    loaded = load_pool(tmp_path / "pool")
    assert loaded.names == ("three", "α/one")
    assert torch.equal(loaded.examples, pool.examples[[5, 0, 1]])


def test_a_pool_is_replaced_while_it_is_open(tmp_path: Path, pool: ClassPool) -> None:
    store_pool(tmp_path / "pool", pool, {})
    opened = load_pool(tmp_path / "pool")
    store_pool(tmp_path / "pool", pool.subset([1]), {})
    assert torch.equal(opened.examples, pool.examples)
    assert load_pool(tmp_path / "pool").names == ("two",)


def test_examples_are_memory_mapped(tmp_path: Path, pool: ClassPool) -> None:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc/self/maps")
    store_pool(tmp_path / "pool", pool, {})
    loaded = load_pool(tmp_path / "pool")
    assert str(tmp_path / "pool" / "examples.safetensors") in maps.read_text()
    assert checksum(loaded.examples) == checksum(pool.examples)


def test_names_that_are_no_text(tmp_path: Path, pool: ClassPool) -> None:
    name = os.fsdecode(b"caf\xe9")  # a folder's name in another encoding
    store_pool(tmp_path / "pool", ClassPool.grouped(pool.examples, [6], [name]), {})
    assert load_pool(tmp_path / "pool").names == (name,)


def test_one_makes_a_pool_and_others_wait(tmp_path: Path, pool: ClassPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path))
    begun, made = threading.Event(), []

    def make() -> ClassPool:
        begun.set()
        made.append(threading.get_ident())
        threading.Event().wait(0.3)  # long enough for the others to come
        return pool

    def load(first: bool) -> ClassPool:
        assert first or begun.wait(10)
        return cached_pool("mine", {"size": 4}, make)

    with ThreadPoolExecutor(4) as threads:
        pools = list(threads.map(load, [True, False, False, False]))
    assert [one.names for one in pools] == [pool.names] * 4
    assert len(made) == 1
    assert cached_pool("mine", {"size": 5}, lambda: pool.subset([1])).names == ("two",)
    assert os.listdir(tmp_path) == ["mine"]


def test_a_pool_is_replaced_while_others_load_it(
    tmp_path: Path, pool: ClassPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_pool(tmp_path / "pool", pool, {})
    away, real = threading.Event(), os.rename

    def rename(source: Any, target: Any) -> None:
        real(source, target)
        if str(target).endswith(".old"):
            away.set()
            threading.Event().wait(0.3)  # between the two renames

    def load() -> ClassPool:
        assert away.wait(10)
        return load_pool(tmp_path / "pool")

    monkeypatch.setattr(os, "rename", rename)
    with ThreadPoolExecutor() as threads:
        loaded = threads.submit(load)
        store_pool(tmp_path / "pool", pool.subset([1]), {})
        assert loaded.result().names == ("two",)


def spoil(folder: Path, how: str) -> None:
    tensors, described = folder / "examples.safetensors", folder / "pool.json"
    content, text = tensors.read_bytes(), described.read_text()
    match how:
        case "cut in half":
            tensors.write_bytes(content[: len(content) // 2])
        case "one bit turned":
            tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "empty":
            tensors.write_bytes(b"")
        case "no examples":
            tensors.unlink()
        case "no description":
            described.unlink()
        case "half a description":
            described.write_text(text[: len(text) // 2])
        case "not a description":
            described.write_text("[]")
        case "other counts":
            described.write_text(text.replace("[2, 3, 1]", "[2, 3, 2]"))
        case "other format":
            described.write_text(text.replace('"format": 1', '"format": 99'))
        case "key missing":
            described.write_text(text.replace('"names"', '"nouns"'))


@pytest.mark.parametrize(
    "how",
    [
        "cut in half",
        "one bit turned",
        "empty",
        "no examples",
        "no description",
        "half a description",
        "not a description",
        "other counts",
        "other format",
        "key missing",
    ],
)
def test_a_broken_pool_is_named_and_never_trusted(tmp_path: Path, pool: ClassPool, how: str) -> None:
    store_pool(tmp_path / "pool", pool, {})
    spoil(tmp_path / "pool", how)
    with pytest.raises(DataError, match="delete it to rebuild") as caught:
        load_pool(tmp_path / "pool")
    assert str(tmp_path / "pool") in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no stored pool"):
        load_pool(tmp_path / "pool")


def test_a_full_disk_leaves_the_old_pool(tmp_path: Path, pool: ClassPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store_pool(tmp_path / "pool", pool, {})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="the disk is full"):
            store_pool(tmp_path / "pool", pool.subset([0]), {})
    assert load_pool(tmp_path / "pool").names == pool.names
    assert [path.name for path in tmp_path.iterdir()] == ["pool"]


def test_a_place_that_cannot_be_written(tmp_path: Path, pool: ClassPool) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another place"):
        store_pool(tmp_path / "file" / "pool", pool, {})
