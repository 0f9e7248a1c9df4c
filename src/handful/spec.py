"""A run as a document: learner, encoder, data, tasks, optimizer, steps, seed. Frozen, and all JSON.

A spec is a TOML or JSON file. The keyword arguments of a class are its configuration, so that the `[learner]`,
`[encoder]` and `[data]` tables hold a `name` and those arguments. Unknown keys are refused, valid ones listed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from .data import DATASETS
from .data.assays import AssayEpisodes, AssayPool
from .data.augmentation import Augmentation, Augmented
from .data.descriptions import DescribedPool, ZeroShotEpisodes
from .data.episodes import Episodes
from .data.functions import FunctionEpisodes
from .data.pool import ClassPool
from .distributed import ALONE, Ranks
from .encoders import ENCODERS, PRETRAINED
from .encoders.hub_texts import check_tokens
from .episode import EpisodeSource
from .errors import SpecError
from .kinds import check_kind, loaded
from .learner import Learner
from .learners import LEARNERS
from .ops.seeds import seed_of
from .parts import Part, entry_of, options_of
from .selection import SELECTIONS, Selection
from .tables import Table, checked, read_table, said_of
from .training import OPTIMIZERS, PARTS, SCHEDULES, Schedule

__all__ = ["Part", "Spec", "Tasks", "Training", "Validation", "build", "expected_shape", "load_data"]

OF_CLASSES = ("ragged", "families", "query_balance", "label_noise", "strangers")
"""Keys of tasks that are drawn from a pool of classes alone."""
Count = Annotated[int, Field(ge=1)]
Counts = Count | Annotated[tuple[Count, Count], Field(description="a range [least, greatest] of such")]
Several = Annotated[int, Field(ge=2)]
Ways = Several | Annotated[tuple[Several, Several], Field(description="a range [least, greatest] of such")]
"""Of one class there is nothing to tell apart."""
LATER: dict[str, Any] = {"query_balance": None, "label_noise": 0.0, "strangers": 0.0}
LATER |= {"seconds": None, "selection": None, "augmentation": None}
"""Keys of tasks that came after the first runs, and their usual values: then they do not count in a digest."""


class Tasks(Table):
    """Which tasks: as the arguments of `Episodes`; all but shots, queries, batch and seed are for classes only."""

    TABLE: ClassVar[str] = ""
    split: str
    ways: Ways | None = None
    shots: Counts = 1
    queries: Count | Literal["all"] = 15
    batch: Count = 1
    ragged: bool = False
    families: bool = False
    query_balance: Annotated[float, Field(gt=0)] | None = None
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    strangers: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    seed: int = 0

    def draw_from(self, data: Any) -> EpisodeSource:
        """The episodes of these tasks in a data set; errors begin with the table that they are of."""
        with said_of(self.TABLE):
            if isinstance(data, ClassPool | DescribedPool):
                if self.ways is None:
                    raise SpecError("tasks of classes need `ways`, the number of classes in each")
                options = {name: getattr(self, name) for name in Tasks.model_fields if name != "split"}
                if isinstance(data, ClassPool):
                    return Episodes(data.split(self.split), **options)
                refused = [name for name in OF_CLASSES if options.pop(name)]
                if refused:
                    raise SpecError(f"zero-shot tasks have no `{'`, `'.join(refused)}`: leave them out")
                return ZeroShotEpisodes(data.split(self.split), **options)
            if refused := [name for name in ("ways", *OF_CLASSES) if getattr(self, name)]:
                what = "tasks that are assays" if isinstance(data, AssayPool) else "regression tasks"
                raise SpecError(f"{what} have no `{'`, `'.join(refused)}`: leave them out")
            common: dict[str, Any] = {name: getattr(self, name) for name in ("shots", "queries", "batch", "seed")}
            if isinstance(data, AssayPool):
                return AssayEpisodes(data.split(self.split), **common)
            return FunctionEpisodes(data, split=self.split, **common)


class Training(Tasks):
    """The tasks to learn from, and how."""

    TABLE = "train"
    split: str = "train"
    steps: Count | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    """A budget of training time instead of a number of steps."""
    selection: Part | None = None
    augmentation: Augmentation | None = None
    """How the examples of these tasks vary."""
    optimizer: Part = Part(name="adam")
    rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Part = Part(name="constant")
    clip: Annotated[float, Field(gt=0)] | None = None
    accumulate: Count = 1
    precision: Literal["float32", "bfloat16"] = "float32"

    def draw_from(self, data: Any) -> EpisodeSource:
        """The episodes of these tasks in a data set, varied if the spec says so."""
        episodes = super().draw_from(data)
        return episodes if self.augmentation is None else Augmented(episodes, self.augmentation, seed=self.seed)


class Validation(Tasks):
    """The tasks to choose the best checkpoint by."""

    TABLE = "validation"
    split: str = "val"
    every: Count = 500
    tasks: Count = 200
    batch: Count = 20
    patience: Count | None = None
    """Stop after so many validations without a better one."""
    seed: int = 1


class Spec(Table):
    """A training run, as a document: docs/specs.md has every key.

    Attributes:
        learner, encoder, data: a name of the catalog each, and the arguments of what stands there.
        train: the tasks, the optimizer, and how long.
        validation: the tasks that choose the best checkpoint, and how often; None for none.
    """

    learner: Part
    encoder: Part
    data: Part
    train: Training
    validation: Validation | None = None

    @staticmethod
    def of(table: Mapping[str, Any]) -> Spec:
        """A spec from nested tables.

        Raises:
            SpecError: a key is unknown or missing, or a value is of the wrong kind.
            UnknownNameError: a name is in no catalog.
        """
        spec = checked(Spec, checked(Spec, table, "spec").table(), "spec")  # as JSON has it: lists, no tuples
        options_of(entry_of("learner", spec.learner, LEARNERS), spec.learner, "learner", skip=1)
        options_of(_encoder(spec), spec.encoder, "encoder")
        options_of(entry_of("data set", spec.data, DATASETS).load, spec.data, "data")
        if spec.encoder.name == "hf_text":
            check_tokens(spec.encoder.options.get("model"), spec.data.options)
        if spec.train.strangers:
            raise SpecError(
                "[train] no loss asks about `strangers`: set them in [evaluation], or at `handful evaluate`"
            )
        if spec.train.seconds is None and spec.train.steps is None:
            raise SpecError("spec: missing key 'train.steps' (or 'train.seconds', a budget of time)")
        make_schedule(spec)
        _optimizer(spec.train, [torch.zeros(1)])
        if spec.train.selection is not None:
            selection = entry_of("selection of tasks", spec.train.selection, SELECTIONS)
            options_of(selection, spec.train.selection, "train.selection", skip=3)
        return spec

    @staticmethod
    def read(path: str | Path) -> Spec:
        """A spec from a TOML or JSON file; raises as `of`, and StorageError or SpecError if it cannot be read."""
        return Spec.of(read_table(path))

    def table(self) -> dict[str, Any]:
        """As nested tables of JSON values; `Spec.of` makes an equal spec of it."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """A short hash of everything in it: equal specs train equal weights."""
        table = self.table()
        for tasks in filter(None, (table["train"], table["validation"])):
            for key in [key for key, usual in LATER.items() if key in tasks and tasks[key] == usual]:
                del tasks[key]
        return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:12]


def build(spec: Spec) -> Learner:
    """The learner of a spec, with initial weights that depend on its seed only.

    Raises:
        SpecError: sizes of which torch cannot make a layer; and whatever learner and encoder refuse.
    """
    encoder = _encoder(spec)
    learner = entry_of("learner", spec.learner, LEARNERS)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed_of("initialization", spec.train.seed))
        try:
            made: nn.Module = encoder(**options_of(encoder, spec.encoder, "encoder"))
            (spec.train.augmentation or Augmentation()).check(made)
            result: Learner = learner(made, **options_of(learner, spec.learner, "learner", skip=1))
        except (RuntimeError, TypeError, OverflowError, MemoryError) as error:  # torch's own check of a size
            reason = next(iter(str(error).splitlines()), type(error).__name__)  # a trace of C++ may follow
            raise SpecError(f"{spec.learner.name} with {spec.encoder.name} cannot be built: {reason}") from error
        return result


def load_data(spec: Spec, *, ranks: Ranks = ALONE) -> Any:
    """The data set of a spec: a pool, or a family of functions.

    Raises:
        DataError: its examples do not have the shape that the encoder expects, or are of another kind; or as `loaded`.
        SpecError, ShapeError: as `check_kind`.
    """
    entry = entry_of("data set", spec.data, DATASETS)
    data = loaded(spec.data.name, partial(entry.load, **options_of(entry.load, spec.data, "data")), ranks=ranks)
    check_kind(data, expected_shape(spec), spec.learner, spec.encoder, spec.data.name)
    return data


def expected_shape(spec: Spec) -> tuple[int, ...] | None:
    """The shape of the examples that a spec's encoder is for; None for one that takes any."""
    shapes = inspect.signature(_encoder(spec)).parameters.get("shape")
    shape = spec.encoder.options.get("shape", shapes and shapes.default)
    return None if shape is None else tuple(shape)


