from __future__ import annotations

import sqlite3
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handful.collection import EncoderIdentity
from handful.recognizer import teach
from handful.recognizer.built_in import Gradients
from handful.recognizer.cache import VectorCache, cache_file, usage, vectors_of
from handful.recognizer.inputs import Item


class Counting:
    """An encoder that remembers what it was asked."""

    kind, form = "texts", None

    def __init__(self, digest: str = "a") -> None:
        self.identity = EncoderIdentity("counting", digest, 3)
        self.asked: list[str] = []

    def embed(self, contents: Sequence[Any]) -> np.ndarray:
        self.asked += contents
        return np.array([[len(text), ord(text[0]), 1] for text in contents], np.float32)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HANDFUL_CACHE_MB", "10")
    monkeypatch.setattr("handful.recognizer.cache.FEWEST", 1)
    return tmp_path


def items(*texts: str) -> list[Item]:
    return [Item(text, "label", "memory", f"hash of {text}") for text in texts]


def test_only_new_ones_pass_the_encoder() -> None:
    first, second = Counting(), Counting()
    expected = vectors_of(first, items("a", "bb", "a"))
    assert first.asked == ["a", "bb"]
    np.testing.assert_array_equal(expected, [[1, 97, 1], [2, 98, 1], [1, 97, 1]])
    found = vectors_of(second, items("ccc", "bb", "a"))
    assert second.asked == ["ccc"]
    np.testing.assert_array_equal(found, [[3, 99, 1], [2, 98, 1], [1, 97, 1]])
    found += 1  # what is given away can be changed
    assert usage().path == cache_file()
    assert usage().bytes > 0


def test_the_second_teach_embeds_new_pictures_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for number in range(12):
        (home / "photos" / f"c{number % 2}").mkdir(parents=True, exist_ok=True)
        picture = random.integers(0, 255, (20, 20, 3)).astype(np.uint8)
        Image.fromarray(picture).save(home / "photos" / f"c{number % 2}" / f"{number}.png")
    asked = []
    embed = Gradients.embed
    monkeypatch.setattr(Gradients, "embed", lambda self, x: (asked.append(len(x)), embed(self, x))[1])
    first = teach(home / "photos", encoder="gradients").collection.read()
    Image.fromarray(random.integers(0, 255, (20, 20, 3)).astype(np.uint8)).save(home / "photos" / "c0" / "new.png")
    second = teach(home / "photos", encoder="gradients").collection.read()
    assert asked == [12, 1]
    vectors = {one.sha256: vector for one, vector in zip(second.examples, second.vectors, strict=True)}
    for one, vector in zip(first.examples, first.vectors, strict=True):
        np.testing.assert_array_equal(vectors[one.sha256], vector)


def test_another_encoder_or_form_is_another_key() -> None:
    vectors_of(Counting(), items("a"))
    other, formed = Counting("b"), Counting()
    vectors_of(other, items("a"))
    assert other.asked == ["a"]
    formed.form = (3, 8, 8)  # type: ignore[assignment]
    picture = Path(cache_file().parent / "p.png")
    Image.new("RGB", (9, 9)).save(picture)
    formed.embed = lambda x: np.zeros((len(x), 3), np.float32)  # type: ignore[method-assign]
    item = items("a")[0]._replace(content=picture.read_bytes())
    assert not vectors_of(formed, [item]).any()


