"""Molecules for the recognizer: SMILES as examples, fingerprints as vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from ..collection import EncoderIdentity
from .about import About

__all__ = ["FINGERPRINTS", "SMILES", "Fingerprints", "content_digest"]

SMILES = ("smiles", "canonical_smiles", "isomeric_smiles")
"""What a column of molecules may be called."""
FINGERPRINTS = {"morgan": 2048, "maccs": 167}
"""Encoders of molecules that have learned nothing, and their features."""


def content_digest(smiles: str, place: str) -> str:
    """The SHA-256 of a molecule, however its SMILES is written.

    Raises:
        DataError: RDKit cannot read it; names the place.
        MissingExtraError: the extra `molecules` is not installed.
    """
    from ..molecules import canonical_smiles

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
        about = hashlib.sha256(f"{name} 1: bits of length 1".encode()).hexdigest()
        self.identity = EncoderIdentity(name, about, FINGERPRINTS[name])

    def embed(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """Of SMILES."""
        from ..molecules import molecule_features

        bits = molecule_features(contents, self._name).astype(np.float32)
        unit: NDArray[np.float32] = bits / np.maximum(np.linalg.norm(bits, axis=1, keepdims=True), 1)
        return unit
