"""The laws that every learner of the catalog keeps."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from catalog import ALL, VARIANTS
from factories import SHAPE, WAYS, Variant, answers, slopes, tasks
from torch import Tensor, nn

from handful.checkpoint import load_checkpoint, save_checkpoint
from handful.data import FunctionEpisodes, Sinusoid
from handful.distributed import Ranks
from handful.encoders import MLP
from handful.episode import Episode, Query, Support
from handful.learner import Learner, query_loss
from handful.learners import LEARNERS
from handful.spec import Spec, build

MODES = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
KINDS = {"metric", "gradient", "memory", "generative", "closed_form", "baseline", "transductive", "zero_shot"}
EVERY = pytest.mark.parametrize("variant", ALL, ids=str)


def test_every_learner_of_the_catalog_is_tried() -> None:
    assert set(VARIANTS) == set(LEARNERS)
    assert all(VARIANTS.values())
    assert {law for variant in ALL for law in variant.exempt} <= set(globals()), "exempt from laws that exist"


@pytest.fixture(autouse=True)
def _exempt(request: pytest.FixtureRequest) -> None:
    params = getattr(request.node, "callspec", None)
    variant = params.params.get("variant") if params else None
    if variant is not None and request.node.originalname in variant.exempt:
        pytest.skip(variant.exempt[request.node.originalname])


@EVERY
def test_a_learner_says_what_it_is(variant: Variant) -> None:
    learner = variant.make()
    assert any(kind in learner.paper for kind in ("arXiv", "doi", "openreview", "papers.nips.cc"))
    assert learner.kind in KINDS
    assert type(learner).__module__.startswith(f"handful.learners.{learner.kind}.")


@EVERY
@MODES
@pytest.mark.parametrize("ragged", [False, True])
def test_logits_are_one_for_each_way_and_finite(variant: Variant, training: bool, ragged: bool) -> None:
    learner, episode = variant.make().train(training), tasks(ragged=ragged)
    logits = answers(learner, episode)
    assert logits.shape == (3, 6, WAYS)
    assert logits.dtype == torch.float64
    assert bool(logits.isfinite().all())
    assert learner.loss(episode).shape == ()
    assert bool(learner.loss(episode).isfinite())


@EVERY
def test_examples_are_taken_in_the_precision_of_the_learner(variant: Variant) -> None:
    """NumPy's numbers are double; a network is single."""
    learner, episode = variant.make().float(), tasks()
    assert bool(answers(learner, episode).isfinite().all())
    assert bool(learner.loss(episode).isfinite())


@EVERY
@MODES
def test_tasks_together_are_tasks_apart(variant: Variant, training: bool) -> None:
    learner, episode = variant.make().train(training), tasks()
    apart = torch.cat([answers(learner, episode.part(i, i + 1)) for i in range(3)])
    assert torch.allclose(answers(learner, episode), apart, atol=1e-10)
    before = copy.deepcopy(learner.state_dict())
    losses = []
    for i in range(3):
        losses.append(learner.loss(episode.part(i, i + 1)))
        learner.load_state_dict(before)  # running estimates move on with every batch
    assert torch.allclose(learner.loss(episode), torch.stack(losses).mean(), atol=1e-10)


def everything(module: nn.Module) -> dict[str, Any]:
    """All that a module and its parts hold: attributes, weights, buffers, gradients."""
    held: dict[str, Any] = {}
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            tensors_apart = ("_modules", "_parameters", "_buffers", "_flat_weights")
            held[f"{name}.{key}"] = copy.deepcopy(value) if key not in tensors_apart else None
        held[f"{name} parts"] = list(part._modules)
        for key, leaf in [*part._parameters.items(), *part._buffers.items()]:
            grad = None if leaf is None or leaf.grad is None else leaf.grad.clone()
            held[f"{name}.{key} tensor"] = (
                None if leaf is None else (leaf.detach().clone(), grad, leaf.requires_grad, id(leaf))
            )
    return held


def unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
            assert torch.equal(value[0], after[key][0]), key
            assert value[2:] == after[key][2:], key
            assert value[1] is after[key][1] is None, key
        else:
            assert value == after[key], key


@EVERY
@MODES
@pytest.mark.parametrize("gradients", [True, False], ids=["grad", "no_grad"])
def test_adapting_and_predicting_change_nothing(variant: Variant, training: bool, gradients: bool) -> None:
    learner, episode = variant.make(steps=3).train(training), tasks()
    before = everything(learner)
    with torch.set_grad_enabled(gradients):
        state = learner.adapt(episode.support)
        kept = copy_of(state)
        first = learner.predict(state, episode.query.x)
        second = learner.predict(state, episode.query.x)
    unchanged(before, everything(learner))
    assert torch.equal(first, second)
    for a, b in zip(tensors(kept), tensors(state), strict=True):
        assert torch.equal(a, b), "what was learned is not changed by answering"


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, dict):
        return [leaf for value in state.values() for leaf in tensors(value)]
    return [] if state is None else [leaf for value in state for leaf in tensors(value)]


