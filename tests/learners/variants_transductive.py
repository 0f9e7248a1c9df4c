"""How the laws try learners that look at all queries together."""

from factories import Smooth, Variant
from reference_features import bd_cspn, by_tasks, laplacianshot, pt_map, soft_kmeans, tim
from torch import Tensor


class Positive(Smooth):
    """Features away from zero, where the root of the power transform is steep."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1.2


TRANSDUCTIVE = {
    "soft_kmeans": [Variant("soft_kmeans", by_tasks(soft_kmeans), options={"steps": 2})],
    "tim": [Variant("tim", by_tasks(tim), options={"method": method, "steps": 3}) for method in ("adm", "gd")],
    "laplacianshot": [Variant("laplacianshot", by_tasks(laplacianshot), options={"steps": 3, "neighbors": 2})],
    "pt_map": [
        Variant(
            "pt_map",
            by_tasks(pt_map),
            options={"steps": 2, "regularity": 1.0, "tolerance": 1e-13},
            encoder=Positive,
        ),
    ],
    "bd_cspn": [Variant("bd_cspn", by_tasks(bd_cspn))],
}
