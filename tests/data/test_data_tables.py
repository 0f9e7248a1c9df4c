from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from handful.data.arrays import arrays
from handful.data.check import check_data
from handful.data.tables import columns_pool, table
from handful.errors import DataError, MissingExtraError, StorageError, UnknownNameError
from handful.rows import numbered_columns

ROWS = [("a, b", "first", 1.0), ("naïve", "second", 2.5), ('say "no"', "first", -3.0)]


def written(path: Path, content: str, encoding: str = "utf-8") -> str:
    path.write_bytes(content.encode(encoding))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The same rows in every form."""
    quoted = ['"' + text.replace('"', '""') + '"' for text, *_ in ROWS]
    found = {
        kind: written(
            tmp_path / f"rows.{kind}",
            "\n".join([between.join(("text", "label", "n")), *(
                between.join((text, label, str(n))) for text, (_, label, n) in zip(quoted, ROWS, strict=True)
            )]),
        )
        for kind, between in (("csv", ","), ("tsv", "\t"))
    }  # fmt: skip
    lines = [json.dumps({"text": text, "label": label, "n": n}) for text, label, n in ROWS]
    found["jsonl"] = written(tmp_path / "rows.jsonl", "\n".join(lines) + "\n\n")
    if find_spec("pyarrow"):
        import pyarrow
        import pyarrow.parquet

        columns = {name: [row[i] for row in ROWS] for i, name in enumerate(("text", "label", "n"))}
        found["parquet"] = str(tmp_path / "rows.parquet")
        pyarrow.parquet.write_table(pyarrow.table(columns), found["parquet"])
    return found


def test_every_form_of_a_table_gives_the_same_pool(files: dict[str, str]) -> None:
    digests = {kind: table(path=path, reading="words", length=4).digest for kind, path in files.items()}
    assert len(set(digests.values())) == 1
    for path in files.values():
        pool = table(path=path, features=["n"])
        assert pool.names == ("first", "second")
        assert pool.examples.tolist() == [[1.0], [-3.0], [2.5]]


def test_an_encoding_is_said(tmp_path: Path) -> None:
    content = "text,label\nZürich,a\n"
    path = written(tmp_path / "old.csv", content, "cp1252")
    with pytest.raises(DataError, match=r'line 2 is not utf-8.*encoding = "cp1252"'):
        table(path=path, reading="words")
    right = table(path=written(tmp_path / "bom.csv", content, "utf-8-sig"), reading="words")
    assert table(path=path, reading="words", encoding="cp1252").digest == right.digest
    with pytest.raises(DataError, match="unknown encoding"):
        table(path=path, encoding="morse")


@pytest.mark.parametrize("encoding", ["undefined", "\udce9", "rot13", "none"])
def test_what_is_no_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text("text,label\nhello,a\n")
    with pytest.raises(DataError, match="expected an encoding that Python knows, such as utf-8"):
        table(path=str(tmp_path / "a.csv"), encoding=encoding, reading="words")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark_is_told(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path / "a.csv", "text,label\none,a\ntwo,b\n", encoding)
    with pytest.raises(DataError, match=rf'UTF-16 without its mark.*encoding = "{encoding}"'):
        table(path=path, reading="words")
    assert table(path=path, reading="words", encoding=encoding).names == ("a", "b")


@pytest.mark.parametrize(
    ("sign", "encoding"),
    [(";", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-16"), (",", "utf-32")],
)
def test_tables_as_spreadsheets_write_them(tmp_path: Path, sign: str, encoding: str) -> None:
    rows = [("Text", " label"), ('"Zürich, today"', "a"), ("Bern", "b"), ("", "")]
    content = "\r\n".join(sign.join(row) for row in rows)
    made = table(path=written(tmp_path / "a.csv", content, encoding), reading="words", length=4)
    wanted = columns_pool({"text": ["Zürich, today", "Bern"], "label": ["a", "b"]}, reading="words", length=4)
    assert made.digest == wanted.digest


def test_columns_of_a_spreadsheet_that_hold_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "text,label,,\none,a,,\ntwo,b,,\n")
    assert table(path=path, reading="words").names == ("a", "b")
    path = written(tmp_path / "a.csv", "text,label,,\none,a,,\ntwo,b,,more\n")
    with pytest.raises(DataError, match="line 3: expected 3 cells"):
        table(path=path, reading="words")


@pytest.mark.parametrize("names", [("utterance", "intent"), ("Sentence", "CLASS"), (" content ", "Category")])
def test_columns_are_found_by_their_usual_names(names: tuple[str, str]) -> None:
    values = ["one", "two"], ["a", "b"]
    made = columns_pool(dict(zip(names, values, strict=True)), reading="words", length=4)
    wanted = columns_pool({"text": values[0], "label": values[1]}, reading="words", length=4)
    assert made.digest == wanted.digest


def test_a_column_may_stand_alone() -> None:
    columns = {"height": [1, 2], "width": [3, 4], "label": ["a", "b"]}
    assert columns_pool(columns, features="width").examples.tolist() == [[3], [4]]
    with pytest.raises(UnknownNameError, match="'depth'"):
        columns_pool(columns, features="depth")


def test_a_column_of_numbers_is_none_of_texts() -> None:
    assert columns_pool({"content": ["1", "2"], "x": [3, 4], "label": ["a", "b"]}).examples.tolist() == [[1, 3], [2, 4]]
    with pytest.raises(UnknownNameError, match="'label'"):  # two of them: nobody knows which
        columns_pool({"Label": ["a"], "LABEL": ["b"], "x": [1]})


def test_columns_of_lists_are_vectors(tmp_path: Path) -> None:
    path = written(tmp_path / "v.jsonl", '{"v": [1, 2], "w": 3, "label": 7}\n{"v": [4, 5], "w": 6, "label": 8}')
    pool = table(path=path)
    assert pool.examples.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert pool.names == ("7", "8")


def test_a_mapping_and_a_frame() -> None:
    columns = {"kind": ["a", "b", "a"], "x": np.arange(3), "y": [0.5, 1, 2]}
    made = columns_pool(columns, label="kind")
    assert made.examples.tolist() == [[0.0, 0.5], [2.0, 2.0], [1.0, 1.0]]
    pandas = pytest.importorskip("pandas")
    assert columns_pool(pandas.DataFrame(columns), label="kind").digest == made.digest
    with pytest.raises(DataError, match="expected a DataFrame"):
        columns_pool([1, 2])


def test_splits_and_least(tmp_path: Path) -> None:
    rows = "".join(f"{index},{'abcd'[index % 4]}\n" for index in range(9))
    path = written(tmp_path / "n.csv", "x,label\n" + rows)
    assert table(path=path, split={"train": ["a", "b"]}).split("train").names == ("a", "b")
    assert table(path=path, least=3).names == ("a",)
    assert table(path=path, within=True, split={"train": 0.5, "test": 0.5}).split("test").classes == 4
    with pytest.raises(DataError, match="no class has 9 rows, the largest has 3"):
        table(path=path, least=9)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "text,label\none,a,b\n", "line 2: expected 2 cells .*quotes"),
        ("a.csv", "", "first line of different column names"),
        ("a.csv", "x,x\n1,2\n", "first line of different column names, got 'x' more than once"),
        ("a.csv", 'text,label\n"open,a\n', "line 2.* double those in it"),
        ("a.csv", 'text,label\n"so" said,a\n', "line 2.* double those in it"),
        ("a.csv", f"text,label\n{'x' * 140_000},a\n", "line 2.* at most 131,072 characters"),
        ("a.csv", "text,label\none,\n", r"rows \[1\] have no 'label'"),
        ("a.csv", "x,label\none,a\n", "row 1 of column 'x': expected a finite number, got 'one'"),
        ("a.csv", "x,label\nnan,a\n", "expected a finite number"),
        ("a.csv", "x,label\n1e39,a\n", "row 1 of column 'x': expected a finite number"),
        ("a.csv", "label\na\n", "a column of texts, or of numbers"),
        ("a.csv", ",label\n0,a\n", "a column of texts, or of numbers"),
        ("a.csv", "text,label\n", "expected rows, there are none"),
        ("a.csv", "x,label\n", "expected rows, there are none"),
        ("a.csv", "x,label\n1,a\n2, \n", r"rows \[2\] have no 'label'"),
        ("a.jsonl", '{"x": 1, "label": "a"}\n{"x": 1, "label": NaN}', r"rows \[2\] have no 'label'"),
        ("a.jsonl", f'{{"x": 1{"0" * 400}, "label": "a"}}', "expected a finite number"),
        ("a.jsonl", '{"x": 1, "label": "a"}\n{"x": 2}', r"rows \[2\] have no 'label'"),
        ("a.jsonl", '{"x": 1, "label": "a"}\n{"x": 1, "label": ["a", "b"]}', r"rows \[2\] have several 'label'"),
        ("a.jsonl", '{"x": 1}\n[2]\n', "line 2: expected an object of the keys x"),
        ("a.jsonl", "{\n", "line 1 is not JSON"),
        ("a.jsonl", '{"v": [1, 2], "label": 1}\n{"v": [1], "label": 1}', r"row 2 .*a list of 2"),
        ("a.xlsx", "", r"expected a file \.csv"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        table(path=written(tmp_path / name, content))


@pytest.mark.parametrize(
    "content",
    [
        "\n\ntext,label\none,a\ntwo,b\n",
        '"text";"label";"size, height"\none;a;1\ntwo;b;2\n',
        "text;label\rone;a\rtwo;b, or not\r",
        '"text\nof it, all";label;text\n1;a;one\n2;b;two\n',
    ],
)
def test_first_lines_as_programs_write_them(tmp_path: Path, content: str) -> None:
    pool = table(path=written(tmp_path / "a.csv", content), reading="words")
    assert (pool.names[0], pool.classes) == ("a", 2)


def test_what_lines_of_json_leave_out_is_empty(tmp_path: Path) -> None:
    lines = '{"x": 1, "label": "a"}\n{"label": "b", "x": 2, "note": "late"}\n'
    columns, _ = numbered_columns(Path(written(tmp_path / "a.jsonl", lines)))
    assert columns == {"x": [1, 2], "label": ["a", "b"], "note": [None, "late"]}


def test_columns_of_tensors_and_of_other_frames() -> None:
    whole = {"x": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "label": [1, 0, 1]}
    made = columns_pool(whole)
    of_tensors = {"x": torch.tensor(whole["x"]), "label": torch.tensor(whole["label"])}
    assert columns_pool(of_tensors).digest == made.digest
    assert columns_pool({name: list(column) for name, column in of_tensors.items()}).digest == made.digest

    class Series(list[object]):
        """As polars': a cell that is a list is a series when gone through, which `float` does not take."""

        def __iter__(self) -> Iterator[object]:
            return (object() for _ in range(len(self)))

        def to_list(self) -> list[object]:
            return [self[row] for row in range(len(self))]

    class Frame:
        columns: Sequence[str] = ("x", "label")

        def __getitem__(self, name: str) -> Series:
            return Series(whole[name])

    class Lazy(Frame):
        def collect(self) -> Frame:
            return Frame()

    assert columns_pool(Frame()).digest == made.digest
    with pytest.raises(DataError, match=r"got a Lazy; collect\(\) it"):
        columns_pool(Lazy())


