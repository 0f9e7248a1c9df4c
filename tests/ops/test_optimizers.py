from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from handful.errors import SpecError, UnknownNameError
from handful.ops.from_torch import like, memory_of
from handful.ops.optimizers import (
    ASGD,
    INNER_OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    InnerOptimizer,
    RAdam,
    RMSprop,
)
from handful.ops.precision import safe_sqrt

pytestmark = pytest.mark.usefixtures("float64")

TWINS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
TWINS |= {"rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad}
TWINS |= {"adadelta": torch.optim.Adadelta, "adamax": torch.optim.Adamax, "radam": torch.optim.RAdam}
TWINS |= {"asgd": torch.optim.ASGD}
COMMON: dict[str, list[Any]] = {"weight_decay": [0.0, 0.3], "maximize": [False, True]}
FLAGS: dict[str, dict[str, list[Any]]] = {
    "sgd": {"momentum": [0.0, 0.9], "dampening": [0.0, 0.4], "nesterov": [False, True]},
    "adam": {"betas": [(0.9, 0.999), (0.0, 0.5)], "eps": [1e-8, 0.1], "amsgrad": [False, True]},
    "adamw": {"betas": [(0.9, 0.999), (0.0, 0.5)], "eps": [1e-8, 0.1], "amsgrad": [False, True]},
    "rmsprop": {"alpha": [0.99, 0.5], "eps": [1e-8, 0.1], "momentum": [0.0, 0.9], "centered": [False, True]},
    "adagrad": {"lr_decay": [0.0, 0.2], "initial_accumulator_value": [0.0, 0.5], "eps": [1e-10, 0.1]},
    "adadelta": {"rho": [0.9, 0.5], "eps": [1e-6, 0.1]},
    "adamax": {"betas": [(0.9, 0.999), (0.0, 0.5)], "eps": [1e-8, 0.1]},
    "radam": {"betas": [(0.9, 0.999), (0.5, 0.9)], "eps": [1e-8, 0.1], "decoupled_weight_decay": [False, True]},
    "asgd": {"lambd": [1e-4, 0.3], "alpha": [0.75, 0.2]},
}


def combinations(name: str) -> list[dict[str, Any]]:
    flags = {**COMMON, **FLAGS[name]}
    every = [dict(zip(flags, values, strict=True)) for values in itertools.product(*flags.values())]
    return [o for o in every if not o.get("nesterov") or (o["momentum"] and not o["dampening"])]


def problem() -> tuple[nn.Module, list[dict[str, Tensor]]]:
    """A module, and gradients that come from nowhere, some exactly 0, some missing."""
    module = nn.Linear(3, 2)
    slopes = [{name: torch.randn_like(leaf) for name, leaf in module.named_parameters()} for _ in range(5)]
    for g in slopes:
        g["weight"][0] = 0
    del slopes[2]["bias"]
    return module, slopes


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_every_flag_as_torch_does(name: str) -> None:
    for options in combinations(name):
        module, slopes = problem()
        theirs = TWINS[name](module.parameters(), lr=0.05, **options)  # type: ignore[arg-type]
        ours = like(theirs)
        assert ours == INNER_OPTIMIZERS[name](lr=0.05, **options)
        theta = {key: leaf.detach().clone() for key, leaf in module.named_parameters()}
        memory: Any = ours.init(theta)
        for g in slopes:
            for key, leaf in module.named_parameters():
                leaf.grad = g[key].clone() if key in g else None
            theirs.step()
            theta, memory = ours.step(theta, g, memory)
            for key, leaf in module.named_parameters():
                assert torch.allclose(theta[key], leaf, rtol=1e-12, atol=1e-14), (options, key)


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_complex_parameters_as_torch_does(name: str) -> None:
    flags = {key: values[-1] for key, values in {**COMMON, **FLAGS[name]}.items()}
    for options in ({}, flags | ({"dampening": 0.0} if name == "sgd" else {})):
        w = nn.Parameter(torch.randn(3, 2, dtype=torch.complex128))
        theirs = TWINS[name]([w], lr=0.05, **options)  # type: ignore[arg-type]
        theta = {"w": w.detach().clone()}
        memory: Any = like(theirs).init(theta)
        for _ in range(4):
            w.grad = torch.randn_like(w)
            theta, memory = like(theirs).step(theta, {"w": w.grad.conj().conj_physical()}, memory)  # a lazy conjugate
            theirs.step()
            assert torch.allclose(theta["w"], w, rtol=1e-12, atol=1e-14), options


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_complex_parameters_of_tasks_rates_and_clipping(name: str) -> None:
    """As their parts, whether tasks are an axis or mapped; a norm is that of the absolute values."""
    theta, g = torch.randn(4, 3, dtype=torch.complex128), torch.randn(4, 3, dtype=torch.complex128)
    ours = InnerOptimizer.of({"name": name, "clip_norm": 0.5}, lr=torch.rand(3))

    def step(theta: Tensor, g: Tensor, task_axes: int) -> Tensor:
        given = {"w": theta}
        return ours.step(given, {"w": g}, ours.init(given), task_axes=task_axes)[0]["w"]

    found = step(theta, g, 1)
    assert torch.allclose(found, vmap(lambda own, slope: step(own, slope, 0))(theta, g))
    w = nn.Parameter(theta[0].clone())
    w.grad = g[0].clone()
    torch.nn.utils.clip_grad_norm_([w], 0.5)
    parts = [nn.Parameter(one.clone()) for one in w.detach()]
    for one, slope, rate in zip(parts, w.grad, ours.lr, strict=True):  # type: ignore[arg-type]
        one.grad = slope.clone()
        TWINS[name]([one], lr=float(rate)).step()
    assert torch.allclose(found[0], torch.stack(parts), rtol=1e-5)


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_nothing_that_is_given_is_changed(name: str) -> None:
    module, slopes = problem()
    theta = {key: leaf.detach() for key, leaf in module.named_parameters()}
    before = {key: leaf.clone() for key, leaf in theta.items()}
    ours = InnerOptimizer.of({"name": name, "clip_norm": 1.0}, lr=0.1)
    memory = ours.init(theta)
    kept = {key: {slot: leaf.clone() for slot, leaf in slots.items()} for key, slots in memory.items()}
    ours.step(theta, slopes[0], memory)
    assert all(torch.equal(theta[key], before[key]) for key in theta)
    assert all(torch.equal(memory[key][slot], leaf) for key, slots in kept.items() for slot, leaf in slots.items())


def trained(theta: Tensor, numbers: dict[str, Any], kind: type[InnerOptimizer]) -> Tensor:
    """Three steps on a smooth loss."""
    ours = kind(**numbers)
    own, memory = {"w": theta}, ours.init({"w": theta})
    for _ in range(3):
        (g,) = torch.autograd.grad((own["w"].sin() * torch.arange(1.0, 4)).sum(), own["w"], create_graph=True)
        own, memory = ours.step(own, {"w": g}, memory)  # type: ignore[assignment]
    return own["w"].square().sum()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (SGD, ["lr", "momentum", "dampening", "weight_decay"]),
        (Adam, ["lr", "weight_decay", "eps"]),
        (AdamW, ["lr", "weight_decay", "eps"]),
        (RMSprop, ["lr", "alpha", "momentum", "eps"]),
        (Adagrad, ["lr", "lr_decay", "initial_accumulator_value", "eps"]),
        (Adadelta, ["lr", "rho", "eps"]),
        (Adamax, ["lr", "weight_decay", "eps"]),
        (RAdam, ["lr", "weight_decay", "eps"]),
        (ASGD, ["lr", "lambd", "alpha"]),
    ],
)
def test_every_number_can_be_learned(kind: type[InnerOptimizer], names: list[str]) -> None:
    values = [torch.tensor(0.1 + 0.05 * place, requires_grad=True) for place in range(len(names))]
    theta = torch.tensor([0.3, -0.7, 1.1], requires_grad=True)

    def loss(theta: Tensor, *values: Tensor) -> Tensor:
        return trained(theta, dict(zip(names, values, strict=True)), kind)

    assert torch.autograd.gradcheck(loss, (theta, *values))


