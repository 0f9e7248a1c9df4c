"""What learners that hear sequences share: causality, errors, regression, and that they learn."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from handful.data import FunctionEpisodes, Sinusoid
from handful.encoders import MLP, Identity
from handful.episode import Episode, Query, Support
from handful.errors import DataError, ShapeError
from handful.learner import Learner
from handful.learners import MANN, SNAIL, ConditionalNeuralProcess, MetaLSTM
from handful.sequence_learner import SequenceLearner

Make = Callable[..., SequenceLearner]


def mann(encoder: nn.Module, **options: int) -> MANN:
    return MANN(encoder, **{"hidden": 24, "slots": 8, "width": 8, "heads": 2, **options})  # type: ignore[arg-type]


def snail(encoder: nn.Module, **options: int) -> SNAIL:
    return SNAIL(encoder, length=4, filters=8, keys=[8, 8], values=[8, 8], **options)  # type: ignore[arg-type]


def meta_lstm(form: str) -> Make:
    def make(encoder: nn.Module, **options: int) -> MetaLSTM:
        return MetaLSTM(encoder, form=form, hidden=24, meta_hidden=12, rank=4, **options)  # type: ignore[arg-type]

    return make


MAKERS: dict[str, Make] = {"mann": mann, "snail": snail}
MAKERS |= {form: meta_lstm(form) for form in ("update", "hyper", "optimizer", "none")}
EVERY = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def coins(seed: int, batch: int) -> Episode:
    """Two sides, noisy; which is called 0 is drawn for each task, and one support of each says so."""
    random = torch.Generator().manual_seed(seed)
    y = torch.stack([torch.randperm(2, generator=random) for _ in range(batch)])
    turned = torch.randint(2, (batch, 1), generator=random)
    qy = torch.randint(2, (batch, 4), generator=random)

    def side(label: Tensor) -> Tensor:
        clean = (2.0 * (label ^ turned) - 1).unsqueeze(-1) * torch.tensor([1.0, -0.5])
        return clean + 0.2 * torch.randn(clean.shape, generator=random)

    return Episode(Support(side(y), y, 2), Query(side(qy), qy))


def process(encoder: nn.Module, **options: int) -> ConditionalNeuralProcess:
    return ConditionalNeuralProcess(encoder, width=16, **options)


@pytest.mark.parametrize("make", [mann, snail, meta_lstm("update"), meta_lstm("hyper"), meta_lstm("none"), process])
def test_it_learns_to_hear_which_label_means_what(make: Callable[..., Learner]) -> None:
    learner = make(Identity(shape=(2,)), outputs=2)
    optimizer = torch.optim.Adam(learner.parameters(), 0.02)
    for step in range(100):
        optimizer.zero_grad()
        learner.loss(coins(step, 32)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    exam = coins(10**6, 200)
    with torch.no_grad():
        answers = learner.predict(learner.adapt(exam.support), exam.query.x).argmax(-1)
    assert float((answers == exam.query.y).float().mean()) > 0.95


@EVERY
def test_regression_hears_targets(make: Make) -> None:
    learner, episode = make(MLP(shape=(1,), hidden=(8,)), outputs=1), FunctionEpisodes(Sinusoid(), batch=3)[0]
    before = learner.predict(learner.adapt(episode.support), episode.query.x)
    assert before.shape == episode.query.y.shape
    louder = Support(episode.support.x, 2 * episode.support.y)
    assert not torch.allclose(learner.predict(learner.adapt(louder), episode.query.x), before)
    learner.loss(episode).backward()  # type: ignore[no-untyped-call]


@EVERY
def test_what_it_cannot_hear_is_refused(make: Make) -> None:
    x, y = torch.randn(2, 2, 2), torch.tensor([[0, 1], [1, 0]])
    learner = make(Identity(shape=(2,)), outputs=2)
    with pytest.raises(DataError, match="expected equal weights"):
        learner.adapt(Support(x, y, 2, torch.tensor([[1.0, 2.0], [1.0, 1.0]])))
    with pytest.raises(ShapeError, match=r"expected targets \[B, S, 2\], got \(2, 2, 1\)"):
        learner.adapt(Support(x, torch.randn(2, 2, 1)))
    with pytest.raises(ShapeError, match="Flatten does not say"):
        make(nn.Flatten(), outputs=2)


@EVERY
def test_the_order_of_supports_and_every_support_count(make: Make) -> None:
    """Each label reaches the answers, the last one too."""
    learner, episode = make(Identity(shape=(2,)), outputs=2), coins(0, 1)
    answers = learner.predict(learner.adapt(episode.support), episode.query.x)
    turned = Support(episode.support.x, episode.support.y.flip(1), 2)
    assert not torch.allclose(learner.predict(learner.adapt(turned), episode.query.x), answers)
