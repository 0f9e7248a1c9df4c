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

from safetensors.torch import save

from ..checkpoint import load_checkpoint
from ..data import DATASETS
from ..encoders import Conv4
from ..encoders.shipped import FOLDER
from ..errors import CheckpointError, unknown_name
from ..files import write_file
from ..learner import EmbeddingLearner
from ..run import commits

__all__ = ["LARGEST", "ship"]

LARGEST = 2_000_000  # bytes
BRIGHT_INK = ("omniglot", "digits")


def ship(checkpoint: Path, name: str, words: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write NAME.safetensors and NAME.json; returns the latter's path.

    Args:
        checkpoint: of a learner that leaves its encoder, a Conv4, alone while adapting.
        name: of the encoder.
        words: its `summary`, `trained_on`, `note` and `ledger`, for people.
        folder: where the files go.

    Raises:
        CheckpointError: another learner or encoder, or weights of more than 2 MB.
        UnknownNameError: trained on data that are not in the catalog, so that nobody could train it again.
    """
    found = load_checkpoint(checkpoint)
    if not isinstance(found.learner, EmbeddingLearner) or not isinstance(found.learner.encoder, Conv4):
        raise CheckpointError(f"{checkpoint}: expected a learner that leaves a conv4 alone, got {found.spec.learner}")
    if found.spec.data.name not in DATASETS:
        raise unknown_name("data set", found.spec.data.name, DATASETS)
    state = found.learner.encoder.state_dict()
    content = save({key: tensor.float().contiguous() for key, tensor in state.items()})
    if len(content) > LARGEST:
        raise CheckpointError(f"{checkpoint}: expected at most {LARGEST:,} bytes of weights, got {len(content):,}")
    about = {
        **words,
        "encoder": found.spec.encoder.options,
        "bright_ink": found.spec.data.name in BRIGHT_INK,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "step": found.step,
        "commits": commits(found),
        "spec": found.spec.table(),
    }
    write_file(folder / f"{name}.safetensors", content)
    path = folder / f"{name}.json"
    write_file(path, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    for word in ("summary", "trained-on", "note", "ledger"):
        parser.add_argument(f"--{word}", required=True)
    given = vars(parser.parse_args())
    print(ship(given.pop("checkpoint"), given.pop("name"), given))
