from collections.abc import Callable
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from handful.encoders.normalization import (
    BatchNorm,
    Policy,
    adapting,
    called_plainly,
    normalization,
    policies_of,
    shares_statistics,
)
from handful.errors import ShapeError, UnknownNameError
from handful.ops.tasks import call_each

pytestmark = pytest.mark.usefixtures("float64")

POLICIES = get_args(Policy)
BY_ITSELF = ("group", "layer", "instance")
TASKS, SHOTS, QUERIES, SIDE, STEPS, RATE = 3, 6, 4, 6, 3, 0.5

Named = dict[str, Tensor]

OLD_PYTHON = pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")


def centered(x: Tensor, over: Tensor) -> Tensor:
    """x normalized by the statistics of `over`, channel by channel, as the paper says."""
    mean, variance = over.mean((0, 2, 3)), over.var((0, 2, 3), unbiased=False)
    return (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()


def layer_of(policy: Policy, features: int = 8, steps: int = 1) -> nn.Module:
    """A layer with a scale, a shift and estimates that are not those it began with."""
    layer = normalization(policy, features, steps=steps)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        for name, buffer in layer.named_buffers():
            buffer += 0.3 * torch.rand_like(buffer) * (1 if "var" in name else -1)
    return layer


def pictures(*batch: int, features: int = 8) -> Tensor:
    return torch.randn(*batch, features, 3, 3) * 2 + 1


def scaled(layer: nn.Module, x: Tensor, step: int = 0) -> Tensor:
    assert isinstance(layer, BatchNorm)
    return x * layer.weight[step][:, None, None] + layer.bias[step][:, None, None]


@pytest.mark.parametrize("training", [True, False])
def test_batch_uses_the_examples_together_at_any_time(training: bool) -> None:
    layer, x = layer_of("batch").train(training), pictures(5)
    assert torch.allclose(layer(x), scaled(layer, centered(x, x)))
    assert not list(layer.buffers())


@pytest.mark.parametrize("training", [True, False])
def test_support_uses_the_support_for_its_queries_too(training: bool) -> None:
    layer, x = layer_of("support").train(training), pictures(7)
    assert torch.allclose(layer(x), scaled(layer, centered(x, x))), "while adapting, all are support"
    with adapting(1, support=4):
        assert torch.allclose(layer(x), scaled(layer, centered(x, x[:4])))
    assert not list(layer.buffers())


def test_running_uses_the_batch_while_training_and_estimates_otherwise() -> None:
    layer, x = layer_of("running"), pictures(5)
    assert isinstance(layer, BatchNorm)
    native = nn.BatchNorm2d(8)
    weight, bias = layer.weight[0], layer.bias[0]
    native.load_state_dict(
        {
            **{"weight": weight, "bias": bias, "num_batches_tracked": torch.tensor(0)},
            **{"running_mean": layer.running_mean[0], "running_var": layer.running_var[0]},  # type: ignore[index]
        }
    )
    assert torch.allclose(layer(x), native(x))
    assert torch.allclose(layer(x), scaled(layer, centered(x, x)))
    native(x)
    assert torch.allclose(layer.running_mean[0], native.running_mean)  # type: ignore[index,arg-type]
    assert torch.allclose(layer.running_var[0], native.running_var)  # type: ignore[index,arg-type]
    layer.eval()
    native.eval()
    before = {name: leaf.clone() for name, leaf in layer.state_dict().items()}
    assert torch.allclose(layer(x), native(x))
    assert all(torch.equal(leaf, before[name]) for name, leaf in layer.state_dict().items())


def test_per_step_has_estimates_scale_and_shift_for_each_step() -> None:
    layer, x = layer_of("per_step", steps=3), pictures(5)
    assert isinstance(layer, BatchNorm)
    assert layer.weight.shape == layer.bias.shape == layer.running_mean.shape == layer.running_var.shape == (3, 8)  # type: ignore[union-attr]
    for step, used in ((0, 0), (1, 1), (2, 2), (7, 2)):
        before = {name: leaf.clone() for name, leaf in layer.named_buffers()}
        with adapting(step):
            assert torch.allclose(layer(x), scaled(layer, centered(x, x), used))
        for name, leaf in layer.named_buffers():
            written = [not torch.equal(leaf[s], before[name][s]) for s in range(3)]
            assert written == [s == used for s in range(3)]
    layer.eval()
    answers = []
    for step in range(3):
        with adapting(step):
            answers.append(layer(x))
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[1], answers[2])


