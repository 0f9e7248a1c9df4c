"""Published numbers by one command each: a recipe is a spec, an evaluation and the paper's figure.

Recipes whose training is the same share one run: its folder is named by the spec's digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from .checkpoint import Checkpoint, load_checkpoint
from .data.assays import AssayPool
from .data.descriptions import DescribedPool
from .data.pool import ClassPool
from .distributed import ALONE, Ranks
from .errors import SpecError, unknown_name
from .evaluation import Evaluation, evaluate
from .files import storage_errors, write_file
from .kinds import data_digest
from .learner import Learner
from .machine import commit, describe_machine, versions
from .ops.intervals import mean_interval
from .recipes import base_path, recipe_path
from .run import Event, commits, fit
from .spec import Count, Spec, Tasks, build, load_data
from .tables import Table, checked, plain_numbers, read_table

__all__ = [
    "Outcome",
    "Published",
    "Recipe",
    "load_recipe",
    "reproduce",
    "retuned",
    "training_runs",
    "weights_digest",
]


class Trials(Tasks):
    """The tasks of an evaluation, and the options that differ from training."""

    TABLE = "evaluation"
    split: str = "test"
    batch: Count = 20
    tasks: Annotated[int, Field(ge=2)] = 1000
    seed: int = 2
    learner: Mapping[str, Any] = Field(default_factory=dict)
    encoder: Mapping[str, Any] = Field(default_factory=dict)


class Published(Table):
    """What the paper says, in the unit of the metric (accuracy as a fraction)."""

    value: float
    ci95: float | None = None
    source: str


class Recipe(BaseModel):
    """How a published number is reproduced."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    given: str
    """What the user calls it by: the name, or the path of a file."""
    title: str
    metric: Literal["accuracy", "mse", "auc", "delta_auprc"]
    spec: Spec
    evaluation: Trials
    published: Published | None = None

    def seeded(self, seed: int) -> Spec:
        """The spec for another training run."""
        train = self.spec.train.model_copy(update={"seed": self.spec.train.seed + seed})
        return self.spec.model_copy(update={"train": train})


@dataclass(frozen=True)
class Outcome:
    """A reproduced number as the ledger keeps it."""

    table: dict[str, Any]
    evaluations: tuple[Evaluation, ...]


def load_recipe(name: str) -> Recipe:
    """A recipe by its name, or a TOML file of the same form by its path.

    Raises:
        UnknownNameError, SpecError, StorageError: no such recipe, or it cannot be used.
    """
    path = recipe_path(name)
    label = path.stem
    table = _extended(path)
    try:
        keys = [key for key in Recipe.model_fields if key not in ("name", "given", "spec")]
        top: dict[str, Any] = {key: table.pop(key) for key in keys if key in table}
        stray = [key for key in table if key not in Spec.model_fields]
        if stray:
            raise SpecError(str(unknown_name("key", stray[0], [*keys, *Spec.model_fields])))
        spec = Spec.of(table)
    except SpecError as error:
        raise SpecError(f"recipe {label}: {error}") from None
    return checked(Recipe, {"name": label, "given": name, "spec": spec, **top}, f"recipe {label}")


def training_runs(recipe: Recipe, runs: Path, seeds: int) -> list[tuple[Spec, Path]]:
    """The training runs a recipe needs, with the folder of each."""
    specs = [recipe.seeded(seed) for seed in range(seeds)]
    return [(spec, runs / f"{spec.learner.name}-{spec.digest}") for spec in specs]


