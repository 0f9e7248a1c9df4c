from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from handful import ClassPool
from handful.checkpoint import save_checkpoint
from handful.cli.shipping import ship
from handful.encoders.power import PowerTransform
from handful.encoders.shipped import shipped
from handful.errors import CheckpointError
from handful.reproduce import weights_digest
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
    with pytest.raises(CheckpointError, match="leaves a conv4 or resnet12 alone"):
        ship(checkpoint(tmp_path / "mlp", table), "small", WORDS, tmp_path)


@pytest.mark.parametrize("halves", [False, True])
def test_a_resnet_gets_a_power_transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, halves: bool) -> None:
    """Its mean is that of the training classes, each alike, of their first pictures."""
    options = {"shape": [3, 16, 16], "widths": [4, 4, 4, 4], "normalization": "running"}
    table = {"learner": {"name": "simpleshot", "classes": 2}, "encoder": {"name": "resnet12", **options}}
    table |= {"data": {"name": "mini-imagenet"}, "train": {"ways": 2, "steps": 1}}
    pool = ClassPool.grouped(torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(0)), [5, 2], ["a", "b"])
    monkeypatch.setattr("handful.cli.shipping.load_data", lambda _: SimpleNamespace(split={"train": pool}.__getitem__))
    monkeypatch.setattr("handful.cli.shipping.EACH", 3)
    if halves:
        monkeypatch.setattr("handful.cli.shipping.HALVES", 0)
    place = checkpoint(tmp_path / "run", table)
    about = json.loads(ship(place, "small", WORDS, tmp_path).read_text())
    learner = build(Spec.of(table)).eval()
    assert (about["power"], about["weights"]) == (True, weights_digest(learner))
    monkeypatch.setattr("handful.encoders.shipped.FOLDER", tmp_path)
    monkeypatch.setattr("handful.encoders.shipped.shipped_names", lambda: ("small",))
    monkeypatch.setattr("handful.encoders.shipped.shipped_about", lambda name: about)
    encoder = shipped("small").eval()
    assert isinstance(encoder, PowerTransform)
    with torch.no_grad():
        powers = encoder.powers(pool.examples)
        expected = (powers[:3].mean(0) + powers[5:].mean(0)) / 2
        same = learner.encoder(pool.examples)  # type: ignore[operator]
        assert torch.allclose(encoder.encoder(pool.examples), same, atol=2e-3 if halves else 1e-6)
    assert torch.allclose(encoder.mean, expected, atol=2e-3 if halves else 1e-6)
    assert (load_file(tmp_path / "small.safetensors")["mean"].dtype == torch.float16) == halves
