import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from handful.data.episodes import Episodes
from handful.data.pool import ClassPool
from handful.encoders import MLP, Conv4, Identity
from handful.episode import Episode, Query, Support
from handful.errors import LabelError, ShapeError
from handful.evaluation import evaluate
from handful.learners import Baseline, BaselinePlus, Frozen, NearestNeighbor, SimpleShot
from handful.training import train

pytestmark = pytest.mark.usefixtures("float64")


def tasks() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(3, 12, 4), torch.arange(12).remainder(3).expand(3, 12), torch.randn(3, 20, 4)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_nearest_neighbors_are_scikit_learns(k: int) -> None:
    x, y, q = tasks()
    learner = NearestNeighbor(Identity(shape=(4,)), k=k)
    logits = learner.predict(learner.adapt(Support(x, y, 3)), q)
    for task in range(3):
        theirs = KNeighborsClassifier(k).fit(x[task].numpy(), y[task].numpy()).predict_proba(q[task].numpy())
        votes = logits[task].ceil()  # the fraction says who is nearest
        assert torch.allclose(votes / k, torch.tensor(theirs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_nearest_of_equal_votes_wins_however_long_features_are(k: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (3000 * torch.randn(50, 5, 64)).to(dtype)
    query = x[:, 4:] + (300 * torch.randn(50, 1, 64)).to(dtype)
    learner = NearestNeighbor(Identity(shape=(64,)), k=k)
    logits = learner.predict(learner.adapt(Support(x, torch.arange(5).expand(50, 5), 5)), query)
    assert bool((logits.argmax(-1) == 4).all())


def test_the_baseline_does_not_overshoot_on_long_features() -> None:
    """Its own rate answers as one that was chosen for the length, and short features keep the rate of 0.1."""
    x, y, q = tasks()
    for scale, rate in ((0.5, 0.1), (100.0, 1e-5)):
        free, chosen = (Baseline(Identity(shape=(4,)), rate=r).adapt(Support(scale * x, y, 3)) for r in (None, rate))
        agree = (free(scale * q).argmax(-1) == chosen(scale * q).argmax(-1)).double().mean()
        assert float(agree) > 0.9
        loss = torch.nn.functional.cross_entropy(free(scale * x).mT, y)
        assert float(loss) < 1.09  # of the uniform answer: log 3


def test_the_frozen_head_is_scikit_learns() -> None:
    x, y, q = tasks()
    learner = Frozen(Identity(shape=(4,)), head="logistic", strength=0.5, unit=False)
    logits = learner.predict(learner.adapt(Support(x, y, 3)), q)
    for task in range(3):
        theirs = LogisticRegression(C=2.0, tol=1e-12, max_iter=1000, solver="newton-cg")
        expected = theirs.fit(x[task].numpy(), y[task].numpy()).predict_log_proba(q[task].numpy())
        assert torch.allclose(logits[task].log_softmax(-1), torch.tensor(expected), atol=1e-7)


def test_many_steps_of_the_baseline_end_where_the_slope_is_zero() -> None:
    x, y, _ = tasks()
    state = Baseline(Identity(shape=(4,)), steps=4000, rate=1.0, decay=0.05).adapt(Support(x, y, 3))
    w, b = state.w.requires_grad_(), state.b.requires_grad_()
    loss = torch.nn.functional.cross_entropy((x @ w + b[:, None]).flatten(0, 1), y.flatten(), reduction="sum") / 12
    slopes = torch.autograd.grad(loss + 0.025 * (w.square().sum() + b.square().sum()), (w, b))
    assert all(float(slope.abs().max()) < 1e-9 for slope in slopes)


def test_cosines_do_not_see_lengths() -> None:
    x, y, q = tasks()
    learner = BaselinePlus(Identity(shape=(4,)), steps=10)
    logits = learner.predict(learner.adapt(Support(x, y, 3)), q)
    longer = learner.predict(learner.adapt(Support(7 * x, y, 3)), 0.3 * q)
    assert torch.allclose(logits, longer)
    assert float(logits.abs().max()) <= learner.scale


def test_what_all_examples_share_decides_nothing_once_it_is_taken_away() -> None:
    x, y, q = tasks()
    x, q = (torch.nn.functional.normalize(part, dim=-1) for part in (x, q))
    shared = torch.tensor([1e3, 0.0, 0.0, 0.0])  # so great that to make unit features of x + shared moves all alike
    logits = []
    for offset in (shared, 3 * shared):
        learner = BaselinePlus(Identity(shape=(4,)), steps=3, center=True)
        logits.append(learner.predict(learner.adapt(Support(x + offset, y, 3)), q + offset))
    assert torch.allclose(*logits, atol=0.05)
    assert logits[0].std() > 1, "and they still tell the classes"


def test_simpleshot_keeps_the_mean_of_training_features() -> None:
    learner = SimpleShot(Identity(shape=(2,)), momentum=0.25, classes=2).double()
    x, y = torch.tensor([[[4.0, 0.0], [0.0, 8.0]]]), torch.tensor([[0, 1]])
    learner.loss(Episode(Support(x, y, 2), Query(x, y), torch.tensor([[0, 1]])))
    assert torch.equal(learner.mean, torch.tensor([0.5, 1.0]))
    learner.eval().loss(Episode(Support(x, y, 2), Query(x, y), torch.tensor([[0, 1]])))
    assert torch.equal(learner.mean, torch.tensor([0.5, 1.0])), "in training only"
    c = learner.adapt(Support(x, y, 2)).c
    assert torch.allclose(c, torch.nn.functional.normalize(torch.tensor([[[3.5, -1.0], [-0.5, 7.0]]]), dim=-1))


def test_pre_training_learns_the_classes_of_the_pool(vectors: ClassPool) -> None:
    train_pool = vectors.split("train")
    lessons = Episodes(train_pool, ways=8, shots=1, queries=1)
    exams = Episodes(vectors.split("test"), ways=4, shots=5, queries=7, batch=10)
    learner = Frozen(MLP(shape=(4,), hidden=(32, 16)), classes=8).double()
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.01)
    losses = [float(step.loss) for step in train(learner, lessons, optimizer, steps=150)]
    assert losses[0] > 1.8
    assert sum(losses[-20:]) / 20 < 0.7
    assert evaluate(learner, exams, tasks=50).mean.value > 0.6


def test_pictures_of_another_size_than_the_classifier_is_for() -> None:
    """As the augmentation's `side` makes them, for an encoder that does not average its map."""
    learner = SimpleShot(Conv4(shape=(1, 32, 32), filters=4), classes=2)
    small = torch.rand(1, 2, 1, 16, 16)
    episode = Episode(Support(small, torch.tensor([[0, 1]]), 2), Query(small, torch.tensor([[0, 1]])))
    with pytest.raises(ShapeError, match="expected 16 features of each example, as its encoder says, got 4: pictures"):
        learner.loss(episode)


def test_pre_training_says_what_it_misses(vectors: ClassPool) -> None:
    episode = Episodes(vectors.split("train"), ways=8, queries=1)[0]
    x, y = episode.support.x.double(), episode.support.y  # type: ignore[union-attr]
    learner = Frozen(Identity(shape=(4,)), classes=5).double()
    with pytest.raises(LabelError, match=r"expected classes 0 to 4 \(classes=5\), got class 7"):
        learner.loss(Episode(Support(x, y, 8), Query(x, y), episode.classes))
    with pytest.raises(LabelError, match=r"do not say which training classes.*`rotation`"):
        learner.loss(Episode(Support(x, y, 8), Query(x, y)))
    with pytest.raises(ShapeError, match="does not say its out_features, which a classifier of 5 classes needs"):
        Frozen(torch.nn.Sequential(torch.nn.Linear(4, 3)), classes=5)
