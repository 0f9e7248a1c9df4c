from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from handful.checkpoint import save_checkpoint
from handful.collection import EncoderIdentity
from handful.encoders.sentences import portable_sentences, sentence_vectors
from handful.errors import CollectionError, DataError, MissingExtraError, StorageError
from handful.ops.heads import Linear, strangeness
from handful.ops.temperature import probabilities
from handful.recognizer import Answer, Recognizer, open_recognizer, teach
from handful.recognizer import export as export_module
from handful.recognizer.portable import INPUTS, Portable, write_graph
from handful.runtime import folder as runtime_folder
from handful.runtime import open_export
from handful.runtime.__main__ import main
from handful.runtime.encoders import encoder_of
from handful.spec import Spec, build
from tiny_models import saved

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("torch", minversion="2.10")

TEXTS = {
    "light": ["turn on the light", "switch the lights off", "lamp off please", "more light", "light in the kitchen"],
    "music": ["play a song", "play music", "stop the song", "louder music please", "next song"],
}
MOLECULES = {
    "acid": ["CC(=O)O", "CCC(=O)O", "CCCC(=O)O", "CC(C)C(=O)O", "OC(=O)c1ccccc1"],
    "amine": ["CN", "CCN", "CCCN", "CC(C)N", "NCc1ccccc1"],
}
STRANGE = ["straße 12 日本", "transfer money to my account", "a light song", "x"]


def vectors(shots: int, *, seed: int = 0, spread: float = 0.8) -> dict[str, list[np.ndarray]]:
    centers = np.random.default_rng(99).normal(size=(4, 6))
    random = np.random.default_rng(seed)
    return {f"c{k}": list(centers[k] + spread * random.normal(size=(shots, 6))) for k in range(4)}


def pictures(folder: Path, count: int, seed: int) -> Path:
    """Bars that lie, stand and lean, of many kinds of files."""
    random = np.random.default_rng(seed)
    for kind in ("lying", "standing", "leaning"):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            picture = random.integers(150, 255, size=(40, 48, 3)).astype(np.uint8)
            start = random.integers(5, 25)
            picture[start : start + 8, 4:36] = random.integers(0, 60, 3)
            if kind == "leaning":
                picture[random.integers(5, 25) :, 10:14] = 0
            image = Image.fromarray(picture if kind == "lying" else np.rot90(picture).copy())
            exif = Image.Exif()
            exif[0x0112] = 1 + number % 8
            if number % 3 == 0:
                image.convert("RGBA").save(folder / kind / f"{number}.png")
            else:
                image.convert("L" if number % 3 == 1 else "RGB").save(folder / kind / f"{number}.jpg", exif=exif)
    return folder


def trained(folder: Path, data: str, encoder: dict[str, Any]) -> str:
    molecules = {"features": "graph", "atoms": 12} if len(encoder["shape"]) == 2 else {"features": "maccs"}
    part = {"name": data} | (molecules if data == "tox21" else {})
    table = {"learner": {"name": "prototypical"}, "data": part, "encoder": encoder}
    spec = Spec.of(table | {"train": {"ways": 5, "steps": 1}})
    save_checkpoint(folder, build(spec), spec, step=0)
    return str(folder)


def alike(one: list[Answer], other: list[Answer]) -> None:
    """To 1e-4, candidate sets and all else exactly."""
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        first, second = a.table(), b.table()
        assert first.pop("probability") == pytest.approx(second.pop("probability"), abs=1e-4)
        near, far = first.pop("nearest"), second.pop("nearest")
        assert [n.pop("distance") for n in near] == pytest.approx([n.pop("distance") for n in far], rel=1e-4, abs=1e-4)
        assert near == far
        assert first == second


