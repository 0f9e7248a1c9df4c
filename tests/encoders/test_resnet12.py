from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from handful.encoders.normalization import BatchNorm, Policy, adapting
from handful.encoders.resnet12 import DropBlock, ResNet12
from handful.episode import Episode, Query, Support
from handful.errors import ShapeError, SpecError, UnknownNameError
from handful.learners import MAML
from handful.ops.engine import Engine
from handful.ops.tasks import call_each
from handful.spec import Spec, build

pytestmark = pytest.mark.usefixtures("float64")

SMALL: dict[str, Any] = {"shape": (2, 16, 18), "widths": (8, 8, 8, 16)}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_and_weights_are_the_published_ones() -> None:
    encoder = ResNet12()
    assert encoder.out_features == 640
    assert ResNet12(average=False).out_features == 16000
    assert ResNet12(shape=(1, 28, 28), average=False).out_features == 640
    assert ResNet12(widths=(64, 128, 256, 512)).out_features == 512
    pairs = [(3, 64), (64, 160), (160, 320), (320, 640)]
    convolutions = sum(9 * a * b + 2 * 9 * b * b + a * b for a, b in pairs)
    assert count(encoder) == convolutions + sum(4 * 2 * b for _, b in pairs) == 12_424_320
    deviation = encoder.blocks[3].body[3].weight.detach().std()  # type: ignore[union-attr,index]
    assert float(deviation) == pytest.approx((2 / (9 * 640)) ** 0.5, rel=0.01)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("policy", ["running", "batch", "group", "none"])
def test_blocks_are_three_convolutions_and_a_shortcut(average: bool, policy: Policy) -> None:
    encoder = ResNet12(**SMALL, average=average, normalization=policy)
    x = torch.randn(6, 2, 16, 18)
    z: Tensor = x
    for block in encoder.blocks:
        first, n1, _, second, n2, _, third, n3 = block.body  # type: ignore[union-attr,misc]
        across, n4 = block.shortcut  # type: ignore[union-attr,misc]
        y = F.leaky_relu(n1(F.conv2d(z, first.weight, first.bias, padding=1)), 0.1)
        y = F.leaky_relu(n2(F.conv2d(y, second.weight, second.bias, padding=1)), 0.1)
        y = n3(F.conv2d(y, third.weight, third.bias, padding=1)) + n4(F.conv2d(z, across.weight, across.bias))
        z = F.max_pool2d(F.leaky_relu(y, 0.1), 2)
        assert all((c.bias is None) == (policy != "none") for c in (first, second, third, across))
    expected = z.mean((2, 3)) if average else z.flatten(1)
    assert torch.allclose(encoder(x), expected)
    assert encoder(x).shape == (6, encoder.out_features)
    assert encoder.shape == (2, 16, 18)


def test_the_policy_and_steps_reach_every_layer() -> None:
    layers = [m for m in ResNet12(**SMALL, normalization="per_step", steps=5).modules() if isinstance(m, BatchNorm)]
    assert [layer.policy for layer in layers] == ["per_step"] * 16
    assert [layer.weight.shape[0] for layer in layers] == [5] * 16


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ShapeError, match=r"expected a shape \[channels, height, width\], got \[28, 28\]"):
        ResNet12(shape=(28, 28))
    for wrong in ((3, 15, 30), (3, 30, 15), (0, 28, 28)):
        with pytest.raises(ShapeError, match=f"at least one channel and pictures of at least 16×16.*{wrong[1]}"):
            ResNet12(shape=wrong)
    for widths in ((8, 8, 8), (8, 8, 8, 8, 8), (8, 8, 0, 8)):
        with pytest.raises(ShapeError, match=r"expected four widths of at least one channel, got \[8, 8"):
            ResNet12(widths=widths)
    for drop in (-0.1, 1.0, float("nan")):
        with pytest.raises(SpecError, match=rf"expected `drop`, a share of the values, in \[0, 1\), got {drop}"):
            ResNet12(drop=drop)
    with pytest.raises(ShapeError, match="drop_size=0"):
        ResNet12(drop=0.1, drop_size=0)
    with pytest.raises(ShapeError, match="multiple of 8 channels, got 12"):
        ResNet12(widths=(8, 12, 8, 8), normalization="group")
    with pytest.raises(UnknownNameError, match="did you mean 'batch'"):
        ResNet12(normalization="batc")  # type: ignore[arg-type]


# Dropping


