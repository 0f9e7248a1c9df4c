from __future__ import annotations

import copy
import math
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from handful.data.episodes import Episodes
from handful.data.pool import ClassPool
from handful.encoders import MLP, Identity
from handful.episode import Episode, EpisodeSource, Query, Support
from handful.errors import DataError, SpecError, UnknownNameError
from handful.learners import PrototypicalNetwork
from handful.training import OPTIMIZERS, SCHEDULES, Schedule, Step, train


def learner_of(*, dropout: float = 0.0, normalization: str = "none", seed: int = 0) -> PrototypicalNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = nn.Sequential(MLP(shape=[4], hidden=[8], normalization=normalization), nn.Dropout(dropout))  # type: ignore[arg-type]
        return PrototypicalNetwork(encoder)


def episodes_of(pool: ClassPool, *, batch: int = 3) -> Episodes:
    return Episodes(pool.split("train"), ways=4, shots=2, queries=3, batch=batch, seed=5)


def sgd(learner: nn.Module, rate: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(learner.parameters(), lr=rate)


def weights(learner: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.parameters()])


class Recorded:
    """Episodes that remember which were asked for."""

    def __init__(self, inner: EpisodeSource) -> None:
        self.inner, self.asked = inner, list[int]()

    def __getitem__(self, t: int) -> Episode:
        self.asked.append(t)
        return self.inner[t]


def test_yields_after_each_step_and_descends(vectors: ClassPool) -> None:
    learner = learner_of()
    steps = train(learner, episodes_of(vectors), torch.optim.Adam(learner.parameters(), lr=0.03), steps=60)
    seen = [(step, weights(learner)) for step in steps]
    assert [step.t for step, _ in seen] == list(range(60))
    assert all(isinstance(step, Step) and step.loss.ndim == 0 and not step.loss.requires_grad for step, _ in seen)
    assert all(not torch.equal(a, b) for (_, a), (_, b) in pairwise(seen))
    losses = [float(step.loss) for step, _ in seen]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_the_loss_is_of_the_weights_before_the_step(vectors: ClassPool) -> None:
    learner, episodes = learner_of(), episodes_of(vectors)
    expected = learner.loss(episodes[0]).detach()
    step = next(train(learner, episodes, sgd(learner), steps=1))
    assert torch.equal(step.loss, expected)
    assert not torch.equal(learner.loss(episodes[0]), expected)


def test_nothing_happens_before_the_first_step_is_asked_for(vectors: ClassPool) -> None:
    learner, source = learner_of(), Recorded(episodes_of(vectors))
    before = weights(learner)
    steps = train(learner, source, sgd(learner), steps=5)
    assert source.asked == []
    next(steps)
    assert source.asked == [0]
    assert not torch.equal(weights(learner), before)


def test_schedules_are_functions_of_the_step() -> None:
    cosine = SCHEDULES["cosine"](100, floor=0.1)
    assert [cosine(0), cosine(50), cosine(100)] == pytest.approx([1.0, 0.55, 0.1])
    assert cosine(25) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    linear = SCHEDULES["linear"](100, floor=0.2)
    assert [linear(0), linear(50), linear(100)] == pytest.approx([1.0, 0.6, 0.2])
    step = SCHEDULES["step"](100, every=10, factor=0.5)
    assert [step(0), step(9), step(10), step(19), step(20), step(35)] == [1, 1, 0.5, 0.5, 0.25, 0.125]
    assert {SCHEDULES["constant"](100)(t) for t in range(100)} == {1.0}


