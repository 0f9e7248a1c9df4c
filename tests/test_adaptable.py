import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from handful import Adaptable
from handful.encoders import MLP, Conv4
from handful.encoders.normalization import Policy
from handful.episode import Episode, Query, Support
from handful.errors import ShapeError, SpecError
from handful.learners import MAML
from handful.ops.from_torch import like, memory_of
from handful.ops.optimizers import SGD, Adam

pytestmark = pytest.mark.usefixtures("float64")


def data(*shape: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y = torch.arange(6).remainder(3)
    return torch.rand(6, *shape), y, torch.rand(6, *shape), y


@pytest.mark.parametrize("first_order", [False, True])
def test_a_loop_of_ones_own_is_maml(first_order: bool) -> None:
    model = nn.Sequential(Conv4(shape=(1, 16, 16), filters=4, normalization="running"), nn.Linear(4, 3))
    maml = MAML(model, inner_rate=0.2, inner_steps=3, first_order=first_order)
    x, y, qx, qy = data(1, 16, 16)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    own = Adaptable(model, SGD(lr=0.2))
    for _ in range(3):
        own = own.adapt(F.cross_entropy(own(x), y), first_order=first_order)
    loss = F.cross_entropy(own(qx), qy)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
    wanted = maml.loss(Episode(Support(x[None], y[None], 3), Query(qx[None], qy[None])))
    assert torch.allclose(loss, wanted)
    parameters = list(model.parameters())
    for mine, want in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters), strict=True):
        assert torch.allclose(mine, want, atol=1e-12)


def test_adapting_leaves_the_earlier_one_and_the_module() -> None:
    model = MLP(shape=(2,), hidden=(4,), outputs=3, normalization="running")
    x, y, *_ = data(2)
    before = {name: leaf.clone() for name, leaf in model.state_dict().items()}
    first = Adaptable(model, Adam(lr=0.1))
    expected = first(x)
    loss = F.cross_entropy(expected, y)
    second = first.adapt(loss)
    assert not torch.allclose(second(x), expected)
    assert torch.allclose(first(x), expected)
    assert (first.steps, second.steps) == (0, 1)
    assert all(torch.equal(before[name], leaf) for name, leaf in model.state_dict().items())


def test_the_optimizers_numbers_are_learned_too() -> None:
    rate = torch.tensor(0.1, requires_grad=True)
    model = MLP(shape=(2,), hidden=(4,), outputs=3)
    x, y, qx, qy = data(2)

    def loss(rate: Tensor) -> Tensor:
        own = Adaptable(model, SGD(lr=rate, momentum=0.5))
        for _ in range(2):
            own = own.adapt(F.cross_entropy(own(x), y))
        return F.cross_entropy(own(qx), qy)

    assert torch.autograd.gradcheck(loss, (rate,))


def test_a_layer_in_two_places_stays_the_modules() -> None:
    layer = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model = nn.Sequential(layer, nn.Tanh(), layer)
    before = {name: leaf.clone() for name, leaf in model.state_dict().items()}
    parameters = list(model.parameters())
    x, y, qx, qy = data(3)
    own = Adaptable(model, SGD(lr=0.5))
    for _ in range(2):
        own = own.adapt(F.cross_entropy(own(x), y))
    F.cross_entropy(own(qx), qy).backward()
    assert all(torch.equal(before[name], leaf) for name, leaf in model.state_dict().items())
    assert all(
        leaf is mine and mine.grad is not None for leaf, mine in zip(model.parameters(), parameters, strict=True)
    )
    assert not torch.equal(own.parameters["0.0.weight"], layer[0].weight)


def test_buffers_that_a_module_replaces_are_its_own_too() -> None:
    class Mean(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 3)
            self.register_buffer("mean", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.mean = 0.5 * self.mean + 0.5 * x.mean(0)
            return super().forward(x - self.mean)

    model = Mean()
    x, y, *_ = data(2)
    first = Adaptable(model)
    second = first.adapt(F.cross_entropy(first(x), y))
    second(x)
    assert torch.equal(model.mean, torch.zeros(2))
    assert torch.allclose(first.buffers["mean"], 0.5 * x.mean(0))
    assert torch.allclose(second.buffers["mean"], 0.75 * x.mean(0))


def test_a_rate_of_its_own_for_each_step() -> None:
    """As `override` in higher and schedules in TorchOpt."""
    model = nn.Linear(2, 3)
    x, y, qx, qy = data(2)
    rates = torch.tensor([0.3, 0.1], requires_grad=True)

    def loss(rates: Tensor) -> Tensor:
        own = Adaptable(model, SGD(lr=9.0, momentum=0.5))
        for rate in rates:
            own = own.adapt(F.cross_entropy(own(x), y), lr=rate)
        return F.cross_entropy(own(qx), qy)

    theirs = nn.Linear(2, 3)
    theirs.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3, momentum=0.5)
    for rate in (0.3, 0.1):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        F.cross_entropy(theirs(x), y).backward()
        optimizer.step()
    assert torch.allclose(loss(rates), F.cross_entropy(theirs(qx), qy))
    assert torch.autograd.gradcheck(loss, (rates,))
    own = Adaptable(model)
    with pytest.raises(SpecError, match="no rate for 'bias'"):
        own.adapt(F.cross_entropy(own(x), y), lr={"weight": 0.1})


