"""How the laws try learners whose task has a closed form."""

from factories import Variant
from reference_features import by_tasks, metaoptnet, r2d2

CLOSED_FORM = {
    "r2d2": [Variant("r2d2", by_tasks(r2d2), policy) for policy in ("none", "running")],
    "metaoptnet": [Variant("metaoptnet", by_tasks(metaoptnet), "none", {"box": 0.3})],
}
