"""A part of a document: a name from a catalog and the keyword arguments of what stands there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model, model_validator
from pydantic_core import to_jsonable_python

from .errors import unknown_name
from .tables import Table, checked

__all__ = ["Part", "completed", "entry_of", "options_of"]


class Part(BaseModel):
    """A named part and its options. The name "hf:NAME" is short for the name "hf" and the option model = "NAME"."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @model_validator(mode="before")
    @classmethod
    def _long(cls, table: Any) -> Any:
        if isinstance(table, Mapping) and isinstance(table.get("name"), str) and "model" not in table:
            name, colon, model = table["name"].partition(":")
            return {**table, "name": name, "model": model} if colon else table
        return table

    @property
    def options(self) -> dict[str, Any]:
        """All but the name."""
        return dict(self.model_extra or {})


def entry_of(kind: str, part: Part, catalog: Mapping[str, Any]) -> Any:
    """What stands in a catalog under the name of a part; UnknownNameError if nothing does."""
    if part.name not in catalog:
        raise unknown_name(kind, part.name, catalog)
    return catalog[part.name]


def options_of(target: Callable[..., Any], part: Part, where: str, *, skip: int = 0) -> dict[str, Any]:
    """The options of a part, checked against the keyword arguments of what they are for."""
    options = checked(_arguments(target, skip), part.options, f"[{where}] {part.name}")
    return {name: getattr(options, name) for name in options.model_fields_set}


def completed(target: Callable[..., Any], part: Part, *, skip: int = 0) -> dict[str, Any]:
    """A part as JSON values, with the defaults of all options that it leaves out."""
    options = checked(_arguments(target, skip), part.options, part.name)
    return {"name": part.name, **to_jsonable_python(options.model_dump(), fallback=repr)}


def _kind_of(default: Any) -> Any:
    """The type of an argument of torch's, whose hints allow tensors: by its default."""
    if default is None or isinstance(default, bool):
        return bool if default is not None else bool | None
    if isinstance(default, int | float):
        return float
    return tuple[float, float] if isinstance(default, tuple) and len(default) == 2 else Any


@cache
def _arguments(target: Callable[..., Any], skip: int) -> type[BaseModel]:
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    foreign = function.__module__.startswith("torch")
    hints = {} if foreign else get_type_hints(function)
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(target).parameters.items())[skip:]:
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (_kind_of(default) if foreign else hints.get(name, Any), default)
    return create_model("Options", __base__=Table, **fields)
