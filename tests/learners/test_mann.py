import pytest
import torch
from torch import Tensor

from handful.encoders import Identity
from handful.episode import Episode, Query, Support
from handful.errors import SpecError
from handful.learner import task_losses
from handful.learners import MANN
from handful.learners.memory.mann import Memory

pytestmark = pytest.mark.usefixtures("float64")

SIZES = {"hidden": 7, "slots": 6, "width": 5, "heads": 2}


def heard(batch: int = 2, steps: int = 5) -> tuple[MANN, Tensor, Tensor]:
    z, y = torch.randn(batch, steps, 3), torch.eye(3)[torch.randint(3, (batch, steps))]
    return MANN(Identity(shape=(3,)), outputs=3, **SIZES), z, y  # type: ignore[arg-type]


def test_the_future_changes_nothing_before() -> None:
    learner, z, y = heard()
    _, answers = learner.hear(z, y)
    for t in range(5):
        other_z, other_y = z.clone(), y.clone()
        other_z[:, t + 1 :] += 1.0
        other_y[:, t:] = other_y[:, t:].roll(1, -1)  # the label of step t is shown after its answer
        _, others = learner.hear(other_z, other_y)
        assert torch.equal(others[:, : t + 1], answers[:, : t + 1])
        if t < 4:
            assert not torch.allclose(others[:, t + 1], answers[:, t + 1])


def test_every_task_begins_with_an_empty_memory() -> None:
    learner, z, y = heard()
    begun = learner.begin(z[:, 0])
    assert all(not leaf.any() for leaf in begun)
    first, _ = learner.hear(z[:1], y[:1])
    learner.hear(z[1:], y[1:])
    again, _ = learner.hear(z[:1], y[:1])
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_reading_is_by_likeness_and_usage_adds_up_and_decays() -> None:
    learner, z, _ = heard()
    state, total = learner.begin(z[:, 0]), torch.zeros(2)
    for t in range(5):
        state = learner.step(state, z[:, t])
        assert torch.allclose(state.read.sum(-1), torch.ones(2, 2)), "shares of attention"
        gate = learner.gate(state.h).sigmoid()
        written = gate * (0.0 if t == 0 else 1.0) + 1 - gate  # what was read last is empty at first
        total = learner.decay * total + 2 + written.sum(-1)
        assert torch.allclose(state.usage.sum(-1), total)
        assert torch.allclose(state.r.view(2, 2, 5), state.read @ state.m)


def test_with_a_closed_gate_keys_go_to_the_least_used_slots_which_are_emptied() -> None:
    learner, z, _ = heard(batch=1)
    with torch.no_grad():
        learner.gate.weight.zero_()
        learner.gate.bias.fill_(-40.0)
    usage = torch.tensor([[3.0, 1.0, 5.0, 0.5, 4.0, 2.0]])
    past = learner.begin(z[:, 0])._replace(m=torch.randn(1, 6, 5), usage=usage)
    state = learner.step(past, z[:, 0])
    keys = learner.key(state.h).tanh().view(2, 5)
    assert torch.allclose(state.m[0, [3, 1]], keys), "head by head, the least used first"
    others = [0, 2, 4, 5]
    assert torch.equal(state.m[0, others], past.m[0, others])
    assert isinstance(state, Memory)


def test_with_an_open_gate_keys_go_where_was_read_last() -> None:
    learner, z, _ = heard(batch=1)
    with torch.no_grad():
        learner.gate.weight.zero_()
        learner.gate.bias.fill_(40.0)
    read = torch.eye(6)[None, [2, 4]]
    past = learner.begin(z[:, 0])._replace(m=torch.randn(1, 6, 5), usage=torch.arange(6.0)[None], read=read)
    state = learner.step(past, z[:, 0])
    keys = learner.key(state.h).tanh().view(2, 5)
    assert torch.allclose(state.m[0, [2, 4]], past.m[0, [2, 4]] + keys)
    assert not state.m[0, [0, 1]].any(), "the least used slots are emptied"
    assert torch.equal(state.m[0, [3, 5]], past.m[0, [3, 5]])


def test_the_loss_is_taken_at_every_step() -> None:
    learner, z, y = heard()
    qz, qy = torch.randn(2, 4, 3), torch.randint(3, (2, 4))
    y[:, :3] = torch.eye(3)
    state, answers = learner.hear(z, y)
    every = torch.cat([answers, learner.predict(state, qz)], 1)
    expected = task_losses(every, torch.cat([y.argmax(-1), qy], 1)).mean()
    assert torch.allclose(learner.loss(Episode(Support(z, y.argmax(-1), 3), Query(qz, qy))), expected)


def test_more_heads_than_slots_are_refused() -> None:
    with pytest.raises(SpecError, match="expected from 1 to 2 heads"):
        MANN(Identity(shape=(3,)), slots=2)
