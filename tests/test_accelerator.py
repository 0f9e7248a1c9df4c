"""Training, evaluation and what is done with vectors, on an accelerator that is simulated (see `simulated.py`)."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handful import Adaptable
from handful.checkpoint import load_checkpoint
from handful.data import Augmentation, ClassPool, DescribedPool, Episodes
from handful.encoders import Identity
from handful.evaluation import evaluate
from handful.generalized import generalized
from handful.learners import DeViSE
from handful.ops.optimizers import Adam
from handful.run import fit
from handful.spec import Spec, build, load_data
from handful.verification import mean_average_precision, pairs_within_folds
from simulated import ACCELERATOR, simulated

DEVICE = str(ACCELERATOR)
TRAININGS: dict[str, dict[str, Any]] = {
    "prototypical": {"learner": {"name": "prototypical"}},
    "maml": {"learner": {"name": "maml", "outputs": 5, "inner_rate": 0.1}},
    "simpleshot": {"learner": {"name": "simpleshot"}},
    "siamese": {"learner": {"name": "siamese"}},
    "augmented": {"augmentation": {"crop": 1, "flip": True, "color": 0.2, "cutout": 2}},
    "bfloat16": {"precision": "bfloat16"},
    "class_pairs": {"selection": {"name": "class_pairs"}},
    "scheduler": {"selection": {"name": "scheduler"}},
}


def test_the_simulation_refuses_what_an_accelerator_refuses() -> None:
    x, layer = torch.randn(3, 4), torch.nn.Linear(4, 2)
    with simulated():
        there, moved = x.to(ACCELERATOR), layer.to(ACCELERATOR)
        assert moved(there).device == ACCELERATOR
        with pytest.raises(RuntimeError, match=r"found one of shape \(3, 4\) elsewhere"):
            moved(x)
        with pytest.raises(RuntimeError, match=r"found one of shape \(3,\) elsewhere"):
            there.sum(1) + torch.arange(3)
        with pytest.raises((TypeError, RuntimeError, NotImplementedError)):
            there.numpy()
        assert torch.equal((there * 2 + torch.tensor(1.0)).cpu(), x * 2 + 1)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_run_stopped_and_resumed_learns_what_it_learns_on_the_cpu(
    digits_table: Callable[..., dict[str, Any]], tmp_path: Path, name: str
) -> None:
    changes = dict(TRAININGS[name])
    learner = changes.pop("learner", None)
    table = digits_table(steps=6, validation={}, **changes)
    spec = Spec.of(table if learner is None else {**table, "learner": learner})
    events = [list(fit(spec, tmp_path / "here"))[-1]]
    with simulated():
        asked = itertools.count()
        events += [
            list(fit(spec, tmp_path / "there", device=DEVICE, **options))[-1]
            for options in ({"stop": lambda: next(asked) == 2}, {"resume": True})
        ]
    assert [event.stopped for event in events] == ["finished", "interrupted", "finished"]
    here, there = (load_checkpoint(tmp_path / place / "last").learner.state_dict() for place in ("here", "there"))
    close = 0.2 if name == "bfloat16" else 1e-3
    assert all(torch.allclose(value, there[key], atol=close, rtol=close) for key, value in here.items())


@pytest.mark.parametrize("name", ["prototypical", "maml"])
def test_evaluation_gives_the_scores_of_the_cpu(digits_table: Callable[..., dict[str, Any]], name: str) -> None:

    spec = Spec.of({**digits_table(steps=1), **TRAININGS[name]})
    torch.manual_seed(0)
    learner = build(spec)

    episodes = Episodes(load_data(spec).split("test"), ways=5, shots=1, batch=4)
    expected = evaluate(learner, episodes, tasks=12)
    with simulated():
        found = evaluate(learner.to(ACCELERATOR), episodes, tasks=12)
    assert found.values == pytest.approx(expected.values)


def test_vectors_that_are_there() -> None:
    z, y = torch.randn(30, 4), torch.arange(30) % 5
    names = [f"class {number}" for number in range(4)]
    pool = DescribedPool(
        ClassPool.grouped(torch.randn(8, 3), [2] * 4, names), ClassPool.grouped(torch.randn(4, 3), [1] * 4, names)
    )
    learner = DeViSE(Identity(shape=(3,)))
    expected = mean_average_precision(z, y), generalized(learner, pool, names[:2])
    with simulated():
        there = z.to(ACCELERATOR), y.to(ACCELERATOR)
        assert mean_average_precision(*there) == expected[0]
        assert (pairs_within_folds(*there, folds=2).same == pairs_within_folds(z, y, folds=2).same).all()
        assert generalized(learner.to(ACCELERATOR), pool, names[:2]) == expected[1]


def test_augmentation_where_the_pictures_are() -> None:
    x, y = torch.rand(2, 6, 3, 9, 9), torch.tensor([[0, 0, 1, 1, 2, 2]] * 2)
    words = torch.randint(0, 9, (2, 6, 5))
    turns = torch.ones(2, 3, dtype=torch.int64)
    pictures = Augmentation(rotation=True, crop=2, flip=True, color=0.3, cutout=3, mixup=0.4)
    for augmentation, given in ((pictures, x), (Augmentation(word_dropout=0.3), words)):
        expected = augmentation.vary(given, y, turns, np.random.default_rng(0))
        with simulated():
            there = given.to(ACCELERATOR), y.to(ACCELERATOR), turns
            found = augmentation.vary(*there, np.random.default_rng(0))
            assert found.device == ACCELERATOR
            assert torch.allclose(found.cpu(), expected)


def test_an_inner_loop_of_ones_own() -> None:
    model, x, y = torch.nn.Linear(3, 2), torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])

    def slopes(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        own = Adaptable(module, Adam(lr=0.1, amsgrad=True))
        for _ in range(2):
            own = own.adapt(torch.nn.functional.cross_entropy(own(x), y))
        return list(torch.autograd.grad(own(x).square().sum(), list(module.parameters())))

    expected = slopes(model, x, y)
    with simulated():
        found = slopes(model.to(ACCELERATOR), x.to(ACCELERATOR), y.to(ACCELERATOR))
        assert all(torch.allclose(one.cpu(), other, atol=1e-5) for one, other in zip(found, expected, strict=True))
