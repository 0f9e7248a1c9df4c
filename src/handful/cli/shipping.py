"""Makes the files of a shipped encoder: python -m handful.cli.shipping CHECKPOINT NAME --summary ... (a maintainer's).

    python -m handful.cli.shipping runs/RUN/last characters --ledger omniglot-prototypical-5w1s \
        --summary "handwritten characters" --trained-on "Omniglot, ..." --note "..."
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..checkpoint import load_checkpoint
from ..data import DATASETS, ClassPool
from ..encoders import ResNet12
from ..encoders.power import PowerTransform
from ..encoders.shipped import ARCHITECTURES, FOLDER
from ..errors import CheckpointError, unknown_name
from ..examples import as_floats
from ..files import write_file
from ..learner import EmbeddingLearner
from ..reproduce import weights_digest
from ..run import commits
from ..spec import load_data

__all__ = ["LARGEST", "ship"]

LARGEST = 5_000_000  # bytes
HALVES = 2_000_000  # bytes: larger weights go as numbers of 16 bits
EACH = 100  # pictures of each training class, of which the mean is taken
BRIGHT_INK = ("omniglot", "digits")


def ship(checkpoint: Path, name: str, words: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write NAME.safetensors and NAME.json; returns the latter's path.

    A ResNet-12 gets a `PowerTransform`, with the mean of its training pictures.

    Args:
        checkpoint: of a learner that leaves its encoder, a Conv4 or a ResNet-12, alone while adapting.
        name: of the encoder.
        words: its `summary`, `trained_on`, `note` and `ledger`, for people.
        folder: where the files go.

    Raises:
        CheckpointError: another learner or encoder, or weights of more than 5 MB.
        UnknownNameError: trained on data that are not in the catalog, so that nobody could train it again.
    """
    found = load_checkpoint(checkpoint)
    learner = found.learner.eval()
    if not isinstance(learner, EmbeddingLearner) or not isinstance(learner.encoder, tuple(ARCHITECTURES.values())):
        raise CheckpointError(
            f"{checkpoint}: expected a learner that leaves a {' or '.join(ARCHITECTURES)} alone, got "
            f"{found.spec.learner}"
        )
    if found.spec.data.name not in DATASETS:
        raise unknown_name("data set", found.spec.data.name, DATASETS)
    encoder: nn.Module = learner.encoder
    power = isinstance(encoder, ResNet12)
    if isinstance(encoder, ResNet12):
        encoder = PowerTransform(encoder)
        encoder.mean.copy_(_mean(encoder, load_data(found.spec).split(found.spec.train.split)))
    content = _packed(encoder, torch.float32)
    content = content if len(content) <= HALVES else _packed(encoder, torch.float16)
    if len(content) > LARGEST:
        raise CheckpointError(f"{checkpoint}: expected at most {LARGEST:,} bytes of weights, got {len(content):,}")
    about = {
        **words,
        "encoder": found.spec.encoder.options,
        "power": power,
        "bright_ink": found.spec.data.name in BRIGHT_INK,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "step": found.step,
        "weights": weights_digest(learner),
        "commits": commits(found),
        "spec": found.spec.table(),
    }
    write_file(folder / f"{name}.safetensors", content)
    path = folder / f"{name}.json"
    write_file(path, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return path


def _packed(encoder: nn.Module, precision: torch.dtype) -> bytes:
    state = encoder.state_dict()
    floats = {key: tensor.to(precision) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    return save({key: tensor.contiguous() for key, tensor in floats.items()})


@torch.no_grad()
def _mean(encoder: PowerTransform, pool: ClassPool) -> Tensor:
    """Of the first pictures of each class, each class alike."""
    means = []
    for start, count in zip(pool.starts.tolist(), pool.counts.tolist(), strict=True):
        x = as_floats(pool.examples[start : start + min(count, EACH)])
        assert isinstance(x, Tensor)
        means.append(encoder.powers(x).mean(0))
    return torch.stack(means).mean(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    for word in ("summary", "trained-on", "note", "ledger"):
        parser.add_argument(f"--{word}", required=True)
    given = vars(parser.parse_args())
    print(ship(given.pop("checkpoint"), given.pop("name"), given))