def test_columns_that_are_not_there(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"column of .*'kind'.*label, n, text"):
        table(path=files["csv"], label="kind")
    with pytest.raises(StorageError, match="nowhere"):
        table(path=str(tmp_path / "nowhere.csv"))


def test_parquet_that_is_none_or_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.parquet", "no")
    if find_spec("pyarrow"):
        with pytest.raises(DataError, match="not a readable Parquet"):
            table(path=path)
    monkeypatch.setattr("handful.rows.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"handful\[tables\]"):
        table(path=path)


def test_parquet_of_two_columns_of_one_name_and_of_times(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    labels, path = pyarrow.array(["a", "b"]), tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_arrays([labels, labels], names=["label", "label"]), path)
    with pytest.raises(DataError, match="different column names, got label more than once"):
        table(path=str(path))
    never = pyarrow.array([9 * 10**18, None], pyarrow.timestamp("us"))
    parquet.write_table(pyarrow.table({"x": [1, 2], "label": labels, "when": never}), path)
    assert table(path=str(path), features=["x"]).names == ("a", "b"), "a column that nobody asked for"


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(6, dtype=np.uint8).reshape(3, 1, 2), labels=["a", "b", "a"])
    pool = arrays(path=str(path), y="labels")
    assert pool.examples.dtype == torch.uint8
    assert pool.examples.flatten().tolist() == [0, 1, 4, 5, 2, 3]
    with pytest.raises(UnknownNameError, match="labels, x"):
        arrays(path=str(path))
    np.savez(path, x=np.array([{}]), y=[1])
    with pytest.raises(DataError, match=r"expected an \.npz file of plain arrays"):
        arrays(path=str(path))
    with pytest.raises(DataError, match=r"plain arrays \(numpy\.savez\), got another file; numpy\.savez\(path"):
        arrays(path=written(tmp_path / "b.npz", "no"))
    with pytest.raises(StorageError, match="nowhere"):
        arrays(path=str(tmp_path / "nowhere.npz"))


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\f", "\v", "\x1e"])
def test_lines_end_where_the_format_says(tmp_path: Path, sign: str) -> None:
    text = f"one{sign}two"
    rows = [json.dumps({"text": text, "label": "a"}, ensure_ascii=False), '{"text": "x", "label": "b"}']
    wanted = columns_pool({"text": [text, "x"], "label": ["a", "b"]}, reading="words", length=4)
    for name, content in (("a.jsonl", "\r\n".join(rows)), ("a.csv", f"text,label\r\n{text},a\r\nx,b\r\n")):
        assert table(path=written(tmp_path / name, content), reading="words", length=4).digest == wanted.digest


