import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from handful.data.episodes import Draw, Episodes
from handful.data.pool import ClassPool, rotations
from handful.episode import Episode
from handful.errors import DataError

CLASSES, EACH = 9, 14


def numbered(counts: list[int], **options: object) -> ClassPool:
    """A pool whose example i is the number i."""
    x = torch.arange(float(sum(counts))).unsqueeze(1)
    return ClassPool.grouped(x, counts, [f"class{i}" for i in range(len(counts))], **options)  # type: ignore[arg-type]


POOL = numbered([EACH + i % 3 for i in range(CLASSES)])
CLASS_OF = torch.repeat_interleave(torch.arange(CLASSES), POOL.counts)


@st.composite
def settings(draw: st.DrawFn) -> dict[str, object]:
    def span(most: int) -> st.SearchStrategy[object]:
        pair = st.tuples(st.integers(1, most), st.integers(1, most)).map(lambda p: (min(p), max(p)))
        return st.integers(1, most) | pair

    options: dict[str, object] = {
        "ways": draw(span(CLASSES)),
        "shots": draw(span(5)),
        "batch": draw(st.integers(1, 4)),
        "seed": draw(st.integers(0, 2**40)),
        "ragged": draw(st.booleans()),
        "query_balance": draw(st.sampled_from([None, None, 0.3, 2.0])),
    }
    return options | {"queries": draw(st.integers(1, 5 if options["query_balance"] is None else 4))}


def bounds(value: object) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value  # type: ignore[return-value]


def check(draw: Draw, options: dict[str, object]) -> tuple[int, int]:
    """All that must hold of any draw; its ways and shots."""
    batch, ways = draw.classes.shape
    assert batch == options["batch"]
    assert bounds(options["ways"])[0] <= ways <= bounds(options["ways"])[1]
    shots = draw.support.shape[1] // ways
    assert draw.support.shape[1] == shots * ways, "shots add up to ways times shots, ragged or not"
    assert bounds(options["shots"])[0] <= shots <= bounds(options["shots"])[1]
    for task in range(batch):
        classes = draw.classes[task].tolist()
        assert len(set(classes)) == ways, "the classes of a task differ"
        rows = draw.support[task].tolist() + draw.query[task].tolist()
        assert len(set(rows)) == len(rows), "no example twice: support and query are disjoint"
        for part, y in ((draw.support, draw.support_y), (draw.query, draw.query_y)):
            assert torch.equal(CLASS_OF[part[task]], draw.classes[task][y[task]]), "labels are those of the rows"
        given = torch.bincount(draw.support_y[task], minlength=ways)
        if options["ragged"]:
            assert 1 <= int(given.min()) <= int(given.max()) <= 2 * shots - 1
        else:
            assert given.tolist() == [shots] * ways
        asked = torch.bincount(draw.query_y[task], minlength=ways)
        assert int(asked.sum()) == options["queries"] * ways  # type: ignore[operator]
        if options.get("query_balance") is None:
            assert asked.tolist() == [options["queries"]] * ways
    return ways, shots


@given(settings(), st.integers(0, 10**9))
def test_every_draw_is_a_batch_of_tasks(options: dict[str, object], t: int) -> None:
    episodes = Episodes(POOL, **options)  # type: ignore[arg-type]
    draw = episodes.draw(t)
    ways, _ = check(draw, options)
    episode = episodes[t]
    assert episode.support.ways == ways
    assert torch.equal(episode.support.x[..., 0].long(), draw.support)  # type: ignore[index]
    assert torch.equal(episode.query.x[..., 0].long(), draw.query)  # type: ignore[index]
    assert torch.equal(episode.support.y, draw.support_y)
    assert torch.equal(episode.query.y, draw.query_y)
    assert torch.equal(episode.classes, draw.classes)  # type: ignore[arg-type]