CASES: dict[str, tuple[str, dict[str, Any] | None, str, str]] = {
    "pixels": ("omniglot", {"name": "identity", "shape": [1, 12, 12]}, "pictures", "cosine"),
    "conv4": ("mini-imagenet", {"name": "conv4", "shape": [3, 32, 32], "filters": 32}, "pictures", "squared"),
    "gradients": ("", None, "pictures", "ridge"),
    "photos": ("", None, "pictures", "auto"),
    "characters": ("", None, "pictures", "squared"),
    "ngrams": ("", None, "texts", "cosine"),
    "molecules": ("", None, "molecules", "squared"),
    "message_passing": ("tox21", {"name": "message_passing", "shape": [12, 18], "width": 8}, "molecules", "cosine"),
    "maccs": ("tox21", {"name": "mlp", "shape": [167], "hidden": [16]}, "molecules", "squared"),
    "mlp": ("digits", {"name": "mlp", "shape": [6], "hidden": [16]}, "vectors", "ridge"),
    "vectors": ("", None, "vectors", "squared"),
    "best": ("", None, "vectors", "auto"),
}


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recognizer, Path, list[Any]]:
    """A recognizer, its export, and what to ask."""
    folder = tmp_path_factory.mktemp(request.param)
    data, options, kind, head = CASES[request.param]
    named = request.param if request.param in ("gradients", "photos", "characters", "ngrams") else None
    encoder = named if options is None else trained(folder / "trained", data, options)
    things: dict[str, tuple[object, list[Any]]] = {
        "vectors": (vectors(10), [one for group in vectors(10, seed=1).values() for one in group]),
        "molecules": (MOLECULES, ["OC(=O)CCCC", "CCCCN", "c1ccccc1O"]),
        "texts": (TEXTS, STRANGE + TEXTS["light"][:2]),
        "pictures": (folder / "photos", [folder / "new"]),
    }
    if kind == "pictures":
        pictures(folder / "photos", 5, 0)
        pictures(folder / "new", 4, 1)
    taught, asked = things[kind]
    if kind == "molecules":
        pytest.importorskip("rdkit")
        encoder = encoder or "morgan"
        rows = [f"{one},{name}" for name, group in MOLECULES.items() for one in group]
        (folder / "taught.csv").write_text("\n".join(["smiles,label", *rows]))
        taught = folder / "taught.csv"
    made = teach(taught, encoder=encoder, head=head)  # type: ignore[arg-type]
    made.collection.remove([3])
    made.export(folder / "export")
    return made, folder / "export", asked


@pytest.mark.filterwarnings("ignore:.*are unlike every example")
def test_answers_are_the_same(case: tuple[Recognizer, Path, list[Any]]) -> None:
    made, folder, asked = case
    run = open_export(folder)
    sizes = set()
    for epsilon in (None, 0.05, 0.3, 0.5):
        found = run.recognize_many(asked, epsilon=epsilon)
        alike(made.recognize_many(asked, epsilon=epsilon), found)
        sizes |= {len(answer.candidates) for answer in found}
    assert len(sizes) > 1
    assert run.report().calibration == made.report().calibration
    assert run.report().promise == made.report().promise


def test_the_graph_says_label_and_probability_too(case: tuple[Recognizer, Path, list[Any]]) -> None:
    """For programs in other languages."""
    made, folder, _ = case
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    (given,) = session.get_inputs()
    random = np.random.default_rng(0)
    x = random.normal(size=(3, *given.shape[1:])).astype(np.float32)
    x = random.integers(0, 256, x.shape, np.uint8) if given.type == "tensor(uint8)" else x
    x = (x > 0).astype(np.float32) if given.name == "molecules" else x
    features, found = session.run(None, {given.name: x})
    learned = made._current()
    expected = probabilities(strangeness(learned.head, features), learned.calibration.temperature)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert json.loads((folder / "recognizer.json").read_text())["classes"] == list(learned.names)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are texts elsewhere")
