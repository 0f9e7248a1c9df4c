from typing import Any

import pytest
import torch
from torch import Tensor, nn

from handful.ops.gradients import gradients_of
from handful.ops.tasks import call_each

pytestmark = pytest.mark.usefixtures("float64")
FORMS = pytest.mark.parametrize("form", ["graph", "recompute", "hvp"])
Tensors = dict[str, Tensor]


def leaves(**shapes: tuple[int, ...]) -> Tensors:
    return {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}


def curved(state: Tensors) -> Tensor:
    return (state["w"].exp() * state["u"].sin()).sum(1) + state["w"].pow(3).sum(1) * state["scale"]


@FORMS
def test_derivatives_reach_all_that_the_loss_depends_on(form: Any) -> None:
    """g = e^w sin u + 3w²s, so with v: ∂/∂w = (e^w sin u + 6ws)v, ∂/∂u = e^w cos u · v, ∂/∂s = Σ 3w²v."""
    theta, v = leaves(w=(2, 3), u=(2, 3), scale=(2,)), torch.randn(2, 3)
    w, u, s = theta["w"], theta["u"], theta["scale"][:, None]
    g = gradients_of(curved, theta, {}, ["w"], form)["w"]
    assert torch.allclose(g, w.exp() * u.sin() + 3 * w**2 * s)
    found = torch.autograd.grad(g, list(theta.values()), v)
    expected = (w.exp() * u.sin() + 6 * w * s) * v, w.exp() * u.cos() * v, (3 * w**2 * v).sum(1)
    for mine, want in zip(found, expected, strict=True):
        assert torch.allclose(mine, want, rtol=1e-12)


def test_without_a_derivative() -> None:
    theta = leaves(w=(2, 3), u=(2, 3), scale=(2,))
    assert not gradients_of(curved, theta, {}, ["w"], "none")["w"].requires_grad
    with torch.no_grad():
        assert gradients_of(curved, theta, {}, ["u", "w"], "none").keys() == {"u", "w"}


@FORMS
def test_what_takes_no_part_has_no_gradient(form: Any) -> None:
    theta = leaves(w=(2, 3), idle=(2, 1), other=(2, 1))
    found = gradients_of(lambda state: state["w"].square().sum(1), theta, {}, ["idle", "w"], form)
    assert set(found) == {"w"}
    slopes = torch.autograd.grad(found["w"].sum(), list(theta.values()), allow_unused=True)
    assert torch.equal(slopes[0], torch.full((2, 3), 2.0))
    assert all(slope is None or not bool(slope.any()) for slope in slopes[1:])


@FORMS
def test_a_gradient_that_depends_on_nothing(form: Any) -> None:
    theta = leaves(w=(2, 3))
    found = gradients_of(lambda state: state["w"].sum(1), theta, {}, ["w"], form)
    value = (found["w"] * theta["w"]).sum()
    assert torch.equal(torch.autograd.grad(value, theta["w"])[0], torch.ones(2, 3))


@FORMS
def test_only_some_of_the_gradients_are_used(form: Any) -> None:
    theta = leaves(w=(2, 3), u=(2, 3), scale=(2,))
    found = gradients_of(curved, theta, {}, ["u", "w"], form)
    (slope,) = torch.autograd.grad(found["u"].sum(), theta["w"])
    assert torch.allclose(slope, (theta["w"].exp() * theta["u"].cos()))


@FORMS
def test_what_needs_no_gradient_is_adapted_all_the_same(form: Any) -> None:
    theta = leaves(w=(2, 3), u=(2, 3), scale=(2,))
    theta["w"].requires_grad_(False)
    found = gradients_of(curved, theta, {}, ["w"], form)["w"]
    (slope,) = torch.autograd.grad(found.sum(), theta["u"])
    assert torch.allclose(slope, theta["w"].exp() * theta["u"].cos())
    assert not theta["w"].requires_grad


@FORMS
def test_buffers_are_written_once(form: Any) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh())
    theta = {n: p.detach().expand(2, *p.shape).clone().requires_grad_() for n, p in module.named_parameters()}
    buffers = {n: p.expand(2, *p.shape).clone() for n, p in module.named_buffers()}
    x = torch.randn(2, 5, 3)
    found = gradients_of(lambda state: call_each(module, state, x).mean((1, 2)), theta, buffers, list(theta), form)
    after = {name: leaf.clone() for name, leaf in buffers.items()}
    assert after["1.num_batches_tracked"].tolist() == [1, 1]
    sum(leaf.square().sum() for leaf in found.values()).backward()  # type: ignore[union-attr]
    assert all(torch.equal(leaf, after[name]) for name, leaf in buffers.items())


@FORMS
@pytest.mark.parametrize("tasks", [1, 3])
def test_the_same_noise_on_the_way_back_and_none_lost(form: Any, tasks: int) -> None:
    module = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.Tanh(), nn.Linear(16, 1))
    theta = {n: p.detach().expand(tasks, *p.shape).clone().requires_grad_() for n, p in module.named_parameters()}
    x = torch.randn(tasks, 5, 3)

    def slopes(form: Any) -> tuple[list[Tensor], Tensor]:
        torch.manual_seed(5)
        found = gradients_of(lambda s: call_each(module, s, x).square().mean((1, 2)), theta, {}, list(theta), form)
        drawn = torch.rand(2)
        value = sum(leaf.sin().sum() for leaf in found.values())
        made = torch.autograd.grad(value, list(theta.values()), allow_unused=True)  # type: ignore[arg-type]
        return [g if g is not None else torch.zeros(()) for g in made], torch.cat([drawn, torch.rand(2)])

    mine, drawn = slopes(form)
    wanted, expected = slopes("graph")
    assert torch.equal(drawn, expected), "the generator goes on as if nothing had been computed again"
    assert any(bool(g.any()) for g in wanted)
    for one, other in zip(mine, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-12)


class NoForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return slope * x.cos()


@pytest.mark.parametrize("layer", [lambda x: NoForwardMode.apply(x), lambda x: nn.functional.group_norm(x, 1)])
def test_operators_without_a_forward_derivative_are_recomputed(layer: Any) -> None:
    theta = leaves(w=(2, 3))
    wanted = None
    for form in ("graph", "hvp"):
        found = gradients_of(lambda state: layer(state["w"].pow(2)).pow(3).sum(1), theta, {}, ["w"], form)["w"]  # type: ignore[arg-type]
        (slope,) = torch.autograd.grad(found.square().sum(), theta["w"])
        assert wanted is None or torch.allclose(slope, wanted, rtol=1e-10)
        wanted = slope


@pytest.mark.parametrize("form", ["recompute", "hvp"])
def test_mixed_precision_is_that_of_the_first_pass(form: Any) -> None:
    seen: list[torch.dtype] = []
    theta = {name: leaf.detach().float().requires_grad_() for name, leaf in leaves(w=(1, 3, 3)).items()}
    x = torch.randn(4, 3).float()

    def loss(state: Tensors) -> Tensor:
        z = x @ state["w"][0]
        seen.append(z.dtype)
        return z.float().tanh().square().mean()

    with torch.autocast("cpu", torch.bfloat16):
        found = gradients_of(loss, theta, {}, ["w"], form)["w"]
    found.square().sum().backward()  # type: ignore[no-untyped-call]
    assert seen == [torch.bfloat16] * 2
