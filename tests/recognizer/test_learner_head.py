from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom
from tests.recognizer.test_recognizer import bar, same, vectors
from torch import nn

from handful.checkpoint import save_checkpoint
from handful.encoders import MLP
from handful.episode import Support
from handful.errors import CheckpointError, CollectionError, DataError, HandfulError, LabelError, SpecError
from handful.learner import Learner
from handful.learners import LEARNERS
from handful.ops.conformal import candidates, p_values
from handful.ops.nearest_mean import NearestMean
from handful.recognizer import open_recognizer, teach
from handful.recognizer.fitting import embedder_and_head
from handful.recognizer.learner_head import CrossConformal, fit_learner
from handful.spec import Spec, build


def checkpoint(
    folder: Path, name: str = "maml", *, seed: int = 0, shape: tuple[int, ...] = (6,), **options: object
) -> str:
    """An untrained checkpoint: of vectors, or of pictures."""
    encoder: dict[str, object] = {"name": "mlp", "shape": list(shape), "hidden": [16], "outputs": 8}
    if len(shape) == 3:
        encoder = {"name": "conv4", "shape": list(shape), "filters": 4, "halvings": 2, "normalization": "support"}
    table = {"learner": {"name": name, **options}, "encoder": encoder, "data": {"name": "digits"}}
    spec = Spec.of(table | {"train": {"ways": 3, "steps": 1, "seed": seed}})
    save_checkpoint(folder, build(spec), spec, step=0)
    return str(folder)


def made(name: str, **options: object) -> Learner:
    torch.manual_seed(0)
    encoder = MLP(shape=(6,), hidden=(16,), outputs=8)
    return LEARNERS[name](encoder, **options).eval()  # type: ignore[call-arg]


MAML = {"outputs": 3, "inner_steps": 3, "inner_rate": 0.5}


def test_a_learner_that_adapts_its_encoder(tmp_path: Path) -> None:
    place = checkpoint(tmp_path / "maml", **MAML)
    asked = [one for group in vectors(seed=1).values() for one in group]
    with teach(vectors(), tmp_path / "shop", encoder=place) as shop:
        expected = shop.recognize_many(asked)
        report = str(shop.report())
    assert np.mean([answer.label == f"c{i // 5}" for i, answer in enumerate(expected)]) > 0.9
    assert expected[0].promise.startswith("at least 80% overall, and usually about 90% (cross-conformal: 1 − 2ε)")
    assert "80%" in report
    assert "MAML, adapted to the examples" in report
    assert "unknown at most 20% of the time" in report
    with open_recognizer(tmp_path / "shop") as again:
        assert again.recognize_many(asked) == expected
    checkpoint(tmp_path / "maml", seed=1, **MAML)
    with pytest.raises(CollectionError, match="cannot be compared"):
        open_recognizer(tmp_path / "shop")


