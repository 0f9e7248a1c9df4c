from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from handful import MAML, ClassPool, Query, Support, query_loss
from handful.encoders import MessagePassing
from handful.episode import Episode
from handful.errors import ShapeError
from handful.kinds import check_kind
from handful.molecules import COLUMNS, NEIGHBORS, molecule_features
from handful.parts import Part

pytest.importorskip("rdkit")
pytestmark = pytest.mark.usefixtures("float64")

SMILES = ["CCO", "OCC", "CC(=O)Oc1ccccc1C(=O)O", "C[N+](=O)[O-]", "C"]


def graphs(smiles: list[str], atoms: int = 16) -> torch.Tensor:
    return torch.from_numpy(molecule_features(smiles, "graph", atoms=atoms)).to(torch.get_default_dtype())


def by_hand(encoder: MessagePassing, x: torch.Tensor) -> torch.Tensor:
    """One molecule, atom by atom."""
    first, atoms = len(COLUMNS), [row.long().tolist() for row in x if row[0] > 0]
    h = [sum(table.weight[atom[c]] for c, table in enumerate(encoder.atoms)) for atom in atoms]  # type: ignore[misc]
    near = [[other - 1 for other in atom[first : first + NEIGHBORS] if other] for atom in atoms]
    for number, atom in enumerate(atoms):
        h[number] = sum((encoder.bonds.weight[kind] for kind in atom[first + NEIGHBORS :] if kind), h[number])
    for update in encoder.updates:
        m = [sum((h[other] for other in near[number]), torch.zeros(())) for number in range(len(atoms))]
        h = [own + update(own + sent) for own, sent in zip(h, m, strict=True)]
    stacked = torch.stack(h)
    return torch.cat([stacked.mean(0), stacked.amax(0)])


def test_as_by_hand() -> None:
    encoder = MessagePassing(shape=(16, 18), width=6, layers=2)
    x = graphs(SMILES)
    z = encoder(x)
    assert torch.allclose(z, torch.stack([by_hand(encoder, one) for one in x]))
    assert torch.allclose(z[0], z[1]), "the order of atoms says nothing"
    assert torch.allclose(z, encoder(graphs(SMILES, atoms=40))), "nor does padding"
    assert encoder(x[:0]).shape == (0, 12)


def test_maml_adapts_it_exactly() -> None:
    encoder = MessagePassing(shape=(16, 18), width=4, layers=1)
    learner = MAML(encoder, outputs=2, inner_rate=0.1)
    x, y = graphs(SMILES[:4]).expand(2, 4, 16, 18), torch.tensor([[0, 1, 0, 1], [1, 0, 0, 1]])
    episode = Episode(Support(x, y, 2), Query(x.flip(1), y.flip(1)))
    query_loss(learner, episode).backward()  # type: ignore[no-untyped-call]
    weight = encoder.updates[0][1].weight  # type: ignore[index]
    exact, step = weight.grad[0, :2].clone(), 1e-6
    for column in range(2):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[0, column] += sign * step
            sides.append(float(query_loss(learner, episode).detach()))
            with torch.no_grad():
                weight[0, column] -= sign * step
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(float(exact[column]), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("options", [{"shape": (4, 17)}, {"shape": (18,)}, {"width": 0}, {"layers": 0}])
def test_what_cannot_be_built(options: dict[str, object]) -> None:
    with pytest.raises(ShapeError, match="MessagePassing"):
        MessagePassing(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x / 255, "atoms and bonds as whole numbers.*bytes are read as pictures"),
        (lambda x: x + 200, r"got 206 in column 0 \(from 0 to 118\)"),
        (lambda x: -x, r"got -6 in column 0"),
        (lambda x: x.index_fill(2, torch.tensor(17), 6), r"got 6 in column 17 \(from 0 to 5\)"),
        (lambda x: x.index_fill(2, torch.tensor(7), 17), r"got 17 in column 7 \(from 0 to 16\)"),
        (torch.zeros_like, "one atom or more"),
    ],
)
def test_what_is_no_molecule(change: Callable[[torch.Tensor], torch.Tensor], said: str) -> None:
    encoder = MessagePassing(shape=(16, 18), width=4, layers=1)
    x, y = graphs(SMILES[:4]), torch.tensor([[0, 1, 0, 1]])
    with pytest.raises(ShapeError, match=said):
        encoder(change(x))
    with pytest.raises(ShapeError, match=said):
        MAML(encoder, outputs=2).adapt(Support(change(x)[None], y, 2))
    part = Part(name="message_passing"), "arrays"
    with pytest.raises(ShapeError, match=said):
        check_kind(ClassPool.from_labels(change(x), y[0]), (16, 18), Part(name="prototypical"), *part)
    check_kind(ClassPool.from_labels(x, y[0]), (16, 18), Part(name="prototypical"), *part)
    with pytest.raises(ShapeError, match="bytes are read as pictures"):
        check_kind(ClassPool.from_labels(x.byte(), y[0]), (16, 18), Part(name="prototypical"), *part)
