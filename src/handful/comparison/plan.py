"""A comparison as a document: what all learners share, and a short entry for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ..errors import SpecError
from ..learner import EmbeddingLearner, Learner
from ..learners import LEARNERS
from ..spec import Count, Part, Spec, Tasks
from ..tables import Table, checked, read_table
from . import plan_path

__all__ = ["Entry", "Plan", "Trial", "load_plan"]


class Trial(Tasks):
    """Tasks to test on, and which learners are: those that leave their encoder alone, or that use all queries."""

    split: str = "test"
    batch: Count = 20
    tasks: Annotated[int, Field(ge=2)] = 1000
    seed: int = 2
    who: Literal["every", "embedding", "transductive"] = "every"


class Entry(Table):
    """A learner of the comparison: what is different from what all share."""

    title: str
    learner: Part
    encoder: Mapping[str, Any] = Field(default_factory=dict)
    """Merged into the shared encoder; with a `name`, in its place."""
    train: Mapping[str, Any] = Field(default_factory=dict)
    """Merged into the shared training."""
    weights: str | None = None
    """An entry whose trained encoder it takes, instead of training; of the same learner, everything trained."""
    untrained: bool = False
    """It has nothing to train, or is meant to show what an untrained encoder does."""
    published: Mapping[str, float] = Field(default_factory=dict)
    """By test, in the unit of the metric."""
    source: str | None = None
    note: str | None = None

    @property
    def trains(self) -> bool:
        """Whether it is trained by itself."""
        return self.weights is None and not self.untrained


class Plan(Table):
    """A comparison."""

    name: str
    given: str
    """What the user calls it by: the name, or the path of a file."""
    title: str
    metric: Literal["accuracy", "mse"]
    control: str
    """The entry that others are compared to, task by task."""
    data: Part
    encoder: Part
    train: Mapping[str, Any]
    tests: Mapping[str, Trial]
    entries: Mapping[str, Entry]

    def spec(self, key: str, seconds: float) -> Spec:
        """What an entry trains.

        Raises:
            SpecError, UnknownNameError: it cannot be trained.
        """
        entry = self.entries[key]
        encoder = {} if "name" in entry.encoder else self.encoder.model_dump()
        table = {
            "learner": entry.learner.model_dump(),
            "encoder": {**encoder, **entry.encoder},
            "data": self.data.model_dump(),
            "train": {**self.train, **entry.train, "seconds": seconds},
        }
        try:
            return Spec.of(table)
        except SpecError as error:
            raise SpecError(f"comparison {self.name}, {key}: {error}") from None

    def tests_of(self, key: str, learner: Learner) -> dict[str, Trial]:
        """The tests that an entry's learner can and should take."""
        ways = {**self.train, **self.entries[key].train}.get("ways")
        chosen = {
            "every": True,
            "embedding": isinstance(learner, EmbeddingLearner),
            "transductive": learner.transductive or key == self.control,
        }
        return {
            name: trial
            for name, trial in self.tests.items()
            if chosen[trial.who] and (learner.any_ways or trial.ways == ways)
        }

    def needed(self, keys: list[str] | None = None) -> list[str]:
        """These entries (all that this version can make) and those whose weights they take, the control first."""
        wanted = keys or [key for key in self.entries if key not in self.absent]
        sources = [self.entries[key].weights for key in wanted]
        every = {self.control, *wanted, *(source for source in sources if source is not None)}
        return sorted(every, key=lambda key: (key != self.control, list(self.entries).index(key)))

    @property
    def absent(self) -> list[str]:
        """Entries whose learner this version does not have."""
        return [key for key, entry in self.entries.items() if entry.learner.name not in LEARNERS]


def load_plan(name: str) -> Plan:
    """A plan by its name, or a TOML file of the same form by its path.

    Raises:
        UnknownNameError, SpecError, StorageError: no such plan, or it cannot be used.
    """
    path: Path = plan_path(name)
    where = f"comparison {path.stem}"
    plan = checked(Plan, {"name": path.stem, "given": name, **read_table(path)}, where)
    for key, other in [("control", plan.control), *((key, entry.weights) for key, entry in plan.entries.items())]:
        if other is not None and (other not in plan.entries or not plan.entries[other].trains):
            raise SpecError(f"{where}, {key}: expected the name of an entry that is trained, got {other!r}")
    for key, entry in plan.entries.items():
        stray = set(entry.published) - set(plan.tests)
        if stray or bool(entry.published) != bool(entry.source):
            raise SpecError(f"{where}, {key}: expected published figures of its tests, with their source")
    return plan
