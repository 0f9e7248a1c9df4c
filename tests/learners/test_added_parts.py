"""What learners add to an encoder fits it: its shapes, its precision, its device."""

import inspect

import pytest
import torch
from torch import Tensor, nn

from handful.encoders import MLP
from handful.episode import Episode, Query, Support
from handful.gradient_learner import GradientLearner
from handful.learner import Learner
from handful.learners import CAVIA, LEARNERS

WAYS = 3
MOVED = [name for name, cls in LEARNERS.items() if issubclass(cls, GradientLearner)]
ADDED = [name for name, cls in LEARNERS.items() if cls.kind != "zero_shot"]
LOGITS = [name for name in MOVED if LEARNERS[name].kind != "baseline" and name not in ("anil", "boil", "proto_maml")]


class Scaled(nn.Module):
    """A linear layer whose outputs have a learned scale."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(5, 4), nn.Parameter(scale)
        self.shape, self.out_features = (5,), 4

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x) * self.scale)


def episode(dtype: torch.dtype = torch.float64) -> Episode:
    random = torch.Generator().manual_seed(0)
    x, qx = torch.randn(2, 2, 6, 5, generator=random, dtype=dtype)
    y = torch.arange(6).remainder(WAYS).expand(2, 6)
    return Episode(Support(x, y, WAYS), Query(qx, y), torch.arange(WAYS).expand(2, WAYS))


def made(name: str, encoder: nn.Module) -> Learner:
    known = inspect.signature(LEARNERS[name]).parameters
    options = {"outputs": WAYS, "classes": WAYS} | ({"context": "full"} if name == "matching" else {})
    return LEARNERS[name](encoder, **{option: value for option, value in options.items() if option in known})


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", MOVED)
def test_a_parameter_without_axes_is_one_of_a_single_number(name: str) -> None:
    found = []
    for scale in (torch.tensor(1.3), torch.tensor([1.3])):
        torch.manual_seed(0)
        learner = made(name, Scaled(scale))
        loss = learner.loss(episode())
        wanted = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        slopes = torch.autograd.grad(loss, wanted, allow_unused=True)
        found.append([loss, *(slope.flatten() for slope in slopes if slope is not None)])
    assert len(found[0]) == len(found[1])
    assert all(torch.allclose(one, other) for one, other in zip(*found, strict=True))
    state = learner.adapt(episode().support)
    assert bool(learner.predict(state, episode().query.x).isfinite().all())


@pytest.mark.parametrize("name", ADDED)
def test_what_is_added_is_where_the_encoder_is_in_its_precision(name: str) -> None:
    learner = made(name, MLP(shape=(5,), hidden=(8,)).double())
    assert {leaf.dtype for leaf in learner.parameters()} == {torch.float64}
    assert learner.loss(episode()).dtype == torch.float64
    elsewhere = made(name, MLP(shape=(5,), hidden=(8,)).to("meta"))
    assert {leaf.device.type for leaf in elsewhere.parameters()} == {"meta"}


@pytest.mark.parametrize("name", LOGITS)
def test_encoders_that_give_logits_may_be_in_double_precision(name: str) -> None:
    learner = LEARNERS[name](MLP(shape=(5,), hidden=(8,), outputs=WAYS).double())
    assert learner.loss(episode()).dtype == torch.float64


def test_a_learned_rate_and_film_are_in_the_encoders_precision() -> None:
    rates = LEARNERS["maml"](MLP(shape=(5,), outputs=WAYS).double(), rates="learned").rates  # type: ignore[call-arg]
    assert rates.dtype == torch.float64
    learner = CAVIA(MLP(shape=(5,), hidden=(8,), normalization="group").double(), outputs=WAYS, film=1)
    assert learner.loss(episode()).dtype == torch.float64


@pytest.mark.parametrize("form", ["update", "hyper", "optimizer", "none"])
def test_every_form_of_the_meta_lstm_is_in_the_encoders_precision(form: str) -> None:
    learner = LEARNERS["meta_lstm"](MLP(shape=(5,), hidden=(8,)).double(), outputs=WAYS, form=form)  # type: ignore[call-arg]
    assert learner.loss(episode()).dtype == torch.float64


def test_an_encoder_without_parameters_leaves_what_is_added_as_it_is() -> None:
    encoder = nn.Flatten()
    encoder.out_features = 5  # type: ignore[assignment]
    learner = LEARNERS["maml"](encoder, outputs=WAYS)  # type: ignore[call-arg]
    assert learner.loss(episode(torch.float32)).dtype == torch.float32
