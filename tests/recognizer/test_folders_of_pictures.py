"""Folders of pictures that are taught: which folders are classes, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful.data import check_data, folder
from handful.errors import DataError, StorageError
from handful.recognizer import teach


def paint(root: Path, *names: str) -> Path:
    """Pictures of noise, no two alike."""
    random = np.random.default_rng(0)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 20, 3)).astype(np.uint8)).save(root / name)
    return root


@pytest.mark.parametrize("nested", [False, True])
def test_teach_and_check_and_folder_have_the_same_classes(tmp_path: Path, nested: bool) -> None:
    root = paint(tmp_path / "p", "mug/2023/1.png", "mug/2024/a/2.png", "mug/3.png", "cup/4.png", "cup/5.png")
    pool = folder(path=str(root), size=8, nested=nested)
    expected = dict(zip(pool.names, pool.counts.tolist(), strict=True))
    assert teach(root, encoder="gradients", nested=nested).report().classes == expected
    assert check_data(root, nested=nested).classes == expected
    assert len(expected) == (4 if nested else 2)


def test_one_class_whose_folders_may_be_the_classes_is_warned_of(tmp_path: Path) -> None:
    root = paint(tmp_path / "p", "birds/robin/1.png", "birds/wren/2.png")
    with pytest.warns(UserWarning, match=r"one class, birds, whose folders are taken together.*--nested"):
        assert teach(root, encoder="gradients").report().classes == {"birds": 2}
    assert [*teach(root, encoder="gradients", nested=True).report().classes] == ["birds/robin", "birds/wren"]


def test_files_that_are_not_there_are_named_or_left_out(tmp_path: Path) -> None:
    root = paint(tmp_path / "p", "a/1.png", "a/2.png", "b/3.png", "b/4.png")
    for name, target in (("a/x.png", "/nonexistent"), ("b/x.png", "x.png")):  # the latter is the link itself
        (root / name).symlink_to(target)
    with pytest.raises(StorageError, match=r"a/x\.png.*b/x\.png.*--skip-unreadable"):
        teach(root, encoder="gradients")
    (root / "b" / "cut.png").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"a/x\.png.*b/cut\.png.*b/x\.png"):
        teach(root, encoder="gradients")
    with pytest.warns(UserWarning, match="left out") as said:
        made = teach(root, encoder="gradients", skip_unreadable=True)
    assert sum("left out" in str(one.message) for one in said) == 3
    assert made.report().classes == {"a": 2, "b": 2}
    with pytest.raises(DataError, match=r"cannot read .*x\.png"):
        made.recognize_many([root])
    with pytest.warns(UserWarning, match="left out"):
        assert len(made.recognize_many([root], skip_unreadable=True)) == 4
    paint(root, "a/1.png", "a/2.png", "b/3.png", "b/4.png", "new/5.png")
    with pytest.warns(UserWarning, match="left out") as said:
        assert len(made.suggest([root], skip_unreadable=True)) == 1
    assert len(said) == 3
    with pytest.raises(StorageError, match="cannot read"):
        made.recognize(root / "a" / "x.png")
    with pytest.raises(StorageError, match="cannot read"):
        made.add("a", [root / "a" / "x.png"])
    with pytest.warns(UserWarning, match="left out"), pytest.raises(DataError, match="can be read, found none"):
        made.add("a", [root / "a" / "x.png"], skip_unreadable=True)
    with pytest.warns(UserWarning, match="left out"):
        made.add("new", [root / "new" / "5.png", root / "a" / "x.png"], skip_unreadable=True)
    assert made.report().classes == {"a": 2, "b": 2, "new": 1}


def test_links_to_folders_are_followed_in_what_is_asked_as_in_what_is_taught(tmp_path: Path) -> None:
    root = paint(tmp_path, "p/a/4.png", "p/a/5.png", "other/1.png", "other/2.png", "other/.hidden/3.png") / "p"
    (root / "b").symlink_to(tmp_path / "other")
    (root / "a" / "back").symlink_to(root)
    (root / "a" / "folder.png").mkdir()
    made = teach(root, encoder="gradients")
    assert made.report().classes == {"a": 2, "b": 2}
    asked = made.recognize_many([root])
    assert [Path(one.source).name for one in asked] == ["4.png", "5.png", "1.png", "2.png"]
