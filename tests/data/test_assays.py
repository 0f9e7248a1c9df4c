from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sklearn.metrics import roc_auc_score

from handful import MAML, MLP, Identity, PrototypicalNetwork, compare, evaluate, train
from handful.data import AssayEpisodes, AssayPool
from handful.data.assays import AssayProtocol
from handful.data.splitting import split_assays
from handful.errors import DataError, ShapeError, SpecError, UnknownNameError
from handful.learners import R2D2
from handful.ops.intervals import mean_interval
from handful.spec import Tasks

Make = Callable[..., AssayPool]
AUC, DELTA = AssayProtocol("auc", "balanced", "supports"), AssayProtocol("delta_auprc", "stratified", "assays")
VALUES = AssayProtocol("mse", "any", "assays")


@pytest.fixture
def made() -> Make:
    """Five assays on 60 shared examples of 8 bits; assay a is about bit a, mostly. Assay 3 has few ones."""

    def make(protocol: AssayProtocol = AUC) -> AssayPool:
        random = torch.Generator().manual_seed(0)
        x = torch.randint(0, 2, (60, 8), generator=random).to(torch.uint8)
        rows = [torch.randperm(60, generator=random)[:count] for count in (60, 50, 40, 45, 55)]
        y = [x[own, a].long() ^ (torch.rand(len(own), generator=random) < 0.1).long() for a, own in enumerate(rows)]
        y[3] = y[3] * (torch.rand(45, generator=random) < 0.4)
        results = torch.cat(y)
        return AssayPool(
            x,
            torch.cat(rows),
            results + 0.5 if protocol is VALUES else results,
            torch.tensor([len(own) for own in rows]),
            tuple("abcde"),
            {"train": (0, 1, 2), "test": (3, 4)},
            protocol,
        )

    return make


def test_a_pool_and_its_splits(made: Make) -> None:
    pool = made()
    assert (pool.ways, pool.shape, pool.starts.tolist()) == (2, (8,), [0, 60, 110, 150, 195])
    test = pool.split("test")
    assert (test.names, test.counts.tolist()) == (("d", "e"), [45, 55])
    assert torch.equal(test.y, pool.y[150:])
    assert test.examples is pool.examples
    assert pool.split("train+test").names == tuple("abcde") == pool.split("all").names
    assert pool.digest == made().digest != test.digest
    assert repr(pool) == "<AssayPool: 5 assays (train 3, test 2), 250 results of 60 examples [8] of uint8>"
    assert made(VALUES).ways is None
    with pytest.raises(UnknownNameError, match="all, test, train"):
        pool.split("val")
    with pytest.raises(ShapeError, match="do not fit"):
        AssayPool(pool.examples, pool.rows[1:], pool.y, pool.counts, pool.names, {}, AUC)
    with pytest.raises(DataError, match="in two splits"):
        AssayPool(pool.examples, pool.rows, pool.y, pool.counts, pool.names, {"a": (0,), "b": (0,)}, AUC)


def test_splits_by_assay(made: Make) -> None:
    pool = split_assays(made())
    assert {name: len(part) for name, part in pool.splits.items()} == {"train": 3, "val": 1, "test": 1}
    assert split_assays(made()).splits == pool.splits != split_assays(made(), seed=1).splits
    named = split_assays(made(), {"train": ["c", "a"], "test": ["e"]})
    assert (named.split("train").names, named.split("test").names) == (("c", "a"), ("e",))
    assert split_assays(made().split("test")).splits == {}
    with pytest.raises(DataError, match="6 splits need as many"):
        split_assays(made(), dict.fromkeys("uvwxyz", 0.1))


