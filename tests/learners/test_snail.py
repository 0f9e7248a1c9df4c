import pytest
import torch

from handful.encoders import Conv4, Identity
from handful.errors import SpecError
from handful.learners import SNAIL
from handful.learners.memory.snail import Attention, Dense

pytestmark = pytest.mark.usefixtures("float64")


def small(length: int = 7) -> SNAIL:
    return SNAIL(Identity(shape=(3,)), outputs=3, length=length, filters=4, keys=[4, 4], values=[4, 4])


def test_the_future_changes_nothing_before() -> None:
    learner, x = small(), torch.randn(2, 9, 6)

    def through(x: torch.Tensor) -> torch.Tensor:
        for layer in learner.layers:
            x = layer(x)
        return x

    before = through(x)
    for t in range(8):
        other = x.clone()
        other[:, t + 1 :] += torch.randn(2, 8 - t, 6)
        after = through(other)
        assert torch.allclose(after[:, : t + 1], before[:, : t + 1], atol=1e-14)
        assert not torch.allclose(after[:, t + 1], before[:, t + 1])


@pytest.mark.parametrize("supports", [1, 2, 3, 8, 20])
def test_a_query_is_the_last_step_of_the_whole_sequence(supports: int) -> None:
    learner = small()
    z, y, query = torch.randn(2, supports, 3), torch.randn(2, supports, 3), torch.randn(2, 4, 3)
    answers = learner.predict_features(learner.adapt_features(z, y, 0), query)
    for q in range(4):
        x = torch.cat([torch.cat([z, y], -1), torch.cat([query[:, q : q + 1], torch.zeros(2, 1, 3)], -1)], 1)
        for layer in learner.layers:
            x = layer(x)
        assert torch.allclose(answers[:, q], learner.output(x)[:, -1])


def test_attention_weighs_keys_of_a_query_and_of_what_came_before() -> None:
    layer, x = Attention(4, 3, 2), torch.randn(1, 5, 4)
    found = layer(x)[..., 4:]
    assert torch.allclose(found[:, 0], layer.value(x[:, 0])), "the first sees itself only"
    match = layer.query(x[:, 2]) @ layer.key(x[:, :3]).mT / 3**0.5
    assert torch.allclose(found[:, 2], (match.softmax(-1) @ layer.value(x[:, :3])).squeeze(1))


def test_the_published_network_for_omniglot() -> None:
    """5-way 1-shot: T = 6, dilations 2, 4 and 8, channels as they add up."""
    learner = SNAIL(Conv4(), outputs=5, length=6)
    kinds = [layer.dilation if isinstance(layer, Dense) else layer.key.out_features for layer in learner.layers]  # type: ignore[union-attr]
    assert kinds == [64, 2, 4, 8, 256, 2, 4, 8, 512]
    assert learner.output.in_features == 64 + 5 + 32 + 3 * 128 + 128 + 3 * 128 + 256
    assert [sum(isinstance(part, Dense) for part in small(T).layers) for T in (2, 3, 4, 5, 26)] == [1, 2, 2, 3, 5]


def test_settings_that_make_no_network_are_refused() -> None:
    with pytest.raises(SpecError, match="length of at least 2"):
        small(1)
    with pytest.raises(SpecError, match="as many keys as values"):
        SNAIL(Identity(shape=(3,)), keys=[4, 4], values=[4])
