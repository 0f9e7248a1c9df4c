import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handful.encoders import MLP, Identity
from handful.encoders.normalization import Policy, normalization
from handful.episode import Episode, Query, Support
from handful.errors import LabelError, ShapeError, SpecError, UnknownNameError
from handful.learners import FineTuning, TransductiveFineTuning

pytestmark = pytest.mark.usefixtures("float64")

BOTH = pytest.mark.parametrize("cls", [FineTuning, TransductiveFineTuning])


def tasks() -> tuple[Support, Tensor]:
    y = torch.tensor([[0, 0, 1, 2, 2, 2], [2, 1, 1, 0, 0, 1]])
    return Support(torch.randn(2, 6, 4), y, 3, torch.rand(2, 6) + 0.5), torch.randn(2, 7, 4)


def encoder(policy: Policy = "running") -> nn.Module:
    """With estimates that are not those of a new layer."""
    layers = nn.Sequential(nn.Linear(4, 8), normalization(policy, 8), nn.Tanh(), nn.Linear(8, 5))
    layers.out_features = 5  # type: ignore[assignment]
    for _ in range(20):
        layers(2 * torch.randn(30, 4) + 1)
    return layers


def entropy(logits: Tensor) -> Tensor:
    p = logits.softmax(1)
    return -(p * p.log()).sum(1).mean()


def tuned_by_torch(learner: Any, support: Support, queries: Tensor, task: int) -> Tensor:
    """Query logits after the loop that anyone would write with torch.optim."""
    assert isinstance(support.x, Tensor)
    assert support.weight is not None
    x, y, weight, q = support.x[task], support.y[task], support.weight[task], queries[task]
    body = copy.deepcopy(learner.encoder)
    head = nn.Linear(5, 3)
    with torch.no_grad():
        z = body(x)
        for k in range(3):
            mine = y == k
            head.weight[k] = F.normalize((weight[mine, None] * z[mine]).sum(0) / weight[mine].sum(), dim=0)
        head.bias.zero_()

    def logits(x: Tensor) -> Tensor:
        return head(F.normalize(body(x), dim=1))  # type: ignore[no-any-return]

    whole = "0.weight" in learner.adapted
    optimizer = torch.optim.Adam([*head.parameters(), *(body.parameters() if whole else [])], lr=0.02)
    for _ in range(learner.steps):
        optimizer.zero_grad()
        each = F.cross_entropy(logits(x), y, reduction="none")
        ((weight * each).sum() / weight.sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if learner.uses_queries:
            optimizer.zero_grad()
            entropy(logits(q)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return logits(q).detach()


@BOTH
@pytest.mark.parametrize("adapted", ["all", "head"])
def test_it_is_a_loop_of_torch_optim(cls: Any, adapted: str) -> None:
    learner = cls(encoder(), adapted=adapted, steps=6, rate=0.02).eval()
    support, queries = tasks()
    with torch.no_grad():
        found = learner.predict(learner.adapt(support), queries)
    for task in range(2):
        assert torch.allclose(found[task], tuned_by_torch(learner, support, queries, task), atol=1e-9)


@BOTH
def test_it_begins_with_cosines_to_class_means(cls: Any) -> None:
    learner = cls(encoder(), steps=1, rate=0.0).eval()
    support, queries = tasks()
    support = Support(support.x, support.y, 3)
    found = learner.predict(learner.adapt(support), queries)
    for task in range(2):
        z, zq = (learner.encoder(x[task]) for x in (support.x, queries))  # type: ignore[index]
        for k in range(3):
            c = z[support.y[task] == k].mean(0)
            assert torch.allclose(found[task, :, k], F.cosine_similarity(zq, c[None]))


@pytest.mark.parametrize("adapted", ["all", "head"])
def test_what_is_adapted(adapted: str) -> None:
    learner = FineTuning(encoder(), adapted=adapted, steps=3).eval()  # type: ignore[arg-type]
    state = learner.adapt(tasks()[0])
    before = dict(learner.encoder.named_parameters())
    moved = [not torch.equal(state.parameters[name][1], leaf) for name, leaf in before.items()]
    assert moved == [adapted == "all"] * len(before)
    assert bool(state.parameters["/bias"].any())


@torch.no_grad()
def test_queries_become_certain_and_supports_are_learned() -> None:
    support, queries = tasks()
    body = encoder()

    def unsure(cls: Any, rate: float, x: Tensor) -> float:
        learner = cls(body, steps=25, rate=rate).eval()
        return float(entropy(learner.predict(learner.adapt(support), x)[0]))

    def wrong(rate: float) -> float:
        learner = FineTuning(body, steps=25, rate=rate).eval()
        logits = learner.predict(learner.adapt(support), support.x)
        return float(F.cross_entropy(logits.flatten(0, 1), support.y.flatten()))

    assert wrong(0.01) < wrong(0.0)
    assert unsure(TransductiveFineTuning, 0.01, queries) < 0.9 * unsure(FineTuning, 0.01, queries)


@BOTH
def test_inference_in_chunks(cls: Any) -> None:
    learner = cls(encoder(), steps=2, rate=0.02, engine={"tasks_at_once": 1}).eval()
    support, queries = tasks()
    expected = learner.predict(learner.adapt(support), queries).detach()
    with torch.inference_mode():
        found = learner.predict(learner.adapt(support), queries.clone())
    assert torch.allclose(found, expected, atol=1e-12)


@BOTH
def test_training_by_classification_moves_estimates(cls: Any) -> None:
    learner = cls(encoder(), classes=4)
    before = learner.encoder[1].running_mean.clone()
    support, _ = tasks()
    episode = Episode(support, Query(support.x, support.y), torch.tensor([[0, 1, 2], [3, 1, 0]]))
    learner.loss(episode).backward()
    assert not torch.equal(learner.encoder[1].running_mean, before)
    assert all(leaf.grad is not None for leaf in learner.parameters())


def test_it_says_what_is_wrong() -> None:
    with pytest.raises(UnknownNameError, match="body"):
        FineTuning(Identity(shape=(4,)), adapted="body")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="at least 1"):
        FineTuning(Identity(shape=(4,)), steps=0)
    with pytest.raises(ShapeError, match="normalization 'support'"):
        TransductiveFineTuning(MLP(shape=(4,), hidden=(8,), normalization="support"))
    with pytest.raises(ShapeError, match="out_features, which a classifier of 5 classes needs"):
        FineTuning(nn.Sequential(nn.Linear(4, 3)), classes=5)
    support, queries = tasks()
    with pytest.raises(LabelError, match="do not say which training classes"):
        FineTuning(Identity(shape=(4,)), classes=5).loss(Episode(support, Query(queries, torch.zeros(2, 7).long())))