def same(a: Draw, b: Draw) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@given(settings(), st.permutations(range(4)))
def test_a_task_hangs_on_its_number_only(options: dict[str, object], order: list[int]) -> None:
    first = Episodes(POOL, **options)  # type: ignore[arg-type]
    expected = [first.draw(t) for t in range(4)]
    np.random.seed(1)  # noqa: NPY002 - nobody's global numbers matter
    torch.manual_seed(1)
    fresh = Episodes(POOL, **options)  # type: ignore[arg-type]
    for t in order:
        assert same(fresh.draw(t), expected[t])
    for t, episode in enumerate(itertools.islice(fresh, 4)):
        assert torch.equal(episode.query.y, expected[t].query_y)


def test_threads_draw_the_same_tasks() -> None:
    episodes = Episodes(POOL, ways=4, shots=2, queries=3, batch=2, ragged=True)
    expected = [episodes.draw(t) for t in range(50)]
    with ThreadPoolExecutor(4) as threads:
        assert all(map(same, threads.map(episodes.draw, range(50)), expected))


def test_another_process_draws_the_same_tasks() -> None:
    code = (
        "import torch; from handful.data.pool import ClassPool; from handful.data.episodes import Episodes;"
        f"pool = ClassPool.grouped(torch.arange({sum(POOL.counts.tolist())}.).unsqueeze(1), {POOL.counts.tolist()},"
        f" {list(POOL.names)});"
        "draw = Episodes(pool, ways=(2, 6), shots=(1, 4), queries=2, batch=2, seed=7, ragged=True).draw(123);"
        "print([leaf.tolist() for leaf in draw])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    here = Episodes(POOL, ways=(2, 6), shots=(1, 4), queries=2, batch=2, seed=7, ragged=True).draw(123)
    assert result.stdout.strip() == str([leaf.tolist() for leaf in here])


def test_published_tasks_never_change() -> None:
    """A change here is a change of every published number."""
    draw = Episodes(POOL, ways=3, shots=1, queries=1, batch=1, seed=0).draw(0)
    assert [leaf.tolist() for leaf in draw[:5]] == [[[1, 4, 0]], [[73, 28, 8]], [[1, 0, 2]], [[70, 24, 7]], [[1, 0, 2]]]


def test_other_numbers_and_seeds_are_other_tasks() -> None:
    keys = [(seed, t) for seed in range(5) for t in range(20)]
    drawn = {str(Episodes(POOL, ways=5, shots=2, queries=2, seed=seed).draw(t)) for seed, t in keys}
    assert len(drawn) == len(keys)


def draws(count: int, **options: object) -> Iterator[Draw]:
    episodes = Episodes(POOL, batch=100, seed=5, **options)  # type: ignore[arg-type]
    return (episodes.draw(t) for t in range(count))


def uniform(counts: np.ndarray, expected: np.ndarray | None = None) -> bool:
    total = counts.sum() / (1 if expected is None else expected.sum())
    return bool(scipy.stats.chisquare(counts, None if expected is None else expected * total).pvalue > 0.001)


@pytest.mark.parametrize("ragged", [False, True])
def test_classes_labels_and_positions_are_uniform(ragged: bool) -> None:
    some = list(draws(20, ways=5, shots=2, queries=2, ragged=ragged))
    classes = torch.cat([draw.classes for draw in some])  # [2000, 5]
    pairs = torch.bincount((classes * 5 + torch.arange(5)).flatten(), minlength=CLASSES * 5)
    assert uniform(pairs.numpy()), "every class has every label as often"
    for labels in (torch.cat([draw.support_y for draw in some]), torch.cat([draw.query_y for draw in some])):
        places = labels.shape[1]
        table = torch.bincount((labels * places + torch.arange(places)).flatten(), minlength=5 * places)
        assert uniform(table.numpy()), "every label stands at every place as often"
    neighbors = torch.bincount((classes[:, 0] * CLASSES + classes[:, 1]), minlength=CLASSES**2).view(CLASSES, CLASSES)
    assert int(neighbors.diagonal().sum()) == 0
    assert uniform(neighbors[~torch.eye(CLASSES, dtype=torch.bool)].numpy()), "classes are drawn without a pattern"


@pytest.mark.parametrize("ragged", [False, True])
def test_examples_are_uniform_within_their_class(ragged: bool) -> None:
    some = list(draws(20, ways=4, shots=2, queries=3, ragged=ragged))
    each = (1 / POOL.counts.double())[CLASS_OF].numpy()
    for rows in ([draw.support for draw in some], [draw.query for draw in some]):
        seen = torch.bincount(torch.cat(rows).flatten(), minlength=len(CLASS_OF)).numpy()
        by_class = np.bincount(CLASS_OF, seen)
        for label in range(CLASSES):
            mine = CLASS_OF.numpy() == label
            assert uniform(seen[mine], each[mine]), f"class {label}"
        assert uniform(by_class) or ragged


def test_ways_and_shots_are_uniform_over_their_ranges() -> None:
    episodes = Episodes(POOL, ways=(2, 5), shots=(1, 4), queries=1, seed=3)
    seen = np.zeros((4, 4))
    for t in range(1600):
        draw = episodes.draw(t)
        ways = draw.classes.shape[1]
        seen[ways - 2, draw.support.shape[1] // ways - 1] += 1
    assert uniform(seen.flatten())


def test_ragged_shots_reach_their_whole_range() -> None:
    seen: set[int] = set()
    total, count = 0, 0
    for draw in draws(5, ways=4, shots=3, queries=1, ragged=True):
        for y in draw.support_y:
            shots = torch.bincount(y, minlength=4)
            seen.update(shots.tolist())
            total, count = total + int(shots[0]), count + 1
    assert seen == {1, 2, 3, 4, 5}
    assert total / count == pytest.approx(3, abs=0.2), "no label is favored"


def test_families_give_at_most_one_class_to_a_task() -> None:
    turned = rotations(ClassPool.grouped(torch.rand(30, 1, 2, 2), [5] * 6, list("abcdef")))
    drawn = [Episodes(turned, ways=6, queries=2, batch=50, families=True, seed=1).draw(t) for t in range(20)]
    classes = torch.cat([draw.classes for draw in drawn])
    assert torch.equal(turned.families[classes].sort(1).values, torch.arange(6).expand(1000, 6))
    assert uniform(torch.bincount(classes.flatten(), minlength=24).numpy()), "every variant as often"
    mixed = Episodes(turned, ways=6, queries=2, batch=50, seed=1).draw(0).classes
    assert any(len(set(turned.families[task].tolist())) < 6 for task in mixed), "without, variants do meet"


def test_families_of_different_sizes() -> None:
    uneven = numbered([3] * 5, families=[7, 2, 7, 7, 9])
    for draw in (Episodes(uneven, ways=3, queries=1, batch=9, families=True).draw(t) for t in range(9)):
        assert torch.equal(uneven.families[draw.classes].sort(1).values, torch.tensor([2, 7, 9]).expand(9, 3))


def shares(balance: float | None, **options: object) -> np.ndarray:
    """[tasks, ways] the class shares of queries."""
    roomy = numbered([200] * 5)
    episodes = Episodes(roomy, ways=5, queries=20, batch=500, seed=4, query_balance=balance, **options)  # type: ignore[arg-type]
    y = torch.cat([episodes.draw(t).query_y for t in range(4)])
    return np.stack([(y == label).double().mean(1).numpy() for label in range(5)], 1)


@pytest.mark.parametrize("balance", [0.5, 2.0])
def test_query_shares_are_a_dirichlet_distribution(balance: float) -> None:
    found = shares(balance)
    assert np.allclose(found.sum(1), 1)
    assert np.abs(found.mean(0) - 0.2).max() < 0.02
    variance = 0.2 * 0.8 / (5 * balance + 1)
    assert found.var(0) == pytest.approx(np.full(5, variance), rel=0.12), "of Dirichlet(α): m (1 − m) / (N α + 1)"
    exact = scipy.stats.beta(balance, 4 * balance)
    assert np.mean(found[:, 0] < 0.105) == pytest.approx(exact.cdf(0.105), abs=0.03)
    assert np.mean(found[:, 0] < 0.305) == pytest.approx(exact.cdf(0.305), abs=0.03)


def test_a_class_gives_no_more_queries_than_it_has() -> None:
    episodes = Episodes(numbered([12, 14, 30]), ways=3, shots=2, queries=8, batch=200, query_balance=0.1)
    y = torch.cat([episodes.draw(t).query_y for t in range(3)])
    asked = torch.stack([(y == label).sum(1) for label in range(3)], 1)
    assert int(asked.sum(1).min()) == int(asked.sum(1).max()) == 24
    assert int(asked.max()) == 10, "the smallest class has 10 beside its shots, and none gets more"


def test_published_unbalanced_and_noisy_tasks_never_change() -> None:
    odd = Episodes(POOL, ways=3, shots=1, queries=2, seed=0, query_balance=1.0, label_noise=0.7).draw(0)
    expected = [[[1, 4, 0]], [[60, 15, 13]], [[2, 0, 1]], [[8, 4, 11, 5, 12, 9]], [[2, 2, 2, 2, 2, 2]]]
    assert [leaf.tolist() for leaf in odd[:5]] == expected
    assert same(odd, Episodes(POOL, ways=3, shots=1, queries=2, seed=0, query_balance=1.0, label_noise=0.7).draw(0))


@pytest.mark.parametrize(("ragged", "share"), [(False, 0.2), (False, 0.4), (True, 0.3), (False, 1.0)])
def test_a_share_of_support_labels_is_wrong(ragged: bool, share: float) -> None:
    options = {"ways": 5, "shots": 5, "queries": 2, "batch": 200, "seed": 3, "ragged": ragged}
    clean = Episodes(POOL, **options).draw(0)  # type: ignore[arg-type]
    noisy = Episodes(POOL, **options, label_noise=share).draw(0)  # type: ignore[arg-type]
    truth = {int(row): int(label) for row, label in zip(clean.support[0], clean.support_y[0], strict=True)}
    assert set(noisy.support[0].tolist()) == set(truth), "the same examples"
    for before, after in ((clean.classes, noisy.classes), (clean.query, noisy.query), (clean.query_y, noisy.query_y)):
        assert torch.equal(before, after), "the same tasks, judged by the truth"
    right = (CLASS_OF[noisy.support][..., None] == noisy.classes[:, None]).long().argmax(-1)  # [B, S] true labels
    wrong = (right != noisy.support_y).sum(1)
    most = round(share * 25)
    if ragged:
        assert most - 2 <= float(wrong.double().mean()) <= most
    else:
        assert set(wrong.tolist()) == {most}
        table = torch.bincount((5 * right + noisy.support_y).flatten(), minlength=25).view(5, 5)
        assert torch.equal(table.diagonal(), torch.full((5,), 200 * (5 - most // 5)))
        assert uniform(table[~torch.eye(5, dtype=torch.bool)].numpy()), "every wrong class as often"
    assert torch.equal(clean.support_y.sort(1).values, noisy.support_y.sort(1).values), "as many of each class"


def test_one_wrong_label_alone_cannot_be() -> None:
    for shots, share, found in ((1, 0.2, {0, 2}), (3, 0.4, {5, 7})):
        noisy = Episodes(POOL, ways=5, shots=shots, queries=1, batch=1000, label_noise=share).draw(0)
        right = (CLASS_OF[noisy.support][..., None] == noisy.classes[:, None]).long().argmax(-1)
        wrong = (right != noisy.support_y).sum(1)
        assert set(wrong.tolist()) == found
        assert float(wrong.double().mean()) == pytest.approx(5 * shots * share, abs=0.1), "the share, on average"


def test_splits_do_not_leak() -> None:
    pool = numbered([6] * 8, splits={"train": ["class0", "class3", "class5", "class6"], "test": ["class1", "class7"]})
    seen = {}
    for split, ways in (("train", 4), ("test", 2)):
        episodes = Episodes(pool.split(split), ways=ways, shots=2, queries=3, batch=20)
        rows = torch.cat([torch.cat([d.support.flatten(), d.query.flatten()]) for d in map(episodes.draw, range(10))])
        seen[split] = set((rows // 6).tolist())
    assert seen == {"train": {0, 3, 5, 6}, "test": {1, 7}}


def test_pictures_come_as_floats() -> None:
    pool = ClassPool.grouped(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8), [2, 2], ["a", "b"])
    episode: Episode = Episodes(pool, ways=2, queries=1)[0]
    assert episode.support.x.shape == (1, 2, 1, 2, 2)  # type: ignore[union-attr]
    assert torch.equal(episode.support.x, torch.full((1, 2, 1, 2, 2), 51.0) / 255)  # type: ignore[arg-type]


def test_a_class_of_just_enough_examples() -> None:
    draw = Episodes(numbered([4, 4]), ways=2, shots=3, queries=1).draw(0)
    assert sorted(torch.cat([draw.support, draw.query], 1).flatten().tolist()) == list(range(8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": 10}, "10 ways need as many classes, the pool has 9: ask for fewer ways"),
        ({"ways": (2, 12)}, "12 ways need as many classes"),
        ({"ways": 0}, "ways must be a whole number of at least 1.*got 0"),
        ({"ways": (1, 2, 3)}, r"range \(least, greatest\); got \(1, 2, 3\)"),
        ({"ways": 2.0}, r"ways must be a whole number .*got 2\.0"),
        ({"queries": 1.5}, r"queries must be a whole number .*got 1\.5"),
        ({"ways": (3, 2)}, r"ways must be .*range \(least, greatest\); got \(3, 2\)"),
        ({"shots": 0}, "shots must be a whole number of at least 1"),
        ({"queries": 0}, "queries must be a whole number of at least 1, got 0"),
        ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
        ({"shots": 10, "queries": 5}, "class 'class0' has 14 examples .and 2 more classes.; 10 shots . 5 queries need"),
        ({"shots": (1, 12), "queries": 4}, r"12 shots \+ 4 queries need 16: ask for fewer, or leave the class out"),
        ({"seed": 1.5}, r"seed must be a whole number, got 1\.5"),
        ({"seed": None}, "seed must be a whole number, got None"),
        ({"query_balance": 0.0}, "query_balance must be a number above 0, or None; got 0.0"),
        ({"query_balance": 1.0, "shots": 2, "queries": EACH - 2}, "nothing to vary"),
        ({"label_noise": 1.5}, "label_noise must be a share from 0 to 1, got 1.5"),
        ({"shots": 6, "queries": 5, "ragged": True}, r"11 shots \+ 5 queries need 16"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Episodes(POOL, **{"queries": 2, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("whole", [np.int64, np.uint8, torch.tensor])
def test_whole_numbers_of_any_kind(whole: Callable[[int], Any]) -> None:
    expected = Episodes(POOL, ways=3, shots=(1, 2), queries=2, batch=2, seed=7)
    numbers = {"ways": whole(3), "queries": whole(2), "batch": whole(2), "seed": whole(7)}
    episodes = Episodes(POOL, shots=(whole(1), whole(2)), **numbers)
    assert same(episodes.draw(whole(3)), expected.draw(3))
    assert torch.equal(episodes[whole(3)].query.y, expected[3].query.y)


def test_too_few_families_are_refused() -> None:
    with pytest.raises(DataError, match="3 ways need as many families of classes, the pool has 2"):
        Episodes(numbered([3] * 4, families=[0, 0, 1, 1]), ways=3, queries=1, families=True)


def test_there_is_no_task_before_the_first() -> None:
    with pytest.raises(IndexError, match="numbered from 0, got -1"):
        Episodes(POOL, queries=2)[-1]
