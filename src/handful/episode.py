"""The words of the field as types: a batch of few-shot tasks, checked where it is made.

Axes, here and everywhere: B tasks, S support examples, Q queries, N ways, F features.
Sizes agree inside a batch and may vary between batches; the number of examples of each class may
differ inside a task (ragged shots).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from .errors import DataError, ShapeError
from .examples import (
    Data,
    as_floats,
    check_finite,
    check_labels,
    check_range,
    check_set,
    form,
    join_data,
    leading,
    map_data,
    whole_ways,
)

__all__ = ["Data", "Episode", "EpisodeSource", "Query", "Support", "as_floats", "join_data", "leading", "map_data"]


class _Examples:
    """What `x` is: examples as they came, read as floats. Bytes become floats when somebody first asks.

    So sampling, slices and transfers move bytes, a quarter of the memory.
    """

    def __get__(self, holder: Any, owner: type | None = None) -> Data:
        if holder is None:
            raise AttributeError
        held: dict[str, Data] = vars(holder)
        if "floats" not in held:
            held["floats"] = as_floats(held["stored"])
        return held["floats"]

    def __set__(self, holder: Any, x: Data) -> None:
        vars(holder)["stored"] = x


def _held(examples: Support | Query) -> Data:
    """The examples as they are now, floats if they have been made."""
    held: dict[str, Data] = vars(examples)
    return held.get("floats", held["stored"])


@dataclass(frozen=True, eq=False)
class Support:
    """The labeled examples that B tasks are learned from.

    Attributes:
        x: [B, S, *shape], or tensors by name that share [B, S]. A tensor of bytes (pictures) is read as floats,
            value / 255; until then it is kept, cut and moved as bytes.
        y: [B, S] integers in [0, ways), every class at least once; for regression [B, S, *out] floats.
        ways: number of classes N, or None for regression.
        weight: [B, S] how much each example counts (1 if None); not negative.
        described: x are descriptions of the classes (attributes, names), not examples: a zero-shot task.

    Raises:
        ShapeError: axes do not agree, or labels are of the wrong type.
        LabelError: labels out of range, or a class without examples.
        DataError: a value is NaN or infinite, or no example of a task has a weight.

    Values are read only on the CPU, where that costs nothing; on an accelerator it would wait for the device.
    """

    x: Data
    y: Tensor
    ways: int | None = None
    weight: Tensor | None = None
    described: bool = False

    def __post_init__(self) -> None:
        check_set("support", _held(self), self.y, classes=self.ways is not None)
        if self.ways is not None:
            object.__setattr__(self, "y", self.y.long())  # the one kind of integer that torch indexes by
            object.__setattr__(self, "ways", whole_ways(self.ways))
            check_labels(self.y, self.ways)
        if self.weight is not None:
            if not isinstance(self.weight, Tensor):
                raise ShapeError(
                    f"support weights: expected a tensor, got {type(self.weight).__name__}; torch.as_tensor makes one"
                )
            if self.weight.shape != self.y.shape[:2]:
                raise ShapeError(
                    f"support weights: expected {tuple(self.y.shape[:2])}, one for each example [B, S], "
                    f"got {tuple(self.weight.shape)}"
                )
            check_finite("support weights", self.weight)
            if self.weight.device.type == "cpu" and bool((self.weight < 0).any()):
                raise DataError("support weights: expected no negative weight; leave an example out by weight 0")
            if self.ways is not None:
                check_labels(self.y, self.ways, self.weight)
            elif self.weight.device.type == "cpu" and bool((self.weight == 0).all(1).any()):
                task = int((self.weight == 0).all(1).nonzero()[0])
                raise DataError(f"support weights: task {task} has no example with a weight; expected at least one")

    def part(self, start: int, stop: int) -> Support:
        """Tasks `start` to `stop`, without copying."""
        if stop - start == len(self.y):
            return self
        weight = None if self.weight is None else self.weight[start:stop]
        return replace(
            self, x=map_data(lambda leaf: leaf[start:stop], _held(self)), y=self.y[start:stop], weight=weight
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Support:
        """The same support on another device."""
        move = _mover(device, non_blocking)
        weight = None if self.weight is None else move(self.weight)
        return replace(self, x=map_data(move, _held(self)), y=move(self.y), weight=weight)


Support.x = _Examples()  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Query:
    """The examples that B tasks are judged by.

    Attributes:
        x: [B, Q, *shape], or tensors by name that share [B, Q].
        y: [B, Q] integers in [0, ways); for regression [B, Q, *out] floats.

    Raises:
        ShapeError, DataError: as for `Support`.
    """

    x: Data
    y: Tensor

    def __post_init__(self) -> None:
        classes = not (isinstance(self.y, Tensor) and self.y.is_floating_point())
        check_set("query", _held(self), self.y, classes=classes)
        if classes:
            object.__setattr__(self, "y", self.y.long())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Query:
        """The same query on another device."""
        move = _mover(device, non_blocking)
        return Query(map_data(move, _held(self)), move(self.y))


Query.x = _Examples()  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """A batch of B few-shot tasks: what each is learned from and what it is judged by.

    Attributes:
        support, query: the examples.
        classes: [B, ways] integers: the class that each label of a task stands for, by its number in the pool that
            tasks are drawn from; None where that is not known. Learners of all training classes at once use it.
        strangers: [B, T, *shape] examples of none of the classes, or None. Evaluation asks whether they are told from
            the queries; no loss reads them.

    Raises:
        ShapeError: support and query do not agree: in tasks, in the kind and shape of their labels, in the shape
            of an example (of examples by name: in names and axes, as padding may differ; of descriptions: in nothing);
            or classes and ways.
        LabelError: a query label that no class of the support has.
    """

    support: Support
    query: Query
    classes: Tensor | None = None
    strangers: Data | None = None

    def __post_init__(self) -> None:
        support, query = self.support, self.query
        if support.y.shape[0] != query.y.shape[0]:
            raise ShapeError(
                f"episode: support holds {support.y.shape[0]} tasks, query {query.y.shape[0]}; expected the same"
            )
        if (support.ways is not None) == query.y.is_floating_point():
            raise ShapeError(
                "episode: support and query must both hold integer labels (classes) or both floats (regression, "
                f"ways=None); got ways={support.ways} and query labels of {query.y.dtype}"
            )
        if support.y.shape[2:] != query.y.shape[2:]:
            raise ShapeError(
                "episode: targets of support and query must have one shape after [tasks, examples]; "
                f"got {tuple(support.y.shape[2:])} and {tuple(query.y.shape[2:])}"
            )
        if not support.described and form(_held(support)) != form(_held(query)):
            raise ShapeError(
                "episode: examples of support and query must have one shape after [tasks, examples], or the same "
                f"names with as many axes; got {form(_held(support))} and {form(_held(query))}"
            )
        if support.ways is not None:
            check_range("query", query.y, support.ways)
        if self.classes is not None and self.classes.shape != (support.y.shape[0], support.ways):
            raise ShapeError(
                f"episode: expected classes [tasks, ways] = {(support.y.shape[0], support.ways)}, "
                f"got {tuple(self.classes.shape)}"
            )
        if self.strangers is not None:
            expected, came = ((len(query.y), form(_held(query))), (leading(self.strangers)[0], form(self.strangers)))
            if expected != came:
                raise ShapeError(
                    f"episode: expected strangers of {expected[0]} tasks, of the shape of queries {expected[1]}; "
                    f"got {came[0]} tasks, {came[1]}"
                )

    @property
    def tasks(self) -> int:
        """B, the number of tasks."""
        return self.support.y.shape[0]

    def together(self) -> Support:
        """Support and queries as one labeled set [B, S + Q]; where supports have weights, a query weighs 1."""
        support, query = self.support, self.query
        weight = support.weight
        if weight is not None:
            weight = torch.cat([weight, weight.new_ones(query.y.shape[:2])], 1)
        return Support(join_data([support.x, query.x], 1), torch.cat([support.y, query.y], 1), support.ways, weight)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Episode:
        """The same tasks on another device."""
        move = _mover(device, non_blocking)
        strangers = None if self.strangers is None else map_data(move, self.strangers)
        return Episode(
            self.support.to(device, non_blocking=non_blocking),
            self.query.to(device, non_blocking=non_blocking),
            None if self.classes is None else move(self.classes),
            strangers,
        )

    def part(self, start: int, stop: int) -> Episode:
        """Tasks `start` to `stop`, without copying."""
        if stop - start == self.tasks:
            return self
        query = Query(map_data(lambda leaf: leaf[start:stop], _held(self.query)), self.query.y[start:stop])
        classes = None if self.classes is None else self.classes[start:stop]
        strangers = None if self.strangers is None else map_data(lambda leaf: leaf[start:stop], self.strangers)
        return Episode(self.support.part(start, stop), query, classes, strangers)


class EpisodeSource(Protocol):
    """Anything whose `[t]` is the t-th batch of tasks."""

    def __getitem__(self, t: int) -> Episode: ...


def _mover(device: torch.device | str, non_blocking: bool) -> Callable[[Tensor], Tensor]:
    return lambda leaf: leaf.to(device, non_blocking=non_blocking)
