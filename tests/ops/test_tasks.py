import pytest
import torch
from torch import Tensor, nn
from torch.backends import mha
from torch.func import functional_call

from handful.ops.tasks import bounded_mean, call_each, chunks, map_tasks, pure_call

pytestmark = pytest.mark.usefixtures("float64")


def states(module: nn.Module, tasks: int) -> dict[str, Tensor]:
    """Parameters and buffers that differ between tasks."""
    state = {name: leaf.expand(tasks, *leaf.shape).clone() for name, leaf in module.named_buffers()}
    for name, leaf in module.named_parameters():
        state[name] = (leaf + 0.1 * torch.randn(tasks, *leaf.shape)).detach().requires_grad_()
    return state


@pytest.mark.parametrize("tasks", [1, 3])
def test_call_each_is_the_module_on_each_task_with_its_own_state(tasks: int) -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))
    x, state = torch.randn(tasks, 6, 4), states(module, tasks)
    expected_state = {name: leaf.detach().clone().requires_grad_(leaf.requires_grad) for name, leaf in state.items()}
    before = {name: leaf.clone() for name, leaf in module.state_dict().items()}
    output = call_each(module, state, x)
    expected = [
        functional_call(module, {name: leaf[i] for name, leaf in expected_state.items()}, (x[i],)) for i in range(tasks)
    ]
    assert torch.allclose(output, torch.stack(expected))
    names = [name for name, leaf in state.items() if leaf.requires_grad]
    gradients = torch.autograd.grad(output.square().sum(), [state[name] for name in names])
    wanted = torch.autograd.grad(torch.stack(expected).square().sum(), [expected_state[name] for name in names])
    for gradient, want in zip(gradients, wanted, strict=True):
        assert torch.allclose(gradient, want)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.allclose(state[name], expected_state[name]), "each task's buffers are written, each its own"
        assert not torch.equal(state[name], before[name].expand_as(state[name]))
    assert all(torch.equal(leaf, before[name]) for name, leaf in module.state_dict().items())


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return x["a"] * self.weight + x["b"]


@pytest.mark.parametrize("tasks", [1, 2])
def test_call_each_of_tensors_by_name(tasks: int) -> None:
    x = {"a": torch.randn(tasks, 3, 2), "b": torch.randn(tasks, 3, 2)}
    weight = torch.randn(tasks, 2)
    assert torch.allclose(call_each(Named(), {"weight": weight}, x), x["a"] * weight[:, None] + x["b"])


def test_call_each_drops_out_differently_in_each_task() -> None:
    kept = call_each(nn.Dropout(0.5), {}, torch.ones(8, 4, 16)) != 0
    assert 0.3 < float(kept.double().mean()) < 0.7
    assert not bool((kept == kept[:1]).all())


@pytest.mark.parametrize("training", [True, False])
def test_pure_call_gives_the_same_and_leaves_buffers(training: bool) -> None:
    module = nn.BatchNorm1d(3).train(training)
    before = {name: leaf.clone() for name, leaf in module.state_dict().items()}
    x = torch.randn(5, 3)
    output = pure_call(module, x)
    assert all(torch.equal(leaf, before[name]) for name, leaf in module.state_dict().items())
    assert torch.equal(output, module(x))


def test_map_tasks_reaches_every_tensor() -> None:
    state = ({"a": torch.zeros(3), "b": None}, torch.ones(3))
    cut = map_tasks(lambda leaf: leaf[:2], state[0])
    assert cut["a"].shape == (2,)
    assert cut["b"] is None
    assert torch.equal(map_tasks(lambda a, b: a + b, state[1], state[1]), torch.full((3,), 2.0))


@pytest.mark.parametrize(
    ("tasks", "at_once", "expected"),
    [
        (5, None, [(0, 5)]),
        (5, 2, [(0, 2), (2, 4), (4, 5)]),
        (4, 2, [(0, 2), (2, 4)]),
        (3, 7, [(0, 3)]),
        (2, 1, [(0, 1), (1, 2)]),
    ],
)
def test_chunks_cover_every_task_once(tasks: int, at_once: int | None, expected: list[tuple[int, int]]) -> None:
    assert list(chunks(tasks, at_once)) == expected


