import pytest
import torch

from handful.data import ClassPool, DescribedPool, ZeroShotEpisodes, attributes
from handful.errors import DataError, SpecError
from handful.spec import Spec, Tasks, build, load_data


@pytest.fixture
def animals() -> DescribedPool:
    """Examples whose number is their class; two descriptions, the class number and its negative."""
    names = ["cat", "dog", "eel", "fox"]
    examples = torch.arange(4.0).repeat_interleave(5)[:, None]
    pool = ClassPool.grouped(examples, [5] * 4, names, splits={"train": ["cat", "dog", "eel"], "test": ["fox"]})
    descriptions = torch.tensor([[9.0], [9.0], [3.0], [-3.0], [2.0], [-2.0], [1.0], [-1.0], [0.0], [-0.0]])
    return DescribedPool(pool, ClassPool.grouped(descriptions, [2] * 5, ["gnu", "fox", "eel", "dog", "cat"]))


def test_descriptions_follow_the_names_of_the_classes(animals: DescribedPool) -> None:
    assert animals.descriptions.names == animals.examples.names
    assert animals.split("test").descriptions.names == ("fox",)
    assert animals.shape == (1,)
    with pytest.raises(DataError, match=r"class 'cat' \(and 2 more\) has no description"):
        DescribedPool(animals.examples, animals.split("test").descriptions)


def test_digest_sees_examples_and_descriptions(animals: DescribedPool) -> None:
    other = animals.descriptions.examples + 1
    moved = ClassPool.grouped(other, [2] * 5, ["gnu", "fox", "eel", "dog", "cat"])
    assert DescribedPool(animals.examples, moved).digest != animals.digest
    assert DescribedPool(animals.examples, animals.descriptions).digest == animals.digest


@pytest.mark.parametrize("shots", [1, 2])
def test_tasks_pair_examples_with_the_descriptions_of_their_class(animals: DescribedPool, shots: int) -> None:
    episodes = ZeroShotEpisodes(animals, ways=3, shots=shots, queries=4, batch=6, seed=1)
    for t in range(5):
        episode = episodes[t]
        support, query = episode.support, episode.query
        assert support.described
        assert isinstance(support.x, torch.Tensor)
        assert isinstance(query.x, torch.Tensor)
        for a, y, x, qy in zip(support.x[..., 0], support.y, query.x[..., 0], query.y, strict=True):
            number = {int(label): int(value) for label, value in zip(y, a.abs(), strict=True)}
            assert [number[int(label)] for label in qy] == x.int().tolist()
            assert len(set(number.values())) == 3
            assert torch.bincount(y).tolist() == [shots] * 3
            assert torch.bincount(qy).tolist() == [4] * 3
        again = episodes[t]
        assert torch.equal(again.query.x, query.x)  # type: ignore[arg-type]
    assert not torch.equal(episodes[0].query.y, episodes[1].query.y)


def test_ranges_are_drawn_from(animals: DescribedPool) -> None:
    episodes = ZeroShotEpisodes(animals, ways=(2, 4), shots=(1, 2), queries=1)
    seen = {(episodes[t].support.ways, episodes[t].support.y.shape[1]) for t in range(60)}
    assert seen == {(2, 2), (2, 4), (3, 3), (3, 6), (4, 4), (4, 8)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": 5}, "5 ways need as many classes, the pool has 4"),
        ({"ways": 2, "queries": 6}, "class 'cat' has 5 examples, tasks need 6"),
        ({"ways": 2, "shots": 3, "queries": 1}, "class 'cat' has 2 descriptions, tasks need 3"),
        ({"ways": 0}, "ways must be a whole number of at least 1"),
    ],
)
def test_tasks_that_cannot_be_drawn(animals: DescribedPool, options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ZeroShotEpisodes(animals, **options)  # type: ignore[arg-type]


def test_made_up_classes_differ_in_their_attributes() -> None:
    data = attributes(classes=20, number=5, features=7, examples=3)
    assert data.examples.examples.shape == (60, 7)
    rows = data.descriptions.gather(data.descriptions.rows())
    assert len({tuple(row) for row in rows.tolist()}) == 20
    assert ["".join(str(int(bit)) for bit in row) for row in rows] == list(data.examples.names)
    assert [len(data.examples.splits[name]) for name in ("train", "val", "test")] == [12, 4, 4]
    assert data.digest == attributes(classes=20, number=5, features=7, examples=3).digest
    assert data.digest != attributes(classes=20, number=5, features=7, examples=3, seed=1).digest
    with pytest.raises(DataError, match="expected 5 to 8 classes"):
        attributes(classes=9, number=3)


def test_a_spec_trains_on_described_classes() -> None:
    spec = Spec.of(
        {
            "learner": {"name": "clip", "description": [10]},
            "encoder": {"name": "mlp", "shape": [32]},
            "data": {"name": "attributes"},
            "train": {"ways": 5, "queries": 2, "steps": 1},
        }
    )
    data = load_data(spec)
    episode = spec.train.draw_from(data)[0]
    assert float(build(spec).loss(episode).detach()) > 0
    with pytest.raises(SpecError, match="zero-shot tasks have no `ragged`"):
        Tasks(split="train", ways=5, ragged=True).draw_from(data)
    with pytest.raises(SpecError, match="tasks of classes need `ways`"):
        Tasks(split="train").draw_from(data)
