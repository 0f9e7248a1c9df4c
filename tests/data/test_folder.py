from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handful.data.folder import folder, passed_over
from handful.data.pool import ClassPool
from handful.errors import DataError, LabelError, ShapeError, StorageError
from handful.spec import Spec, load_data


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


def paint(top: Path, *names: str) -> Path:
    """A gray picture at each name, each of another shade."""
    for index, name in enumerate(names):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 4 + index % 3), 10 * index + 10).save(top / name)
    return top


def shades(pool: ClassPool) -> dict[str, list[int]]:
    """The shade of every picture, by class."""
    spans = zip(pool.names, pool.starts.tolist(), pool.counts.tolist(), strict=True)
    return {name: pool.examples[first : first + count, 0, 0, 0].tolist() for name, first, count in spans}


def test_classes_are_the_outermost_folders_or_the_innermost(tmp_path: Path) -> None:
    top = paint(tmp_path / "own", "birds/robin/1.png", "birds/wren/2.PNG", "cats/3.png", "cats/.hidden.png")
    (top / "cats" / "notes.txt").write_text("not a picture")
    pool = folder(path=str(top), size=8)
    assert pool.shape == (3, 8, 8)
    assert pool.examples.dtype == torch.uint8
    assert shades(pool) == {"birds": [10, 20], "cats": [30]}
    assert shades(folder(path=str(top), size=8, nested=True)) == {"birds/robin": [10], "birds/wren": [20], "cats": [30]}
    assert folder(path=str(top), size=(4, 6), channels=1).shape == (1, 4, 6)
    assert folder(path=str(top), size=8, least=2).names == ("birds",)


def test_later_loads_decode_nothing_unless_a_file_changed(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = paint(tmp_path / "own", "a/1.png", "b/2.png")
    first = folder(path=str(top), size=4)
    monkeypatch.setattr(sys.modules["handful.data.folder"], "decode", None)
    assert folder(path=str(top), size=4).digest == first.digest
    monkeypatch.undo()
    monkeypatch.setenv("HANDFUL_DATA", str(home))
    Image.new("L", (4, 4), 99).save(top / "a" / "1.png")
    os.utime(top / "a" / "1.png", ns=(1, 1))
    assert shades(folder(path=str(top), size=4))["a"] == [99]
    (cached,) = home.glob("folder-*")
    (cached / "examples.safetensors").write_bytes(b"broken")
    assert shades(folder(path=str(top), size=4)) == {"a": [99], "b": [20]}


def test_unreadable_files_are_named_and_left_out_only_if_asked(tmp_path: Path) -> None:
    top = paint(tmp_path / "own", "a/1.png", "b/2.png")
    for name in ("a/0.jpg", "b/3.png"):
        (top / name).write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"2 of 4 pictures cannot be read: .*0\.jpg.*3\.png.*skip_unreadable = true"):
        folder(path=str(top), size=4)
    with pytest.warns(UserWarning, match="left out"):
        pool = folder(path=str(top), size=4, skip_unreadable=True)
    assert shades(pool) == {"a": [10], "b": [20]}
    for name in ("a/1.png", "b/2.png"):
        (top / name).write_bytes(b"neither")
    with pytest.raises(DataError, match="4 of 4 pictures"):
        folder(path=str(top), size=4, skip_unreadable=True)


def test_splits_that_are_folders(tmp_path: Path) -> None:
    top = paint(tmp_path / "own", "train/a/1.png", "train/b/2.png", "valid/c/3.png", "test/d/4.png")
    pool = folder(path=str(top), size=4)
    assert {split: pool.split(split).names for split in pool.splits} == {
        "test": ("d",), "train": ("a", "b"), "val": ("c",)
    }  # fmt: skip
    with pytest.raises(DataError, match="are the splits"):
        folder(path=str(top), split={"train": 1.0})
    paint(top, "test/a/5.png")
    with pytest.raises(LabelError, match=r"classes a are in several.*within = true"):
        folder(path=str(top), size=4)
    within = folder(path=str(top), size=4, within=True)
    assert within.split("train").names == ("a/train", "b/train")
    assert within.split("test").names == ("a/test", "d/test")
    assert within.families[within.names.index("a/train")] == within.families[within.names.index("a/test")]


def test_splits_of_classes_and_within_them(tmp_path: Path) -> None:
    top = paint(tmp_path / "own", *(f"{name}/{index}.png" for name in "abcde" for index in range(4)))
    assert [len(members) for members in folder(path=str(top), size=4).splits.values()] == [3, 1, 1]
    given = folder(path=str(top), size=4, split={"train": ["a", "b"], "test": ["e"]})
    assert given.split("test").names == ("e",)
    within = folder(path=str(top), size=4, split={"train": 0.75, "test": 0.25}, within=True)
    assert within.split("train").counts.tolist() == [3] * 5


