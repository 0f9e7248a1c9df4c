from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful.data.assays import AssayEpisodes
from handful.data.check import check_data
from handful.data.episodes import Episodes
from handful.data.folder import folder
from handful.data.regression import regression
from handful.data.tables import table
from handful.errors import DataError, HandfulError, StorageError, UnknownNameError
from handful.rows import read_columns

KEYS = ("ways", "shots", "queries", "least")
"""What advice says for a spec."""


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
    for part in ("skip_unreadable", "different classes", "ways = 3, shots = 1, queries = 1"):
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
    for content in ("label\na\n", "x,label\n"):
        (tmp_path / "a.csv").write_text(content)
        with pytest.raises(DataError, match=r"there is none|there are none"):
            check_data(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "bad", "said"),
    [
        ("t.jsonl", '{"text": 5, "label": "a"}', "text is not text, got '5'"),
        ("t.jsonl", '{"text": ["x"], "label": "a"}', "text is not text"),
        ("t.jsonl", '{"text": "x", "label": NaN}', "no label"),
        ("t.jsonl", '{"text": "x", "label": " "}', "no label"),
        ("t.jsonl", '{"text": "x", "label": ["a", "b"]}', "several in label"),
        ("t.jsonl", '{"text": "x"}', "no label"),
        ("t.jsonl", f'{{"text": "{"x" * 20_001}", "label": "a"}}', "text has more than 20,000 characters"),
        ("t.jsonl", '{"text": null, "label": "a"}', "no text"),
        ("n.jsonl", '{"x": [1, 2, 3], "label": "a"}', r"column 'x': expected a finite number \(a list of 2\)"),
        ("n.jsonl", '{"x": [1, NaN], "label": "a"}', "column 'x': expected a finite number"),
        ("n.jsonl", '{"x": [1, 1e39], "label": "a"}', "column 'x': expected a finite number"),
    ],
)
def test_what_a_loader_refuses_is_unreadable(tmp_path: Path, name: str, bad: str, said: str) -> None:
    good = '{"text": "x", "label": "a"}' if name == "t.jsonl" else '{"x": [1, 2], "label": "a"}'
    path = tmp_path / name
    path.write_text("\n".join([good, bad, good]))
    (problem,) = check_data(path).unreadable
    assert re.match(f"row 2: {said}", problem)
    with pytest.raises(DataError):
        table(path=str(path), reading="words")
    path.write_text("\n".join([good, good]))
    assert not check_data(path).unreadable
    table(path=str(path), reading="words")


