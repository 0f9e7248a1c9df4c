"""A run as a document: learner, encoder, data, tasks, optimizer, steps, seed. Frozen, and all JSON.

A spec is a TOML or JSON file. The keyword arguments of a class are its configuration, so that the `[learner]`,
`[encoder]` and `[data]` tables hold a `name` and those arguments. Unknown keys are refused, valid ones listed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator
from torch import nn

from .data import DATASETS
from .data.descriptions import DescribedPool, ZeroShotEpisodes
from .data.episodes import Episodes
from .data.functions import FunctionEpisodes
from .data.pool import ClassPool
from .distributed import ALONE, Ranks
from .encoders import ENCODERS, PRETRAINED
from .encoders.hub_texts import check_tokens
from .episode import EpisodeSource
from .errors import DataError, SpecError, unknown_name
from .learner import Learner
from .learners import LEARNERS
from .ops.seeds import seed_of
from .selection import SELECTIONS, Selection
from .tables import Table, checked, read_table
from .training import OPTIMIZERS, PARTS, SCHEDULES, Schedule

__all__ = ["Part", "Spec", "Tasks", "Training", "Validation", "build", "load_data"]

Count = Annotated[int, Field(ge=1)]
Counts = Count | tuple[Count, Count]
LATER = {"query_balance": None, "label_noise": 0.0, "seconds": None, "selection": None}
"""Keys of tasks that came after the first runs, and their usual values: then they do not count in a digest."""


class Part(BaseModel):
    """A named part and its options. The name "hf:NAME" is short for the name "hf" and the option model = "NAME"."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @model_validator(mode="before")
    @classmethod
    def _long(cls, table: Any) -> Any:
        if isinstance(table, Mapping) and isinstance(table.get("name"), str) and "model" not in table:
            name, colon, model = table["name"].partition(":")
            return {**table, "name": name, "model": model} if colon else table
        return table

    @property
    def options(self) -> dict[str, Any]:
        """All but the name."""
        return dict(self.model_extra or {})


class Tasks(Table):
    """Which tasks: as the arguments of `Episodes`; all but shots, queries, batch and seed are for classes only."""

    split: str
    ways: Counts | None = None
    shots: Counts = 1
    queries: Count = 15
    batch: Count = 1
    ragged: bool = False
    families: bool = False
    query_balance: Annotated[float, Field(gt=0)] | None = None
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: int = 0

    def draw_from(self, data: Any) -> EpisodeSource:
        """The episodes of these tasks in a data set."""
        if isinstance(data, ClassPool | DescribedPool):
            if self.ways is None:
                raise SpecError("tasks of classes need `ways`, the number of classes in each")
            options = {name: getattr(self, name) for name in Tasks.model_fields if name != "split"}
            if isinstance(data, ClassPool):
                return Episodes(data.split(self.split), **options)
            only = ("ragged", "families", "query_balance", "label_noise")
            refused = [name for name in only if options.pop(name)]
            if refused:
                raise SpecError(f"zero-shot tasks have no `{'`, `'.join(refused)}`: leave them out")
            return ZeroShotEpisodes(data.split(self.split), **options)
        if any((self.ways, self.ragged, self.families, self.query_balance, self.label_noise)):
            names = "`ways`, `ragged`, `families`, `query_balance` or `label_noise`"
            raise SpecError(f"regression tasks have no {names}: leave them out")
        return FunctionEpisodes(
            data, shots=self.shots, queries=self.queries, batch=self.batch, seed=self.seed, split=self.split
        )


class Training(Tasks):
    """The tasks to learn from, and how."""

    split: str = "train"
    steps: Count | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    """A budget of training time instead of a number of steps."""
    selection: Part | None = None
    optimizer: Part = Part(name="adam")
    rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Part = Part(name="constant")
    clip: Annotated[float, Field(gt=0)] | None = None
    accumulate: Count = 1
    precision: Literal["float32", "bfloat16"] = "float32"


class Validation(Tasks):
    """The tasks to choose the best checkpoint by."""

    split: str = "val"
    every: Count = 500
    tasks: Count = 200
    batch: Count = 20
    patience: Count | None = None
    """Stop after so many validations without a better one."""
    seed: int = 1


