"""How the laws try gradient learners."""

from typing import Any

from factories import WAYS, Variant
from reference import maml, rates_of
from reference_memory import lstm_meta_learner
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
    ],
    "lstm_meta_learner": [
        _lstm_meta_learner(),
        _lstm_meta_learner("episode", engine={"tasks_at_once": 2}),
        _lstm_meta_learner(support_batch=4, evaluation_steps=4),
    ],
}
