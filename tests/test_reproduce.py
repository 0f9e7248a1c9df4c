from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handful import run
from handful.checkpoint import Checkpoint, load_checkpoint
from handful.errors import HandfulError, SpecError, StorageError, UnknownNameError
from handful.evaluation import evaluate
from handful.recipes import recipe_names, recipe_path
from handful.reproduce import Outcome, Recipe, load_recipe, reproduce, retuned, training_runs
from handful.run import Event
from handful.spec import build, load_data, make_optimizer, make_schedule

PUBLISHED = {
    "omniglot-prototypical-5w1s": 0.988,
    "omniglot-prototypical-5w5s": 0.997,
    "omniglot-prototypical-20w1s": 0.960,
    "omniglot-prototypical-20w5s": 0.989,
    "omniglot-maml-5w1s": 0.987,
    "omniglot-maml-5w1s-inductive": None,
    "omniglot-anil-20w1s": 0.962,
    "omniglot-maml-plus-plus-5w1s": 0.9947,
    "omniglot-meta-sgd-5w1s": 0.9953,
    "omniglot-reptile-5w1s": 0.9768,
    "sinusoid-maml-5shot": 0.67,
    "omniglot-matching-5w1s": 0.981,
    "omniglot-matching-5w5s": 0.989,
    "omniglot-matching-20w1s": 0.938,
    "omniglot-matching-20w5s": 0.985,
    "omniglot-relation-5w1s": 0.996,
    "omniglot-relation-5w1s-transductive": 0.996,
    "omniglot-relation-5w5s": 0.998,
    "omniglot-relation-20w1s": 0.976,
    "fewrel-cnn-5w1s": 0.692,
    "fewrel-cnn-5w5s": 0.8479,
    **{f"fewrel-cnn-pubmed-{way}w{shot}s": None for way in (5, 10) for shot in (1, 5)},
    "tox21-siamese-10shot": 0.804,
    "tox21-siamese-1shot": 0.65,
    "tox21-prototypical-10shot": 0.7498,
    "tox21-prototypical-1shot": 0.6558,
    "tox21-maml-10shot": 0.8021,
    "tox21-maml-1shot": 0.7574,
    "sider-siamese-10shot": 0.711,
    "sider-siamese-1shot": 0.5143,
    "sider-prototypical-10shot": 0.6454,
    "sider-prototypical-1shot": 0.575,
    "sider-maml-10shot": 0.7043,
    "sider-maml-1shot": 0.6781,
    **{f"{data}-ridge-{shots}shot": None for data in ("tox21", "sider") for shots in (1, 10)},
    **{
        f"fsmol-{name}-{size}": value
        for name in ("ridge", "prototypical")
        for size, value in ((16, 0.211), (64, 0.276))
    },
    **{f"omniglot-r2d2-{way}w{shot}s": None for way in (5, 20) for shot in (1, 5)},
    "sinusoid-fomaml-5shot": None,
    "sinusoid-meta-sgd-5shot": None,
    "sinusoid-cavia-10shot": None,
    "sinusoid-reptile-10shot": None,
    "omniglot-mann-5w1s": 0.828,
    "omniglot-snail-5w1s": 0.9907,
    "omniglot-lstm-meta-learner-5w1s": None,
    "sinusoid-platipus-5shot": None,
    "sinusoid-bayesian-maml-5shot": None,
    "omniglot-metagan-5w1s": None,
    "faces-prototypical-20w5s": None,
    **{f"mini-imagenet-resnet-{name}-{shots}shot": None for name in ("simpleshot", "ridge") for shots in (1, 5)},
    "mini-imagenet-prototypical-1shot": 0.4942,
    "mini-imagenet-prototypical-5shot": 0.6820,
    "mini-imagenet-ridge-1shot": None,
    "mini-imagenet-ridge-5shot": None,
    "mini-imagenet-simpleshot-1shot": None,
    "mini-imagenet-simpleshot-5shot": None,
    "mini-imagenet-maml-1shot": 0.4870,
    "mini-imagenet-maml-5shot": 0.6311,
}
"""As the papers print them, in their tables of Omniglot; MAML's sinusoid: appendix C."""

TOML = """
title = "A small test"
metric = "accuracy"

[learner]
name = "prototypical"

[encoder]
name = "mlp"
shape = [1, 8, 8]
hidden = [16]
normalization = "running"

[data]
name = "digits"

[train]
ways = 5
shots = 1
queries = 3
steps = 6

[evaluation]
ways = 5
shots = 1
queries = 5
tasks = 20

[published]
value = 0.5
source = "Nobody 2020, table 0"
"""

