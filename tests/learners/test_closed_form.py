import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn.functional import one_hot

from handful.encoders import Identity
from handful.episode import Support
from handful.errors import SpecError
from handful.learners import R2D2, MetaOptNet

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("features", [3, 20], ids=["primal", "dual"])
def test_r2d2_is_scikit_learns_ridge(features: int) -> None:
    x, y, q = torch.randn(2, 10, features), torch.arange(10).remainder(4).expand(2, 10), torch.randn(2, 6, features)
    learner = R2D2(Identity(shape=(features,)), ridge=0.3, scale=2.0).double()
    logits = learner.predict(learner.adapt(Support(x, y, 4)), q)
    for task in range(2):
        ridge = Ridge(alpha=0.3, fit_intercept=False).fit(x[task].numpy(), one_hot(y[task], 4).double().numpy())
        assert torch.allclose(logits[task], 2 * torch.tensor(ridge.predict(q[task].numpy())))


@pytest.mark.parametrize("out", [(1,), (2, 3), ()])
def test_regression_in_closed_form_is_scikit_learns_ridge(out: tuple[int, ...]) -> None:
    x, y, q = torch.randn(2, 9, 4), torch.randn(2, 9, *out) + 3, torch.randn(2, 5, 4)
    learner = R2D2(Identity(shape=(4,)), ridge=0.5).double()
    answers = learner.predict(learner.adapt(Support(x, y)), q)
    assert answers.shape == (2, 5, *out)
    for task in range(2):
        ridge = Ridge(alpha=0.5).fit(x[task].numpy(), y[task].reshape(9, -1).numpy())
        assert torch.allclose(answers[task].reshape(5, -1), torch.tensor(ridge.predict(q[task].numpy())).view(5, -1))


def test_the_machine_separates_with_margin() -> None:
    """Two points, C large: w is half their difference over a quarter of its square, so both margins are one."""
    x = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
    learner = MetaOptNet(Identity(shape=(2,)), box=100.0, damping=1e-9).double()
    state = learner.adapt(Support(x, torch.tensor([[0, 1]]), 2))
    assert torch.allclose(state.w, torch.tensor([[[0.25, -0.25], [-0.25, 0.25]]]))
    margins = (x @ state.w)[0]
    assert torch.allclose(margins.diagonal() - margins.flip(1).diagonal(), torch.ones(2))


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(SpecError, match="expected ridge and scale above 0"):
        R2D2(Identity(shape=(2,)), ridge=0.0)
    with pytest.raises(SpecError, match="expected box and damping above 0"):
        MetaOptNet(Identity(shape=(2,)), damping=0.0)
