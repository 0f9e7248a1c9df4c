from __future__ import annotations

import csv
import hashlib
import json
import lzma
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from handful.data.intents import (
    add_banking77,
    add_clinc150,
    add_huffpost,
    add_hwu64,
    banking77,
    clinc150,
    huffpost,
    hwu64,
)
from handful.data.own_relations import relations
from handful.data.pool import ClassPool
from handful.data.raw import RawFile
from handful.data.relations import fewrel, placed_words, text_and_places
from handful.data.texts import word_numbers
from handful.errors import DataError, DownloadError, ShapeError, UnknownNameError

INTENTS = sys.modules["handful.data.intents"]
TEXTS = sys.modules["handful.data.texts"]
RELATIONS = sys.modules["handful.data.relations"]
RAW = sys.modules["handful.data.raw"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and no network."""
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda _: None)
    return tmp_path / "home"


def stand_in(file: RawFile, content: str, url: str | None = None) -> RawFile:
    return RawFile(file.name, hashlib.sha256(content.encode()).hexdigest(), url)


def use(monkeypatch: pytest.MonkeyPatch, name: str, content: str) -> str:
    monkeypatch.setattr(INTENTS, name, stand_in(getattr(INTENTS, name), content))
    return content


def add(source: Path, place: str, files: list[RawFile], contents: list[str]) -> None:
    """What `data add` does, of files under other names, one of them packed."""
    source.mkdir(parents=True)
    for index, content in enumerate(contents):
        if index == 0:
            (source / f"some{index}.xz").write_bytes(lzma.compress(content.encode()))
        else:
            (source / f"some{index}").write_text(content)
    RAW.add_raw(place, source, files)


def test_clinc150(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    intents = [f"intent{index}" for index in range(5)]
    parts = {part: [[f"{part} {name} {n}", name] for name in intents for n in range(count)] for part, count in (
        ("train", 3), ("val", 1), ("test", 2)
    )}  # fmt: skip
    parts |= {f"oos_{part}": [[f"strange {part}", "oos"]] for part in ("train", "val", "test")}
    content = use(monkeypatch, "CLINC150", json.dumps(parts))
    add(tmp_path / "source", "clinc150", [INTENTS.CLINC150], [content])
    pool = clinc150(reading="words", length=4)
    assert pool.names == tuple(intents)
    assert pool.counts.tolist() == [6] * 5
    assert [len(members) for members in pool.splits.values()] == [3, 1, 1]
    whole = clinc150(reading="words", protocol="examples")
    assert whole.split("test").counts.tolist() == [2] * 5
    assert whole.split("train").names[0] == "intent0/train"
    scope = clinc150(reading="words", out_of_scope=True)
    assert scope.split("oos").counts.tolist() == [3]
    assert scope.splits["train"]
    assert "oos" not in scope.split("train+val+test").names
    assert clinc150(reading="words", out_of_scope=True, protocol="examples").split("oos").names == ("oos/oos",)


def test_banking77(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        "train": 'text,category\n"Where, is it?",card\nWhen?,time\nWho,name\n',
        "test": "text,category\nWhere now?,card\nWhen now,time\nWho now,name\n",
    }
    files = {part: stand_in(INTENTS.BANKING77[part], content) for part, content in contents.items()}
    monkeypatch.setattr(INTENTS, "BANKING77", files)
    add(tmp_path / "source", "banking77", list(files.values()), list(contents.values()))
    assert banking77(reading="words").counts.tolist() == [2, 2, 2]
    assert banking77(reading="words", protocol="examples").split("train").names == (
        "card/train",
        "name/train",
        "time/train",
    )


def test_hwu64_and_huffpost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = use(monkeypatch, "HWU64", "\n".join(
        json.dumps({"sentence": f"say {label}", "label": f"a/{label}"}) for label in "xyz"
    ))  # fmt: skip
    add(tmp_path / "hwu", "hwu64", [INTENTS.HWU64], [content])
    assert hwu64(reading="words").names == ("a/x", "a/y", "a/z")
    with monkeypatch.context() as patched:
        patched.setattr(TEXTS, "sentence_vectors", lambda texts, **_: torch.rand(len(texts), 4))
        with pytest.warns(UserWarning, match="HWU64: the encoder 'intents' has learned on its intents"):
            hwu64(model="intents")
    news = use(monkeypatch, "HUFFPOST", "\n".join(json.dumps({"raw": f"n {i}", "label": i}) for i in range(41)))
    words = use(monkeypatch, "HUFFPOST_WORDS", "\n".join(f"{n}\tSECTION {min(n, 39)}" for n in range(41)))
    add(tmp_path / "huff", "huffpost", [INTENTS.HUFFPOST, INTENTS.HUFFPOST_WORDS], [news, words])
    pool = huffpost(reading="words")
    assert {part: len(members) for part, members in pool.splits.items()} == {"train": 20, "val": 5, "test": 16}
    assert pool.split("val").names == tuple(f"SECTION {index}" for index in range(5))
    assert pool.split("test").names[-2:] == ("SECTION 39 39", "SECTION 39 40")


# Relations


def relation(words: str, head: int, tail: int) -> dict[str, Any]:
    tokens = words.split()
    return {"tokens": tokens, "h": [tokens[head], "Q1", [[head]]], "t": [tokens[tail], "Q2", [[tail]]]}


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        "wiki": json.dumps({f"P{n}": [relation(f"A is in B {n}", 0, 3)] * 2 for n in range(4)}),
        "pubmed": json.dumps({"ingredient_of": [relation("salt in soup", 2, 0)]}),
        "names": json.dumps({f"P{n}": [f"name {n}", "about"] for n in range(4)}),
    }
    files = {name: stand_in(RELATIONS.FILES[name], content) for name, content in contents.items()}
    monkeypatch.setattr(RELATIONS, "FILES", {**RELATIONS.FILES, **files})
    add(tmp_path / "source", "fewrel", list(files.values()), list(contents.values()))


def test_words_and_places_of_relations() -> None:
    x = placed_words([["a", "b", "c"], list("abcdefghij")], [(2, 0), (9, 7)], 5)
    assert x.shape == (2, 3, 5)
    assert x[0, 0].tolist() == [*word_numbers([["a", "b", "c"]], 3)[0].tolist(), 0, 0]
    assert x[0, 1:].tolist() == [[-2, -1, 0, 0, 0], [0, 1, 2, 0, 0]]
    assert torch.equal(x[1, 0], word_numbers([list("fghij")], 5)[0])
    assert x[1, 1:].tolist() == [[-4, -3, -2, -1, 0], [-2, -1, 0, 1, 2]]


def test_characters_of_entities_and_between_them() -> None:
    words = ["The", "Long", "River", "meets", "a", "sea"]
    text, spans = text_and_places(words, [5], [1, 2])
    assert text == "The Long River meets a sea"
    assert [text[a:b] for a, b in spans] == [text, "sea", "Long River", " meets a "]
    _, overlapping = text_and_places(words, [1, 2], [2])
    assert overlapping[3][0] >= overlapping[3][1], "nothing is between them"


@pytest.mark.usefixtures("mini")
def test_places_of_relations_are_vectors_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def vectors(texts: Sequence[str], spans: Sequence[object], **_: object) -> torch.Tensor:
        asked.append(len(texts))
        return torch.arange(float(len(texts) * 8)).view(len(texts), 4, 2)

    monkeypatch.setattr(RELATIONS, "span_vectors", vectors)
    pool = fewrel(reading="places")
    assert pool.shape == (8,)
    assert torch.equal(pool.examples, fewrel(reading="places").examples)
    assert asked == [len(pool.examples)], "once"


@pytest.mark.usefixtures("mini")
def test_fewrel() -> None:
    pool = fewrel(reading="words", length=8)
    assert pool.names == tuple(f"P{n} name {n}" for n in range(4))
    assert pool.shape == (3, 8)
    assert [len(members) for members in pool.splits.values()] == [2, 2]
    shifted = fewrel(reading="words", test="pubmed")
    assert shifted.split("test").names == ("pubmed: ingredient_of",)
    assert shifted.split("train").names == pool.names
    with pytest.raises(DataError, match="leave `split` out"):
        fewrel(reading="words", test="pubmed", split={"train": 1.0})
    with pytest.raises(UnknownNameError, match="nyt, pubmed, semeval, wiki"):
        fewrel(test="books")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="places, tokens, vectors, words"):
        fewrel(reading="sounds")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="got -1"):
        fewrel(reading="words", length=-1)


def as_table(file: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    with file.open("w", newline="", encoding="utf-8") as opened:
        if file.suffix == ".jsonl":
            opened.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            made = csv.DictWriter(opened, columns)
            made.writeheader()
            made.writerows({**row, "tokens": " ".join(row["tokens"])} for row in rows)
    return str(file)


def same_as_fewrel(folder: Path, content: dict[str, Any], wanted: ClassPool, *, texts: bool) -> None:
    """FewRel's own file, and tables made of it, give the examples that it gives itself."""
    (folder / "own.json").write_text(json.dumps(content))
    rows = [
        {
            "tokens": one["tokens"],
            **{f"{side}": " ".join(one["tokens"][place] for place in one[side[0]][2][0]) for side in ("head", "tail")},
            **{f"{side}_start": one[side[0]][2][0][0] for side in ("head", "tail")},
            "relation": name,
        }
        for name, instances in content.items()
        for one in instances
    ]
    tables = [as_table(folder / "own.jsonl", [*rows[0]], rows)]
    if texts:
        bare = [{name: cell for name, cell in row.items() if not name.endswith("start")} for row in rows]
        tables.append(as_table(folder / "own.csv", [*bare[0]], bare))
    for path in (str(folder / "own.json"), *tables):
        pool = relations(path=path, reading="words", length=wanted.shape[1])
        assert pool.counts.tolist() == wanted.counts.tolist()
        assert torch.equal(pool.take(pool.rows()), wanted.take(wanted.rows())), path


@pytest.mark.usefixtures("mini")
def test_own_relations_are_read_as_fewrel_is(tmp_path: Path) -> None:
    content = {f"P{n}": [relation(f"A is in B {n}", 0, 3)] * 2 for n in range(4)}
    same_as_fewrel(tmp_path, content, fewrel(reading="words", length=8), texts=True)


def test_the_real_fewrel_as_own_relations(tmp_path: Path) -> None:
    chosen = os.environ.get("HANDFUL_TEST_DATA")
    packed = (
        (Path(chosen) if chosen else Path(__file__).parents[3] / "shared" / "data") / "fewrel" / "val_pubmed.json.xz"
    )
    if not packed.is_file():
        pytest.skip("needs the real FewRel: set HANDFUL_TEST_DATA to a folder that holds fewrel/")
    content = json.loads(lzma.decompress(packed.read_bytes()))
    rows = [RELATIONS._published(one["tokens"], one["h"], one["t"]) for own in content.values() for one in own]
    labels = [name for name, own in content.items() for _ in own]
    wanted = RELATIONS.read_relations(rows, labels, what="FewRel", reading="words", model="minilm", length=40)
    same_as_fewrel(tmp_path, content, wanted, texts=False)


# Files


def test_files_that_are_not_there(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match=r"HWU64_full\.jsonl is not on this machine.*handful data add hwu64 --from PATH"
    ):
        hwu64()
    monkeypatch.setattr(INTENTS, "CLINC150", INTENTS.CLINC150._replace(url="http://127.0.0.1:9/data_full.json"))
    with pytest.raises(DownloadError, match="handful data add clinc150"):
        clinc150()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "data_full.json").write_text("{}")
    for function in (add_clinc150, add_banking77, add_hwu64, add_huffpost):
        with pytest.raises(DataError, match="found none with their content"):
            function(tmp_path / "source")
    (tmp_path / "source" / "broken.xz").write_bytes(b"no")
    with pytest.raises(DataError, match=r"found none with their content; .*broken\.xz is cut short or damaged"):
        add_hwu64(tmp_path / "source")
    (tmp_path / "source" / "other.xz").write_bytes(lzma.compress(b"right"))
    file = RawFile("right.txt", hashlib.sha256(b"right").hexdigest())
    kept = RAW.add_raw("others", tmp_path / "source", [file])
    assert (kept / "right.txt").read_bytes() == b"right", "what is broken beside it does not matter"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "here").symlink_to(tmp_path / "source")
    assert RAW.add_raw("linked", tmp_path / "linked", [file]).name == "linked", "links to folders are followed"
    large = RawFile("large.txt", hashlib.sha256(bytes(5000)).hexdigest())
    (tmp_path / "source" / "large.xz").write_bytes(lzma.compress(bytes(5000)))
    monkeypatch.setattr(RAW, "LARGEST", 1000)
    with pytest.raises(DataError, match="found none"):
        RAW.add_raw("others", tmp_path / "source", [large])
    (home / "hwu64").mkdir(parents=True)
    (home / "hwu64" / "HWU64_full.jsonl").write_text("{}")
    with pytest.raises(DataError, match="its checksum is not the published one"):
        hwu64()
