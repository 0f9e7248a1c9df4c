from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from handful.checkpoint import save_checkpoint
from handful.cli.shipping import ship
from handful.errors import CheckpointError
from handful.spec import Spec, build

WORDS = {"summary": "digits", "trained_on": "digits", "note": "none", "ledger": "none"}


def checkpoint(folder: Path, table: dict[str, Any]) -> Path:
    spec = Spec.of(table)
    save_checkpoint(folder, build(spec), spec, step=3, notes={"commit": "abc"})
    return folder


def test_a_checkpoint_becomes_two_files(tmp_path: Path, digits_table: Callable[..., dict[str, Any]]) -> None:
    table = digits_table()
    conv4 = {"name": "conv4", "shape": [1, 8, 8], "filters": 4, "halvings": 2}
    place = checkpoint(tmp_path / "run", table | {"encoder": conv4})
    about = json.loads(ship(place, "small", WORDS, tmp_path).read_text())
    assert about["encoder"] == {key: value for key, value in conv4.items() if key != "name"}
    assert (about["summary"], about["step"], about["commits"], about["bright_ink"]) == ("digits", 3, ["abc"], True)
    assert load_file(tmp_path / "small.safetensors").keys() == build(Spec.of(about["spec"])).encoder.state_dict().keys()  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match="leaves a conv4 alone"):
        ship(checkpoint(tmp_path / "mlp", table), "small", WORDS, tmp_path)
