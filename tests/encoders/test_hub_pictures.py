from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from handful import MAML, Episodes, PrototypicalNetwork, train
from handful.checkpoint import load_checkpoint, save_checkpoint
from handful.data import ClassPool
from handful.encoders import HubPictures, TimmPictures
from handful.encoders.hub import digest_of
from handful.errors import DataError, HandfulError, MissingExtraError, ShapeError, SpecError
from handful.ops.engine import Engine
from handful.recognizer.embedders import embedder_for
from handful.spec import Spec, build
from tiny_models import model_of, saved, transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries beneath


@pytest.mark.parametrize("kind", ["vit", "vit-classifier", "dinov2", "siglip", "clip", "convnext"])
def test_features_are_the_models_own(kind: str, tmp_path: Path) -> None:
    encoder = HubPictures(model=str(saved(tmp_path / "m", kind))).eval()
    x = torch.rand(3, 3, 32, 32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    model = model_of(kind).eval()
    model = getattr(model, {"vit-classifier": "vit"}.get(kind, "vision_model"), model)  # of two towers, or a head
    with torch.no_grad():
        output = model(pixel_values=(x - mean) / std)
        expected = output.last_hidden_state[:, 0] if kind.startswith("vit") else output.pooler_output
        found = encoder(x)
    assert encoder.out_features == 16
    assert encoder.shape == (3, 32, 32)
    assert torch.allclose(found, expected, atol=1e-5)


def test_models_prepared_in_a_new_way_are_others(tmp_path: Path) -> None:
    """Vectors of before are not compared with those of now; those of all other models stay what they were."""
    for kind, same in (("vit", True), ("dinov2", True), ("beit", False), ("ijepa", False), ("vitmae", False)):
        folder = saved(tmp_path / kind, kind)
        assert (HubPictures(model=str(folder)).sha256 == digest_of(folder)) is same
        assert embedder_for("pictures", f"hf:{folder}", 0).identity.sha256 == HubPictures(model=str(folder)).sha256


def test_running_estimates_are_those_of_the_file(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", "resnet")
    state = model_of("resnet").state_dict()
    encoder = HubPictures(model=str(folder))
    assert encoder.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.network.state_dict().items())


@pytest.mark.parametrize(("kind", "features"), [("beit", "pooled"), ("ijepa", "mean"), ("vitmae", "first")])
def test_features_that_stand_for_the_whole_picture(kind: str, features: str, tmp_path: Path) -> None:
    if not hasattr(transformers, "IJepaModel"):
        pytest.skip("this version of transformers does not know them all")
    encoder = HubPictures(model=str(saved(tmp_path / "m", kind))).eval()
    x = torch.rand(2, 3, 32, 32)
    assert encoder.features == features, "no pooler of BEiT is a token; I-JEPA has none that is more than a place"
    assert torch.allclose(encoder(x), encoder(x), atol=1e-5), "nothing is masked at random"


def test_half_precision_of_another_size(tmp_path: Path) -> None:
    encoder = HubPictures(model=str(saved(tmp_path / "m", "vit"))).eval()
    x = torch.rand(2, 3, 20, 20)
    expected = encoder(x)
    assert torch.allclose(encoder.bfloat16()(x.bfloat16()).float(), expected, atol=0.1)


def test_other_sizes_and_gray_are_fitted(tmp_path: Path) -> None:
    encoder = HubPictures(model=str(saved(tmp_path / "m", "vit")), features="mean", shape=(1, 20, 20)).eval()
    gray = torch.rand(2, 1, 20, 20)
    assert encoder.shape == (1, 20, 20)
    assert torch.allclose(encoder(gray), encoder(gray.expand(-1, 3, -1, -1)))
    flat = torch.full((1, 3, 50, 70), 0.3)
    assert torch.allclose(encoder(flat), encoder(torch.full((1, 3, 32, 32), 0.3)), atol=1e-5)


def test_what_is_frozen(tmp_path: Path) -> None:
    folder = str(saved(tmp_path / "m", "dinov2"))
    frozen = HubPictures(model=folder, frozen=True).train()
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not frozen.network.training
    half = HubPictures(model=folder, freeze_layers=1).train()
    half(torch.rand(2, 3, 32, 32)).sum().backward()
    moved = {name for name, parameter in half.named_parameters() if parameter.grad is not None}
    assert not [name for name in moved if "embeddings" in name or "layer.0" in name]
    assert [name for name in moved if "layer.1" in name]
    with pytest.raises(SpecError, match="from 0 to 2, its number of layers, got 3"):
        HubPictures(model=folder, freeze_layers=3)


@pytest.fixture
def pool() -> ClassPool:
    """Six classes of pictures, each of its own color."""
    random = torch.Generator().manual_seed(0)
    colors = torch.randint(40, 215, (6, 1, 3, 1, 1), generator=random)
    x = (colors + torch.randint(-40, 40, (6, 8, 3, 16, 16), generator=random)).to(torch.uint8).flatten(0, 1)
    return ClassPool.from_labels(x, [f"c{index // 8}" for index in range(48)])


def test_it_is_trained_in_episodes(tmp_path: Path, pool: ClassPool) -> None:
    learner = PrototypicalNetwork(HubPictures(model=str(saved(tmp_path / "m", "vit")), shape=(3, 16, 16)))
    tasks = Episodes(pool, ways=4, shots=2, queries=2)
    losses = [float(step.loss) for step in train(learner, tasks, torch.optim.Adam(learner.parameters(), 1e-3), steps=8)]
    assert losses[-1] < losses[0]


def test_it_is_adapted_to_tasks(tmp_path: Path, pool: ClassPool) -> None:
    encoder = HubPictures(model=str(saved(tmp_path / "m", "vit")), freeze_layers=1, shape=(3, 16, 16)).eval()
    losses = []
    for at_once in (2, 1):
        torch.manual_seed(0)
        learner = MAML(encoder, outputs=3, inner_rate=0.1, engine=Engine(tasks_at_once=at_once))
        losses.append(float(learner.loss(Episodes(pool, ways=3, shots=1, queries=1, batch=2)[0])))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_in_a_spec_and_a_checkpoint(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", "dinov2")
    table = {
        "learner": {"name": "prototypical"},
        "encoder": {"name": f"hf:{folder}", "freeze_layers": 1, "shape": [3, 16, 16]},
        "data": {"name": "digits"},
        "train": {"ways": 3, "steps": 1},
    }
    spec = Spec.of(table)
    assert spec.encoder.name == "hf"
    assert spec.encoder.options["model"] == str(folder)
    assert Spec.of(spec.table()) == spec
    learner = build(spec)
    with torch.no_grad():
        learner.encoder.network.layernorm.bias.add_(1)  # type: ignore[union-attr,operator]
    save_checkpoint(tmp_path / "c", learner, spec, step=1)
    found = load_checkpoint(tmp_path / "c").learner
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in learner.state_dict().items())


def broken(folder: Path, what: str) -> Path:
    config = json.loads((folder / "config.json").read_text())
    match what:
        case "pickled":
            (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        case "no weights":
            (folder / "model.safetensors").unlink()
        case "cut short":
            (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:900])
        case "weights of another":
            save_file({"a": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
        case "code of its own":
            code = {"auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}, "model_type": "evil"}
            (folder / "config.json").write_text(json.dumps(config | code))
            (folder / "evil.py").write_text("raise SystemExit('it ran')")
        case "no preprocessing":
            (folder / "preprocessor_config.json").unlink()
        case "no fixed size":
            (folder / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 32}}')
        case "no JSON":
            (folder / "preprocessor_config.json").write_text("{")
    return folder


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("pickled", "pytorch_model.bin, pickles, .* never read; expected model.safetensors"),
        ("no weights", "no weights in .*; expected model.safetensors"),
        ("cut short", "cannot be loaded"),
        ("weights of another", "does not hold"),
        ("code of its own", "cannot be loaded"),
        ("no preprocessing", "no preprocessor_config.json"),
        ("no fixed size", "no fixed size"),
        ("no JSON", "cannot be read"),
    ],
)
def test_models_that_cannot_be_used(what: str, words: str, tmp_path: Path) -> None:
    folder = broken(saved(tmp_path / "m", "vit"), what)
    with pytest.raises(DataError, match=words):
        HubPictures(model=str(folder))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("blip", "a blip, whose tower for pictures transformers does not load by itself; expected a model of pictures"),
        ("naflex", "a siglip2_vision_model, which gives no features of pictures of one size alone .*; expected a"),
        ("vilt", "a vilt, which gives no features of pictures of one size alone .*; expected a model of pictures"),
    ],
)
def test_models_of_pictures_and_texts(kind: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        HubPictures(model=str(saved(tmp_path / "m", kind)))


def test_options_that_cannot_be(tmp_path: Path) -> None:
    folder = str(saved(tmp_path / "m", "vit-classifier"))
    with pytest.raises(DataError, match='no pooler; expected features = "first" or "mean"'):
        HubPictures(model=folder, features="pooled")
    with pytest.raises(ShapeError, match="1 or 3, height, width"):
        HubPictures(model=folder, shape=(2, 8, 8))


# timm


class TinyTimm(nn.Module):
    """As timm's models: features before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features, self.stem = 6, nn.Conv2d(3, 6, 8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stem(x).mean((-2, -1))


def timm_folder(folder: Path, **about: Any) -> Path:
    folder.mkdir()
    state = TinyTimm().state_dict() | {"fc.weight": torch.zeros(2, 6)}
    save_file(state, folder / "model.safetensors")
    config = {"input_size": [3, 16, 16], "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}
    table = {"architecture": "tiny", "num_classes": 2, "pretrained_cfg": {**config, **about}}
    (folder / "config.json").write_text(json.dumps(table))
    return folder


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of timm, by a stand-in: the library itself may be missing, or not fit this torch."""

    def create_model(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
        assert (name, pretrained, num_classes) == ("tiny", False, 0)
        return TinyTimm()

    module = ModuleType("timm")
    module.create_model = create_model  # type: ignore[attr-defined]
    module.__spec__ = SimpleNamespace(name="timm")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "timm", module)


@pytest.mark.usefixtures("timm")
def test_timm(tmp_path: Path) -> None:
    encoder = TimmPictures(model=str(timm_folder(tmp_path / "t")), frozen=True)
    x = torch.rand(2, 3, 16, 16)
    assert (encoder.shape, encoder.out_features) == ((3, 16, 16), 6)
    assert torch.allclose(encoder(x), encoder.network((x - 0.5) / 0.25))
    assert encoder.form.resize == 18  # of the shorter side: 16 / 0.875
    with pytest.raises(DataError, match="crop mode 'border'"):
        TimmPictures(model=str(timm_folder(tmp_path / "u", crop_mode="border")))


def test_timm_itself(tmp_path: Path) -> None:
    try:
        import timm
    except Exception as error:  # not there, or it does not fit this torch
        pytest.skip(f"timm cannot be used here: {error}")
    folder = tmp_path / "t"
    folder.mkdir()
    model = timm.create_model("resnet10t", pretrained=False)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({"architecture": "resnet10t", "pretrained_cfg": model.pretrained_cfg}, default=str)
    )
    assert TimmPictures(model=str(folder)).eval()(torch.rand(1, 3, 64, 64)).shape == (1, 512)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.encoders.hub.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs timm"):
        TimmPictures(model="resnet18")
    with pytest.raises(HandfulError, match=r"pip install 'handful\[pretrained\]'"):
        HubPictures(model="facebook/dinov2-small")