def copy_of(state: Any) -> list[Tensor]:
    return [leaf.detach().clone() for leaf in tensors(state)]


@EVERY
def test_evaluation_mode_changes_no_buffer_even_in_loss(variant: Variant) -> None:
    learner = variant.make(steps=3).eval()
    before = everything(learner)
    learner.loss(tasks())
    unchanged(before, everything(learner))


@EVERY
@MODES
def test_what_was_learned_has_a_leading_task_axis(variant: Variant, training: bool) -> None:
    state = variant.make().train(training).adapt(tasks().support)
    assert isinstance(state, tuple)
    assert hasattr(state, "_fields")
    assert {leaf.shape[0] for leaf in tensors(state)} == {3}


@EVERY
@MODES
def test_permuting_supports_changes_nothing(variant: Variant, training: bool) -> None:
    learner, episode = variant.make().train(training), tasks(ragged=True)
    order = torch.randperm(6)
    support = replace(episode.support, x=episode.support.x[:, order], y=episode.support.y[:, order])  # type: ignore[index]
    assert torch.allclose(answers(learner, replace(episode, support=support)), answers(learner, episode), atol=1e-10)


@EVERY
@MODES
def test_permuting_classes_permutes_answers(variant: Variant, training: bool) -> None:
    learner, episode = variant.make().train(training), tasks(ragged=True)
    if not learner.any_ways:
        pytest.skip("a learned head has weights of its own for each class")
    new = torch.tensor([2, 0, 1])  # class k is now called new[k]
    renamed = replace(episode, support=replace(episode.support, y=new[episode.support.y]))
    assert torch.allclose(answers(learner, renamed)[..., new], answers(learner, episode), atol=1e-10)


@EVERY
def test_other_numbers_of_ways(variant: Variant) -> None:
    learner = variant.make()
    x = torch.randn(2, 10, *SHAPE, dtype=torch.float64)
    episode = Episode(Support(x, torch.arange(10).remainder(5).expand(2, 10), 5), Query(x, torch.zeros(2, 10).long()))
    if learner.any_ways:
        assert answers(learner, episode).shape == (2, 10, 5)
    else:
        with pytest.raises(ValueError, match="5 ways"):
            answers(learner, episode)


@EVERY
def test_no_queries_get_no_answers(variant: Variant) -> None:
    learner, episode = variant.make().eval(), tasks()
    state = learner.adapt(episode.support)
    if learner.transductive and not learner.uses_queries:
        pytest.skip("batch statistics need queries")
    assert learner.predict(state, episode.query.x[:, :0]).shape == (3, 0, 3)  # type: ignore[index]


@EVERY
def test_dropping_queries_changes_no_answer_unless_it_says_so(variant: Variant) -> None:
    learner, episode = variant.make().eval(), tasks()
    state = learner.adapt(episode.support)
    every, few = learner.predict(state, episode.query.x), learner.predict(state, episode.query.x[:, :2])  # type: ignore[index]
    assert torch.allclose(every[:, :2], few, atol=1e-10) != learner.transductive
    assert learner.transductive == (learner.uses_queries or variant.policy == "batch")


@EVERY
def test_every_meta_parameter_gets_a_finite_gradient(variant: Variant) -> None:
    learner = variant.make(steps=3)
    learner.loss(tasks()).backward()  # type: ignore[no-untyped-call]
    for name, parameter in learner.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        if name.endswith("convolution.bias") and variant.policy in ("batch", "support", "running", "per_step"):
            continue  # normalization takes it away
        if name.endswith(("layer.weight", "layer.bias")):
            rows = torch.atleast_2d(parameter.grad)
            assert bool(rows.any(1).all()), f"{name}: every inner step has its own"
        assert bool(parameter.grad.any()), name


@EVERY
@MODES
def test_meta_gradients_match_finite_differences(variant: Variant, training: bool) -> None:
    learner, episode = variant.make(steps=3).train(training), tasks(2)
    state = copy.deepcopy(learner.state_dict())
    wanted = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    gradient = slopes(learner.loss(episode), learner)
    direction = [torch.randn_like(parameter) for parameter in wanted]

    def moved(by: float) -> Tensor:
        learner.load_state_dict(state)
        with torch.no_grad():
            for parameter, step in zip(wanted, direction, strict=True):
                parameter += by * step
        return learner.loss(episode).detach()

    slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
    difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
    assert torch.allclose(torch.as_tensor(slope), difference, rtol=1e-6, atol=1e-9)


