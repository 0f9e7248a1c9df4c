"""MAML on modules that are hard to map over tasks."""

from __future__ import annotations

import pytest
import torch
from factories import WAYS, Smooth, answers, slopes, tasks
from reference import maml, rates_of
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from handful.encoders import shares_statistics
from handful.episode import Episode, Query, Support
from handful.errors import ShapeError, SpecError, UnknownNameError
from handful.learners import MAML
from handful.ops.engine import Engine

pytestmark = pytest.mark.usefixtures("float64")


class Words(nn.Module):
    """Word numbers, 0 for padding, to the mean of their vectors."""

    def __init__(self, padding: int | None = 0) -> None:
        super().__init__()
        self.vectors = nn.Embedding(7, 4, padding_idx=padding)
        self.out_features = 4

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.vectors(x)
        return z.mean(1).tanh()


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = cell(3, 4, batch_first=True)
        self.out_features = 4

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.cell(x)[0]
        return output[:, -1]


def sentences() -> Episode:
    numbers = torch.Generator().manual_seed(0)
    y = torch.arange(6).remainder(WAYS).expand(3, 6)
    x = torch.randint(0, 7, (3, 12, 5), generator=numbers)
    return Episode(Support(x[:, :6], y, WAYS), Query(x[:, 6:], y))


def series() -> Episode:
    numbers = torch.Generator().manual_seed(0)
    y = torch.arange(6).remainder(WAYS).expand(3, 6)
    x = torch.randn(3, 12, 5, 3, generator=numbers)
    return Episode(Support(x[:, :6], y, WAYS), Query(x[:, 6:], y))


def exact(learner: MAML, episode: Episode) -> None:
    expected, outputs, _ = maml(learner.model, episode, rates=rates_of(learner), steps=learner.inner_steps)
    wanted = slopes(expected, learner)
    assert torch.allclose(answers(learner, episode), outputs, rtol=1e-9, atol=1e-11)
    loss = learner.loss(episode)
    assert torch.allclose(loss, expected, rtol=1e-9)
    for mine, want in zip(slopes(loss, learner), wanted, strict=True):
        assert torch.allclose(mine, want, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("at_once", [None, 1])
def test_the_padding_vector_is_never_adapted(at_once: int | None) -> None:
    learner = MAML(Words(), outputs=WAYS, inner_rate=0.5, inner_steps=2, engine=Engine(tasks_at_once=at_once)).double()
    exact(learner, sentences())
    learned = learner.adapt(sentences().support).parameters["0.vectors.weight"]
    assert torch.equal(learned[:, 0], torch.zeros(3, 4))
    assert not torch.equal(learned[0, 1:], learned[1, 1:])


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks(cell: type[nn.RNNBase]) -> None:
    exact(MAML(Recurrent(cell), outputs=WAYS, inner_rate=0.3, inner_steps=2).double(), series())


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)
        self.out_features = 4

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for moment in x.unbind(1):
            state = self.cell(moment, state)
        assert state is not None
        return state[0]


