"""torch.func's transformations, and each of another, of fused blocks: as without the kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from handful import Conv4
from handful.kernels import available, plain, reason

pytestmark = pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}")
Weights = dict[str, Tensor]


class Setting:
    """An encoder's features, a loss, and a loss after a step of gradient descent, as functions of its weights."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.encoder = Conv4(shape=(1, 16, 17), filters=32, normalization="batch").double()
        self.weights = {name: leaf.detach() for name, leaf in self.encoder.named_parameters()}
        self.directions = {name: torch.randn_like(leaf) for name, leaf in self.weights.items()}
        self.x = torch.rand(2, 3, 1, 16, 17, dtype=torch.float64)

    def features(self, weights: Weights, x: Tensor) -> Tensor:
        z: Tensor = functional_call(self.encoder, weights, (x,))
        return z[0, :3]

    def scaled(self, gamma: Tensor) -> Tensor:
        return self.features({**self.weights, "blocks.0.1.weight": gamma}, self.x[0])

    def loss(self, weights: Weights, x: Tensor) -> Tensor:
        return functional_call(self.encoder, weights, (x,)).square().mean()

    def adapted(self, weights: Weights, x: Tensor) -> Tensor:
        slopes = grad(self.loss)(weights, x)
        return self.loss({name: leaf - 0.5 * slopes[name] for name, leaf in weights.items()}, x.flip(0))

    @property
    def gamma(self) -> Tensor:
        return self.weights["blocks.0.1.weight"]


TRIED: dict[str, Callable[[Setting], object]] = {
    "jacrev": lambda s: jacrev(s.scaled)(s.gamma),
    "jacrev of weights": lambda s: jacrev(s.features)(s.weights, s.x[0]),
    "jacfwd": lambda s: jacfwd(s.scaled)(s.gamma),
    "jvp": lambda s: jvp(lambda weights: s.features(weights, s.x[0]), (s.weights,), (s.directions,)),
    "jvp in pictures": lambda s: jvp(lambda x: s.features(s.weights, x), (s.x[0],), (s.x[1],)),
    "hessian": lambda s: hessian(lambda gamma: s.scaled(gamma).square().sum())(s.gamma),
    "jacrev twice": lambda s: jacrev(jacrev(lambda gamma: s.scaled(gamma).square().sum()))(s.gamma),
    "an inner step": lambda s: grad(s.adapted)(s.weights, s.x[0]),
    "an inner step in each task": lambda s: vmap(grad(s.adapted), (None, 0))(s.weights, s.x),
    "each example's gradient": lambda s: vmap(grad(lambda w, x: s.loss(w, x.expand(2, -1, -1, -1))), (None, 0))(
        s.weights, s.x[0]
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own way to forward mode
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("recording", [True, False])
def test_as_without_kernels(name: str, recording: bool) -> None:
    setting = Setting()
    with torch.set_grad_enabled(recording):
        found = TRIED[name](setting)
        with plain():
            torch.testing.assert_close(found, TRIED[name](setting), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("again", [False, True])
def test_saved_tensors_may_be_copied(again: bool) -> None:
    setting, found = Setting(), []
    leaf = setting.encoder.blocks[0][1].weight  # type: ignore[index]
    for pack in (lambda t: t, lambda t: t.clone(memory_format=torch.contiguous_format)):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            loss = setting.encoder(setting.x[0]).square().sum()
            found += torch.autograd.grad(loss, leaf, create_graph=again)
    torch.testing.assert_close(found[1], found[0])


def test_a_batch_of_gradients_outside_torch_func_is_refused() -> None:
    setting = Setting()
    z = setting.encoder(setting.x[0])[0, :3]
    leaf = setting.encoder.blocks[0][0].weight  # type: ignore[index]
    with pytest.raises(NotImplementedError, match=r"use torch\.func, or compute inside"):
        torch.autograd.grad(z, leaf, torch.eye(3, dtype=torch.float64), is_grads_batched=True)
