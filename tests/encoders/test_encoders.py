"""What holds for every encoder of the catalog."""

import inspect
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import nn

from handful.encoders import ENCODERS, Identity
from handful.encoders.normalization import Policy, shares_statistics
from simulated import ACCELERATOR, simulated

pytestmark = pytest.mark.usefixtures("float64")

SMALL: dict[str, Callable[..., tuple[nn.Module, tuple[int, ...]]]] = {
    "conv4": lambda **options: (ENCODERS["conv4"](shape=(2, 17, 20), filters=8, **options), (2, 17, 20)),
    "resnet12": lambda **options: (
        ENCODERS["resnet12"](shape=(2, 17, 20), widths=(8, 8, 16, 16), **options),
        (2, 17, 20),
    ),
    "relation": lambda **options: (ENCODERS["relation"](shape=(2, 17, 20), filters=8, **options), (2, 17, 20)),
    "mlp": lambda **options: (ENCODERS["mlp"](shape=(3, 2), hidden=(8, 16), **options), (3, 2)),
    "resnet18": lambda **options: (
        ENCODERS["resnet18"](shape=(2, 17, 20), widths=(8, 8, 8, 16), stem="small", **options),
        (2, 17, 20),
    ),
    "siamese": lambda **options: (
        ENCODERS["siamese"](shape=(1, 65, 66), widths=(2, 2, 2, 4), features=8),
        (1, 65, 66),
    ),
    "text_cnn": lambda **options: (ENCODERS["text_cnn"](shape=(3, 9), filters=8), (3, 9)),
    "message_passing": lambda **options: (ENCODERS["message_passing"](shape=(4, 18), width=8, layers=2), (4, 18)),
    "identity": lambda **options: (ENCODERS["identity"](shape=(3, 2)), (3, 2)),
}
CASES: list[tuple[str, dict[str, Any]]] = [
    (name, {"normalization": policy} if takes else {})
    for name, cls in ENCODERS.items()
    for takes in ["normalization" in inspect.signature(cls).parameters]
    for policy in (get_args(Policy) if takes else [None])
    if (name, policy) != ("mlp", "instance")  # refused
]


def examples(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Five of what the encoder takes."""
    if name == "message_passing":
        x = torch.randint(0, 2, (5, *shape)).to(torch.get_default_dtype())
        x[..., 0] += 1
        return x
    return torch.randint(1, 60, (5, *shape)) if name == "text_cnn" else torch.randn(5, *shape)


def test_every_encoder_is_tried() -> None:
    assert set(SMALL) == set(ENCODERS)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_features_have_the_promised_size(name: str, options: dict[str, Any]) -> None:
    encoder, shape = SMALL[name](**options)
    for training in (True, False):
        assert encoder.train(training)(examples(name, shape)).shape == (5, encoder.out_features)
    assert encoder.shape == shape


@pytest.mark.parametrize(("name", "options"), CASES)
def test_in_evaluation_each_example_is_encoded_by_itself_unless_batch(name: str, options: dict[str, Any]) -> None:
    encoder, shape = SMALL[name](**options)
    encoder.eval()
    x = examples(name, shape)
    together, apart = encoder(x), torch.cat([encoder(part) for part in (x[:2], x[2:])])
    policy = options.get("normalization")
    if policy == "support":
        pytest.skip("outside a learner that says which examples are support, all are")
    assert torch.allclose(together, apart) != (policy == "batch")
    assert shares_statistics(encoder) == (policy == "batch")


@pytest.mark.parametrize(("name", "options"), CASES)
def test_initial_weights_hang_on_the_seed_only(name: str, options: dict[str, Any]) -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(SMALL[name](**options)[0].state_dict())
    assert all(torch.equal(leaf, made[1][key]) for key, leaf in made[0].items())


@pytest.mark.parametrize(("name", "options"), CASES)
def test_features_on_an_accelerator_are_those_of_the_cpu(name: str, options: dict[str, Any]) -> None:
    encoder, shape = SMALL[name](**options)
    x = examples(name, shape)
    expected = encoder.eval()(x)
    with simulated():
        encoder.to(ACCELERATOR)
        found = encoder(x.to(ACCELERATOR))
        assert found.device == ACCELERATOR
        assert torch.allclose(found.cpu(), expected, atol=1e-9)
        assert encoder.train()(x.to(ACCELERATOR)).device == ACCELERATOR


def test_identity_is_the_example_flattened() -> None:
    x = torch.randn(4, 3, 2)
    encoder = Identity(shape=(3, 2))
    assert encoder.out_features == 6
    assert torch.equal(encoder(x), x.flatten(1))
