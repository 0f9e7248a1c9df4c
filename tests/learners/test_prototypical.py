import math

import pytest
import torch
from torch import Tensor, nn

from handful.encoders import Identity
from handful.encoders.normalization import BatchNorm, normalization
from handful.episode import Episode, Query, Support
from handful.errors import ShapeError
from handful.learners import PrototypicalNetwork
from handful.learners.metric.prototypical import Prototypes

pytestmark = pytest.mark.usefixtures("float64")


def plain() -> PrototypicalNetwork:
    return PrototypicalNetwork(Identity(shape=(2,)))


def by_hand() -> Episode:
    """Class 0 at (0, 0) and (2, 2); class 1 at (4, 0). Ragged. The query is (1, 3), of class 0."""
    x = torch.tensor([[[0.0, 0.0], [4.0, 0.0], [2.0, 2.0]]])
    return Episode(Support(x, torch.tensor([[0, 1, 0]]), 2), Query(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[0]])))


def test_the_equations_by_hand() -> None:
    learner, episode = plain(), by_hand()
    state = learner.adapt(episode.support)
    assert isinstance(state, Prototypes)
    assert torch.equal(state.c, torch.tensor([[[1.0, 1.0], [4.0, 0.0]]]))  # eq. 1
    logits = learner.predict(state, episode.query.x)
    assert torch.equal(logits, torch.tensor([[[-4.0, -18.0]]]))  # squared, summed over features, not averaged
    assert torch.allclose(learner.loss(episode), torch.tensor(math.log(1 + math.exp(-14.0))))  # eq. 2


def test_distances_are_summed_over_features() -> None:
    """Each feature three times: three times the distance, where an average would not change."""
    episode = by_hand()
    support = Support(episode.support.x.repeat(1, 1, 3), episode.support.y, 2)  # type: ignore[union-attr]
    learner = PrototypicalNetwork(Identity(shape=(6,)))
    logits = learner.predict(learner.adapt(support), episode.query.x.repeat(1, 1, 3))  # type: ignore[union-attr]
    assert torch.equal(logits, torch.tensor([[[-12.0, -54.0]]]))


def test_weights_move_the_mean() -> None:
    episode = by_hand()
    support = Support(episode.support.x, episode.support.y, 2, torch.tensor([[3.0, 0.1, 1.0]]))
    assert torch.equal(plain().adapt(support).c, torch.tensor([[[0.5, 0.5], [4.0, 0.0]]]))
    loss = plain().loss(Episode(support, episode.query))
    near, far = 0.25 + 6.25, 18.0
    assert torch.allclose(loss, torch.tensor(math.log(1 + math.exp(near - far)))), "the loss weighs too"


def test_it_has_no_weights_of_its_own_and_answers_any_number_of_ways() -> None:
    assert not list(plain().parameters())
    for ways in (1, 2, 7):
        support = Support(torch.randn(2, 2 * ways, 2), torch.arange(ways).repeat(2).expand(2, -1), ways)
        assert plain().predict(plain().adapt(support), torch.randn(2, 3, 2)).shape == (2, 3, ways)


class Bag(nn.Module):
    """An encoder of tensors by name: token ids and their mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return (self.embedding(x["ids"]) * x["mask"][..., None]).sum(1) / x["mask"].sum(1, keepdim=True)


def test_examples_of_tensors_by_name() -> None:
    learner = PrototypicalNetwork(Bag())
    ids, mask = torch.randint(5, (2, 4, 6)), torch.ones(2, 4, 6)
    mask[..., 4:] = 0
    y = torch.tensor([[0, 1, 0, 1]] * 2)
    episode = Episode(Support({"ids": ids, "mask": mask}, y, 2), Query({"ids": ids, "mask": mask}, y))
    z = learner.encoder.embedding.weight[ids[..., :4]].mean(2)  # type: ignore[union-attr,index]
    expected = torch.stack([z[:, [0, 2]].mean(1), z[:, [1, 3]].mean(1)], 1)
    assert torch.allclose(learner.adapt(episode.support).c, expected)
    learner.loss(episode).backward()  # type: ignore[no-untyped-call]


def embed_and_loss(policy: str) -> tuple[PrototypicalNetwork, Tensor, Tensor]:
    encoder = nn.Sequential(nn.Linear(2, 8), normalization(policy, 8))  # type: ignore[arg-type]
    learner = PrototypicalNetwork(encoder)
    x, y = torch.randn(3, 4, 2), torch.tensor([[0, 1, 0, 1]] * 3)
    episode = Episode(Support(x, y, 2), Query(x.flip(1), y))
    return learner, learner.embed(x), learner.loss(episode)


def test_support_and_queries_pass_the_encoder_as_one_batch_and_write_its_estimates() -> None:
    learner, _, _ = embed_and_loss("running")
    layer = learner.encoder[1]  # type: ignore[index]
    assert isinstance(layer, BatchNorm)
    seen: list[int] = []
    learner.encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    before = layer.running_mean.clone()  # type: ignore[union-attr]
    y = torch.tensor([[0, 1]] * 3)
    learner.loss(Episode(Support(torch.randn(3, 2, 2), y, 2), Query(torch.randn(3, 5, 2), torch.zeros(3, 5).long())))
    assert seen == [2 + 5] * 3  # a batch a task: statistics never pass between tasks
    assert not torch.equal(layer.running_mean, before)  # type: ignore[arg-type]


def test_batch_statistics_never_pass_between_tasks() -> None:
    learner, _, _ = embed_and_loss("batch")
    learner.eval()
    x = torch.randn(3, 4, 2) * torch.tensor([0.1, 1.0, 100.0]).view(3, 1, 1)
    assert torch.allclose(learner.embed(x), torch.cat([learner.embed(x[i : i + 1]) for i in range(3)]))


@pytest.mark.parametrize("policy", ["support", "per_step"])
def test_policies_of_learners_that_adapt_their_encoder_are_refused(policy: str) -> None:
    with pytest.raises(ShapeError, match=f"normalization '{policy}' is for learners that adapt their encoder"):
        embed_and_loss(policy)
