"""Tasks of another data set for a learner: its pictures in the form that the encoder was made for."""

from __future__ import annotations

import inspect

from .data import DATASETS
from .data.fitting import fitted
from .data.pool import ClassPool
from .distributed import ALONE, Ranks
from .errors import DataError, unknown_name
from .kinds import loaded
from .spec import Spec, expected_shape

__all__ = ["foreign_data"]


def foreign_data(name: str, spec: Spec, *, split: str = "all", ranks: Ranks = ALONE) -> ClassPool:
    """A split of a data set of pictures, as the spec's encoder reads them: see `handful.data.fitting.fitted`.

    Args:
        name: a data set of the catalog, loaded without options.
        spec: of the learner that is to look at it.
        split: its classes, the only ones to be fitted.
        ranks: processes that want it too; on each machine one prepares the data set for all.

    Raises:
        UnknownNameError: no such data set or split.
        DataError: one that needs options (your own), or one without classes; or as `handful.kinds.loaded`.
        ShapeError: not pictures, or the encoder is not for pictures.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    load = DATASETS[name].load
    needed = [option for option, value in inspect.signature(load).parameters.items() if value.default is value.empty]
    pool = None
    if not needed:
        pool = loaded(name, load, ranks=ranks)
    if not isinstance(pool, ClassPool):
        why = f"needs {', '.join(needed)}, so a spec must name it" if needed else "has no examples grouped by class"
        raise DataError(f"data set {name!r} {why}; expected published pictures, such as 'omniglot' or 'cifar-fs'")
    return fitted(pool.split(split), expected_shape(spec) or pool.shape)
