from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handful.checkpoint import save_checkpoint
from handful.collection import NewExample, create_collection
from handful.errors import CheckpointError, CollectionError, DataError, HandfulError, StorageError, UnknownNameError
from handful.recognizer import Answer, Recognizer, open_recognizer, teach
from handful.recognizer.answers import percent, promise
from handful.recognizer.embedders import TrainedEncoder, embedder_for
from handful.spec import Spec, build

TEXTS = {
    "light": ["turn on the light", "switch the lights off", "lamp off please", "more light", "light in the kitchen"],
    "music": ["play a song", "play music", "stop the song", "louder music please", "next song"],
}


def vectors(classes: int = 3, shots: int = 5, *, seed: int = 0, spread: float = 0.2) -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, 6))
    return {f"c{k}": list(centers[k] + spread * random.normal(size=(shots, 6))) for k in range(classes)}


def same(one: list[Answer], other: list[Answer]) -> bool:
    return [replace(answer, version=0) for answer in one] == [replace(answer, version=0) for answer in other]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Bars that lie and bars that stand, six of each, as PNG files."""
    random = np.random.default_rng(0)
    for kind in ("lying", "standing"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(bar(random, kind)).save(tmp_path / "photos" / kind / f"{number}.png")
        Image.fromarray(bar(random, kind)).save(tmp_path / f"new-{kind}.png")
    return tmp_path / "photos"


def bar(random: np.random.Generator, kind: str) -> np.ndarray:
    picture = random.integers(200, 255, size=(40, 40, 3)).astype(np.uint8)
    start = random.integers(5, 25)
    picture[start : start + 8, 4:36] = random.integers(0, 60, 3)
    return picture if kind == "lying" else picture.transpose(1, 0, 2)


# Answers


@pytest.mark.parametrize("head", ["squared", "cosine", "ridge"])
def test_an_answer(head: str) -> None:
    made = teach(vectors(), head=head)  # type: ignore[arg-type]
    asked = vectors(seed=1, shots=4)
    for label, group in asked.items():
        answer = made.recognize(group[0])
        assert (answer.label, answer.candidates, answer.unknown, answer.version) == (label, (label,), False, 1)
        assert 0.5 < answer.probability <= 1
        assert [one.label for one in answer.nearest] == [label] * 3
        assert answer.promise == "90% overall; each class needs 4 more for a promise of its own"
        distances = [one.distance for one in answer.nearest]
        assert distances == sorted(distances)
    x = made.collection.read()
    near = answer.nearest[0]
    row = [one.id for one in x.examples].index(near.id)
    assert near.distance == pytest.approx(float(((x.vectors[row] - group[0]) ** 2).sum()), rel=1e-4)
    assert json.loads(json.dumps(answer.table()))["candidates"] == ["c2"]


def test_a_stranger_is_unknown_and_told_so() -> None:
    answer = teach(vectors()).recognize(np.full(6, 3.0))
    assert answer.unknown
    assert answer.candidates == ()
    assert "Unlike every example" in answer.advice


def test_too_few_examples_rule_nothing_out() -> None:
    made = teach(vectors(shots=2))
    answer = made.recognize(np.full(6, 50.0))
    assert set(answer.candidates) == {"c0", "c1", "c2"}
    assert answer.promise == "nothing at 90% yet: 3 more examples needed in all"
    assert "3 more examples" in answer.advice
    assert made.recognize(np.full(6, 3.0), epsilon=0.2).promise.startswith("80% overall")


def test_two_classes_alike() -> None:
    data = vectors()
    data["twin"] = vectors(seed=5)["c0"]
    answer = teach(data).recognize(vectors(seed=1)["c0"][0])
    assert set(answer.candidates) == {"c0", "twin"}
    assert "Not sure between" in answer.advice


@pytest.mark.parametrize(("classes", "shots"), [(1, 12), (1, 1), (2, 1)])
def test_hardly_anything_taught(classes: int, shots: int) -> None:
    data = vectors(classes, shots)
    made = teach(data)
    assert made.recognize(data["c0"][0]).label == "c0"
    assert "Next:" in str(made.report())
    assert made.recognize(np.full(6, 9.0)).unknown == (shots == 12)


def test_many_at_once_are_each_by_itself() -> None:
    made = teach(vectors())
    things = [one for group in vectors(seed=1).values() for one in group]
    for row, (answer, thing) in enumerate(zip(made.recognize_many(things), things, strict=True)):
        alone = made.recognize(thing)
        assert answer.source == f"asked:{row}"
        assert (answer.label, answer.candidates) == (alone.label, alone.candidates)
        assert [one.id for one in answer.nearest] == [one.id for one in alone.nearest]
        assert answer.probability == pytest.approx(alone.probability, abs=1e-5)
    assert made.recognize_many([]) == []


def test_what_differs_from_the_examples_is_warned_of() -> None:
    made = teach(vectors())
    with pytest.warns(UserWarning, match="nothing is promised for the others"):
        made.recognize_many([one + 2.0 for group in vectors(seed=1).values() for one in group])


# Changes


@pytest.mark.parametrize("head", ["squared", "cosine", "ridge"])
def test_removing_equals_never_added(head: str) -> None:
    made = teach(vectors(), head=head)  # type: ignore[arg-type]
    asked = [one for group in vectors(seed=1).values() for one in group]
    before = made.recognize_many(asked)
    version = made.add("c0", vectors(seed=2)["c1"])
    made.add("new", vectors(seed=3)["c2"][:2])
    assert not same(made.recognize_many(asked), before)
    added = [one.id for one in made.collection.read().examples if one.id > 15]
    made.remove(added)
    assert same(made.recognize_many(asked), before)
    assert [change.action for change in made.history()] == ["teach", "add", "add", "remove"]
    assert version == 2


def test_changes_have_their_effect_at_once() -> None:
    made = teach(vectors())
    thing = vectors(seed=1)["c1"][0]
    made.rename("c1", "mug")
    assert made.recognize(thing).label == "mug"
    made.merge(["mug", "c2"], "things")
    assert made.recognize(thing).label == "things"
    made.undo()
    made.undo()
    assert made.recognize(thing).label == "c1"
    assert made.recognize(thing).version == 5


def test_kept_and_opened_again(tmp_path: Path) -> None:
    asked = [one for group in vectors(seed=1).values() for one in group]
    with teach(vectors(), tmp_path / "shop", epsilon=0.2, head="cosine") as made:
        expected = made.recognize_many(asked)
    with open_recognizer(tmp_path / "shop") as again:
        assert again.epsilon == 0.2
        assert again.recognize_many(asked) == expected


# Kinds of examples


def test_texts() -> None:
    made = teach(TEXTS)
    answer = made.recognize("the light please")
    assert answer.label == "light"
    assert answer.nearest[0].text in TEXTS["light"]
    assert answer.source == "the light please"


@pytest.mark.parametrize("name", ["texts.csv", "texts.tsv"])
def test_tables(tmp_path: Path, name: str) -> None:
    between = "\t" if name.endswith("tsv") else ","
    rows = [between.join(("Text", "n", "label")), *(f'"{t}"{between}1{between}{k}' for k in TEXTS for t in TEXTS[k])]
    (tmp_path / name).write_text("\n".join([*rows, "", ""]), encoding="utf-8-sig")
    made = teach(tmp_path / name)
    assert made.report().classes == {"light": 5, "music": 5}
    assert made.collection.read().examples[0].source.endswith(f"{name}:2")
    (tmp_path / "new.csv").write_text("text\nmore light\nthe song\n")
    answers = made.recognize_many([tmp_path / "new.csv", "louder"])
    assert [answer.label for answer in answers] == ["light", "music", "music"]


def test_pictures(photos: Path) -> None:
    made = teach(photos)
    assert made.report().classes == {"lying": 6, "standing": 6}
    for kind in ("lying", "standing"):
        answer = made.recognize(photos.parent / f"new-{kind}.png")
        assert answer.label == kind
        assert answer.nearest[0].source == str(photos / kind / Path(answer.nearest[0].source).name)
    assert len(made.recognize_many([photos / "lying"])) == 6
    made.add("lying", [photos.parent / "new-lying.png"])
    with pytest.raises(DataError, match="is example 13 of lying already"):
        made.add("standing", [photos.parent / "new-lying.png"])


def test_files_of_vectors(tmp_path: Path) -> None:
    data = vectors()
    x, y = np.concatenate(list(data.values())), np.repeat(list(data), 5)
    np.savez(tmp_path / "v.npz", x=x, y=y)
    assert [a.label for a in teach(tmp_path / "v.npz").recognize_many([tmp_path / "v.npz"])] == y.tolist()


def checkpoint(folder: Path, *, learner: str = "prototypical", normalization: str = "running", seed: int = 0) -> Path:
    encoder = {"name": "conv4", "shape": [1, 16, 16], "filters": 4, "halvings": 2, "normalization": normalization}
    options = {"outputs": 2} if learner == "maml" else {}
    table = {"learner": {"name": learner, **options}, "encoder": encoder, "data": {"name": "digits"}}
    spec = Spec.of(table | {"train": {"ways": 5, "steps": 1, "seed": seed}})
    save_checkpoint(folder, build(spec), spec, step=0)
    return folder


def test_an_encoder_from_a_checkpoint(photos: Path, tmp_path: Path) -> None:
    trained = checkpoint(tmp_path / "trained")
    with teach(photos, tmp_path / "shop", encoder=str(trained)) as made:
        expected = made.recognize(tmp_path / "new-lying.png")
        assert expected.label == "lying"
    with open_recognizer(tmp_path / "shop") as again:
        assert again.recognize(tmp_path / "new-lying.png") == expected
    trained.rename(tmp_path / "moved")
    with open_recognizer(tmp_path / "shop", encoder=str(tmp_path / "moved")) as again:
        assert again.recognize(tmp_path / "new-lying.png") == expected
    with pytest.raises(UnknownNameError, match="unknown encoder"):
        open_recognizer(tmp_path / "shop")
    checkpoint(trained, seed=1)
    with pytest.raises(CollectionError, match=r"cannot be compared.*handful teach SOURCE --to ANOTHER --with"):
        open_recognizer(tmp_path / "shop")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"learner": "maml"}, "adapts its encoder"), ({"normalization": "batch"}, "normalizes examples by each other")],
)
def test_checkpoints_that_give_no_fixed_vectors(photos: Path, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        teach(photos, encoder=str(checkpoint(tmp_path / "trained", **options)), head="squared")


def test_ink_is_bright_for_encoders_of_writing(tmp_path: Path) -> None:
    encoder = TrainedEncoder(checkpoint(tmp_path / "trained"))
    picture = np.zeros((1, 16, 16), np.uint8)
    picture[:, 4:8, 3:12] = 255
    one, other = encoder.embed([picture, 255 - picture])
    np.testing.assert_array_equal(one, other)


# The report


def test_planted_mistakes_are_found() -> None:
    data = vectors(shots=8)
    wrong = data["c0"].pop()
    data["c1"].append(wrong)
    data["c2"].append(data["c2"][0])
    data["c1"].append(data["c1"][2] + 1e-4)
    data["c0"] = data["c0"][:3]
    report = teach(data).report()
    kinds = [finding.kind for finding in report.findings]
    assert kinds[0] == "mislabeled"
    (mislabeled,) = (finding for finding in report.findings if finding.kind == "mislabeled")
    assert mislabeled.ids[0] == 12  # after three of c0, the ninth of c1
    assert "is labeled c1 but looks like c0" in mislabeled.message
    assert {tuple(sorted(f.ids)) for f in report.findings if f.kind == "copy"} == {(6, 13), (14, 22)}
    assert "imbalance" in kinds
    assert "outlier" in kinds  # the wrong one
    assert json.loads(json.dumps(report.table()))["findings"]


def test_a_clean_collection_has_nothing_to_look_at() -> None:
    report = teach(vectors(shots=20)).report()
    assert report.findings == ()
    assert report.missing == {}
    assert report.calibration.accuracy == pytest.approx(1)
    assert report.promise == "90% overall, and for each class"
    assert "This holds if:" in str(report)


@pytest.mark.parametrize(
    ("sizes", "epsilon", "expected"),
    [
        ({"a": 9, "b": 9}, 0.1, "90% overall, and for each class"),
        ({"a": 9, "scratch": 5}, 0.1, "90% overall; scratch needs 4 more for a promise of its own"),
        ({"a": 9, "b": 19}, 0.05, "95% overall; a needs 10 more for a promise of its own"),
        ({"a": 4, "b": 4}, 0.1, "nothing at 90% yet: 1 more example needed in all"),
        ({"a": 5, "b": 7}, 0.1, "90% overall; each class needs 2 to 4 more for a promise of its own"),
        (
            {"a": 9, "b": 1, "c": 2, "d": 3, "e": 4},
            0.1,
            "90% overall; e needs 5 more, d needs 6 more, c needs 7 more, 1 other classes more still for a promise of "
            "its own",
        ),
    ],
)
def test_promises(sizes: dict[str, int], epsilon: float, expected: str) -> None:
    assert promise(sizes, epsilon) == expected


def test_percent() -> None:
    assert [percent(1 - e) for e in (0.1, 0.05, 0.005)] == ["90%", "95%", "99.5%"]


# Mistakes

GOOD = vectors()
BAD: dict[str, tuple[object, type[HandfulError], str]] = {
    "nothing": ({}, DataError, "expected examples, got none"),
    "empty group": ({"a": []}, DataError, "got none"),
    "lists of different length": (([[1.0], [2.0]], ["a"]), DataError, "one label for each"),
    "NaN": ({"a": [[1.0, np.nan]]}, DataError, "NaN or infinite"),
    "infinite in float32": ({"a": [[1.0, 1e39]]}, DataError, "too large for 32 bits"),
    "complex": ({"a": np.ones((2, 2)) * 1j}, DataError, "got complex ones"),
    "pictures in memory": ({"a": [np.ones((4, 4, 3))]}, HandfulError, "give paths"),
    "no label": ((np.ones((2, 2)), ["a", None]), DataError, "example 1: expected a label, got None"),
    "NaN as label": ((np.ones((2, 2)), np.array([np.nan, 1.0])), DataError, "example 0: expected a label, got nan"),
    "a text for texts": ({"a": "hello"}, DataError, "class 'a': expected a list of examples"),
    "one list": ([[1.0, 2.0]], DataError, "(examples, labels); got list of 1"),
    "a set": (({"hello", "you"}, ["a", "b"]), DataError, "in the same order"),
    "a text that is missing": (([None, "hello"], ["a", "b"]), DataError, "memory:0: expected a text"),
    "a number": (5, DataError, "got int"),
    "another dimension": ({"a": [[1.0, 2.0]], "b": [[1.0]]}, HandfulError, "shape"),
    "matrices": ({"a": [np.ones((2, 2))]}, HandfulError, "got shape (2, 2)"),
    "objects": ({"a": [object()]}, DataError, "expected a vector of numbers"),
    "text without letters": ({"a": ["?!"]}, DataError, "letters or figures"),
    "a book": ({"a": ["x" * 100_001]}, DataError, "at most 100000"),
    "one text in two classes": ({"a": ["hello"], "b": ["hello"]}, DataError, "are the same"),
    "empty label": ({" ": ["hello"]}, DataError, "expected a name"),
    "no such file": ("absent.csv", StorageError, "absent.csv"),
    "another kind of file": ("notes.docx", DataError, "expected a folder of pictures"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_taught(bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, kind, words = BAD[bad]
    with pytest.raises(HandfulError) as caught, np.errstate(over="ignore"):
        teach(source, "shop")
    assert isinstance(caught.value, (kind, HandfulError))
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


FILES: dict[str, tuple[str, bytes, str]] = {
    "empty table": ("t.csv", b"", "first line of different column names"),
    "only a header": ("t.csv", b"text,label\n", "found none"),
    "no labels": (
        "t.csv",
        b"text,kind\na b,c\n",
        "a column 'label' (or class, category, intent), got text, kind; rename",
    ),
    "numbers": ("t.csv", b"x,label\n1,c\n", "vectors are taught from an .npz"),
    "a short row": ("t.csv", b"text,label\nhello\n", "line 2: expected 2 cells"),
    "other bytes": ("t.csv", b"text,label\n\xff\xfe,a\n", "UTF-8"),
    "a row without a label": ("t.csv", b"text,label\n\nhello, \n", "t.csv:3: expected a label, got none"),
    "no text": ("t.jsonl", b'{"text": null, "label": 1}', "t.jsonl:1: expected a text"),
    "no SMILES": ("t.jsonl", b'{"smiles": 5, "label": 1}', "t.jsonl:1: expected a SMILES"),
    "not an archive": ("v.npz", b"PK\x03\x04 nonsense", "not an .npz"),
    "a text as archive": ("v.npz", b"hello", "not an .npz"),
    "an empty archive": ("v.npz", b"", "not an .npz"),
}


@pytest.mark.parametrize("bad", FILES)
def test_files_that_cannot_be_taught(bad: str, tmp_path: Path) -> None:
    name, content, words = FILES[bad]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        teach(tmp_path / name)
    assert words in str(caught.value)


def test_no_pickle_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", x=np.array([object()], dtype=object), y=np.array(["a"]))
    with pytest.raises(DataError, match=r"not an \.npz of plain arrays"):
        teach(tmp_path / "v.npz")


def test_pictures_that_cannot_be_read(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        teach(tmp_path / "empty")
    made = teach(photos)
    (tmp_path / "broken.png").write_bytes((photos / "lying" / "0.png").read_bytes()[:200])
    for thing, words in (("broken.png", "damaged"), ("absent.png", "absent.png"), ("empty", "no pictures found")):
        with pytest.raises(HandfulError, match=words):
            made.recognize(tmp_path / thing)
    (photos / "standing" / "copy.png").write_bytes((photos / "lying" / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"are the same: expected one thing in one class"):
        teach(photos)


def test_options_that_cannot_be() -> None:
    for epsilon in (0, 0.6, "x", float("nan")):
        with pytest.raises(DataError, match=r"how often may I wrongly refuse"):
            teach(GOOD, epsilon=epsilon)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="did you mean 'squared'"):
        teach(GOOD, head="square")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="unknown encoder"):
        teach(TEXTS, encoder="mini")
    with pytest.raises(DataError, match="takes texts, and these are pictures"):
        embedder_for("pictures", "ngrams", 0)
    with pytest.raises(DataError, match="all zeros"):
        teach({"a": [[0.0, 0.0]], "b": [[1.0, 0.0]]}, head="cosine")
    with pytest.raises(HandfulError, match="expected 6 numbers each"):
        teach(GOOD).recognize([1.0, 2.0])


def test_a_recognizer_is_what_its_examples_are() -> None:
    """Nothing of how it came about is left in it."""
    made = teach(vectors())
    assert isinstance(made, Recognizer)
    asked = vectors(seed=1)["c0"]
    first = made.recognize_many(asked)
    torch.manual_seed(123)
    assert made.recognize_many(asked) == first


def test_what_cannot_be_asked_says_what_can(tmp_path: Path) -> None:
    with teach({"a": [[0.0, 1.0], [0.1, 1.0]], "b": [[1.0, 0.0], [1.0, 0.1]]}) as recognizer:
        with pytest.raises(DataError, match="recognize_many takes several"):
            recognizer.recognize(np.ones((2, 2)))
        with pytest.raises(DataError, match=r"expected a vector or a file of vectors"):
            recognizer.recognize("photo.png")
        recognizer.remove(1)
        assert sum(recognizer.report().classes.values()) == 3
    (tmp_path / "broken.npz").write_bytes(b"no zip file")
    with pytest.raises(DataError, match=r"numpy\.savez writes one"):
        teach(tmp_path / "broken.npz")


def pictures(root: Path) -> Path:
    """Two classes of three pictures."""
    for number, name in enumerate(("red", "blue")):
        (root / name).mkdir(parents=True)
        for index in range(3):
            color = [40 * index, 40 * index, 40 * index]
            color[2 * number] = 255
            Image.new("RGB", (20, 20 + index), tuple(color)).save(root / name / f"{index}.png")
    return root


def test_unreadable_pictures_are_all_named_or_left_out(tmp_path: Path) -> None:
    root = pictures(tmp_path / "p")
    (root / "red" / "bad.png").write_bytes(b"no picture")
    (root / "blue" / "cut.png").write_bytes((root / "blue" / "0.png").read_bytes()[:40])
    (root / "void").mkdir()
    with pytest.warns(UserWarning, match=r"void: no pictures"), pytest.raises(DataError) as caught:
        teach(root, encoder="gradients")
    assert "bad.png" in str(caught.value)
    assert "cut.png" in str(caught.value)
    (root / "void").rmdir()
    with pytest.warns(UserWarning, match="left out") as said:
        recognizer = teach(root, encoder="gradients", skip_unreadable=True)
    assert sum("left out" in str(one.message) for one in said) == 2
    with recognizer:
        assert recognizer.report().classes == {"blue": 3, "red": 3}
        asked = [root / "red" / "bad.png", root / "red" / "0.png"]
        with pytest.raises(DataError, match=r"bad\.png"):
            recognizer.recognize_many(asked)
        with pytest.warns(UserWarning, match="left out"):
            (answer,) = recognizer.recognize_many(asked, skip_unreadable=True)
        assert answer.source.endswith("0.png")
    for path in root.rglob("[0-9].png"):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="left out"), pytest.raises(DataError, match="expected pictures that can be"):
        teach(root, encoder="gradients", skip_unreadable=True)


def test_a_head_that_knows_nothing_is_said_to(tmp_path: Path) -> None:
    """Vectors that are nearly parallel: their differences are nothing to a ridge of fixed strength."""
    random = np.random.default_rng(0)
    x = 100 + np.repeat(np.eye(3, 8), 4, 0) + 0.1 * random.normal(size=(12, 8))
    y = [f"c{index // 4}" for index in range(12)]
    with teach((x, y), head="ridge") as recognizer:
        assert recognizer.report().calibration.accuracy < 0.34
        assert "take another head or encoder" in recognizer.report().next
    for head in ("squared", "auto"):
        with teach((x, y), head=head) as recognizer:
            assert recognizer.report().calibration.accuracy == 1
            assert "every example is recognized" in recognizer.report().next


def test_only_heads_that_can_be_taken_are_offered() -> None:
    with pytest.raises(UnknownNameError, match="simpleshot") as caught:
        teach({"a": [[0.0, 1.0]], "b": [[1.0, 0.0]]}, head="bogus")
    assert "maml" not in str(caught.value)
    assert "feat" not in str(caught.value)


def test_names_of_encoders_come_before_folders(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's example: pictures in a folder photos/, and the encoder `photos`."""
    monkeypatch.chdir(photos.parent)
    made = teach("photos", encoder="photos")
    assert made.collection.encoder.name == "photos"
    assert made.recognize("new-lying.png").label == "lying"
    with pytest.raises(CheckpointError):
        teach("photos", encoder="./photos")


