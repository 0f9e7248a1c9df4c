from __future__ import annotations

from collections.abc import Callable

import pytest

from handful.comparison import plan_names, plan_path
from handful.comparison.plan import Plan, load_plan
from handful.errors import HandfulError, SpecError, UnknownNameError
from handful.learners import LEARNERS
from handful.spec import build

ENTRIES = [(name, key) for name in plan_names() for key in load_plan(name).entries]
OUTSIDE = {"zero_shot"}
"""Kinds of learners that need other data than these plans have."""


@pytest.mark.parametrize(("name", "key"), ENTRIES)
def test_every_entry_can_be_made(name: str, key: str) -> None:
    plan = load_plan(name)
    assert plan.absent == []
    learner = build(plan.spec(key, 60))
    assert plan.tests_of(key, learner)


def test_every_learner_has_an_entry() -> None:
    compared = {entry.learner.name for name in plan_names() for entry in load_plan(name).entries.values()}
    assert {name for name, cls in LEARNERS.items() if cls.kind not in OUTSIDE} <= compared


def test_the_plans_are_what_they_say() -> None:
    assert plan_names() == ["omniglot", "selection", "sinusoid"]
    omniglot = load_plan("omniglot")
    assert [(t.ways, t.shots, t.tasks) for t in omniglot.tests.values() if t.who == "every"] == [
        *((5, 1, 1000), (5, 5, 1000), (20, 1, 1000), (20, 5, 1000))
    ]
    assert [t.label_noise for t in omniglot.tests.values() if t.who == "embedding"] == [0.2, 0.4]
    together = [t for t in omniglot.tests.values() if t.who == "transductive"]
    assert [(t.shots, t.query_balance) for t in together] == [(1, None), (5, None), (1, 2), (5, 2)]
    assert {t.queries for t in together} == {5}, "a class of 20 leaves something to vary"
    assert (omniglot.train["ways"], omniglot.train["shots"]) == (5, 1)
    assert load_plan("sinusoid").metric == "mse"
    for plan in map(load_plan, plan_names()):
        for key, entry in plan.entries.items():
            if entry.published and plan.metric == "accuracy":
                assert all(0.5 < value < 1 for value in entry.published.values()), key


def test_a_spec_is_what_all_share_and_the_entry(plan: Plan) -> None:
    spec = plan.spec("maml", 90)
    assert spec.learner.options == {"outputs": 3}
    assert spec.encoder.options == {"shape": [1, 8, 8], "hidden": [8], "normalization": "batch"}
    assert (spec.train.seconds, spec.train.steps, spec.train.ways) == (90, None, 3)
    assert plan.spec("pixels", 90).encoder.model_dump() == {"name": "identity", "shape": [1, 8, 8]}


def test_who_takes_which_test(plan: Plan) -> None:
    def taken(key: str) -> list[str]:
        return list(plan.tests_of(key, build(plan.spec(key, 1))))

    assert taken("prototypical") == ["3-way", "5-way", "3-way, noisy", "3-way, unbalanced"]
    assert taken("pixels") == ["3-way", "5-way", "3-way, noisy"]
    assert taken("maml") == ["3-way", "3-way, unbalanced"]
    assert taken("diverging") == ["3-way"]


def test_what_is_needed_comes_with_it(plan: Plan) -> None:
    assert plan.needed(["again"]) == ["prototypical", "again"]
    assert plan.needed() == ["prototypical", "pixels", "again", "maml", "diverging"]
    assert plan.absent == ["absent"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('control = "prototypical"', 'control = "again"'), "control: expected the name of an entry that is trained"),
        (('weights = "prototypical"', 'weights = "pixels"'), "again: expected the name of an entry that is trained"),
        (('source = "Nobody 2020, table 0"', ""), "published figures of its tests, with their source"),
        (('published = { "3-way" = 0.5 }', 'published = { "9-way" = 0.5 }'), "published figures of its tests"),
        (("untrained = true", "untraned = true"), "did you mean"),
    ],
)
def test_mistakes(plan_of: Callable[..., Plan], change: tuple[str, str], said: str) -> None:
    with pytest.raises(HandfulError, match=said):
        plan_of(change)


def test_an_entry_that_cannot_be_built_is_named(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(("outputs = 3 }\nencoder", "output = 3 }\nencoder"))
    with pytest.raises(HandfulError, match="output"):
        plan.spec("maml", 1)
    with pytest.raises(SpecError, match="comparison small, diverging"):
        plan_of(("inner_steps = 5", 'inner_steps = "five"')).spec("diverging", 1)


def test_unknown_plans_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'omniglot'"):
        plan_path("omnigot")
