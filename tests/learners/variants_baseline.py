"""How the laws try baselines."""

from typing import Any

from factories import CLASSES, Variant
from reference_features import baseline, baseline_plus, by_classes, by_tasks, frozen, nearest, simpleshot
from reference_fine_tuning import fine_tuning

PRETRAINED = {"test_loss_is_the_query_loss_after_adapting": "it is trained by classification of all training classes"}

TUNING = {"steps": 2, "rate": 0.01, "optimizer": {"name": "adam", "eps": 0.1}}
"""With Adam's own eps, 1e-8, a step is no smooth function of small gradients."""


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
        Variant("baseline_plus", by_tasks(baseline_plus), options={"steps": 3, "center": True}),
        pretrained("baseline_plus"),
    ],
    "simpleshot": [Variant("simpleshot", by_tasks(simpleshot)), pretrained("simpleshot")],
    "fine_tuning": [
        Variant("fine_tuning", fine_tuning, options=TUNING),
        Variant("fine_tuning", fine_tuning, options={"adapted": "head", **TUNING}),
        pretrained("fine_tuning", **TUNING),
    ],
    "transductive_fine_tuning": [
        Variant("transductive_fine_tuning", fine_tuning, options=TUNING),
        pretrained("transductive_fine_tuning", adapted="head", **TUNING),
    ],
}
