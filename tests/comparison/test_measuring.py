from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful.checkpoint import load_checkpoint
from handful.comparison import measuring
from handful.comparison.measuring import Place, finished, measure, with_differences
from handful.comparison.plan import Plan, load_plan
from handful.comparison.tables import comparison_tables
from handful.data import regression
from handful.errors import DataError, HandfulError, SpecError
from handful.evaluation import Evaluation, compare, evaluate
from handful.spec import load_data

SECONDS = 0.3


def measured(plan: Plan, key: str, place: Place, seconds: float = SECONDS, **options: Any) -> dict[str, Any]:
    for _ in measure(plan, key, seconds, place, **options):
        pass
    path = place.result(plan, key)
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return result


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_result_says_all(plan: Plan, place: Place) -> None:
    result = measured(plan, "prototypical", place)
    assert (result["name"], result["comparison"], result["metric"]) == ("prototypical", "small", "accuracy")
    assert result["steps"] > 0
    assert result["train_seconds"] >= SECONDS
    assert result["command"] == f"handful compare {plan.given} --minutes 0.005 --only prototypical"
    assert {"commit", "evaluation_commit", "seed", "machine", "versions", "data", "spec"} <= set(result)
    assert result["learn_ms"] > 0
    assert result["answer_ms"] > 0
    assert result["peak_memory_mib"] > 50
    assert result["published"] == {"3-way": 0.5}
    assert not result["transductive"]


def test_scores_are_those_of_the_trained_learner(plan: Plan, place: Place) -> None:
    result = measured(plan, "prototypical", place)
    spec = plan.spec("prototypical", SECONDS)
    learner = load_checkpoint(place.run(spec) / "last").learner
    for name, trial in plan.tests.items():
        evaluation = evaluate(learner, trial.draw_from(load_data(spec)), tasks=trial.tasks)
        test = result["tests"][name]
        assert (test["value"], test["record"], test["tasks"]) == (evaluation.mean.value, evaluation.record, 20)
        assert np.array_equal(np.load(place.scores(test["record"])), evaluation.values)
    assert result["tests"]["3-way, noisy"]["value"] < result["tests"]["3-way"]["value"]


def test_a_finished_entry_is_not_touched_again(plan: Plan, place: Place) -> None:
    measured(plan, "prototypical", place)
    assert finished(plan, "prototypical", SECONDS, place)
    before = stamps(place.results) | stamps(place.runs)
    measured(plan, "prototypical", place)
    assert stamps(place.results) | stamps(place.runs) == before
    assert not finished(plan, "prototypical", 2 * SECONDS, place)
    assert not finished(plan, "maml", SECONDS, place)


def test_it_goes_on_where_it_stopped(plan: Plan, place: Place) -> None:
    asked = count()
    assert measured(plan, "prototypical", place, stop=lambda: next(asked) > 4) == {}
    begun = load_checkpoint(place.run(plan.spec("prototypical", SECONDS)) / "last")
    assert 0 < begun.step < 10
    asked = count()
    result = measured(plan, "prototypical", place)
    partial = {**result, "tests": {"3-way": {**result["tests"]["3-way"], "seconds": -1.0}}}
    place.result(plan, "prototypical").write_text(json.dumps(partial))
    assert not finished(plan, "prototypical", SECONDS, place)
    again = measured(plan, "prototypical", place)
    assert again["tests"]["3-way"]["seconds"] == -1.0  # kept
    assert {name: test["record"] for name, test in again["tests"].items()} == {
        name: test["record"] for name, test in result["tests"].items()
    }
    assert again["learn_ms"] == result["learn_ms"]


def test_another_test_is_taken_alone(plan: Plan, plan_of: Callable[..., Plan], place: Place) -> None:
    before = measured(plan, "prototypical", place)
    changed = plan_of(('"5-way" = { ways = 5, shots = 2,', '"5-way" = { ways = 5, shots = 3,'))
    assert not finished(changed, "prototypical", SECONDS, place)
    after = measured(changed, "prototypical", place)
    assert after["steps"] == before["steps"]
    assert after["tests"]["3-way"] == before["tests"]["3-way"]
    assert after["tests"]["5-way"]["evaluation"]["shots"] == 3


def test_weights_of_another(plan: Plan, plan_of: Callable[..., Plan], place: Place) -> None:
    with pytest.raises(SpecError, match="expected prototypical to be trained before"):
        measured(plan, "again", place)
    source = measured(plan, "prototypical", place)
    copy = measured(plan, "again", place)
    assert (copy["weights_of"], copy["weights"]) == ("prototypical", source["weights"])
    assert copy["tests"]["5-way"]["record"] == source["tests"]["5-way"]["record"]
    entry = 'learner = { name = "prototypical" }\nweights'
    tuned = measured(plan_of((entry, 'learner = { name = "fine_tuning", steps = 2 }\nweights')), "again", place)
    assert (tuned["weights_of"], tuned["weights"]) == ("prototypical", source["weights"])
    wrong = plan_of((entry, 'learner = { name = "maml" }\nweights'))
    with pytest.raises(SpecError, match="expected a learner with an encoder like that of prototypical"):
        measured(wrong, "again", place)