@pytest.mark.parametrize("megabytes", ["0", "0.0"])
def test_without_a_cache(megabytes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CACHE_MB", megabytes)
    vectors_of(Counting(), items("a"))
    assert not cache_file().exists()


def test_a_size_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CACHE_MB", "much")
    with pytest.warns(UserWarning, match="expected a number of megabytes, got 'much'"):
        vectors_of(Counting(), items("a"))


@pytest.mark.parametrize("damage", ["overwritten", "cut short", "no database", "another schema"])
def test_a_damaged_cache_is_begun_anew(damage: str) -> None:
    expected = vectors_of(Counting(), items(*(f"{n} text" for n in range(400))))
    path = cache_file()
    content = bytearray(path.read_bytes())
    match damage:
        case "overwritten":
            content[4096 : len(content) - 4096] = b"\xab" * (len(content) - 8192)
        case "cut short":
            del content[5000:]
        case "no database":
            content = bytearray(b"hello" * 1000)
    if damage == "another schema":
        path.unlink()
        with sqlite3.connect(path) as sql:
            sql.execute("CREATE TABLE vectors (x)")
        sql.close()
    else:
        path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = vectors_of(Counting(), items(*(f"{n} text" for n in range(400))))
    np.testing.assert_array_equal(again, expected)
    assert any("was damaged, and is begun anew" in str(one.message) for one in caught)
    last = Counting()
    np.testing.assert_array_equal(vectors_of(last, items(*(f"{n} text" for n in range(400)))), expected)
    assert len(last.asked) <= 256  # all but, perhaps, what was made while the damage was found


def test_a_vector_that_is_not_what_was_written_is_made_again() -> None:
    vectors_of(Counting(), items("a"))
    with sqlite3.connect(cache_file()) as sql:
        sql.execute("UPDATE vectors SET vector = ?", [np.zeros(3, np.float32).tobytes()])
    sql.close()
    np.testing.assert_array_equal(vectors_of(Counting(), items("a")), [[1, 97, 1]])


def test_where_nothing_can_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("not a folder")
    monkeypatch.setenv("HANDFUL_DATA", str(home / "file"))
    with pytest.warns(UserWarning, match="cannot be used, so vectors are made anew each time"):
        np.testing.assert_array_equal(vectors_of(Counting(), items("a")), [[1, 97, 1]])


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_DATA", "~no such user/data")
    with pytest.warns(UserWarning, match=r"no cache of vectors, so they are made anew each time: .*write the path out"):
        np.testing.assert_array_equal(vectors_of(Counting(), items("a")), [[1, 97, 1]])


def test_its_size_is_bounded_and_the_oldest_go_first(home: Path) -> None:
    cache = VectorCache(home / "small.sqlite", "e", 100, 200_000)
    for part in range(20):
        cache.put({f"{part} {n}": np.full(100, part, np.float32) for n in range(50)})
        assert set(cache.get(["0 0"])) == {"0 0"}, "what is used stays"
    sizes = sum(path.stat().st_size for path in home.glob("small.sqlite"))
    assert sizes <= 250_000
    assert len(cache.get([f"19 {n}" for n in range(50)])) == 50
    assert not cache.get(["0 1"])


def test_many_at_once(home: Path) -> None:
    wrong = []

    def work(seed: int) -> None:
        cache = VectorCache(home / "shared.sqlite", "e", 8, 10_000_000)
        for part in range(8):
            made = {f"{seed} {part} {n}": np.full(8, seed, np.float32) for n in range(20)}
            cache.put(made)
            if set(cache.get(list(made))) != set(made):
                wrong.append((seed, part))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_waits_for_whoever_makes_the_file(home: Path) -> None:
    path = home / "shared.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE any (thing TEXT)")
    other.execute("BEGIN IMMEDIATE")
    soon = threading.Timer(0.2, other.execute, ["COMMIT"])
    soon.start()
    cache = VectorCache(path, "e", 2, 10_000_000)
    cache.put({"a": np.ones(2, np.float32)})
    soon.join()
    other.close()
    assert set(cache.get(["a"])) == {"a"}


def test_does_without_after_waiting_in_vain(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.recognizer.cache.WAIT", 0.05)
    other = sqlite3.connect(home / "shared.sqlite", isolation_level=None)
    other.execute("CREATE TABLE any (thing TEXT)")
    other.execute("BEGIN IMMEDIATE")
    cache = VectorCache(home / "shared.sqlite", "e", 2, 10_000_000)
    with pytest.warns(UserWarning, match="cannot be used, so vectors are made anew each time .database is locked"):
        cache.put({"a": np.ones(2, np.float32)})
    assert not cache.get(["a"])
    other.close()
