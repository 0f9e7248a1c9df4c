"""How the laws try gradient learners."""

from collections.abc import Callable
from typing import Any

import reference_gradient as plain
import torch
from factories import WAYS, Smooth, Variant
from reference import maml, rates_of
from reference_memory import lstm_meta_learner
from torch import Tensor, nn

from handful.encoders.normalization import Policy
from handful.episode import Episode
from handful.learners import MAML

FINITE = "test_meta_gradients_match_finite_differences"
FIRST_ORDER = {FINITE: "first order is meant not to be the gradient"}
REPTILE = {
    FINITE: "the target is taken as given",
    "test_loss_is_the_query_loss_after_adapting": "its loss is the way that a task moves",
}


def _maml(policy: Policy = "none", **options: Any) -> Variant:
    def reference(learner: MAML, episode: Episode) -> tuple[Tensor, Tensor]:
        loss, outputs, _ = maml(
            learner.model,
            episode,
            rates=rates_of(learner),
            steps=learner.steps,
            first_order=learner.first_order,
            support_policy=policy == "support",
        )
        return loss, outputs

    exempt = FIRST_ORDER if options.get("first_order") else {}
    options = {"outputs": WAYS, "inner_rate": 0.4, "inner_steps": 2, **options}
    return Variant("maml", reference, policy, options, exempt=exempt)


def _moved(
    name: str,
    move: Callable[[Any], plain.Move],
    policy: Policy = "none",
    *,
    encoder: Callable[..., nn.Module] = Smooth,
    toy_rate: float = 0.02,
    **options: Any,
) -> Variant:
    def reference(learner: Any, episode: Episode) -> tuple[Tensor, Tensor]:
        return plain.moved(learner, episode, learner.adapted, move(learner))

    options = {"outputs": WAYS, "inner_rate": 0.4, "inner_steps": 2, **options}
    return Variant(name, reference, policy, options, encoder=encoder, toy_rate=toy_rate)


def _constant(learner: Any) -> plain.Move:
    return lambda step, name, theta, g: theta - learner.inner_rate * g


def _each(learner: Any) -> plain.Move:
    rates = dict(zip(learner.adapted, learner.rates, strict=True))
    return lambda step, name, theta, g: theta - rates[name] * g


def _curved(learner: Any) -> plain.Move:
    curvatures = dict(zip(learner.adapted, learner.curvatures, strict=True))

    def move(step: int, name: str, theta: Tensor, g: Tensor) -> Tensor:
        own, sides = curvatures[name], "abc"
        cube = g.reshape(*(*g.shape, 1, 1)[:2], -1)
        for side, matrix in zip(sides, (own.outputs, own.inputs, own.positions), strict=True):
            if matrix is not None:
                cube = torch.einsum(f"z{side},{sides}->{sides.replace(side, 'z')}", matrix, cube)
        return theta - learner.inner_rate * cube.reshape(g.shape)

    return move


def _plus_plus(policy: Policy, **options: Any) -> Variant:
    def reference(learner: Any, episode: Episode) -> tuple[Tensor, Tensor]:
        return plain.maml_plus_plus(learner, episode, [0.5, 0.5] if learner.training else [0.0, 1.0])

    options = {"outputs": WAYS, "inner_rate": 0.4, "inner_steps": 2, "annealing": 100, **options}
    return Variant("maml_plus_plus", reference, policy, options)


def _reptile(plain_optimizer: Callable[[Any], torch.optim.Optimizer], **options: Any) -> Variant:
    def reference(learner: Any, episode: Episode) -> tuple[Tensor, None]:
        return plain.reptile(learner, episode, plain_optimizer)

    return Variant("reptile", reference, "none", {"outputs": WAYS, **options}, exempt=REPTILE)


class Deep(Smooth):
    """With a linear layer, for a context to enter."""

    def __init__(self, policy: Policy = "none", *, steps: int = 1) -> None:
        super().__init__(policy, steps=steps)
        self.linear = nn.Linear(self.out_features, 16)
        self.out_features = 16

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(super().forward(x)))


