"""Molecules for the recognizer: SMILES as examples, fingerprints as vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, final

import numpy as np
from numpy.typing import NDArray

from ..collection import EncoderIdentity
from ..molecules import Features, canonical_smiles, molecule_features
from .about import About, about

if TYPE_CHECKING:
    from .portable import Portable

__all__ = ["FINGERPRINTS", "SETS", "Fingerprints", "TrainedMolecules", "content_digest"]

FINGERPRINTS = {"morgan": 2048, "maccs": 167}
"""Encoders of molecules that have learned nothing, and their features."""
SETS = ("tox21", "sider", "fsmol", "molecules")
"""Data sets of molecules: what is trained on them takes molecules."""
SAMPLES = ("CC(=O)Oc1ccccc1C(=O)O", "CCO", "[Na+].[Cl-]")
"""That graphs of encoders are made and checked with."""


def content_digest(smiles: str, place: str) -> str:
    """The SHA-256 of a molecule, however its SMILES is written.

    Raises:
        DataError: RDKit cannot read it; names the place.
        MissingExtraError: the extra `molecules` is not installed.
    """
    return hashlib.sha256(canonical_smiles([smiles], [place])[0].encode()).hexdigest()


@final
class Fingerprints:
    """Molecules by the substructures in them, of length 1 together; it has learned nothing.

    Args:
        name: "morgan" (substructures up to two bonds around an atom, hashed: ECFP4) or "maccs" (166 that chemists
            chose).
    """

    kind = "molecules"
    form = None
    about = About("nothing: it looks for substructures", "MIT, as Handful; RDKit is BSD")

    def __init__(self, name: Literal["morgan", "maccs"]) -> None:
        self._name = name
        digest = hashlib.sha256(f"{name} 1: bits of length 1".encode()).hexdigest()
        self.identity = EncoderIdentity(name, digest, FINGERPRINTS[name])

    def embed(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """Of SMILES."""
        bits = molecule_features(contents, self._name).astype(np.float32)
        unit: NDArray[np.float32] = bits / np.maximum(np.linalg.norm(bits, axis=1, keepdims=True), 1)
        return unit


class Trained(Protocol):
    """An encoder of a checkpoint, or of an export, that takes the features of molecules."""

    def embed(self, contents: Sequence[NDArray[Any]]) -> NDArray[np.float32]: ...


@final
class TrainedMolecules:
    """Molecules by an encoder that was trained on the features of others.

    Args:
        trained: it.
        features, atoms: what it takes, as `molecule_features`.
        identity: of both together.
    """

    kind = "molecules"
    form = None

    def __init__(self, trained: Trained, features: Features, atoms: int, identity: EncoderIdentity) -> None:
        self._trained, self._features, self._atoms = trained, features, atoms
        self.identity, self.about = identity, about(trained)
        self.exported = getattr(trained, "exported", False)

    def embed(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """Of SMILES."""
        return self._trained.embed(list(self._found(contents)))

    def portable(self) -> Portable:
        """For an export, which makes features of molecules by RDKit, as here."""
        import torch

        made: Portable = self._trained.portable()  # type: ignore[attr-defined]  # of a checkpoint
        about = {"features": self._features, "atoms": self._atoms}
        return made._replace(samples=(torch.from_numpy(self._found(SAMPLES)),), preparation=about)

    def _found(self, contents: Sequence[str]) -> NDArray[np.float32]:
        return molecule_features(contents, self._features, atoms=self._atoms).astype(np.float32)