@pytest.mark.parametrize("training", [True, False])
def test_episode_begins_anew_with_each_task_and_answers_by_what_its_support_left(training: bool) -> None:
    layer, x, query = layer_of("episode").train(training), pictures(5), pictures(4)
    assert isinstance(layer, BatchNorm)
    assert (layer.momentum, layer.eps) == (0.95, 1e-3)
    fresh = nn.BatchNorm2d(8, eps=1e-3, momentum=0.95)
    for step in range(2):
        with adapting(step):
            assert torch.allclose(layer(x + step), scaled(layer, fresh(x + step)))
    assert torch.allclose(layer.running_mean[0], fresh.running_mean)  # type: ignore[index,arg-type]
    assert torch.allclose(layer.running_var[0], fresh.running_var)  # type: ignore[index,arg-type]
    before = layer.running_mean.clone()  # type: ignore[union-attr]
    fresh.train(training)
    with adapting(2, 0):
        assert torch.allclose(layer(query), scaled(layer, fresh(query)))
    assert torch.equal(layer.running_mean, before) != training  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [True, False])
def test_frozen_uses_estimates_at_any_time_and_never_writes_them(training: bool) -> None:
    layer, x = layer_of("frozen").train(training), pictures(5)
    assert isinstance(layer, BatchNorm)
    mean, variance = layer.running_mean[0].clone(), layer.running_var[0].clone()  # type: ignore[index]
    expected = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    assert torch.allclose(layer(x), scaled(layer, expected))
    assert torch.equal(layer.running_mean[0], mean)  # type: ignore[index]
    assert torch.equal(layer.running_var[0], variance)  # type: ignore[index]


@pytest.mark.parametrize(("policy", "channels"), [("group", 8), ("layer", 16), ("instance", 1)])
def test_group_layer_and_instance_normalize_each_example_by_itself(policy: Policy, channels: int) -> None:
    layer, x = normalization(policy, 16), pictures(5, features=16)
    groups = x.view(5, 16 // channels, -1)
    expected = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(layer(x), expected.view_as(x))
    assert torch.allclose(layer(x)[1:2], layer(x[1:2]))


def test_none_is_nothing() -> None:
    x = pictures(2)
    assert normalization("none", 8)(x) is x


@pytest.mark.parametrize("policy", POLICIES)
def test_vectors_are_normalized_as_pictures_of_one_pixel(policy: Policy) -> None:
    layer, x = layer_of(policy), torch.randn(9, 8)
    layer.eval()
    assert torch.allclose(layer(x), layer(x[:, :, None, None])[:, :, 0, 0])


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_said_of_sharing_is_so(policy: Policy) -> None:
    layer, x = layer_of(policy).eval(), pictures(6)
    with adapting(1, support=3):
        apart = torch.cat([layer(torch.cat([x[:3], x[i : i + 1]]))[3:] for i in range(3, 6)])
        shares = not torch.allclose(layer(x)[3:], apart)
    assert shares == shares_statistics(layer) == (policy == "batch")


def test_policies_are_found_in_any_module() -> None:
    ours = nn.Sequential(BatchNorm(3, policy="frozen"), nn.Sequential(normalization("support", 3)), nn.GroupNorm(1, 3))
    assert policies_of(ours) == {"frozen", "support"}
    assert policies_of(nn.Sequential(nn.BatchNorm1d(3))) == {"running"}
    assert policies_of(nn.BatchNorm2d(3, track_running_stats=False)) == {"batch"}
    assert shares_statistics(nn.BatchNorm2d(3, track_running_stats=False))
    assert not shares_statistics(nn.BatchNorm2d(3))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown normalization 'bach'; did you mean 'batch'.*per_step"):
        normalization("bach", 8)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="multiple of 8 channels, got 12"):
        normalization("group", 12)
    with pytest.raises(ShapeError, match="layer normalization: one value"):
        normalization("layer", 1, area=1)
    with pytest.raises(UnknownNameError, match="unknown batch normalization 'group'"):
        BatchNorm(8, policy="group")
    with pytest.raises(ShapeError, match="at least one step, got 0"):
        normalization("per_step", 8, steps=0)


@pytest.mark.parametrize("policy", ["batch", "support", "running", "per_step"])
@pytest.mark.parametrize("shape", [(1, 8), (1, 8, 1, 1)])
def test_one_value_has_no_variance(policy: Policy, shape: tuple[int, ...]) -> None:
    layer, x = layer_of(policy), torch.randn(shape)
    state = {n: leaf.expand(3, *leaf.shape).clone() for n, leaf in layer.state_dict().items()}
    calls = [lambda: layer(x), lambda: call_each(layer, state, x.expand(3, *shape))]
    for call in calls:
        with pytest.raises(ShapeError, match=r"one value has no variance, and \(1, 8.*more examples together"):
            call()
    if policy == "support":
        with adapting(1, support=1), pytest.raises(ShapeError, match="one value has no variance"):
            layer(torch.cat([x, x]))
    if policy in ("running", "per_step"):
        assert layer.eval()(x).shape == shape


