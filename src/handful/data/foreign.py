"""Data sets of other libraries: any map-style PyTorch `Dataset`, a Hugging Face `Dataset`, as a pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from ..errors import DataError
from ..pictures import Fit, Form, formed
from .pool import ClassPool
from .tables import columns_pool
from .texts import Reading

__all__ = ["dataset_pool"]

EXAMPLES = "image", "img", "picture", "text", "sentence", "utterance", "content", "x"
LABELS = "label", "labels", "target", "class", "category", "intent", "y"


def dataset_pool(
    dataset: Any,
    *,
    x: int | str | None = None,
    y: int | str | None = None,
    size: int | Sequence[int] = 84,
    channels: int = 3,
    fit: Fit = "crop",
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 64,
) -> ClassPool:
    """A pool, in memory and without splits, of a data set with `len` and `[index]`. Each item is read once.

    Class names are taken from `dataset.features[y].names` (Hugging Face) or `dataset.classes` (torchvision), where
    they are given (the latter name the usual labels only); otherwise they are the labels. A name that several classes
    have gets their number: 'crane 134'.

    Args:
        dataset: items are tuples (x, y, ...) or mappings.
        x: place or key of the example, a tensor, array, picture (PIL) or text; by default 0, or the key 'image',
            'img', 'picture', 'text', 'sentence', 'utterance', 'content' or 'x'.
        y: of the label; by default 1, or 'label', 'labels', 'target', 'class', 'category', 'intent' or 'y'.
        size, channels, fit: the form of pictures, as in `folder`; arrays and tensors are taken as they are.
        reading, model, length: what becomes of texts, as in `text_pool`.

    Raises:
        DataError: nothing there, no such place or key, examples of different kinds or shapes, a label that is none
            (also -1 beside names or among numbers from 0), not one text or number, or has no name among those given;
            several data sets, or a table.
    """
    _check_kind(dataset)
    if len(dataset) == 0:
        raise DataError("data set: expected at least one example, got none")
    first = dataset[0]
    at_x = _place(first, x, EXAMPLES, 0)
    at_y = _place(first, y, LABELS, 1)
    form, examples, labels = Form.of(size, channels, fit), list[Any](), list[Any]()
    for index in range(len(dataset)):
        item = dataset[index]
        try:
            example, label = item[at_x], item[at_y]
        except (LookupError, TypeError) as error:
            raise DataError(
                f"data set: example {index}: expected an item with {at_x!r} and {at_y!r}, as the first has, got "
                f"{str(item)[:60]}; mend or leave it out"
            ) from error
        examples.append(_example(example, form, index))
        labels.append(_label(label, index))
    kinds = {str(example.dtype)[6:] if isinstance(example, Tensor) else "text" for example in examples}
    if len(kinds) > 1:
        raise DataError(f"data set: expected examples of one kind, got {', '.join(sorted(kinds))}")
    names = _names(dataset, at_y)
    if names is not None:
        labels = _named(labels, names)
    if isinstance(examples[0], str):
        columns = {"text": examples, "label": labels}
        return columns_pool(columns, reading=reading, model=model, length=length, what="data set")
    shapes = list(dict.fromkeys(tuple(example.shape) for example in examples))
    if len(shapes) > 1:
        raise DataError(
            f"data set: expected examples of one shape, got {shapes[0]} and {shapes[1]}: resize or pad them"
        )
    return ClassPool.from_labels(torch.stack(examples), labels)


def _check_kind(dataset: Any) -> None:
    """Raises DataError unless there is one data set, with items by their number."""
    if isinstance(dataset, Mapping):
        raise DataError(
            f"data set: expected one, got several by name ({', '.join(map(str, dataset))}); choose one: dataset[name]"
        )
    if hasattr(dataset, "iloc") or (hasattr(dataset, "to_pandas") and not hasattr(dataset, "features")):
        raise DataError(
            f"data set: expected items by [index], got a table ({type(dataset).__name__}); give it to columns_pool"
        )
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"data set: expected one with len() and [index], got {type(dataset).__name__}; make a list of it"
        )


def _place(item: Any, given: int | str | None, usual: Sequence[str], place: int) -> Any:
    if isinstance(item, Mapping):
        found = [key for key in ([given] if given is not None else usual) if key in item]
        if not found:
            wanted = repr(given) if given is not None else " or ".join(map(repr, usual))
            raise DataError(f"data set: expected an item with the key {wanted}, got {', '.join(map(str, item))}")
        return found[0]
    at = place if given is None else given
    if not isinstance(item, tuple | list) or not isinstance(at, int) or not 0 <= at < len(item):
        raise DataError(f"data set: expected items (example, label), got {type(item).__name__}; say `x` and `y`")
    return at


def _example(example: Any, form: Form, index: int) -> Any:
    if isinstance(example, Image.Image):
        return torch.from_numpy(formed(example, f"example {index}", form))
    if isinstance(example, str):
        return example
    try:
        return torch.as_tensor(example)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"data set: example {index}: expected a tensor, array, picture or text, got {type(example).__name__}"
        ) from error


def _label(label: Any, index: int) -> Any:
    """The label as Python has it."""
    if isinstance(label, Tensor | np.ndarray | np.generic) and np.prod(label.shape) == 1:
        return label.item()
    if isinstance(label, Tensor | np.ndarray | list | tuple | Mapping):
        raise DataError(
            f"data set: example {index}: expected one text or number as its label, got {str(label)[:60]}; of one-hot "
            "labels take the place of the 1 (argmax), or say `y`"
        )
    return label


def _named(labels: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Labels by the names of their classes, where these are numbers of some."""
    if minus := [index for index, label in enumerate(labels) if isinstance(label, int | float) and label == -1]:
        raise DataError(
            f"data set: example {minus[0]}: expected a label, got -1 ({len(minus)} of these), which says that none "
            "is known; leave these out"
        )
    labels = [int(label) if isinstance(label, float) and label.is_integer() else label for label in labels]
    outside = [index for index, one in enumerate(labels) if isinstance(one, int) and not 0 <= one < len(names)]
    if outside and not {*map(str, labels)} <= {*names}:  # else the names are the numbers themselves
        raise DataError(
            f"data set: example {outside[0]}: expected the number of one of {len(names)} classes, from 0 on, got "
            f"{labels[outside[0]]} ({len(outside)} of these); count labels from 0, or mend the names"
        )
    return [names[label] if isinstance(label, int) and not outside else label for label in labels]


def _names(dataset: Any, at_y: Any) -> Sequence[str] | None:
    while isinstance(dataset, Subset):  # as random_split makes them
        dataset = dataset.dataset
    features, classes = getattr(dataset, "features", None), getattr(dataset, "classes", None)
    if isinstance(features, Mapping):
        classes = getattr(features.get(at_y), "names", None)
    elif at_y not in (1, *LABELS):
        return None
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        return None
    names = [", ".join(map(str, name)) if isinstance(name, tuple | list) else str(name) for name in classes]
    often = Counter(names)
    return [f"{name} {number}" if often[name] > 1 else name for number, name in enumerate(names)]
