import hashlib
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handful.data.pool import ClassPool, rotations, symmetries
from handful.errors import DataError, HandfulError, LabelError, ShapeError, UnknownNameError


def pool(**options: object) -> ClassPool:
    """Three classes of 2, 1 and 3 examples; example i holds i everywhere."""
    x = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 1, 2, 2).contiguous()
    return ClassPool.grouped(x, [2, 1, 3], ["a", "b", "c"], **options)  # type: ignore[arg-type]


def members(some: ClassPool) -> dict[str, list[int]]:
    """The rows of each class."""
    spans = zip(some.names, some.starts.tolist(), some.counts.tolist(), strict=True)
    return {name: list(range(start, start + count)) for name, start, count in spans}


@given(st.lists(st.sampled_from(["x", "y", "zeta", "10", "9"]), min_size=1, max_size=30))
def test_labels_in_any_order_make_classes(labels: list[str]) -> None:
    x = torch.arange(float(len(labels))).unsqueeze(1)
    made = ClassPool.from_labels(x, labels)
    assert made.names == tuple(sorted(set(labels)))
    for name, rows in members(made).items():
        assert made.examples[rows, 0].tolist() == [i for i, label in enumerate(labels) if label == name]
    assert sorted(made.rows().tolist()) == list(range(len(labels)))


@pytest.mark.parametrize("labels", [[3, 1, 3], torch.tensor([3, 1, 3]), np.array([3, 1, 3]), ["3", "1", "3"]])
def test_labels_of_any_kind(labels: object) -> None:
    made = ClassPool.from_labels(np.eye(3, dtype=np.float32), labels, splits={"train": ["3"]})  # type: ignore[arg-type]
    assert made.names == ("1", "3")
    assert made.split("train").names == ("3",)
    assert made.examples.dtype == torch.float32


@pytest.mark.parametrize("names", [["3"], [3], np.array([3]), np.array(["3"]), "3"])
def test_splits_name_classes_by_their_labels(names: Iterable[object]) -> None:
    assert ClassPool.from_labels(torch.eye(3), [3, 1, 3], splits={"train": names}).split("train").names == ("3",)


def test_integers_that_are_not_pictures_become_floats_of_the_same_value() -> None:
    made = ClassPool.from_labels(torch.tensor([[300], [1]]), [0, 1])
    assert made.examples.dtype == torch.float32
    assert made.gather(torch.tensor([0, 1])).tolist() == [[300.0], [1.0]]


@pytest.mark.parametrize("kind", [">f4", ">i4", "<f2", "longdouble", "object", "bool"])
def test_arrays_of_any_kind_of_number(kind: str) -> None:
    x = np.array([[0, 1], [1, 0]])
    assert ClassPool.from_labels(x.astype(kind), [0, 1]).examples.tolist() == x.tolist()


def test_labels_as_bytes_are_texts() -> None:
    made = ClassPool.from_labels(np.eye(2), np.array(["ä".encode(), b"b"]), splits={"train": [b"b"]})
    assert (made.names, made.split("train").names) == (("b", "ä"), ("b",))


def test_a_pool_is_shown_by_what_is_in_it() -> None:
    made = ClassPool.from_labels(np.zeros((3, 2)), ["a", "a", "b"], splits={"train": ["a"]})
    assert repr(made) == "<ClassPool: 2 classes (train 1), 3 examples [2] of float32>"


def test_arrays_of_any_layout() -> None:
    x = np.arange(12.0).reshape(4, 3)
    for turned in (x[::-1], x[:, ::-1], np.asfortranarray(x)):
        assert np.array_equal(ClassPool.from_labels(turned, [0, 0, 1, 1]).examples.numpy(), turned)


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4))
def test_pictures_are_gathered_as_value_by_255(values: list[int]) -> None:
    stored = torch.tensor(values, dtype=torch.uint8).view(4, 1)
    made = ClassPool.from_labels(stored, [0, 0, 1, 1])
    rows = torch.tensor([[3, 0, 3], [1, 2, 0]])
    gathered = made.gather(rows)
    assert gathered.dtype == torch.float32
    assert torch.equal(gathered, (stored.double() / 255).float()[rows])
    assert torch.equal(made.examples, stored), "what is stored stays"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_become_the_default_type_and_are_never_written(dtype: torch.dtype) -> None:
    x = torch.randn(4, 2, 3, dtype=dtype)
    made = ClassPool.from_labels(x, [0, 0, 1, 1])
    gathered = made.gather(torch.tensor([2, 2]))
    assert torch.equal(gathered, x[[2, 2]].float())
    gathered.zero_()
    assert torch.equal(made.examples, x.float())
    assert made.shape == (2, 3)


