import pytest
import torch

from handful.encoders import Identity
from handful.episode import Support
from handful.errors import SpecError, UnknownNameError
from handful.learner import EmbeddingLearner
from handful.learners import RNNP, PrototypicalNetwork, RobustPrototypes

pytestmark = pytest.mark.usefixtures("float64")


def of(encoder: Identity, center: str) -> EmbeddingLearner:
    if center == "rnnp":
        return RNNP(encoder)
    if center == "mean":
        return PrototypicalNetwork(encoder)
    return RobustPrototypes(encoder, center=center)  # type: ignore[arg-type]


def noisy(batch: int = 200) -> tuple[Support, torch.Tensor]:
    """Three classes of five; the first example of each has the label of the next class. And the true centers."""
    centers = 3 * torch.eye(3).expand(batch, 3, 3)
    true = torch.arange(3).repeat_interleave(5)
    x = centers[:, true] + 0.5 * torch.randn(batch, 15, 3)
    wrong = torch.where(torch.arange(15) % 5 == 0, (true + 1) % 3, true)
    return Support(x, wrong.expand(batch, 15), 3), centers


@pytest.mark.parametrize("center", ["median", "similarity", "trimmed", "rnnp"])
def test_wrong_labels_move_them_less_than_the_mean(center: str) -> None:
    support, centers = noisy()
    encoder = Identity(shape=(3,))
    error, mean_error = (
        (of(encoder, kind).adapt(support).c - centers).norm(dim=-1).mean() for kind in (center, "mean")
    )
    assert float(error) < 0.75 * float(mean_error)


@pytest.mark.parametrize("center", ["median", "similarity", "trimmed", "rnnp"])
def test_one_shot_is_the_example_itself(center: str) -> None:
    x = 10 * torch.eye(3)[None]
    learner = of(Identity(shape=(3,)), center)
    assert torch.allclose(learner.adapt(Support(x, torch.arange(3)[None], 3)).c, x)


def test_rnnp_without_wrong_labels_and_with_clusters_apart_is_the_mean() -> None:
    x = torch.cat([torch.randn(1, 5, 2), 100 + torch.randn(1, 5, 2)], 1)
    support = Support(x, torch.tensor([[0] * 5 + [1] * 5]), 2)
    encoder = Identity(shape=(2,))
    assert torch.allclose(RNNP(encoder).adapt(support).c, PrototypicalNetwork(encoder).adapt(support).c)


def test_a_cluster_without_members_nearby_stays_finite() -> None:
    x = torch.tensor([[[0.0], [1000.0], [400.0], [401.0]]])
    c = RNNP(Identity(shape=(1,)), refinements=20).adapt(Support(x, torch.tensor([[0, 0, 1, 1]]), 2)).c
    assert bool(c.isfinite().all())


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Valid: median, similarity, trimmed"):
        RobustPrototypes(Identity(shape=(1,)), center="mode")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"trim in \[0, 0.5\)"):
        RobustPrototypes(Identity(shape=(1,)), trim=0.5)
    with pytest.raises(SpecError, match="at least one refinement"):
        RNNP(Identity(shape=(1,)), refinements=0)
