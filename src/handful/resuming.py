"""Whether a training can go on by a spec that is written otherwise."""

from __future__ import annotations

import json
from typing import Any

from .data import DATASETS
from .encoders import ENCODERS, PRETRAINED
from .errors import SpecError
from .learners import LEARNERS
from .parts import completed, entry_of
from .selection import SELECTIONS
from .spec import Spec
from .training import ANY_LENGTH, OPTIMIZERS, SCHEDULES

__all__ = ["refuse_another"]


def refuse_another(kept: Spec, step: int, spec: Spec, place: object) -> None:
    """See that training can go on by this spec.

    It can if specs differ in nothing but defaults that one of them spells out, and in the number of steps if no rate
    depends on it: the weights are then those of a run that had so many from the start.

    Args:
        kept: by which it was begun.
        step: steps done.
        spec: by which to go on.
        place: of the run, for the message.

    Raises:
        SpecError: it cannot; says where they differ.
    """
    found = _differences(_completed(kept), _completed(spec))
    before, steps = kept.train.steps, spec.train.steps
    longer = before is not None and steps is not None and steps >= step
    if longer and spec.train.schedule.name in ANY_LENGTH and found == [f"train.steps is {before}, not {steps}"]:
        return
    if found:
        raise SpecError(
            f"{place}: holds a run of another spec ({', '.join(found)}); go on with that, or choose another folder"
        )


def _differences(kept: Any, given: Any, path: str = "") -> list[str]:
    """Where two specs' tables differ, such as 'train.rate is 0.001, not 0.01'."""
    if isinstance(kept, dict) and isinstance(given, dict):
        names = [*kept, *(name for name in given if name not in kept)]
        return [line for name in names for line in _differences(kept.get(name), given.get(name), f"{path}.{name}")]
    return [] if kept == given else [f"{path[1:]} is {json.dumps(kept)}, not {json.dumps(given)}"]


def _completed(spec: Spec) -> dict[str, Any]:
    """As `Spec.table`, with the default of every option that is left out."""
    table, training = spec.table(), spec.train
    table["learner"] = completed(entry_of("learner", spec.learner, LEARNERS), spec.learner, skip=1)
    table["encoder"] = completed(entry_of("encoder", spec.encoder, {**ENCODERS, **PRETRAINED}), spec.encoder)
    table["data"] = completed(entry_of("data set", spec.data, DATASETS).load, spec.data)
    own = table["train"]
    own["optimizer"] = completed(entry_of("optimizer", training.optimizer, OPTIMIZERS), training.optimizer, skip=2)
    own["schedule"] = completed(entry_of("schedule", training.schedule, SCHEDULES), training.schedule, skip=1)
    if training.selection is not None:
        chosen = entry_of("selection of tasks", training.selection, SELECTIONS)
        own["selection"] = completed(chosen, training.selection, skip=3)
    return table
