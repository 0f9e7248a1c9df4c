from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from handful.data import DATASETS, Episodes, check_data, relations, relations_pool
from handful.data.texts import word_numbers, words_of
from handful.errors import DataError, HandfulError, StorageError, UnknownNameError
from handful.spec import Spec, build, load_data

RELATIONS = sys.modules["handful.data.relations"]
TEXTS = sys.modules["handful.data.texts"]
PAGE = Path(__file__).parents[2] / "docs" / "data" / "own.md"
HEADER = "text,head,tail,label\n"


def written(path: Path, content: str) -> str:
    path.write_text(content, encoding="utf-8")
    return str(path)


def one(text: str | Sequence[str], head: object, tail: object, **starts: object) -> list[list[int]]:
    """Distances from head and from tail of each word of a relation."""
    columns = {"text": [text], "head": [head], "tail": [tail], "label": ["r"]}
    words = len(words_of(text)) if isinstance(text, str) else len(text)
    pool = relations_pool({**columns, **{key: [cell] for key, cell in starts.items()}}, reading="words", length=words)
    return pool.examples[0, 1:, 0].neg().tolist()  # type: ignore[no-any-return]


@pytest.fixture
def rivers(tmp_path: Path) -> str:
    rows = [f"The bridge {n} crosses river {n}.,bridge {n},river {n},{kind}" for n in range(8) for kind in "abcdef"]
    return written(tmp_path / "rivers.csv", HEADER + "\n".join(rows))


def test_words_and_distances() -> None:
    pool = relations_pool(
        {"text": ["Paris, in France"], "head": ["Paris"], "tail": ["France"], "label": ["in"]},
        reading="words",
        length=5,
    )
    numbers, head, tail = pool.examples[0].tolist()
    assert numbers == word_numbers([["paris", ",", "in", "france"]], 5)[0].tolist()
    assert (head, tail) == ([0, 1, 2, 3, 0], [-3, -2, -1, 0, 0])
    assert (pool.names, pool.examples.dtype) == (("in",), torch.int32)


@pytest.mark.parametrize(
    ("text", "head", "tail", "starts", "places"),
    [
        ("he told us about US law", "US", "law", {}, [4, 5]),  # as it is written, before other letters
        ("In Paris and France", "paris", "FRANCE", {}, [1, 3]),
        ("Paul met Paul", "Paul", "Paul", {}, [0, 2]),  # apart
        ("New York borders York", "York", "New York", {}, [3, 0]),
        ("University of Paris", "University of Paris", "Paris", {}, [0, 2]),  # one in the other
        ("human, man and dog", "man", "dog", {}, [2, 4]),  # whole words
        ("the New \n York of C++", "New York", "C++", {}, [1, 4]),
        (["the", "Long", "-", "Kai", "Bridge", "'s", "sea"], "long-kai bridge's", "sea", {}, [1, 6]),
        ("a b a c a", "a", "c", {"head_start": 4}, [2, 3]),
        ("a b a c a", "a", "a", {"head_start": "8", "tail_start": 4.0}, [4, 2]),
        ("a b a c a", "a", "a", {"head_start": None, "tail_start": " "}, [0, 2]),
        ("unhappy dogs", "happy", "dog", {"head_start": 2, "tail_start": 8}, [0, 1]),
        (["a", "b c", "a", "d"], "A", "d", {"head_start": 2}, [2, 3]),
        (["x", "b c", "d"], "b c", "d", {}, [1, 2]),
        (["x", "b", "c", "d"], ["name", "Q1", [[1, 2], [0]]], ["other", None, [[3]]], {}, [1, 3]),
        (("x", "b"), ("name", "Q1", ((1,),)), "x", {}, [1, 0]),
        (["x", "b", "c", "d"], {"name": "n", "pos": [1, 3]}, {"name": "m", "id": 1, "pos": [3, 4]}, {}, [1, 3]),
        ("x, b c: d", {"name": "b c", "pos": [3, 6]}, {"name": "d", "pos": (8, 9)}, {}, [2, 5]),
        (["x", "b"], {"text": "n", "type": "Q", "indices": [[1], [0]]}, {"text": "x", "indices": [[0]]}, {}, [1, 0]),
    ],
)  # fmt: skip
def test_where_entities_are(
    text: Any, head: object, tail: object, starts: dict[str, object], places: list[int]
) -> None:
    assert one(text, head, tail, **starts) == places