def test_what_is_dropped_where() -> None:
    assert not [layer for layer in ResNet12().modules() if isinstance(layer, DropBlock)]
    encoder = ResNet12(**SMALL, drop=0.1)
    drops = [layer for layer in encoder.modules() if isinstance(layer, DropBlock)]
    assert [(layer.drop, layer.size) for layer in drops] == [(0.1, 1), (0.1, 1), (0.1, 5), (0.1, 5)]
    assert repr(drops[3]) == "DropBlock(0.1, size=5)"
    assert encoder.state_dict().keys() == ResNet12(**SMALL).state_dict().keys()
    x = torch.randn(4, 2, 16, 18)
    torch.manual_seed(1)
    first = encoder(x)
    assert not torch.allclose(encoder(x), first)
    torch.manual_seed(1)
    assert torch.equal(encoder(x), first), "the noise is torch's own"
    assert torch.equal(encoder.eval()(x), encoder(x))


@pytest.mark.parametrize(("size", "height", "width"), [(1, 6, 7), (2, 6, 7), (5, 10, 9), (5, 3, 10), (7, 2, 2)])
def test_squares_of_the_size_are_dropped(size: int, height: int, width: int) -> None:
    layer = DropBlock(0.3, size)
    kept = layer.mask(torch.ones(50, 40, height, width))
    tall, wide = min(size, height), min(size, width)
    assert set(kept.unique().tolist()) == {0, 1}
    begins = F.max_pool2d(kept, (tall, wide), stride=1) == 0  # whole squares of zeros
    covered = torch.zeros_like(kept, dtype=torch.bool)
    for row in range(begins.shape[2]):
        for column in range(begins.shape[3]):
            covered[:, :, row : row + tall, column : column + wide] |= begins[:, :, row, column, None, None]
    assert torch.equal(covered, kept == 0)
    down, across = height - tall + 1, width - wide + 1
    rate = 0.3 / (tall * wide) * height * width / (down * across)
    single = (kept[:, :, 0, 0] == 0).double().mean()  # only one square reaches a corner
    assert float(single) == pytest.approx(rate, abs=4 * (rate / 2000) ** 0.5)


def test_a_drop_block_makes_up_for_what_it_drops_in_each_example() -> None:
    layer, x = DropBlock(0.3, 2), torch.ones(5, 8, 6, 6).requires_grad_()
    z = layer(x)
    assert torch.allclose(z.mean((1, 2, 3)), torch.ones(5))
    (slope,) = torch.autograd.grad(z.sum(), x)
    assert torch.allclose(slope, z.detach())
    assert torch.equal(layer.eval()(x), x)
    everything = DropBlock(0.999, 3).forward(torch.ones(200, 1, 3, 3))  # a square as large as the map
    assert bool(everything.isfinite().all())
    assert int((everything == 0).all(3).all(2).sum()) > 150


def test_each_task_drops_by_itself() -> None:
    layer, x = DropBlock(0.3, 2), torch.ones(3, 4, 8, 6, 6)
    z = call_each(layer, {}, x)
    assert not torch.equal(z[0], z[1])
    assert torch.allclose(z.mean((2, 3, 4)), torch.ones(3, 4))


# Learning


def episode(tasks: int = 2, ways: int = 2) -> Episode:
    y = torch.arange(4).remainder(ways).expand(tasks, 4)
    x = torch.randn(tasks, 8, 2, 16, 18)
    return Episode(Support(x[:, :4], y, ways), Query(x[:, 4:], y))


@pytest.mark.parametrize("policy", get_args(Policy))
def test_second_order_maml_is_exact(policy: Policy) -> None:
    """All tasks at once against one after the other, without vmap, and against finite differences."""
    tasks, slopes = episode(), []
    for at_once in (None, 1):
        torch.manual_seed(2)
        encoder = ResNet12(**SMALL, normalization=policy, steps=3)
        learner = MAML(encoder, outputs=2, inner_rate=0.02, inner_steps=2, engine=Engine(tasks_at_once=at_once))
        wanted = list(learner.parameters())
        found = torch.autograd.grad(learner.loss(tasks), wanted, allow_unused=True)
        slopes.append([torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)])
    for mapped, looped in zip(*slopes, strict=True):
        assert torch.allclose(mapped, looped, rtol=1e-7, atol=1e-10)
    direction = [torch.randn_like(p) for p in wanted]

    def moved(by: float) -> Tensor:
        before = [p.detach().clone() for p in wanted]
        with torch.no_grad():
            for p, d in zip(wanted, direction, strict=True):
                p += by * d
            loss = learner.loss(tasks)
            for p, b in zip(wanted, before, strict=True):
                p.copy_(b)
        return loss

    slope = sum(((g * d).sum() for g, d in zip(slopes[1], direction, strict=True)), torch.zeros(()))
    assert torch.allclose((moved(1e-9) - moved(-1e-9)) / 2e-9, slope, rtol=1e-3, atol=1e-6)


