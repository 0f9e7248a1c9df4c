"""How the laws try zero-shot learners: descriptions are pictures as examples are, and embedded by another network."""

from typing import Any

from factories import Variant
from reference_zero_shot import clip, devise, prototypical
from variants_generative import QUERY_LOSS, Shaped

from handful.encoders.normalization import Policy

OWN_LOSS = {QUERY_LOSS: "its loss is not the cross-entropy of the queries"}


def _devise(policy: Policy) -> Variant:
    return Variant("devise", devise, policy, {"margin": 0.5}, Shaped, exempt=OWN_LOSS)


def _clip(policy: Policy, **options: Any) -> Variant:
    return Variant("clip", clip, policy, {"dimensions": 8, **options}, Shaped, exempt=OWN_LOSS)


ZERO_SHOT = {
    "zero_shot_prototypical": [
        Variant("zero_shot_prototypical", prototypical, policy, {"dimensions": 8}, Shaped)
        for policy in ("none", "running")
    ],
    "devise": [_devise("none")],
    "clip": [_clip("none"), _clip("running", temperature=0.2)],
}
