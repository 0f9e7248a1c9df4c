from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("sentence_transformers", reason="needs the extra `text`")

from handful.encoders.sentences import sentence_encoder, sentence_vectors
from handful.errors import DataError
from tiny_models import WORDS, model_of, saved

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries beneath
OURS = "sentence_transformers.models"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sentence encoder that takes the first token."""
    made = saved(tmp_path / "m", "bert")
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    parts = [
        {"idx": i, "name": str(i), "path": path, "type": f"{OURS}.{kind}"} for i, (path, kind) in enumerate(modules)
    ]
    (made / "modules.json").write_text(json.dumps(parts))
    (made / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (made / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return made


def with_part(folder: Path, **part: Any) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", **part})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Dense").mkdir()
    about = {"in_features": 16, "out_features": 4, "bias": True, "activation_function": "torch.nn.Tanh"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(about))


def test_it_pools_as_its_folder_says(folder: Path) -> None:
    texts = ["turn on the light", "a song"]
    model = model_of("bert").eval()
    for vector, text in zip(sentence_vectors(texts, model=str(folder)), texts, strict=True):
        numbers = [WORDS.index(word) for word in ["[CLS]", *text.split(), "[SEP]"]]
        expected = model(input_ids=torch.tensor([numbers])).last_hidden_state[0, 0]
        assert torch.allclose(vector, expected / expected.norm(), atol=1e-5)


def broken(folder: Path, what: str) -> None:
    match what:
        case "code of its own":
            with_part(folder, type="evil.Thing")
            (folder / "evil.py").write_text("raise SystemExit('it ran')")
        case "a pickle":
            with_part(folder, type=f"{OURS}.Dense")
            weights = {"linear.weight": torch.zeros(4, 16), "linear.bias": torch.zeros(4)}
            torch.save(weights, folder / "2_Dense" / "pytorch_model.bin")
        case "weights of another":
            save_file({"a": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
        case "cut short":
            (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:900])
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "no pooling":
            (folder / "1_Pooling" / "config.json").unlink()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("code of its own", "evil.Thing is code of its own, which is never run"),
        ("a pickle", "2_Dense/pytorch_model.bin is a pickle, which is never read"),
        ("weights of another", "does not hold 37 of the weights"),
        ("cut short", "cannot be loaded"),
        ("no tokenizer", "no tokenizer"),
        ("no pooling", "cannot be loaded"),
    ],
)
def test_models_that_cannot_be_used(what: str, words: str, folder: Path) -> None:
    broken(folder, what)
    with pytest.raises(DataError, match=words):
        sentence_encoder(str(folder))


def test_models_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be loaded .*a model of texts"):
        sentence_encoder(str(saved(tmp_path / "m", "vit")))


def test_a_tokenizer_without_padding(folder: Path) -> None:
    """As GPT's: another token fills up, and is masked."""
    path = folder / "tokenizer_config.json"
    about = {key: value for key, value in json.loads(path.read_text()).items() if key != "pad_token"}
    path.write_text(json.dumps(about | {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "[SEP]"}))
    texts = ["a song", "turn on the light"]
    together = sentence_vectors(texts, model=str(folder))
    assert sentence_encoder(str(folder)).tokenizer.pad_token == "[SEP]"
    assert torch.allclose(together[0], sentence_vectors(texts[:1], model=str(folder))[0], atol=1e-5)


def test_a_text_longer_than_there_are_places_is_cut(tmp_path: Path) -> None:
    """RoBERTa's kind has fewer than its configuration says, and a tokenizer need not say how many."""
    model = saved(tmp_path / "m", "roberta")
    saved(tmp_path / "words", "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).write_bytes((tmp_path / "words" / name).read_bytes())
    long, longer = sentence_vectors(["song " * 20, "song " * 40], model=str(model))
    assert sentence_encoder(str(model)).max_seq_length == 16
    assert torch.allclose(long, longer, atol=1e-6)


def test_weights_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertModel

    kept, read = BertModel.from_pretrained.__func__, list[Any]()

    def counted(cls: Any, *arguments: Any, **options: Any) -> Any:
        read.append(cls)
        return kept(cls, *arguments, **options)

    monkeypatch.setattr(BertModel, "from_pretrained", classmethod(counted))
    sentence_encoder(str(folder))
    assert len(read) == 1


def test_vectors_do_not_depend_on_the_texts_beside(tmp_path: Path) -> None:
    model = str(saved(tmp_path / "m", "fnet"))  # which has no attention mask
    texts = ["stop", "turn the light on off the song"]
    assert torch.allclose(sentence_vectors(texts, model=model)[0], sentence_vectors(texts[:1], model=model)[0])