BATCH_NORM = """
title = "MAML with batch statistics"
metric = "accuracy"

[learner]
name = "maml"
outputs = 5

[encoder]
name = "mlp"
shape = [1, 8, 8]
hidden = [16]
normalization = "batch"

[data]
name = "digits"

[train]
ways = 5
shots = 1
queries = 3
steps = 3

[evaluation]
ways = 5
tasks = 20
"""


@pytest.fixture
def recipe_of(tmp_path: Path) -> Callable[[str, str], Recipe]:
    def make(content: str, name: str = "small") -> Recipe:
        path = tmp_path / f"{name}.toml"
        path.write_text(content)
        return load_recipe(str(path))

    return make


Make = Callable[..., Recipe]


def reproduced(recipe: Recipe, folder: Path, **options: Any) -> tuple[list[Event], Outcome | None]:
    made = list(reproduce(recipe, results=folder / "results", runs=folder / "runs", **options))
    events = [item for item in made if isinstance(item, Event)]
    outcomes = [item for item in made if isinstance(item, Outcome)]
    assert made == [*events, *outcomes]
    assert len(outcomes) <= 1
    return events, outcomes[0] if outcomes else None


def result_of(folder: Path, name: str = "small") -> dict[str, Any]:
    table: dict[str, Any] = json.loads((folder / "results" / f"{name}.json").read_text())
    return table


