import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import one_hot

from handful.ops.logistic import logistic

pytestmark = pytest.mark.usefixtures("float64")


def problem(examples: int, ways: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    y = torch.stack([torch.arange(examples).remainder(ways)[torch.randperm(examples)] for _ in range(3)])
    return 3 * torch.randn(3, examples, features) + 1, y, torch.rand(3, examples) + 0.2


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
@pytest.mark.parametrize(("examples", "ways", "features"), [(12, 3, 4), (10, 5, 20)])
def test_it_is_scikit_learns(examples: int, ways: int, features: int, strength: float) -> None:
    x, y, weight = problem(examples, ways, features)
    fit = logistic(x, weight[..., None] * one_hot(y, ways), strength)
    for task in range(3):
        theirs = LogisticRegression(C=1 / strength, solver="newton-cg", tol=1e-12, max_iter=1000)
        theirs.fit(x[task].numpy(), y[task].numpy(), sample_weight=weight[task].numpy())
        expected = torch.tensor(theirs.predict_log_proba(x[task].numpy()))
        assert torch.allclose(fit(x)[task].log_softmax(-1), expected, atol=1e-6)
        assert torch.allclose(fit.w[task], torch.tensor(theirs.coef_.T), atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1000.0])
def test_long_features_in_single_precision_descend_too(scale: float) -> None:
    x, y, _ = problem(20, 5, 64)
    x, member = scale * x.float(), one_hot(y, 5).float()
    fit, exact = logistic(x, member, 1.0), logistic(x.double(), member.double(), 1.0)

    def value(w: Tensor, b: Tensor) -> Tensor:
        each = -(member * (x.double() @ w.double() + b.double()[:, None]).log_softmax(-1)).sum((1, 2))
        return each + w.double().square().sum((1, 2)) / 2

    assert bool((value(*fit) < value(*exact) + 1e-3).all())
    assert float(fit.b.mean(-1).abs().max()) < 1e-5


def test_the_slope_is_zero() -> None:
    x, y, weight = problem(10, 5, 20)
    member = weight[..., None] * one_hot(y, 5)
    w, b = logistic(x, member, 0.3)
    wrong = weight[..., None] * torch.softmax(x @ w + b[:, None], -1) - member
    assert float((x.mT @ wrong + 0.3 * w).abs().max()) < 1e-12
    assert float(wrong.sum(1).abs().max()) < 1e-12


def test_gradients() -> None:
    x, y, _ = problem(6, 3, 4)
    x = (x[:2] / 3).requires_grad_()
    member = one_hot(y[:2], 3)
    assert torch.autograd.gradcheck(lambda x: tuple(logistic(x, member, 0.5)), x)


def test_single_precision() -> None:
    x, y, _ = problem(25, 5, 64)
    exact, rounded = (logistic(z, one_hot(y, 5).to(z.dtype), 0.1)(z) for z in (x, x.float()))
    assert float((exact - rounded).abs().max()) < 1e-3
