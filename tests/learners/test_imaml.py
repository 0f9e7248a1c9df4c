import pytest
import torch
from torch import nn

from handful.episode import Episode, Query, Support
from handful.errors import SpecError
from handful.learners import IMAML

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("engine", [{}, {"tasks_at_once": 1}, {"gradient": "recompute"}])
def test_a_quadratic_is_solved_in_closed_form(engine: dict[str, object]) -> None:
    """Linear regression: with H = 2XᵀX/S and c = 2Xᵀy/S, φ* = (H + λI)⁻¹(c + λθ) and dφ*/dθ = λ(H + λI)⁻¹."""
    strength, (b, s, d) = 0.7, (3, 5, 4)
    x, y, qx, qy = torch.randn(b, s, d), torch.randn(b, s, 1), torch.randn(b, 6, d), torch.randn(b, 6, 1)
    model = nn.Linear(d, 1, bias=False)
    learner = IMAML(model, strength=strength, inner_rate=0.2, inner_steps=400, conjugate_steps=d, engine=engine)  # type: ignore[arg-type]
    episode = Episode(Support(x, y), Query(qx, qy))
    theta = model.weight.detach().clone().requires_grad_()
    system = 2 * x.mT @ x / s + strength * torch.eye(d)
    phi = torch.linalg.solve(system, 2 * x.mT @ y / s + strength * theta.mT)  # [B, d, 1]
    expected = (qx @ phi - qy).square().mean()
    expected.backward()  # type: ignore[no-untyped-call]
    state = learner.adapt(episode.support)
    assert torch.allclose(state.parameters["weight"], phi.mT, atol=1e-8)
    loss = learner.loss(episode)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.allclose(loss, expected)
    assert model.weight.grad is not None
    assert theta.grad is not None
    assert torch.allclose(model.weight.grad, theta.grad, atol=1e-8)


def test_infinite_strength_is_plain_training() -> None:
    """φ* = θ, so that the meta-gradient is that of the queries at θ."""
    model = nn.Linear(2, 1)
    learner = IMAML(model, strength=1e9, inner_rate=1e-10)
    x, y = torch.randn(2, 6, 2), torch.randn(2, 6, 1)
    episode = Episode(Support(x[:, :3], y[:, :3]), Query(x[:, 3:], y[:, 3:]))
    plain = torch.autograd.grad((model(x[:, 3:]) - y[:, 3:]).square().mean(), list(model.parameters()))
    mine = torch.autograd.grad(learner.loss(episode), list(model.parameters()))
    for one, other in zip(mine, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_strength_must_hold() -> None:
    for options in ({"strength": 0.0}, {"conjugate_steps": 0}):
        with pytest.raises(SpecError, match="IMAML: expected a strength above 0"):
            IMAML(nn.Linear(1, 1), **options)  # type: ignore[arg-type]
