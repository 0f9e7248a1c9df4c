import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from handful.ops.ridge import leave_one_out, ridge

pytestmark = pytest.mark.usefixtures("float64")

SIZES = pytest.mark.parametrize(("examples", "features"), [(6, 9), (12, 4), (5, 5)], ids=["dual", "primal", "square"])
INTERCEPT = pytest.mark.parametrize("intercept", [False, True], ids=["through-zero", "intercept"])


def problem(examples: int, features: int, *, tasks: int = 3, targets: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x, y = torch.randn(tasks, examples, features) + 2, torch.randn(tasks, examples, targets)
    return x, y, torch.rand(tasks, examples) + 0.2


def test_equal_examples_with_long_features_are_solved_in_single_precision_too() -> None:
    torch.manual_seed(0)
    x = 255 * torch.rand(4, 10, 784, dtype=torch.float32)
    x[2, 3] = x[2, 4]
    y = torch.nn.functional.one_hot(torch.arange(10) % 5, 5).float().expand(4, -1, -1)
    fit = ridge(x, y, 0.1)
    assert fit.w.dtype == torch.float32
    expected = ridge(x.double(), y.double(), 0.1)
    assert torch.allclose(fit(x).double(), expected(x.double()), atol=1e-4)


@SIZES
@INTERCEPT
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_scikit_learns(examples: int, features: int, intercept: bool, weighted: bool) -> None:
    x, y, weight = problem(examples, features)
    strength = torch.tensor([0.01, 1.0, 30.0])
    fit = ridge(x, y, strength, weight=weight if weighted else None, intercept=intercept)
    assert fit.w.shape == (3, features, 2)
    assert fit.b.shape == (3, 2)
    for task in range(3):
        theirs = Ridge(alpha=float(strength[task]), fit_intercept=intercept, solver="cholesky")
        theirs.fit(x[task].numpy(), y[task].numpy(), sample_weight=weight[task].numpy() if weighted else None)
        assert torch.allclose(fit.w[task], torch.tensor(theirs.coef_.T), rtol=1e-8)
        assert torch.allclose(fit.b[task], torch.as_tensor(theirs.intercept_), rtol=1e-8)
        assert torch.allclose(fit(x)[task], torch.tensor(theirs.predict(x[task].numpy())), rtol=1e-8)


@SIZES
@INTERCEPT
@pytest.mark.parametrize("weighted", [False, True])
def test_leaving_one_out_is_learning_without_it(examples: int, features: int, intercept: bool, weighted: bool) -> None:
    x, y, weight = problem(examples, features)
    weight = weight if weighted else torch.ones_like(weight)
    for strength in (1e-6, 0.3, torch.tensor([0.1, 1.0, 10.0])):
        found = leave_one_out(x, y, strength, weight=weight, intercept=intercept)
        for i in range(examples):
            others = [j for j in range(examples) if j != i]
            fit = ridge(x[:, others], y[:, others], strength, weight=weight[:, others], intercept=intercept)
            assert torch.allclose(found[:, i], fit(x)[:, i], rtol=1e-5, atol=1e-7), i


@SIZES
@INTERCEPT
def test_an_example_without_weight_is_answered_by_all_others(examples: int, features: int, intercept: bool) -> None:
    x, y, weight = problem(examples, features)
    weight[:, 1] = 0
    found = leave_one_out(x, y, 0.5, weight=weight, intercept=intercept)
    assert torch.allclose(found[:, 1], ridge(x, y, 0.5, weight=weight, intercept=intercept)(x)[:, 1])
    rest = [0, *range(2, examples)]
    without = leave_one_out(x[:, rest], y[:, rest], 0.5, weight=weight[:, rest], intercept=intercept)
    assert torch.allclose(found[:, rest], without)


@SIZES
@INTERCEPT
def test_gradients(examples: int, features: int, intercept: bool) -> None:
    x, y, weight = problem(examples, features, tasks=1, targets=1)
    strength = torch.tensor(0.7)
    inputs = [leaf.requires_grad_() for leaf in (x, y, strength, weight)]

    def fitted(x: Tensor, y: Tensor, strength: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return tuple(ridge(x, y, strength, weight=weight, intercept=intercept))

    def left_out(x: Tensor, y: Tensor, strength: Tensor, weight: Tensor) -> Tensor:
        return leave_one_out(x, y, strength, weight=weight, intercept=intercept)

    assert torch.autograd.gradcheck(fitted, inputs)
    assert torch.autograd.gradcheck(left_out, inputs)


@INTERCEPT
def test_single_precision_is_enough_where_nearly_everything_is_fitted(intercept: bool) -> None:
    """25 examples, 64 features, a small λ: every residual is tiny, and what is left out is not."""
    torch.manual_seed(0)
    x, y = torch.randn(2, 25, 64) + 1, torch.randn(2, 25, 5)
    exact = leave_one_out(x, y, 1e-3, intercept=intercept)
    rounded = leave_one_out(x.float(), y.float(), 1e-3, intercept=intercept)
    assert float((exact - rounded).abs().max()) < 1e-3


def test_mixed_precision_stays_outside() -> None:
    x, y, _ = problem(6, 9)
    with torch.autocast("cpu", torch.bfloat16):
        fit = ridge(x.bfloat16(), y.bfloat16(), 0.1)
    assert fit.w.dtype == torch.float32
    assert torch.allclose(fit.w, ridge(x.bfloat16().float(), y.bfloat16().float(), 0.1).w)