def test_a_schedule_that_never_ends_a_step_is_refused() -> None:
    with pytest.raises(SpecError, match="at least 1 step, got 0"):
        SCHEDULES["step"](10, every=0)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_the_schedule_sets_the_rate_of_every_group(vectors: ClassPool, name: str) -> None:
    learner = learner_of()
    first, *rest = learner.parameters()
    optimizer = OPTIMIZERS[name]([{"params": [first], "lr": 0.2}, {"params": rest}], lr=0.1)  # type: ignore[call-arg]
    schedule: Schedule = SCHEDULES["linear"](4)
    rates = [
        [group["lr"] for group in optimizer.param_groups]
        for _ in train(learner, episodes_of(vectors), optimizer, steps=4, schedule=schedule)
    ]
    assert rates == [pytest.approx([0.2 * f, 0.1 * f]) for f in (1.0, 0.75, 0.5, 0.25)]


def test_the_rate_moves_the_weights_as_far_as_it_says(vectors: ClassPool) -> None:
    whole, half = learner_of(), learner_of()
    before, episodes = weights(whole), episodes_of(vectors)
    next(train(whole, episodes, sgd(whole), steps=1))
    next(train(half, episodes, sgd(half), steps=1, schedule=lambda t: 0.5))
    torch.testing.assert_close(weights(half) - before, (weights(whole) - before) / 2)


def test_clip_bounds_all_gradients_together(vectors: ClassPool) -> None:
    free, clipped = learner_of(), learner_of()
    before, episodes = weights(free), episodes_of(vectors)
    next(train(free, episodes, sgd(free, 1.0), steps=1))
    next(train(clipped, episodes, sgd(clipped, 1.0), steps=1, clip=0.01))
    move = weights(free) - before
    assert float(move.norm()) > 0.02
    torch.testing.assert_close(weights(clipped) - before, move * 0.01 / move.norm(), rtol=1e-3, atol=1e-7)


class Pairs:
    """Two batches of tasks as one."""

    def __init__(self, inner: EpisodeSource) -> None:
        self.inner = inner

    def __getitem__(self, t: int) -> Episode:
        a, b = self.inner[2 * t], self.inner[2 * t + 1]
        assert isinstance(a.support.x, torch.Tensor)
        assert isinstance(b.support.x, torch.Tensor)
        assert isinstance(a.query.x, torch.Tensor)
        assert isinstance(b.query.x, torch.Tensor)
        support = Support(torch.cat([a.support.x, b.support.x]), torch.cat([a.support.y, b.support.y]), a.support.ways)
        return Episode(support, Query(torch.cat([a.query.x, b.query.x]), torch.cat([a.query.y, b.query.y])))


