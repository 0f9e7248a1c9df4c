"""Every learner of the catalog, in every way that the laws try it. Every entry of LEARNERS needs at least one."""

from factories import Variant
from variants_generative import GENERATIVE
from variants_gradient import GRADIENT
from variants_metric import METRIC

VARIANTS: dict[str, list[Variant]] = {**METRIC, **GRADIENT, **GENERATIVE}
ALL = [variant for variants in VARIANTS.values() for variant in variants]