class Averaged(nn.Sequential):
    """Statistics averaged over all batches alike, which `vmap` cannot map."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(15, 4), nn.BatchNorm1d(4, momentum=None), nn.Tanh())
        self.out_features = 4


@pytest.mark.parametrize("encoder", [Cells, Averaged])
def test_what_vmap_cannot_map_goes_one_task_after_the_other(encoder: type[nn.Module]) -> None:
    exact(MAML(encoder(), outputs=WAYS, inner_rate=0.3, inner_steps=2).double(), series())


@pytest.mark.parametrize("engine", [Engine(), Engine(tasks_at_once=1), Engine(tasks_at_once=1, workers=2)])
def test_a_layer_in_two_places_is_one_layer(engine: Engine) -> None:
    """And still the module's own afterward: `functional_call` leaves a task's tensors in its place."""

    class Once(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer, self.head = layer, nn.Linear(4, WAYS)

        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = self.head(self.layer(self.layer(x).tanh()))
            return z

    torch.manual_seed(0)
    once = Once(nn.Linear(4, 4)).double()
    twice = nn.Sequential(once.layer, nn.Tanh(), once.layer, once.head)
    y = torch.arange(6).remainder(WAYS).expand(3, 6)
    episode = Episode(Support(torch.randn(3, 6, 4), y, WAYS), Query(torch.randn(3, 6, 4), y))
    parameters = list(once.parameters())
    for _ in range(2):
        found = [MAML(model, inner_rate=0.3, inner_steps=2, engine=engine).loss(episode) for model in (once, twice)]
        slopes_of = [torch.autograd.grad(loss, parameters) for loss in found]
        assert torch.allclose(*found)
        assert all(torch.allclose(mine, want) for mine, want in zip(*slopes_of, strict=True))
        assert all(mine is want for mine, want in zip(twice.parameters(), parameters, strict=True))


def test_what_vmap_cannot_map_says_what_to_do() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(spectral_norm(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, WAYS)).double()
    y = torch.arange(6).remainder(WAYS).expand(3, 6)
    episode = Episode(Support(torch.randn(3, 6, 4), y, WAYS), Query(torch.randn(3, 6, 4), y))
    with pytest.raises(SpecError, match="tasks_at_once = 1"):
        MAML(model).loss(episode)
    assert bool(MAML(model, engine=Engine(tasks_at_once=1)).loss(episode).isfinite())


def test_an_embedding_that_rewrites_its_weights_is_refused() -> None:
    with pytest.raises(SpecError, match="max_norm"):
        MAML(nn.Sequential(nn.Embedding(7, 4, max_norm=1.0), nn.Flatten(), nn.Linear(20, WAYS)))


def test_an_embedding_with_sparse_gradients_is_refused_unless_it_is_frozen() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Flatten(), nn.Linear(20, WAYS))
    with pytest.raises(SpecError, match="sparse=True"):
        MAML(model)
    model[0].requires_grad_(False)
    x, y = torch.randint(7, (2, 6, 5)), torch.arange(6).remainder(WAYS).expand(2, 6)
    assert bool(MAML(model).loss(Episode(Support(x, y, WAYS), Query(x, y))).isfinite())


@pytest.mark.parametrize("engine", [Engine(), Engine(tasks_at_once=1), Engine(gradient="recompute")])
def test_a_number_that_is_no_row_of_an_embedding_is_told(engine: Engine) -> None:
    """Wherever in the model it is."""
    episode = sentences()
    model = nn.Sequential(Words(None), nn.Linear(4, WAYS)).double()
    model[0].vectors = nn.Embedding(6, 4).double()
    with pytest.raises(ShapeError, match="Sequential: an embedding in it got a number that is none of its rows"):
        MAML(model, engine=engine).loss(episode)


def test_queries_of_other_tasks_are_refused() -> None:
    learner, episode = MAML(Smooth("none"), outputs=WAYS).double(), tasks()
    state = learner.adapt(episode.support)
    with pytest.raises(ShapeError, match=rf"of {episode.tasks} tasks, as the support, got 1; .* \(x\[None\]\)"):
        learner.predict(state, episode.query.x[:1])  # type: ignore[index]


def test_a_lazy_module_is_called_once_first() -> None:
    lazy, x = nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(WAYS)), torch.randn(2, 6, 4)
    y = torch.arange(6).remainder(WAYS).expand(2, 6)
    with pytest.raises(ShapeError, match=r"'0\.weight' has no shape yet; call the model once"):
        MAML(lazy)
    lazy(x[0])
    assert bool(MAML(lazy).loss(Episode(Support(x, y, WAYS), Query(x, y))).isfinite())


def test_unknown_rates_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="fixed, learned"):
        MAML(Smooth("none"), outputs=WAYS, rates="learn")  # type: ignore[arg-type]


@pytest.mark.parametrize("at_once", [None, 1, 2])
def test_mixed_precision_reaches_every_layer(at_once: int | None) -> None:
    seen: set[torch.dtype] = set()
    learner = MAML(Smooth("batch"), outputs=WAYS, inner_rate=0.1, engine=Engine(tasks_at_once=at_once)).float()
    for layer in learner.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    episode = tasks()
    support = Support(episode.support.x.float(), episode.support.y, WAYS)  # type: ignore[union-attr]
    with torch.autocast("cpu", torch.bfloat16):
        learner.loss(Episode(support, Query(episode.query.x.float(), episode.query.y)))  # type: ignore[union-attr]
    assert seen == {torch.bfloat16}


def test_weights_frozen_after_it_is_made_are_adapted_all_the_same() -> None:
    learner, episode = MAML(Smooth("batch"), outputs=WAYS, inner_rate=0.3, inner_steps=2).double(), tasks()
    expected = answers(learner, episode)
    learner.requires_grad_(False)
    assert torch.equal(answers(learner, episode), expected)
    with torch.no_grad():
        assert torch.equal(answers(learner, episode), expected)
    learner.requires_grad_(True)
    assert "rates" not in dict(learner.named_parameters())


def test_a_module_can_say_that_it_couples_examples() -> None:
    class Centered(nn.Module):
        couples_examples = True
        out_features = 4

        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    assert shares_statistics(Centered())
    assert MAML(nn.Sequential(Centered(), nn.Linear(4, WAYS))).transductive