def test_the_numbers_of_rows_are_no_features(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", ",x,label\n7,1,a\n8,2,b\n")
    assert table(path=path).examples.tolist() == [[1], [2]]
    assert table(path=path, features=["", "x"]).examples.tolist() == [[7, 1], [8, 2]]
    for name in ("Unnamed: 0", "__index_level_0__"):
        assert columns_pool({name: [7, 8], "x": [1, 2], "label": ["a", "b"]}).examples.tolist() == [[1], [2]]


def test_spaces_around_a_label_are_none_of_it() -> None:
    made = columns_pool({"label": ["b", "b ", " a"], "x": [1, 2, 3]})
    assert (made.names, made.counts.tolist()) == (("a", "b"), [1, 2])


def test_columns_that_do_not_fit_each_other() -> None:
    with pytest.raises(DataError, match=r"columns of one length, got \{'label': 1, 'text': 2\}"):
        columns_pool({"label": ["a"], "text": ["x", "y"]}, reading="words")
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match="different column names, got x more than once"):
        columns_pool(pandas.DataFrame([[1, 2, "a"]], columns=["x", "x", "label"]))
    missing = pandas.DataFrame({"label": pandas.array(["a", None], dtype="string"), "x": [1, 2]})
    with pytest.raises(DataError, match=r"rows \[2\] have no 'label'"):
        columns_pool(missing)


