import pytest
import torch
import torch.nn.functional as F

from handful import MAML, Episode, Query, Support
from handful.encoders import TextCNN
from handful.encoders.text_cnn import REACH
from handful.errors import ShapeError

pytestmark = pytest.mark.usefixtures("float64")


def test_relations_by_hand() -> None:
    encoder = TextCNN(shape=(3, 5), vocabulary=9, width=4, positions=2, filters=6)
    x = torch.tensor([[3, 8, 1, 0, 0], [-1, 0, 1, 0, 0], [-200, 200, 0, 0, 0]])
    distances = [table.weight for table in encoder.distances]
    rows = [
        torch.cat([
            encoder.words.weight[x[0, i]],
            distances[0][x[1, i] + REACH],
            distances[1][x[2, i].clamp(-REACH, REACH) + REACH],
        ])
        for i in range(3)
    ]  # fmt: skip
    z = F.conv1d(torch.stack(rows, 1)[None], encoder.convolution.weight, encoder.convolution.bias, padding=1)
    assert torch.allclose(encoder(x[None]), z.amax(-1).relu())


def test_places_without_a_word_change_nothing() -> None:
    short, long = (TextCNN(shape=(words,), vocabulary=20, filters=6) for words in (4, 9))
    long.load_state_dict(short.state_dict())
    x = torch.randint(1, 20, (3, 4))
    assert torch.allclose(short(x), long(F.pad(x, (0, 5))))
    assert not torch.allclose(short(x), short(x.flip(1))), "the order of words counts"


def test_words_are_whole_numbers_of_the_vocabulary() -> None:
    encoder = TextCNN(shape=(4,), vocabulary=20, filters=6)
    x = torch.randint(20, (3, 4))
    assert torch.equal(encoder(x.double()), encoder(x)), "arrays of numbers become floats in a pool"
    with pytest.raises(ShapeError, match="numbers of words from 0 to 19, got 20 to 20; set vocabulary = 21 or more"):
        encoder(torch.full((3, 4), 20))
    with pytest.raises(ShapeError, match='expected whole numbers of words, got others; for vectors use the encoder "'):
        encoder(torch.rand(3, 4))


@pytest.mark.parametrize("at_once", [None, 1])
def test_words_that_a_learner_adapts_to_are_looked_at_too(at_once: int | None) -> None:
    learner = MAML(TextCNN(shape=(4,), vocabulary=20, filters=6), outputs=2, engine={"tasks_at_once": at_once})  # type: ignore[arg-type]
    x, y = torch.randint(20, (2, 4, 4)), torch.tensor([[0, 1, 0, 1]]).expand(2, 4)
    good, bad = Support(x, y, 2), Support(x + 20, y, 2)
    with pytest.raises(ShapeError, match="numbers of words from 0 to 19"):
        learner.adapt(bad)
    with pytest.raises(ShapeError, match="numbers of words from 0 to 19"):
        learner.predict(learner.adapt(good), bad.x)
    with pytest.raises(ShapeError, match="numbers of words from 0 to 19"):
        learner.loss(Episode(good, Query(bad.x, y)))


@pytest.mark.parametrize("options", [{"shape": (2, 5)}, {"shape": (1, 1, 1)}, {"window": 2}, {"filters": 0}])
def test_what_cannot_be_built(options: dict[str, object]) -> None:
    with pytest.raises(ShapeError, match="TextCNN"):
        TextCNN(**options)  # type: ignore[arg-type]
