from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from handful.data.episodes import Episodes
from handful.data.functions import FunctionEpisodes
from handful.errors import DataError, HandfulError, ShapeError, SpecError, StorageError, UnknownNameError
from handful.reproduce import weights_digest
from handful.spec import Spec, build, load_data, make_optimizer, make_schedule

Table = dict[str, Any]
Make = Callable[..., Table]

TOML = """
[learner]
name = "maml"
outputs = 5
inner_rate = 0.4

[encoder]
name = "mlp"
shape = [1, 8, 8]
hidden = [16, 8]

[data]
name = "digits"
symmetries = true

[train]
ways = 5
shots = [1, 5]
queries = 3
batch = 2
steps = 12
rate = 1e-2
clip = 10.0
optimizer = { name = "sgd", momentum = 0.9 }
schedule = { name = "step", every = 5, factor = 0.1 }

[validation]
ways = 5
every = 4
tasks = 8
"""


@pytest.fixture
def full(tmp_path: Path) -> Spec:
    path = tmp_path / "full.toml"
    path.write_text(TOML)
    return Spec.read(path)


def changed(table: Table, path: str, value: object) -> Table:
    """A copy with the value at a dotted path, which is made if need be."""
    table = copy.deepcopy(table)
    *tables, key = path.split(".")
    inner = table
    for name in tables:
        inner = inner.setdefault(name, {})
    inner[key] = value
    return table


def without(table: Table, path: str) -> Table:
    table = copy.deepcopy(table)
    *tables, key = path.split(".")
    inner = table
    for name in tables:
        inner = inner[name]
    del inner[key]
    return table


def test_toml_says_everything(full: Spec) -> None:
    assert full.learner.name == "maml"
    assert full.learner.options == {"outputs": 5, "inner_rate": 0.4}
    assert full.encoder.options == {"shape": [1, 8, 8], "hidden": [16, 8]}
    assert (full.train.ways, full.train.shots, full.train.steps, full.train.rate) == (5, (1, 5), 12, 0.01)
    assert (full.train.split, full.train.accumulate, full.train.seed) == ("train", 1, 0)
    assert full.validation is not None
    assert (full.validation.split, full.validation.every, full.validation.patience) == ("val", 4, None)


def test_json_is_the_same_spec(full: Spec, tmp_path: Path) -> None:
    path = tmp_path / "full.json"
    path.write_text(json.dumps(full.table()))
    assert Spec.read(path) == full
    assert Spec.read(path).digest == full.digest


def test_round_trip(full: Spec, digits_table: Make) -> None:
    for spec in (full, Spec.of(digits_table())):
        again = Spec.of(json.loads(json.dumps(spec.table())))
        assert again == spec
        assert again.digest == spec.digest
        assert again.table() == spec.table()


def test_tuples_are_lists(digits_table: Make) -> None:
    spec = Spec.of(changed(digits_table(), "encoder.hidden", (16,)))
    assert spec == Spec.of(changed(digits_table(), "encoder.hidden", [16]))
    assert Spec.of(spec.table()) == spec


def test_the_table_that_a_spec_is_made_from_stays_as_it_is(digits_table: Make) -> None:
    table = digits_table()
    Spec.of(table)
    assert table == digits_table()


def test_the_digest_is_stable(digits_table: Make) -> None:
    """It names the folders of runs: a new value orphans every run there is."""
    assert Spec.of(digits_table()).digest == "fb83bb36539f"
    table = digits_table()
    turned = {key: dict(reversed(value.items())) for key, value in reversed(table.items())}
    assert Spec.of(turned).digest == Spec.of(table).digest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("learner", {"name": "maml", "outputs": 5}),
        ("encoder.hidden", [17]),
        ("encoder.normalization", "none"),
        ("data.symmetries", False),
        ("train.ways", 6),
        ("train.shots", 2),
        ("train.queries", 4),
        ("train.batch", 3),
        ("train.steps", 13),
        ("train.rate", 0.011),
        ("train.seed", 1),
        ("train.clip", 1.0),
        ("train.accumulate", 2),
        ("train.precision", "bfloat16"),
        ("train.optimizer", {"name": "sgd"}),
        ("train.schedule", {"name": "cosine"}),
        ("validation", {"ways": 5}),
    ],
)
def test_the_digest_depends_on_everything(digits_table: Make, path: str, value: object) -> None:
    spec = Spec.of(digits_table())
    other = Spec.of(changed(digits_table(), path, value))
    assert other != spec
    assert other.digest != spec.digest


