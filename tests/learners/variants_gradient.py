"""How the laws try gradient learners."""

from typing import Any

from factories import WAYS, Variant
from reference import maml, rates_of
from torch import Tensor

from handful.encoders.normalization import Policy
from handful.episode import Episode
from handful.learners import MAML

FIRST_ORDER = {"test_meta_gradients_match_finite_differences": "first order is meant not to be the gradient"}


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
    ],
}
