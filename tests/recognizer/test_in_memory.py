"""What is taught, asked, added and removed in memory, of whichever library."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
import scipy.sparse
import torch

from handful.errors import DataError, HandfulError, ShapeError, StorageError
from handful.recognizer import Recognizer, teach

X = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]])
TEXTS = {"light": ["turn on the light", "lamp off"], "music": ["play a song", "louder music"]}


def texts(**options: Any) -> Recognizer:
    return teach(TEXTS, encoder="ngrams", **options)


def test_what_can_be_read_once_is_taught() -> None:
    made = teach({"light": iter(TEXTS["light"]), "music": (one for one in TEXTS["music"])}, encoder="ngrams")
    assert made.report().classes == {"light": 2, "music": 2}


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X, torch.tensor([0, 0, 1, 1])),
        (X, list(torch.tensor([0, 0, 1, 1]))),
        (torch.tensor(X, requires_grad=True), [0, 0, 1, 1]),
        (list(torch.tensor(X, requires_grad=True)), [0, 0, 1, 1]),
        (pd.DataFrame(X, columns=["a", "b"]), pd.Series([0, 0, 1, 1], index=[9, 8, 7, 6])),
        (pyarrow.table({"a": X[:, 0], "b": X[:, 1]}), pyarrow.array([0, 0, 1, 1])),
        (pyarrow.array(X.tolist()), pyarrow.array(["0", "0", "1", "1"])),
        (X, np.array([b"0", b"0", b"1", b"1"])),
        (scipy.sparse.csr_matrix(X), [0, 0, 1, 1]),
        (scipy.sparse.coo_array(X), [0, 0, 1, 1]),
        (torch.tensor(X).to_sparse(), [0, 0, 1, 1]),
        (torch.tensor(X).bfloat16(), torch.tensor([0, 0, 1, 1])),
        (list(torch.tensor(X).bfloat16()), [0, 0, 1, 1]),
    ],
    ids=[
        "labels",
        "list of labels",
        "tensor",
        "list of tensors",
        "frame",
        "arrow's table",
        "arrow's lists",
        "bytes",
        "sparse matrix",
        "sparse array",
        "sparse tensor",
        "bfloat16",
        "list of bfloat16",
    ],
)
def test_arrays_of_other_libraries(x: Any, y: Any) -> None:
    made = teach((x, y))
    assert made.report().classes == {"0": 2, "1": 2}
    assert [answer.label for answer in made.recognize_many(x)] == ["0", "0", "1", "1"]


@pytest.mark.parametrize(
    "y",
    [
        np.array([[0], [0], [1], [1]]),
        torch.eye(2)[[0, 0, 1, 1]],
        [[0], [0], [1], [1]],
        pd.DataFrame({"y": list("aabb")}),
    ],
)
def test_labels_are_one_for_each(y: Any) -> None:
    with pytest.raises(HandfulError, match=r"expected (labels|one label|one label for each)"):
        teach((X, y))


def test_labels_of_a_file_are_one_for_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", x=X, y=np.array([["a"], ["a"], ["b"], ["b"]]))
    with pytest.raises(ShapeError, match=r"v\.npz: expected labels of shape \[n\], got \[4, 1\]"):
        teach(tmp_path / "v.npz")


def test_no_label_of_pandas() -> None:
    with pytest.raises(DataError, match="example 3: expected a label"):
        teach((X, pd.Series([0, 0, 1, None], dtype="Int64")))


def test_a_class_is_named_as_it_was_taught() -> None:
    made = teach((X, [0, 0, 1, 1]))
    made.add(0, [[0.0, 1.1]])
    made.add(np.int64(1), [[1.1, 0.0]])
    made.add(" 1 ", [[1.2, 0.0]])
    assert made.report().classes == {"0": 3, "1": 4}
    made.rename(0, 2)
    made.merge([1, np.int64(2)], 3)  # type: ignore[list-item]
    assert made.report().classes == {"3": 7}


def test_spaces_around_a_name_describe_nothing_anew() -> None:
    made = teach(descriptions=["tax", "weather"], encoder="ngrams")
    made.add(" tax ", ["how much do I owe the state"])
    assert [one.label for one in made.collection.read().examples].count("tax") == 2  # its name, and the example


@pytest.mark.parametrize("thing", ["hello", b"hello", Path("hello"), {"hello": 1}, np.array("hello")])
def test_one_thing_is_no_list(thing: Any) -> None:
    made = texts()
    for ask in (made.recognize_many, made.suggest, lambda one: made.add("light", one)):
        with pytest.raises(DataError, match=r"expected a list of things, got .*hello.*; put it in a list"):
            ask(thing)
    assert made.report().classes == {"light": 2, "music": 2}


@pytest.mark.parametrize("thing", [None, 5, np.array(5.0)])
def test_what_is_no_list_either(thing: Any) -> None:
    made = teach((X, [0, 0, 1, 1]))
    for ask in (made.recognize_many, made.suggest, lambda one: made.add(0, one)):
        with pytest.raises(DataError, match=f"expected a list of things, got '{thing}'; put it in a list"):
            ask(thing)


def test_ids_are_whole_numbers_of_any_kind() -> None:
    made = teach((X, [0, 0, 1, 1]))
    made.remove(np.int64(1))
    made.remove(np.array([2]))
    made.remove(torch.tensor(3))
    assert [one.id for one in made.collection.read().examples] == [4]
    for wrong in ("1", 1.0, [1.5], None, np.array([[1]])):
        with pytest.raises(DataError, match="expected ids of examples"):
            made.remove(wrong)  # type: ignore[arg-type]


def test_an_epsilon_of_numpy() -> None:
    made = teach((X, [0, 0, 1, 1]), epsilon=np.float32(0.25))
    assert made.epsilon == 0.25
    assert made.recognize(X[0], epsilon=np.float32(0.25)).label == "0"


def test_vectors_too_large_to_compare(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="memory:0: holds values too large to compare"):
        teach((1e19 * X, [0, 0, 1, 1]))
    np.savez(tmp_path / "v.npz", x=1e19 * X, y=[0, 0, 1, 1])
    with pytest.raises(DataError, match="too large to compare"):
        teach(tmp_path / "v.npz")
    answer = teach((1e18 * X, [0, 0, 1, 1])).recognize(1e18 * X[0])
    assert answer.label == "0"
    assert np.isfinite([answer.probability, *(near.distance for near in answer.nearest)]).all()


def test_a_long_text_is_no_file() -> None:
    long = "turn the light on " * 20 + ".csv"
    assert texts().recognize(long).label == "light"


def test_a_long_name_is_said(tmp_path: Path) -> None:
    for name in (".csv", ".npz"):
        with pytest.raises(StorageError):
            teach("x" * 300 + name)
    with pytest.raises(DataError, match="expected a folder of pictures"):
        teach("x" * 300)


def test_a_number_is_no_examples(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    np.savez(path, x=1.0, y=np.arange(3))
    with pytest.raises(ShapeError, match=r"s\.npz: expected examples of shape \[n, features\], got \[\]"):
        teach(path)
    with pytest.raises(ShapeError, match=r"s\.npz: expected examples of shape"):
        teach((X, [0, 0, 1, 1])).recognize_many([path])
    with pytest.raises(ShapeError, match="teach: expected examples of shape"):
        teach((np.array(1.0), [0]))


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are texts elsewhere")
def test_paths_of_any_bytes(tmp_path: Path) -> None:
    table, arrays = (tmp_path / os.fsdecode(b"caf\xe9" + end) for end in (b".csv", b".npz"))
    table.write_text("text,label\nturn on the light,light\nplay a song,music\n")
    assert teach(table, encoder="ngrams").collection.read().examples[0].source.endswith(r"caf\udce9.csv:2")
    with arrays.open("wb") as file:
        np.savez(file, x=X, y=[0, 0, 1, 1])
    assert teach(arrays).collection.read().examples[0].source.endswith(r"caf\udce9.npz:0")


def test_equal_vectors_are_warned_of_if_many() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    y = np.arange(60) % 2
    teach((np.concatenate([x, x[:2]]), np.concatenate([y, y[:2]])))
    with pytest.warns(UserWarning, match="60 of 120 vectors are equal to others: .* no promise holds"):
        made = teach((np.concatenate([x, x]), np.concatenate([y, y])))
    assert made.report().classes == {"0": 60, "1": 60}


def test_vectors_that_are_examples_already_are_warned_of_if_many() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    made = teach((x, np.arange(60) % 2))
    with pytest.warns(UserWarning, match="2 of 4 vectors are equal to others"):
        made.add("2", [*x[:2], -x[0], -x[1]])
    made.add("2", 1 + x[:20])
    made.add("2", [*(2 + x[:19]), x[5]])
    assert made.report().classes["2"] == 44


def test_vectors_that_differ_by_length_alone() -> None:
    """Of one positive feature all cosines are 1: nothing to choose that rule for."""
    made = teach((np.arange(30.0)[:, None] + 1, np.arange(30) // 10))
    answers = made.recognize_many([[2.5], [15.5], [28.5]])
    assert [answer.label for answer in answers] == ["0", "1", "2"]
    assert min(answer.probability for answer in answers) > 0.8
    assert made.report().calibration.accuracy == 1


def test_what_is_sparse_is_added_and_asked_too() -> None:
    made, sparse = teach({"a": X[:2], "b": X[2:]}), scipy.sparse.csr_array(X)
    with pytest.warns(UserWarning, match=r"[12] of 2 vectors are equal to others"):
        made.add("a", sparse[:2])
    with pytest.warns(UserWarning, match="are equal to others"):
        made.add("b", torch.tensor(X[2:]).bfloat16())
    assert made.report().classes == {"a": 4, "b": 4}
    assert made.recognize(sparse[[0]].toarray()[0]).label == made.recognize(torch.tensor(X[0]).bfloat16()).label == "a"


def test_what_is_sparse_must_have_room() -> None:
    huge = scipy.sparse.coo_array(([1.0, 1.0], ([0, 1], [0, 1])), shape=(2, 2**60))
    with pytest.raises(ShapeError, match=r"sparse array of shape .*: expected one that memory holds"):
        teach((huge, [0, 1]))


@pytest.mark.parametrize("y", [[-1] * 8, [0, 1, 2, -1, 0, 1, 2, -1], torch.tensor([0, 5, -1, 7, 0, 5, -1, 7])])
def test_minus_one_is_no_label(y: Any) -> None:
    x = np.concatenate([X, X + 0.3])
    with pytest.raises(DataError, match=r"example [0-9]: expected a label, got -1 \([28] of these\); leave out"):
        teach((x, y))
    assert "-1" in teach((x, [str(int(label)) for label in y])).report().classes  # said to be a class


def test_minus_one_may_be_one_of_two_or_three_classes() -> None:
    assert teach((X, np.array([-1, -1, 1, 1]))).report().classes == {"-1": 2, "1": 2}
    assert teach((X, [-1, -1, -2, -2])).report().classes == {"-1": 2, "-2": 2}
    with pytest.warns(UserWarning, match="-1 is taken as a class; leave out"):
        made = teach((X, [-1, 0, 1, 1]))
    assert made.report().classes == {"-1": 1, "0": 1, "1": 2}