def test_a_folder_of_any_bytes(tmp_path: Path) -> None:
    made, folder = teach(vectors(5)), tmp_path / os.fsdecode(b"exp\xe9")
    made.export(folder)
    alike(made.recognize_many(vectors(2, seed=1)["c0"]), open_export(folder).recognize_many(vectors(2, seed=1)["c0"]))


BLOCKED = ("torch", "scipy", "sklearn", "rich", "typer", "pydantic", "matplotlib", "onnx", "onnxscript", "pandas")


@pytest.mark.filterwarnings("ignore:.*are unlike every example")
def test_nothing_but_onnxruntime_is_needed(case: tuple[Recognizer, Path, list[Any]], tmp_path: Path) -> None:
    made, folder, asked = case
    if isinstance(asked[0], np.ndarray):
        np.savez(tmp_path / "new.npz", x=np.stack(asked))
        asked = [tmp_path / "new.npz"]
    code = (
        f"import sys\nfor name in {BLOCKED}: sys.modules[name] = None\n"
        "from handful.runtime.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(folder), *map(str, asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    expected = [json.loads(json.dumps(answer.table())) for answer in made.recognize_many(asked)]
    found = json.loads(done.stdout)
    for one, other in zip(expected, found, strict=True):
        assert other["probability"] == pytest.approx(one.pop("probability"), abs=1e-4)
        assert [n["id"] for n in other["nearest"]] == [n["id"] for n in one.pop("nearest")]
        assert one.items() <= other.items()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    teach(vectors(3), folder / "shop").export(folder / "out")
    return folder / "out"


def test_an_export_is_read_only(exported: Path) -> None:
    run = open_export(exported)
    changes = (
        lambda: run.add("c0", [[1.0] * 6]),
        lambda: run.remove([1]),
        lambda: run.rename("c0", "x"),
        lambda: run.merge(["c0"], "c1"),
        run.undo,
    )
    for change in changes:
        with pytest.raises(CollectionError, match="an export is read only"):
            change()
    assert run.history() == []
    assert run.collection.read(1).version == 1
    with pytest.raises(DataError, match="one version, 1"):
        run.collection.read(2)


def test_what_stands_there_is_not_replaced(exported: Path, tmp_path: Path) -> None:
    made = teach(vectors(3))
    with pytest.raises(StorageError, match="--force"):
        made.export(exported)
    (tmp_path / "thesis.txt").write_text("all there is")
    for force in (False, True):
        with pytest.raises(StorageError, match="holds other things"):
            made.export(tmp_path, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_was_put_beside_an_export_is_not_lost(exported: Path, tmp_path: Path) -> None:
    place = shutil.copytree(exported, tmp_path / "out")
    (place / "NOTES.md").write_text("who uses it")
    with pytest.raises(StorageError, match=r"holds other things \(NOTES\.md\)"):
        teach(vectors(3)).export(place, force=True)
    assert (place / "NOTES.md").read_text() == "who uses it"
    (place / "NOTES.md").unlink()
    teach(vectors(3)).export(place, force=True)
    (place / "recognizer.json").write_bytes(b"damaged")  # whose it is cannot be told any more
    with pytest.raises(StorageError, match="and 1 more"):
        teach(vectors(3)).export(place, force=True)


def test_a_killed_export_leaves_nothing_for_good(tmp_path: Path) -> None:
    (tmp_path / ".out.1.tmp").mkdir()
    (tmp_path / ".out.1.tmp" / "model.onnx").write_bytes(b"half")
    made = teach(vectors(3))
    made.export(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]
    (tmp_path / "out").rename(tmp_path / ".out.old")  # killed between two renames
    assert open_export(tmp_path / "out").recognize([1.0] * 6) == made.recognize([1.0] * 6)
    assert os.listdir(tmp_path) == ["out"]


def test_an_export_that_is_replaced_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is the old one or the new one, whole."""
    made = teach(vectors(3))
    made.export(tmp_path / "out")
    made.rename("c0", "renamed")
    made.export(tmp_path / "new")
    kept = runtime_folder._digest

    def late(path: Path) -> str:
        if (tmp_path / "new").exists():
            (tmp_path / "out").rename(tmp_path / "old")
            (tmp_path / "new").rename(tmp_path / "out")
        return kept(path)

    monkeypatch.setattr(runtime_folder, "_digest", late)
    assert "renamed" in open_export(tmp_path / "out").collection.labels


def test_this_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    teach(vectors(3)).export(".", force=True)
    assert open_export(tmp_path / "out").collection.version == 1


def test_an_export_is_of_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its card too, whatever another process changes while the graph is made."""
    made = teach(vectors(3), tmp_path / "shop")

    def slowly(*arguments: Any) -> None:
        with open_recognizer(tmp_path / "shop") as other:
            other.add("sudden", [[9.0] * 6])
        write_graph(*arguments)

    monkeypatch.setattr(export_module, "write_graph", slowly)
    made.export(tmp_path / "out")
    assert "Version 1 of" in (tmp_path / "out" / "CARD.md").read_text()
    assert "sudden" not in (tmp_path / "out" / "CARD.md").read_text()
    assert made.collection.version == 2


def test_the_files_are_utf8_whatever_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("io.text_encoding", lambda encoding, level=2: encoding or "ascii")
    teach({"straße": vectors(3)["c0"], "日本": vectors(3)["c1"]}).export(tmp_path / "out")
    assert open_export(tmp_path / "out").collection.labels == ("straße", "日本")
    assert "日本" in (tmp_path / "out" / "CARD.md").read_bytes().decode()


@pytest.mark.parametrize("name", ["vectors", "ngrams"])
def test_a_checkpoint_may_be_called_as_a_built_in_encoder(tmp_path: Path, name: str) -> None:
    encoder = trained(tmp_path / name, "omniglot", {"name": "identity", "shape": [1, 12, 12]})
    made = teach(pictures(tmp_path / "photos", 3, 0), encoder=encoder, head="squared")
    run = open_export(made.export(tmp_path / "out"))
    asked = [tmp_path / "photos" / "lying" / "0.png"]
    alike(made.recognize_many(asked), run.recognize_many(asked))
    assert run.collection.encoder.name == f"./{name}"


def test_the_card_knows_what_the_encoder_was_trained_on(case: tuple[Recognizer, Path, list[Any]]) -> None:
    made, folder, _ = case
    assert open_export(folder).card().splitlines()[1:] == made.card().splitlines()[1:]


def test_the_command_reads_what_recognize_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    teach(TEXTS, encoder="ngrams").export(tmp_path / "texts")
    (tmp_path / "new.csv").write_bytes("text\nstraße light\n".encode("cp1252"))
    asked = [str(tmp_path / "texts"), str(tmp_path / "new.csv")]
    assert main(asked) == 1
    assert "is not utf-8" in capsys.readouterr().err
    assert main([*asked, "--encoding", "cp1252"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["source"] == "straße light"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert main([*asked, "--encoding", "cp1252"]) == 0
    monkeypatch.undo()
    photos = pictures(tmp_path / "photos", 3, 0)
    teach(photos, encoder="gradients").export(tmp_path / "pictures")
    (photos / "lying" / "junk.jpg").write_bytes(b"junk")
    asked = [str(tmp_path / "pictures"), str(photos / "lying")]
    assert main(asked) == 1
    assert "--skip-unreadable" in capsys.readouterr().err
    assert main([*asked, "--skip-unreadable"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 3
    assert "left out: " in said.err


def test_damage_is_told(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def spoil(name: str, content: bytes) -> str:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(exported, tmp_path / "copy")
        (tmp_path / "copy" / name).write_bytes(content)
        assert main([str(tmp_path / "copy"), str(tmp_path / "x.npz")]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("error: ")
        return said.err

    document = json.loads((exported / "recognizer.json").read_text())
    assert "not what was exported" in spoil("model.onnx", b"nonsense")
    assert "not what was exported" in spoil("supports.safetensors", b"")
    assert "damaged" in spoil("recognizer.json", b"{")
    assert "damaged" in spoil("recognizer.json", b"[]")
    assert "use a newer Handful" in spoil("recognizer.json", json.dumps(document | {"format": 99}).encode())
    for name in ("files", "encoder", "examples", "calibration", "settings", "preparation", "classes"):
        left = {key: value for key, value in document.items() if key != name}
        assert "does not say what it should" in spoil("recognizer.json", json.dumps(left).encode())
        if name != "preparation":  # vectors need none
            assert "does not say what it should" in spoil("recognizer.json", json.dumps(left | {name: 3}).encode())
    outside = document | {"files": {"../x": ""}}
    assert "not what was exported" in spoil("recognizer.json", json.dumps(outside).encode())
    assert main([str(tmp_path / "absent"), "x"]) == 1
    assert "no export there" in capsys.readouterr().err


def test_what_cannot_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = teach(TEXTS)
    learned, made._embedder = made._current(), Unportable()
    with pytest.raises(DataError, match="encoder 'mine' cannot be exported; expected a checkpoint's encoder"):
        made.export(tmp_path / "out")
    made._learned = learned._replace(head=object())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="squared, cosine and ridge can be exported"):
        made.export(tmp_path / "out")
    monkeypatch.setattr("handful.recognizer.portable.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'handful\[onnx\]'"):
        teach(TEXTS).export(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class Unportable:
    kind, form, identity = "texts", None, EncoderIdentity("mine", "", 2048)

    def embed(self, contents: object) -> Any:
        raise NotImplementedError


def test_missing_packages_are_named(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.runtime.encoders.find_spec", lambda name: None)
    identity = EncoderIdentity("x", "", 2)
    for kind in ("pictures", "texts"):
        with pytest.raises(MissingExtraError, match=r"pip install 'handful\[runtime\]'"):
            encoder_of(tmp_path, {"kind": kind, "built_in": None}, identity, ["x"])
    assert open_export(exported).recognize([1.0] * 6).version == 1  # vectors need no graph


def test_a_torch_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    head = Linear(np.zeros((6, 2)), np.zeros(2), np.zeros(6), unit=False)
    with pytest.raises(MissingExtraError, match=r"export needs torch 2\.10, this is 2\.9\.1\+cpu"):
        write_graph("vectors", Portable(nn.Identity(), (torch.zeros(2, 6),), {}), head, tmp_path / "a.onnx")


def test_a_graph_that_cannot_be_made_or_read_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x  # what is asked decides what is done

    class Forgetful(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand(())

    head = Linear(np.zeros((2, 2), np.float32), np.zeros(2, np.float32), np.zeros(2, np.float32), False)
    for module, words in ((Odd(), "torch cannot make a graph"), (Forgetful(), "other numbers than the encoder")):
        with pytest.raises(DataError, match=words):
            write_graph("vectors", Portable(module, (torch.ones(2, 2),), {}), head, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(CollectionError, match=r"onnxruntime cannot run model\.onnx"):
        encoder_of(tmp_path, {"kind": "vectors", "built_in": None}, EncoderIdentity("x", "", 2), ["vectors"])


def test_sentences(tmp_path: Path) -> None:
    """A sentence encoder's graph, by the recorded tokenizer, gives the vectors that sentence-transformers gives."""
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("tokenizers")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "##e", "##s", "light", "the"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertTokenizerFast(str(tmp_path / "vocab.txt"), model_max_length=24).save_pretrained(tmp_path / "bert")
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)).save_pretrained(tmp_path / "bert")
    portable = Portable(*portable_sentences(str(tmp_path / "bert")))
    head = Linear(np.zeros((16, 2), np.float32), np.zeros(2, np.float32), np.zeros(16, np.float32), False)
    write_graph("texts", portable, head, tmp_path / "model.onnx")
    for name, content in portable.files.items():
        (tmp_path / name).write_bytes(content)
    identity = EncoderIdentity("bert", "", 16)
    graph = encoder_of(tmp_path, {"kind": "texts", "built_in": None, **portable.preparation}, identity, INPUTS["texts"])
    texts = [*STRANGE, *TEXTS["light"], "light a " * 40, "?!"]
    assert portable.preparation["longest"] == 24
    np.testing.assert_allclose(
        graph.embed(texts), sentence_vectors(texts, model=str(tmp_path / "bert")).numpy(), atol=1e-5
    )


@pytest.fixture
def word_model(tmp_path: Path) -> Path:
    pytest.importorskip("sentence_transformers")
    return saved(tmp_path / "bert", "bert")


def exported_texts(portable: Portable, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What an export makes of texts; torch stands for onnxruntime, which takes seconds."""

    class Session:
        def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
            with torch.no_grad():
                return [portable.module(*(torch.from_numpy(value) for value in given.values())).numpy()]

    for name, content in portable.files.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr("handful.runtime.encoders._session", lambda folder: Session())
    identity = EncoderIdentity("bert", "", 16)
    return encoder_of(folder, {"kind": "texts", "built_in": None, **portable.preparation}, identity, INPUTS["texts"])


def test_long_texts_are_cut_where_the_tokenizer_cuts_them(
    word_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = word_model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation_side": "left"}))
    graph = exported_texts(Portable(*portable_sentences(str(word_model))), tmp_path, monkeypatch)
    texts = ["turn on the light " * 4 + "stop music play a song", "a song"]
    np.testing.assert_allclose(graph.embed(texts), sentence_vectors(texts, model=str(word_model)).numpy(), atol=1e-5)


def test_a_model_of_texts_of_any_length(word_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from handful.encoders.sentences import sentence_encoder

    encoder = sentence_encoder(str(word_model))
    for longest in (int(1e30), None):  # as T5's tokenizer says it
        monkeypatch.setattr(type(encoder), "max_seq_length", longest)
        portable = Portable(*portable_sentences(str(word_model)))
        assert portable.preparation["longest"] == 1 << 20
    graph = exported_texts(portable, tmp_path, monkeypatch)
    np.testing.assert_allclose(
        graph.embed(["a song"])[0], sentence_vectors(["a song"], model=str(word_model))[0], atol=1e-5
    )


def test_a_model_of_texts_that_fills_up_on_the_left(
    word_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places are counted from the left: its texts are embedded one by one, and an export fills up on the right."""
    path = word_model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
    graph = exported_texts(Portable(*portable_sentences(str(word_model))), tmp_path, monkeypatch)
    texts = ["a song", "turn on the light and play a song"]
    np.testing.assert_allclose(graph.embed(texts), sentence_vectors(texts, model=str(word_model)).numpy(), atol=1e-5)


def test_a_model_of_texts_that_asks_for_more_than_numbers(tmp_path: Path) -> None:
    model = str(saved(tmp_path / "m", "fnet"))  # no attention mask: a vector depends on what is filled up
    with pytest.raises(DataError, match="cannot be exported, its vectors depend on more"):
        portable_sentences(model)


@pytest.mark.filterwarnings("ignore:.*are unlike every example")
@pytest.mark.parametrize("taught", [None, TEXTS])
def test_classes_known_by_name(tmp_path: Path, taught: object) -> None:
    names = {"light": "light lamp", "music": "music song", "door": "open the door"}
    made = teach(taught, encoder="ngrams", descriptions=names)
    made.export(tmp_path / "out")
    asked = [*STRANGE, "open a door"]
    alike(made.recognize_many(asked), open_export(tmp_path / "out").recognize_many(asked))
    assert "# " in made.card()
