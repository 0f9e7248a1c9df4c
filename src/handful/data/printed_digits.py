"""Handwritten digits whose classes are described by print: a zero-shot data set that needs no download.

The examples are those of `digits`; the description of a class is one printed digit, five dots wide and seven high, turned
and mirrored as the class is. Of a test class training has seen neither the hand nor the print.
"""

from __future__ import annotations

import torch

from . import pool as _pool
from .descriptions import DescribedPool
from .digits import digits
from .pool import ClassPool

__all__ = ["printed_digits"]

ROWS = """
.###. ..#.. .###. ##### ...#. ##### ..##. ##### .###. .###.
#...# .##.. #...# ...#. ..##. #.... .#... ....# #...# #...#
#..## ..#.. ....# ..#.. .#.#. ####. #.... ...#. #...# #...#
#.#.# ..#.. ...#. ...#. #..#. ....# ####. ..#.. .###. .####
##..# ..#.. ..#.. ....# ##### ....# #...# .#... #...# ....#
#...# ..#.. .#... #...# ...#. #...# #...# .#... #...# ...#.
.###. .###. ##### .###. ...#. .###. .###. .#... .###. .##..
"""


def printed_digits(*, symmetries: bool = True) -> DescribedPool:
    """The digits as `digits` has them, and a printed one of each class: both [1, 8, 8] uint8.

    Args:
        symmetries: eight classes a digit, as `digits`.
    """
    dots = [[[dot == "#" for dot in part] for part in row.split()] for row in ROWS.strip().splitlines()]
    print_ = torch.zeros(10, 1, 8, 8, dtype=torch.uint8)
    print_[:, 0, :7, 1:6] = 255 * torch.tensor(dots).transpose(0, 1)  # [7, 10, 5] -> [10, 7, 5]
    described = ClassPool.grouped(print_, [1] * 10, [str(digit) for digit in range(10)])
    examples = digits(symmetries=symmetries)
    return DescribedPool(examples, _pool.symmetries(described) if symmetries else described)
