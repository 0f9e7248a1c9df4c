from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from handful.cli import main


class Said(NamedTuple):
    code: int
    out: str
    error: str


Call = Callable[..., Said]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """`handful` with these arguments, in a folder with things to teach and to ask."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    random = np.random.default_rng(0)
    centers = random.normal(size=(3, 4))
    y = np.repeat([f"c{k}" for k in range(3)], 6)
    np.savez("vectors.npz", x=np.repeat(centers, 6, 0) + 0.1 * random.normal(size=(18, 4)), y=y)
    np.savez("new.npz", x=centers + 0.1 * random.normal(size=(3, 4)))
    np.savez("far.npz", x=centers[:1] + np.linspace(2, 3, 9)[:, None])
    (tmp_path / "texts.csv").write_text("text,label\nlight on,light\nlights off,light\nplay a song,music\nsong,music\n")
    for label, color in (("red [1]", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(3):
            noise = random.integers(0, 40, size=(20, 20, 3))
            Image.fromarray((np.array(color) // 2 + noise).astype(np.uint8)).save(f"photos/{label}/{number}.png")

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        code = end.value.code
        return Said(code if isinstance(code, int) else 0, said.out, said.err)

    return run


def test_the_path(call: Call) -> None:
    said = call("teach", "vectors.npz", "--to", "shop", "--head", "squared")
    assert (said.code, said.error) == (0, "")
    assert "Taught 18 examples of 3 classes" in said.out
    assert "90% overall; each class needs 3 more for a promise of its own" in said.out
    said = call("recognize", "shop", "new.npz")
    assert said.code == 0
    assert [line.split()[1] for line in said.out.splitlines()[1:4]] == ["c0", "c1", "c2"]
    answers = json.loads(call("recognize", "shop", "new.npz", "--json").out)
    assert [answer["label"] for answer in answers] == ["c0", "c1", "c2"]
    wanted = {"label", "probability", "candidates", "unknown", "nearest", "advice"}
    assert wanted <= set(answers[0])
    assert answers[0]["candidates"] == ["c0"]
    rows = list(csv.DictReader(io.StringIO(call("recognize", "shop", "new.npz", "--csv").out)))
    assert set(rows[0]) == {"source", *wanted}
    assert json.loads(rows[2]["candidates"]) == ["c2"]
    assert "version 2, 21 examples of 4 classes" in call("add", "shop", "mug", "new.npz").out
    assert "version 3, 20 examples" in call("remove", "shop", 19).out
    assert "version 4" in call("rename", "shop", "mug", "cup").out
    assert "version 5, 20 examples of 3 classes" in call("merge", "shop", "cup", "c2", "--into", "both").out
    assert "version 6, 20 examples of 4 classes" in call("undo", "shop").out
    assert "undoes 5, action merge" in call("history", "shop").out
    changes = json.loads(call("history", "shop", "--json").out)
    assert [change["action"] for change in changes] == ["teach", "add", "remove", "rename", "merge", "undo"]
    assert json.loads(call("report", "shop", "--json", "--epsilon", 0.2).out)["missing"] == {"cup": 2}
    assert "This holds if:" in call("report", "shop").out


def test_strangers(call: Call) -> None:
    call("teach", "vectors.npz", "--to", "shop")
    said = call("recognize", "shop", "far.npz", "--json")
    assert all(answer["unknown"] for answer in json.loads(said.out))
    assert said.error.startswith("warning: 9 of 9 are unlike every example")
    assert "unknown (nearest: " in call("recognize", "shop", "far.npz").out


def test_what_to_label_next(call: Call) -> None:
    call("teach", "photos", "--to", "shop")
    said = call("suggest", "shop", "photos", "--json")
    assert (said.code, json.loads(said.out)) == (0, [])
    assert "Nothing to label" in call("suggest", "shop", "photos").out
    call("teach", "vectors.npz", "--to", "numbers")
    found = json.loads(call("suggest", "numbers", "new.npz", "--json", "--count", 2).out)
    assert [set(one) for one in found] == [{"source", "label", "probability", "candidates"}] * 2
    said = call("suggest", "numbers", "far.npz")
    assert "unlike every example (nearest: c" in said.out
    assert "handful add numbers LABEL FILE" in said.out


def test_texts_and_pictures(call: Call) -> None:
    assert call("teach", "texts.csv", "--head", "ridge", "--json").code == 0
    (answer,) = json.loads(call("recognize", "texts", "the lights", "--json").out)
    assert answer["label"] == "light"
    assert call("teach", "photos/").code == 0
    said = call("recognize", "photos", "photos/blue", "photos/red [1]/0.png")
    assert said.code == 0
    assert "red [1]" in said.out  # no markup
    answers = json.loads(call("recognize", "photos.handful", "photos/red [1]", "--json").out)
    assert [answer["label"] for answer in answers] == ["red [1]"] * 3


def test_a_learner_as_the_head_and_names_alone(call: Call, tmp_path: Path) -> None:
    assert "Taught 18 examples" in call("teach", "vectors.npz", "--to", "one", "--head", "simpleshot").out
    assert "cross-conformal: 1 − 2ε" in call("report", "one").out
    (tmp_path / "names.txt").write_text("light\nmusic\tplay a song\n")
    said = call("teach", "--classes", "names.txt", "--to", "names")
    assert "Taught 0 examples of 2 classes" in said.out
    assert "nothing at 90% yet: 9 more examples needed in all; nothing for light, music, known by name" in said.out
    (answer,) = json.loads(call("recognize", "names", "a song", "--json").out)
    assert (answer["label"], answer["nearest"]) == ("music", [])
    assert "version 2, 1 example of 2 classes" in call("add", "names", "light", "turn on the light").out


MISTAKES: dict[str, tuple[list[object], str]] = {
    "no such source": (["teach", "absent"], "absent"),
    "not a source": (["teach", "notes.txt"], "expected a folder of pictures"),
    "taught already": (["teach", "vectors.npz", "--to", "shop"], "there is a collection already"),
    "no such encoder": (["teach", "texts.csv", "--to", "new", "--with", "mini"], "unknown encoder"),
    "no such head": (["teach", "texts.csv", "--head", "svm"], "svm"),
    "nothing to teach from": (["teach"], "--classes names.txt"),
    "names without words": (
        ["teach", "--classes", "notes.txt", "--with", "gradients", "--to", "new"],
        "knows no words",
    ),
    "epsilon": (["teach", "texts.csv", "--epsilon", "0.9"], "--epsilon"),
    "one class label too few": (["teach", "bad.csv"], "a column 'label'"),
    "place under a file": (["teach", "texts.csv", "--to", "notes.txt/shop"], "notes.txt"),
    "no such collection": (["recognize", "shpo", "new.npz"], "no such collection"),
    "not a collection": (["recognize", "fake", "x"], "fake.handful"),
    "a folder as collection": (["recognize", "folder", "x"], "folder.handful"),
    "nothing asked": (["recognize", "shop"], "argument 'things'"),
    "no such file": (["recognize", "shop", "absent.npz"], "absent.npz"),
    "another kind": (["recognize", "shop", "texts.csv"], "texts.csv"),
    "another encoder": (["recognize", "shop", "new.npz", "--with", "ngrams"], "takes texts"),
    "no such id": (["remove", "shop", "99"], "no example 99"),
    "an id that is none": (["remove", "shop", "x"], "ids"),
    "no such class": (["rename", "shop", "c9", "x"], "Valid: c0, c1, c2"),
    "name that is taken": (["rename", "shop", "c0", "c1"], "merge makes one"),
    "endless name": (["rename", "shop", "c0", "x" * 10_000], "at most 1000 characters"),
    "nothing to merge into": (["merge", "shop", "c0", "c1"], "--into"),
    "nothing to undo": (["undo", "shop"], "nothing to undo"),
    "history of nothing": (["history", "absent"], "no such collection"),
    "nothing to suggest from": (["suggest", "shop", "absent.npz"], "absent.npz"),
    "suggest none": (["suggest", "shop", "new.npz", "--count", "0"], "--count"),
    "report of nothing": (["report", "absent"], "no such collection"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(call: Call, tmp_path: Path, mistake: str) -> None:
    assert call("teach", "vectors.npz", "--to", "shop").code == 0
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "bad.csv").write_text("text\nhello\n")
    (tmp_path / "fake.handful").write_text("no database")
    (tmp_path / "folder.handful").mkdir()
    before = {path.name for path in tmp_path.iterdir()}
    collection = (tmp_path / "shop.handful").read_bytes()
    arguments, expected = MISTAKES[mistake]
    said = call(*arguments)
    assert said.code in (1, 2)
    assert said.out == ""
    assert expected.casefold() in " ".join(said.error.split()).casefold()
    assert "Traceback" not in said.error
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (tmp_path / "shop.handful").read_bytes() == collection


def test_names_that_are_no_text(call: Call, tmp_path: Path) -> None:
    """File names may be any bytes."""
    call("teach", "photos")
    name = os.fsdecode(b"photo-\xff.png")
    (tmp_path / name).write_bytes((tmp_path / "photos" / "blue" / "0.png").read_bytes() + b"\0")
    assert call("recognize", "photos", name, "--json").code == 0
    assert call("add", "photos", "blue", name).code == 0
    assert call("add", "photos", os.fsdecode(b"\xff"), name).code == 1


def test_tables_of_spreadsheets_and_nested_folders(call: Call, tmp_path: Path) -> None:
    rows = "text;label\nlight on, größer;light\nlights off;light\nplay a song;music\nsong;music\n"
    (tmp_path / "old.csv").write_bytes(rows.encode("cp1252"))
    assert "say its encoding" in call("teach", "old.csv").error
    assert "4 examples of 2 classes" in call("teach", "old.csv", "--encoding", "cp1252").out
    asked = call("recognize", "old", "old.csv", "--encoding", "cp1252", "--json")
    assert [one["label"] for one in json.loads(asked.out)] == ["light", "light", "music", "music"]
    assert "Nothing to label" in call("suggest", "old", "old.csv", "--encoding", "cp1252").out
    (tmp_path / "new.csv").write_bytes("text\nfür später\n".encode("cp1252"))
    assert "3 classes" in call("add", "old", "later", "new.csv", "--encoding", "cp1252").out
    (tmp_path / "photos" / "blue").rename(tmp_path / "photos" / "red [1]" / "blue")
    said = call("teach", "photos", "--to", "one")
    assert "6 examples of 1 class" in said.out
    assert "warning: photos: one class, red [1]" in said.error
    assert "6 examples of 2 classes" in call("teach", "photos", "--nested", "--to", "two").out


def test_texts_without_their_extra_say_what_it_would_bring(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.recognizer.embedders.has_sentences", lambda: False)
    assert "pip install 'handful[text]'" in call("teach", "texts.csv", "--to", "one").out
    assert "handful[text]" not in call("teach", "texts.csv", "--to", "two", "--with", "ngrams").out


def test_warnings_are_said_before_an_error(call: Call, tmp_path: Path) -> None:
    (tmp_path / "photos" / "void").mkdir()
    (tmp_path / "photos" / "blue" / "link.png").symlink_to("/nonexistent")
    said = call("teach", "photos")
    assert said.code == 1
    first, second = said.error.splitlines()
    assert first.startswith("warning: photos/void: no pictures in it")
    assert "link.png" in second
    said = call("teach", "photos", "--skip-unreadable")
    assert "Taught 6 examples" in said.out
    assert "warning: left out: cannot read photos/blue/link.png" in said.error
    said = call("add", "photos", "blue", "photos/blue/link.png")
    assert "--skip-unreadable" in said.error
    Image.new("RGB", (9, 9), "teal").save(tmp_path / "new.png")
    said = call("add", "photos", "blue", "new.png", "photos/blue/link.png", "--skip-unreadable")
    assert "7 examples of 2 classes" in said.out


@pytest.mark.parametrize("arguments", [["history", "absent"], ["recognize", "--help"], ["undo", "absent"]])
def test_torch_is_not_needed_for_these(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom handful.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit: pass\n"
        "print('@', 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.rpartition("@")[2].strip() == "False", done.stderr


def test_a_folder_gives_its_whole_name(call: Call, tmp_path: Path) -> None:
    (tmp_path / "photos").rename(tmp_path / "photos.2022")
    assert "photos.2022.handful" in call("teach", "photos.2022", "--with", "gradients").out
    assert call("history", "photos.2022").code == 0
    assert "texts.handful" in call("teach", "texts.csv", "--with", "ngrams").out
