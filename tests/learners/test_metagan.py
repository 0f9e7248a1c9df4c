import copy
from typing import Any

import pytest
import torch
from factories import WAYS, Smooth, answers, shaken, slopes, tasks
from torch import Tensor
from variants_generative import Shaped

from handful.encoders import TextCNN
from handful.encoders.generation import ExampleGenerator, InstanceEncoder
from handful.episode import Episode, Query, Support
from handful.errors import ShapeError, SpecError
from handful.learners import MAML, MetaGAN, MetaGANRelation
from handful.ops.adversarial import called_fake, called_real

pytestmark = pytest.mark.usefixtures("float64")
FORMS = pytest.mark.parametrize("cls", [MetaGAN, MetaGANRelation])


def learner_of(cls: type[MetaGAN] | type[MetaGANRelation], **options: Any) -> Any:
    torch.manual_seed(1)
    options |= {"outputs": WAYS, "inner_rate": 0.4, "inner_steps": 2} if cls is MetaGAN else {}
    return cls(shaken(Shaped()), **options).double()  # type: ignore[arg-type]


def halves(learner: Any, episode: Episode) -> tuple[Tensor, Tensor]:
    discriminator, generator = learner.halves(episode)[:2]
    return discriminator, generator


def test_the_fixed_logit() -> None:
    logits = torch.randn(4, 3)
    p = torch.cat([logits, torch.zeros(4, 1)], 1).softmax(1)
    assert torch.allclose(called_real(logits), -p[:, :3].sum(1).log())
    assert torch.allclose(called_fake(logits), -p[:, 3].log())


@FORMS
def test_halves_reach_only_their_own_parameters(cls: Any) -> None:
    learner, episode = learner_of(cls), tasks()
    for half, generates in zip(halves(learner, episode), (False, True), strict=True):
        half.backward()  # type: ignore[no-untyped-call]
        for name, parameter in learner.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.any())
            assert reached == (name.startswith("generator.") == generates), name
        learner.zero_grad()


@FORMS
@pytest.mark.parametrize("number", [0, 1], ids=["discriminator", "generator"])
def test_each_half_is_descended_exactly(cls: Any, number: int) -> None:
    """By finite differences in its own parameters, while the others stay where they are."""
    learner, episode = learner_of(cls), tasks(2)
    names = [n for n, _ in learner.named_parameters() if n.startswith("generator.") == bool(number)]
    leaves = dict(learner.named_parameters())
    gradient = torch.autograd.grad(halves(learner, episode)[number], [leaves[name] for name in names])
    direction = [torch.randn_like(g) for g in gradient]
    if number and cls is MetaGAN:  # generated examples of the inner steps are constants too
        kept = copy.deepcopy(learner)
        learner._descend = lambda support, fakes: kept._descend(support, kept._generated(support, "inner", moving=True))

    def moved(by: float) -> Tensor:
        with torch.no_grad():
            for name, step in zip(names, direction, strict=True):
                leaves[name] += by * step
        return halves(learner, episode)[number].detach()

    difference = (moved(1e-5) - moved(-2e-5)) / 2e-5
    slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
    assert torch.allclose(torch.as_tensor(slope), difference, rtol=1e-6, atol=1e-9)


def test_without_a_generator_it_is_maml_from_the_same_weights() -> None:
    plain, episode = learner_of(MetaGAN, generator=False), tasks()
    maml = MAML(plain.model, inner_rate=0.4, inner_steps=2)
    torch.testing.assert_close(answers(plain, episode), answers(maml, episode))  # which rounds a step once
    loss, expected = plain.loss(episode), maml.loss(episode)
    torch.testing.assert_close(loss, expected)
    for mine, want in zip(slopes(loss, plain), slopes(expected, maml), strict=True):
        torch.testing.assert_close(mine, want)


@FORMS
def test_the_ablation_starts_from_the_same_weights(cls: Any) -> None:
    whole, plain = learner_of(cls).state_dict(), learner_of(cls, generator=False).state_dict()
    assert set(plain) < set(whole)
    assert all(torch.equal(leaf, whole[name]) for name, leaf in plain.items())


@FORMS
def test_generated_examples_move_with_the_turn_and_know_the_task(cls: Any) -> None:
    learner, episode = learner_of(cls), tasks()
    losses = [float(learner.loss(episode).detach()) for _ in range(3)]
    assert len(set(losses)) == 3
    again = learner_of(cls)
    assert [float(again.loss(episode).detach()) for _ in range(3)] == losses
    made = learner._generated(episode.support, **({"purpose": "outer", "moving": True} if cls is MetaGAN else {}))
    assert made.shape == (3, learner.fakes, 1, 6, 6)
    assert not torch.allclose(made[0], made[1])


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 28, 28), (5,), (2, 7)])
def test_what_is_made_has_the_shape_of_what_is_taken(shape: tuple[int, ...]) -> None:
    made = ExampleGenerator(6, shape)(torch.randn(4, 6)).detach()
    assert made.shape == (4, *shape)
    if len(shape) == 3:
        assert 0 < float(made.min()) < float(made.max()) < 1
    assert InstanceEncoder(shape, code=9)(made).shape == (4, 9)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ShapeError, match="does not say its shape"):
        MetaGAN(Smooth(), outputs=WAYS)
    for cls in (MetaGAN, MetaGANRelation):
        with pytest.raises(SpecError, match="expected fakes of at least 1, got 0"):
            cls(Shaped(), fakes=0)
        words = TextCNN(shape=(5,), vocabulary=9, width=4, filters=6)
        x, y = torch.randint(9, (2, 3, 5)), torch.tensor([[0, 1, 2]] * 2)
        learner: Any = cls(words, outputs=WAYS) if cls is MetaGAN else cls(words)
        with pytest.raises(ShapeError, match=r"expected examples of real numbers.*got torch.int64: read texts as"):
            learner.loss(Episode(Support(x, y, WAYS), Query(x, y)))
