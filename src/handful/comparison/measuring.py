"""One entry of a comparison: train it, test it, and keep what was measured. Goes on where it stopped."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..checkpoint import load_checkpoint
from ..errors import SpecError
from ..evaluation import evaluate
from ..files import storage_errors, write_file
from ..kinds import data_digest
from ..learner import EmbeddingLearner, Learner
from ..learners import FineTuning, TransductiveFineTuning
from ..machine import commit, describe_machine, versions
from ..ops.intervals import median_interval, paired_difference
from ..reproduce import weights_digest
from ..run import commits, fit
from ..scoring import evaluation_mode
from ..spec import Spec, build, load_data
from ..tables import plain_numbers, said_of
from .plan import Plan, Trial

__all__ = ["Place", "Progress", "finished", "measure", "with_differences"]

PRETRAINED = (EmbeddingLearner, FineTuning, TransductiveFineTuning)
"""Learners that any trained encoder will do for."""

TIMED = 20
"""Tasks that the time to learn and to answer is measured on, one by one."""


class Place(NamedTuple):
    """Where a comparison keeps its results and its training runs."""

    results: Path
    runs: Path

    def result(self, plan: Plan, key: str) -> Path:
        """The file of an entry."""
        return self.results / plan.name / f"{key}.json"

    def run(self, spec: Spec) -> Path:
        """The folder of a training."""
        return self.runs / f"{spec.learner.name}-{spec.digest}"

    def scores(self, record: str) -> Path:
        """The file of the scores of every task, by their hash."""
        return self.runs / "scores" / f"{record[:16]}.npy"


class Progress(NamedTuple):
    """How far an entry is."""

    done: float
    """The part of its training that is done; 1 while it is tested."""
    note: str


def measure(
    plan: Plan,
    key: str,
    seconds: float,
    place: Place,
    *,
    device: str = "cpu",
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Train an entry (or go on), test it, and write its result after each test. Ends early when `stop` says so.

    Raises:
        SpecError: it takes the weights of an entry that is not trained yet, or a test is none for the data.
        DataError: its training diverged, or its data cannot be used.
    """
    entry, spec = plan.entries[key], plan.spec(key, seconds)
    data = load_data(spec)
    for name, trial in plan.tests.items():  # refused before it is trained
        with said_of(f"tests.{name}"):
            trial.draw_from(data)
    if entry.trains:
        clock = time.process_time if device == "cpu" else time.perf_counter  # other programs cost a learner nothing
        for event in fit(spec, place.run(spec), resume=True, device=device, stop=stop, clock=clock):
            yield Progress(min(event.seconds / seconds, 1), f"loss {event.loss:.3f}")
            if event.stopped == "interrupted":
                return
    learner, training = _trained(plan, key, spec, seconds, place)
    learner.to(device)
    path, tests = place.result(plan, key), plan.tests_of(key, learner)
    kept = _kept(path, spec, training["weights"])
    if _complete(kept, tests):
        return
    valid = _valid(kept, tests)
    result = _untested(plan, key, seconds, learner, training, data, device)
    for number, (name, trial) in enumerate(tests.items()):
        if stop():
            return
        yield Progress(1, f"test {number + 1} of {len(tests)}")
        if name in valid:
            result["tests"][name] = valid[name]
            continue
        result["tests"][name] = _tested(learner, trial, data, place)
        if number == 0:
            result["learn_ms"], result["answer_ms"] = _timed(learner, trial, data, device)
        result["peak_memory_mib"] = _peak_memory(device)
        _write(path, result)
    if kept is not None:
        costs = ("learn_ms", "answer_ms", "peak_memory_mib")
        result |= {cost: kept[cost] if result[cost] is None else result[cost] for cost in costs}
        _write(path, result)


def finished(plan: Plan, key: str, seconds: float, place: Place) -> bool:
    """Whether the entry's result holds all its tests."""
    spec = plan.spec(key, seconds)
    try:
        learner, training = _trained(plan, key, spec, seconds, place)
    except SpecError:
        return False
    return _complete(_kept(place.result(plan, key), spec, training["weights"]), plan.tests_of(key, learner))


def with_differences(plan: Plan, place: Place) -> list[dict[str, Any]]:
    """Every result of a plan, in its order, with the differences to the control on the same tasks, written anew."""
    paths = {key: place.result(plan, key) for key in plan.entries}
    results = {key: _read(path) for key, path in paths.items() if path.exists()}
    control = results.get(plan.control, {"tests": {}})["tests"]
    for key, result in results.items():
        before = json.dumps(result)
        for name, test in result["tests"].items():
            other = control.get(name)
            if key == plan.control or other is None or test["tasks_digest"] != other["tasks_digest"]:
                continue
            files = [place.scores(one["record"]) for one in (test, other)]
            if all(file.exists() for file in files):
                difference = paired_difference(*(np.load(file, allow_pickle=False) for file in files))
                about = {"to": plan.control, "record": other["record"]}
                test["difference"] = {"value": difference.value, "ci95": difference.ci95, **about}
        results[key] = plain_numbers(result)
        if json.dumps(results[key]) != before:
            _write(paths[key], results[key])
    return list(results.values())


