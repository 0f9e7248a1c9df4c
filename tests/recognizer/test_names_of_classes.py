from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tests.recognizer.test_recognizer import TEXTS, same

from handful.errors import DataError, HandfulError
from handful.recognizer import open_recognizer, teach
from handful.recognizer.built_in import Gradients
from handful.recognizer.descriptions import described, read_descriptions

ASKED = ["please turn the light on", "play music", "what time is it", "the lights"]
CLASSES = {"light": ["turn the lights on", "light off"], "music": "play a song, music", "what_time": "what time is it"}


def test_names_alone_answer_and_promise_nothing(tmp_path: Path) -> None:
    with teach(to=tmp_path / "shop", descriptions=CLASSES) as made:
        answers = made.recognize_many(ASKED)
        report = made.report()
    assert [answer.label for answer in answers] == ["light", "music", "what_time", "light"]
    for answer in answers:
        assert set(answer.candidates) == set(CLASSES)
        assert not answer.unknown
        assert answer.nearest == ()
        assert answer.promise.startswith("nothing at 90% yet: 9 more examples needed in all")
        assert "known by name alone" in answer.promise
        assert "Add 9 more examples" in answer.advice
    assert report.classes == dict.fromkeys(CLASSES, 0)
    assert "all that is known of it is its name" in report.next
    assert report.findings == ()
    assert "name counts as 1 examples" in str(report)
    with open_recognizer(tmp_path / "shop") as again:
        assert again.recognize_many(ASKED) == answers


def test_examples_come_and_go() -> None:
    made = teach(descriptions=CLASSES)
    before = made.recognize_many(ASKED)
    made.add("light", TEXTS["light"])
    made.add("music", TEXTS["music"])
    after = made.recognize_many(ASKED)
    assert after[0].promise == (
        "90% overall; each class needs 4 to 9 more for a promise of its own; nothing for what_time, known by name alone"
    )
    assert [answer.label for answer in after] == ["light", "music", "what_time", "light"]
    assert [one.label for one in after[1].nearest] == ["music"] * 3
    assert made.report().classes == {"light": 5, "music": 5, "what_time": 0}
    made.add("good_bye", ["see you later"])  # a new class is described by its name
    assert made.recognize("good bye").label == "good_bye"
    made.rename("good_bye", "end")
    assert made.recognize("good bye").label == "end"
    for _ in range(4):
        made.undo()
    assert same(made.recognize_many(ASKED), before)


def test_with_examples_at_once_and_descriptions_that_are_removed(tmp_path: Path) -> None:
    made = teach(TEXTS, descriptions=["light", "bus"])
    assert made.report().classes == {"bus": 0, "light": 5, "music": 5}
    assert made.recognize("when does the bus leave").label == "bus"
    told = [one.id for one in made.collection.read().examples if one.label == "light" and one.source == "description"]
    made.remove(told)
    assert made.recognize("switch the lights off please").label == "light"


def test_many_examples_outweigh_names() -> None:
    random = np.random.default_rng(0)
    words = {"a": ["red", "green", "blue"], "b": ["one", "two", "three"]}
    texts = {k: sorted({" ".join(random.choice(v, 4)) for _ in range(60)}) for k, v in words.items()}
    wrong = teach(texts, descriptions={"a": "one two three", "b": "red green blue"})
    plain = teach(texts, head="cosine")
    new = ["red red green red green", "two one three two two"]
    assert (
        [one.label for one in wrong.recognize_many(new)]
        == [one.label for one in plain.recognize_many(new)]
        == ["a", "b"]
    )


