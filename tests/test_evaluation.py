from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from handful.data.episodes import Episodes
from handful.data.functions import FunctionEpisodes, Sinusoid
from handful.data.pool import ClassPool
from handful.encoders import MLP
from handful.episode import Episode, EpisodeSource
from handful.errors import DataError, ShapeError
from handful.evaluation import Evaluation, compare, evaluate
from handful.learner import Learner
from handful.learners import MAML, PrototypicalNetwork
from handful.learners.metric.prototypical import Prototypes
from handful.scoring import scores
from handful.training import train


class Counting(nn.Module):
    """An encoder that counts the examples it is given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.examples = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.examples += len(x)
        z: Tensor = self.inner(x)
        return z


class Plain:
    """The same tasks, but nothing that says how they were drawn: the plain path."""

    def __init__(self, episodes: EpisodeSource) -> None:
        self.episodes = episodes

    def __getitem__(self, t: int) -> Episode:
        return self.episodes[t]


def encoder_of(normalization: str = "running") -> Counting:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Counting(MLP(shape=[4], hidden=[16, 8], normalization=normalization))  # type: ignore[arg-type]


def episodes_of(pool: ClassPool, *, batch: int = 4, seed: int = 0, **options: float) -> Episodes:
    return Episodes(pool.split("all"), **{"ways": 5, "shots": 2, "queries": 3, **options}, batch=batch, seed=seed)  # type: ignore[arg-type]


def maml(encoder: nn.Module, outputs: int = 5, rate: float = 0.1) -> MAML:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder.out_features = 8  # type: ignore[assignment]
        return MAML(encoder, outputs=outputs, inner_rate=rate)


def trained(learner: Learner, pool: ClassPool) -> Learner:
    """With running statistics that are not the initial ones."""
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.01)
    for _ in train(learner, episodes_of(pool, seed=9), optimizer, steps=5):
        pass
    return learner


def test_embedded_path_gives_the_scores_of_the_plain_path(vectors: ClassPool) -> None:
    learner = trained(PrototypicalNetwork(encoder_of()), vectors)
    episodes = episodes_of(vectors)
    embedded, plain = evaluate(learner, episodes, tasks=50), evaluate(learner, Plain(episodes), tasks=50)
    assert np.array_equal(embedded.values, plain.values)
    assert embedded.record == plain.record
    assert 0.25 < embedded.mean.value < 0.95  # scores that could differ
    assert len(set(embedded.values)) > 5


def test_each_example_is_embedded_once(vectors: ClassPool) -> None:
    encoder = encoder_of()
    learner, episodes = PrototypicalNetwork(encoder), episodes_of(vectors)
    draws = [episodes.draw(t) for t in range(10)]
    rows = torch.cat([torch.cat([draw.support.flatten(), draw.query.flatten()]) for draw in draws])
    evaluate(learner, episodes, tasks=40)
    assert encoder.examples == len(rows.unique()) < len(rows) / 5
    encoder.examples = 0
    evaluate(learner, Plain(episodes), tasks=40)
    assert encoder.examples == len(rows)


def test_examples_are_not_embedded_together_if_they_share_statistics(vectors: ClassPool) -> None:
    encoder = encoder_of("batch")
    learner, episodes = PrototypicalNetwork(encoder), episodes_of(vectors)
    result = evaluate(learner, episodes, tasks=40)
    assert result.transductive
    assert encoder.examples == 40 * 5 * (2 + 3)
    assert np.array_equal(result.values, evaluate(learner, Plain(episodes), tasks=40).values)


@pytest.mark.parametrize("normalization", ["running", "none", "batch"])
@pytest.mark.parametrize("method", ["prototypical", "maml"])
def test_the_flag_says_whether_queries_share_information(vectors: ClassPool, normalization: str, method: str) -> None:
    encoder = encoder_of(normalization)
    learner = PrototypicalNetwork(encoder) if method == "prototypical" else maml(encoder)
    result = evaluate(learner, episodes_of(vectors), tasks=4)
    assert result.transductive is (normalization == "batch")
    assert ("transductive" if normalization == "batch" else "inductive") in str(result)


@pytest.mark.parametrize("method", ["embedded", "plain"])
def test_tasks_need_not_fill_the_last_batch(vectors: ClassPool, method: str) -> None:
    learner = PrototypicalNetwork(encoder_of()) if method == "embedded" else maml(encoder_of("none"))
    episodes = episodes_of(vectors, batch=4)
    ten, twelve = evaluate(learner, episodes, tasks=10), evaluate(learner, episodes, tasks=12)
    assert ten.values.shape == (10,)
    assert np.array_equal(ten.values, twelve.values[:10])
    assert evaluate(learner, episodes, tasks=1).values.shape == (1,)


@pytest.mark.parametrize("method", ["embedded", "plain"])
@pytest.mark.parametrize("tasks", [10, 12])
def test_accuracy_by_class_counts_every_query(vectors: ClassPool, method: str, tasks: int) -> None:
    learner = PrototypicalNetwork(encoder_of()) if method == "embedded" else maml(encoder_of("none"))
    episodes = episodes_of(vectors, batch=4)
    result = evaluate(learner, episodes, tasks=tasks)
    right, seen, values = dict[str, int](), dict[str, int](), []
    learner.eval()
    for task in range(tasks):
        draw, episode = episodes.draw(task // 4), episodes[task // 4].part(task % 4, task % 4 + 1)
        answer = learner.predict(learner.adapt(episode.support), episode.query.x).argmax(-1)[0]
        hits = (answer == episode.query.y[0]).tolist()
        values.append(sum(hits) / len(hits))
        for hit, label in zip(hits, episode.query.y[0].tolist(), strict=True):
            name = vectors.names[int(draw.classes[task % 4, label])]
            right[name], seen[name] = right.get(name, 0) + hit, seen.get(name, 0) + 1
    assert result.values == pytest.approx(np.array(values))
    assert result.by_class == pytest.approx({name: right[name] / seen[name] for name in seen})
    total = sum(result.by_class[name] * seen[name] for name in seen)
    assert total / sum(seen.values()) == pytest.approx(result.mean.value)


def test_classes_that_were_never_asked_about_have_no_accuracy(vectors: ClassPool) -> None:
    result = evaluate(PrototypicalNetwork(encoder_of()), episodes_of(vectors), tasks=1)
    assert len(result.by_class) == 5


class Breaking:
    def __init__(self, episodes: EpisodeSource, at: int) -> None:
        self.episodes, self.at = episodes, at

    def __getitem__(self, t: int) -> Episode:
        if t == self.at:
            raise OSError("the disk went away")
        return self.episodes[t]


@pytest.mark.parametrize("broken", [False, True])
def test_the_mode_of_every_module_is_restored(vectors: ClassPool, broken: bool) -> None:
    learner = PrototypicalNetwork(nn.Sequential(encoder_of(), nn.Dropout(0.5)))
    learner.train()
    encoder = learner.encoder
    assert isinstance(encoder, nn.Sequential)
    encoder[0].eval()  # a part that its owner froze
    before = {name: module.training for name, module in learner.named_modules()}
    assert set(before.values()) == {True, False}
    if broken:
        with pytest.raises(OSError, match="went away"):
            evaluate(learner, Breaking(episodes_of(vectors), at=1), tasks=12)
    else:
        evaluate(learner, episodes_of(vectors), tasks=12)
    assert {name: module.training for name, module in learner.named_modules()} == before


def test_dropout_is_off_meanwhile(vectors: ClassPool) -> None:
    learner = PrototypicalNetwork(nn.Sequential(encoder_of(), nn.Dropout(0.5)))
    learner.train()
    one, two = (evaluate(learner, episodes_of(vectors), tasks=12) for _ in range(2))
    assert one.record == two.record


def test_weights_buffers_and_gradients_stay_as_they_are(vectors: ClassPool) -> None:
    learner = PrototypicalNetwork(encoder_of())
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    evaluate(learner, episodes_of(vectors), tasks=12)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in learner.parameters())


def test_gradients_are_off_inside_and_as_before_in_the_callers_body(vectors: ClassPool) -> None:
    inside: list[bool] = []
    learner = PrototypicalNetwork(encoder_of())
    learner.encoder.register_forward_hook(lambda module, inputs, output: inside.append(torch.is_grad_enabled()))
    outside = [torch.is_grad_enabled() for _ in scores(learner, Plain(episodes_of(vectors)), tasks=12)]
    assert set(inside) == {False}
    assert set(outside) == {True}
    unfinished = scores(learner, Plain(episodes_of(vectors)), tasks=12)
    next(unfinished)
    assert torch.is_grad_enabled()


def test_regression_is_scored_by_the_mean_squared_error() -> None:
    learner = maml(MLP(shape=[1], hidden=[8]), outputs=1, rate=0.01)
    episodes = FunctionEpisodes(Sinusoid(), shots=5, queries=7, batch=3)
    result = evaluate(learner, episodes, tasks=7)
    assert result.metric == "mse"
    assert result.by_class == {}
    expected = []
    learner.eval()
    for t in range(3):
        output = learner.predict(learner.adapt(episodes[t].support), episodes[t].query.x)
        expected += ((output - episodes[t].query.y) ** 2).mean((1, 2)).tolist()
    assert result.values == pytest.approx(np.array(expected[:7]), rel=1e-5)
    assert "mse" in str(result)
    assert "%" not in str(result)


def test_the_same_tasks_give_the_same_record(vectors: ClassPool) -> None:
    learner = PrototypicalNetwork(encoder_of())
    one = evaluate(learner, episodes_of(vectors, seed=1), tasks=30)
    again = evaluate(learner, episodes_of(vectors, seed=1), tasks=30)
    other = evaluate(learner, episodes_of(vectors, seed=2), tasks=30)
    assert one.record == again.record == hashlib.sha256(one.values.astype("<f8").tobytes()).hexdigest()
    assert one.record != other.record


def test_the_interval_by_hand() -> None:
    values = np.array([0.2, 0.4, 0.4, 0.8, 1.0])
    mean = Evaluation("accuracy", values, transductive=False).mean
    deviation = (((values - 0.56) ** 2).sum() / 4) ** 0.5
    assert mean.value == pytest.approx(0.56)
    assert mean.ci95 == pytest.approx(2.7764451 * deviation / 5**0.5)  # Student's t, 4 degrees of freedom


def test_shown_in_percent() -> None:
    shown = str(Evaluation("accuracy", np.array([0.5, 0.7]), transductive=False))
    assert shown == "60.00 ± 127.06 % (2 tasks, inductive)"


def test_comparison_is_paired() -> None:
    random = np.random.default_rng(0)
    hard = random.uniform(0.2, 0.9, 100)  # how hard each task is, which both share
    a = Evaluation("accuracy", hard + 0.01 + 0.001 * random.standard_normal(100), transductive=False)
    b = Evaluation("accuracy", hard, transductive=False)
    difference = a.values - b.values
    found = compare(a, b)
    assert found.value == pytest.approx(difference.mean())
    assert found.ci95 == pytest.approx(1.9842169 * difference.std(ddof=1) / 10)  # t, 99 degrees of freedom
    assert found.value - found.ci95 > 0  # they differ, though their own intervals overlap
    assert a.mean.value - a.mean.ci95 < b.mean.value
    assert compare(b, a).value == -found.value


def test_comparison_refuses_different_tasks() -> None:
    a = Evaluation("accuracy", np.zeros(10), transductive=False)
    with pytest.raises(DataError, match="accuracy on 10 tasks and accuracy on 9"):
        compare(a, Evaluation("accuracy", np.zeros(9), transductive=False))
    with pytest.raises(DataError, match="accuracy on 10 tasks and mse on 10"):
        compare(a, Evaluation("mse", np.zeros(10), transductive=False))


def test_no_tasks_is_an_error(vectors: ClassPool) -> None:
    with pytest.raises(DataError, match="at least one task, got 0"):
        evaluate(PrototypicalNetwork(encoder_of()), episodes_of(vectors), tasks=0)


class Altered(PrototypicalNetwork):
    """Answers changed afterwards: what is wrong with them is up to the test."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__(encoder_of("none"))
        self.change = change

    def predict_features(self, state: Prototypes, z: Tensor) -> Tensor:
        return self.change(super().predict_features(state, z))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_an_answer_that_is_not_finite_is_wrong(vectors: ClassPool, bad: float, plain: bool) -> None:
    episodes = Plain(episodes_of(vectors)) if plain else episodes_of(vectors)
    result = evaluate(Altered(lambda logits: torch.full_like(logits, bad)), episodes, tasks=6)
    assert not result.values.any()
    assert result.not_finite == 6 * 5 * 3
    assert "6 tasks, inductive, 90 queries without a finite answer" in str(result)