@pytest.mark.parametrize("at_once", [None, 1, 2, 3, 5, 9])
def test_bounded_mean_has_the_value_and_gradient_of_the_mean(at_once: int | None) -> None:
    x = torch.randn(5, 3)
    weight, unused = torch.randn(3, requires_grad=True), torch.randn(2, requires_grad=True)
    frozen = torch.randn(3)

    def loss(start: int, stop: int) -> Tensor:
        return ((x[start:stop] * weight).sum(1).sin() * frozen.sum()).mean()

    value = bounded_mean(loss, [weight, frozen, unused], 5, at_once)
    expected = ((x * weight).sum(1).sin() * frozen.sum()).mean()
    assert torch.allclose(value, expected)
    assert value.requires_grad
    (3 * value).backward()  # type: ignore[no-untyped-call]
    (gradient,) = torch.autograd.grad(3 * expected, weight)
    assert torch.allclose(weight.grad, gradient)  # type: ignore[arg-type]
    assert unused.grad is None or not bool(unused.grad.any())


def test_bounded_mean_without_gradients() -> None:
    x, weight = torch.randn(5), torch.ones((), requires_grad=True)
    with torch.no_grad():
        value = bounded_mean(lambda a, b: (x[a:b] * weight).mean(), [weight], 5, 2)
    assert torch.allclose(value, x.mean())
    assert not value.requires_grad
    assert torch.allclose(bounded_mean(lambda a, b: x[a:b].mean(), [], 5, 2), x.mean())


def test_bounded_mean_has_no_second_derivative_rather_than_a_wrong_one() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    value = bounded_mean(lambda a, b: weight**3, [weight], 2, 1)
    (gradient,) = torch.autograd.grad(value * weight, weight, create_graph=True)
    assert torch.allclose(gradient.detach(), torch.tensor(8.0 + 2 * 12))
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.backward()  # type: ignore[no-untyped-call]


def test_bounded_mean_holds_one_chunk_at_a_time() -> None:
    """Bytes that the graph keeps alive: with chunks, those of the greatest chunk."""
    weight = torch.ones(100, requires_grad=True)
    x = torch.randn(8, 100)
    alive: dict[int, int] = {}
    peak = 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal peak
            self.tensor = tensor
            alive[id(self)] = tensor.nbytes
            peak = max(peak, sum(alive.values()))

        def __del__(self) -> None:
            alive.pop(id(self), None)

    def measured(at_once: int | None) -> int:
        nonlocal peak
        peak = 0
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            bounded_mean(lambda a, b: (x[a:b] * weight).exp().sum(1).mean(), [weight], 8, at_once).backward()  # type: ignore[no-untyped-call]
        return peak

    everything = measured(None)
    assert measured(1) < everything / 4
    assert measured(1) < measured(4) < everything


@pytest.mark.parametrize("tasks", [1, 2])
def test_attention_has_second_derivatives_and_its_settings_are_put_back(tasks: int) -> None:
    def settings() -> tuple[bool, ...]:
        cuda = torch.backends.cuda
        return (mha.get_fastpath_enabled(), cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled())

    class Attention(nn.Module):
        def __init__(self, error: bool = False) -> None:
            super().__init__()
            self.key, self.error = nn.Linear(4, 4), error

        def forward(self, x: Tensor) -> Tensor:
            if self.error:
                raise KeyError
            return nn.functional.scaled_dot_product_attention(x, self.key(x), x)

    before = settings()
    state = states(Attention(), tasks)
    output = call_each(Attention(), state, torch.randn(tasks, 3, 2, 5, 4))
    (slope,) = torch.autograd.grad(output.square().sum(), state["key.weight"], create_graph=True)
    slope.square().sum().backward()  # type: ignore[no-untyped-call]
    with pytest.raises(KeyError):
        call_each(Attention(error=True), state, torch.randn(tasks, 3, 2, 5, 4))
    assert settings() == before