@pytest.mark.parametrize("normalization", ["none", "running"])
def test_accumulated_batches_equal_one_larger_batch(vectors: ClassPool, normalization: str) -> None:
    parts, whole = (learner_of(normalization=normalization).double() for _ in range(2))
    pool = ClassPool.grouped(vectors.examples.double(), vectors.counts.tolist(), vectors.names)
    source = Recorded(Episodes(pool, ways=4, shots=2, queries=3, batch=3))
    a = list(train(parts, source, sgd(parts), steps=3, accumulate=2))
    b = list(train(whole, Pairs(source.inner), sgd(whole), steps=3))
    assert source.asked == [0, 1, 2, 3, 4, 5]
    assert [float(x.loss) for x in a] == pytest.approx([float(x.loss) for x in b], rel=1e-6)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(parts.buffers(), whole.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_bfloat16_runs_the_forward_pass_in_half(vectors: ClassPool) -> None:
    kinds: list[torch.dtype] = []
    learner, reference = learner_of(), learner_of()
    linear = next(module for module in learner.modules() if isinstance(module, nn.Linear))
    linear.register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    episodes = episodes_of(vectors)
    mixed = [float(s.loss) for s in train(learner, episodes, sgd(learner), steps=3, precision="bfloat16")]
    plain = [float(s.loss) for s in train(reference, episodes, sgd(reference), steps=3)]
    assert set(kinds) == {torch.bfloat16}
    assert {p.dtype for p in learner.parameters()} == {torch.float32}
    assert mixed != plain
    assert mixed == pytest.approx(plain, rel=0.05)


def test_global_random_states_are_untouched(vectors: ClassPool) -> None:
    learner = learner_of(dropout=0.5)
    torch.manual_seed(7)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[union-attr]  # noqa: NPY002
    for _ in train(learner, episodes_of(vectors), sgd(learner), steps=3):
        assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[union-attr]  # noqa: NPY002
    assert random.getstate() == states[2]


def dropped(pool: ClassPool, *, seed: int, world: int, noisy_body: bool = False) -> list[float]:
    torch.manual_seed(world)
    learner = learner_of(dropout=0.5)
    losses = []
    for step in train(learner, episodes_of(pool), sgd(learner), steps=5, seed=seed):
        losses.append(float(step.loss))
        if noisy_body:
            torch.rand(3)
            learner.eval()
    return losses


def test_noise_is_a_function_of_seed_and_step(vectors: ClassPool) -> None:
    with torch.random.fork_rng():
        reference = dropped(vectors, seed=1, world=0)
        assert dropped(vectors, seed=1, world=1) == reference
        assert dropped(vectors, seed=1, world=2, noisy_body=True) == reference
        assert dropped(vectors, seed=2, world=0) != reference


def test_each_step_has_noise_of_its_own(vectors: ClassPool) -> None:
    learner, episode = learner_of(dropout=0.5), episodes_of(vectors)[0]

    class Same:
        def __getitem__(self, t: int) -> Episode:
            return episode

    losses = [float(step.loss) for step in train(learner, Same(), sgd(learner, 0.0), steps=4)]
    assert len(set(losses)) == 4


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_start_from_a_saved_state_continues_the_same_numbers(vectors: ClassPool, name: str) -> None:
    learner = learner_of(dropout=0.3, normalization="running")
    optimizer = OPTIMIZERS[name](learner.parameters(), lr=0.05)  # type: ignore[call-arg]
    options = {"steps": 9, "schedule": SCHEDULES["cosine"](9), "clip": 1.0, "accumulate": 2, "seed": 3}
    saved = {}
    losses = []
    for step in train(learner, episodes_of(vectors), optimizer, **options):  # type: ignore[arg-type]
        losses.append(float(step.loss))
        if step.t == 3:
            saved = {"learner": copy.deepcopy(learner.state_dict()), "optimizer": copy.deepcopy(optimizer.state_dict())}

    again = learner_of(dropout=0.3, normalization="running", seed=9)
    again.load_state_dict(saved["learner"])
    later = OPTIMIZERS[name](again.parameters(), lr=0.05)  # type: ignore[call-arg]
    fresh = later.state_dict()["param_groups"]
    later.load_state_dict({"state": saved["optimizer"]["state"], "param_groups": fresh})
    steps = list(train(again, episodes_of(vectors), later, start=4, **options))  # type: ignore[arg-type]
    assert [step.t for step in steps] == [4, 5, 6, 7, 8]
    assert [float(step.loss) for step in steps] == losses[4:]
    for key, value in learner.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_a_start_at_the_end_does_nothing(vectors: ClassPool) -> None:
    learner = learner_of()
    before = weights(learner)
    assert list(train(learner, episodes_of(vectors), sgd(learner), steps=3, start=3)) == []
    assert torch.equal(weights(learner), before)


class Poisoned(PrototypicalNetwork):
    """A loss, or only its gradient, that is not finite from some step on."""

    def __init__(self, after: int, loss: float = 0.0, gradient: float = 1.0) -> None:
        super().__init__(MLP(shape=[4], hidden=[8], normalization="none"))
        self.left, self.bad = after, (loss, gradient)

    def loss(self, episode: Episode) -> torch.Tensor:
        total = super().loss(episode)
        self.left -= 1
        if self.left >= 0:
            return total
        loss, gradient = self.bad
        total.register_hook(lambda grad: grad * gradient)
        return total + loss


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_moves_no_weight(vectors: ClassPool, bad: float) -> None:
    learner = Poisoned(2, loss=bad)
    steps = train(learner, episodes_of(vectors), sgd(learner), steps=5)
    before = [next(steps), next(steps)] and weights(learner)
    with pytest.raises(DataError, match=rf"the loss is {bad} at step 2; lower the learning rates or clip"):
        next(steps)
    assert torch.equal(weights(learner), before)


def test_gradients_that_are_not_finite_are_not_clipped(vectors: ClassPool) -> None:
    learner = Poisoned(1, gradient=math.nan)
    steps = train(learner, episodes_of(vectors), sgd(learner), steps=5, clip=1.0)
    before = next(steps) and weights(learner)
    with pytest.raises(DataError, match="the gradients are not finite at step 1; lower the learning rates"):
        next(steps)
    assert torch.equal(weights(learner), before)


def test_without_a_schedule_the_rate_is_the_callers(vectors: ClassPool) -> None:
    learner = learner_of()
    optimizer = sgd(learner, 0.8)
    halving = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    rates = []
    for _ in train(learner, episodes_of(vectors), optimizer, steps=3):
        rates.append(optimizer.param_groups[0]["lr"])
        halving.step()
    assert rates == [0.8, 0.4, 0.2]


def test_a_frozen_part_stays_in_evaluation_mode(vectors: ClassPool) -> None:
    learner = learner_of(dropout=0.1, normalization="running")
    modes: list[tuple[bool, bool]] = []
    encoder = learner.encoder
    assert isinstance(encoder, nn.Sequential)
    learner.train()
    encoder[0].eval()
    buffers = {name: value.clone() for name, value in encoder[0].named_buffers()}
    assert buffers
    encoder.register_forward_hook(lambda *_: modes.append((encoder[0].training, encoder[1].training)))
    for _ in train(learner, episodes_of(vectors), sgd(learner), steps=3):
        assert not any(module.training for module in learner.modules())
    assert set(modes) == {(False, True)}
    assert all(torch.equal(value, buffers[name]) for name, value in encoder[0].named_buffers())


def test_a_learner_that_comes_in_evaluation_mode_trains_whole(vectors: ClassPool) -> None:
    learner = learner_of(normalization="running").eval()
    before = {name: value.clone() for name, value in learner.named_buffers()}
    next(train(learner, episodes_of(vectors), sgd(learner), steps=1))
    assert any(not torch.equal(value, before[name]) for name, value in learner.named_buffers())


def test_arguments_that_cannot_be(vectors: ClassPool) -> None:
    learner, episodes = learner_of(), episodes_of(vectors)
    with pytest.raises(SpecError, match="`accumulate` to be at least 1 batch a step, got 0"):
        next(train(learner, episodes, sgd(learner), steps=1, accumulate=0))
    with pytest.raises(UnknownNameError, match=r"unknown precision 'float16'.*Valid: bfloat16, float32"):
        next(train(learner, episodes, sgd(learner), steps=1, precision="float16"))  # type: ignore[arg-type]
    raw = PrototypicalNetwork(Identity(shape=[4]))
    with pytest.raises(SpecError, match="PrototypicalNetwork has no parameters to learn"):
        next(train(raw, episodes, sgd(learner), steps=1))


@pytest.mark.parametrize("clip", [-1.0, 0.0, math.nan])
def test_a_clip_that_is_no_norm_is_refused(vectors: ClassPool, clip: float) -> None:
    learner = learner_of()
    with pytest.raises(SpecError, match="`clip` to be a norm above 0"):
        next(train(learner, episodes_of(vectors), sgd(learner), steps=1, clip=clip))


def test_episodes_that_end_before_the_training(vectors: ClassPool) -> None:
    learner = learner_of()
    with pytest.raises(DataError, match="the episodes end before batch 1"):
        list(train(learner, [episodes_of(vectors)[0]], sgd(learner), steps=3))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="`start` to be a step"):
        next(train(learner, episodes_of(vectors), sgd(learner), steps=1, start=-1))
