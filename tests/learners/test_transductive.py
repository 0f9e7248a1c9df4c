import pytest
import torch
from torch import Tensor

from handful.encoders import Identity
from handful.episode import Support
from handful.learner import EmbeddingLearner
from handful.learners import BDCSPN, PTMAP, TIM, LaplacianShot, PrototypicalNetwork, SoftKMeans

pytestmark = pytest.mark.usefixtures("float64")

F = 16
EVERY: list[EmbeddingLearner] = [
    SoftKMeans(Identity(shape=(F,)), steps=5),
    TIM(Identity(shape=(F,))),
    TIM(Identity(shape=(F,)), method="gd"),
    LaplacianShot(Identity(shape=(F,))),
    PTMAP(Identity(shape=(F,)), tolerance=1e-3),
    BDCSPN(Identity(shape=(F,))),
]


def clusters(counts: list[int], tasks: int = 40) -> tuple[Support, Tensor, Tensor]:
    """One example of each class to learn from; queries in clusters of these sizes."""
    torch.manual_seed(3)
    centers = 2 * torch.randn(tasks, len(counts), F)
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).expand(tasks, -1)
    x = centers + 1.6 * torch.randn(tasks, len(counts), F)
    q = centers[torch.arange(tasks)[:, None], y] + 1.6 * torch.randn(tasks, y.shape[1], F)
    return Support(x, torch.arange(len(counts)).expand(tasks, -1), len(counts)), q, y


def accuracy(learner: EmbeddingLearner, counts: list[int]) -> float:
    support, q, y = clusters(counts)
    return float((learner.predict(learner.adapt(support), q).argmax(-1) == y).double().mean())


@pytest.mark.parametrize("learner", EVERY, ids=lambda learner: f"{type(learner).__name__}")
def test_queries_help(learner: EmbeddingLearner) -> None:
    alone = accuracy(PrototypicalNetwork(Identity(shape=(F,))), [15] * 5)
    assert accuracy(learner, [15] * 5) > alone + 0.02


@pytest.mark.parametrize("learner", EVERY, ids=lambda learner: f"{type(learner).__name__}")
def test_permuting_queries_permutes_answers(learner: EmbeddingLearner) -> None:
    support, q, _ = clusters([5, 3, 4])
    state, order = learner.adapt(support), torch.randperm(12)
    assert torch.allclose(learner.predict(state, q)[:, order], learner.predict(state, q[:, order]), atol=1e-9)


@pytest.mark.parametrize("learner", EVERY, ids=lambda learner: f"{type(learner).__name__}")
def test_a_single_query_and_a_single_class(learner: EmbeddingLearner) -> None:
    support, q, _ = clusters([4, 2])
    assert bool(learner.predict(learner.adapt(support), q[:, :1]).isfinite().all())
    one = Support(support.x[:, :1], support.y[:, :1], 1)  # type: ignore[index]
    assert learner.predict(learner.adapt(one), q).shape == (40, 6, 1)


def test_alternating_directions_and_descent_lower_one_objective() -> None:
    support, q, _ = clusters([6, 6, 6], tasks=5)

    def objective(learner: TIM) -> Tensor:
        state = learner.adapt(support)
        log_p = learner.predict(state, q).log_softmax(-1)
        marginal = log_p.exp().mean(1)
        return (marginal * marginal.log()).sum(-1) - learner.conditional * (log_p.exp() * log_p).sum(-1).mean(-1)

    for method in ("adm", "gd"):
        short, long = (TIM(Identity(shape=(F,)), method=method, steps=steps, supervised=0.0) for steps in (1, 300))  # type: ignore[arg-type]
        assert bool((objective(long) < objective(short)).all()), method


def test_no_neighbors_count_where_the_strength_is_zero() -> None:
    support, q, _ = clusters([6, 6, 6])
    learner = LaplacianShot(Identity(shape=(F,)), strength=0.0, rectify=False)
    unit = torch.nn.functional.normalize
    c = unit(support.x, dim=-1)  # type: ignore[arg-type]
    expected = -torch.cdist(unit(q, dim=-1), c).square()
    assert torch.allclose(learner.predict(learner.adapt(support), q), expected)


def test_of_three_nearest_queries_the_first_is_the_query_itself() -> None:
    support, q, _ = clusters([6, 6, 6], tasks=3)
    unit = torch.nn.functional.normalize
    z, a = unit(q, dim=-1), torch.cdist(unit(q, dim=-1), unit(support.x, dim=-1)).square()  # type: ignore[arg-type]
    y = (-a).softmax(-1)
    for _ in range(20):
        near = torch.cdist(z, z).topk(3, largest=False).indices[..., 1:]  # the authors' k
        pulls = torch.stack([y[task][rows].sum(1) for task, rows in enumerate(near)])
        y = (pulls - a).softmax(-1)
    learner = LaplacianShot(Identity(shape=(F,)), rectify=False)
    assert torch.allclose(learner.predict(learner.adapt(support), q).softmax(-1), y)


def test_an_example_does_not_outweigh_the_queries_of_its_class() -> None:
    """Though it is its own mean, and queries are far less similar."""
    smooth, plain = (LaplacianShot(Identity(shape=(F,)), strength=0.0, rectify=rectify) for rectify in (True, False))
    assert accuracy(smooth, [15] * 5) > accuracy(plain, [15] * 5) + 0.05


def test_the_transport_gives_every_class_as_many_queries() -> None:
    support, q, _ = clusters([9, 1, 2])
    learner = PTMAP(Identity(shape=(F,)), tolerance=1e-10, regularity=3.0)
    plan = learner.predict(learner.adapt(support), q).exp()
    assert torch.allclose(plan.sum(1), torch.full((40, 3), 4.0))
    assert torch.allclose(plan.sum(2), torch.ones(40, 12), atol=1e-6)
