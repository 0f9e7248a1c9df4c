"""Tables of a document as typed values: errors say where, what came, and what would be right."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .errors import SpecError, unknown_name
from .files import storage_errors

__all__ = ["Table", "checked", "read_table"]

M = TypeVar("M", bound=BaseModel)


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


def checked(model: type[M], table: Mapping[str, Any], where: str) -> M:
    """A model from a table, with errors that say where, what, and what would be right."""
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        lines = [_explained(model, problem) for problem in error.errors(include_url=False)]
        raise SpecError(f"{where}: " + "; ".join(dict.fromkeys(lines))) from None


def _explained(model: type[BaseModel], problem: Any) -> str:
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


def _takes_boolean(hint: Any) -> bool:
    return hint in (bool, Any) or any(map(_takes_boolean, get_args(hint)))