def test_every_recipe_has_its_published_figure() -> None:
    assert set(recipe_names()) == set(PUBLISHED)
    for name, value in PUBLISHED.items():
        published = load_recipe(name).published
        assert (None if published is None else published.value) == value, name


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_what_it_trains(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    learner = build(recipe.spec)
    make_optimizer(recipe.spec, learner)
    make_schedule(recipe.spec)
    shape = recipe.spec.encoder.options["shape"]
    learner.eval()
    with torch.no_grad():
        if recipe.metric == "mse":
            assert recipe.spec.train.draw_from(load_data(recipe.spec))[0].support.x.shape == (25, 10, *shape)  # type: ignore[union-attr]
        elif recipe.metric in ("auc", "delta_auprc"):
            size = name.rpartition("-")[2].removesuffix("shot")
            assert (recipe.evaluation.ways, recipe.evaluation.shots, recipe.evaluation.queries) == (
                None,
                int(size),
                "all",
            )
        else:
            numbers = re.fullmatch(r".*-(?:(\d+)w)?(\d+)s(?:hot|-inductive|-transductive)?", name)
            assert numbers is not None
            assert (recipe.evaluation.ways, recipe.evaluation.shots) == (int(numbers[1] or 5), int(numbers[2]))
    if recipe.published is not None:
        assert re.search("arXiv:|NeurIPS", recipe.published.source)


def test_the_sinusoid_learns_from_five_points() -> None:
    recipe = load_recipe("sinusoid-maml-5shot")
    assert (recipe.metric, recipe.evaluation.shots) == ("mse", 5)


def test_figures_of_one_model_share_its_training() -> None:
    digests = {name: load_recipe(name).spec.digest for name in recipe_names()}
    for bases in (
        ("omniglot-prototypical",),
        ("mini-imagenet-prototypical", "mini-imagenet-ridge", "mini-imagenet-simpleshot"),
    ):
        assert len({digest for name, digest in digests.items() if name.startswith(bases)}) == 1
    assert len({digest for name, digest in digests.items() if "matching" in name}) == 1
    assert len({digest for name, digest in digests.items() if name.startswith("omniglot-maml-5w1s")}) == 1


def test_the_inductive_recipe_differs_in_its_evaluation_only() -> None:
    batch, support = load_recipe("omniglot-maml-5w1s"), load_recipe("omniglot-maml-5w1s-inductive")
    assert support.spec == batch.spec
    assert support.evaluation.encoder == {"normalization": "support"}
    assert support.evaluation.model_copy(update={"encoder": {}}) == batch.evaluation


def test_running_statistics_are_left_out_where_those_of_the_batch_are_taken() -> None:
    recipe = load_recipe("omniglot-relation-5w1s-transductive")
    assert recipe.spec == load_recipe("omniglot-relation-5w1s").spec
    trained = build(recipe.spec)
    assert list(trained.buffers())
    assert not trained.transductive
    learner = retuned(Checkpoint(recipe.spec, trained, 0), recipe.evaluation)
    assert not list(learner.buffers())
    assert learner.transductive
    for mine, before in zip(learner.parameters(), trained.parameters(), strict=True):
        assert torch.equal(mine, before)


def test_another_learner_takes_the_trained_encoder(recipe_of: Make, tmp_path: Path) -> None:
    plain, other = recipe_of(TOML), recipe_of(TOML + '[evaluation.learner]\nname = "frozen"\nhead = "ridge"\n', "ridge")
    reproduced(plain, tmp_path)
    reproduced(other, tmp_path)
    one, two = result_of(tmp_path), result_of(tmp_path, "ridge")
    assert one["spec"] == two["spec"]
    assert one["runs"][0]["commits"] == two["runs"][0]["commits"]
    assert one["runs"][0]["record"] != two["runs"][0]["record"]
    ((_, folder),) = training_runs(other, tmp_path / "runs", 1)
    checkpoint = load_checkpoint(folder / "last")
    learner = retuned(checkpoint, other.evaluation)
    assert type(learner).__name__ == "Frozen"
    for mine, trained in zip(learner.parameters(), checkpoint.learner.parameters(), strict=True):
        assert torch.equal(mine, trained)


def test_recipes_are_tested_on_classes_they_were_not_trained_on() -> None:
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.evaluation.split == "test"
        assert "test" not in recipe.spec.train.split
        assert recipe.spec.validation is None or recipe.spec.validation.split == "val"


def test_a_result_says_everything(recipe_of: Make, tmp_path: Path) -> None:
    recipe = recipe_of(TOML)
    events, outcome = reproduced(recipe, tmp_path)
    assert [event.step for event in events] == [1, 2, 3, 4, 5, 6]
    assert outcome is not None
    table = result_of(tmp_path)
    assert table == json.loads(json.dumps(outcome.table))
    assert set(table) == {
        "name", "title", "metric", "value", "ci95", "interval_over", "tasks", "transductive", "published", "command",
        "commit", "evaluation_commit", "train_seconds", "date", "runs", "spec", "evaluation", "data", "versions",
        "machine",
    }  # fmt: skip
    assert (table["name"], table["title"], table["metric"]) == ("small", "A small test", "accuracy")
    assert (table["tasks"], table["transductive"], table["interval_over"]) == (20, False, "tasks")
    assert table["published"] == {"value": 0.5, "ci95": None, "source": "Nobody 2020, table 0"}
    assert table["command"] == f"handful reproduce {recipe.given}"
    assert table["train_seconds"] >= 0
    assert table["spec"] == recipe.spec.table()
    data = load_data(recipe.spec)
    assert table["data"] == data.digest
    assert set(table["machine"]) == {"processor", "cores", "threads", "system"}
    assert table["versions"]["torch"] == torch.__version__

    ((_, folder),) = training_runs(recipe, tmp_path / "runs", 1)
    trained = load_checkpoint(folder / "last")
    again = evaluate(trained.learner, recipe.evaluation.draw_from(data), tasks=20)
    assert (table["value"], table["ci95"]) == tuple(again.mean)
    (note,) = table["runs"]
    assert (note["seed"], note["step"], note["record"]) == (0, 6, again.record)
    assert np.array_equal(np.load(folder / "small.npy", allow_pickle=False), again.values)


def test_the_command_of_a_figure_names_what_it_takes(recipe_of: Make, tmp_path: Path) -> None:
    recipe = recipe_of(TOML)
    torch.set_num_threads(2)
    try:
        _, outcome = reproduced(recipe, tmp_path, seeds=2)
    finally:
        torch.set_num_threads(1)
    assert outcome is not None
    assert outcome.table["command"] == f"handful reproduce {recipe.given} --seeds 2 --threads 2"


def test_the_commit_is_that_of_the_training(recipe_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(TOML)
    left = iter(range(3))
    monkeypatch.setattr(run, "commit", lambda: "one")
    reproduced(recipe, tmp_path, stop=lambda: next(left) == 2)
    monkeypatch.setattr(run, "commit", lambda: "two")
    reproduced(recipe, tmp_path)
    monkeypatch.setattr(run, "commit", lambda: "three")
    monkeypatch.setattr("handful.reproduce.commit", lambda: "three")
    reproduced(recipe, tmp_path)
    table = result_of(tmp_path)
    assert (table["commit"], table["evaluation_commit"]) == ("two", "three")
    assert table["runs"][0]["commits"] == ["one", "two"]


def test_a_finished_run_is_taken_as_it_is(recipe_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(TOML)
    _, first = reproduced(recipe, tmp_path)
    monkeypatch.setattr(run, "train", lambda *arguments, **options: pytest.fail("trained again"))
    events, second = reproduced(recipe, tmp_path)
    assert [event.stopped for event in events] == ["finished"]
    assert first is not None
    assert second is not None
    timed = ("evaluation_seconds",)
    one, two = (
        [{k: v for k, v in note.items() if k not in timed} for note in o.table["runs"]] for o in (first, second)
    )
    assert one == two
    assert first.table["value"] == second.table["value"]


def test_several_seeds_give_an_interval_over_runs(recipe_of: Make, tmp_path: Path) -> None:
    recipe = recipe_of(TOML)
    events, outcome = reproduced(recipe, tmp_path, seeds=2)
    assert [event.step for event in events] == [1, 2, 3, 4, 5, 6] * 2
    assert outcome is not None
    table = result_of(tmp_path)
    a, b = (note["value"] for note in table["runs"])
    assert a != b
    assert [note["seed"] for note in table["runs"]] == [0, 1]
    assert len({note["weights"] for note in table["runs"]}) == 2
    assert table["value"] == pytest.approx((a + b) / 2)
    assert table["ci95"] == pytest.approx(12.7062047 * abs(a - b) / 2)  # Student's t with one degree of freedom
    assert table["interval_over"] == "training runs"
    assert outcome.evaluations[0].tasks_digest == outcome.evaluations[1].tasks_digest
    assert table["command"].endswith("--seeds 2")
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_an_interrupted_reproduction_goes_on(recipe_of: Make, tmp_path: Path) -> None:
    recipe = recipe_of(TOML)
    _, whole = reproduced(recipe, tmp_path / "whole", seeds=2)
    left = iter(range(9))
    events, nothing = reproduced(recipe, tmp_path, seeds=2, stop=lambda: next(left) == 7)  # 5 + 3: in the second run
    assert nothing is None
    assert events[-1].stopped == "interrupted"
    assert not (tmp_path / "results" / "small.json").exists()
    events, outcome = reproduced(recipe, tmp_path, seeds=2)
    assert [event.step for event in events] == [6, 4, 5, 6]
    assert whole is not None
    assert outcome is not None
    assert outcome.table["value"] == whole.table["value"]
    assert [n["weights"] for n in outcome.table["runs"]] == [n["weights"] for n in whole.table["runs"]]


def test_a_run_killed_between_two_renames_goes_on(recipe_of: Make, tmp_path: Path) -> None:
    recipe = recipe_of(TOML)
    left = iter(range(3))
    reproduced(recipe, tmp_path, stop=lambda: next(left) == 2)
    ((_, folder),) = training_runs(recipe, tmp_path / "runs", 1)
    (folder / "last").rename(folder / ".last.old")
    events, outcome = reproduced(recipe, tmp_path)
    assert [event.step for event in events] == [4, 5, 6]
    assert outcome is not None


def test_the_best_checkpoint_is_evaluated_where_there_is_validation(recipe_of: Make, tmp_path: Path) -> None:
    validation = "[validation]\nways = 5\nevery = 1\ntasks = 4\nqueries = 5\n"
    recipe = recipe_of(TOML.replace("[evaluation]", validation + "[evaluation]"))
    _, outcome = reproduced(recipe, tmp_path)
    assert outcome is not None
    ((spec, folder),) = training_runs(recipe, tmp_path / "runs", 1)
    best = load_checkpoint(folder / "best")
    assert outcome.table["runs"][0]["step"] == best.step
    again = evaluate(best.learner, recipe.evaluation.draw_from(load_data(spec)), tasks=20)
    assert outcome.table["runs"][0]["record"] == again.record


def test_evaluation_options_are_applied_to_the_trained_weights(recipe_of: Make, tmp_path: Path) -> None:
    batch = recipe_of(BATCH_NORM, "shared")
    option = '[evaluation.encoder]\nnormalization = "support"\n'
    support = recipe_of(BATCH_NORM + option, "alone")
    _, one = reproduced(batch, tmp_path)
    events, two = reproduced(support, tmp_path)
    assert [event.step for event in events] == [3]  # the same training run
    assert one is not None
    assert two is not None
    assert one.table["transductive"] is True
    assert two.table["transductive"] is False
    assert one.table["runs"][0]["weights"] == two.table["runs"][0]["weights"]
    assert one.table["runs"][0]["record"] != two.table["runs"][0]["record"]
    assert result_of(tmp_path, "alone")["evaluation"]["encoder"] == {"normalization": "support"}
    assert result_of(tmp_path, "alone")["published"] is None


def test_learner_options_of_an_evaluation(recipe_of: Make, tmp_path: Path) -> None:
    plain = recipe_of(BATCH_NORM, "one")
    more = recipe_of(BATCH_NORM + "[evaluation.learner]\nevaluation_steps = 5\n", "five")
    _, one = reproduced(plain, tmp_path)
    _, five = reproduced(more, tmp_path)
    assert one is not None
    assert five is not None
    assert one.table["runs"][0]["weights"] == five.table["runs"][0]["weights"]
    assert one.table["runs"][0]["record"] != five.table["runs"][0]["record"]


def test_options_that_do_not_fit_the_weights(recipe_of: Make, tmp_path: Path) -> None:
    recipe = recipe_of(TOML + "[evaluation.encoder]\nhidden = [17]\n")
    with pytest.raises(SpecError, match="evaluation: its options do not fit the trained weights"):
        reproduced(recipe, tmp_path)
    recipe = recipe_of(TOML + "[evaluation.encoder]\nhiden = [17]\n")
    with pytest.raises(SpecError, match="unknown key 'hiden'"):
        reproduced(recipe, tmp_path)


def test_a_ledger_that_cannot_be_written_is_known_before_the_training(recipe_of: Make, tmp_path: Path) -> None:
    recipe = recipe_of(TOML)
    (tmp_path / "results").write_text("a file")
    with pytest.raises(StorageError, match="results"):
        reproduced(recipe, tmp_path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ways = 5", "wais = 5", "recipe small: spec: unknown key 'train.wais'; did you mean 'train.ways'?"),
        (
            'metric = "accuracy"',
            'metric = "f1"',
            "recipe small: metric: input should be 'accuracy', 'mse', 'auc' or 'delta_auprc', got 'f1'",
        ),
        ('title = "A small test"', "", "recipe small: missing key 'title'"),
        ("[evaluation]", "[validation]", "recipe small: missing key 'evaluation'"),
        ("tasks = 20", "taks = 20", "recipe small: unknown key 'evaluation.taks'; did you mean 'evaluation.tasks'?"),
        ("value = 0.5", "", "recipe small: missing key 'published.value'"),
        ("value = 0.5", "value = nan", "recipe small: published.value: input should be a finite number"),
        ("value = 0.5", "value = true", "recipe small: published.value: input should not be true or false"),
        ("[learner]", "[learner", "small.toml: expected TOML"),
        ('"prototypical"', '"prototypic"', "unknown learner 'prototypic'; did you mean 'prototypical'?"),
    ],
)
def test_mistakes_in_a_recipe(recipe_of: Make, old: str, new: str, said: str) -> None:
    with pytest.raises(HandfulError) as caught:
        recipe_of(TOML.replace(old, new, 1))
    assert said in str(caught.value)


def test_recipes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'omniglot-maml-5w1s'"):
        load_recipe("omniglot-mml-5w1s")
    with pytest.raises(UnknownNameError, match="unknown recipe 'nothing'"):
        recipe_path("nothing")
    with pytest.raises(StorageError, match=r"cannot read .*absent"):
        load_recipe(str(tmp_path / "absent.toml"))
    assert not any(name.startswith("_") for name in recipe_names())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('metric = "accuracy"', 'metric = "mse"', "measured by accuracy"),
        ("queries = 5\n", "queries = 500\n", "500 queries need"),
        ("[published]", "[evaluation.encoder]\nhidden = [3]\n\n[published]", "do not fit the trained weights"),
    ],
)
def test_what_cannot_be_evaluated_is_not_trained(
    recipe_of: Callable[[str, str], Recipe], tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in TOML
    recipe = recipe_of(TOML.replace(old, new), "wrong")
    with pytest.raises(HandfulError, match=said):
        list(reproduce(recipe, results=tmp_path / "results", runs=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["_omniglot-maml", "../recipes/sinusoid-maml-5shot", "nothing"])
def test_only_recipes_are_recipes(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown recipe"):
        load_recipe(name)


def test_a_recipe_cannot_extend_itself(tmp_path: Path) -> None:
    (tmp_path / "_loop.toml").write_text('extends = "loop"\n')
    with pytest.raises(SpecError, match="extends"):
        load_recipe(str(tmp_path / "_loop.toml"))