def test_files_of_names(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("light\n\nwhat_time\twhat time is it\n", encoding="utf-8-sig")
    expected = [("light", "light"), ("what_time", "what time is it")]
    assert read_descriptions(tmp_path / "names.txt") == expected
    (tmp_path / "names.csv").write_text("Label,description\nlight,\nwhat_time,what time is it\n")
    assert read_descriptions(tmp_path / "names.csv") == expected
    assert read_descriptions(["what_time"]) == [("what_time", "what time")]


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("names.csv", "label;description\ncafé;where one drinks, and eats\n", "utf-8"),
        ("names.csv", "Class\tText\ncafé\twhere one drinks, and eats\n", "utf-16"),
        ("names.csv", 'label,description\ncafé,"where one drinks, and eats"\n', "cp1252"),
        ("names.tsv", "label\tdescription\ncafé\twhere one drinks, and eats\n", "utf-8"),
        ("names.jsonl", '{"label": "café", "description": "where one drinks, and eats"}\n', "utf-8"),
        ("names.txt", "café\twhere one drinks, and eats\n", "cp1252"),
        ("names.txt", "café\twhere one drinks, and eats\r\n", "utf-16"),
    ],
)
def test_names_are_read_as_tables_of_examples_are(tmp_path: Path, name: str, content: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(content.encode(encoding))
    said = encoding if encoding == "cp1252" else "utf-8"  # the mark of UTF-16 says it
    assert read_descriptions(tmp_path / name, encoding=said) == [("café", "where one drinks, and eats")]
    assert teach(descriptions=tmp_path / name, encoding=said).report().classes == {"café": 0}
    if encoding == "cp1252":
        with pytest.raises(DataError, match=r"line \d is not utf-8; say its encoding"):
            read_descriptions(tmp_path / name)


def test_a_description_without_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("light\n\ta thing to play\n")
    (tmp_path / "names.csv").write_text("label,description\n,a thing to play\n")
    for source in (tmp_path / "names.txt", tmp_path / "names.csv", {" ": "a thing to play"}):
        with pytest.raises(DataError, match="'a thing to play': expected a name"):
            read_descriptions(source)
    with pytest.raises(DataError, match="expected a label, got None"):
        read_descriptions(["light", None])  # type: ignore[list-item]


def test_what_cannot_describe(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="knows no words"):
        teach(descriptions=["cat", "dog"], encoder="gradients")
    with pytest.raises(DataError, match="knows no words"):
        teach({"a": [[1.0, 2.0]]}, descriptions=["a"])
    with pytest.raises(DataError, match="leave out head"):
        teach(TEXTS, descriptions=["light"], head="ridge")
    with pytest.raises(DataError, match="got neither"):
        teach()
    with pytest.raises(DataError, match="expected descriptions"):
        teach(TEXTS, head="names")
    with pytest.raises(DataError, match="description in words"):
        teach(descriptions={"a": "?!"})
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "no.csv").write_text("text\nhello\n")
    for name, words in (("empty.txt", "found none"), ("no.csv", "a column 'label'"), ("absent.txt", "absent")):
        with pytest.raises(HandfulError, match=words):
            teach(descriptions=tmp_path / name)


def test_an_encoder_that_puts_texts_where_its_pictures_are() -> None:
    class Shared:
        kind, form, identity = "pictures", (3, 64, 64), Gradients.identity

        def embed(self, contents: list) -> np.ndarray:
            return Gradients().embed(contents)

        def embed_text(self, texts: list[str]) -> np.ndarray:
            return np.eye(624, dtype=np.float32)[[len(text) for text in texts]]

    rows = described(Shared(), [("a", "12"), ("b", "123")])  # type: ignore[arg-type]
    assert [int(row.vector.argmax()) for row in rows] == [2, 3]


def test_a_description_finds_its_class_however_its_letters_are_composed() -> None:
    apart, composed = (unicodedata.normalize(form, "größe") for form in ("NFD", "NFC"))
    made = teach(
        {apart: ["how large is it"], "b": ["play music"]},
        descriptions={composed: "size", "b": "music"},
        encoder="ngrams",
    )
    assert made.collection.labels == ("b", apart)
    assert len(made.collection.read().examples) == 4  # two examples, two descriptions
    made.add(composed, ["its size"])
    assert made.collection.labels == ("b", apart)
    assert len(made.collection.read().examples) == 5
