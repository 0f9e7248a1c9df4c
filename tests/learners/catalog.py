"""Every learner of the catalog, in every way that the laws try it. Every entry of LEARNERS needs at least one."""

from factories import Variant
from variants_baseline import BASELINE
from variants_closed_form import CLOSED_FORM
from variants_generative import GENERATIVE
from variants_gradient import GRADIENT
from variants_memory import MEMORY
from variants_metric import METRIC
from variants_transductive import TRANSDUCTIVE
from variants_zero_shot import ZERO_SHOT

VARIANTS: dict[str, list[Variant]] = {
    **METRIC,
    **GRADIENT,
    **MEMORY,
    **GENERATIVE,
    **CLOSED_FORM,
    **BASELINE,
    **TRANSDUCTIVE,
    **ZERO_SHOT,
}
ALL = [variant for variants in VARIANTS.values() for variant in variants]
