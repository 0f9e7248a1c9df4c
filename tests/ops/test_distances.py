import pytest
import torch

from handful.ops.distances import cosine_similarities, distances, squared_distances

pytestmark = pytest.mark.usefixtures("float64")


def test_by_hand() -> None:
    a, b = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]]), torch.tensor([[[3.0, 4.0], [0.0, -1.0]]])
    assert torch.equal(squared_distances(a, b), torch.tensor([[[25.0, 1.0], [0.0, 34.0]]]))  # squared, and summed


def test_against_the_definition_for_every_task_with_gradients() -> None:
    a, b = torch.randn(3, 5, 7, requires_grad=True), torch.randn(3, 4, 7, requires_grad=True)
    expected = (a[:, :, None] - b[:, None]).square().sum(-1)
    assert torch.allclose(squared_distances(a, b), expected)
    assert torch.autograd.gradcheck(squared_distances, (a, b))
    assert torch.autograd.gradgradcheck(squared_distances, (a, b))


def test_single_precision_is_as_good_as_its_squares() -> None:
    a, b = torch.randn(1, 50, 64), torch.randn(1, 5, 64)
    exact = squared_distances(a, b)
    error = (squared_distances(a.float(), b.float()) - exact).abs() / exact
    assert float(error.max()) < 1e-5


def test_far_from_the_origin_little_is_lost() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 50, 16), torch.randn(2, 5, 16)
    expected = squared_distances(a.double(), b.double())
    moved = squared_distances((a + 3e4).double().float(), (b + 3e4).double().float())
    assert float((moved - expected).abs().max()) < 0.1  # the inputs themselves are rounded to 0.002
    assert float(moved.min()) > 0


def test_mixed_precision_stays_outside() -> None:
    torch.manual_seed(0)
    a, b = 10 * torch.randn(2, 50, 16).float(), 10 * torch.randn(2, 5, 16).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert squared_distances(a, b).dtype == torch.float32
        assert squared_distances(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert torch.allclose(squared_distances(a, b), torch.cdist(a, b).square(), rtol=1e-3, atol=1e-2)


def test_distances_have_a_gradient_of_zero_where_they_are_zero() -> None:
    a = torch.randn(1, 3, 4, requires_grad=True)
    found = distances(a, a)
    assert torch.allclose(found, torch.cdist(a, a), atol=1e-7)
    (slope,) = torch.autograd.grad(distances(a, a.detach()).sum(), a)
    assert bool(slope.isfinite().all())


def test_cosines_are_torchs_and_0_for_a_vector_of_zeros() -> None:
    a, b = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 5, 4, requires_grad=True)
    expected = torch.nn.functional.cosine_similarity(a[:, :, None], b[:, None], dim=-1)
    assert torch.allclose(cosine_similarities(a, b), expected)
    assert torch.autograd.gradcheck(cosine_similarities, (a, b))
    nothing = torch.zeros(1, 1, 4, requires_grad=True)
    cosines = cosine_similarities(nothing, b[:1])
    assert not cosines.any()
    (slope,) = torch.autograd.grad(cosines.sum(), nothing)
    assert bool(slope.isfinite().all())