def test_maml_with_drops() -> None:
    learner = MAML(ResNet12(**SMALL, drop=0.2, normalization="batch"), outputs=2, inner_steps=2)
    loss = learner.loss(episode())
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(loss, list(learner.parameters())))


# Channels last


@pytest.fixture
def layouts(float64: None, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each convolution got its map channels last."""
    seen: list[bool] = []
    native = F.conv2d

    def spy(x: Tensor, *rest: Any) -> Tensor:
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return native(x, *rest)

    monkeypatch.setattr(F, "conv2d", spy)
    torch.set_default_dtype(torch.float32)
    return seen


def test_many_large_pictures_go_channels_last_and_answers_stay(layouts: list[bool]) -> None:
    encoder = ResNet12(shape=(2, 64, 64), widths=(3, 4, 5, 6), average=False)
    x = torch.randn(16, 2, 64, 64)
    z = encoder(x)
    slopes = torch.autograd.grad(z.square().sum(), list(encoder.parameters()))
    assert layouts == [True] * 16
    del layouts[:]
    with adapting(0):
        plain = encoder(x)
    assert layouts == [False] * 16
    assert torch.allclose(z, plain, rtol=1e-4, atol=1e-4)
    expected = torch.autograd.grad(plain.square().sum(), list(encoder.parameters()))
    for mine, want in zip(slopes, expected, strict=True):
        assert torch.allclose(mine, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


def test_few_large_pictures_go_channels_last_only_without_gradients(layouts: list[bool]) -> None:
    """Few for so many weights."""
    encoder = ResNet12(shape=(2, 64, 70), widths=(3, 4, 5, 600)).eval()
    x = torch.randn(3, 2, 64, 70)
    z = encoder(x)
    assert layouts == [False] * 16
    with torch.no_grad():
        assert torch.allclose(encoder(x), z, rtol=1e-4, atol=1e-5)
        assert layouts == [False] * 16 + [True] * 16
        encoder.double()(x.double())
    assert layouts[32:] == [False] * 16


def test_small_pictures_go_channels_last_where_they_are_many(layouts: list[bool]) -> None:
    encoder = ResNet12(shape=(2, 16, 18), widths=(3, 4, 5, 200))
    with torch.no_grad():
        for count, last in ((1, False), (30, True)):
            encoder(torch.randn(count, 2, 16, 18))
            assert layouts == [last] * 16
            del layouts[:]


def test_mapped_over_tasks_the_layout_stays() -> None:
    encoder = ResNet12(**SMALL).float().eval()
    state = {name: leaf.expand(2, *leaf.shape) for name, leaf in encoder.state_dict().items()}
    x = torch.randn(2, 3, 2, 16, 18, dtype=torch.float32)
    with torch.no_grad():
        mapped = call_each(encoder, state, x)
        alone = torch.stack([functional_call(encoder, dict(encoder.state_dict()), (one,)) for one in x])
    assert torch.allclose(mapped, alone, rtol=1e-4, atol=1e-5)


def test_a_spec_builds_it() -> None:
    options = {"shape": [1, 16, 16], "widths": [2, 3, 4, 5], "average": False, "drop": 0.1, "drop_size": 2}
    table = {
        "learner": {"name": "prototypical"},
        "encoder": {"name": "resnet12", **options, "normalization": "batch"},
        "data": {"name": "digits"},
        "train": {"ways": 2, "steps": 1},
    }
    spec = Spec.of(Spec.of(table).table())
    (encoder,) = (layer for layer in build(spec).modules() if isinstance(layer, ResNet12))
    assert encoder.out_features == 5
    with pytest.raises(SpecError, match="widths"):
        Spec.of({**table, "encoder": {"name": "resnet12", "widths": 64}})


def test_a_graph_for_any_number_of_pictures() -> None:
    encoder = ResNet12(shape=(3, 16, 16), widths=(2, 2, 2, 2)).eval()
    graph = torch.export.export(encoder, (torch.rand(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim("n")},))
    x = torch.rand(5, 3, 16, 16)
    assert torch.allclose(graph.module()(x), encoder(x), atol=1e-6)
