"""Tables of a document as typed values: errors say where, what came, and what would be right."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .errors import HandfulError, SpecError, unknown_name
from .files import storage_errors

__all__ = ["Table", "checked", "plain_numbers", "read_table", "said_of"]

M = TypeVar("M", bound=BaseModel)
KINDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true or false", "true or false"),
    list: ("a list", "lists"),
    dict: ("a table", "tables"),
}
"""One of a kind, and many, in words."""
BOUNDS = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}


class Table(BaseModel):
    """A frozen table that refuses unknown keys, infinite numbers, and booleans where numbers are meant."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_as_a_number(cls, value: Any, field: ValidationInfo) -> Any:
        hint = cls.model_fields[str(field.field_name)].annotation
        tables = [table for table in (hint, *get_args(hint)) if isinstance(table, type) and is_dataclass(table)]
        if isinstance(value, dict) and tables:
            hints = get_type_hints(tables[0])
            pairs = [(one, hints.get(key, Any)) for key, one in value.items()]
        else:
            pairs = [(one, hint) for one in (value if isinstance(value, list | tuple) else [value])]
        if any(isinstance(one, bool) and not _takes_boolean(kind) for one, kind in pairs):
            raise PydanticCustomError("boolean", "input should not be true or false")
        return value


def read_table(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML or JSON file.

    Raises:
        SpecError: not TOML or JSON.
        StorageError: not there, or not readable.
    """
    path = Path(path)
    with storage_errors(path, "read"):
        content = path.read_bytes()
    try:
        table = json.loads(content) if path.suffix == ".json" else tomllib.loads(content.decode())
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"{path}: expected {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from error
    if not isinstance(table, dict):
        raise SpecError(f"{path}: expected tables, got {type(table).__name__}")
    return table


def plain_numbers(value: Any) -> Any:
    """The same table with None for numbers that are not finite, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: plain_numbers(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def checked(model: type[M], table: Mapping[str, Any], where: str) -> M:
    """A model from a table, with errors that say where, what, and what would be right."""
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        lines = [_explained(model, table, problem) for problem in error.errors(include_url=False)]
        raise SpecError(f"{where}: " + "; ".join(dict.fromkeys(lines))) from None


def _explained(model: type[BaseModel], given: Mapping[str, Any], problem: Any) -> str:
    key, options = _choice(model, problem["loc"])
    if options:
        value: Any = given
        try:
            for part in key:
                value = value[part]
        except (TypeError, LookupError):  # a default, or what is not as it was given
            value = problem["input"]
        expected = dict.fromkeys(_in_words(option) for option in options)
        return f"{'.'.join(map(str, key))}: expected {', or '.join(expected)}, got {value!r}"
    path = [str(part) for part in problem["loc"]]
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        table: Any = model
        for part in path[:-1]:
            annotation = table.model_fields[part].annotation if part in getattr(table, "model_fields", {}) else None
            options = [annotation, *get_args(annotation)]
            table = next(
                (a for a in options if isinstance(a, type) and (is_dataclass(a) or issubclass(a, BaseModel))), table
            )
        keys = [key.name for key in fields(table)] if is_dataclass(table) else list(table.model_fields)
        return str(unknown_name("key", ".".join(path), [".".join([*path[:-1], key]) for key in keys]))
    if problem["type"] == "missing":
        return f"missing key {'.'.join(path)!r}"
    return f"{'.'.join(path)}: {problem['msg'].lower()}, got {problem['input']!r}"


def _choice(model: type[BaseModel], loc: Sequence[str | int]) -> tuple[list[str | int], list[Any]]:
    """The key of a problem, and the kinds of value that it may have, if there are several.

    Pydantic reports each kind that a value is not, and adds a name of its own for it to the place.
    """
    hint: Any = model
    key: list[str | int] = []
    for part in loc:
        options = _options(hint)
        if len(options) > 1:
            return key, options
        kind, arguments = options[0], get_args(options[0])
        key.append(part)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            hint = Any if field is None else field.annotation
        elif is_dataclass(kind):
            hint = get_type_hints(kind, include_extras=True).get(str(part), Any)
        else:
            hint = arguments[-1] if arguments and arguments[-1] is not ... else arguments[0] if arguments else Any
    return key, []


def _options(hint: Any) -> list[Any]:
    """What a value may be, but None."""
    if get_origin(hint) is Annotated:
        return _options(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [one for one in get_args(hint) if one is not NoneType]
    return [hint]


@contextmanager
def said_of(table: str) -> Iterator[None]:
    """Errors within begin with the name of a table of a document, as '[validation] '; with none if there is none."""
    try:
        yield
    except HandfulError as error:
        if not table:
            raise
        raise type(error)(f"[{table}] {error}") from error


def _in_words(hint: Any, *, many: bool = False) -> str:
    """What a value should be: "a whole number of at least 1", "a list of 2 texts"."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        about = arguments[1:]
        described = next((one.description for one in about if getattr(one, "description", None)), None)
        limits = [limit for one in about for limit in (one, *getattr(one, "metadata", ()))]
        bounds = [f" {word} {getattr(one, key)}" for one in limits for key, word in BOUNDS.items() if hasattr(one, key)]
        return described or _in_words(arguments[0], many=many) + " and".join(bounds)
    if origin is Literal:
        return ", ".join(json.dumps(value) for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(one, many=many) for one in arguments if one is not NoneType)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"{KINDS[dict][many]} of {_in_words(arguments[1], many=True)}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        count = f"{len(arguments)} " if origin is tuple and arguments[-1] is not ... else ""
        return f"{KINDS[list][many]} of {count}{_in_words(arguments[0], many=True)}"
    table = is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, BaseModel))
    return KINDS.get(dict if table else hint, ("another value", "other values"))[many]


def _takes_boolean(hint: Any) -> bool:
    return hint in (bool, Any) or any(map(_takes_boolean, get_args(hint)))