def test_what_a_phone_wrote_and_cannot_be_read_is_said(tmp_path: Path) -> None:
    root = pictures(tmp_path / "p")
    for name in ("red/1.HEIC", "red/2.heic", "blue/3.avif", "blue/4.mov"):
        (root / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"passed over, 2 \.heic, 1 \.avif: convert them to JPEG"):
        recognizer = teach(root, encoder="gradients")
    with recognizer, pytest.warns(UserWarning, match=r"2 \.heic: convert"):
        recognizer.recognize_many([root / "red"])
    only = tmp_path / "only" / "red"
    only.mkdir(parents=True)
    (only / "1.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"no pictures.*1 \.heic: convert.*expected a folder for each class"):
        teach(only.parent)


def test_an_encoder_that_mistakes_most_examples_is_said_to(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    y = [f"c{index // 5}" for index in range(50)]
    x = random.normal(size=(50, 8)) + 0.7 * np.repeat(random.normal(size=(10, 8)), 5, 0)
    with teach((x, y), head="squared") as recognizer:
        assert recognizer.report().calibration.accuracy < 0.5
        assert "try a stronger encoder" in recognizer.report().next


def test_hidden_files_are_passed_over(photos: Path) -> None:
    made = teach(photos, encoder="gradients")
    (photos / "lying" / "._0.png").write_bytes(b"macOS")
    (photos / "__MACOSX").mkdir()
    (photos / "__MACOSX" / "0.png").write_bytes(b"macOS")
    assert len(made.recognize_many([photos])) == 12


def test_a_collection_that_is_there_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with teach(GOOD, tmp_path / "shop"):
        monkeypatch.setattr("handful.recognizer.teaching.taught", None)  # nothing is read
        with pytest.raises(StorageError, match="there is a collection already"):
            teach(GOOD, tmp_path / "shop")


def test_an_advice_about_the_fewest_is_given_where_there_are_some() -> None:
    data = vectors() | {"twin": vectors(seed=5)["c0"]}
    thing = vectors(seed=1)["c0"][0]
    assert teach(data).recognize(thing).advice.endswith("add examples of them that look like this.")
    assert teach(data | {"twin": data["twin"][:4]}).recognize(thing).advice.endswith("; twin has fewest.")
    assert teach(vectors()).report().next.endswith("ask away, and add what it gets wrong")
    assert teach(vectors() | {"c1": vectors()["c1"][:4]}).report().next.endswith("c1 has the fewest: add to it")


def test_a_recognizer_is_not_pickled(tmp_path: Path) -> None:
    for place, words in ((tmp_path / "shop", "process"), (":memory:", r"teach it with a place \(to=\.\.\.\)")):
        with teach(GOOD, place) as made, pytest.raises(CollectionError, match=rf"neither pickled nor copied.*{words}"):
            pickle.dumps(made)


def test_settings_that_lack_something(tmp_path: Path) -> None:
    with teach(GOOD) as made:
        rows = [NewExample("a", np.zeros(6, np.float32), "memory:0", "0" * 64)]
        create_collection(tmp_path / "shop", made.collection.encoder, {"kind": "vectors", "head": "auto"}, rows).close()
    with pytest.raises(CollectionError, match=r"shop\.handful: expected settings .* no 'encoder', 'epsilon'; take"):
        open_recognizer(tmp_path / "shop")


def test_an_encoder_is_a_name_or_a_folder(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"encoder: expected a name \(.*gradients.*got 5"):
        teach(photos, encoder=5)  # type: ignore[arg-type]
    folder = checkpoint(tmp_path / "trained")
    assert teach(photos, encoder=folder, head="squared").report().encoder == str(folder)  # type: ignore[arg-type]