@pytest.mark.parametrize(
    ("sentence", "words", "places"),
    [
        ("An array <e1>configuration</e1> of <e2>antenna elements</e2>.", 7, [2, 4]),
        ("<e2> US</e2> law says: <e1>us </e1>", 5, [4, 0]),
        ("<e1>New <e2>York</e2></e1>", 2, [0, 1]),
    ],
)
def test_entities_are_marked_in_sentences(sentence: str, words: int, places: list[int]) -> None:
    columns = {"Sentence": [sentence], "relation": ["r"]}
    pool = relations_pool(columns, reading="words", length=words)
    assert 0 not in pool.examples[0, 0]
    assert pool.examples[0, 1:, 0].neg().tolist() == places


@pytest.mark.parametrize("bad", ["x", "a <e1>x</e1>", "<e1></e1> <e2>x</e2>", "</e1>a<e1> <e2>b</e2>", 5])
def test_sentences_whose_marks_are_not_complete_are_refused(tmp_path: Path, bad: object) -> None:
    rows = [{"sentence": text, "relation": "r"} for text in ("<e1>a</e1> <e2>b</e2>", bad)]
    path = written(tmp_path / "r.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(
        DataError, match=r"row 2: sentence(: expected <e1>head</e1> and <e2>tail</e2> in it| is not text)"
    ):
        relations(path=path, reading="words")
    report = check_data(Path(path))
    assert (report.kind, report.examples, len(report.unreadable)) == ("relations", 1, 1)