def _lstm_meta_learner(policy: Policy = "none", **options: Any) -> Variant:
    exempt = {"test_meta_gradients_match_finite_differences": "gradients and losses are constants to the meta-gradient"}
    if "support_batch" in options:
        in_turn = "mini-batches are taken in the order given"
        exempt |= dict.fromkeys(("test_permuting_supports_changes_nothing", "test_weights_count_examples"), in_turn)
    options = {"outputs": WAYS, "inner_rate": 0.1, "inner_steps": 3, "hidden": 5, **options}
    return Variant("lstm_meta_learner", lstm_meta_learner, policy, options, exempt=exempt)


GRADIENT = {
    "maml": [
        _maml(),
        _maml(first_order=True),
        _maml(rates="learned", engine={"tasks_at_once": 2}),
        _maml("batch", engine={"tasks_at_once": 1}),
        _maml("support", engine={"tasks_at_once": 2}),
        _maml("group"),
        _maml("running", evaluation_steps=3),
        _maml("per_step", engine={"tasks_at_once": 2}),
        _maml("batch", engine={"workers": 2}),
        _maml("running", rates="learned", engine={"workers": 2, "gradient": "recompute"}),
        _maml("per_step", engine={"gradient": "hvp"}),
        _moved(
            "maml",
            lambda learner: plain.adam(0.1, (0.5, 0.9), 0.1),
            inner_rate=0.1,
            optimizer={"name": "adam", "betas": [0.5, 0.9], "eps": 0.1},
        ),
    ],
    "anil": [
        _moved("anil", _constant, inner_rate=2.0),
        _moved("anil", _constant, "running", engine={"tasks_at_once": 2, "gradient": "recompute"}),
    ],
    "boil": [_moved("boil", _constant, inner_rate=1.0)],
    "meta_sgd": [_moved("meta_sgd", _each, inner_rate=[0.3, 0.5], engine={"tasks_at_once": 2})],
    "maml_plus_plus": [_plus_plus("per_step"), _plus_plus("none", engine={"tasks_at_once": 2})],
    "meta_curvature": [_moved("meta_curvature", _curved, "group", engine={"gradient": "recompute"})],
    "proto_maml": [
        Variant("proto_maml", plain.proto_maml, policy, {"inner_rate": 0.02, "inner_steps": 2, **options})
        for policy, options in (("none", {}), ("running", {"engine": {"tasks_at_once": 2}}))
    ],
    "cavia": [
        _moved("cavia", _constant, encoder=Deep, toy_rate=0.05, context=20, inner_rate=10.0),
        _moved("cavia", _constant, "group", film=1, context=6, inner_rate=30.0, engine={"tasks_at_once": 1}),
    ],
    "imaml": [
        Variant(
            "imaml",
            plain.imaml,
            "none",
            {"outputs": WAYS, "strength": 2.0, "inner_rate": 0.3, "inner_steps": 30, "conjugate_steps": 60},
        )
    ],
    "reptile": [
        _reptile(
            lambda p: torch.optim.Adam(p, 0.3, betas=(0.0, 0.999), eps=0.5),
            inner_rate=0.3,
            inner_steps=3,
            optimizer={"name": "adam", "betas": [0.0, 0.999], "eps": 0.5},
        ),
        _reptile(
            lambda p: torch.optim.SGD(p, 0.3, momentum=0.5),
            inner_rate=0.3,
            inner_steps=3,
            last_step=True,
            optimizer={"name": "sgd", "momentum": 0.5},
            engine={"tasks_at_once": 2},
        ),
    ],
    "lstm_meta_learner": [
        _lstm_meta_learner(),
        _lstm_meta_learner("episode", engine={"tasks_at_once": 2}),
        _lstm_meta_learner(support_batch=4, evaluation_steps=4),
    ],
}