class Spec(Table):
    """A training run."""

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
        _options(_entry("learner", spec.learner, LEARNERS), spec.learner, "learner", skip=1)
        _options(_encoder(spec), spec.encoder, "encoder")
        _options(_entry("data set", spec.data, DATASETS).load, spec.data, "data")
        if spec.encoder.name == "hf_text":
            check_tokens(spec.encoder.options.get("model"), spec.data.options)
        if spec.train.seconds is None and spec.train.steps is None:
            raise SpecError("spec: missing key 'train.steps' (or 'train.seconds', a budget of time)")
        make_schedule(spec)
        _optimizer(spec.train, [torch.zeros(1)])
        if spec.train.selection is not None:
            selection = _entry("selection of tasks", spec.train.selection, SELECTIONS)
            _options(selection, spec.train.selection, "train.selection", skip=3)
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
    """The learner of a spec, with initial weights that depend on its seed only."""
    encoder = _encoder(spec)
    learner = _entry("learner", spec.learner, LEARNERS)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed_of("initialization", spec.train.seed))
        try:
            made: nn.Module = encoder(**_options(encoder, spec.encoder, "encoder"))
            result: Learner = learner(made, **_options(learner, spec.learner, "learner", skip=1))
        except RuntimeError as error:  # torch's own check of a size
            raise SpecError(f"{spec.learner.name} with {spec.encoder.name} cannot be built: {error}") from error
        return result


def load_data(spec: Spec, *, ranks: Ranks = ALONE) -> Any:
    """The data set of a spec: a ClassPool or a function family. On each machine one process prepares it for all.

    Raises:
        DataError: its examples do not have the shape that the encoder expects.
    """
    entry = _entry("data set", spec.data, DATASETS)
    with ranks.one_a_machine_first():
        data = entry.load(**_options(entry.load, spec.data, "data"))
    shapes = inspect.signature(_encoder(spec)).parameters.get("shape")
    expected = spec.encoder.options.get("shape", shapes and shapes.default)
    shape = data.shape if isinstance(data, ClassPool | DescribedPool) else (1,)
    if expected is not None and tuple(expected) != shape:
        raise DataError(
            f"data {spec.data.name!r} holds examples of shape {list(shape)}, the encoder expects {list(expected)}: "
            f"set shape = {list(shape)} in [encoder]"
        )
    return data


def make_optimizer(spec: Spec, learner: Learner) -> torch.optim.Optimizer:
    """The optimizer of a spec over the learner's parameters that require gradients."""
    return _optimizer(spec.train, [p for p in learner.parameters() if p.requires_grad])


def _optimizer(training: Training, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    part = training.optimizer
    cls = _entry("optimizer", part, OPTIMIZERS)
    options = _options(cls, part, "train.optimizer", skip=2)
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
    schedule = _entry("schedule", part, SCHEDULES)
    made: Schedule = schedule(training.steps or PARTS, **_options(schedule, part, "train.schedule", skip=1))
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
            "[train.selection] chooses among classes, a batch a step: not for functions, nor accumulate > 1"
        )
    held_out = training.model_copy(update={"split": "val"}).draw_from(data) if "val" in data.splits else None
    cls = _entry("selection of tasks", training.selection, SELECTIONS)
    options = _options(cls, training.selection, "train.selection", skip=3)
    selection: Selection = cls(episodes, held_out, learner, **options)
    return selection


def _encoder(spec: Spec) -> Any:
    return _entry("encoder", spec.encoder, {**ENCODERS, **PRETRAINED})


def _entry(kind: str, part: Part, catalog: Mapping[str, Any]) -> Any:
    if part.name not in catalog:
        raise unknown_name(kind, part.name, catalog)
    return catalog[part.name]


def _options(target: Callable[..., Any], part: Part, where: str, *, skip: int = 0) -> dict[str, Any]:
    """The options of a part, checked against the keyword arguments of what they are for."""
    options = checked(_arguments(target, skip), part.options, f"[{where}] {part.name}")
    return {name: getattr(options, name) for name in options.model_fields_set}


@cache
def _arguments(target: Callable[..., Any], skip: int) -> type[BaseModel]:
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    hints = {} if function.__module__.startswith("torch") else get_type_hints(function)
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(target).parameters.items())[skip:]:
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    return create_model("Options", __base__=Table, **fields)