@pytest.mark.parametrize("rule", [Adam, Adamax, RAdam])
def test_betas_can_be_learned(rule: type[InnerOptimizer]) -> None:
    theta = torch.tensor([0.3, -0.7, 1.1], requires_grad=True)
    betas = torch.tensor(0.6, requires_grad=True), torch.tensor(0.8, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: trained(theta, {"lr": 0.1, "betas": (a, b), "eps": 0.1}, rule), betas)


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_a_gradient_of_zero_has_a_finite_derivative(name: str) -> None:
    theta = torch.tensor([0.0, 1.0], requires_grad=True)
    ours = InnerOptimizer.of({"name": name, "clip_norm": 1.0}, lr=0.1)
    (g,) = torch.autograd.grad((theta**2).sum(), theta, create_graph=True)
    after, _ = ours.step({"w": theta}, {"w": g}, ours.init({"w": theta}))
    (slope,) = torch.autograd.grad(after["w"].sum(), theta)
    assert bool(slope.isfinite().all())


def test_safe_square_root() -> None:
    x = torch.tensor([4.0, 0.0, -1e-18], requires_grad=True)
    (slope,) = torch.autograd.grad(safe_sqrt(x).sum(), x)
    assert safe_sqrt(x).tolist() == [2.0, 0.0, 0.0]
    assert slope.tolist() == [0.25, 0.0, 0.0]


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_tasks_by_vmap_and_by_a_leading_axis_are_tasks_apart(name: str) -> None:
    table = {"name": name, "clip_norm": 0.5, "clip_value": 0.4, "weight_decay": 0.1}
    ours = InnerOptimizer.of(table, lr=0.1)
    start = {"w": torch.randn(4, 3, 2), "b": torch.randn(4)}

    def descended(theta: dict[str, Tensor], task_axes: int = 0) -> dict[str, Tensor]:
        memory: Any = ours.init(theta)
        for _ in range(3):
            g = grad(lambda own: sum(leaf.sin().sum() for leaf in own.values()))(theta)
            theta, memory = ours.step(theta, g, memory, task_axes=task_axes)
        return theta

    apart = [descended({key: leaf[task] for key, leaf in start.items()}) for task in range(4)]
    for together in (vmap(descended)(start), descended(start, task_axes=1)):
        for key, leaf in together.items():
            assert torch.allclose(leaf, torch.stack([task[key] for task in apart]), rtol=1e-12)


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_groups_may_differ_in_anything(name: str) -> None:
    first, second = combinations(name)[0], combinations(name)[-1]
    module, slopes = problem()
    groups = [{"params": [module.weight], **second, "lr": 0.3}, {"params": [module.bias], **first}]
    theirs = TWINS[name](groups, lr=0.05)
    ours, memory = like(theirs, module), memory_of(theirs, module)
    theta = {key: leaf.detach().clone() for key, leaf in module.named_parameters()}
    for g in slopes:
        for key, leaf in module.named_parameters():
            leaf.grad = g[key].clone() if key in g else None
        theirs.step()
        theta, memory = ours.step(theta, g, memory)  # type: ignore[assignment]
    assert all(torch.allclose(theta[key], leaf, rtol=1e-12) for key, leaf in module.named_parameters())
    for wrong in (SGD(clip_norm=1.0), torch.optim.SGD(module.parameters())):
        with pytest.raises(SpecError, match="a rule that clips nothing for 'bias'"):
            Adam(others={"bias": wrong})  # type: ignore[dict-item]