@EVERY
@MODES
def test_loss_and_meta_gradients_match_a_plain_loop(variant: Variant, training: bool) -> None:
    learner, episode = variant.make(steps=3).train(training), tasks(3, ragged=True)
    expected, outputs = variant.reference(learner, episode)
    if outputs is not None:
        assert torch.allclose(answers(learner, episode), outputs, atol=1e-10)
    gradient = slopes(expected, learner)
    loss = learner.loss(episode)
    assert torch.allclose(loss, expected, rtol=1e-10)
    for mine, want in zip(slopes(loss, learner), gradient, strict=True):
        assert torch.allclose(mine, want, rtol=1e-8, atol=1e-11)


@EVERY
def test_loss_is_the_query_loss_after_adapting(variant: Variant) -> None:
    learner, episode = variant.make().eval(), tasks()
    assert torch.allclose(learner.loss(episode), query_loss(learner, episode))


@EVERY
@pytest.mark.parametrize("size", [2, 3, 5])
def test_any_split_of_a_batch_over_ranks_is_the_batch(variant: Variant, size: int) -> None:
    """The loss, its gradient, and what becomes of running statistics: sums over shares, each by its weight."""
    learner, episode = variant.make(steps=3), tasks(4)
    before = copy.deepcopy(learner.state_dict())

    def found(part: Episode) -> list[Tensor]:
        learner.load_state_dict(before)
        loss = learner.loss(part)
        return [*slopes(loss, learner), loss.detach(), *(buffer.clone() for buffer in learner.buffers())]

    whole = found(episode)
    sums = [torch.zeros_like(leaf, dtype=torch.float64) for leaf in whole]  # counters too
    for rank in range(size):
        start, stop = Ranks(rank, size).share(episode.tasks)
        if start < stop:
            for total, leaf in zip(sums, found(episode.part(start, stop)), strict=True):
                total += leaf * (stop - start) / episode.tasks
    for total, leaf in zip(sums, whole, strict=True):
        assert torch.allclose(total, leaf.double(), rtol=1e-8, atol=1e-11)
    moved = [not torch.equal(before[name], buffer) for name, buffer in learner.named_buffers()]
    assert all(moved) != (variant.policy == "frozen") or not moved


@EVERY
@MODES
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_learning_and_answering_need_no_gradients(variant: Variant, training: bool, context: Callable[[], Any]) -> None:
    learner, episode = variant.make(steps=3).train(training), tasks()
    expected = answers(learner, episode).detach()
    with context():
        inside = answers(learner, episode)
        made = episode.support.x.clone()  # type: ignore[union-attr] - as data made in there are
        support = replace(episode.support, x=made, y=episode.support.y.clone(), weight=torch.ones(3, 6))
        own = learner.predict(learner.adapt(support), episode.query.x.clone())  # type: ignore[union-attr]
        state = learner.adapt(episode.support)
    assert not inside.requires_grad
    assert torch.allclose(inside, expected, atol=1e-12)
    assert torch.allclose(own, expected, atol=1e-12)
    assert not any(leaf.requires_grad for leaf in tensors(state))
    with torch.no_grad():
        assert torch.allclose(learner.predict(state, episode.query.x), expected, atol=1e-12)


@EVERY
def test_weights_count_examples(variant: Variant) -> None:
    """An example of weight two is as good as two of it; of weight zero, as good as none, in training as well."""
    if variant.policy not in ("none", "group", "frozen"):
        pytest.skip("batch statistics count examples, not weights")
    learner, episode = variant.make().eval(), tasks(ragged=True)
    x, y = episode.support.x, episode.support.y
    assert isinstance(x, Tensor)
    double = torch.cat([x, x[:, :1]], 1), torch.cat([y, y[:, :1]], 1)
    weight = torch.ones(3, 6)
    weight[:, 0] = 2
    assert torch.allclose(
        answers(learner, replace(episode, support=Support(x, y, WAYS, weight))),
        answers(learner, replace(episode, support=Support(*double, WAYS))),
        atol=1e-10,
    )
    weight = torch.ones(3, 7)
    weight[:, 6] = 0
    wrong = torch.cat([x, 9 * torch.ones_like(x[:, :1])], 1), torch.cat([y, y[:, :1]], 1)
    outlier = replace(episode, support=Support(*wrong, WAYS, weight))
    assert torch.allclose(answers(learner, outlier), answers(learner, episode), atol=1e-10)
    losses = []
    for each in (episode, outlier):
        learner = variant.make().train()  # anew: losses count their turns
        torch.manual_seed(0)
        losses.append(learner.loss(each).item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)