def test_one_bad_number_spoils_one_query(vectors: ClassPool) -> None:
    def spoil(logits: Tensor) -> Tensor:
        logits[0, 0, 4] = float("nan")
        return logits

    result = evaluate(Altered(spoil), episodes_of(vectors), tasks=8)
    assert result.not_finite == 2  # one in each batch
    fine = evaluate(Altered(lambda logits: logits), episodes_of(vectors), tasks=8)
    assert fine.not_finite == 0
    assert "finite" not in str(fine)
    assert np.array_equal(np.delete(result.values, [0, 4]), np.delete(fine.values, [0, 4]))


def test_regression_counts_what_is_not_finite() -> None:
    learner = maml(MLP(shape=[1], hidden=[8]), outputs=1)
    with torch.no_grad():
        next(learner.parameters()).fill_(float("nan"))
    result = evaluate(learner, FunctionEpisodes(Sinusoid(), shots=5, queries=7, batch=3), tasks=4)
    assert result.not_finite == 28
    assert not np.isfinite(result.values).any()


@pytest.mark.parametrize("plain", [False, True])
def test_logits_of_another_shape(vectors: ClassPool, plain: bool) -> None:
    episodes = Plain(episodes_of(vectors)) if plain else episodes_of(vectors)
    with pytest.raises(ShapeError, match=r"logits \[B, Q, ways\] = \(4, 15, 5\).* got \(4, 15, 4\)"):
        evaluate(Altered(lambda logits: logits[..., :4]), episodes, tasks=4)