def make_optimizer(spec: Spec, learner: Learner) -> torch.optim.Optimizer:
    """The optimizer of a spec over the learner's parameters that require gradients.

    Raises:
        SpecError: there are none.
    """
    parameters: list[torch.Tensor] = [p for p in learner.parameters() if p.requires_grad]
    if not parameters:
        raise SpecError(
            f"{spec.learner.name} with {spec.encoder.name} has nothing to train: expected parameters that require "
            "gradients; name another [encoder] or [learner], or evaluate it as it is: evaluate(build(spec), episodes)"
        )
    return _optimizer(spec.train, parameters)


def _optimizer(training: Training, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    part = training.optimizer
    cls = entry_of("optimizer", part, OPTIMIZERS)
    options = options_of(cls, part, "train.optimizer", skip=2)
    for name in ("capturable", "differentiable"):
        if options.get(name):
            raise SpecError(f"[train.optimizer] {part.name}: `{name}` is for loops of one's own; leave it out")
    try:
        optimizer: torch.optim.Optimizer = cls(parameters, lr=training.rate, **options)
    except (TypeError, ValueError, RuntimeError, IndexError, AssertionError) as error:  # torch checks the values itself
        raise SpecError(f"[train.optimizer] {part.name}: {error}") from error
    return optimizer


def make_schedule(spec: Spec) -> Schedule:
    """The learning-rate schedule of a spec: by steps, or by the `PARTS` parts of its budget of time.

    Raises:
        SpecError: both `steps` and `seconds`, or a schedule that counts steps with `seconds`.
    """
    part, training = spec.train.schedule, spec.train
    if training.steps is not None and training.seconds is not None:
        raise SpecError("[train] expected either `steps` or `seconds`, got both: leave one out")
    if part.name == "step" and training.seconds is not None:
        raise SpecError("[train] schedule 'step' counts steps; with a budget of seconds use cosine, linear or constant")
    schedule = entry_of("schedule", part, SCHEDULES)
    made: Schedule = schedule(training.steps or PARTS, **options_of(schedule, part, "train.schedule", skip=1))
    return made


def make_selection(spec: Spec, data: Any, learner: Learner) -> Selection | None:
    """What chooses the training tasks of a spec; None where they are drawn uniformly.

    Raises:
        SpecError: tasks of functions, or an option that the selection cannot have with these tasks.
    """
    training = spec.train
    if training.selection is None:
        return None
    episodes = training.draw_from(data)
    if not isinstance(episodes, Episodes) or training.accumulate > 1:
        raise SpecError(
            "[train.selection] chooses among classes, a batch a step: not for functions, nor with accumulate > 1 or "
            "augmentation"
        )
    held_out = training.model_copy(update={"split": "val"}).draw_from(data) if "val" in data.splits else None
    cls = entry_of("selection of tasks", training.selection, SELECTIONS)
    options = options_of(cls, training.selection, "train.selection", skip=3)
    selection: Selection = cls(episodes, held_out, learner, **options)
    return selection


def _encoder(spec: Spec) -> Any:
    return entry_of("encoder", spec.encoder, {**ENCODERS, **PRETRAINED})
