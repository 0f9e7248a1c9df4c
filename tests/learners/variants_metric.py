"""How the laws try metric learners."""

from typing import Any

import reference_metric as plain
from factories import Reference, Smooth, Variant
from reference import prototypical
from torch import Tensor

from handful.encoders.normalization import Policy
from handful.episode import Episode
from handful.learners import PrototypicalNetwork


class SmoothMaps(Smooth):
    """Features that are maps."""

    out_maps = (8, 2, 2)


OWN_LOSS = "test_loss_is_the_query_loss_after_adapting"
PAIRS = {OWN_LOSS: "trained by pairs of examples"}
KINKS = {
    "test_meta_gradients_match_finite_differences": "|h₁ − h₂| has kinks; test_siamese.py takes a smaller difference"
}
CONTRASTIVE = {"objective": "contrastive", "shots": "max", "margin": 2.0}
SEQUENCE = {
    "test_permuting_supports_changes_nothing": "the paper's LSTM reads the support as a sequence",
    "test_weights_count_examples": "a sequence with an example twice is another sequence",
}


def _prototypical(policy: Policy) -> Variant:
    def reference(learner: PrototypicalNetwork, episode: Episode) -> tuple[Tensor, None]:
        return prototypical(learner.encoder, episode, together=policy != "batch"), None

    return Variant("prototypical", reference, policy)


def _maps(name: str, reference: Reference, policy: Policy = "none", **options: Any) -> Variant:
    exempt = {OWN_LOSS: "relations are trained by squared error"} if options.get("objective") == "mse" else {}
    if options.get("objective") == "cross_entropy":
        exempt |= {"test_every_meta_parameter_gets_a_finite_gradient": "a softmax does not see the last bias"}
    return Variant(name, reference, policy, options, encoder=SmoothMaps, exempt=exempt)


METRIC = {
    "prototypical": [
        *(_prototypical(policy) for policy in ("none", "running", "batch", "group", "frozen")),
        Variant("prototypical", plain.looped(plain.cosine_prototypes), options={"distance": "cosine"}),
    ],
    "siamese": [
        Variant("siamese", plain.siamese, exempt=PAIRS | KINKS),
        Variant("siamese", plain.siamese, options=CONTRASTIVE, exempt=PAIRS),
    ],
    "matching": [
        Variant("matching", plain.looped(plain.matching), options={"scale": 10.0}),
        Variant("matching", plain.looped(plain.matching), options={"context": "full", "scale": 10.0}, exempt=SEQUENCE),
    ],
    "relation": [
        _maps("relation", plain.relation, "running", objective="mse", normalization="running", filters=8),
        _maps("relation", plain.relation, objective="cross_entropy", normalization="none", filters=8),
    ],
    "feat": [Variant("feat", plain.feat, options={"temperature": 4.0, "contrast_temperature": 4.0})],
    "deepemd": [_maps("deepemd", plain.looped(plain.deepemd), regularization=0.2, tolerance=1e-12)],
    "rnnp": [Variant("rnnp", plain.looped(plain.nearest(plain.refined)), options={"refinements": 2})],
    "robust_prototypes": [
        Variant("robust_prototypes", plain.looped(plain.nearest(plain.robust)), options={"center": center})
        for center in ("median", "similarity", "trimmed")
    ],
}
