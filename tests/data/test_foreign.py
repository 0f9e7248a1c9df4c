from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from handful.data.foreign import dataset_pool
from handful.errors import DataError


class Items(list[Any]):
    """A map-style data set with whatever else it says."""

    classes: list[str]
    features: dict[str, Any]


def test_a_pytorch_data_set() -> None:
    pool = dataset_pool(TensorDataset(torch.arange(6.0).view(3, 2), torch.tensor([1, 0, 1])))
    assert pool.names == ("0", "1")
    assert pool.examples.tolist() == [[2, 3], [0, 1], [4, 5]]


def test_pictures_with_names_of_classes() -> None:
    items = Items((Image.new("L", (5, 9), 40 * index), index % 2) for index in range(4))
    items.classes = ["wren", "robin"]
    pool = dataset_pool(items, size=8)
    assert pool.names == ("robin", "wren")
    assert pool.shape == (3, 8, 8)
    assert pool.examples[:, 0, 0, 0].tolist() == [40, 120, 0, 80]


def test_a_hugging_face_data_set_of_texts() -> None:
    class Label:
        names = ("no", "yes")

    items = Items({"idx": index, "sentence": f"word{index}", "label": index % 2} for index in range(3))
    items.features = {"label": Label()}
    pool = dataset_pool(items, reading="words", length=2)
    assert pool.names == ("no", "yes")
    assert pool.counts.tolist() == [2, 1]
    assert dataset_pool(items, x="idx", y="sentence").names == ("word0", "word1", "word2")


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (iter([1]), r"expected one with len\(\)"),
        ([], "at least one example"),
        ([{"z": 1, "label": 2}], "the key 'image' or .* got z, label"),
        ([3], "expected items"),
        ([(np.zeros(2), 0), (np.zeros(3), 0)], "examples of one shape"),
        ([(np.zeros(2), 0), ("text", 0)], "of one kind, got float64, text"),
        ([(np.zeros(2, np.uint8), 0), (np.zeros(2, np.float32), 0)], "of one kind, got float32, uint8"),
        ({"train": [(1.0, 0)], "test": [(1.0, 0)]}, r"by name \(train, test\); choose one"),
        ([(1.0, torch.tensor([0.0, 1.0]))], "example 0: expected one text or number as its label.*argmax"),
        ([(1.0, np.eye(2)[0])], "example 0: expected one text or number as its label"),
        ([("text", 0), ("text", None)], r"rows \[2\] have no 'label'"),
        ([(1.0, [0, 1])], "example 0: expected one text or number as its label"),
        ([(1.0, label) for label in (0, 1, -1, 2)], r"example 2: expected a label, got -1 \(1 of these\); leave"),
        ([(1.0, torch.tensor(-1))] * 3, r"example 0: expected a label, got -1 \(3 of these\)"),
        ([(object(), 0)], "example 0: expected a tensor, array, picture or text"),
    ],
)
def test_what_is_wrong_is_named(items: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        dataset_pool(items)


def test_classes_of_one_name_are_not_one_class() -> None:
    items = Items((torch.zeros(2), torch.tensor([number])) for number in range(4))
    items.classes = ["crane", "robin", "crane", ("maillot", "tank suit")]  # type: ignore[list-item]
    assert dataset_pool(items).names == ("crane 0", "crane 2", "maillot, tank suit", "robin")


def test_names_of_classes_are_those_of_the_usual_labels() -> None:
    items = Items([(torch.zeros(2), 0, 1), (torch.ones(2), 1, 5)])
    items.classes = ["cat", "dog"]
    assert dataset_pool(items).names == dataset_pool(items, y=1).names == ("cat", "dog")
    assert dataset_pool(items, y=2).names == ("1", "5")


@pytest.mark.parametrize("labels", [(1, 2, 2), (0, 1, 5), (1.0, 2.0, 0.0), (0, -2, 1)])
def test_labels_that_have_no_name(labels: tuple[float, ...]) -> None:
    items = Items((torch.zeros(2), label) for label in labels)
    items.classes = ["cat", "dog"]
    with pytest.raises(DataError, match=r"expected the number of one of 2 classes, from 0 on, got (2|5|-2) \([12] of"):
        dataset_pool(items)


def test_whole_numbers_with_a_point_have_names_and_names_may_be_numbers() -> None:
    items = Items((torch.zeros(2), float(number)) for number in (0, 1, 1))
    items.classes = ["cat", "dog"]
    assert dataset_pool(items).names == ("cat", "dog")
    items = Items((torch.zeros(2), number) for number in (1, 2, 2))
    items.classes = ["1", "2"]
    assert dataset_pool(items).counts.tolist() == [1, 2]


@pytest.mark.parametrize("items", [[(1.0, 0), (2.0,)], [{"x": 1.0, "y": 0}, {"x": 2.0}], [(1.0, 0), None]])
def test_items_that_are_not_as_the_first_are_named(items: list[Any]) -> None:
    with pytest.raises(DataError, match=r"data set: example 1: expected an item with .* as the first has"):
        dataset_pool(items)


def test_a_part_of_a_data_set_has_its_names() -> None:
    items = Items([(torch.zeros(2), 1), (torch.ones(2), 0), (torch.ones(2), -1)])
    items.classes = ["cat", "dog"]
    assert dataset_pool(Subset(Subset(items, [0, 1]), [0, 1])).names == ("cat", "dog")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="example 1: expected a label, got -1"):
        dataset_pool(Subset(items, [0, 2]))  # type: ignore[arg-type]


def test_keys_that_tables_have_for_columns() -> None:
    items = [{"utterance": "pay my bill", "intent": "pay"}, {"utterance": "what is it?", "intent": "ask"}]
    assert dataset_pool(items, reading="words").names == ("ask", "pay")
    assert dataset_pool([{"content": "a", "category": "b"}], reading="words").names == ("b",)


def test_a_table_is_sent_where_tables_are_read() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match="give it to columns_pool"):
        dataset_pool(pandas.DataFrame({"x": [1], "y": [0]}))
    with pytest.raises(DataError, match=r"a table \(Table\); give it to columns_pool"):
        dataset_pool(pytest.importorskip("pyarrow").table({"x": [1], "y": [0]}))


def test_a_size_is_any_whole_number() -> None:
    assert dataset_pool([(Image.new("L", (5, 9)), 0)], size=np.int64(4)).shape == (3, 4, 4)


def test_minus_one_is_no_label_beside_names() -> None:
    items = Items([(torch.zeros(2), 0), (torch.zeros(2), -1), (torch.zeros(2), 1)])
    items.classes = ["no", "yes"]
    with pytest.raises(DataError, match=r"example 1: expected a label, got -1 \(1 of these\).*leave these out"):
        dataset_pool(items)
    assert dataset_pool([(1.0, -1), (2.0, 1)]).names == ("-1", "1")
    with pytest.warns(UserWarning, match="-1 is taken as a class"):
        assert dataset_pool([(1.0, -1), (2.0, 0), (3.0, 1)]).names == ("-1", "0", "1")
