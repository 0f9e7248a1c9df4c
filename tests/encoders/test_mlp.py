import pytest
import torch
import torch.nn.functional as F

from handful.encoders.mlp import MLP
from handful.encoders.normalization import BatchNorm
from handful.errors import ShapeError, UnknownNameError

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("policy", ["none", "running", "batch"])
def test_linear_layers_with_relu_between(policy: str) -> None:
    encoder = MLP(shape=(2, 3), hidden=(7, 5), normalization=policy)  # type: ignore[arg-type]
    x = torch.randn(9, 2, 3)
    z = x.flatten(1)
    step = 2 if policy == "none" else 3
    for first in (0, step):
        linear = encoder.layers[first]
        z = F.linear(z, linear.weight, linear.bias)  # type: ignore[arg-type]
        z = F.relu(z if policy == "none" else encoder.layers[first + 1](z))
    assert torch.allclose(encoder(x), z)
    assert encoder(x).shape == (9, 5)
    assert encoder.out_features == 5
    assert encoder.shape == (2, 3)


def test_the_sinusoid_network_of_the_paper() -> None:
    encoder = MLP()
    assert sum(p.numel() for p in encoder.parameters()) == (40 + 40) + (40 * 40 + 40)


def test_no_layers_is_the_example_flattened() -> None:
    encoder, x = MLP(shape=(2, 3), hidden=()), torch.randn(4, 2, 3)
    assert encoder.out_features == 6
    assert torch.equal(encoder(x), x.flatten(1))


def test_whole_numbers_are_read_as_floats() -> None:
    encoder, x = MLP(shape=(3,), hidden=(4,)).double(), torch.randint(9, (5, 3))
    assert torch.equal(encoder(x), encoder(x.double()))
    assert torch.equal(encoder(x > 4), encoder((x > 4).double()))
    assert torch.equal(MLP(shape=(3,), hidden=())(x), x)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ShapeError, match=r"instance normalization: one value .* is always 0"):
        MLP(normalization="instance")
    with pytest.raises(UnknownNameError, match="unknown normalization 'batc'; did you mean 'batch'"):
        MLP(normalization="batc")  # type: ignore[arg-type]
    for wrong in ({"hidden": (8, 0)}, {"shape": (0,)}, {"outputs": 0}):
        with pytest.raises(ShapeError, match="expected sizes of at least 1"):
            MLP(**wrong)  # type: ignore[arg-type]


def test_steps_reach_every_layer() -> None:
    layers = [m for m in MLP(normalization="per_step", steps=4).modules() if isinstance(m, BatchNorm)]
    assert [layer.weight.shape for layer in layers] == [(4, 40), (4, 40)]


def test_a_whole_model_from_the_authors_distribution() -> None:
    torch.manual_seed(0)
    model = MLP(shape=(1,), hidden=(40, 40), outputs=1, scale=0.01)
    assert model.out_features == 1
    assert model(torch.randn(3, 1)).shape == (3, 1)
    weights = torch.cat([p.detach().flatten() for name, p in model.named_parameters() if name.endswith("weight")])
    assert float(weights.abs().max()) <= 0.02
    assert float(weights.std()) == pytest.approx(0.0088, rel=0.05)  # 0.01 cut at two deviations
    assert all(not bool(p.any()) for name, p in model.named_parameters() if name.endswith("bias"))
