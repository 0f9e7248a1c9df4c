from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handful.checkpoint import load_checkpoint
from handful.data import Episodes
from handful.data.pool import ClassPool
from handful.encoders import Identity
from handful.errors import HandfulError, SpecError
from handful.learner import Learner
from handful.learners import PrototypicalNetwork
from handful.run import fit
from handful.selection import SELECTIONS, ClassPairs, Curriculum, Selection, TaskScheduler
from handful.spec import Spec, build, load_data, make_selection

Make = Callable[..., dict[str, Any]]
EVERY = pytest.mark.parametrize("name", SELECTIONS)
OPTIONS: dict[str, dict[str, Any]] = {"curriculum": {"goal": 0.4}}


@pytest.fixture
def learner(digits_table: Make) -> Learner:
    return build(Spec.of(digits_table()))


def made(name: str, learner: Learner, digits_table: Make, **options: Any) -> Selection:
    table = digits_table(selection={"name": name, **OPTIONS.get(name, {}), **options})
    spec = Spec.of(table)
    selection = make_selection(spec, load_data(spec), learner)
    assert selection is not None
    return selection


@EVERY
def test_a_step_is_a_function_of_state(name: str, learner: Learner, digits_table: Make) -> None:
    one, two = (made(name, learner, digits_table) for _ in range(2))
    before = copy.deepcopy(learner.state_dict())
    learner.train()
    for t in range(5):
        assert torch.equal(one[t].support.y, two[t].support.y)
        assert torch.equal(one[t].support.x, two[t].support.x)
        kept = {key: leaf.clone() for key, leaf in one.state().items()}
        one[t + 7], one[t]
        assert all(torch.equal(leaf, one.state()[key]) for key, leaf in kept.items())
        random = torch.get_rng_state()
        one.learned(t)
        two.learned(t)
        assert torch.equal(torch.get_rng_state(), random)
    assert learner.training
    assert all(torch.equal(leaf, learner.state_dict()[key]) for key, leaf in before.items())
    assert all(p.grad is None for p in learner.parameters())


@EVERY
def test_a_stopped_run_goes_on_as_if_it_had_not(name: str, digits_table: Make, tmp_path: Path) -> None:
    table = digits_table(steps=10, selection={"name": name, **OPTIONS.get(name, {})})
    spec = Spec.of(table)
    list(fit(spec, tmp_path / "whole"))
    for event in fit(spec, tmp_path / "parts", stop=lambda: True):
        assert event.stopped == "interrupted"
    asked = iter([False, False, True])
    list(fit(spec, tmp_path / "parts", resume=True, stop=lambda: next(asked)))
    list(fit(spec, tmp_path / "parts", resume=True))
    whole, parts = (load_checkpoint(tmp_path / run / "last") for run in ("whole", "parts"))
    assert whole.step == parts.step == 10
    others = parts.learner.state_dict()
    assert all(torch.equal(leaf, others[key]) for key, leaf in whole.learner.state_dict().items())
    assert whole.selection is not None
    assert parts.selection is not None
    assert all(torch.equal(leaf, parts.selection[key]) for key, leaf in whole.selection.items())


@EVERY
def test_papers_are_named(name: str) -> None:
    assert "arXiv" in SELECTIONS[name].paper or "doi" in SELECTIONS[name].paper


# Class pairs


