from __future__ import annotations

from pathlib import Path

import pytest
import torch

from handful import Episodes, PrototypicalNetwork, evaluate, train
from handful.data.texts import text_pool
from handful.encoders import HubTexts
from handful.encoders.hub_texts import token_numbers
from handful.errors import DataError, ShapeError, SpecError
from handful.spec import Spec
from tiny_models import WORDS, model_of, saved

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries beneath

TEXTS = ["turn on the light", "light off", "turn the light off", "play a song", "music play", "stop the song the song"]
LABELS = ["light"] * 3 + ["music"] * 3


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(saved(tmp_path / "bert", "bert"))


def test_tokens(folder: str) -> None:
    numbers = token_numbers(["turn on", "song", "turn on the light off"], 5, folder)
    cls, sep = 1 + WORDS.index("[CLS]"), 1 + WORDS.index("[SEP]")
    assert numbers.dtype == torch.int32
    assert numbers[:2].tolist() == [[cls, 6, 7, sep, 0], [cls, 1 + WORDS.index("song"), sep, 0, 0]]
    assert numbers[2].tolist() == [cls, 6, 7, 8, sep], "what is too long ends as a text does"
    with pytest.raises(ShapeError, match="1 to 4096 tokens"):
        token_numbers(["a"], 0, folder)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_features_by_hand(folder: str, pooling: str) -> None:
    encoder = HubTexts(model=folder, pooling=pooling, shape=(10,)).eval()  # type: ignore[arg-type]
    model = model_of("bert").eval()
    found = encoder(encoder.tokens(TEXTS))
    for z, text in zip(found, TEXTS, strict=True):
        numbers = [WORDS.index(word) for word in ["[CLS]", *text.split(), "[SEP]"]]
        states = model(input_ids=torch.tensor([numbers])).last_hidden_state[0]
        assert torch.allclose(z, states.mean(0) if pooling == "mean" else states[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "fnet"])  # FNet mixes all places, empty ones too: it has no attention mask
def test_features_do_not_depend_on_the_texts_beside(kind: str, tmp_path: Path) -> None:
    encoder = HubTexts(model=str(saved(tmp_path / "m", kind)), shape=(12,)).eval()
    x = encoder.tokens(TEXTS)
    alone = torch.cat([encoder(row.unsqueeze(0)) for row in x])
    assert torch.allclose(encoder(x), alone, atol=1e-5)
    assert encoder.cuts == (kind == "bert"), "where it changes nothing, no work is done on empty places"


def test_it_is_fine_tuned_end_to_end(folder: str) -> None:
    pool = text_pool(TEXTS * 3, LABELS * 3, what="mine", reading="tokens", model=folder, length=8)
    assert pool.shape == (8,)
    tasks = Episodes(pool, ways=2, shots=2, queries=3)
    learner = PrototypicalNetwork(HubTexts(model=folder, shape=(8,)))
    before = learner.encoder.network.embeddings.word_embeddings.weight.clone()  # type: ignore[union-attr,operator]
    losses = [float(s.loss) for s in train(learner, tasks, torch.optim.Adam(learner.parameters(), 3e-3), steps=20)]
    assert losses[-1] < losses[0] / 2
    assert not torch.equal(before, learner.encoder.network.embeddings.word_embeddings.weight)  # type: ignore[union-attr]
    assert evaluate(learner, tasks, tasks=20).mean.value > 0.9


def test_places_that_begin_behind_the_padding(tmp_path: Path) -> None:
    folder = str(saved(tmp_path / "m", "roberta"))  # 18 places, of which the first two are no word's
    assert HubTexts(model=folder, shape=(16,)).eval()(torch.full((1, 16), 8)).shape == (1, 16)
    with pytest.raises(ShapeError, match="1 to 16, got"):
        HubTexts(model=folder, shape=(17,))


def test_layers_that_stay(folder: str) -> None:
    encoder = HubTexts(model=folder, freeze_layers=1, shape=(8,))
    encoder(encoder.tokens(TEXTS)).sum().backward()
    moved = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert moved
    assert all("layer.1" in name for name in moved)
    frozen = HubTexts(model=folder, frozen=True, shape=(8,)).train()
    assert not frozen(frozen.tokens(TEXTS)).requires_grad
    assert not frozen.network.training


def test_in_a_spec(folder: str) -> None:
    table = {
        "learner": {"name": "prototypical"},
        "encoder": {"name": f"hf_text:{folder}", "freeze_layers": 1, "shape": [32]},
        "data": {"name": "clinc150", "reading": "tokens", "model": folder, "length": 32},
        "train": {"ways": 5, "steps": 1},
    }
    assert Spec.of(table).encoder.options["model"] == folder
    for wrong in ({"reading": "words"}, {"model": "minilm"}):
        with pytest.raises(SpecError, match="reads the tokens of its own model: set reading"):
            Spec.of(table | {"data": table["data"] | wrong})  # type: ignore[operator]


def test_what_cannot_be(folder: str, tmp_path: Path) -> None:
    encoder = HubTexts(model=folder, shape=(8,))
    with pytest.raises(ShapeError, match='knows 15 tokens, got number 99; expected texts read with reading = "tokens"'):
        encoder(torch.tensor([[3, 99]]))
    with pytest.raises(ShapeError, match="1 to 16"):
        HubTexts(model=folder, shape=(17,))
    with pytest.raises(DataError, match="expected an encoder of texts"):
        HubTexts(model=str(saved(tmp_path / "vit", "vit")))
    with pytest.raises(DataError, match=r"a vilt, which cannot be called with tokens alone .*expected an encoder of"):
        HubTexts(model=str(saved(tmp_path / "vilt", "vilt")), shape=(8,))
    for kind in ("t5", "t5-encoder"):
        with pytest.raises(DataError, match=r"a t5, an encoder with a decoder .*; expected an encoder of texts"):
            HubTexts(model=str(saved(tmp_path / kind, kind)))
    (Path(folder) / "tokenizer.json").unlink()
    (Path(folder) / "tokenizer_config.json").unlink()
    with pytest.raises(DataError, match="no tokenizer"):
        token_numbers(["a"], 4, folder)
