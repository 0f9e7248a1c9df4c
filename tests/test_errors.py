import inspect

import pytest

from handful import errors
from handful.errors import HandfulError, UnknownNameError, unknown_name

KINDS = {
    "CheckpointError": RuntimeError,
    "CollectionError": RuntimeError,
    "DataError": ValueError,
    "DownloadError": OSError,
    "LabelError": ValueError,
    "MissingExtraError": ImportError,
    "RankError": RuntimeError,
    "ShapeError": ValueError,
    "SpecError": ValueError,
    "StorageError": OSError,
    "UnknownNameError": LookupError,
}


def test_every_kind_is_listed_here() -> None:
    kinds = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, HandfulError)}
    assert kinds == {*KINDS, "HandfulError"}
    assert set(errors.__all__) == {*kinds, "unknown_name"}


@pytest.mark.parametrize(("name", "builtin"), KINDS.items())
def test_an_error_is_ours_and_a_builtin(name: str, builtin: type[Exception]) -> None:
    kind = getattr(errors, name)
    with pytest.raises(HandfulError, match="what came"):
        raise kind("what came")
    with pytest.raises(builtin) as caught:
        raise kind("what came")
    assert str(caught.value) == "what came"


def test_an_unknown_name_lists_the_valid_ones_in_order_and_the_nearest() -> None:
    error = unknown_name("learner", "protypical", ["prototypical", "maml"])
    assert isinstance(error, UnknownNameError)
    assert str(error) == "unknown learner 'protypical'; did you mean 'prototypical'? Valid: maml, prototypical."


def test_an_unknown_name_may_be_anything() -> None:
    assert str(unknown_name("class", 7, ["70", "a"])) == "unknown class '7'; did you mean '70'? Valid: 70, a."
    assert str(unknown_name("class", None, ["a"])).startswith("unknown class 'None'.")


def test_an_unknown_name_like_no_other() -> None:
    assert str(unknown_name("split", "zzz", ["train", "all"])) == "unknown split 'zzz'. Valid: all, train."
    assert str(unknown_name("split", "zzz", [])) == "unknown split 'zzz'. Valid: none."