def pairs_pool() -> ClassPool:
    """Eight classes in pairs that look nearly the same: 0 and 1, 2 and 3, ..."""
    random = torch.Generator().manual_seed(0)
    centers = 10 * torch.randn(4, 4, generator=random).repeat_interleave(2, 0)
    x = centers.repeat_interleave(10, 0) + torch.randn(80, 4, generator=random)
    return ClassPool.from_labels(x, [index // 10 for index in range(80)])


def pairs(**options: Any) -> ClassPairs:
    episodes = Episodes(pairs_pool(), ways=3, shots=1, queries=2, batch=4)
    return ClassPairs(episodes, None, PrototypicalNetwork(Identity(shape=(4,))), **options)


def alike(classes: torch.Tensor) -> float:
    """Share of tasks with two classes that look the same."""
    return float(np.mean([any(a // 2 == b // 2 for a, b in combinations(task, 2)) for task in classes.tolist()]))


def test_confused_classes_meet_more_often() -> None:
    selection = pairs(memory=0.9, eagerness=3.0)
    before = alike(torch.cat([selection.draw(t).classes for t in range(200)]))
    for t in range(60):
        selection[t]
        selection.learned(t)
    after = alike(torch.cat([selection.draw(t).classes for t in range(200)]))
    assert before < 0.55  # 3 of 7 by chance
    assert after > before + 0.2
    potentials = selection.potentials
    assert np.array_equal(potentials, potentials.T)
    assert bool((potentials.diagonal() == -np.inf).all()), "no class meets itself"
    assert all(len(set(task)) == 3 for task in selection.draw(0).classes.tolist())


def test_potentials_follow_the_equation() -> None:
    selection = pairs(memory=0.5, eagerness=2.0)
    selection.episodes = Episodes(pairs_pool(), ways=3, shots=1, queries=2, batch=1)
    selection.restore({"pairs": torch.triu_indices(8, 8, 1), "log_potentials": torch.full((28,), np.log(4.0))})
    selection[0]
    draw = selection.draw(0)
    answers, classes = selection.answers(draw)[0], draw.classes[0].tolist()
    selection.learned(0)
    for (i, a), (j, b) in combinations(enumerate(classes), 2):
        given = answers[draw.query_y[0] == i][:, j].mean() + answers[draw.query_y[0] == j][:, i].mean()
        expected = 4**0.5 * np.exp(2.0 * float(given) / 2)
        assert np.exp(selection.potentials[a, b]) == pytest.approx(expected, rel=1e-5)
    apart = [c for c in range(8) if c not in classes]
    assert np.exp(selection.potentials[apart[0], apart[1]]) == pytest.approx(4.0)
    assert np.exp(selection.totals) == pytest.approx(np.exp(selection.potentials).sum(1), rel=1e-6)


def test_classes_are_drawn_by_their_potentials() -> None:
    """The first two by C(i, j) over all pairs, the third by its product with both."""
    selection = pairs()
    selection.episodes = Episodes(pairs_pool(), ways=3, shots=1, queries=2, batch=8000)
    c = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).triu(1)
    rows, columns = np.triu_indices(8, 1)
    kept = c[rows, columns]
    selection.restore({"pairs": torch.from_numpy(np.stack([rows, columns])), "log_potentials": kept.log()})
    c = (c + c.T).double()
    first = c.sum(1) / c.sum()
    second = c / c.sum(1, keepdim=True)  # [8, 8]
    third = c.unsqueeze(1) * c.unsqueeze(0)  # [8, 8, 8]
    third = third / third.sum(2, keepdim=True)
    chance = (first[:, None, None] * second[:, :, None] * third).numpy()
    together = [sum(chance[order] for order in permutations(three)) for three in combinations(range(8), 3)]
    sets = [tuple(sorted(task)) for task in selection.draw(0).classes.tolist()]
    drawn = [sets.count(three) / len(sets) for three in combinations(range(8), 3)]
    assert drawn == pytest.approx(together, abs=0.012)


def test_what_is_never_forgotten_does_not_overflow() -> None:
    selection = pairs(memory=1.0, eagerness=3.0)
    for t in range(300):
        selection[t]
        selection.learned(t)
    assert selection.potentials.max() > np.log(np.finfo(np.float64).max), "C itself has no number"
    assert all(len(set(task)) == 3 for task in selection.draw(300).classes.tolist())


def test_restoring_begins_at_the_start() -> None:
    selection = pairs()
    start = {name: leaf.clone() for name, leaf in selection.state().items()}
    potentials, totals = selection.potentials.copy(), selection.totals.copy()
    for t in range(5):
        selection[t]
        selection.learned(t)
    selection.restore(start)
    assert np.array_equal(selection.potentials, potentials)
    assert selection.totals == pytest.approx(totals)


def test_a_run_that_kept_the_potentials_themselves_goes_on() -> None:
    one, two = pairs(), pairs()
    for t in range(5):
        one[t]
        one.learned(t)
    state = one.state()
    two.restore({"pairs": state["pairs"], "potentials": state["log_potentials"].exp()})
    assert np.allclose(one.potentials, two.potentials, atol=1e-6)
    assert torch.equal(one.draw(5).classes, two.draw(5).classes)


def test_without_eagerness_classes_are_uniform() -> None:
    selection = pairs(eagerness=0.0)
    for t in range(20):
        selection[t]
        selection.learned(t)
    seen = torch.cat([selection.draw(t).classes for t in range(500)])
    shares = torch.bincount(seen.flatten(), minlength=8) / seen.numel()
    assert shares.numpy() == pytest.approx(np.full(8, 1 / 8), abs=0.02)
    assert torch.bincount(seen[:, 0], minlength=8).min() > 150  # labels are in random order


# Scheduler


def test_candidates_are_chosen_without_putting_back(learner: Learner, digits_table: Make) -> None:
    selection = made("scheduler", learner, digits_table, pool=3)
    assert isinstance(selection, TaskScheduler)
    rows = torch.cat([selection.episodes.draw(part).support for part in range(3)]).tolist()
    chosen = selection.draw(0).support.tolist()
    assert len(chosen) == 2
    assert all(task in rows for task in chosen)
    assert chosen[0] != chosen[1]


def test_what_was_rewarded_becomes_more_probable(learner: Learner, digits_table: Make) -> None:
    selection = made("scheduler", learner, digits_table, pool=3, rate=0.5)
    assert isinstance(selection, TaskScheduler)

    def chance() -> float:
        scores = selection._scores()[selection._order].detach()
        left = [scores[place:].logsumexp(0) for place in range(2)]
        return float(scores[0] - left[0] + scores[1] - left[1])

    for reward, sign in ((1.0, 1), (-1.0, -1)):
        selection[0]
        before = chance()
        selection._before = selection._judged(0) + reward
        selection.baseline = torch.zeros(())
        selection.learned(0)
        assert sign * (chance() - before) > 0


def test_a_state_is_of_its_moment(learner: Learner, digits_table: Make) -> None:
    selection = made("scheduler", learner, digits_table)
    state = selection.state()
    before = {name: leaf.clone() for name, leaf in state.items()}
    selection[0]
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    selection.learned(0)
    assert not all(torch.equal(leaf, before[name]) for name, leaf in selection.state().items())
    assert all(torch.equal(leaf, before[name]) for name, leaf in state.items())


# Curriculum


def test_ways_rise_with_accuracy(vectors: ClassPool) -> None:
    learner = PrototypicalNetwork(Identity(shape=(4,)))
    episodes = Episodes(vectors.split("train"), ways=4, shots=3, queries=3, batch=4)
    selection = Curriculum(episodes, None, learner, least=2, goal=0.5)
    ways = []
    for t in range(60):
        ways.append(selection[t].support.ways)
        selection.learned(t)
    assert ways[0] == 2
    assert ways[-1] == 4
    assert sorted(ways) == ways
    assert ways.count(2) >= 6  # smoothed from 0


@pytest.mark.parametrize(
    ("selection", "changes", "said"),
    [
        ({"name": "class_pair"}, {}, "did you mean 'class_pairs'"),
        ({"name": "class_pairs", "memory": 2}, {}, "expected memory from 0 to 1"),
        ({"name": "class_pairs"}, {"families": True, "ways": 2}, "expected families = false"),
        ({"name": "scheduler", "pool": 1}, {}, "a pool of at least 2 batches"),
        ({"name": "scheduler"}, {"ways": [2, 5]}, "one number of ways"),
        ({"name": "curriculum", "least": 9}, {}, "least from 2 to 5 ways"),
        ({"name": "curriculum", "goals": 0.5}, {}, "did you mean 'goal'"),
        ({"name": "curriculum"}, {"accumulate": 2}, "accumulate > 1"),
    ],
)
def test_mistakes(
    selection: dict[str, Any], changes: dict[str, Any], said: str, learner: Learner, digits_table: Make
) -> None:
    def selected() -> None:
        spec = Spec.of(digits_table(selection=selection, **changes))
        make_selection(spec, load_data(spec), learner)

    with pytest.raises(HandfulError, match=said):
        selected()


def test_a_fixed_head_has_no_curriculum(digits_table: Make) -> None:
    table = digits_table(selection={"name": "curriculum"})
    table["learner"] = {"name": "maml", "outputs": 5}
    spec = Spec.of(table)
    with pytest.raises(SpecError, match="answers one number of ways only"):
        make_selection(spec, load_data(spec), build(spec))


def test_functions_are_not_selected() -> None:
    table = {
        "learner": {"name": "maml", "outputs": 1},
        "encoder": {"name": "mlp", "shape": [1], "hidden": [8]},
        "data": {"name": "sinusoid"},
        "train": {"steps": 3, "selection": {"name": "class_pairs"}},
    }
    spec = Spec.of(json.loads(json.dumps(table)))
    with pytest.raises(SpecError, match="chooses among classes"):
        make_selection(spec, load_data(spec), build(spec))