def test_what_encoders_are_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sentences as they were written, with the characters of their entities."""
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path))
    asked: list[Any] = []

    def spans(texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]], **_: object) -> torch.Tensor:
        asked.extend([text[start:end] for start, end in of] for text, of in zip(texts, spans, strict=True))
        return torch.ones(len(texts), 4, 2)

    def vectors(texts: Sequence[str], **_: object) -> torch.Tensor:
        asked.extend(texts)
        return torch.ones(len(texts), 3)

    monkeypatch.setattr(RELATIONS, "span_vectors", spans)
    monkeypatch.setattr(TEXTS, "sentence_vectors", vectors)
    monkeypatch.setattr(TEXTS, "token_numbers", lambda texts, length, _: vectors(texts).repeat(1, length))
    columns = {"Sentence": ["Is Bern, here, Swiss?"], "Head": ["Swiss"], "Tail": ["bern"], "Relation": ["of"]}
    assert relations_pool(columns, reading="places").shape == (8,)
    assert relations_pool(columns).shape == (3,)
    assert relations_pool(columns, reading="tokens", length=2).shape == (6,)
    assert asked == [
        ["Is Bern, here, Swiss?", "Swiss", "Bern", ", here, "],
        *["Swiss ; bern ; Is Bern, here, Swiss?"] * 2,
    ]


BAD_ROWS = [
    ({"head": "Rome"}, "head 'Rome' is not in the sentence as whole words; write it as it stands there"),
    ({"head": "Pari"}, "head 'Pari' is not in the sentence as whole words"),
    ({"tail": "Paris"}, "head and tail are the same words, 'Paris'"),
    ({"head": None}, "no head"),
    ({"tail": " "}, "no tail"),
    ({"text": ""}, "no text"),
    ({"text": []}, "no text"),
    ({"text": 5}, "text is not text, got '5'"),
    ({"text": {"a": 1}}, "text is not text"),
    ({"text": "x" * 20_001}, "text has more than 20,000 characters"),
    ({"label": None}, "no label"),
    ({"label": ["a", "b"]}, "several in label"),
    ({"head_start": 3}, r"head_start: expected 'Paris' at character 3 \(the first is 0\), got 'is in'"),
    ({"head_start": 15}, "head_start: expected a character from 0 to 14, got '15'"),
    ({"head_start": -1}, "head_start: expected a character from 0 to 14, got '-1'"),
    ({"head_start": 1.5}, "head_start: expected a character from 0 to 14, got '1.5'"),
    ({"head_start": "first"}, "head_start: expected a character from 0 to 14, got 'first'"),
    ({"head": ["Paris", "Q", [[0]]]}, "head: expected a text, or a list of words beside it"),
    ({"text": ["Paris", 3]}, "text is not a list of words"),
    ({"text": ["Paris", "in", "France"], "head_start": 3}, "head_start: expected a word from 0 to 2, got '3'"),
    ({"text": ["Paris", "in", "France"], "head_start": 1}, "head_start: expected 'Paris' at word 1 .*, got 'in Fr'"),
    *(
        ({"text": ["Paris", "France"], "head": cell}, r"head: .* \[name, id, \[places\]\] with places from 0 to 1, got")
        for cell in (
            ["x", "Q", [[2]]],
            {"name": "x", "pos": [1, 3]},
            {"name": "x", "pos": [1]},
            {"name": "x", "pos": [1, 1]},
            ["x", "Q", [[-1]]],
            ["x", "Q", [["0"]]],
            ["x", "Q", [[]]],
            ["x"],
            {"name": "x"},
        )
    ),
    ({"text": ["Paris", "France"], "head": [None, "Q", [[0]]]}, "no head"),
    ({"text": ["Paris", "France"], "head": ["x", "Q", [[1]]]}, "head and tail are the same words, 'France'"),
]


@pytest.mark.parametrize(("bad", "said"), BAD_ROWS)
def test_rows_that_are_refused(tmp_path: Path, bad: dict[str, object], said: str) -> None:
    good = {"text": "Paris in France", "head": "Paris", "tail": "France", "label": "r"}
    path = written(tmp_path / "r.jsonl", "\n".join(json.dumps(row) for row in (good, good | bad, good)))
    with pytest.raises(DataError, match=rf"r\.jsonl: row 2: {said}.*; mend or remove them"):
        relations(path=path, reading="words")
    report = check_data(Path(path))
    assert (report.kind, report.examples) == ("relations", 2)
    (problem,) = report.unreadable
    assert re.match(f"row 2: {said}", problem)


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("r.csv", "text,tail,label\na,a,b\n", {}, r"unknown column of .*r\.csv 'head'"),
        ("r.csv", HEADER + "a b,a,b,c\n", {"tail": "object"}, "'object'"),
        ("r.csv", HEADER + "a b,a,b,c\n", {"text": "words"}, "'words'"),
        ("r.csv", HEADER + "a b,a,b,c\n", {"label": "kind"}, "'kind'"),
        ("r.csv", HEADER + "a b,a,b,c\n", {"least": 2}, "no class has 2 rows, the largest has 1"),
        ("r.csv", HEADER + "a b,a,b,c\n", {"reading": "sounds"}, "places, tokens, vectors, words"),
        ("r.csv", HEADER + "a b,a,b,-1\na b,a,b,0\n" * 2 + "a b,a,b,1\na b,a,b,2\n", {}, "got -1"),
        ("r.csv", HEADER, {}, "expected rows, there are none"),
        ("r.txt", "", {}, r"expected a file \.csv"),
        ("r.json", "{", {}, r"not JSON .*\.jsonl"),
        ("r.json", '{"text": "a"}\n{"text": "b"}', {}, r"not JSON \(Extra data.*ends in \.jsonl"),
        ("r.json", "[{}]", {}, "FewRel's layout, an object of relations, each a list of sentences"),
        ("r.json", '{"P1": {}}', {}, "FewRel's layout"),
        ("r.json", "{}", {}, "expected rows, there are none"),
        ("r.json", '{"P1": [5, {"tokens": ["a"]}]}', {}, "P1, sentence 1: no tokens; P1, sentence 2: no h; mend"),
        ("r.json", "\xff", {"encoding": "ascii"}, r"line 1 is not ascii; say its encoding"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, content: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(HandfulError, match=said):
        relations(path=written(tmp_path / name, content), **{"reading": "words", **options})


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for name in ("r.csv", "r.json"):
        with pytest.raises(StorageError, match="cannot read"):
            relations(path=str(tmp_path / name))
    with pytest.raises(UnknownNameError, match="'label'"):
        relations_pool({"text": ["a b"], "head": ["a"], "tail": ["b"]})
    with pytest.raises(DataError, match="columns of one length"):
        relations_pool({"text": ["a b"], "head": ["a", "a"], "tail": ["b"], "label": ["c"]})


def test_splits(rivers: str) -> None:
    pool = relations(path=rivers, reading="words")
    assert {name: len(members) for name, members in pool.splits.items()} == {"train": 2, "val": 2, "test": 2}
    halves = relations(path=rivers, reading="words", split={"train": 0.5, "test": 0.5}, within=True)
    assert halves.split("test").counts.tolist() == [4] * 6
    named = relations(path=rivers, reading="words", split={"train": ["a", "b"], "test": ["c", "d"]})
    assert named.split("test").names == ("c", "d")
    assert Episodes(named.split("train"), ways=2, shots=1, queries=2)[0].support.x.shape == (1, 2, 3, 40)  # type: ignore[union-attr]
    frame = pytest.importorskip("pandas").read_csv(rivers)
    assert (
        relations_pool(frame, reading="words").digest == relations_pool(frame.to_dict("list"), reading="words").digest
    )


def test_a_look(tmp_path: Path) -> None:
    rows = [
        "In Bern is Paul.,Paul,Bern,in",
        "In Bern is Paul.,Paul,Bern,of",
        "in bern is paul,paul,bern,in",
        "In Bern is Paul.,Bern,Paul,in",
        "Paul met Paul,Paul,Paul,knows",
        "Paul,Paul,Anna,knows",
    ]
    report = check_data(Path(written(tmp_path / "r.csv", HEADER + "\n".join(rows))))
    assert (report.kind, report.classes) == ("relations", {"in": 3, "of": 1, "knows": 1})
    assert report.duplicates == [["row 1", "row 2"]]
    assert report.near == [["row 1", "row 2", "row 3"]], "and not with the entities exchanged"
    assert report.contradictions == [["row 1", "row 2"], ["row 1", "row 2", "row 3"]]
    assert report.unreadable == [
        "row 6: tail 'Anna' is not in the sentence as whole words; write it as it stands there"
    ]
    said = "\n".join(report.advice)
    assert "1 hold an entity several times, of which the first is taken: the columns head_start" in said
    assert "2 classes have a single example" in said
    assert "to be taught" not in said
    report = check_data(Path(written(tmp_path / "r.json", json.dumps({"P1": [{"tokens": ["a"]}]}))))
    assert (report.kind, report.unreadable) == ("relations", ["P1, sentence 1: no h"])
    (tmp_path / "r.csv").write_text("said,head,tail,kind\nA in B,A,B,in\n")
    assert check_data(tmp_path / "r.csv", text="said", label="kind").classes == {"in": 1}


def test_the_page_keeps_its_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its table and its JSON are read, and its spec learns from them."""
    monkeypatch.chdir(tmp_path)
    section = PAGE.read_text(encoding="utf-8").partition("\n## Relations")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"```(csv|json)\n(.*?)```", section, re.DOTALL))
    assert relations(path=written(tmp_path / "a.csv", shown["csv"]), reading="words").names == ("capital of", "crosses")
    assert relations(path=written(tmp_path / "a.json", shown["json"]), reading="words").names == ("P177", "P36")
    lines = re.findall(r"```jsonl\n(.*?)```", section, re.DOTALL)[0].splitlines()
    for number, line in enumerate(lines):
        assert relations(path=written(tmp_path / f"{number}.jsonl", line), reading="words").classes == 1
    assert DATASETS["relations"].source == "docs/data/own.md"


@pytest.mark.parametrize("learner", ["prototypical", "maml"])
def test_they_are_trained_on(rivers: str, learner: str) -> None:
    spec = Spec.of({
        "learner": {"name": learner} | ({"outputs": 2} if learner == "maml" else {}),
        "encoder": {"name": "text_cnn", "shape": [3, 12], "filters": 4},
        "data": {"name": "relations", "path": rivers, "reading": "words", "length": 12},
        "train": {"ways": 2, "shots": 1, "queries": 2, "steps": 1},
    })  # fmt: skip
    made = build(spec)
    loss = made.loss(spec.train.draw_from(load_data(spec))[0])
    loss.backward()
    assert any(bool(leaf.grad.any()) for leaf in made.parameters() if leaf.grad is not None)