def test_groups_of_a_torch_optimizer_are_rates_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    theirs = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    theirs.load_state_dict(model.state_dict())

    def optimizer(module: nn.Sequential) -> torch.optim.Optimizer:
        groups = [{"params": [module[0].weight], "lr": 0.3}, {"params": module[2].parameters()}]
        return torch.optim.Adam(groups, lr=0.1)

    rule, stepped = like(optimizer(model), model), optimizer(theirs)
    assert isinstance(rule.lr, dict)
    own = Adaptable(model, rule, adapted=list(rule.lr))
    x, y, *_ = data(2)
    for _ in range(3):
        own = own.adapt(F.cross_entropy(own(x), y))
        theirs.zero_grad()
        F.cross_entropy(theirs(x), y).backward()
        stepped.step()
    assert all(torch.allclose(own.parameters[name], leaf) for name, leaf in theirs.named_parameters())
    with pytest.raises(SpecError, match=r"no rate for '0\.bias'"):
        Adaptable(model, rule)


def test_an_optimizer_that_has_run_is_gone_on_with() -> None:
    """As higher takes the state of an optimizer over."""
    model, theirs = nn.Linear(2, 3), nn.Linear(2, 3)
    x, y, *_ = data(2)
    outer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(2):
        outer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        outer.step()
    theirs.load_state_dict(model.state_dict())
    inner = torch.optim.Adam(theirs.parameters(), lr=0.1)
    inner.load_state_dict(outer.state_dict())
    own = Adaptable(model, like(outer, model), memory=memory_of(outer, model))
    for _ in range(2):
        own = own.adapt(F.cross_entropy(own(x), y))
        inner.zero_grad()
        F.cross_entropy(theirs(x), y).backward()
        inner.step()
    assert all(torch.allclose(own.parameters[name], leaf) for name, leaf in theirs.named_parameters())
    with pytest.raises(SpecError, match="expected memory of SGD"):
        Adaptable(model, memory=memory_of(outer, model))


def test_gradients_are_transformed_before_the_step() -> None:
    """As `grad_callback` in higher and `transform` in learn2learn: here learned, and given to one tensor alone."""
    model = nn.Linear(2, 3)
    x, y, qx, qy = data(2)
    mixing = torch.eye(3, requires_grad=True)

    def loss(mixing: Tensor) -> Tensor:
        own = Adaptable(model, SGD(lr=0.5))
        for _ in range(2):
            own = own.adapt(F.cross_entropy(own(x), y), transform=lambda g: {"weight": mixing @ g["weight"]})
        assert own.parameters["bias"] is model.bias
        return F.cross_entropy(own(qx), qy)

    alone = Adaptable(model, SGD(lr=0.5), adapted=["weight"])
    for _ in range(2):
        alone = alone.adapt(F.cross_entropy(alone(x), y))
    assert torch.allclose(loss(mixing), F.cross_entropy(alone(qx), qy))
    assert torch.autograd.gradcheck(loss, (mixing,))
    own = Adaptable(model)
    for wrong, message in (({"head": torch.ones(3)}, "'head'"), ({"bias": torch.ones(2)}, r"\(2,\); expected \(3,\)")):
        with pytest.raises(ShapeError, match=message):
            own.adapt(F.cross_entropy(own(x), y), transform=lambda g, wrong=wrong: wrong)


def test_a_loss_of_one_number_in_any_shape() -> None:
    """As torch, and so the other libraries, take it: a step of 0.5 down (x·w)² / 2 at w = (2, 3, 5), by hand."""
    model = nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[2.0, 3.0, 5.0]])
    own = Adaptable(model, SGD(lr=0.5))
    own = own.adapt(0.5 * own(torch.tensor([[1.0, 2.0, 3.0]])) ** 2)
    assert own.parameters["weight"].tolist() == [[-9.5, -20.0, -29.5]]
    (0.5 * own(torch.tensor([[4.0, 5.0, 6.0]])) ** 2).backward()
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [[3780.0, 8505.0, 13230.0]]