def test_clipping_is_torchs() -> None:
    module, slopes = problem()
    theta = {key: torch.zeros_like(leaf) for key, leaf in module.named_parameters()}
    for options, clip in (
        ({"clip_norm": 0.7}, lambda p: nn.utils.clip_grad_norm_(p, 0.7)),
        ({"clip_norm": 1e6}, lambda p: nn.utils.clip_grad_norm_(p, 1e6)),
        ({"clip_value": 0.2}, lambda p: nn.utils.clip_grad_value_(p, 0.2)),
    ):
        for key, leaf in module.named_parameters():
            leaf.grad = slopes[0][key].clone()
        clip(module.parameters())
        ours = SGD(lr=1.0, **options)  # type: ignore[arg-type]
        after, _ = ours.step(theta, slopes[0], ours.init(theta))
        for key, leaf in module.named_parameters():
            assert leaf.grad is not None
            assert torch.allclose(after[key], -leaf.grad)


def test_rates_by_name_and_for_one_step() -> None:
    theta, g = {"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(2)}
    ours = SGD(lr={"a": 0.1, "b": torch.tensor([0.2, 0.3])})
    after, _ = ours.step(theta, g, ours.init(theta))
    assert torch.allclose(after["a"], torch.tensor([0.9, 0.9]))
    assert torch.allclose(after["b"], torch.tensor([0.8, 0.7]))
    after, _ = ours.step(theta, g, ours.init(theta), lr=1.0)
    assert torch.equal(after["a"], torch.zeros(2))


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"name": "adamm"}, UnknownNameError, "did you mean 'adam'"),
        ({"name": "adam", "foreach": True}, UnknownNameError, "unknown option of optimizer adam 'foreach'"),
        ({"name": "adam", "lr": 0.1}, SpecError, "inner_rate"),
        ({"name": "adam", "betas": [0.9]}, SpecError, "two betas"),
        ({"name": "adam", "betas": [0.9, 1.0]}, SpecError, "two betas"),
        ({"name": "adam", "amsgrad": 1}, SpecError, "true or false"),
        ({"name": "sgd", "momentum": -1.0}, SpecError, "at least 0"),
        ({"name": "sgd", "momentum": True}, SpecError, "at least 0"),
        ({"name": "sgd", "clip_norm": 0}, SpecError, "above 0"),
        ({"name": "sgd", "nesterov": True}, SpecError, "needs a momentum"),
    ],
)
def test_what_is_not_understood_is_refused(table: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        InnerOptimizer.of(table, lr=0.1)


def test_what_only_torch_can_do_is_refused() -> None:
    p, q = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    for optimizer, message in (
        (torch.optim.Adam([p], foreach=True), "foreach"),
        (torch.optim.Rprop([p]), "no pure form of Rprop"),
        (torch.optim.SGD([{"params": [p]}, {"params": [q]}], lr=0.1), "several groups"),
    ):
        with pytest.raises(SpecError, match=message):
            like(optimizer)
    if "decoupled_weight_decay" in torch.optim.Adam([p]).defaults:  # from torch 2.7 on
        assert like(torch.optim.Adam([p], decoupled_weight_decay=True, weight_decay=0.1)) == AdamW(weight_decay=0.1)


def test_what_others_write_into_groups_is_no_option() -> None:
    module = nn.Linear(2, 2)
    named = torch.optim.SGD(module.named_parameters(), lr=0.1)  # type: ignore[arg-type]
    assert like(named) == SGD(lr=0.1)
    assert like(torch.optim.SGD([{"params": [module.weight], "name": "head"}], lr=0.1)) == SGD(lr=0.1)
    scheduled = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    torch.optim.lr_scheduler.OneCycleLR(scheduled, max_lr=0.1, total_steps=5, div_factor=1.0, cycle_momentum=False)
    assert like(scheduled) == SGD(lr=0.1, momentum=0.5)


def test_with_a_module_rates_are_by_name() -> None:
    module = nn.Linear(2, 2)
    groups = [{"params": [module.weight], "lr": 0.3}, {"params": [module.bias]}]
    assert like(torch.optim.Adam(groups, lr=0.1), module) == Adam(lr={"weight": 0.3, "bias": 0.1})
    assert like(torch.optim.Adam([module.bias], lr=0.1), module) == Adam(lr={"bias": 0.1})
    module.bias.requires_grad_(False)
    assert like(torch.optim.Adam(groups, lr=0.1), module) == Adam(lr={"weight": 0.3})
    with pytest.raises(SpecError, match=r"shape \(2, 2\) that is none of Linear's"):
        like(torch.optim.SGD(module.parameters(), lr=0.1), nn.Linear(2, 2))


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_what_a_torch_optimizer_remembers_goes_on(name: str) -> None:
    """Begun by torch, gone on here: the same as torch alone; what torch remembers stays."""
    for options in combinations(name):
        module, slopes = problem()
        theirs = TWINS[name](module.parameters(), lr=0.05, **options)  # type: ignore[arg-type]
        begun = memory_of(theirs, module)
        assert all(not slots.get("step", torch.zeros(())).any() for slots in begun.values())
        for t, g in enumerate(slopes):
            if t == 3:
                theta: Any = {key: leaf.detach().clone() for key, leaf in module.named_parameters()}
                ours, memory = like(theirs), memory_of(theirs, module)
            for key, leaf in module.named_parameters():
                leaf.grad = g[key].clone() if key in g else None
            theirs.step()
            if t >= 3:
                theta, memory = ours.step(theta, g, memory)  # type: ignore[assignment]
        for key, leaf in module.named_parameters():
            assert torch.allclose(theta[key], leaf, rtol=1e-12, atol=1e-14), (options, key)


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_no_gradient_is_none_or_is_left_out(name: str) -> None:
    theta = {"a": torch.randn(2), "b": torch.randn(3)}
    ours = InnerOptimizer.of({"name": name, "clip_norm": 0.1, "weight_decay": 0.1}, lr=0.1)
    memory = ours.init(theta)
    after, kept = ours.step(theta, {"a": torch.ones(2), "b": None}, memory)
    wanted, wanted_memory = ours.step(theta, {"a": torch.ones(2)}, memory)
    assert torch.equal(after["a"], wanted["a"])
    assert after["b"] is theta["b"]
    assert all(torch.equal(leaf, wanted_memory["b"][slot]) for slot, leaf in kept["b"].items())


def test_betas_may_be_a_list() -> None:
    assert Adam(betas=[0.5, 0.9]) == Adam(betas=(0.5, 0.9))  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", [Adam, AdamW])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_adam_corrects_its_bias_in_any_precision(rule: type[Adam], dtype: torch.dtype) -> None:
    """In half precision 0.999 is 1: corrections must not be computed in it."""
    g = torch.tensor([1.0, 0.0, -2.0], dtype=dtype)
    theta = {"w": torch.zeros(3, dtype=dtype)}
    memory = (optimizer := rule(lr=0.01, weight_decay=0.0)).init(theta)
    for _ in range(5):
        theta, memory = optimizer.step(theta, {"w": g}, memory)
    expected = torch.tensor([-0.05, 0.0, 0.05], dtype=torch.float64)
    assert torch.allclose(theta["w"].double(), expected, rtol=2e-2 if dtype == torch.bfloat16 else 1e-6)