def test_splits_share_the_examples_and_hold_their_classes() -> None:
    made = pool(splits={"train": ["c", "a"], "test": ["b"]})
    train = made.split("train")
    assert train.examples is made.examples
    assert members(train) == {"c": [3, 4, 5], "a": [0, 1]}
    assert train.rows().tolist() == [3, 4, 5, 0, 1]
    assert train.classes == 2
    assert members(made.split("test")) == {"b": [2]}
    assert members(made.split("train+test")) == members(made.split("all")) == members(made)
    assert members(made.subset([2])) == {"c": [3, 4, 5]}


@given(st.data())
def test_no_class_and_no_family_is_in_two_splits(data: st.DataObject) -> None:
    classes = data.draw(st.integers(2, 8))
    families = data.draw(st.lists(st.integers(0, 3), min_size=classes, max_size=classes))
    owner = data.draw(st.lists(st.sampled_from(["train", "val"]), min_size=classes, max_size=classes))
    names = [str(i) for i in range(classes)]
    splits = {split: [n for n, o in zip(names, owner, strict=True) if o == split] for split in ("train", "val")}
    leaks = any(len({o for o, f in zip(owner, families, strict=True) if f == family}) > 1 for family in set(families))
    if leaks:
        with pytest.raises(LabelError, match=r"classes '\d' of split '\w+' and '\d' of '\w+' are of one family"):
            ClassPool.grouped(torch.zeros(classes, 1), [1] * classes, names, families=families, splits=splits)
        return
    made = ClassPool.grouped(torch.zeros(classes, 1), [1] * classes, names, families=families, splits=splits)
    train, val = (made.split(name) if made.splits[name] else None for name in ("train", "val"))
    if train is not None and val is not None:
        assert not set(train.names) & set(val.names)
        assert not set(train.families.tolist()) & set(val.families.tolist())


@pytest.mark.parametrize(
    ("x", "y", "kind", "message"),
    [
        (torch.zeros(0, 2), [], DataError, "at least one example, got none"),
        (torch.tensor(1.0), [0], DataError, "at least one example"),
        (torch.zeros(3, 2), [0, 1], ShapeError, r"one label for each of the 3 examples, got \(2,\)"),
        (torch.tensor([[1.0], [float("nan")], [float("inf")]]), [0, 0, 1], DataError, r"examples \[1, 2\] hold NaN"),
        (torch.full((9, 1), float("nan")), [0] * 9, DataError, r"examples \[0, 1, 2, 3, 4\] ... hold NaN"),
        (np.array([1.0, np.nan]), [0, 1], DataError, r"examples \[1\] hold NaN"),
        (np.array(["a", "b"]), [0, 1], DataError, "one array of numbers"),
        (np.array([[1], [None]]), [0, 1], DataError, r"examples \[1\] hold NaN"),
        (np.array([[1], ["a"]], object), [0, 1], DataError, "one array of numbers"),
        ([[1.0], [1.0, 2.0]], [0, 1], DataError, "one array of numbers"),
        (np.array([1j, 2]), [0, 1], DataError, "expected real numbers"),
        (torch.eye(2).to_sparse(), [0, 1], DataError, "got a sparse one"),
        (torch.eye(3), ["a", None, "b"], DataError, r"examples \[1\] have no label"),
        (torch.eye(3), ["a", float("nan"), "b"], DataError, r"examples \[1\] have no label"),
        (torch.eye(3), np.array([0, 1, np.nan]), DataError, r"examples \[2\] have no label"),
        (torch.eye(7), [None] * 7, DataError, r"examples \[0, 1, 2, 3, 4\] ... have no label"),
        (torch.eye(2), np.array([1, "a"], dtype=object), DataError, "labels of one kind"),
        (torch.eye(2), [[1], [1, 2]], DataError, "labels of one kind"),
    ],
)
def test_bad_examples_are_named(x: torch.Tensor, y: list[int], kind: type[HandfulError], message: str) -> None:
    with pytest.raises(kind, match=message):
        ClassPool.from_labels(x, y)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"splits": {"train": ["a", "d"]}}, UnknownNameError, "class of split 'train' 'd'.*Valid: a, b, c"),
        ({"splits": {"train": ["a"], "val": ["a"]}}, LabelError, "class 'a' is in split 'train' and in 'val'"),
        ({"splits": {"train": ["a", "a"]}}, LabelError, "class 'a' is in split 'train' and in 'train'"),
        ({"families": [0, 1]}, ShapeError, "a family for each of the 3 classes, got 2"),
    ],
)
def test_bad_splits_are_named(options: dict[str, object], kind: type[HandfulError], message: str) -> None:
    with pytest.raises(kind, match=message):
        pool(**options)


