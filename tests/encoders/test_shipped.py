from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from handful import PrototypicalNetwork
from handful.encoders import PRETRAINED, Conv4
from handful.encoders.shipped import FOLDER, shipped, shipped_about, shipped_names
from handful.errors import ShapeError, StorageError, UnknownNameError
from handful.reproduce import weights_digest
from handful.spec import Spec, build

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", shipped_names())
def test_what_is_shipped(name: str) -> None:
    about = shipped_about(name)
    assert {"summary", "trained_on", "note", "ledger", "spec", "step", "sha256", "weights", "power"} <= set(about)
    assert about["bytes"] <= 5_000_000
    encoder = shipped(name)
    assert encoder(torch.rand(2, *encoder.shape)).shape == (2, encoder.out_features)
    assert PRETRAINED[name]().state_dict().keys() == encoder.state_dict().keys()


def test_small_weights_are_the_ledgers_to_the_bit() -> None:
    assert weights_digest(PrototypicalNetwork(shipped("characters"))) == shipped_about("characters")["weights"]


LEDGER = {"characters": "omniglot-prototypical-5w1s", "photos": "mini-imagenet-resnet-simpleshot-5shot"}


@pytest.mark.parametrize("name", LEDGER)
def test_they_are_those_of_the_ledger(name: str) -> None:
    path = ROOT / "results" / f"{LEDGER[name]}.json"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the ledger yet")
    row = json.loads(path.read_text())
    assert shipped_about(name)["weights"] == row["runs"][0]["weights"]


def test_in_a_spec() -> None:
    table = {"learner": {"name": "prototypical"}, "data": {"name": "omniglot"}, "train": {"ways": 5, "steps": 1}}
    learner = build(Spec.of(table | {"encoder": {"name": "characters", "normalization": "batch"}}))
    trained = shipped("characters").state_dict()
    own = learner.encoder.state_dict()  # type: ignore[union-attr]
    assert own
    assert all(torch.equal(tensor, trained[name]) for name, tensor in own.items())
    assert not any("running" in name for name in own)


def test_what_is_frozen_stays() -> None:
    encoder = shipped("characters", frozen=True).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    x = torch.rand(4, 1, 28, 28)
    assert torch.allclose(encoder(x), shipped("characters").eval()(x), atol=1e-5)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_pictures_of_another_size() -> None:
    assert isinstance(PRETRAINED["characters"](shape=(1, 40, 52)), Conv4)
    assert PRETRAINED["characters"](shape=(1, 40, 52))(torch.rand(1, 1, 40, 52)).shape == (1, 64 * 2 * 3)
    with pytest.raises(ShapeError, match=r"expected pictures of shape \[1, height, width\], got \[3, 28, 28\]"):
        shipped("characters", shape=(3, 28, 28))


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown normalization of 'characters' 'none'\. Valid: batch, episode"):
        shipped("characters", normalization="none")
    with pytest.raises(UnknownNameError, match="did you mean 'characters'"):
        shipped("character")
    for suffix in ("json", "safetensors"):
        (tmp_path / f"characters.{suffix}").write_bytes((FOLDER / f"characters.{suffix}").read_bytes())
    (tmp_path / "characters.safetensors").write_bytes(b"cut")
    monkeypatch.setattr("handful.encoders.shipped.FOLDER", tmp_path)
    with pytest.raises(StorageError, match="changed or cut short; install Handful again"):
        shipped("characters")