def test_pictures_are_adapted_to_as_they_are(tmp_path: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for kind in ("lying", "standing"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(bar(random, kind)).save(tmp_path / "photos" / kind / f"{number}.png")
        Image.fromarray(bar(random, kind)).save(tmp_path / f"{kind}.png")
    place = checkpoint(tmp_path / "maml", shape=(1, 16, 16), outputs=2, inner_steps=5, inner_rate=0.5)
    shop = teach(tmp_path / "photos", encoder=place)
    answers = shop.recognize_many([tmp_path / "lying.png", tmp_path / "standing.png"])
    assert [answer.label for answer in answers] == ["lying", "standing"]
    assert shop.collection.encoder.features == 256


def test_changes_are_adapted_to_at_once_and_leave_no_trace() -> None:
    shop = teach(vectors(), learner=made("maml", **MAML))
    asked = [one for group in vectors(seed=1).values() for one in group]
    before = shop.recognize_many(asked)
    shop.add("c0", vectors(seed=2)["c1"])
    assert not same(shop.recognize_many(asked), before)
    shop.remove([one.id for one in shop.collection.read().examples if one.id > 15])
    assert same(shop.recognize_many(asked), before)
    with pytest.raises(LabelError, match="tasks of 3 classes and answers no others, got 4"):
        shop.add("new", vectors(seed=2)["c1"])
    assert len(shop.history()) == 3
    shop.merge(["c1", "c2"], "c1")
    with pytest.raises(LabelError, match="got 2"):
        shop.recognize(asked[0])
    shop.undo()
    assert same(shop.recognize_many(asked), before)


def test_a_learner_with_a_frozen_encoder_and_a_closed_form_has_the_full_promise(tmp_path: Path) -> None:
    place = checkpoint(tmp_path / "proto", "prototypical")
    whole, encoder = teach(vectors(), encoder=place), teach(vectors(), encoder=place, head="squared")
    asked = [one for group in vectors(seed=1).values() for one in group]
    assert whole.recognize_many(asked) == encoder.recognize_many(asked)
    assert whole.recognize(asked[0]).promise.startswith("90% overall")
    ridge = teach(vectors(), encoder=place, head="ridge")
    assert ridge.recognize(asked[0]).promise.startswith("90% overall")


def test_a_learner_in_memory_opens_with_an_equal_one_only(tmp_path: Path) -> None:
    teach(vectors(), tmp_path / "shop", learner=made("anil", outputs=3)).close()
    with open_recognizer(tmp_path / "shop", learner=made("anil", outputs=3)) as again:
        assert again.recognize(vectors(seed=1)["c1"][0]).version == 1
    with pytest.raises(CollectionError, match="cannot be compared"):
        open_recognizer(
            tmp_path / "shop", learner=made("anil", outputs=3, inner_steps=2).float().double().float().apply(_moved)
        )
    with pytest.raises(HandfulError, match="ANIL"):
        open_recognizer(tmp_path / "shop")


def _moved(module: nn.Module) -> None:
    with torch.no_grad():
        for weight in module.parameters(recurse=False):
            weight += 1e-3


@pytest.mark.parametrize(
    "head", ["simpleshot", "nearest", "frozen", "r2d2", "metaoptnet", "prototypical", "fine_tuning"]
)
def test_learners_of_the_catalog_that_need_no_training(head: str) -> None:
    shop = teach(vectors(), head=head)
    answers = [shop.recognize(group[0]) for group in vectors(seed=1).values()]
    assert [answer.label for answer in answers] == ["c0", "c1", "c2"]
    assert all(answer.label in answer.candidates for answer in answers)


@pytest.mark.parametrize(
    ("name", "options", "sizes"),
    [
        ("maml", {"outputs": 3}, [3, 2, 4]),
        ("maml", {"outputs": 3}, [1, 2, 4]),
        ("nearest", {}, [1, 2, 4]),
        ("feat", {}, [3, 1, 1]),
        ("fine_tuning", {"steps": 2, "rate": 0.01}, [1, 2, 2]),
    ],
)
def test_ranks_are_those_of_learners_adapted_one_by_one(name: str, options: dict, sizes: list[int]) -> None:
    learner, random = made(name, **options), np.random.default_rng(1)
    y = np.repeat(np.arange(3), sizes)
    x, z = random.normal(size=(len(y), 6)).astype(np.float32), random.normal(size=(2, 6)).astype(np.float32)
    rows = x if not hasattr(learner, "embed") else learner.embed(torch.from_numpy(x)[None])[0].detach().numpy()
    asked = z if not hasattr(learner, "embed") else learner.embed(torch.from_numpy(z)[None])[0].detach().numpy()
    found = p_values(CrossConformal(learner, rows, y, 3, rows.shape[1:]), asked)
    counts = np.zeros((2, 3))
    for i in range(len(y)):
        rest = np.delete(np.arange(len(y)), i)
        classes = np.unique(y[rest])
        scores = np.full((3, 3), np.inf)  # of example i and the two asked
        if learner.any_ways or len(classes) == 3:
            support = Support(
                torch.from_numpy(x[rest])[None], torch.from_numpy(np.searchsorted(classes, y[rest]))[None], len(classes)
            )
            queries = torch.from_numpy(np.vstack([x[i], z]))[None]
            logits = learner.predict(learner.adapt(support), queries)[0].detach().numpy()
            for k, c in enumerate(classes):
                others = np.delete(logits, k, 1).max(1) if len(classes) > 1 else 0
                scores[:, c] = others - logits[:, k]
        counts += scores[0, y[i]] >= scores[1:] - 1e-4
    np.testing.assert_allclose(found.overall, (counts + 1) / (len(y) + 1))


def test_what_is_heard_in_a_row_is_heard_in_an_order_of_its_own() -> None:
    learner = made("mann", outputs=3, slots=8, width=6, hidden=10)
    random, y = np.random.default_rng(0), np.repeat(np.arange(3), 3)
    x, z = random.normal(size=(9, 8)).astype(np.float32), random.normal(size=(4, 8)).astype(np.float32)
    order = random.permutation(9)
    one, other = CrossConformal(learner, x, y, 3, (8,)), CrossConformal(learner, x[order], y[order], 3, (8,))
    np.testing.assert_allclose(one.distances(z), other.distances(z), atol=1e-5)
    np.testing.assert_allclose(p_values(one, z).overall, p_values(other, z).overall)


def test_coverage_of_a_learner_without_a_closed_form() -> None:
    """On exchangeable tasks, one thing asked in each, to binomial accuracy."""
    learner, random, inside, tasks = made("nearest"), np.random.default_rng(4), 0, 150
    for _ in range(tasks):
        centers = 1.5 * random.normal(size=(3, 8))
        y = random.permutation(np.concatenate([np.arange(3), random.integers(0, 3, 17)]))
        label = random.integers(3)
        x = (centers[y] + random.normal(size=(20, 8))).astype(np.float32)
        head = CrossConformal(learner, x, y, 3, (8,))
        p = p_values(head, centers[label][None] + random.normal(size=(1, 8)))
        inside += bool(candidates(p, np.bincount(y), 0.1, each_class=False)[0, label])
    assert binom.cdf(inside, tasks, 0.8) > 1e-3
    assert 0.83 < inside / tasks < 0.98


def test_what_cannot_be_a_head(tmp_path: Path) -> None:
    for learner, words in (
        (made("transductive_fine_tuning"), "looks at all queries together"),
        (made("soft_kmeans"), "looks at all queries together"),
        (made("clip"), "learns classes from descriptions"),
    ):
        with pytest.raises(CheckpointError, match=words):
            teach(vectors(), learner=learner)
    with pytest.raises(LabelError, match="tasks of 3 classes and answers no others, got 2"):
        teach(vectors(2), tmp_path / "shop", learner=made("maml", outputs=3))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LabelError, match="tasks of 5 classes"):
        teach(vectors(), learner=made("snail", outputs=5))
    for head in ("maml", "feat", "mann"):
        with pytest.raises(SpecError, match="meta-training makes; expected a checkpoint"):
            teach(vectors(), head=head)
    with pytest.raises(DataError, match="leave out the others"):
        teach(vectors(), learner=made("nearest"), head="ridge")
    with pytest.raises(DataError, match="expected a checkpoint's folder"):
        teach(vectors(), head="learner")
    with pytest.raises(DataError, match="its learner takes vectors, and these are texts"):
        teach({"a": ["hello"], "b": ["world"]}, learner=made("nearest"))


def test_one_of_the_catalog_with_a_closed_form_is_that_form() -> None:
    embedder, head = embedder_and_head("vectors", None, None, made("prototypical"), 6)
    assert head == "learner"
    fitted, _ = fit_learner(embedder.learner, np.eye(4, dtype=np.float32), np.arange(4), 4, (4,))  # type: ignore[attr-defined]
    assert isinstance(fitted, NearestMean)


def test_threads_that_ask_leave_the_stream_of_random_numbers_alone() -> None:
    shop = teach(vectors(), head="simpleshot")
    asked = [one for group in vectors(seed=1).values() for one in group]
    expected = shop.recognize_many(asked)
    torch.manual_seed(5)
    number = torch.rand(3)
    torch.manual_seed(5)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(shop.recognize, 4 * asked))
    torch.testing.assert_close(torch.rand(3), number, rtol=0, atol=0)
    assert [one.candidates for one in found] == 4 * [one.candidates for one in expected]