def reproduce(
    recipe: Recipe,
    *,
    results: Path,
    runs: Path,
    seeds: int = 1,
    device: str = "cpu",
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> Iterator[Event | Outcome]:
    """Train (or go on, or take a finished run), evaluate, and write `results/NAME.json`. `ranks` share the work.

    Yields the events of training and, last, the Outcome; no Outcome if training was interrupted.

    With several seeds the value is the mean over training runs and the interval is over these runs; with one, the
    interval is over tasks.
    """
    if ranks.first:
        with storage_errors(results):  # hours of training before this is known would be a pity
            results.mkdir(parents=True, exist_ok=True)
    _check(recipe, ranks)
    evaluations, notes, origin = list[Evaluation](), list[dict[str, Any]](), commit()
    for spec, folder in training_runs(recipe, runs, seeds):
        for event in fit(spec, folder, resume=True, device=device, stop=stop, ranks=ranks):
            yield event
            if event.stopped == "interrupted":
                return
        data = load_data(spec, ranks=ranks)
        evaluation, note = _evaluated(recipe, spec, folder, data, device, ranks)
        evaluations.append(evaluation)
        notes.append(note)
    mean = evaluations[0].mean if seeds == 1 else mean_interval([e.mean.value for e in evaluations])
    table = {
        "name": recipe.name,
        "title": recipe.title,
        "metric": recipe.metric,
        "value": mean.value,
        "ci95": mean.ci95,
        "interval_over": evaluations[0].interval_over if seeds == 1 else "training runs",
        "tasks": recipe.evaluation.tasks,
        "transductive": evaluations[0].transductive,
        "published": None if recipe.published is None else recipe.published.model_dump(),
        "command": _command(recipe, seeds, ranks),
        "commit": notes[-1]["commits"][-1],
        "evaluation_commit": origin,
        "train_seconds": round(sum(note["train_seconds"] for note in notes), 1),
        "date": datetime.now(UTC).date().isoformat(),
        "runs": notes,
        "spec": recipe.spec.table(),
        "evaluation": recipe.evaluation.model_dump(mode="json"),
        "data": data_digest(data),
        "versions": versions(),
        "machine": describe_machine(device) | ({"processes": ranks.size} if ranks.size > 1 else {}),
    }
    if ranks.first:
        write_file(results / f"{recipe.name}.json", _json(table))
    yield Outcome(table, tuple(evaluations))


def _evaluated(
    recipe: Recipe, spec: Spec, folder: Path, data: Any, device: str, ranks: Ranks
) -> tuple[Evaluation, dict[str, Any]]:
    """The evaluation of a finished run, by its best checkpoint, and what the ledger says of it."""
    finished = load_checkpoint(folder / "last", ranks=ranks)
    best = finished.notes["progress"]["best"]  # None where no validation was finite
    chosen = finished if spec.validation is None or best is None else load_checkpoint(folder / "best", ranks=ranks)
    learner, trials = retuned(chosen, recipe.evaluation).to(device), recipe.evaluation
    evaluation = evaluate(learner, trials.draw_from(data), tasks=trials.tasks, ranks=ranks)
    if ranks.first:
        with storage_errors(folder):
            np.save(folder / f"{recipe.name}.npy", evaluation.values, allow_pickle=False)
    return evaluation, {
        "seed": spec.train.seed,
        "value": evaluation.mean.value,
        "ci95": evaluation.mean.ci95,
        "record": evaluation.record,
        "step": chosen.step,
        "commits": commits(finished),
        "train_seconds": round(finished.notes["progress"]["seconds"], 1),
        "evaluation_seconds": round(evaluation.seconds, 1),
        "weights": weights_digest(learner),
    }


def _command(recipe: Recipe, seeds: int, ranks: Ranks) -> str:
    """What to type for this figure: threads as well, since trainings by the clock get further with more of them."""
    command = "handful" if ranks.size == 1 else f"torchrun --nproc-per-node={ranks.size} -m handful"
    options = {"--seeds": seeds, "--threads": torch.get_num_threads()}
    return f"{command} reproduce {recipe.given}" + "".join(f" {o} {n}" for o, n in options.items() if n > 1)


def _check(recipe: Recipe, ranks: Ranks) -> None:
    """Refuse an evaluation that cannot be, before hours of training."""
    data = load_data(recipe.spec, ranks=ranks)
    recipe.evaluation.draw_from(data)
    retuned(Checkpoint(recipe.spec, build(recipe.spec), 0), recipe.evaluation)
    metric = "accuracy" if isinstance(data, ClassPool | DescribedPool) else "mse"
    metric = data.protocol.metric if isinstance(data, AssayPool) else metric
    if recipe.metric != metric:
        raise SpecError(f"recipe {recipe.name}: its tasks are measured by {metric}, it says metric = {recipe.metric!r}")


def retuned(checkpoint: Checkpoint, trials: Trials) -> Learner:
    """The checkpoint's learner with the options of an evaluation (more inner steps, another normalization).

    Options with another `name` make that learner around the trained encoder. Buffers that these options have no use
    for (running statistics) are left out.
    """
    if not trials.learner and not trials.encoder:
        return checkpoint.learner
    table = checkpoint.spec.table()
    other = trials.learner.get("name", table["learner"]["name"]) != table["learner"]["name"]
    table["learner"] = dict(trials.learner) if other else table["learner"] | trials.learner
    table["encoder"] |= trials.encoder
    learner = build(Spec.of(table))
    part = "encoder" if other else ""
    try:
        target, trained = learner.get_submodule(part), checkpoint.learner.get_submodule(part)
        unused = {name for name, _ in trained.named_buffers()} - {name for name, _ in target.named_buffers()}
        target.load_state_dict({name: leaf for name, leaf in trained.state_dict().items() if name not in unused})
    except (RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise SpecError(f"evaluation: its options do not fit the trained weights: {reason}") from None
    return learner


def _extended(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The table of a recipe over the one it extends: `_BASE.toml` beside it, or of the package."""
    table = read_table(path)
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str) or not base or Path(base).name != base or path in seen:
        raise SpecError(f"{path}: expected `extends` to be the plain name of another recipe, got {base!r}")
    beside = path.with_name(f"_{base}.toml")
    return _merged(_extended(beside if beside.is_file() else base_path(base), (*seen, path)), table)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def weights_digest(learner: torch.nn.Module) -> str:
    """A short hash of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(learner.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _json(table: Mapping[str, Any]) -> str:
    return json.dumps(plain_numbers(table), indent=2, ensure_ascii=False) + "\n"
