"""One suite for every store."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from handful.collection import Collection, EncoderIdentity, NewExample, Snapshot, create_collection
from handful.errors import CollectionError, DataError, UnknownNameError

ENCODER = EncoderIdentity("tiny", "ab" * 32, 3)
STORES: dict[str, Callable[[Path], str | Path]] = {
    "sqlite": lambda folder: folder / "shop",
    "sqlite in memory": lambda _: ":memory:",
}


def example(label: str, number: float, **more: object) -> NewExample:
    vector = np.array([number, 1, 2], np.float32)
    return NewExample(label, vector, f"{label}/{number}.png", "00" * 32)._replace(**more)


FIRST = [example("mug", 1), example("cup", 2), example("mug", 3), example("jar", 4)]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Collection]:
    with create_collection(STORES[request.param](tmp_path), ENCODER, {"head": "squared"}, FIRST) as made:
        yield made


def standing(store: Collection, version: int | None = None) -> list[tuple[str, float]]:
    found = store.read(version)
    assert len(found.examples) == len(found.vectors)
    return [(one.label, float(v[0])) for one, v in zip(found.examples, found.vectors, strict=True)]


def ids(store: Collection) -> dict[float, int]:
    found = store.read()
    return {float(v[0]): one.id for one, v in zip(found.examples, found.vectors, strict=True)}


def test_what_was_taught_is_there_with_where_it_comes_from(store: Collection) -> None:
    found = store.read()
    assert (found.version, store.version, found.labels) == (1, 1, ("cup", "jar", "mug"))
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, [one.vector for one in FIRST])
    assert [(one.label, one.source, one.sha256) for one in found.examples] == [(*one[:1], *one[2:4]) for one in FIRST]
    assert all(one.added.endswith("+00:00") and one.by for one in found.examples)
    assert store.encoder == ENCODER
    assert store.settings == {"head": "squared"}


def test_classes_and_contents_are_found_without_reading_all(store: Collection) -> None:
    assert store.labels == ("cup", "jar", "mug")
    store.add([example("pot", 5, sha256="cd" * 32)])
    found = store.find("cd" * 32)
    assert found is not None
    assert (found.label, found.source) == ("pot", "pot/5.png")
    assert store.labels == ("cup", "jar", "mug", "pot")
    store.rename("pot", "pan")
    again = store.find("cd" * 32)
    assert again is not None
    assert (again.id, again.label) == (found.id, "pan")
    store.remove([found.id])
    assert store.find("cd" * 32) is None
    assert store.labels == ("cup", "jar", "mug")


def test_adding_and_removing_equals_never_added(store: Collection) -> None:
    before = store.read()
    assert store.add([example("mug", 9), example("new", 8)]) == 2
    assert standing(store)[-2:] == [("mug", 9), ("new", 8)]
    by_number = ids(store)
    assert store.remove([by_number[9], by_number[8]]) == 3
    after = store.read()
    assert after.examples == before.examples
    assert after.vectors.tobytes() == before.vectors.tobytes()


def test_rename_and_merge(store: Collection) -> None:
    store.rename("mug", " beaker ")
    assert standing(store) == [("beaker", 1), ("cup", 2), ("beaker", 3), ("jar", 4)]
    store.merge(["cup", "beaker"], "cup")
    assert standing(store) == [("cup", 1), ("cup", 2), ("cup", 3), ("jar", 4)]
    store.merge(["cup", "jar"], "things")
    assert store.read().labels == ("things",)


def test_a_class_is_one_however_its_letters_are_composed(store: Collection) -> None:
    apart, composed = (unicodedata.normalize(form, "größe") for form in ("NFD", "NFC"))
    store.add([example(apart, 5), example(composed, 6)])
    store.add([example(composed, 7)])
    assert store.labels == ("cup", apart, "jar", "mug")
    assert store.history()[-1].detail["labels"] == [apart]
    with pytest.raises(DataError, match="there is a class"):
        store.rename("mug", composed)
    with pytest.raises(DataError, match="expected classes to merge"):
        store.merge([composed], apart)
    store.merge(["mug", composed], composed)
    assert store.labels == ("cup", apart, "jar")
    assert store.history()[-1].detail == {"labels": ["mug", apart], "into": apart}
    store.rename(composed, composed)  # from now on written so
    assert store.labels == ("cup", composed, "jar")
    with pytest.raises(DataError, match="there is a class"):
        store.rename(composed, composed)


def test_every_version_can_be_read_again(store: Collection) -> None:
    seen = {1: standing(store)}
    for change in (
        lambda: store.add([example("mug", 9)]),
        lambda: store.rename("mug", "beaker"),
        lambda: store.remove([ids(store)[2]]),
        store.undo,
    ):
        version = change()
        seen[version] = standing(store)
    assert sorted(seen) == [1, 2, 3, 4, 5]
    for version, expected in seen.items():
        assert standing(store, version) == expected
    with pytest.raises(DataError, match="from 1 to 5, got 6"):
        store.read(6)


def test_undo_goes_back_step_by_step(store: Collection) -> None:
    states = [standing(store)]
    for change in (
        lambda: store.add([example("mug", 9), example("pan", 8)]),
        lambda: store.rename("mug", "beaker"),
        lambda: store.merge(["beaker", "cup"], "cup"),
        lambda: store.remove([ids(store)[1], ids(store)[4]]),
    ):
        change()
        states.append(standing(store))
    for expected in reversed(states[:-1]):
        store.undo()
        assert standing(store) == expected
    with pytest.raises(DataError, match="nothing to undo"):
        store.undo()


def test_undo_after_undo_and_another_change(store: Collection) -> None:
    store.rename("mug", "a")
    store.undo()
    store.rename("cup", "b")
    store.add([example("c", 9)])
    store.undo()
    store.undo()
    assert standing(store) == standing(store, 1)
    assert [change.action for change in store.history()] == ["teach", "rename", "undo", "rename", "add", "undo", "undo"]
    assert [change.detail.get("undoes") for change in store.history()][-2:] == [5, 4]


def test_history(store: Collection) -> None:
    store.add([example("mug", 9)])
    first, second = store.history()
    assert (first.version, first.action, first.detail) == (1, "teach", {"examples": 4, "labels": ["cup", "jar", "mug"]})
    assert (second.version, second.action, second.detail) == (2, "add", {"examples": 1, "labels": ["mug"]})


@pytest.mark.parametrize(
    "label",
    ["a/b", "\"quoted\" 'name'", "☕️ mug", "x'); DROP TABLE examples;--", "日本", ".", "نیم\u200cفاصله", "👩\u200d🍳"],
)
def test_names_of_every_kind(store: Collection, label: str) -> None:
    store.add([example(label, 9)])
    assert standing(store)[-1] == (label, 9)
    store.rename(label, label + "2")
    assert label + "2" in store.read().labels


MISTAKES = {
    "nothing to add": (lambda s: s.add([]), DataError, "at least one example"),
    "empty label": (lambda s: s.add([example("  ", 9)]), DataError, "expected a name"),
    "nothing to see in it": (lambda s: s.add([example("\u200d", 9)]), DataError, "expected a name"),
    "two lines": (lambda s: s.add([example("a\nb", 9)]), DataError, "in one line"),
    "endless label": (lambda s: s.add([example("x" * 10_000, 9)]), DataError, "got 10000"),
    "number as label": (lambda s: s.add([FIRST[0]._replace(label=3)]), DataError, "expected a text, got 3"),
    "NaN": (lambda s: s.add([example("mug", 9), example("mug", np.nan)]), DataError, "NaN or infinite"),
    "other length": (lambda s: s.add([example("a", 9, vector=np.ones(4))]), DataError, "3 numbers, got shape (4,)"),
    "no such id": (lambda s: s.remove([1, 99]), DataError, "no example 99"),
    "nothing to remove": (lambda s: s.remove([]), DataError, "at least one example"),
    "everything removed": (lambda s: s.remove([1, 2, 3, 4]), DataError, "expected one to stay"),
    "unknown class": (lambda s: s.rename("mgu", "x"), UnknownNameError, "did you mean 'mug'"),
    "name that is taken": (lambda s: s.rename("mug", "cup"), DataError, "merge makes one"),
    "unknown class to merge": (lambda s: s.merge(["mug", "pann"], "x"), UnknownNameError, "'pann'"),
    "nothing to merge": (lambda s: s.merge(["mug"], "mug"), DataError, "expected classes to merge"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_changes_nothing(store: Collection, mistake: str) -> None:
    do, kind, words = MISTAKES[mistake]
    before = standing(store)
    with pytest.raises(kind) as caught:
        do(store)
    assert words in str(caught.value)
    assert (standing(store), store.version) == (before, 1)


def test_previews(store: Collection) -> None:
    store.add([example("mug", 9, preview="a text"), example("mug", 8, preview=b"\x89PNG")])
    by_number = ids(store)
    assert store.preview(by_number[9]) == "a text"
    assert store.preview(by_number[8]) == b"\x89PNG"
    assert store.preview(by_number[1]) is None
    assert store.preview(999) is None


@pytest.mark.parametrize("other", [{"sha256": "cd" * 32}, {"features": 4}])
def test_another_encoder_is_refused(store: Collection, other: dict[str, object]) -> None:
    stranger = EncoderIdentity(**{**ENCODER.__dict__, "name": "other", **other})  # type: ignore[arg-type]
    with pytest.raises(CollectionError, match=r"handful teach SOURCE --to ANOTHER --with other"):
        store.encoder.refuse(stranger, store.place)
    store.encoder.refuse(EncoderIdentity("moved", ENCODER.sha256, 3), store.place)


def test_what_changed_is_read_into_what_is_known(store: Collection) -> None:
    versions = [store.read()]
    number = ids(store)
    changes = (
        lambda: store.add([example("cup", 5), example("pot", 6)]),
        lambda: store.remove([number[2], number[4]]),
        lambda: store.rename("mug", "beaker"),
        lambda: store.undo(),
        lambda: store.undo(),  # 2 and 4 stand again before those that came later
        lambda: store.merge(["mug", "cup"], "cup"),
    )
    for change in changes:
        change()
        versions.append(store.read())
    for known in versions:
        for wanted in versions:
            found = store.read(wanted.version, known=known)
            assert (found.version, found.examples) == (wanted.version, wanted.examples)
            np.testing.assert_array_equal(found.vectors, wanted.vectors)


def test_vectors_that_are_known_are_not_read_again(store: Collection) -> None:
    known = store.read()
    moved = Snapshot(known.version, known.examples, known.vectors + 1)  # tells whose vectors they are
    store.add([example("cup", 5)])
    assert [float(v[0]) for v in store.read(known=moved).vectors] == [2, 3, 4, 5, 5]
