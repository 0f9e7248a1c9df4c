"""Message passing over the bonds of a molecule (Gilmer et al. 2017, arXiv:1704.01212; its sums: Hu et al. 2020).

    h⁰_v = Σ_c E_c[column c of atom v] + Σ_{w ∈ N(v)} B[bond of v and w]        m_v = Σ_{w ∈ N(v)} h_w
    h_v ← h_v + MLP(LN(h_v + m_v))        features: mean and greatest value of h over atoms

Departures from Hu et al. (arXiv:1905.12265): bonds are told to their atoms once, and not with every message; the
residual sum; layer normalization in the place of batch normalization, so that a molecule's features do not depend on
the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from ..errors import ShapeError
from ..molecules import BONDS, COLUMNS, NEIGHBORS
from .normalization import called_plainly

__all__ = ["MessagePassing", "check_graphs"]


@final
class MessagePassing(nn.Module):
    """Molecules as graphs to features; examples are those of `molecule_features(..., "graph")`.

    Args:
        shape: [atoms, 18] of a molecule.
        width: features of an atom; a molecule has twice as many.
        layers: how many bonds far atoms see.

    Raises:
        ShapeError: another shape, or a size below 1; when called, what is no molecule.
    """

    def __init__(self, *, shape: Sequence[int] = (64, 18), width: int = 64, layers: int = 3) -> None:
        super().__init__()
        columns = len(COLUMNS) + 2 * NEIGHBORS
        if len(shape) != 2 or shape[1] != columns or min(shape[0], width, layers) < 1:
            raise ShapeError(
                f"MessagePassing: expected a shape [atoms, {columns}] and sizes of at least 1, got {list(shape)}, "
                f"width {width}, layers {layers}"
            )
        self.shape, self.out_features = tuple(shape), 2 * width
        self.atoms = nn.ModuleList(nn.Embedding(values, width) for values in COLUMNS)
        self.bonds = nn.Embedding(len(BONDS) + 2, width)
        self.updates = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[examples, atoms, 18] whole numbers -> [examples, 2 · width]."""
        if called_plainly() and not torch.compiler.is_compiling():  # nor is a graph made of it
            self.check_examples(x)
            if len(x):  # nothing but padding comes after the last atom of the largest molecule
                x = x[:, : max(1, int((x[..., 0] > 0).sum(1).max()))]
        x = x.long()
        about, neighbor, bond = torch.split(x, [len(COLUMNS), NEIGHBORS, NEIGHBORS], 2)
        there = about[..., :1] > 0  # [examples, atoms, 1]
        h = torch.stack([table(about[..., column]) for column, table in enumerate(self.atoms)]).sum(0)
        h = (h + (self.bonds(bond) * (bond > 0).unsqueeze(-1)).sum(2)) * there  # [examples, atoms, width]
        numbers = torch.arange(1, x.shape[1] + 1, device=x.device)
        adjacency = (neighbor.unsqueeze(-1) == numbers).any(2).to(h.dtype)  # [examples, atoms, atoms]
        for update in self.updates:
            h = h + update(h + adjacency @ h) * there
        mean = h.sum(1) / there.sum(1).clamp_min(1)
        most = h.masked_fill(~there, -torch.inf).amax(1)
        return torch.cat([mean, most], 1)

    def check_examples(self, x: Tensor) -> None:
        """Raises ShapeError unless [examples, atoms, 18] are molecules."""
        check_graphs(x)


def check_graphs(x: Tensor) -> None:
    """Raises ShapeError unless these are molecules [examples, atoms, 18] as of `molecule_features`, none empty."""
    limits = [*COLUMNS, *[x.shape[1] + 1] * NEIGHBORS, *[len(BONDS) + 2] * NEIGHBORS]
    most = torch.tensor(limits, device=x.device)
    wrong = (x < 0) | (x >= most) | (x != x.round() if x.is_floating_point() else False)
    if bool(wrong.any()):
        example, atom, column = wrong.nonzero()[0].tolist()
        raise ShapeError(
            'MessagePassing: expected atoms and bonds as whole numbers, as molecule_features(..., "graph") makes them, '
            f"got {x[example, atom, column].item():g} in column {column} (from 0 to {int(most[column]) - 1}); bytes "
            "are read as pictures, value / 255: give floats"
        )
    if len(x) and not bool((x[..., 0] > 0).any(1).all()):
        raise ShapeError("MessagePassing: expected molecules of one atom or more, got one without any; leave it out")