def test_bad_groups_are_named() -> None:
    with pytest.raises(ShapeError, match="2 names and counts adding up to 5 do not fit 6 examples"):
        ClassPool.grouped(torch.zeros(6, 1), [2, 3], ["a", "b"])
    with pytest.raises(LabelError, match="class names must differ"):
        ClassPool.grouped(torch.zeros(2, 1), [1, 1], ["a", "a"])
    with pytest.raises(UnknownNameError, match=r"unknown split 'trian'; did you mean 'train'.*all, train"):
        pool(splits={"train": ["a"]}).split("trian")
    for wrong in ([], [0, 0], [3], [-1]):
        with pytest.raises(DataError, match="different class numbers from 0 to 2, got"):
            pool().subset(wrong)
    with pytest.raises(UnknownNameError, match=r"class of split 'train' '7'\. Valid: a, b, c"):
        pool(splits={"train": [7]})


def test_the_digest_is_of_classes_splits_and_every_example() -> None:
    digest = pool().digest
    assert digest == pool().digest
    splits = {"train": ["a"], "test": ["b"]}
    split = pool(splits=splits).digest
    assert split == pool(splits=dict(reversed(splits.items()))).digest
    assert len({digest, split, pool(splits={"train": ["a", "b"]}).digest, pool(families=[0, 0, 1]).digest}) == 4
    assert len(digest) == len(hashlib.sha256().hexdigest())
    other = pool()
    other.examples[5, 0, 1, 1] += 1
    assert other.digest != digest
    x = pool().examples
    assert ClassPool.grouped(x, [2, 1, 3], ["a", "b", "d"]).digest != digest
    assert ClassPool.grouped(x, [1, 2, 3], ["a", "b", "c"]).digest != digest
    assert ClassPool.grouped(x.flatten(1), [2, 1, 3], ["a", "b", "c"]).digest != digest


def corner() -> ClassPool:
    """Two classes; every picture has four different corners."""
    x = torch.arange(3 * 4, dtype=torch.uint8).view(3, 1, 2, 2)
    return ClassPool.grouped(x, [2, 1], ["p", "q"], splits={"train": ["q"], "test": ["p"]})


def test_rotations_are_four_classes_of_one_family_in_one_split() -> None:
    turned = rotations(corner())
    assert turned.names == tuple(f"{name}/rot{angle:03d}" for angle in (0, 90, 180, 270) for name in "pq")
    assert turned.families.tolist() == [0, 1] * 4
    assert turned.split("train").names == tuple(f"q/rot{angle:03d}" for angle in (0, 90, 180, 270))
    picture = corner().examples[1, 0]
    for quarter, name in enumerate(f"p/rot{angle:03d}" for angle in (0, 90, 180, 270)):
        row = members(turned)[name][1]
        assert np.array_equal(turned.examples[row, 0].numpy(), np.rot90(picture.numpy(), quarter))


def test_symmetries_are_the_eight_of_the_square() -> None:
    eight = symmetries(corner())
    assert eight.classes == 16
    assert len(set(eight.names)) == 16
    seen = {tuple(eight.examples[members(eight)[name][0]].flatten().tolist()) for name in eight.names if name[0] == "p"}
    assert len(seen) == 8, "all different on a picture without symmetry"
    assert not set(eight.split("train").families.tolist()) & set(eight.split("test").families.tolist())


@pytest.mark.parametrize("shape", [(2, 3), (4,)])
def test_only_squares_are_turned(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"square pictures \[channels, side, side\], got"):
        rotations(ClassPool.from_labels(torch.zeros(2, *shape), [0, 1]))


def test_minus_one_is_no_class_among_numbers() -> None:
    x = torch.arange(4.0).unsqueeze(1)
    for y in ([0, 1, 2, -1], np.array([0, 1, 2, -1]), torch.tensor([0, 1, 2, -1]), np.array([0.0, 1.0, 2.0, -1.0])):
        with pytest.raises(DataError, match=r"example 3: expected a label, got -1 \(1 of these\)"):
            ClassPool.from_labels(x, y)
    assert ClassPool.from_labels(x, ["0", "1", "2", "-1"]).classes == 4, "said to be a class"
    assert ClassPool.from_labels(x, [1, -1, 1, -1]).names == ("-1", "1")


def test_what_is_masked_is_refused() -> None:
    x = np.ma.masked_array(np.ones((2, 3)), [[0, 0, 1], [0, 0, 0]])
    for examples, labels in ((x, [0, 1]), (np.ones((2, 3)), np.ma.masked_array([0, 1], [0, 1]))):
        with pytest.raises(DataError, match="without masked values"):
            ClassPool.from_labels(examples, labels)
    assert ClassPool.from_labels(np.ma.masked_array(np.ones((2, 3))), [0, 1]).classes == 2
