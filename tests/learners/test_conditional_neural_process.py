import pytest
import torch
from torch.nn.functional import gaussian_nll_loss

from handful.data import FunctionEpisodes, Sinusoid
from handful.encoders import Identity
from handful.episode import Episode, Support
from handful.errors import SpecError
from handful.learners import ConditionalNeuralProcess

pytestmark = pytest.mark.usefixtures("float64")


def learner_of(outputs: int = 1) -> ConditionalNeuralProcess:
    return ConditionalNeuralProcess(Identity(shape=(1,)), outputs=outputs, width=6, depth=2)


def functions() -> Episode:
    return FunctionEpisodes(Sinusoid(), shots=5, queries=4, batch=3)[0]


def test_a_regression_is_the_mean_of_all_supports_and_a_density() -> None:
    learner, episode = learner_of(), functions()
    x, y = episode.support.x, episode.support.y
    r = torch.stack([learner.h(torch.cat([x[:, i], y[:, i]], -1)) for i in range(5)]).mean(0)  # type: ignore[index]
    state = learner.adapt(episode.support)
    assert torch.allclose(state.r, r)
    mean, deviation = learner.distribution(state, episode.query.x)  # type: ignore[arg-type]
    assert torch.equal(mean, learner.predict(state, episode.query.x))
    assert float(deviation.min().detach()) > 0.1
    expected = gaussian_nll_loss(mean, episode.query.y, deviation**2, full=True)
    assert torch.allclose(learner.loss(episode), expected)


def test_weights_and_order_of_a_regression() -> None:
    learner, support = learner_of(), functions().support
    x, y = support.x, support.y
    weight = torch.tensor([[1.0, 2.0, 1.0, 0.0, 1.0]] * 3)
    rows = [4, 1, 2, 1, 0]
    again = Support(x[:, rows], y[:, rows])  # type: ignore[index]
    assert torch.allclose(learner.adapt(Support(x, y, weight=weight)).r, learner.adapt(again).r)


def test_several_targets() -> None:
    x, y = torch.randn(2, 5, 1), torch.randn(2, 5, 3)
    learner = learner_of(outputs=3)
    assert learner.predict(learner.adapt(Support(x, y)), torch.randn(2, 4, 1)).shape == (2, 4, 3)


def test_no_depth_is_refused() -> None:
    with pytest.raises(SpecError, match="depth of at least 1"):
        ConditionalNeuralProcess(Identity(shape=(1,)), depth=0)
