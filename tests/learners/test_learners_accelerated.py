"""Every learner on an accelerator that is simulated: nothing is made or left on another device."""

import copy
import inspect

import pytest
import torch
from catalog import ALL
from factories import Variant, answers, slopes, tasks

from handful.data import FunctionEpisodes, Sinusoid
from handful.encoders import MLP
from handful.learners import LEARNERS
from simulated import ACCELERATOR, simulated

TRIED = [variant for variant in ALL if "hvp" not in str(variant)]
"""Torch's forward mode ends the process where tensors are not its own."""


@pytest.mark.parametrize("variant", TRIED, ids=str)
def test_answers_loss_and_gradients_are_those_of_the_cpu(variant: Variant) -> None:
    here, episode = variant.make(), tasks()
    there = copy.deepcopy(here)
    expected = answers(here, episode), *slopes(here.loss(episode), here)
    with simulated():
        there.to(ACCELERATOR)
        episode = episode.to(ACCELERATOR)
        found = answers(there, episode), *slopes(there.loss(episode), there)
        assert {one.device for one in found} == {ACCELERATOR}
        found = tuple(one.cpu() for one in found)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-9)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", [name for name, cls in LEARNERS.items() if cls.regression])
def test_regressions_too(name: str) -> None:
    takes = inspect.signature(LEARNERS[name]).parameters
    options = {key: value for key, value in {"outputs": 1, "inner_rate": 0.01}.items() if key in takes}
    torch.manual_seed(0)
    here = LEARNERS[name](MLP(shape=(1,), hidden=(8,)), **options).double()
    there, episode = copy.deepcopy(here), FunctionEpisodes(Sinusoid(), shots=5, queries=4, batch=2)[0]
    expected = here.loss(episode)
    with simulated():
        found = there.to(ACCELERATOR).loss(episode.to(ACCELERATOR))
        found.backward()
        assert found.device == ACCELERATOR
        assert torch.allclose(found.cpu(), expected)