def test_a_layer_shows_its_policy() -> None:
    assert repr(BatchNorm(8, policy="per_step", steps=5)) == "BatchNorm(8, policy='per_step', steps=5)"
    assert repr(BatchNorm(8)) == "BatchNorm(8, policy='running')"


def test_the_moment_ends_with_its_block_even_after_an_error() -> None:
    layer, x = layer_of("support"), pictures(6)
    plain = layer(x)
    with pytest.raises(KeyError), adapting(3, support=2), adapting(4, support=3):
        raise KeyError
    assert torch.equal(layer(x), plain)


# Mapping over tasks


class Net(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.layer = layer
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(self.convolution(x))).square().mean((2, 3)))  # type: ignore[no-any-return]


class Tasks:
    """A net, a few tasks, and their mean query loss after a few inner steps, computed in several ways."""

    def __init__(self, layer: nn.Module, training: bool = True) -> None:
        self.net = Net(layer).train(training)
        self.theta = {n: p.detach().clone() for n, p in self.net.named_parameters()}
        self.buffers = {n: b.clone() for n, b in self.net.named_buffers()}
        self.x, self.qx = torch.randn(TASKS, SHOTS, 1, SIDE, SIDE), torch.randn(TASKS, QUERIES, 1, SIDE, SIDE)
        self.y = torch.stack([torch.randperm(SHOTS) % 3 for _ in range(TASKS)])
        self.qy = torch.randint(3, (TASKS, QUERIES))

    def query(self, call: Callable[..., Tensor], theta: Named, x: Tensor, qx: Tensor, axis: int) -> Tensor:
        """Logits of queries, with the support before them, as a learner does for the "support" policy."""
        with adapting(STEPS, x.shape[axis]):
            return call(theta, torch.cat([x, qx], axis)).narrow(axis, x.shape[axis], qx.shape[axis])

    def looped(self, theta: Named) -> Tensor:
        """One task after the other, without any transformation."""
        losses = []
        for i in range(TASKS):
            buffers = {name: leaf.clone() for name, leaf in self.buffers.items()}

            def call(own: Named, x: Tensor, buffers: Named = buffers) -> Tensor:
                return functional_call(self.net, {**own, **buffers}, (x,))  # type: ignore[no-any-return]

            own = dict(theta)
            for step in range(STEPS):
                with adapting(step):
                    loss = F.cross_entropy(call(own, self.x[i]), self.y[i])
                slopes = torch.autograd.grad(loss, list(own.values()), create_graph=True, allow_unused=True)
                own = {n: p if g is None else p - RATE * g for (n, p), g in zip(own.items(), slopes, strict=True)}
            losses.append(F.cross_entropy(self.query(call, own, self.x[i], self.qx[i], 0), self.qy[i]))
        return torch.stack(losses).mean()

    def called_each(self, theta: Named) -> Tensor:
        """Only the forward pass mapped, `torch.autograd` outside."""
        buffers = {name: leaf.expand(TASKS, *leaf.shape).clone() for name, leaf in self.buffers.items()}
        own = {name: leaf.expand(TASKS, *leaf.shape) for name, leaf in theta.items()}

        def call(own: Named, x: Tensor) -> Tensor:
            return call_each(self.net, {**own, **buffers}, x)

        for step in range(STEPS):
            with adapting(step):
                loss = F.cross_entropy(call(own, self.x).transpose(1, 2), self.y, reduction="none").mean(1).sum()
            slopes = torch.autograd.grad(loss, list(own.values()), create_graph=True, allow_unused=True)
            own = {n: p if g is None else p - RATE * g for (n, p), g in zip(own.items(), slopes, strict=True)}
        return F.cross_entropy(self.query(call, own, self.x, self.qx, 1).transpose(1, 2), self.qy)

    def transformed(self, theta: Named) -> Tensor:
        """`torch.func.vmap` of `torch.func.grad`."""

        def call(own: Named, x: Tensor) -> Tensor:
            return functional_call(self.net, {**own, **self.buffers}, (x,))  # type: ignore[no-any-return]

        def task(own: Named, x: Tensor, y: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
            for step in range(STEPS):
                with adapting(step):
                    slopes = grad(lambda p: F.cross_entropy(call(p, x), y))(own)
                own = {name: leaf - RATE * slopes[name] for name, leaf in own.items()}
            return F.cross_entropy(self.query(call, own, x, qx, 0), qy)

        mapped = vmap(task, (None, 0, 0, 0, 0))(theta, self.x, self.y, self.qx, self.qy)
        return mapped.mean()  # type: ignore[no-any-return]

    def gradient(self, way: Callable[[Named], Tensor]) -> tuple[Tensor, Tensor]:
        """The loss and its gradient in all parameters, as one vector."""
        theta = {name: leaf.clone().requires_grad_() for name, leaf in self.theta.items()}
        loss = way(theta)
        slopes = torch.autograd.grad(loss, list(theta.values()))
        return loss.detach(), torch.cat([slope.flatten() for slope in slopes])

    def differences(self, way: Callable[[Named], Tensor], direction: Tensor) -> Tensor:
        """The slope along a direction by finite differences."""
        sizes = [leaf.numel() for leaf in self.theta.values()]

        def moved(by: float) -> Tensor:
            parts = zip(self.theta.items(), direction.split(sizes), strict=True)
            return way({n: (leaf + by * d.view_as(leaf)).requires_grad_() for (n, leaf), d in parts}).detach()

        return (moved(1e-5) - moved(-1e-5)) / 2e-5


TRANSFORMED = [(policy, True) for policy in ("batch", "support", "frozen", *BY_ITSELF, "none")]
TRANSFORMED += [("running", False), ("per_step", False)]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("training", [True, False])
def test_second_order_gradients_through_call_each(policy: Policy, training: bool) -> None:
    tasks = Tasks(layer_of(policy, steps=STEPS + 1), training)
    loss, gradient = tasks.gradient(tasks.looped)
    mapped_loss, mapped = tasks.gradient(tasks.called_each)
    assert torch.allclose(mapped_loss, loss, rtol=1e-10)
    assert torch.allclose(mapped, gradient, rtol=1e-8, atol=1e-10)
    if (policy, training) == ("episode", False):
        return  # estimates of the support carry no gradient
    direction = torch.randn_like(gradient)
    assert torch.allclose(mapped @ direction, tasks.differences(tasks.looped, direction), rtol=1e-5)


@pytest.mark.parametrize(("policy", "training"), TRANSFORMED)
def test_second_order_gradients_through_vmap_of_grad(policy: Policy, training: bool) -> None:
    tasks = Tasks(layer_of(policy, steps=STEPS + 1), training)
    loss, gradient = tasks.gradient(tasks.looped)
    mapped_loss, mapped = tasks.gradient(tasks.transformed)
    assert torch.allclose(mapped_loss, loss, rtol=1e-10)
    assert torch.allclose(mapped, gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("policy", POLICIES)
def test_each_task_has_statistics_of_its_own(policy: Policy) -> None:
    """Tasks a hundred times as bright as each other: statistics that leaked would show."""
    layer = layer_of(policy)
    x = pictures(3, 5) * torch.tensor([0.1, 1.0, 100.0]).view(3, 1, 1, 1, 1)
    buffers = {name: leaf.expand(3, *leaf.shape).clone() for name, leaf in layer.named_buffers()}
    parameters = {name: leaf.expand(3, *leaf.shape) for name, leaf in layer.named_parameters()}
    alone_buffers = [{name: leaf[i].clone() for name, leaf in buffers.items()} for i in range(3)]
    alone = [functional_call(layer, {**dict(layer.named_parameters()), **alone_buffers[i]}, (x[i],)) for i in range(3)]
    assert torch.allclose(call_each(layer, {**parameters, **buffers}, x), torch.stack(alone))
    for name, leaf in buffers.items():
        assert torch.allclose(leaf, torch.stack([own[name] for own in alone_buffers]))


def test_the_trap_of_native_affine_batch_norm_under_vmap_of_grad() -> None:
    """Native scale and shift: right loss, wrong second-order gradient. Ours, which leaves them out there: right."""
    native = nn.BatchNorm2d(8, track_running_stats=False)
    ours = BatchNorm(8, policy="batch")
    with torch.no_grad():
        native.weight += 0.3 * torch.randn(8)
        native.bias += 0.3 * torch.randn(8)
        ours.weight.copy_(native.weight[None])
        ours.bias.copy_(native.bias[None])
    naive, right = Tasks(native), Tasks(ours)
    names = ("theta", "x", "y", "qx", "qy")
    for name in names[1:]:
        setattr(right, name, getattr(naive, name))
    right.theta = {name: leaf.view_as(right.theta[name]) for name, leaf in naive.theta.items()}

    loss, gradient = naive.gradient(naive.looped)
    direction = torch.randn_like(gradient)
    truth = naive.differences(naive.looped, direction)
    assert torch.allclose(gradient @ direction, truth, rtol=1e-5), "the loop is right"

    for way in (right.looped, right.called_each, right.transformed):
        our_loss, our_gradient = right.gradient(way)
        assert torch.allclose(our_loss, loss, rtol=1e-8)
        assert torch.allclose(our_gradient, gradient, rtol=1e-7, atol=1e-9)
    assert torch.allclose(naive.gradient(naive.called_each)[1], gradient, rtol=1e-7, atol=1e-9), "MAML's way is safe"

    naive_loss, naive_gradient = naive.gradient(naive.transformed)
    assert torch.allclose(naive_loss, loss, rtol=1e-8), "its loss is right, which is what makes it a trap"
    if torch.allclose(naive_gradient, gradient, rtol=1e-6, atol=1e-8):
        pytest.skip(f"torch {torch.__version__} has mended native batch norm under vmap of grad")
    assert float((naive_gradient - gradient).norm() / gradient.norm()) > 1e-3


@pytest.mark.parametrize("policy", ["batch", "running", "per_step", "frozen"])
def test_scale_and_shift_go_to_torch_only_in_plain_calls(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps us out of the trap, and costs nothing elsewhere."""
    given: list[bool] = []
    native = F.batch_norm

    def spy(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None = None, *rest: object, **named: object):  # type: ignore[no-untyped-def]
        given.append(weight is not None)
        return native(x, mean, variance, weight, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "batch_norm", spy)
    layer, x = layer_of(policy).eval(), pictures(3, 5)
    outside = torch.stack([layer(one) for one in x])
    inside = vmap(layer)(x)
    slope = grad(lambda one: layer(one).square().sum())(x[0])
    with adapting(0):
        adapted = layer(x[0])
    assert given == [True] * 3 + [False] * 3
    assert torch.allclose(inside, outside)
    assert torch.allclose(adapted, outside[0])
    x = x[0].requires_grad_()
    assert torch.allclose(slope, torch.autograd.grad(layer(x).square().sum(), x)[0])
    assert called_plainly()
    assert grad(lambda one: one * called_plainly())(torch.ones(())) == 0


@pytest.mark.parametrize("policy", ["batch", "running", "frozen"])
def test_second_derivatives_of_plain_calls(policy: Policy) -> None:
    layer = layer_of(policy, features=3)
    x = pictures(4, features=3).requires_grad_()
    assert isinstance(layer, BatchNorm)
    state = (x, layer.weight.detach().requires_grad_(), layer.bias.detach().requires_grad_())

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        buffers = {name: leaf.clone() for name, leaf in layer.named_buffers()}
        return functional_call(layer, {"weight": weight, "bias": bias, **buffers}, (x,)).square()  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(call, state)
    assert torch.autograd.gradgradcheck(call, state)


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy not in BY_ITSELF])
@pytest.mark.parametrize("training", [True, False])
def test_mixed_precision(policy: Policy, training: bool) -> None:
    """Maps of half precision stay so; statistics, scale and shift keep theirs."""
    layer, x = layer_of(policy).train(training).float(), pictures(50).float()
    buffers = {name: leaf.clone() for name, leaf in layer.named_buffers()}
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x.bfloat16())
    updated = dict(layer.named_buffers())
    assert half.dtype == torch.bfloat16
    whole = functional_call(layer, {**dict(layer.named_parameters()), **buffers}, (x,))
    assert torch.allclose(half.float(), whole, rtol=0.02, atol=0.05)
    for name, leaf in updated.items():
        assert leaf.dtype == torch.float32
        assert torch.allclose(leaf, buffers[name], rtol=0.02, atol=0.02)


@OLD_PYTHON
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", ["batch", "running", "frozen"])
def test_one_graph_for_torch_compile(policy: Policy, training: bool) -> None:
    layer, twin = (BatchNorm(3, policy=policy).train(training) for _ in range(2))
    x = torch.randn(5, 3, 2)
    assert torch.allclose(torch.compile(layer, fullgraph=True, backend="eager")(x), twin(x))
    for own, other in zip(layer.buffers(), twin.buffers(), strict=True):
        assert torch.equal(own, other)


@OLD_PYTHON
def test_what_is_compiled_hears_of_the_support_all_the_same() -> None:
    layer, x = BatchNorm(3, policy="support"), torch.randn(5, 3, 2)
    with adapting(0, 2):
        assert torch.allclose(torch.compile(layer, backend="eager")(x), layer(x))