def test_outputs_of_another_shape() -> None:
    learner = maml(MLP(shape=[1], hidden=[8]), outputs=1)
    predict = learner.predict
    learner.predict = lambda state, x: predict(state, x)[..., 0]  # type: ignore[method-assign]
    episodes = FunctionEpisodes(Sinusoid(), shots=5, queries=7, batch=3)
    with pytest.raises(ShapeError, match=r"\(3, 7, 1\) for query labels .* got \(3, 7\)"):
        evaluate(learner, episodes, tasks=3)  # would have been broadcast


def test_episodes_that_end_too_early(vectors: ClassPool) -> None:
    batches = [episodes_of(vectors)[0], episodes_of(vectors)[1]]
    learner = PrototypicalNetwork(encoder_of())
    with pytest.raises(DataError, match="expected 100 tasks, the episodes end after 8"):
        evaluate(learner, batches, tasks=100)
    assert len(evaluate(learner, batches, tasks=8).values) == 8


def test_the_digest_says_which_tasks(vectors: ClassPool) -> None:
    one, other = PrototypicalNetwork(encoder_of()), maml(encoder_of("none"))
    digest = evaluate(one, episodes_of(vectors), tasks=10).tasks_digest
    assert evaluate(other, episodes_of(vectors), tasks=10).tasks_digest == digest  # by the other path
    for episodes, tasks in (
        (episodes_of(vectors, seed=1), 10),
        (episodes_of(vectors, batch=5), 10),
        (episodes_of(vectors, shots=1), 10),
        (episodes_of(vectors), 11),
        (Episodes(vectors.split("test+train"), ways=5, shots=2, queries=3, batch=4), 10),
    ):
        assert evaluate(one, episodes, tasks=tasks).tasks_digest != digest
    plain = [evaluate(one, Plain(episodes_of(vectors, seed=seed)), tasks=10).tasks_digest for seed in (0, 0, 1)]
    assert plain[0] == plain[1] != plain[2]


