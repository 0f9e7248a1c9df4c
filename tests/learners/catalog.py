"""Every learner of the catalog, in every way that the laws try it. Every entry of LEARNERS needs at least one."""

from factories import Variant
from variants_generative import GENERATIVE
from variants_gradient import GRADIENT
from variants_metric import METRIC
from variants_zero_shot import ZERO_SHOT

VARIANTS: dict[str, list[Variant]] = {**METRIC, **GRADIENT, **GENERATIVE, **ZERO_SHOT}
ALL = [variant for variants in VARIANTS.values() for variant in variants]
