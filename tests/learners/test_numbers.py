"""Learners on numbers of other kinds: bytes, integers, half precision; and encoders that give no rows of features."""

import pytest
import torch
from catalog import ALL, Variant
from factories import SHAPE, WAYS
from torch import nn

from handful.episode import Query, Support
from handful.errors import ShapeError
from handful.learner import EmbeddingLearner
from handful.learners import (
    PTMAP,
    RNNP,
    TIM,
    FineTuning,
    MetaOptNet,
    NearestNeighbor,
    PrototypicalNetwork,
    RobustPrototypes,
    SiameseNetwork,
    SoftKMeans,
)

Y = torch.arange(6).remainder(WAYS).expand(2, 6).contiguous()


@pytest.mark.parametrize("variant", [v for v in ALL if not v.name.startswith(("devise", "clip", "zero_shot"))], ids=str)
def test_bytes_are_read_alike_as_support_and_as_query(variant: Variant, float64: None) -> None:
    x, q = torch.randint(0, 256, (2, 2, 6, *SHAPE), dtype=torch.uint8)
    learner = variant.make().eval()
    state = learner.adapt(Support(x, Y, WAYS))
    assert torch.equal(learner.predict(state, q), learner.predict(state, Query(q, Y).x))


HALF = [SiameseNetwork, RNNP, RobustPrototypes, SoftKMeans, TIM, PTMAP, NearestNeighbor, PrototypicalNetwork]


def encoder() -> nn.Module:
    made = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    made.out_features = 8  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("make", HALF)
def test_half_precision(make: type[EmbeddingLearner]) -> None:
    options = {"objective": "contrastive"} if make is SiameseNetwork else {}
    options |= {"center": "similarity"} if make is RobustPrototypes else {}
    torch.manual_seed(0)
    learner = make(encoder(), **options).bfloat16()  # type: ignore[arg-type]
    x = torch.randn(2, 6, 8).bfloat16()
    assert bool(learner.predict(learner.adapt(Support(x, Y, WAYS)), x).isfinite().all())


def test_fine_tuning_under_mixed_precision() -> None:
    torch.manual_seed(0)
    learner, x = FineTuning(encoder()), torch.randn(2, 6, 8)
    support = Support(x, Y, WAYS)
    expected = learner.predict(learner.adapt(support), x)
    with torch.autocast("cpu", torch.bfloat16):
        found = learner.predict(learner.adapt(support), x)
    assert torch.allclose(found.float(), expected, atol=0.05)


def test_features_that_are_whole_numbers() -> None:
    learner = PrototypicalNetwork(nn.Identity())
    x = torch.randint(0, 9, (2, 6, 8))
    weight = torch.full((2, 6), 0.5)
    found = learner.predict(learner.adapt(Support(x, Y, WAYS, weight)), x)
    assert torch.allclose(found, learner.predict(learner.adapt(Support(x.float(), Y, WAYS)), x.float()))


@pytest.mark.parametrize("examples", [6, 8])
def test_encoders_that_give_maps_are_refused(examples: int) -> None:
    learner = PrototypicalNetwork(nn.Conv2d(1, 4, 3, padding=1))
    y = torch.arange(examples).remainder(WAYS)[None]
    with pytest.raises(ShapeError, match=r"Conv2d gives a tensor of shape .*expected features \[examples, F\]"):
        learner.adapt(Support(torch.rand(1, examples, 1, 8, 8), y, WAYS))


def test_a_whole_scale_of_metaoptnet() -> None:
    assert MetaOptNet(encoder(), scale=7).scale.item() == 7