def test_some_parameters_only() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    x, y, *_ = data(2)
    own = Adaptable(model, adapted=["2.weight", "2.bias"])
    own = own.adapt(F.cross_entropy(own(x), y))
    assert own.parameters["0.weight"] is model[0].weight
    assert not torch.equal(own.parameters["2.weight"], model[2].weight)


@pytest.mark.parametrize("first_order", [False, True])
def test_a_frozen_parameter_that_is_named_is_moved(first_order: bool) -> None:
    """As if it had asked for a gradient, but for its own, which it gets none of."""
    frozen, free = (nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)) for _ in range(2))
    frozen.load_state_dict(free.state_dict())
    frozen[0].weight.requires_grad_(False)
    x, y, qx, qy = data(2)
    slopes = []
    for model in (frozen, free):
        own = Adaptable(model, SGD(lr=0.5), adapted=["0.weight", "2.weight"])
        for _ in range(2):
            own = own.adapt(F.cross_entropy(own(x), y), first_order=first_order)
        slopes.append(torch.autograd.grad(F.cross_entropy(own(qx), qy), [model[2].weight, model[0].bias]))
    assert all(torch.allclose(one, other) for one, other in zip(*slopes, strict=True))
    assert not frozen[0].weight.requires_grad


@pytest.mark.parametrize("policy", ["support", "episode"])
def test_normalization_by_a_support_is_refused(policy: Policy) -> None:
    with pytest.raises(ShapeError, match=f"normalization '{policy}' must be told what the support is"):
        Adaptable(Conv4(shape=(1, 16, 16), filters=4, normalization=policy))


@pytest.mark.parametrize("option", ["max_norm", "sparse"])
def test_embeddings_that_cannot_be_adapted_are_refused(option: str) -> None:
    with pytest.raises(SpecError, match=f"Adaptable: an embedding with {option}"):
        Adaptable(nn.Embedding(7, 4, **{option: True}))


def test_checkpointing_is_refused() -> None:
    class Saving(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = checkpoint(super().forward, x, use_reentrant=False)
            return z

    with pytest.raises(SpecError, match=r"torch.utils.checkpoint .* wrong gradients"):
        Adaptable(Saving(2, 3))(torch.rand(4, 2))


def test_a_copy_begins_anew_and_none_is_made_after_a_step() -> None:
    model = nn.Linear(2, 1)
    own = Adaptable(model)
    again = copy.deepcopy(own)
    x = torch.ones(1, 2)
    again(x).sum().backward()
    assert model.weight.grad is None
    assert again.module.weight.grad is not None
    with pytest.raises(SpecError, match="expected no deepcopy after a step"):
        copy.deepcopy(own.adapt(own(x).sum()))


def test_inputs_of_another_type_are_told() -> None:
    own = Adaptable(nn.Linear(2, 1))
    with pytest.raises(ShapeError, match=r"Linear: expected examples of the type of its parameters, torch\.float64"):
        own(torch.ones(1, 2, dtype=torch.float32))


def test_mistakes_are_told() -> None:
    model = nn.Linear(2, 3)
    x, y, *_ = data(2)
    own = Adaptable(model)
    after = own.adapt(F.cross_entropy(own(x), y))
    with pytest.raises(ShapeError, match=r"scalar loss, got shape \(6, 3\)"):
        own.adapt(own(x))
    with pytest.raises(ShapeError, match="the loss has no gradient"), torch.no_grad():
        own.adapt(F.cross_entropy(own(x), y))
    with pytest.raises(ShapeError, match="by an earlier one"):
        after.adapt(F.cross_entropy(own(x), y))
    with pytest.raises(ShapeError, match="no parameter 'head'"):
        Adaptable(model, adapted="head")
    assert Adaptable(model, adapted=(name for name in ["bias"])).adapted == ["bias"]  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"got SGD; .* makes one of torch's"):
        Adaptable(model, torch.optim.SGD(model.parameters(), lr=0.1))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="got float"):
        Adaptable(model, 0.0)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="no rate for 'bias'"):
        Adaptable(model, SGD(lr={"weight": 0.1}))
    with pytest.raises(ShapeError, match="unfreeze"):
        Adaptable(model.requires_grad_(False))
