"""A run as a document: learner, encoder, data, tasks, optimizer, steps, seed. Frozen, and all JSON.

A spec is a TOML or JSON file. The keyword arguments of a class are its configuration, so that the `[learner]`,
`[encoder]` and `[data]` tables hold a `name` and those arguments. Unknown keys are refused, valid ones listed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, create_model, field_validator
from pydantic_core import PydanticCustomError
from torch import nn

from .data import DATASETS
from .data.descriptions import DescribedPool, ZeroShotEpisodes
from .data.episodes import Episodes
from .data.functions import FunctionEpisodes
from .data.pool import ClassPool
from .distributed import ALONE, Ranks
from .encoders import ENCODERS
from .episode import EpisodeSource
from .errors import DataError, SpecError, unknown_name
from .files import storage_errors
from .learner import Learner
from .learners import LEARNERS
from .ops.seeds import seed_of
from .training import OPTIMIZERS, SCHEDULES, Schedule

__all__ = ["Part", "Spec", "Tasks", "Training", "Validation", "build", "load_data", "read_table"]

M = TypeVar("M", bound=BaseModel)
Count = Annotated[int, Field(ge=1)]
Counts = Count | tuple[Count, Count]
LATER = {"query_balance": None, "label_noise": 0.0}
"""Keys of tasks that came after the first runs, and their usual values: then they do not count in a digest."""


class _Table(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_as_a_number(cls, value: Any, field: ValidationInfo) -> Any:
        hint = cls.model_fields[str(field.field_name)].annotation
        table = isinstance(value, dict) and any(map(is_dataclass, [hint, *get_args(hint)]))
        values = value if isinstance(value, list | tuple) else list(value.values()) if table else [value]
        if any(isinstance(one, bool) for one in values) and not _takes_boolean(hint):
            raise PydanticCustomError("boolean", "input should not be true or false")
        return value


def _takes_boolean(hint: Any) -> bool:
    return hint in (bool, Any) or any(map(_takes_boolean, get_args(hint)))


class Part(BaseModel):
    """A named part and its options."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """All but the name."""
        return dict(self.model_extra or {})


class Tasks(_Table):
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
            if any(options.pop(name) for name in only):
                raise SpecError("zero-shot tasks have no `ragged`, `families`, `query_balance` or `label_noise`: leave them out")
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
    steps: Count
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


class Spec(_Table):
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
        _options(_entry("encoder", spec.encoder, ENCODERS), spec.encoder, "encoder")
        _options(_entry("data set", spec.data, DATASETS).load, spec.data, "data")
        make_schedule(spec)
        _optimizer(spec.train, [torch.zeros(1)])
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
        for name in {"train", "validation"} - {key for key, value in table.items() if value is None}:
            table[name] = {key: v for key, v in table[name].items() if key not in LATER or v != LATER[key]}
        return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:12]


def read_table(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML or JSON file.

    Raises:
        SpecError: not TOML or JSON.
        StorageError: not there, or not readable.
    """
    path = Path(path)
    with storage_errors(path, "read"):
        content = path.read_bytes()
    try:
        table = json.loads(content) if path.suffix == ".json" else tomllib.loads(content.decode())
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"{path}: expected {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from error
    if not isinstance(table, dict):
        raise SpecError(f"{path}: expected tables, got {type(table).__name__}")
    return table


def build(spec: Spec) -> Learner:
    """The learner of a spec, with initial weights that depend on its seed only."""
    encoder = _entry("encoder", spec.encoder, ENCODERS)
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
    shapes = inspect.signature(_entry("encoder", spec.encoder, ENCODERS)).parameters.get("shape")
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
    """The learning-rate schedule of a spec."""
    part = spec.train.schedule
    schedule = _entry("schedule", part, SCHEDULES)
    made: Schedule = schedule(spec.train.steps, **_options(schedule, part, "train.schedule", skip=1))
    return made


def checked(model: type[M], table: Mapping[str, Any], where: str) -> M:
    """A model from a table, with errors that say where, what, and what would be right."""
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        lines = [_explained(model, problem) for problem in error.errors(include_url=False)]
        raise SpecError(f"{where}: " + "; ".join(dict.fromkeys(lines))) from None


def _explained(model: type[BaseModel], problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        table: Any = model
        for part in path[:-1]:
            annotation = table.model_fields[part].annotation if part in getattr(table, "model_fields", {}) else None
            options = [annotation, *getattr(annotation, "__args__", ())]
            table = next((a for a in options if isinstance(a, type) and issubclass(a, BaseModel)), table)
        return str(unknown_name("key", ".".join(path), [".".join([*path[:-1], key]) for key in table.model_fields]))
    if problem["type"] == "unexpected_keyword_argument":
        hint = model.model_fields[path[0]].annotation
        table = next(filter(is_dataclass, [hint, *get_args(hint)]))
        return str(unknown_name("key", ".".join(path), [f"{path[0]}.{key.name}" for key in fields(table)]))
    if problem["type"] == "missing":
        return f"missing key {'.'.join(path)!r}"
    return f"{'.'.join(path)}: {problem['msg'].lower()}, got {problem['input']!r}"


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
    return create_model("Options", __base__=_Table, **fields)
