"""Made-up classes that are combinations of attributes: zero-shot tasks that need no download and can be solved.

A class is a vector of attributes that are there or not. An example shows them, through one random network for all
classes and with noise. So what an attribute looks like can be learned from some combinations and used on others.
"""

from __future__ import annotations

import numpy as np
import torch

from ..errors import DataError
from ..ops.seeds import generator
from .descriptions import DescribedPool
from .pool import ClassPool

__all__ = ["attributes"]


def attributes(
    *, classes: int = 100, number: int = 10, features: int = 32, examples: int = 30, noise: float = 0.3, seed: int = 0
) -> DescribedPool:
    """Examples [features] and descriptions [number] of zeros and ones. Splits: train 60%, val 20%, test 20% of classes.

    Args:
        classes: different combinations.
        number: attributes.
        features: numbers in an example.
        examples: of each class.
        noise: standard deviation, of features whose spread without it is about 0.6.
        seed: another seed is another data set.

    Raises:
        DataError: more classes than combinations, or a number below 1 (of classes, below 5).
    """
    if not 5 <= classes <= 2**number or min(number, features, examples) < 1:
        raise DataError(
            f"attributes: expected 5 to {2**number} classes (of {number} attributes) and at least one feature and "
            f"example; got {classes} classes, {features} features, {examples} examples"
        )
    random = generator("attributes", seed)
    codes = random.choice(2**number, classes, replace=False)
    a = (codes[:, None] >> np.arange(number)) & 1  # [C, A]
    shown = np.tanh((2 * a - 1) @ random.standard_normal((number, 64)) / number**0.5)
    shown = np.tanh(shown @ random.standard_normal((64, features)) / 64**0.5)  # [C, features]
    x = np.repeat(shown, examples, 0) + noise * random.standard_normal((classes * examples, features))
    names = ["".join(map(str, row)) for row in a]
    train, val = classes * 3 // 5, classes // 5
    splits = {"train": names[:train], "val": names[train : train + val], "test": names[train + val :]}
    kind = torch.get_default_dtype()
    pool = ClassPool.grouped(torch.from_numpy(x).to(kind), [examples] * classes, names, splits=splits)
    return DescribedPool(pool, ClassPool.grouped(torch.from_numpy(a).to(kind), [1] * classes, names))
