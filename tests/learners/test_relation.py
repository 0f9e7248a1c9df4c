import math

import pytest
import torch
from torch import nn

from handful.data import FunctionEpisodes, Sinusoid
from handful.encoders import MLP, Conv4, Identity, RelationEncoder
from handful.episode import Episode, Query, Support
from handful.errors import ShapeError, UnknownNameError
from handful.learners import RelationNetwork

pytestmark = pytest.mark.usefixtures("float64")


def test_the_relation_module_is_the_published_one() -> None:
    learner = RelationNetwork(RelationEncoder())
    assert learner.shape == (64, 5, 5)
    convolutions = [layer for layer in learner.relation.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels, layer.bias) for layer in convolutions] == [
        (128, 64, None),
        (64, 64, None),
    ]
    linear = [layer for layer in learner.relation.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(64, 8), (8, 1)]
    for layer in convolutions:
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
    assert linear[0].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert all(bool((layer.bias == 1).all()) for layer in linear)
    mini = RelationNetwork(RelationEncoder(shape=(3, 84, 84)), padding=0)
    assert mini.shape == (64, 19, 19)
    assert next(layer for layer in mini.relation.modules() if isinstance(layer, nn.Linear)).in_features == 576


def test_a_class_is_the_sum_of_its_maps() -> None:
    learner = RelationNetwork(Identity(shape=(2,)))
    x = torch.tensor([[[1.0, 2.0], [10.0, 20.0], [3.0, 4.0]]])
    state = learner.adapt(Support(x, torch.tensor([[0, 1, 0]]), 2))
    assert torch.equal(state.maps, torch.tensor([[[4.0, 6.0], [10.0, 20.0]]]))


def test_the_mean_of_maps_does_not_grow_with_the_shots() -> None:
    torch.manual_seed(0)
    learner = RelationNetwork(Identity(shape=(2,)), combine="mean").eval()
    x = torch.tensor([[[1.0, 2.0], [10.0, 20.0], [3.0, 4.0]]])
    weight = torch.tensor([[1.0, 1.0, 3.0]])
    state = learner.adapt(Support(x, torch.tensor([[0, 1, 0]]), 2, weight))
    assert torch.equal(state.maps, torch.tensor([[[2.5, 3.5], [10.0, 20.0]]]))
    once, y, query = torch.randn(1, 3, 2), torch.arange(3).unsqueeze(0), torch.randn(1, 5, 2)
    answers = [learner.predict(learner.adapt(Support(once.repeat(1, k, 1), y.repeat(1, k), 3)), query) for k in (1, 5)]
    torch.testing.assert_close(*answers)
    with pytest.raises(UnknownNameError, match="combination"):
        RelationNetwork(Identity(shape=(2,)), combine="max")  # type: ignore[arg-type]


def test_the_loss_is_the_squared_error_over_all_pairs() -> None:
    learner = RelationNetwork(Identity(shape=(2,))).eval()
    last = learner.relation[-1]
    nn.init.zeros_(last.weight)  # type: ignore[arg-type]
    nn.init.constant_(last.bias, math.log(3))  # type: ignore[arg-type]  # every relation is 3/4
    x, y = torch.randn(1, 4, 2), torch.tensor([[0, 1, 2, 3]])
    loss = learner.loss(Episode(Support(x, y, 4), Query(x, y)))
    assert loss.item() == pytest.approx((0.25**2 + 3 * 0.75**2) / 4)


def test_running_estimates_of_the_relation_module_move_in_loss_alone() -> None:
    learner = RelationNetwork(MLP(shape=(2,), hidden=(4,)))
    x, y = torch.randn(3, 4, 2), torch.tensor([[0, 1, 0, 1]] * 3)
    episode = Episode(Support(x, y, 2), Query(x.flip(1), y))
    before = {name: buffer.clone() for name, buffer in learner.named_buffers()}
    learner.predict(learner.adapt(episode.support), episode.query.x)
    assert all(torch.equal(before[name], buffer) for name, buffer in learner.named_buffers())
    learner.loss(episode)
    assert not any(torch.equal(before[name], buffer) for name, buffer in learner.named_buffers())


def test_in_regression_answers_are_means_of_support_targets() -> None:
    learner = RelationNetwork(MLP(shape=(1,), hidden=(4,)), normalization="none")
    episode = FunctionEpisodes(Sinusoid(), shots=5, queries=4, batch=2)[0]
    support = Support(episode.support.x.double(), episode.support.y.double())  # type: ignore[union-attr]
    answer = learner.predict(learner.adapt(support), episode.query.x.double())  # type: ignore[union-attr]
    assert bool((answer <= support.y.amax(1, keepdim=True)).all())
    assert bool((answer >= support.y.amin(1, keepdim=True)).all())
    only = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]] * 2)
    state = learner.adapt(Support(support.x, support.y, weight=only))
    assert torch.allclose(learner.predict(state, support.x), support.y[:, 2:3].expand(2, 5, 1))


def test_regression_learns_where_targets_follow_places() -> None:
    """y = x: near points have near targets."""
    torch.manual_seed(0)
    learner = RelationNetwork(MLP(shape=(1,), hidden=(16, 16)), normalization="none", filters=16)
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        x, qx = torch.rand(8, 10, 1), torch.rand(8, 10, 1)
        loss = learner.loss(Episode(Support(x, x), Query(qx, qx)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Valid: cross_entropy, mse"):
        RelationNetwork(Identity(shape=(2,)), objective="hinge")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="too small for padding=0"):
        RelationNetwork(Conv4(), padding=0)
    with pytest.raises(ShapeError, match="neither out_maps"):
        RelationNetwork(nn.Flatten())
    with pytest.raises(ShapeError, match="for learners that adapt"):
        RelationNetwork(Identity(shape=(2,)), normalization="support")