def test_comparison_refuses_as_many_other_tasks(vectors: ClassPool) -> None:
    learner = PrototypicalNetwork(encoder_of())
    one, two = (evaluate(learner, episodes_of(vectors, seed=seed), tasks=10) for seed in (0, 1))
    with pytest.raises(DataError, match="10 different tasks; draw both"):
        compare(one, two)
    assert compare(one, evaluate(maml(encoder_of("none")), episodes_of(vectors), tasks=10)).value is not None


def test_an_evaluation_is_itself_only(vectors: ClassPool) -> None:
    one, two = (evaluate(PrototypicalNetwork(encoder_of()), episodes_of(vectors), tasks=4) for _ in range(2))
    assert one == one
    assert one != two  # arrays have no single truth; compare their records
    assert len({one, two}) == 2


@pytest.mark.parametrize("plain", [False, True])
def test_strangers_are_judged_beside_the_queries(vectors: ClassPool, plain: bool) -> None:
    learner = PrototypicalNetwork(encoder_of("none"))
    known, asked = episodes_of(vectors), episodes_of(vectors, strangers=0.4)
    result = evaluate(learner, Plain(asked) if plain else asked, tasks=6)
    assert np.array_equal(result.values, evaluate(learner, known, tasks=6).values), "accuracy is of the queries"
    areas = []
    learner.eval()
    for t in range(2):
        episode = asked[t]
        state = learner.adapt(episode.support)
        near, far = (learner.predict(state, x).amax(-1) for x in (episode.query.x, episode.strangers))  # type: ignore[arg-type]
        areas += [
            float(np.mean([[a > b for b in strange] for a in one])) for one, strange in zip(near, far, strict=True)
        ]
    assert result.strangers["logit"].values == pytest.approx(np.array(areas[:6]))
    assert 0 <= result.strangers["logit"].fpr95.value <= 1
    assert "strangers told by energy: AUROC 0." in str(result)
    assert evaluate(learner, known, tasks=6).strangers == {}
