"""How the laws try metric learners."""

from factories import Variant
from reference import prototypical
from torch import Tensor

from handful.encoders.normalization import Policy
from handful.episode import Episode
from handful.learners import PrototypicalNetwork


def _prototypical(policy: Policy) -> Variant:
    def reference(learner: PrototypicalNetwork, episode: Episode) -> tuple[Tensor, None]:
        return prototypical(learner.encoder, episode, together=policy != "batch"), None

    return Variant("prototypical", reference, policy)


METRIC = {"prototypical": [_prototypical(policy) for policy in ("none", "running", "batch", "group", "frozen")]}
