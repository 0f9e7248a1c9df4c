"""How the laws try learners that hear sequences."""

from collections.abc import Callable
from typing import Any

from factories import WAYS, Variant
from reference_memory import mann_task, meta_lstm_task, over_tasks, process_task, snail_task
from torch import Tensor

from handful.encoders.normalization import Policy
from handful.episode import Episode
from handful.learners import MANN, SNAIL, ConditionalNeuralProcess, MetaLSTM

SEQUENCE = {
    "test_permuting_supports_changes_nothing": "supports are a sequence",
    "test_weights_count_examples": "what is heard once is heard once: unequal weights are refused",
}
SLOW = {"test_sixty_toy_steps_beat_chance": "needs hundreds of steps; test_memory_learners.py gives it an easier task"}
EVERY_STEP = {"test_loss_is_the_query_loss_after_adapting": "the loss is taken at every step of the sequence"}
CONSTANT = {"test_meta_gradients_match_finite_differences": "inner gradients are constants to the meta-gradient"}


def _heard(
    name: str,
    task: Callable[..., Tensor],
    policy: Policy,
    options: dict[str, Any],
    exempt: dict[str, str],
) -> Variant:
    def reference(learner: MANN | SNAIL | MetaLSTM | ConditionalNeuralProcess, episode: Episode) -> tuple[Tensor, None]:
        def loss(*of_task: Tensor) -> Tensor:
            return task(learner, *of_task)

        return over_tasks(learner.encoder, episode, loss, together=policy != "batch"), None

    return Variant(name, reference, policy, {"outputs": WAYS, **options}, exempt=exempt)


def _mann(policy: Policy = "none", **options: Any) -> Variant:
    small = {"hidden": 16, "slots": 8, "width": 6, "heads": 2, **options}
    return _heard("mann", mann_task, policy, small, SEQUENCE | SLOW | EVERY_STEP)


def _snail(policy: Policy = "none", **options: Any) -> Variant:
    small = {"length": 7, "filters": 8, "keys": [8, 8], "values": [8, 8], **options}
    return _heard("snail", snail_task, policy, small, SEQUENCE | SLOW)


def _meta_lstm(form: str, policy: Policy = "none", **options: Any) -> Variant:
    small = {"form": form, "hidden": 12, "meta_hidden": 6, "rank": 3, **options}
    return _heard("meta_lstm", meta_lstm_task, policy, small, SEQUENCE | (CONSTANT if form == "optimizer" else SLOW))


def _process(policy: Policy = "none") -> Variant:
    return _heard("conditional_neural_process", process_task, policy, {"width": 8, "depth": 1}, SLOW)


MEMORY = {
    "mann": [_mann(), _mann("running", heads=1)],
    "snail": [_snail(), _snail("batch", keys=[4], values=[4])],
    "meta_lstm": [_meta_lstm("update"), _meta_lstm("hyper", "running"), _meta_lstm("optimizer"), _meta_lstm("none")],
    "conditional_neural_process": [_process(), _process("group")],
}
