from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful.data.check import check_data
from handful.errors import DataError, StorageError, UnknownNameError


def test_pictures(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        for index in range(7):
            small = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            small.resize((48, 48)).save(tmp_path / name / f"{index}.png")
    first = Image.open(tmp_path / "a" / "0.png")
    (tmp_path / "b" / "again.png").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    first.resize((40, 40)).save(tmp_path / "a" / "smaller.jpg", quality=70)
    first.crop((0, 0, 20, 20)).save(tmp_path / "c" / "tiny.png")
    (tmp_path / "c" / "broken.png").write_bytes(b"no")
    report = check_data(tmp_path)
    assert report.kind == "pictures"
    assert report.classes == {"a": 8, "b": 8, "c": 8}
    assert report.examples == 24
    assert [Path(place).name for place in report.tiny] == ["tiny.png"]
    assert "broken.png" in report.unreadable[0]
    assert [{Path(p).name for p in group} for group in report.duplicates] == [{"0.png", "again.png"}]
    assert [{Path(p).name for p in group} for group in report.near] == [{"0.png", "again.png", "smaller.jpg"}]
    assert len(report.contradictions) == 2
    assert report.table()["imbalance"] == 1.0
    said = "\n".join(report.advice)
    for part in ("skip_unreadable", "different classes", "ways = 3, shots = 1, queries = 5"):
        assert part in said


def test_texts(tmp_path: Path) -> None:
    rows = ["text,label", "hello,a", "Hello!,a", "hello,b", "other,c", ",c", "some,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    report = check_data(tmp_path / "t.csv")
    assert report.kind == "texts"
    assert report.classes == {"a": 2, "b": 1, "c": 1}
    assert report.duplicates == [["row 1", "row 3"]]
    assert report.contradictions == [["row 1", "row 3"], ["row 1", "row 2", "row 3"]]
    assert report.near == [["row 1", "row 2", "row 3"]]
    assert report.unreadable == ["row 5: no text", "row 6: no label"]
    assert any("2 classes have a single example" in advice for advice in report.advice)
    assert any("too few" in advice for advice in report.advice)
    assert any(advice.startswith("to be taught: all 3 classes, ") for advice in report.advice)
    (tmp_path / "two.csv").write_text("text,label\nhello,a\nother,b\n")
    assert any(advice.startswith("to be taught: both classes, ") for advice in check_data(tmp_path / "two.csv").advice)
    (tmp_path / "n.csv").write_text("x,y,label\n1,2,a\n1,2,a\n1,3,a\n")
    numbers = check_data(tmp_path / "n.csv")
    assert (numbers.kind, numbers.duplicates) == ("numbers", [["row 1", "row 2"]])
    assert numbers.advice[-1].startswith("one class")


def test_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        check_data(tmp_path / "nowhere")
    (tmp_path / "a.doc").write_text("")
    with pytest.raises(DataError, match="or a table"):
        check_data(tmp_path / "a.doc")
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UnknownNameError, match="'label'"):
        check_data(tmp_path / "a.csv")
