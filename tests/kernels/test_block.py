"""The fused block against PyTorch's own operators: values, gradients, and gradients of gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handful import MAML, Conv4, Episode, PrototypicalNetwork, Query, Support
from handful.encoders.normalization import Policy
from handful.kernels import available, framed, plain, pooled_block, reason, unframed

pytestmark = pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}")


def reference(
    x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, support: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    y = F.conv2d(x, w, padding=1)
    variance, mean = torch.var_mean(y[:support], (0, 2, 3), correction=0)
    scale, mean_of = gamma * torch.rsqrt(variance + 1e-5), mean[:, None, None]
    z = F.max_pool2d(F.relu(scale[:, None, None] * (y - mean_of) + beta[:, None, None]), 2)
    return z, mean, variance


def inputs(n: int, channels: int, height: int, width: int, filters: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n * height + width)
    x = torch.randn(n, channels, height, width, generator=generator, dtype=dtype)
    w = torch.randn(filters, channels, 3, 3, generator=generator, dtype=dtype) / 3
    gamma, beta = torch.randn(2, filters, generator=generator, dtype=dtype)  # scales of both signs
    return [x, w, gamma, beta]


@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 5), (4, 33), (13, 12), (12, 15), (21, 40)])
@pytest.mark.parametrize(("channels", "filters"), [(1, 64), (3, 32), (2, 96), (32, 64), (64, 32), (96, 128)])
@pytest.mark.parametrize("support", [None, 1, 2])
def test_values(channels: int, filters: int, height: int, width: int, support: int | None) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-4)):
        x, w, gamma, beta = inputs(3, channels, height, width, filters, dtype)
        z, mean, variance = pooled_block(framed(x), w, gamma, beta, 1e-5, support)
        expected = reference(x, w, gamma, beta, support)
        for got, wanted in zip((unframed(z), mean, variance), expected, strict=True):
            torch.testing.assert_close(got, wanted, atol=tolerance, rtol=tolerance)
        border = z.clone()
        border[:, 1:-1, 1:-1] = 0
        assert not border.any(), "a convolution reads zeros around a map"


@pytest.mark.parametrize(("height", "width"), [(7, 6), (12, 13)])
@pytest.mark.parametrize(("channels", "filters"), [(3, 32), (32, 64), (64, 32)])
@pytest.mark.parametrize("support", [None, 1, 3])
@pytest.mark.parametrize("of_x", [False, True])
def test_first_and_second_derivatives(
    channels: int, filters: int, height: int, width: int, support: int | None, threads: int, of_x: bool
) -> None:
    """The gradient of a function of the gradient, along random directions."""
    values = inputs(4, channels, height, width, filters, torch.float64)
    wanted = values if of_x else values[1:]
    for value in wanted:
        value.requires_grad_()
    directions = [torch.randn_like(value) for value in wanted]

    def derivatives(run: object) -> list[Tensor]:
        z = run(*values)  # type: ignore[operator]
        first = torch.autograd.grad((z * torch.sin(z)).sum(), wanted, create_graph=True)
        along = sum((g * d).sum() for g, d in zip(first, directions, strict=True)) + first[-1].square().sum() + z.sum()
        return [*first, *torch.autograd.grad(along, wanted)]

    fused = derivatives(lambda x, w, a, b: unframed(pooled_block(framed(x), w, a, b, 1e-5, support).z))
    for got, expected in zip(fused, derivatives(lambda *v: reference(*v, support)[0]), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 30)])
def test_pictures_that_somebody_made_have_gradients_under_vmap(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    encoder = Conv4(shape=shape, filters=32, normalization="batch").double()
    x = torch.rand(2, 6, *shape, dtype=torch.float64, requires_grad=True)  # `vmap` hides that it wants a gradient
    theta = {name: leaf.detach().expand(2, *leaf.shape) for name, leaf in encoder.named_parameters()}

    def slopes() -> Tensor:
        z = torch.func.vmap(lambda own, pictures: torch.func.functional_call(encoder, own, (pictures,)))(theta, x)
        return torch.autograd.grad(z.square().sum(), x)[0]

    fused = slopes()
    with plain():
        expected = slopes()
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(fused, expected, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("support", [3, 2])
def test_finite_differences(support: int) -> None:
    _, w, gamma, beta = (v.requires_grad_() for v in inputs(3, 1, 4, 5, 32, torch.float64))
    x = framed(inputs(3, 1, 4, 5, 32, torch.float64)[0])

    def run(w: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return pooled_block(x, w, gamma, beta, 1e-5, support).z

    assert torch.autograd.gradcheck(run, (w, gamma, beta), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (w, gamma, beta), fast_mode=True)


@pytest.mark.parametrize(("shape", "filters"), [((1, 28, 28), 64), ((3, 53, 42), 32), ((2, 17, 30), 96)])
@pytest.mark.parametrize("policy", ["running", "per_step", "frozen"])
def test_evaluation_keeps_no_maps_and_says_the_same(
    shape: tuple[int, ...], filters: int, policy: Policy, threads: int
) -> None:
    torch.manual_seed(0)
    encoder = Conv4(shape=shape, filters=filters, normalization=policy, steps=2).double().eval()
    with torch.no_grad():
        for leaf in [*encoder.parameters(), *encoder.buffers()]:
            leaf += 0.3 * torch.rand_like(leaf)
        x = torch.randn(2, 5, *shape, dtype=torch.float64)
        x[1, 2, 0, 3, 4] = torch.nan
        with plain():
            expected = encoder(x.flatten(0, 1))
        assert bool((expected[:7] != 0).any(1).all())
        torch.testing.assert_close(encoder(x.flatten(0, 1)), expected, atol=1e-12, rtol=1e-12, equal_nan=True)
        mapped = torch.func.vmap(encoder)(x).flatten(0, 1)
        torch.testing.assert_close(mapped, expected, atol=1e-12, rtol=1e-12, equal_nan=True)
        many = encoder(x.expand(40, 2, 5, *shape).flatten(0, 2))
        torch.testing.assert_close(many[-10:], expected, atol=1e-12, rtol=1e-12, equal_nan=True)
    assert encoder(x[0]).requires_grad, "not where somebody may ask for a derivative"


def third(run: Callable[..., Tensor], w: Tensor) -> Tensor:
    value = run(w).square().sum()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(value, w, create_graph=True)
        value = gradient.square().sum()
    return torch.autograd.grad(value, w)[0]


def test_third_derivatives_are_those_of_torch_or_refused() -> None:
    x, w, gamma, beta = inputs(3, 2, 4, 6, 32, torch.float64)
    w.requires_grad_()
    got = third(lambda w: pooled_block(framed(x), w, gamma, beta, 1e-5).z, w)
    torch.testing.assert_close(got, third(lambda w: reference(x, w, gamma, beta)[0], w), atol=1e-9, rtol=1e-9)
    x, w, gamma, beta = inputs(3, 32, 4, 4, 32, torch.float64)
    w.requires_grad_()
    with pytest.raises(NotImplementedError, match="third derivatives"):
        third(lambda w: pooled_block(framed(x), w, gamma, beta, 1e-5).z, w)


def test_statistics_of_pictures_where_filters_hear_little_of_them() -> None:
    """Neighbors are nearly alike, and a filter of differences hears a thousandth of them: nothing may cancel."""
    x = inputs(6, 3, 2, 2, 32, torch.float32)[0]
    x = F.interpolate(x, (40, 40), mode="bicubic") + 0.5
    w = torch.zeros(32, 3, 3, 3)
    w[:, :, 1, 0], w[:, :, 1, 2] = -1, 1
    ones, zeros = torch.ones(32), torch.zeros(32)
    z, mean, variance = pooled_block(framed(x), w, ones, zeros, 1e-9)
    exact = reference(*(v.double() for v in (x, w, ones, zeros)))
    torch.testing.assert_close(mean.double(), exact[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(variance.double(), exact[2], rtol=1e-5, atol=0)
    torch.testing.assert_close(unframed(z).double(), exact[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("support", [4, 2])
def test_mapped_over_tasks(support: int) -> None:
    """`vmap` of the forward pass, of the gradient, and with what tasks share."""
    x, w, gamma, beta = (torch.stack([v, v + 0.1, v * 2]) for v in inputs(4, 32, 6, 6, 32, torch.float64))
    directions = torch.randn_like(x)

    def loss(w: Tensor, x: Tensor, gamma: Tensor, beta: Tensor, direction: Tensor) -> Tensor:
        z = pooled_block(framed(x), w, gamma, beta, 1e-5, support).z
        return (z.sin().sum((1, 2)) * direction[:, :, 0, 0]).sum()

    mapped = torch.func.vmap(torch.func.grad(loss), in_dims=(0, 0, None, 0, 0))
    got = mapped(w, x, gamma[0], beta, directions)
    for task in range(3):
        leaf = w[task].clone().requires_grad_()
        value = loss(leaf, x[task], gamma[0], beta[task], directions[task])
        torch.testing.assert_close(got[task], torch.autograd.grad(value, leaf)[0], atol=1e-10, rtol=1e-10)


def test_nan_and_constants_as_in_torch() -> None:
    x, w, gamma, beta = inputs(3, 3, 6, 6, 32, torch.float32)
    w[0] = 0  # a channel without variance
    gamma[1] = 0  # and one without scale
    beta[1] = 0.5
    torch.testing.assert_close(
        unframed(pooled_block(framed(x), w, gamma, beta, 1e-5).z), reference(x, w, gamma, beta)[0], atol=1e-4, rtol=1e-4
    )
    x[1, 0, 2, 2] = torch.nan
    assert torch.isnan(unframed(pooled_block(framed(x), w, gamma, beta, 1e-5).z)).all()


def test_far_from_zero_variance_is_exact() -> None:
    x, w, gamma, beta = inputs(8, 1, 16, 16, 32, torch.float32)
    x = x * 0.01 + 100
    w = w - w.mean((1, 2, 3), keepdim=True) + 1 / 9  # the mean of a window: far from zero, hardly varying
    exact = reference(*(v.double() for v in (x, w, gamma, beta)))[2]
    got = pooled_block(framed(x), w, gamma, beta, 1e-5).variance
    torch.testing.assert_close(got.double(), exact, rtol=1e-3, atol=0)


def episode(dtype: torch.dtype, shape: tuple[int, ...], tasks: int = 3) -> Episode:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(5).repeat(2).expand(tasks, 10).contiguous()
    x = torch.randn(2, tasks, 10, *shape, generator=generator, dtype=dtype)
    return Episode(Support(x[0], y, 5), Query(x[1], y))


def gradients(learner: nn.Module, episode: Episode) -> list[Tensor]:
    learner.zero_grad()
    learner.loss(episode).backward()
    return [p.grad.clone() for p in learner.parameters() if p.grad is not None]


@pytest.mark.parametrize("policy", ["batch", "support", "running", "per_step"])
@pytest.mark.parametrize("first_order", [False, True])
def test_maml(policy: str, first_order: bool) -> None:
    shape = (3, 17, 19)
    learners = []
    for _ in range(2):
        torch.manual_seed(0)
        encoder = Conv4(shape=shape, filters=32, normalization=policy, steps=3)
        learners.append(MAML(encoder, outputs=5, inner_rate=0.1, inner_steps=2, first_order=first_order).double())
    fused, native = learners
    got = gradients(fused, episode(torch.float64, shape))
    with plain():
        expected = gradients(native, episode(torch.float64, shape))
    for a, b in itertools.chain(zip(got, expected, strict=True), zip(fused.buffers(), native.buffers(), strict=True)):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_prototypical_in_single_precision() -> None:
    learners = []
    for _ in range(2):
        torch.manual_seed(0)
        learners.append(PrototypicalNetwork(Conv4(shape=(1, 28, 28), filters=64)))
    fused, native = learners
    got = gradients(fused, episode(torch.float32, (1, 28, 28), tasks=1))
    with plain():
        expected = gradients(native, episode(torch.float32, (1, 28, 28), tasks=1))
    for a, b in itertools.chain(zip(got, expected, strict=True), zip(fused.buffers(), native.buffers(), strict=True)):
        assert (a - b).norm() <= 1e-2 * b.norm() + 1e-6  # equal values in a window may be told apart by rounding


def test_any_strides() -> None:
    x = torch.rand(4, 28, 28, 1).movedim(-1, 1)
    torch.manual_seed(0)
    encoder = Conv4(filters=32, normalization="batch")
    encoder.blocks[0][0].weight.data = encoder.blocks[0][0].weight.data.to(memory_format=torch.channels_last)
    encoder.blocks[1][0].weight.data = encoder.blocks[1][0].weight.data.to(memory_format=torch.channels_last)
    with plain():
        expected = encoder(x)
    torch.testing.assert_close(encoder(x), expected, atol=1e-4, rtol=1e-4)