@EVERY
def test_sixty_toy_steps_beat_chance(variant: Variant) -> None:
    """Tasks whose signal is one corner, faint, and the rest loud noise: only meta-learning finds it."""

    def toy(seed: int, batch: int) -> Episode:
        random = torch.Generator().manual_seed(seed)
        y = torch.arange(6).remainder(WAYS).expand(batch, 6).contiguous()
        means = torch.stack([torch.randperm(WAYS, generator=random) for _ in range(batch)]).double() - 1  # [B, N]
        x = 3 * torch.randn(2, batch, 6, *SHAPE, generator=random, dtype=torch.float64)
        x[:, :, :, 0, :3, :3] = 0.1 * x[:, :, :, 0, :3, :3] + 0.5 * means.gather(1, y)[None, :, :, None, None]
        return Episode(Support(x[0], y, WAYS), Query(x[1], y), (means + 1).long())

    learner = variant.make(steps=3)
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=variant.toy_rate)
    before = accuracy(learner, toy(10**6, 100))
    learner.train()
    for step in range(60):
        optimizer.zero_grad()
        learner.loss(toy(step, 4)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = accuracy(learner, toy(10**6, 100))
    assert before < 0.45, "else the tasks would be too easy to show anything"
    assert after > 1 / 3 + 0.2, f"{before:.3f} before, {after:.3f} after"


def accuracy(learner: Learner, episode: Episode) -> float:
    with torch.no_grad():
        return float((answers(learner.eval(), episode).argmax(-1) == episode.query.y).double().mean())


def spec_of(variant: Variant) -> Spec:
    encoder = {"name": "conv4", "shape": [1, 16, 16], "filters": 8, "normalization": variant.policy, "steps": 3}
    learner = {"name": variant.name, **variant.options}
    train = {"steps": 1, "ways": WAYS, "seed": 5}
    return Spec.of({"learner": learner, "encoder": encoder, "data": {"name": "omniglot"}, "train": train})


@EVERY
def test_spec_and_checkpoint_round_trip_exactly(variant: Variant, tmp_path: Path) -> None:
    spec = spec_of(variant)
    assert Spec.of(spec.table()) == spec
    learner = build(spec)
    again = build(spec).state_dict()
    assert all(torch.equal(leaf, again[name]) for name, leaf in learner.state_dict().items()), "the seed decides"
    with torch.no_grad():
        for leaf in learner.state_dict().values():
            if leaf.is_floating_point():
                leaf += 0.1 * torch.rand_like(leaf)
    save_checkpoint(tmp_path / "run", learner, spec, step=7, notes={"score": 0.5})
    loaded = load_checkpoint(tmp_path / "run")
    assert loaded.spec == spec
    assert loaded.spec.digest == spec.digest
    assert (loaded.step, dict(loaded.notes)) == (7, {"score": 0.5})
    assert type(loaded.learner) is type(learner)
    state = loaded.learner.state_dict()
    assert list(state) == list(learner.state_dict())
    assert all(torch.equal(leaf, state[name]) for name, leaf in learner.state_dict().items())
    y = torch.arange(6).remainder(WAYS).expand(2, 6)
    episode = Episode(Support(torch.rand(2, 6, 1, 16, 16), y, WAYS), Query(torch.rand(2, 6, 1, 16, 16), y))
    assert torch.equal(answers(loaded.learner.eval(), episode), answers(learner.eval(), episode))


@EVERY
def test_regression_only_where_it_is_promised(variant: Variant) -> None:
    episode = FunctionEpisodes(Sinusoid(), shots=5, queries=4, batch=2)[0]
    cls = LEARNERS[variant.name]
    if cls.regression:
        options = {"outputs": 1} if "outputs" in inspect.signature(cls).parameters else {}
        learner = cls(MLP(shape=(1,), hidden=(8,)), **options)  # type: ignore[call-arg]
        assert answers(learner, episode).shape == (2, 4, 1)
        learner.loss(episode).backward()  # type: ignore[no-untyped-call]
        return
    learner = cls(MLP(shape=(1,), hidden=(8,)))  # type: ignore[call-arg]
    for call in (lambda: learner.adapt(episode.support), lambda: learner.loss(episode)):
        with pytest.raises(ValueError, match="learns classes; a regression task"):
            call()