def test_texts_that_nobody_called_so(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes("review,label\nschön,a\ngut,b\n".encode("cp1252"))
    with pytest.raises(DataError, match="cp1252"):
        check_data(path)
    report = check_data(path, encoding="cp1252")
    assert (report.examples, len(report.unreadable)) == (0, 2)
    assert any("--text review" in advice for advice in report.advice)
    assert check_data(path, encoding="cp1252", text="review").classes == {"a": 1, "b": 1}
    path.write_text("review,x,label\nfine,1,a\nbad,2,b\n")
    assert check_data(path, features=["x"]).examples == 2
    path.write_text("file,label\na/1.jpg,a\nb/2.PNG,b\n")
    assert "names pictures" in check_data(path).advice[0]


def test_molecules(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    path = tmp_path / "m.csv"
    path.write_text("SMILES,label\nCCO,a\nOCC,b\nno((,b\n")
    report = check_data(path)
    assert (report.kind, report.examples) == ("molecules", 2)
    assert report.unreadable[0].startswith("row 3: SMILES: expected a molecule")
    assert report.contradictions == [["row 1", "row 2"]]


def test_texts_of_signs_are_not_all_alike(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n!,a\n?,b\n")
    assert check_data(tmp_path / "t.csv").near == []


def painted(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_pictures_are_looked_at_as_they_are_loaded(tmp_path: Path) -> None:
    ramp = np.arange(64, dtype=np.float32)[None].repeat(64, 0)
    painted(tmp_path / "own/a/real.tif", ramp)
    painted(tmp_path / "own/a/16.png", (ramp * 1000).astype(np.uint16))
    painted(tmp_path / "own/b/8.png", (ramp * 1000 // 257).astype(np.uint8))
    for name, left in (("left", True), ("right", False)):  # all the same but for what is transparent
        alpha = np.zeros((64, 64, 4), np.uint8)
        alpha[:, :32, 3] = 255 * left
        alpha[:, 32:, 3] = 255 * (not left)
        painted(tmp_path / f"own/b/{name}.png", alpha)
    report = check_data(tmp_path / "own")
    assert "real.tif: holds real numbers" in report.unreadable[0]
    assert [[Path(place).name for place in group] for group in report.near] == [["16.png", "8.png"]]


def test_what_is_passed_over(tmp_path: Path) -> None:
    painted(tmp_path / "a" / "1.png", np.zeros((40, 40), np.uint8))
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "1.heic").write_bytes(b"")
    (tmp_path / "a" / "gone.jpg").symlink_to(tmp_path / "nothing")
    report = check_data(tmp_path)
    assert (report.passed_over, report.empty) == ({".heic": 1}, [str(tmp_path / "phone")])
    assert any("1 .heic: convert them to JPEG" in advice for advice in report.advice)
    assert report.unreadable == [f"{tmp_path / 'a' / 'gone.jpg'}: No such file or directory"]


def test_splits_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path / "home"))
    random = np.random.default_rng(0)
    for place in ("train/a/1", "train/b/2", "test/a/3", "test/c/4"):
        painted(tmp_path / "own" / f"{place}.png", random.integers(0, 256, (40, 40), dtype=np.uint8))
    (tmp_path / "own/test/a/again.png").write_bytes((tmp_path / "own/train/a/1.png").read_bytes())
    report = check_data(tmp_path / "own")
    assert [{Path(place).name for place in group} for group in report.leaks] == [{"1.png", "again.png"}]
    assert report.contradictions == []
    said = "\n".join(report.advice)
    assert "classes a are in several of the splits" in said
    assert "1 group of the same or nearly the same in several splits" in said
    with pytest.raises(HandfulError, match="classes a are in several"):
        folder(path=str(tmp_path / "own"))


@pytest.mark.parametrize(("inner", "said"), [(("train", "test"), "within = true"), (("young", "old"), "nested = true")])
def test_folders_that_all_classes_hold(tmp_path: Path, inner: tuple[str, str], said: str) -> None:
    for place in (f"{name}/{below}/1.png" for name in "ab" for below in inner):
        painted(tmp_path / place, np.zeros((40, 40), np.uint8))
    report = check_data(tmp_path)
    assert report.classes == {"a": 2, "b": 2}
    assert any(advice.startswith("every class folder holds") and said in advice for advice in report.advice)
    assert len(check_data(tmp_path, nested=True).classes) == 4
    painted(tmp_path / "c" / "1.png", np.zeros((40, 40), np.uint8))
    assert not any("every class" in advice for advice in check_data(tmp_path).advice)


@pytest.mark.parametrize(
    ("classes", "rows"), [(2, 4), (3, 5), (10, 20), (6, 41), (14, 12), (15, 20), (24, 6), (30, 25)]
)
@pytest.mark.parametrize("single", [False, True], ids=["all alike", "and one of one"])
def test_advice_can_be_followed(tmp_path: Path, classes: int, rows: int, single: bool) -> None:
    path, drawn = tmp_path / "n.csv", np.random.default_rng(0)
    lines = [f"{drawn.normal()},class {number}" for number in range(classes) for _ in range(rows)]
    path.write_text("\n".join(["x,label", *lines, *(["1,single"] if single else [])]))
    said = check_data(path).advice[-1]
    assert said.startswith("to be trained on: ")
    ways, shots, queries, least = (int(n[0]) if (n := re.findall(rf"{k} = (\d+)", said)) else 1 for k in KEYS)
    within = "within = true" in said
    assert within == (classes < 15)
    pool = table(path=str(path), least=least, within=within, split={"train": 0.5, "test": 0.5} if within else None)
    assert pool.splits.keys() == ({"train", "test"} if within else {"train", "val", "test"})
    for split in pool.splits:
        assert Episodes(pool.split(split), ways=ways, shots=shots, queries=queries)[0].support.ways == ways


def test_points_of_regression_tasks(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    rows = [f"task {t},{x},{t * x}" for t in range(4) for x in range(10)]
    path.write_text("\n".join(["Task,x,y", *rows, "task 0,1,0", "task 0,2,nan", ",2,3"]))
    report = check_data(path)
    assert (report.kind, report.examples) == ("points", 41)
    assert report.classes == {"task 0": 11, "task 1": 10, "task 2": 10, "task 3": 10}
    assert report.duplicates == [["row 2", "row 41"]], "(0, 0) is of every task, and once of each"
    assert not report.contradictions
    assert not report.near
    assert [problem[:7] for problem in report.unreadable] == ["row 42:", "row 43:"]
    assert report.advice[-1].startswith(
        'to be trained on ([data] name = "regression"): 4 tasks give shots = 5, queries = 5'
    )
    path.write_text("\n".join(["Task,x,y", *rows]))
    assert AssayEpisodes(regression(path=str(path)).split("train"), shots=5, queries=5)[0].query.x is not None
    path.write_text("\n".join(["Task,x,y", *rows[:10]]))
    assert check_data(path).advice[-1].endswith("divide the points of each (within = true)")
    path.write_text("text,task\nhello,a\n")
    with pytest.raises(UnknownNameError, match="'label'"):
        check_data(path)


def test_points_in_columns_of_other_names(tmp_path: Path) -> None:
    path = tmp_path / "wells.csv"
    path.write_text("well,depth,heat\n" + "\n".join(f"w{t},{x},{t * x}" for t in range(4) for x in range(10)))
    with pytest.raises(UnknownNameError, match=r"of 'well' \(texts\), 'depth' \(numbers\), 'heat' \(numbers\)"):
        check_data(path)
    report = check_data(path, task="well", targets=["heat"])
    assert (report.kind, report.examples, len(report.classes)) == ("points", 40, 4)
    with pytest.raises(
        UnknownNameError, match=r"expected a column 'task' .* name another \(task\) of well, depth, heat"
    ):
        check_data(path, targets="heat")
    path.write_text(path.read_text().replace("heat", "y"))
    assert check_data(path, task="well").kind == "points"
    (tmp_path / "wells").mkdir()
    (tmp_path / "wells" / "a.csv").write_text("depth,heat\n1,2\n2,3\n")
    assert check_data(tmp_path / "wells", targets="heat").classes == {"a": 2}
    with pytest.raises(UnknownNameError, match=r"a\.csv: expected a column 'y', .* \(targets\) of depth, heat"):
        check_data(tmp_path / "wells")


def test_labels_that_look_like_values_are_doubted(tmp_path: Path) -> None:
    path = tmp_path / "wells.csv"
    for labels, doubted in (((0.5, 1, 2), True), ((0, 1.0, 2), False)):
        path.write_text("depth,label\n" + "\n".join(f"{x},{label}" for x, label in enumerate(labels)))
        assert ("--targets label" in check_data(path).advice[0]) == doubted


def test_a_folder_of_points(tmp_path: Path) -> None:
    for name, content in (("a.csv", "task,x,y\n1,1,2\n2,3,4\n"), ("b.tsv", "TASK\tx\ty\n1\t2\tno\n")):
        (tmp_path / name).write_text(content)
    (tmp_path / "c.jsonl").write_text('{"task": [1, 2], "x": 1, "y": 1}')
    report = check_data(tmp_path)
    assert (report.kind, report.classes) == ("points", {"a": 2, "c": 1})
    assert report.unreadable[0].startswith("b.tsv, row 1: column 'y': expected a finite number, got 'no'")
    assert report.unreadable[1] == "c.jsonl: expected 2 features and 1 targets, as in the files before, got 3 and 1"
    painted(tmp_path / "1.png", np.zeros((40, 40), np.uint8))
    with pytest.raises(DataError, match="class folder"):
        check_data(tmp_path)


def test_what_is_advised_is_what_helps(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    path = tmp_path / "molecules.csv"
    for bad, helps in (("CCN,", False), ("C1CC,a", True), (",a", True)):
        path.write_text(f"smiles,label\nCC,a\nCCO,b\n{bad}\n")
        report = check_data(path)
        assert report.kind == "molecules"
        assert ("skip_unreadable" in report.advice[0]) == helps, bad
    path.write_text("text,label\nhello,a\n!!!,b\n\U0001f600,b\n")
    assert "2 without letters or figures: teach refuses them" in check_data(path).advice


def test_half_characters_are_read_as_question_marks(tmp_path: Path) -> None:
    rows = [
        {"text": f"hello {n}\ud800", "label": "a\udc00"[: 1 + n % 2], "x\ud800": ["\ud83d\ude00"]} for n in range(4)
    ]
    path = tmp_path / "half.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert check_data(path).classes == {"a": 2, "a?": 2}
    assert table(path=str(path), reading="words").names == ("a", "a?")
    columns = read_columns(path)
    assert columns["text"][0] == "hello 0?"
    assert columns["x?"][0] == ["\U0001f600"]
