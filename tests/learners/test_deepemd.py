from typing import Any

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor
from variants_metric import SmoothMaps

from handful.encoders import Conv4
from handful.episode import Support
from handful.errors import SpecError
from handful.learner import task_losses
from handful.learners import DeepEMD

pytestmark = pytest.mark.usefixtures("float64")

EXACT = {"tolerance": 1e-13, "iterations": 20_000}


def learner(**options: Any) -> DeepEMD:
    return DeepEMD(SmoothMaps().double(), **options)


def by_linear_program(u: Tensor, v: Tensor) -> float:
    """The paper's similarity (eq. 1 to 4, 13) of two maps [C, R], by the linear program itself."""
    rows, columns = (u.T @ v.mean(1)).clamp(min=0) + 1e-3, (v.T @ u.mean(1)).clamp(min=0) + 1e-3
    a, b = u - u.mean(0), v - v.mean(0)
    similarity = (a.T @ b) / (a.norm(dim=0)[:, None] * b.norm(dim=0))
    places = len(rows)
    leave, arrive = torch.eye(places).repeat_interleave(places, 1), torch.eye(places).repeat(1, places)
    masses = torch.cat([rows / rows.sum(), columns / columns.sum()])
    cost = (1 - similarity).flatten()
    found = linprog(cost.numpy(), A_eq=torch.cat([leave, arrive]).numpy(), b_eq=masses.numpy())
    return 1 - float(found.fun)


def test_it_is_the_linear_program_as_regularization_falls() -> None:
    z, p = torch.randn(1, 3, 32), torch.randn(1, 2, 32)
    expected = torch.tensor([[by_linear_program(q.view(8, 4), c.view(8, 4)) for c in p[0]] for q in z[0]])
    gaps = []
    for regularization in (0.3, 0.1, 0.02):
        one = learner(temperature=1.0, regularization=regularization, **EXACT)
        gap = expected - one.predict_features(one.adapt_features(p, torch.arange(2)[None], 2), z)[0]
        assert bool((gap > -1e-8).all()), "no plan is better than the best"
        gaps.append(float(gap.max()))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-3


def test_gradients_of_logits_match_finite_differences() -> None:
    one = learner(regularization=0.1, **EXACT)
    z, p = torch.randn(1, 2, 32, requires_grad=True), torch.randn(1, 2, 32, requires_grad=True)
    y = torch.arange(2)[None]
    assert torch.autograd.gradcheck(
        lambda z, p: one.predict_features(one.adapt_features(p, y, 2), z), (z, p), atol=1e-5
    )


def test_equal_pictures_are_most_alike() -> None:
    one = learner(temperature=1.0, regularization=0.01, iterations=5000)
    z = torch.randn(1, 5, 32)
    logits = one.predict_features(one.adapt_features(z, torch.arange(5)[None], 5), z)
    assert torch.equal(logits[0].argmax(1), torch.arange(5))
    assert bool((logits[0].diagonal() > 0.95).all())


@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_structured_layer_descends_the_support_loss(context: Any) -> None:
    plain, tuned = learner(), learner(structured_steps=10, structured_rate=0.05)
    tuned.load_state_dict(plain.state_dict())
    support = Support(torch.randn(2, 6, 1, 6, 6), torch.tensor([[0, 1, 2, 0, 1, 2]] * 2), 3)
    with context():
        losses = [task_losses(one.predict(one.adapt(support), support.x), support.y) for one in (plain, tuned)]
        apart = tuned.adapt(support.part(1, 2)).p
        assert torch.allclose(apart[0], tuned.adapt(support).p[1])
    assert bool((losses[1] < losses[0]).all())
    assert tuned.adapt(support).p.requires_grad, "the gradient of the mean map is kept"


def test_maps_of_any_encoder_that_says_their_shape() -> None:
    assert DeepEMD(Conv4(halvings=2)).shape == (64, 7, 7)
    with pytest.raises(SpecError, match="regularization, tolerance"):
        learner(regularization=0.0)
