"""Examples, labels and ids in memory, of whichever library: lists, arrays, tensors, columns of a table."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ShapeError
from ..rows import doubt_minus_one

__all__ = ["class_name", "column", "ids", "pairs", "plain", "readable_twice", "vector", "zipped"]

LONGEST_SQUARE = 1e37  # of a vector's length: distances then fit into 32 bits


def plain(values: Any) -> Any:
    """A tensor, a sparse matrix, a frame or a series as an array of NumPy's; all else as it is.

    Raises:
        ShapeError: a sparse one that memory cannot hold with its zeros.
    """
    if hasattr(values, "detach"):
        tensor = _with_zeros(values.detach().cpu())
        try:
            return tensor.numpy()
        except TypeError:  # bfloat16, which NumPy does not have
            return tensor.float().numpy()
    if hasattr(values, "toarray"):  # of SciPy's
        return _with_zeros(values)
    if hasattr(values, "to_pylist"):  # pyarrow's, which give an array without a copy only, or none
        return np.asarray(values)
    return values.to_numpy() if hasattr(values, "to_numpy") else values


def _with_zeros(values: Any) -> Any:
    try:
        return values.toarray() if hasattr(values, "toarray") else values.to_dense()
    except (MemoryError, RuntimeError, ValueError):
        raise ShapeError(
            f"sparse array of shape {list(values.shape)}: expected one that memory holds with its zeros; take fewer "
            "rows or columns, or reduce it first (such as by TruncatedSVD)"
        ) from None


def column(things: Any) -> Any:
    """Texts or paths of one column, [n, 1], as [n]; what is no array stays as it is.

    Raises:
        ShapeError: several columns.
    """
    values = plain(things)
    shape: tuple[int, ...] = getattr(values, "shape", (0,))
    if len(shape) == 2 and shape[1] == 1:
        return values[:, 0]
    if len(shape) != 1:
        raise ShapeError(f"expected a list, or one column, of texts or paths, got shape {list(shape)}")
    return values


def readable_twice(things: Any) -> Any:
    """The same examples, with lists in place of what can be gone through only once."""
    if not isinstance(things, Mapping):
        return things
    return {label: list(group) if hasattr(group, "__next__") else group for label, group in things.items()}


def pairs(things: object) -> list[tuple[Any, str]]:
    """Examples and labels of {label: examples}, or of (examples, labels).

    Raises:
        DataError, ShapeError: neither of these.
    """
    if isinstance(things, Mapping):
        for label, group in things.items():
            if isinstance(group, str | bytes) or not hasattr(group, "__iter__"):
                raise DataError(f"teach, class {label!r}: expected a list of examples, got {group!r:.50}")
        return [(value, class_name(label, "teach")) for label, group in things.items() for value in plain(group)]
    if not isinstance(things, tuple | list) or len(things) != 2 or not all(hasattr(one, "__len__") for one in things):
        raise DataError(
            "teach: expected a path, {label: examples}, or (examples, labels); "
            f"got {type(things).__name__}" + (f" of {len(things)}" if isinstance(things, tuple | list) else "")
        )
    x, y = things
    if isinstance(x, Set | Mapping) or isinstance(y, Set | Mapping):
        raise DataError(
            "teach: expected examples and labels in the same order, got some without one; make lists of them"
        )
    return zipped(x, y, "teach")


def zipped(x: Any, y: Any, place: str) -> list[tuple[Any, str]]:
    """Each example with its label; `place` is for errors, which are those of `pairs`, and for a warning about -1."""
    x, y = plain(x), plain(y)
    if getattr(x, "ndim", 1) == 0:
        raise ShapeError(f"{place}: expected examples of shape [n, features], got []; one row for each example")
    if getattr(y, "ndim", 1) != 1:
        raise ShapeError(f"{place}: expected labels of shape [n], got {list(y.shape)}; one label for each example")
    if len(x) != len(y):
        raise ShapeError(f"{place}: expected one label for each of the {len(x)} examples, got {len(y)}")
    labels = [class_name(label, f"{place}, example {row}") for row, label in enumerate(y)]
    if not any(isinstance(label, str | bytes) for label in y):
        doubt_minus_one(labels, place)
    return list(zip(x, labels, strict=True))


def class_name(label: Any, place: str) -> str:
    """A label as a text: a number is its digits.

    Raises:
        DataError: none, or several; names the place.
    """
    if isinstance(label, list | tuple | set | dict) or getattr(label, "ndim", False):
        raise ShapeError(f"{place}: expected one label, got {label!r:.50}; labels have the shape [n]")
    if label is None or type(label).__name__ == "NAType" or label != label:  # the last: NaN
        raise DataError(f"{place}: expected a label, got {label}; leave out examples whose class is not known")
    if isinstance(label, bytes):
        return label.decode("utf-8", "backslashreplace")
    return str(label.item() if hasattr(label, "detach") else label)


def ids(examples: Any) -> list[int]:
    """One id, or several, as plain numbers.

    Raises:
        DataError: not whole numbers.
    """
    try:
        return [operator.index(examples)]
    except TypeError:
        pass
    try:
        return [operator.index(one) for one in examples]
    except TypeError:
        raise DataError(f"expected ids of examples, which are whole numbers, got {examples!r:.50}") from None


def vector(value: Any, source: str) -> NDArray[np.float32]:
    """A vector as 32 bits hold it; `source` is for errors.

    Raises:
        DataError, ShapeError: no vector of finite numbers.
    """
    value = plain(value)
    try:
        given = np.asarray(value)
        with np.errstate(over="ignore"):
            made = np.asarray(value if given.dtype.kind != "c" else "complex", np.float32)
    except (TypeError, ValueError):
        found = "complex ones" if np.iscomplexobj(value) else type(value).__name__
        raise DataError(f"{source}: expected a vector of numbers, got {found}") from None
    if made.ndim != 1 or not len(made):
        hint = "; pictures are taught by their files: give paths" if made.ndim == 3 else ""
        raise ShapeError(
            f"{source}: expected a vector of numbers, got shape {made.shape}; x is [examples, features]{hint}"
        )
    if not np.isfinite(made).all():
        large = given.dtype.kind == "f" and bool(np.isfinite(given).all())
        what = "values too large for 32 bits" if large else "NaN or infinite values"
        raise DataError(f"{source}: holds {what}; expected finite numbers")
    if np.square(made, dtype=np.float64).sum() > LONGEST_SQUARE:
        raise DataError(f"{source}: holds values too large to compare; scale them down")
    return made
