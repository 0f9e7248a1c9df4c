"""Tables of every form are taught and asked as `data check` and `table` read them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from handful.data import table
from handful.errors import DataError, StorageError
from handful.recognizer import teach

ROWS = [
    ("Licht an; größer", "light"),
    ("lights off, all", "light"),
    ("play a song", "music"),
    ("the next song", "music"),
]


def separated(sign: str) -> str:
    return "\n".join(sign.join(f'"{cell}"' for cell in row) for row in [("Text", "Label"), *ROWS])


def written(folder: Path) -> dict[str, Path]:
    """The same rows in every form."""
    files = {
        "commas.csv": separated(",").encode(),
        "semicolons.csv": separated(";").encode("utf-8-sig"),
        "tabs.csv": separated("\t").encode("utf-16"),
        "tabs.tsv": separated("\t").encode(),
        "empty.csv": "\n".join(f"{line};;;" for line in separated(";").split("\n")).encode(),
        "lines.jsonl": "\n".join(json.dumps({"Text": text, "Label": label}) for text, label in ROWS).encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    if find_spec("pyarrow"):
        import pyarrow
        import pyarrow.parquet

        columns = dict(zip(("Text", "Label"), map(list, zip(*ROWS, strict=True)), strict=True))
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / "rows.parquet")
    return {path.name: path for path in folder.iterdir()}


def test_every_form_is_taught_and_asked_alike(tmp_path: Path) -> None:
    files = written(tmp_path)
    assert len(files) >= 6
    for name, path in files.items():
        pool = table(path=str(path), reading="words")
        with teach(path, encoder="ngrams") as made:
            assert made.report().classes == dict(zip(pool.names, pool.counts.tolist(), strict=True)), name
            assert [made.collection.preview(one.id) for one in made.collection.read().examples] == [t for t, _ in ROWS]
            first = 1 if path.suffix in (".jsonl", ".parquet") else 2
            assert made.collection.read().examples[0].source == f"{path}:{first}"
            assert [one.label for one in made.recognize_many([path])] == [label for _, label in ROWS]


def test_an_encoding_is_said(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_bytes(separated(";").encode("cp1252"))
    with pytest.raises(DataError, match="line 2 is not utf-8; say its encoding"):
        teach(tmp_path / "old.csv", encoder="ngrams")
    made = teach(tmp_path / "old.csv", encoder="ngrams", encoding="cp1252")
    assert made.collection.preview(1) == ROWS[0][0]
    with pytest.raises(DataError, match="say its encoding"):
        made.recognize_many([tmp_path / "old.csv"])
    assert made.recognize_many([tmp_path / "old.csv"], encoding="cp1252")[0].label == "light"
    assert made.suggest([tmp_path / "old.csv"], encoding="cp1252") == []
    (tmp_path / "new.csv").write_bytes("text\nfür später\n".encode("cp1252"))
    made.add("later", [tmp_path / "new.csv"], encoding="cp1252")
    assert made.report().classes["later"] == 1


def test_labels_that_are_numbers(tmp_path: Path) -> None:
    lines = [{"text": text, "label": number} for number, (text, _) in enumerate(ROWS)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert [*teach(path, encoder="ngrams").report().classes] == ["0", "1", "2", "3"]
    path.write_text("\n".join(json.dumps(line | {"label": line["label"] - 1}) for line in lines))
    with pytest.raises(DataError, match="expected a label, got -1"):
        teach(path, encoder="ngrams")
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"word {number},{number - 1}\n" for number in range(4)))
    with pytest.raises(DataError, match=r"expected a label, got -1 .* another name"):
        teach(path, encoder="ngrams")


def test_names_of_files_are_no_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = teach((list(texts := [text for text, _ in ROWS]), [label for _, label in ROWS]), encoder="ngrams")
    (tmp_path / "notes.txt").write_text("lights off")
    (tmp_path / "light").mkdir()
    for thing in ("quetsions.csv", Path("quetsions.csv"), "no/such.jsonl"):
        with pytest.raises(StorageError, match=r"cannot read (quetsions|no/such).*No such file"):
            made.recognize(thing)
    for thing in ("notes.txt", str(tmp_path / "light"), "light/"):
        with pytest.raises(DataError, match=r"expected a text or a table of texts .* got (another file|a folder)"):
            made.add("light", [thing])
    for text in [*texts, "light", "what is in quetsions.csv", "and/or", "notes.md"]:
        assert made.recognize(text).source == text