def test_what_is_not_trained(plan: Plan, place: Place) -> None:
    result = measured(plan, "pixels", place)
    assert (result["steps"], result["train_seconds"]) == (0, 0.0)
    assert result["tests"]["3-way"]["value"] > 0.6
    assert not place.run(plan.spec("pixels", SECONDS)).exists()


def test_divergence_is_an_error(plan: Plan, place: Place) -> None:
    with pytest.raises(DataError, match="the loss is"):
        measured(plan, "diverging", place)
    assert not place.result(plan, "diverging").exists()


def test_tests_that_cannot_be_are_refused_before_training(plan: Plan, place: Place) -> None:
    name, trial = next(iter(plan.tests.items()))
    for change, said in (({"ways": None}, "need `ways`"), ({"ways": 500}, "ask for fewer ways")):
        other = plan.model_copy(update={"tests": {name: trial.model_copy(update=change)}})
        with pytest.raises(HandfulError, match=rf"^\[tests\.{name}\] .*{said}"):
            measured(other, "prototypical", place, seconds=1000)
    assert not place.runs.exists()


def test_differences_are_paired(plan: Plan, place: Place) -> None:
    for key in ("prototypical", "pixels"):
        measured(plan, key, place)
    control, pixels = sorted(with_differences(plan, place), key=lambda result: result["name"] == "pixels")
    assert "difference" not in control["tests"]["3-way"]
    difference = pixels["tests"]["3-way"]["difference"]
    data, trial = load_data(plan.spec("pixels", 1)), plan.tests["3-way"]
    learners = [load_checkpoint(place.run(plan.spec("prototypical", SECONDS)) / "last").learner]
    other = evaluate(learners[0], trial.draw_from(data), tasks=20)
    own = np.load(place.scores(pixels["tests"]["3-way"]["record"]))
    assert difference["value"] == pytest.approx(own.mean() - other.mean.value)
    assert difference["record"] == control["tests"]["3-way"]["record"]
    assert json.loads(place.result(plan, "pixels").read_text()) == pixels
    same = compare(other, other)
    assert same.value == 0


def test_medians_of_errors(plan_of: Callable[..., Plan], place: Place, tmp_path: Path) -> None:
    text = """
title = "Lines"
metric = "mse"
control = "maml"
data = { name = "line" }
encoder = { name = "mlp", shape = [1], hidden = [8], outputs = 1 }
train = { shots = 5, queries = 5, batch = 2 }
[tests]
"5-shot" = { shots = 5, queries = 10, tasks = 40 }
[entries.maml]
title = "MAML"
learner = { name = "maml" }
"""
    path = tmp_path / "lines.toml"
    path.write_text(text)
    lines = load_plan(str(path))
    test = measured(lines, "maml", place)["tests"]["5-shot"]
    median, low, high = test["median"]
    values = np.load(place.scores(test["record"]))
    assert median == np.median(values)
    assert low < median < high


def test_regression_tasks_of_a_table(place: Place, tmp_path: Path) -> None:
    rows = [f"{task},{x},{task * x}" for task in range(6) for x in range(12)]
    (tmp_path / "curves.csv").write_text("\n".join(["task,x,y", *rows]))
    (tmp_path / "curves.toml").write_text(f"""
title = "Curves"
metric = "mse"
control = "cnp"
data = {{ name = "regression", path = "{tmp_path / "curves.csv"}" }}
encoder = {{ name = "mlp", shape = [1], hidden = [8] }}
train = {{ shots = 5, queries = 5, batch = 2 }}
[tests]
"5-shot" = {{ shots = 5, queries = 5, tasks = 20 }}
[entries.cnp]
title = "CNP"
learner = {{ name = "conditional_neural_process", outputs = 1 }}
""")
    result = measured(load_plan(str(tmp_path / "curves.toml")), "cnp", place)
    assert result["data"] == regression(path=str(tmp_path / "curves.csv")).digest
    assert result["tests"]["5-shot"]["value"] > 0


def test_a_test_that_diverges_is_null_in_its_file(plan: Plan, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def infinite(*given: Any, **options: Any) -> Evaluation:
        found = evaluate(*given, **options)
        return replace(found, values=np.full_like(found.values, np.inf))

    measured(plan, "pixels", place)
    monkeypatch.setattr(measuring, "evaluate", infinite)
    result = measured(plan, "prototypical", place)
    assert result["tests"]["3-way"]["value"] is None
    assert finished(plan, "prototypical", SECONDS, place)
    pixels = next(result for result in with_differences(plan, place) if result["name"] == "pixels")
    assert pixels["tests"]["3-way"]["difference"]["value"] is None
    for path in place.results.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert "not finite" in comparison_tables(plan, with_differences(plan, place))
