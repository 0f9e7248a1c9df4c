import numpy as np
import pytest
import scipy.optimize
import torch
from sklearn.svm import LinearSVC
from torch import Tensor
from torch.nn.functional import one_hot

from handful.ops.svm import crammer_singer, onto_simplex

pytestmark = pytest.mark.usefixtures("float64")


def problem(examples: int, ways: int, features: int, tasks: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    y = torch.stack([torch.arange(examples).remainder(ways)[torch.randperm(examples)] for _ in range(tasks)])
    return torch.randn(tasks, examples, features) + 1.5 * torch.randn(tasks, ways, features).gather(
        1, y[..., None].expand(-1, -1, features)
    ), y


def test_projection_onto_a_simplex() -> None:
    v, size = torch.randn(200, 5), torch.rand(200, 1)
    p = onto_simplex(v, size)
    assert torch.allclose(p.sum(-1, keepdim=True), size)
    assert bool((p >= 0).all())
    others = size * torch.distributions.Dirichlet(torch.ones(5)).sample((200, 50)).transpose(0, 1)  # [50, 200, 5]
    assert bool(((others - v).square().sum(-1) >= (p - v).square().sum(-1)).all()), "nothing there is nearer"
    assert torch.equal(onto_simplex(v, torch.zeros(200, 1)), torch.zeros(200, 5))


@pytest.mark.parametrize(("box", "damping"), [(0.1, 1.0), (1.0, 1.0), (0.5, 0.05)])
def test_it_is_a_reference_solvers_solution(box: float, damping: float) -> None:
    """SciPy's SLSQP on the whole quadratic program."""
    z, y = problem(9, 3, 5)
    found = crammer_singer(z @ z.mT, one_hot(y, 3), box=box, damping=damping)
    rows = np.kron(np.eye(9), np.ones((1, 3)))
    for task in range(3):
        h = np.kron((z[task] @ z[task].T).numpy() + damping * np.eye(9), np.eye(3))
        e = one_hot(y[task], 3).double().numpy().ravel()
        theirs = scipy.optimize.minimize(
            lambda a, h=h, e=e: 0.5 * a @ h @ a - a @ e,
            np.zeros(27),
            jac=lambda a, h=h, e=e: h @ a - e,
            bounds=[(None, box * one) for one in e],
            constraints={"type": "eq", "fun": lambda a: rows @ a, "jac": lambda a: rows},
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 1000},
        )
        mine = found[task].flatten().numpy()
        assert 0.5 * mine @ h @ mine - mine @ e <= theirs.fun + 1e-12
        assert np.abs(mine - theirs.x).max() < 1e-6


@pytest.mark.parametrize(
    ("examples", "ways", "features", "box"), [(25, 5, 64, 0.1), (100, 20, 64, 0.1), (30, 5, 8, 2.0)]
)
def test_conditions_of_the_optimum(examples: int, ways: int, features: int, box: float) -> None:
    """Karush, Kuhn & Tucker: sums are zero, no bound is passed, and no allowed move descends. In float32 nearly so."""
    z, y = problem(examples, ways, features)
    label = one_hot(y, ways).double()
    alpha = crammer_singer(z @ z.mT, label, box=box)
    assert float(alpha.sum(-1).abs().max()) < 1e-12
    assert float((alpha - box * label).max()) < 1e-12
    slope = alpha + z @ (z.mT @ alpha) - label
    free = alpha < box * label - 1e-9
    spread = slope.masked_fill(~free, -torch.inf).amax(-1) - slope.masked_fill(~free, torch.inf).amin(-1)
    assert float(spread.max()) < 1e-9, "free entries of a row have one slope"
    at_bound = slope - slope.masked_fill(~free, -torch.inf).amax(-1, keepdim=True)
    assert float(at_bound.masked_fill(free | ~free.any(-1, keepdim=True), -torch.inf).max()) < 1e-9
    rounded = crammer_singer(z.float() @ z.mT.float(), label.float(), box=box)
    scores, exact = z @ (z.mT @ rounded.double()), z @ (z.mT @ alpha)
    assert float((scores - exact).abs().max() / exact.abs().max()) < 2e-4


def test_long_features_in_single_precision() -> None:
    """As an encoder without a last normalization gives them: all positive, and a hundred times as long as δ."""
    z, y = problem(25, 5, 64, tasks=20)
    z = (2 * z + 1).relu()
    label = one_hot(y, 5).double()
    exact = crammer_singer(z @ z.mT, label, box=0.1, tolerance=1e-11, steps=20000)
    rounded = crammer_singer(z.float() @ z.mT.float(), label.float(), box=0.1).double()
    scores = z @ (z.mT @ exact)
    assert float((z @ (z.mT @ rounded) - scores).abs().max() / scores.abs().max()) < 1e-3
    assert bool((scores.argmax(-1) == y).all())


def test_it_is_liblinears_machine() -> None:
    """Damping δ is one more feature for each example, of size √δ."""
    z, y = problem(12, 3, 4, tasks=1)
    alpha = crammer_singer(z @ z.mT, one_hot(y, 3), box=0.7)
    more = torch.cat([z[0], torch.eye(12)], 1)
    theirs = LinearSVC(multi_class="crammer_singer", C=0.7, fit_intercept=False, tol=1e-10, max_iter=100000)
    theirs.fit(more.numpy(), y[0].numpy())
    assert torch.allclose(more.T @ alpha[0], torch.tensor(theirs.coef_.T), atol=1e-5)


def test_gradients() -> None:
    z, y = problem(6, 3, 3, tasks=1)
    z.requires_grad_()
    member = one_hot(y, 3)
    assert torch.autograd.gradcheck(lambda z: crammer_singer(z @ z.mT, member, box=0.3), z)


def test_an_example_of_weight_two_is_two_of_it() -> None:
    z, y = problem(6, 2, 4, tasks=1)
    member = one_hot(y, 2).double()
    weight = torch.tensor([2.0, 1, 1, 0, 1, 1])
    once = crammer_singer(z @ z.mT, weight[:, None] * member, box=0.2)[0]
    rows = [0, 0, 1, 2, 4, 5]
    some = z[:, rows]
    twice = crammer_singer(some @ some.mT, member[:, rows], box=0.2)[0]
    assert torch.allclose(z[0].T @ once, some[0].T @ twice)