def test_a_spec_of_a_folder(tmp_path: Path) -> None:
    top = paint(tmp_path / "own", *(f"{name}/{index}.png" for name in "abcdef" for index in range(4)))
    spec = Spec.of(
        {
            "learner": {"name": "prototypical"},
            "encoder": {"name": "mlp", "shape": [1, 4, 6]},
            "data": {"name": "folder", "path": str(top), "size": [4, 6], "channels": 1, "split": {"train": 0.5}},
            "train": {"ways": 3, "queries": 2, "steps": 1},
        }
    )
    assert Spec.of(spec.table()) == spec
    pool = load_data(spec)
    assert pool.shape == (1, 4, 6)
    assert {split: len(members) for split, members in pool.splits.items()} == {"train": 3}
    listed = Spec.of(spec.table() | {"data": {"name": "folder", "path": str(top), "split": {"train": ["a", "b"]}}})
    assert listed.data.options["split"] == {"train": ["a", "b"]}


def test_folders_that_hold_no_classes(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        folder(path=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no pictures \(.*expected a folder for each class"):
        folder(path=str(tmp_path / "empty"))
    top = paint(tmp_path / "flat", "1.png", "a/2.png")
    with pytest.raises(DataError, match=r"1\.png in no class folder"):
        folder(path=str(top))
    with pytest.raises(DataError, match="no class has 9 pictures, the largest has 1"):
        folder(path=str(paint(tmp_path / "few", "a/1.png")), least=9)


def test_pictures_of_every_size_and_kind_side_by_side(tmp_path: Path) -> None:
    top = tmp_path / "own"
    (top / "a").mkdir(parents=True)
    random = np.random.default_rng(0)
    kinds = [("RGB", "jpg"), ("L", "pgm"), ("RGBA", "png"), ("P", "gif"), ("CMYK", "tif")]
    for index, (mode, kind) in enumerate(kinds):
        pixels = random.integers(0, 256, (20 + index, 31, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(top / "a" / f"{index}.{kind}")
    pool = folder(path=str(top), size=16)
    assert pool.examples.shape == (5, 3, 16, 16)


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    real = paint(tmp_path / "elsewhere", "1.png", "2.jfif", "more/3.JPE")
    top = paint(tmp_path / "own", "a/1.png")
    (top / "b").symlink_to(real)
    (top / "a" / "back").symlink_to(top)
    (top / "a" / "alone.png").symlink_to(real / "1.png")
    assert shades(folder(path=str(top), size=4)) == {"a": [10, 10], "b": [10, 20, 30]}


def test_a_link_to_nothing_is_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    top = paint(tmp_path / "own", "a/1.png", "b/2.png")
    (top / "a" / "gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(DataError, match=r"1 of 3 pictures cannot be read: .*gone\.png"):
        folder(path=str(top), size=4)
    for named in (r"gone\.png", "handful data check"):  # the second time from the cache
        with pytest.warns(UserWarning, match=rf"1 of 3 pictures cannot be read: .*{named}.*left out"):
            assert shades(folder(path=str(top), size=4, skip_unreadable=True)) == {"a": [10], "b": [20]}


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    top = paint(tmp_path / "own", "a/1.png", "a/deep/2.png")
    for name in ("phone/1.heic", "phone/more/2.HEIC", "a/notes.txt", "a/README", "a/.hidden"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(b"")
    (top / "empty" / "within").mkdir(parents=True)
    assert passed_over(top) == (
        {".heic": 2, ".txt": 1, "without an ending": 1}, [str(top / "empty"), str(top / "phone")]
    )  # fmt: skip


@pytest.mark.parametrize("names", [("Train", "Val", "TEST"), ("training", "dev", "testing"), ("train", "eval", "test")])
def test_splits_by_other_names(tmp_path: Path, names: tuple[str, str, str]) -> None:
    top = paint(tmp_path / "own", *(f"{name}/{label}/1.png" for name, label in zip(names, "abc", strict=True)))
    pool = folder(path=str(top), size=4)
    assert {split: pool.split(split).names for split in pool.splits} == {"train": ("a",), "val": ("b",), "test": ("c",)}


def test_splits_beside_other_folders_are_refused(tmp_path: Path) -> None:
    top = paint(tmp_path / "own", "train/a/1.png", "test/b/2.png", "unlabeled/c/3.png")
    with pytest.raises(DataError, match=r"folders test, train are taken for splits, but unlabeled .* move .* rename"):
        folder(path=str(top), size=4)
    vehicles = paint(tmp_path / "vehicles", "train/1.png", "bus/2.png", "test/3.png")
    assert folder(path=str(vehicles), size=4).names == ("bus", "test", "train")


def test_names_with_a_colon_are_of_no_common_family(tmp_path: Path) -> None:
    top = paint(tmp_path / "own", "10:30/1.png", "11:30/2.png", "12:30/3.png")
    pool = folder(path=str(top), size=4)
    assert pool.names == ("10:30", "11:30", "12:30")
    assert pool.families.tolist() == [0, 1, 2]
    within = folder(path=str(paint(tmp_path / "split", "train/1:2/1.png", "test/1:2/2.png")), size=4, within=True)
    assert within.names == ("1:2/test", "1:2/train")


def test_a_size_is_any_whole_number(tmp_path: Path) -> None:
    top = str(paint(tmp_path / "own", "a/1.png"))
    assert folder(path=top, size=np.int64(4)).shape == (3, 4, 4)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"size of 1 to 4096 pixels.*got 4\.0"):
        folder(path=top, size=4.0)  # type: ignore[arg-type]