def test_damaged_arrays(tmp_path: Path) -> None:
    whole, damaged = tmp_path / "whole.npz", tmp_path / "damaged.npz"
    np.savez_compressed(whole, x=np.random.default_rng(0).random((40, 8)), y=np.arange(40) % 3)
    content = whole.read_bytes()
    seen = set()
    for place in range(0, len(content), 7):
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            arrays(path=str(damaged))
        except (DataError, UnknownNameError) as error:
            seen.add(type(error.__cause__).__name__)
    assert "error" in seen  # of zlib
    bad = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3".ljust(127) + b"\n"
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("x.npy", bad)
        archive.writestr("y.npy", bad)
    with pytest.raises(DataError, match="plain arrays"):
        arrays(path=str(damaged))


@pytest.mark.parametrize("minus", [-1, -1.0, "-1"])
def test_minus_one_is_no_class_of_a_table(minus: object, tmp_path: Path) -> None:
    columns = {"n": [1.0, 2.0, 3.0, 4.0, 5.0], "label": [type(minus)(value) for value in (0, 1, 2, 3)] + [minus]}
    with pytest.raises(DataError, match=r"table, example 4: expected a label, got -1 \(1 of these\); leave out"):
        columns_pool(columns)
    path = written(tmp_path / "rows.csv", "n,label\n" + "".join(f"{n},{n - 1}\n" for n in range(5)))
    with pytest.raises(DataError, match=r"rows\.csv, example 0: expected a label, got -1"):
        table(path=path)
    assert "got -1" in check_data(Path(path)).unreadable[0]
    assert columns_pool({"n": [1.0, 2.0], "label": [minus, type(minus)(1)]}).classes == 2
    with pytest.warns(UserWarning, match="-1 is taken as a class"):
        assert columns_pool({"n": [1.0, 2.0, 3.0], "label": [minus, type(minus)(0), type(minus)(1)]}).classes == 3


def test_a_data_set_of_hugging_face_is_sent_where_its_names_are_read() -> None:
    class Labeled(dict[str, list[float]]):
        features: ClassVar = {"label": None}
        column_names: ClassVar = ["n", "label"]

    with pytest.raises(DataError, match="give it to dataset_pool"):
        columns_pool(Labeled(n=[1.0], label=[0.0]))


def test_columns_of_other_libraries_are_gone_through() -> None:
    class Frame(dict[str, tuple[float, ...]]):  # such as polars', whose columns have no `tolist`
        columns = property(dict.keys)

    assert columns_pool(Frame(n=(1.0, 2.0), label=(0, 1))).names == ("0", "1")


def test_names_of_columns_that_are_numbers() -> None:
    frame = pytest.importorskip("pandas").DataFrame(np.arange(12).reshape(3, 4))
    assert columns_pool(frame, label=3).names == ("11", "3", "7")  # type: ignore[arg-type]
    assert columns_pool(frame, label=3, features=[0, 2]).shape == (2,)  # type: ignore[arg-type,list-item]
    assert columns_pool(frame, label=3, features=1).shape == (1,)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="unknown column of table '5'"):
        columns_pool(frame, label=5)  # type: ignore[arg-type]