@pytest.mark.parametrize("protocol", [AUC, VALUES])
def test_splits_within_assays(made: Make, protocol: AssayProtocol) -> None:
    whole = made(protocol)
    pool = split_assays(whole, {"train": 0.5, "val": 0.2, "test": 0.2}, within=True)
    parts = {name: pool.split(name) for name in ("train", "val", "test")}
    assert parts["val"].names == tuple(f"{name}/val" for name in "abcde")
    rows = [row for part in parts.values() for row in part.rows.unique().tolist()]
    assert len({*rows}) == len(rows), "an example is in one part of all assays"
    assert sum(len(part.y) for part in parts.values()) < len(whole.y), "shares need not add up to 1"
    assert pool.protocol.interval == "supports", "test assays are these very ones"
    if protocol is AUC:
        ones = [int(part.y.split(part.counts.tolist())[3].sum()) for part in parts.values()]
        total = int(whole.y.split(whole.counts.tolist())[3].sum())
        assert ones == pytest.approx([0.5 * total, 0.2 * total, 0.2 * total], abs=1), "the rare outcome first"
    both = pool.split("train+val")
    assert both.names == tuple("abcde"), "parts of an assay are one where several are asked for"
    assert both.counts.tolist() == (parts["train"].counts + parts["val"].counts).tolist()
    first = {*zip(both.rows.tolist(), both.y.tolist(), strict=True)}
    assert first <= {*zip(whole.rows.tolist(), whole.y.tolist(), strict=True)}


@pytest.mark.parametrize("protocol", [AUC, DELTA, VALUES])
def test_a_task_is_one_assay(made: Make, protocol: AssayProtocol) -> None:
    pool = made(protocol)
    episodes = AssayEpisodes(pool, shots=4, queries=3, batch=10, seed=1)
    draw, episode = episodes.draw(3), episodes[3]
    truth = [dict(zip(own[0].tolist(), own[1].tolist(), strict=True)) for own in zip(
        pool.rows.split(pool.counts.tolist()), pool.y.split(pool.counts.tolist()), strict=True
    )]  # fmt: skip
    assays = episodes.assay_of(draw)
    assert sorted(assays) == sorted([*range(5), *range(5)]), "every assay as often"
    for task, assay in enumerate(assays):
        rows = [*draw.support[task].tolist(), *draw.query[task].tolist()]
        assert len({*rows}) == len(rows), "no molecule is both taught and asked for"
        y = [*draw.support_y[task].flatten().tolist(), *draw.query_y[task].flatten().tolist()]
        assert y == [truth[assay][row] for row in rows]
        assert torch.equal(episode.support.x[task], pool.examples[draw.support[task]].float())
    sizes = {AUC: (8, 6), DELTA: (4, 3), VALUES: (4, 3)}[protocol]
    assert (draw.support.shape[1], draw.query.shape[1]) == sizes
    assert episode.support.ways == (None if protocol is VALUES else 2)
    if protocol is AUC:
        assert (draw.support_y.sum(1) == 4).all()
        assert (draw.query_y.sum(1) == 3).all()
    again = AssayEpisodes(made(protocol), shots=4, queries=3, batch=10, seed=1).draw(3)
    assert all(torch.equal(*pair) for pair in zip(draw, again, strict=True))
    assert not torch.equal(draw.support, episodes.draw(4).support)


def test_all_other_results_are_asked_and_shares_are_kept(made: Make) -> None:
    pool = made(DELTA)
    episodes = AssayEpisodes(pool, shots=10, queries="all", seed=0)
    for t in range(5):
        draw = episodes.draw(t)
        assay = int(episodes.assay_of(draw)[0])
        count = int(pool.counts[assay])
        y = pool.y[pool.starts[assay] : pool.starts[assay] + count]
        assert draw.support.shape[1] + draw.query.shape[1] == count
        assert int(draw.support_y.sum()) == max(1, round(10 * float(y.float().mean())))
        assert 0 < int(draw.query_y.sum()) < draw.query.shape[1]