def _trained(plan: Plan, key: str, spec: Spec, seconds: float, place: Place) -> tuple[Learner, dict[str, Any]]:
    """The learner of an entry with its weights, and how it came by them."""
    entry = plan.entries[key]
    if entry.untrained:
        learner = build(spec)
        about: dict[str, Any] = {"steps": 0, "train_seconds": 0.0, "commit": commit(), "weights_of": None}
        return learner, {**about, "weights": weights_digest(learner)}
    of = key if entry.weights is None else entry.weights
    source = plan.spec(of, seconds)
    folder = place.run(source)
    checkpoint = load_checkpoint(folder / "last") if (folder / "last").exists() else None
    if checkpoint is None or checkpoint.notes["progress"]["seconds"] < seconds:
        raise SpecError(f"comparison {plan.name}, {key}: expected {of} to be trained before; it is not in {folder}")
    about = {
        "steps": checkpoint.step,
        "train_seconds": round(checkpoint.notes["progress"]["seconds"], 1),
        "commit": commits(checkpoint)[-1],
        "weights_of": entry.weights,
        "weights": weights_digest(checkpoint.learner),
    }
    if entry.weights is None:
        return checkpoint.learner, about
    learner = build(spec)
    if spec.learner.name == source.learner.name:
        learner.load_state_dict(checkpoint.learner.state_dict())
    elif isinstance(learner, PRETRAINED) and isinstance(checkpoint.learner, PRETRAINED):
        learner.encoder.load_state_dict(checkpoint.learner.encoder.state_dict())
    else:
        raise SpecError(f"comparison {plan.name}, {key}: expected a learner with an encoder like that of {of}")
    return learner, about


def _untested(
    plan: Plan, key: str, seconds: float, learner: Learner, training: Mapping[str, Any], data: Any, device: str
) -> dict[str, Any]:
    """A result without its tests and costs."""
    entry, spec = plan.entries[key], plan.spec(key, seconds)
    return {
        "name": key,
        "comparison": plan.name,
        "title": entry.title,
        "paper": learner.paper,
        "kind": learner.kind,
        "metric": plan.metric,
        "transductive": learner.transductive,
        "command": f"handful compare {plan.given} --minutes {seconds / 60:g} --only {key}",
        "seed": spec.train.seed,
        **training,
        "date": datetime.now(UTC).date().isoformat(),
        "evaluation_commit": commit(),
        "peak_memory_mib": None,
        "learn_ms": None,
        "answer_ms": None,
        "tests": {},
        "published": dict(entry.published),
        "source": entry.source,
        "note": entry.note,
        "spec": spec.table(),
        "data": data_digest(data),
        "versions": versions(),
        "machine": describe_machine(device),
    }


def _kept(path: Path, spec: Spec, weights: str) -> dict[str, Any] | None:
    """The result that is there, if it is of this training."""
    if not path.exists():
        return None
    kept = _read(path)
    same = plain_numbers(kept["spec"]) == plain_numbers(spec.table())
    return kept if same and kept["weights"] == weights else None


def _read(path: Path) -> dict[str, Any]:
    with storage_errors(path, "read"):
        result: dict[str, Any] = json.loads(path.read_text())
    return result


def _write(path: Path, result: dict[str, Any]) -> None:
    write_file(path, json.dumps(plain_numbers(result), indent=2, ensure_ascii=False) + "\n")


def _valid(kept: dict[str, Any] | None, tests: Mapping[str, Trial]) -> dict[str, Any]:
    """Of a kept result the tests that were as the plan says now."""
    found = {} if kept is None else kept["tests"]
    return {
        name: found[name]
        for name, trial in tests.items()
        if name in found and found[name]["evaluation"] == trial.model_dump(mode="json")
    }


def _complete(kept: dict[str, Any] | None, tests: Mapping[str, Trial]) -> bool:
    """Whether a kept result holds these tests, and no others."""
    return kept is not None and kept["tests"].keys() == _valid(kept, tests).keys() == tests.keys()


def _tested(learner: Learner, trial: Trial, data: Any, place: Place) -> dict[str, Any]:
    evaluation = evaluate(learner, trial.draw_from(data), tasks=trial.tasks)
    path = place.scores(evaluation.record)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, evaluation.values, allow_pickle=False)
    median = {"median": median_interval(evaluation.values)} if evaluation.metric == "mse" else {}
    return {
        "value": evaluation.mean.value,
        "ci95": evaluation.mean.ci95,
        **median,
        "tasks": len(evaluation.values),
        "not_finite": evaluation.not_finite,
        "record": evaluation.record,
        "tasks_digest": evaluation.tasks_digest,
        "seconds": round(evaluation.seconds, 1),
        "evaluation": trial.model_dump(mode="json"),
    }


def _timed(learner: Learner, trial: Trial, data: Any, device: str) -> tuple[float, float]:
    """Median milliseconds to learn a task, and to answer all its queries, one task at a time."""
    episodes = trial.model_copy(update={"batch": 1}).draw_from(data)
    taken = []

    def moment() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    with torch.no_grad(), evaluation_mode(learner):
        for t in range(TIMED):
            episode = episodes[t].to(device)
            begin = moment()
            state = learner.adapt(episode.support)
            between = moment()
            learner.predict(state, episode.query.x)
            taken.append((between - begin, moment() - between))
    learn, answer = np.median(taken, axis=0) * 1000
    return round(float(learn), 2), round(float(answer), 2)


def _peak_memory(device: str) -> int:
    """The most memory of this process so far, everything included; on an accelerator, of its tensors. In MiB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) >> 20
    try:  # ru_maxrss would begin with that of the parent process
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
