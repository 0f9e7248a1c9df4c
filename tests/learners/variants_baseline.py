"""How the laws try baselines."""

from typing import Any

from factories import CLASSES, Variant
from reference_features import baseline, baseline_plus, by_classes, by_tasks, frozen, nearest, simpleshot

PRETRAINED = {"test_loss_is_the_query_loss_after_adapting": "it is trained by classification of all training classes"}


def pretrained(name: str, **options: Any) -> Variant:
    """A learner that is trained by classification."""
    return Variant(name, by_classes, "none", {"classes": CLASSES, **options}, exempt=PRETRAINED)


BASELINE = {
    "nearest": [Variant("nearest", by_tasks(nearest)), Variant("nearest", by_tasks(nearest), options={"k": 3})],
    "frozen": [
        Variant("frozen", by_tasks(frozen)),
        Variant("frozen", by_tasks(frozen), options={"head": "logistic"}),
        pretrained("frozen"),
    ],
    "baseline": [Variant("baseline", by_tasks(baseline), options={"steps": 5}), pretrained("baseline")],
    "baseline_plus": [
        Variant("baseline_plus", by_tasks(baseline_plus), options={"steps": 5}),
        pretrained("baseline_plus"),
    ],
    "simpleshot": [Variant("simpleshot", by_tasks(simpleshot)), pretrained("simpleshot")],
}
