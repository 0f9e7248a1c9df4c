import copy

import pytest
import torch
from torch import Tensor, nn
from torch.backends import mha
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from handful.errors import ShapeError, SpecError
from handful.ops.tasks import call_each, call_with, chunks, map_tasks, plain_recurrence, pure_call

pytestmark = pytest.mark.usefixtures("float64")


def states(module: nn.Module, tasks: int) -> dict[str, Tensor]:
    """Parameters and buffers that differ between tasks."""
    state = {name: leaf.expand(tasks, *leaf.shape).clone() for name, leaf in module.named_buffers()}
    for name, leaf in module.named_parameters():
        state[name] = (leaf + 0.1 * torch.randn(tasks, *leaf.shape)).detach().requires_grad_()
    return state


@pytest.mark.parametrize("layer", [nn.LSTM(2, 3), nn.GRU(2, 3), nn.RNN(2, 3), nn.Linear(2, 3)])
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_recurrent_layers_go_without_cudnn(layer: nn.Module, kind: str) -> None:
    class Somewhere:
        device = torch.device(kind)

    module, before = nn.Sequential(layer), torch.backends.cudnn.enabled
    with plain_recurrence(module, {"w": Somewhere()}):  # type: ignore[dict-item]
        assert torch.backends.cudnn.enabled == (before and not (kind == "cuda" and isinstance(layer, nn.RNNBase)))
    assert torch.backends.cudnn.enabled == before


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


class Twice(nn.Module):
    """A layer held in two places, and another one that has its weight too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.body = nn.Sequential(self.first, nn.BatchNorm1d(3), nn.Tanh())
        self.again = nn.ModuleDict({"body": self.body})
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.tied(self.again["body"](self.body(self.first(x))))
        return z


def test_a_layer_in_two_places_keeps_its_tensors() -> None:
    module = Twice()
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    before = {name: leaf.clone() for name, leaf in own.items()}
    other = Twice()
    state = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    x = torch.randn(6, 3)
    for _ in range(2):
        given = {name: leaf.clone() for name, leaf in state.items()}
        other.load_state_dict(given, strict=False)
        assert torch.equal(call_with(module, given, (x,)), other(x))
        assert all(torch.equal(leaf, given[name]) for name, leaf in other.named_buffers())
        after = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        assert all(leaf is own[name] and torch.equal(leaf, before[name]) for name, leaf in after.items())
        assert module.first.weight is module.tied.weight
    each = states(module, 3)
    call_each(module, each, torch.randn(3, 6, 3))
    assert all(leaf is own[name] for name, leaf in module.named_parameters())


class Counting(nn.Module):
    """Puts another buffer in the place of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + x.shape[0]
        return x * self.scale


def test_a_buffer_that_is_replaced_stands_in_the_state() -> None:
    module, state = Counting(), {"seen": torch.tensor(3.0), "scale": torch.tensor(5.0)}
    assert float(call_with(module, state, (torch.ones(4),))[0]) == 5
    assert (float(state["seen"]), float(module.seen)) == (7, 0)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("tasks", [1, 3])
def test_buffers_that_a_module_replaces_are_each_tasks_own(tasks: int, alone: bool) -> None:
    class Leaning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.register_buffer("mean", torch.zeros(2))
            self.rest = nn.Embedding(2, 1, padding_idx=0) if alone else nn.Identity()  # or not: mapped at once

        def forward(self, x: Tensor) -> Tensor:
            z = self.layer(x)
            y = z * (1 + self.mean)  # the graph keeps what is replaced
            self.mean = 0.5 * self.mean + z.mean(0)
            return y

    module = Leaning()
    x, state = torch.randn(tasks, 6, 4), states(module, tasks)
    means = torch.zeros(tasks, 2)
    for _ in range(2):
        z = torch.stack([x[i] @ state["layer.weight"][i].T + state["layer.bias"][i] for i in range(tasks)])
        output = call_each(module, state, x)
        assert torch.allclose(output, z * (1 + means.unsqueeze(1)))
        (gradient,) = torch.autograd.grad(output.sum(), state["layer.bias"])
        assert torch.allclose(gradient, 6 * (1 + means))
        means = (0.5 * means + z.mean(1)).detach()
        assert torch.allclose(state["mean"], means)
    assert not module.mean.any()  # type: ignore[operator]


@pytest.mark.parametrize("tasks", [1, 3])
def test_checkpointing_within_a_module_is_refused(tasks: int) -> None:
    class Saving(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = checkpoint(super().forward, x, use_reentrant=False)
            return z.tanh()

    module, x = Saving(4, 2), torch.randn(tasks, 6, 4)
    state = states(module, tasks)
    if tasks > 1 and torch.__version__ < "2.7":
        with pytest.raises(SpecError, match="_NoopSaveInputs"):  # vmap refuses it
            call_each(module, state, x)
        return
    with pytest.raises(SpecError, match=r"^torch.utils.checkpoint .* leave it out"):
        call_each(module, state, x)
    with torch.autograd.graph.save_on_cpu():  # around the call it does no harm
        call_each(nn.Linear(4, 2), state, x).sum().backward()
    with torch.no_grad():
        assert call_each(module, state, x).shape == (tasks, 6, 2)


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


@pytest.mark.parametrize("tasks", [1, 2])
def test_call_each_wants_a_tensor(tasks: int) -> None:
    class Pair(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x), x  # type: ignore[return-value]

    module = Pair(4, 2)
    with pytest.raises(ShapeError, match="Pair gives a tuple; expected a tensor"):
        call_each(module, states(module, tasks), torch.randn(tasks, 3, 4))


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("layer", [nn.Linear(3, 2), nn.Conv1d(3, 2, 1)])
def test_examples_of_another_type_are_told(layer: nn.Module, tasks: int) -> None:
    model = copy.deepcopy(layer).bfloat16()
    state = {name: leaf.expand(tasks, *leaf.shape) for name, leaf in model.named_parameters()}
    x = torch.rand(tasks, 4, 3, 3).float()
    with pytest.raises(ShapeError, match=r"expected examples of the type of its parameters, torch\.bfloat16 on cpu \("):
        call_each(model, state, x)
    assert call_each(model, state, x.bfloat16()).dtype == torch.bfloat16


def test_what_is_wrong_within_a_module_stays_torchs_word() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        pure_call(nn.Linear(3, 2), torch.rand(4, 5))


@pytest.mark.filterwarnings("ignore:`torch.jit")  # Deprecation, and from torch 2.15 FutureWarning
def test_modules_that_take_no_other_tensors_are_told() -> None:
    layer = nn.Linear(3, 2)
    x = torch.rand(4, 3)
    traced = torch.jit.trace(layer, x)  # type: ignore[no-untyped-call]
    for module in (nn.DataParallel(layer), traced):
        with pytest.raises(SpecError, match=f"{type(module).__name__}: expected a module that can be called with"):
            pure_call(module.train(), x)
    state = {"0.weight": layer.weight + 1, "0.bias": layer.bias + 1}
    torch.testing.assert_close(call_with(nn.Sequential(traced), state, (x,)), layer(x) + x.sum(1, keepdim=True) + 1)


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