def test_what_cannot_be_drawn(made: Make) -> None:
    with pytest.raises(DataError, match=r"assay '\w' has .* active molecules; 30 shots and all other"):
        AssayEpisodes(made(), shots=30, queries="all")
    with pytest.raises(DataError, match="expected batch = 1"):
        AssayEpisodes(made(), shots=1, queries="all", batch=2)
    with pytest.raises(DataError, match="both outcomes"):
        AssayEpisodes(made(DELTA), shots=1)
    with pytest.raises(DataError, match="40 results"):
        AssayEpisodes(made(VALUES), shots=40, queries=1)
    with pytest.raises(IndexError):
        AssayEpisodes(made(), shots=1, queries=1)[-1]
    with pytest.raises(SpecError, match="tasks that are assays have no `ways`"):
        Tasks(split="train", ways=2).draw_from(made())


def test_the_area_of_each_task_and_the_interval_over_supports(made: Make) -> None:
    pool = made().split("test")
    episodes = AssayEpisodes(pool, shots=3, queries="all", seed=2)
    learner = PrototypicalNetwork(Identity(shape=[8]))
    found = evaluate(learner, episodes, tasks=20)
    areas: dict[str, list[float]] = {"d": [], "e": []}
    for t in range(20):
        episode = episodes[t]
        logits = learner.predict(learner.adapt(episode.support), episode.query.x)[0]
        area = roc_auc_score(episode.query.y[0], logits[:, 1] - logits[:, 0])
        assert found.values[t] == pytest.approx(area)
        areas[pool.names[int(episodes.assay_of(episodes.draw(t))[0])]].append(area)
    assert (found.metric, found.interval_over) == ("auc", "supports")
    assert found.by_class == pytest.approx({name: sum(own) / len(own) for name, own in areas.items()})
    assert [len(own) for own in areas.values()] == [10, 10]
    assert found.mean.value == pytest.approx(found.values.mean())
    assert found.mean.ci95 < mean_interval(found.values).ci95, "assays differ, but they are all there are"
    rival = evaluate(R2D2(Identity(shape=[8])), episodes, tasks=20)
    assert compare(found, rival).value == pytest.approx((found.values - rival.values).mean())


def test_the_interval_over_assays(made: Make) -> None:
    found = evaluate(R2D2(Identity(shape=[8])), AssayEpisodes(made(DELTA), shots=8, queries="all"), tasks=15)
    assert (found.metric, found.interval_over) == ("delta_auprc", "assays")
    assert found.mean == pytest.approx(mean_interval(list(found.by_class.values())))
    assert 0 < found.mean.value < 0.5


def test_values_are_learned_too(made: Make) -> None:
    found = evaluate(R2D2(Identity(shape=[8])), AssayEpisodes(made(VALUES), shots=30, queries="all"), tasks=10)
    assert (found.metric, found.mean.value < 0.2) == ("mse", True)


def test_an_answer_that_is_not_finite_ranks_worst(made: Make) -> None:
    class Broken(PrototypicalNetwork.__mro__[1]):  # type: ignore[misc, name-defined]
        def adapt_features(self, z, y, ways, weight=None):  # type: ignore[no-untyped-def]
            return None

        def predict_features(self, state, z):  # type: ignore[no-untyped-def]
            return torch.full((*z.shape[:2], 2), torch.nan)

    found = evaluate(Broken(Identity(shape=[8])), AssayEpisodes(made(), shots=2, queries=3), tasks=5)
    assert found.values.max() == 0
    assert found.not_finite == 30


@pytest.mark.parametrize("gradient", [False, True])
def test_training_on_assays_beats_chance(made: Make, gradient: bool) -> None:
    encoder = MLP(shape=[8], hidden=[32])
    learner = MAML(encoder, outputs=2, inner_rate=0.5) if gradient else PrototypicalNetwork(encoder)
    episodes = AssayEpisodes(made().split("train"), shots=5, queries=5, batch=4)
    for _ in train(learner, episodes, torch.optim.Adam(learner.parameters(), 3e-3), steps=60):
        pass
    assert (
        evaluate(learner, AssayEpisodes(made().split("train"), shots=5, queries=5, seed=9), tasks=30).mean.value > 0.7
    )