def test_frozen(full: Spec) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        full.train = full.train  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        full.train.steps = 3
    with pytest.raises(ValidationError, match="frozen"):
        full.learner.name = "prototypical"
    full.learner.options["outputs"] = 7
    assert full.learner.options["outputs"] == 5


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("trian", {}, "unknown key 'trian'; did you mean 'train'? Valid: data, encoder, learner, train, validation."),
        ("train.setps", 3, "unknown key 'train.setps'; did you mean 'train.steps'?"),
        ("train.setps", 3, "train.queries, train.query_balance, train.ragged"),
        ("validation.evry", 3, "unknown key 'validation.evry'; did you mean 'validation.every'?"),
        ("validation.evry", 3, "validation.patience, validation.queries"),
        ("learner.outputs", 5, "[learner] prototypical: unknown key 'outputs'. Valid: distance, scale."),
        (
            "learner",
            {"name": "maml", "inner_rat": 1},
            "[learner] maml: unknown key 'inner_rat'; did you mean 'inner_rate'",
        ),
        ("encoder.hiden", [3], "[encoder] mlp: unknown key 'hiden'; did you mean 'hidden'? Valid: hidden, normal"),
        ("data.path", "x", "[data] digits: unknown key 'path'. Valid: symmetries."),
        ("train.optimizer", {"name": "adam", "bettas": []}, "[train.optimizer] adam: unknown key 'bettas'; did you"),
        (
            "train.optimizer",
            {"name": "adam", "lr": 1.0},
            "[train.optimizer] adam: unknown key 'lr'. Valid: amsgrad, be",
        ),
        (
            "train.optimizer",
            {"name": "sgd", "betas": 1},
            "[train.optimizer] sgd: unknown key 'betas'. Valid: dampening",
        ),
        (
            "train.schedule",
            {"name": "step", "evry": 2},
            "[train.schedule] step: unknown key 'evry'; did you mean 'every'",
        ),
        (
            "train.schedule",
            {"name": "constant", "floor": 0},
            "[train.schedule] constant: unknown key 'floor'. Valid: no",
        ),
    ],
)
def test_unknown_keys_are_refused_and_valid_ones_listed(
    digits_table: Make, path: str, value: object, said: str
) -> None:
    table = changed(digits_table(validation={}), path, value)
    with pytest.raises(SpecError) as caught:
        Spec.of(table)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "learner.name",
            "protoypical",
            "unknown learner 'protoypical'; did you mean 'prototypical'? Valid: ",
        ),
        (
            "encoder.name",
            "conv5",
            "unknown encoder 'conv5'; did you mean 'conv4'? Valid: characters, conv4, ",
        ),
        ("data.name", "minst", "unknown data set 'minst'"),
        (
            "train.optimizer",
            {"name": "adan"},
            "unknown optimizer 'adan'; did you mean 'adam'? Valid: adam, adamw, sgd.",
        ),
        ("train.schedule", {"name": "x"}, "unknown schedule 'x'. Valid: constant, cosine, linear, step."),
    ],
)
def test_unknown_names_list_the_valid_ones(digits_table: Make, path: str, value: object, said: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        Spec.of(changed(digits_table(), path, value))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("learner", "prototypical", "learner: input should be a valid dictionary"),
        ("train", [], "train: input should be"),
        ("train.steps", "many", "train.steps: input should be a valid integer"),
        ("train.steps", 0, "train.steps: input should be greater than or equal to 1, got 0"),
        ("train.steps", 2.5, "got 2.5"),
        ("train.rate", -1.0, "train.rate: input should be greater than 0, got -1.0"),
        ("train.rate", float("nan"), "train.rate: input should be a finite number, got nan"),
        ("train.steps", True, "train.steps: input should not be true or false, got True"),
        ("train.shots", [True, 2], "train.shots: input should not be true or false"),
        ("train.clip", 0, "train.clip: input should be greater than 0"),
        ("train.shots", [1, "five"], "range [least, greatest] of such, got [1, 'five']"),
        ("data", {"name": "folder", "path": ".", "size": "big"}, "whole number, or a list of 2 whole numbers, got 'b"),
        ("data", {"name": "folder", "path": ".", "split": 3}, "table of numbers, or a table of lists of texts, got 3"),
        ("train.split", 3, "train.split: input should be a valid string, got 3"),
        ("train.precision", "float16", "train.precision: input should be 'float32' or 'bfloat16', got 'float16'"),
        ("train.optimizer", "adam", "train.optimizer: input should be a valid dictionary"),
        ("validation.patience", 0, "validation.patience: input should be greater than or equal to 1, got 0"),
        ("train.augmentation", {"crop": True}, "train.augmentation: input should not be true or false"),
        ("train.augmentation", {"flip": 3}, "train.augmentation.flip: input should be a valid boolean"),
        ("train.augmentation", {"color": 2.0}, "color in [0, 1]"),
        ("encoder.hidden", "wide", "[encoder] mlp: hidden: "),
        ("encoder.hidden", [3, "x"], "[encoder] mlp: hidden.1: "),
        ("encoder.normalization", "btach", "[encoder] mlp: normalization: input should be 'batch', 'support', "),
        ("data.symmetries", "perhaps", "[data] digits: symmetries: input should be a valid boolean"),
        ("encoder.hidden", [True], "[encoder] mlp: hidden: input should not be true or false"),
        ("learner", {"name": "maml", "outputs": True}, "[learner] maml: outputs: input should not be true or false"),
        (
            "learner",
            {"name": "maml", "inner_rate": float("nan")},
            "inner_rate: input should be a finite number, got nan",
        ),
        ("learner", {"name": "maml", "outputs": "five"}, "[learner] maml: outputs: input should be a valid integer"),
        ("learner", {"name": "maml", "rates": "own"}, "[learner] maml: rates: input should be 'fixed' or 'learned'"),
        ("train.optimizer", {"name": "adam", "betas": "x"}, "[train.optimizer] adam: "),
        ("train.optimizer", {"name": "adam", "weight_decay": -1}, "[train.optimizer] adam: "),
        ("train.optimizer", {"name": "adam", "maximize": "perhaps"}, "[train.optimizer] adam"),
        ("train.optimizer", {"name": "adam", "betas": [0.9, 0.999, 0.5]}, "[train.optimizer] adam"),
        ("train.optimizer", {"name": "adam", "differentiable": True}, "`differentiable` is for loops of one's own"),
        ("train.optimizer", {"name": "sgd", "momentum": 0.9, "dampening": "x"}, "[train.optimizer] sgd"),
        ("train.optimizer", {"name": "sgd", "momentum": float("nan")}, "[train.optimizer] sgd"),
        ("train.schedule", {"name": "cosine", "floor": -5.0}, "expected `floor` to be a share from 0 to 1, got -5.0"),
        ("train.schedule", {"name": "step", "factor": 1e300}, "expected `factor` to be a share from 0 to 1"),
        ("train.schedule", {"name": "step", "every": "x"}, "[train.schedule] step: every: input should be a valid int"),
        ("train.schedule", {"name": "step", "every": 0}, "at least 1 step, got 0"),
    ],
)
def test_values_of_the_wrong_kind(digits_table: Make, path: str, value: object, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        Spec.of(changed(digits_table(validation={}), path, value))
    assert said in str(caught.value)


@pytest.mark.parametrize("value", ["five", 0, 1, [1, 5], [2, 3, 4], [2, "x"], 2.5])
@pytest.mark.parametrize("where", ["train", "validation"])
def test_ways_are_two_at_least(digits_table: Make, where: str, value: object) -> None:
    with pytest.raises(SpecError) as caught:
        Spec.of(changed(digits_table(validation={}), f"{where}.ways", value))
    expected = "expected a whole number of at least 2, or a range [least, greatest] of such"
    assert str(caught.value) == f"spec: {where}.ways: {expected}, got {value!r}"


def test_mistakes_in_several_keys_are_told_once_each(digits_table: Make) -> None:
    with pytest.raises(SpecError) as caught:
        Spec.of(digits_table(shots="few", queries=0))
    assert str(caught.value) == (
        "spec: train.shots: expected a whole number of at least 1, or a range [least, greatest] of such, got 'few'; "
        'train.queries: expected a whole number of at least 1, or "all", got 0'
    )


@pytest.mark.parametrize("path", ["learner", "encoder", "data", "train", "train.steps", "learner.name", "data.name"])
def test_missing_keys(digits_table: Make, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        Spec.of(without(digits_table(), path))
    assert f"missing key {path!r}" in str(caught.value)


def test_every_mistake_is_told_at_once(digits_table: Make) -> None:
    table = without(changed(changed(digits_table(), "train.rate", -1), "extra", 1), "data")
    with pytest.raises(SpecError) as caught:
        Spec.of(table)
    for said in ("train.rate", "'extra'", "missing key 'data'"):
        assert said in str(caught.value)


@pytest.mark.parametrize("suffix", [".toml", ".json"])
@pytest.mark.parametrize("content", [b"[learner\nname = 3", b"\xff\xfe\x00", b"{", b'{"learner": '])
def test_broken_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=f"expected {suffix[1:].upper()}") as caught:
        Spec.read(path)
    assert str(path) in str(caught.value)


def test_a_file_without_tables(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[1, 2]")
    with pytest.raises(SpecError, match="expected tables, got list"):
        Spec.read(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(StorageError) as caught:
            Spec.read(path)
        assert f"cannot read {path}" in str(caught.value)


def test_initial_weights_depend_on_the_seed_only(digits_table: Make) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build(Spec.of(digits_table(seed=3)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two, other = build(Spec.of(digits_table(seed=3))), build(Spec.of(digits_table(seed=4)))
    for name, value in one.state_dict().items():
        assert torch.equal(two.state_dict()[name], value)
    assert any(not torch.equal(other.state_dict()[name], value) for name, value in one.state_dict().items())


def test_the_options_reach_what_they_are_for(full: Spec) -> None:
    learner = build(full)
    optimizer, schedule = make_optimizer(full, learner), make_schedule(full)
    assert [p.shape for name, p in learner.named_parameters() if name != "rates"] == [
        (16, 64),
        (16,),
        (8, 16),
        (8,),
        (5, 8),
        (5,),
    ]
    assert isinstance(optimizer, torch.optim.SGD)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.01, 0.9)
    assert [schedule(t) for t in (0, 4, 5, 10)] == pytest.approx([1, 1, 0.1, 0.01])
    assert all(p.requires_grad for p in optimizer.param_groups[0]["params"])
    episodes = full.train.draw_from(load_data(full))
    assert isinstance(episodes, Episodes)
    assert (episodes.ways, episodes.shots, episodes.queries, episodes.batch) == ((5, 5), (1, 5), 3, 2)
    assert set(episodes.pool.names) == {n for n in load_data(full).names if n[0] in "013689"}


@pytest.mark.parametrize("shape", [[1, 28, 28], [64], None])
def test_data_that_do_not_fit_the_encoder(digits_table: Make, shape: list[int] | None) -> None:
    table = without(digits_table(), "encoder.shape")
    spec = Spec.of(table if shape is None else changed(table, "encoder.shape", shape))
    with pytest.raises(DataError) as caught:
        load_data(spec)
    assert f"data 'digits' holds examples of shape [1, 8, 8], the encoder expects {shape or [1]}" in str(caught.value)
    assert "set shape = [1, 8, 8] in [encoder]" in str(caught.value)


WORDS = {"name": "table", "reading": "words", "length": 4}
TEXT_CNN = {"name": "text_cnn", "shape": [4], "vocabulary": 500}


@pytest.mark.parametrize(
    ("learner", "encoder", "data", "said"),
    [
        ("maml", {"name": "mlp", "shape": [4]}, WORDS, "words, which encoder 'mlp' does not read: set reading ="),
        ("clip", {**TEXT_CNN, "vocabulary": 32768}, WORDS, "words, which learner 'clip' does not read: set reading ="),
        ("maml", TEXT_CNN, WORDS, "expected numbers of words from 0 to 499, got 0 to"),
        ("maml", TEXT_CNN, {"name": "table", "features": list("abcd")}, "expected whole numbers of words, got others"),
        ("maml", {"name": "mlp", "shape": [32]}, {"name": "attributes"}, "'attributes' describes its classes .*'maml'"),
    ],
)
def test_data_of_another_kind(
    learner: str, encoder: dict[str, Any], data: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.csv"
    path.write_text("label,text,a,b,c,d\n" + "".join(f"{i % 3},so many words,0.5,1,2,3\n" for i in range(6)))
    data = data if data["name"] == "attributes" else data | {"path": str(path)}
    train = {"steps": 1, "ways": 2, "queries": 1}
    with pytest.raises(HandfulError, match=said):
        load_data(Spec.of({"learner": {"name": learner}, "encoder": encoder, "data": data, "train": train}))


def test_parts_of_pictures_need_an_encoder_of_any_size() -> None:
    table = {"learner": {"name": "maml", "outputs": 5}, "data": {"name": "mini-imagenet"}}
    table["train"] = {"ways": 5, "steps": 1, "augmentation": {"zoom": 0.5, "side": 42}}
    flat = {"name": "conv4", "shape": [3, 84, 84], "filters": 4, "normalization": "batch"}
    with pytest.raises(SpecError, match="of parts of 42×42 the encoder makes 16 features, and 100 of"):
        build(Spec.of(table | {"encoder": flat}))
    average = {"name": "resnet12", "shape": [3, 84, 84], "widths": [2, 2, 2, 2]}
    learner = build(Spec.of(table | {"encoder": average}))
    whole = build(Spec.of(table | {"encoder": average, "train": {"ways": 5, "steps": 1}}))
    assert weights_digest(learner) == weights_digest(whole)


def test_an_encoder_that_cannot_be_built(digits_table: Make) -> None:
    with pytest.raises(SpecError, match="prototypical with mlp cannot be built"):
        build(Spec.of(changed(digits_table(), "encoder.hidden", [10**15])))  # more memory than there can be
    with pytest.raises(ShapeError, match="MLP: expected sizes of at least 1"):
        build(Spec.of(changed(digits_table(), "encoder.hidden", [-3])))


@pytest.mark.parametrize("ways", [[9, 2], [0, 2]])
def test_a_range_from_more_to_less(digits_table: Make, ways: list[int]) -> None:
    with pytest.raises((SpecError, DataError), match="ways"):
        Spec.of(digits_table(ways=ways)).train.draw_from(load_data(Spec.of(digits_table())))


SINUSOID: Table = {
    "learner": {"name": "maml", "outputs": 1},
    "encoder": {"name": "mlp", "shape": [1], "hidden": [8]},
    "data": {"name": "sinusoid"},
    "train": {"steps": 3, "shots": 5, "queries": 6, "batch": 2},
}


def test_regression_tasks() -> None:
    spec = Spec.of(SINUSOID)
    episodes = spec.train.draw_from(load_data(spec))
    assert isinstance(episodes, FunctionEpisodes)
    assert episodes[0].query.y.shape == (2, 6, 1)
    ranged = Spec.of(changed(SINUSOID, "train.shots", [5, 10])).train.draw_from(load_data(spec))
    assert {ranged[t].support.y.shape[1] for t in range(50)} == {5, 6, 7, 8, 9, 10}


@pytest.mark.parametrize(("key", "value"), [("ways", 5), ("ragged", True), ("label_noise", 0.2)])
def test_regression_has_no_classes(key: str, value: object) -> None:
    spec = Spec.of(changed(SINUSOID, f"train.{key}", value))
    with pytest.raises(SpecError, match=f"regression tasks have no `{key}`"):
        spec.train.draw_from(load_data(spec))


def test_classes_need_ways(digits_table: Make) -> None:
    spec = Spec.of(without(digits_table(), "train.ways"))
    with pytest.raises(SpecError, match=r"^\[train\] tasks of classes need `ways`"):
        spec.train.draw_from(load_data(spec))


@pytest.mark.parametrize(
    ("tasks", "error", "said"),
    [
        ({"split": "train", "shots": 5}, SpecError, "tasks of classes need `ways`"),
        ({"split": "dev", "ways": 2}, UnknownNameError, "unknown split 'dev'"),
        ({"split": "train", "ways": 2, "shots": 5000}, DataError, "episodes: class"),
    ],
)
def test_the_table_of_tasks_that_cannot_be_drawn_is_named(
    digits_table: Make, tasks: dict[str, object], error: type[HandfulError], said: str
) -> None:
    spec = Spec.of({**digits_table(), "validation": tasks})
    assert spec.validation is not None
    with pytest.raises(error, match=rf"^\[validation\] {said}"):
        spec.validation.draw_from(load_data(spec))


def test_an_unknown_split(digits_table: Make) -> None:
    spec = Spec.of(digits_table(split="tain"))
    with pytest.raises(UnknownNameError, match="unknown split 'tain'; did you mean 'train'"):
        spec.train.draw_from(load_data(spec))


def test_every_error_is_one_of_ours(digits_table: Make) -> None:
    for value in (None, 3, "x", [], {"name": 3}, {"name": None}, {"name": ["adam"]}):
        for path in ("learner", "encoder", "data", "train", "train.optimizer", "train.schedule"):
            with pytest.raises(HandfulError):
                Spec.of(changed(digits_table(), path, value))
