"""Plain data from outside (TOML, YAML, JSON, a notebook's parameters), checked against typed values.

The types are the library's own frozen dataclasses; pydantic checks them, strictly: a text is never a number, an unknown
field is a mistake. Every mistake of a document is told, each on a line with its place, what was got and what is
expected. Imports pydantic inside functions only. Knows nothing of competitions, settings or records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from sn37.errors import ConfigError
from sn37.registry import Factory, suggestion

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

__all__ = ["argument_mistakes", "mistakes", "parse"]

T = TypeVar("T")

_MAX_SHOWN = 60
_MODELS: dict[type, type[BaseModel]] = {}


def parse(kind: type[T], data: object, place: str) -> T:
    """A value of `kind`, a dataclass, from plain data. place: where the data is from, for messages.

    Raises ConfigError with every mistake, one a line.

    >>> from sn37.clock import Clock
    >>> parse(Clock, {"genesis": 10, "cadence": 360}, "the clock")
    Clock(genesis=10, cadence=360)
    """
    value, found = mistakes(kind, data, place)
    if value is None:
        raise ConfigError("\n".join(found))
    return value


def mistakes(kind: type[T], data: object, place: str) -> tuple[T | None, list[str]]:
    """The value, or None and every mistake, each a sentence that begins with its place."""
    from pydantic import ConfigDict, create_model

    if kind not in _MODELS:  # making a model takes longer than reading with it
        # The settings of a model hold for the plain dataclasses within it.
        config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
        _MODELS[kind] = create_model("Document", __config__=config, value=(kind, ...))
    value, found = _validated(_MODELS[kind], data, kind)
    return value, [_said(place, sentence) for sentence in found]


def argument_mistakes(factory: Factory[object], data: Mapping[str, object], place: str) -> list[str]:
    """What is wrong with the arguments of a source or method: by their types, or by what it says when it is made."""
    from pydantic import ConfigDict, Field, create_model

    columns: dict[str, Any] = {}
    for name, parameter in factory.arguments.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return []
        untyped = parameter.annotation is parameter.empty or isinstance(parameter.annotation, str)
        default = ... if parameter.default is parameter.empty else None
        # Numbered fields: an argument may be called like something a pydantic model already has.
        columns[f"field{len(columns)}"] = (Any if untyped else parameter.annotation, Field(default, alias=name))
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    arguments = create_model("Arguments", __config__=config, **columns)
    filled, found = _validated(create_model("Document", value=(arguments, ...)), data, tuple(factory.arguments))
    if filled is not None:
        values = dict(zip(factory.arguments, vars(filled).values(), strict=True))
        try:
            factory(**{name: value for name, value in values.items() if name in data})
        except ValueError as error:
            found = [str(error)]
    return [_said(place, sentence) for sentence in found]


def _validated(model: type[BaseModel], data: object, kind: object) -> tuple[Any, list[str]]:
    """The model's value, or None and what is wrong with it. kind: its type, or the names of its fields."""
    from pydantic import ValidationError

    try:
        # Strict JSON takes an array for a tuple but never a text for a number, as a TOML file needs.
        return vars(model.model_validate_json(json.dumps({"value": data}, default=str)))["value"], []
    except ValidationError as error:
        found = [_sentence(problem, data, kind) for problem in error.errors(include_url=False)]
        return None, list(dict.fromkeys(found))


def _sentence(problem: ErrorDetails, data: object, kind: object) -> str:
    """One of pydantic's complaints: the place within the document, what was got, what is expected."""
    steps = problem["loc"][1:]
    place, field = _place(steps, data)
    match problem["type"]:
        case "missing":
            return f"{place}{field} is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            names = _names(_kind_at(kind, steps[:-1]))
            known = f"the known fields are {', '.join(names) or 'none'}"
            return f"{place}unknown field {field}; {known}{suggestion(field, names)}"
        case "union_tag_not_found" | "union_tag_invalid":
            tag = problem["ctx"].get("tag")
            choices = ", ".join(str(member.kind) for member in get_args(_bare(_kind_at(kind, steps))))
            got = "missing" if tag is None else repr(tag)
            return f"{place}{_table(field, place)}kind is {got}; expected one of {choices}"
        case "value_error":
            return f"{place}{_table(field, place)}{problem['ctx']['error']}"
        case "dataclass_type" | "model_type":
            expected = f"a table of {', '.join(_names(_kind_at(kind, steps)))}"
        case _:
            expected = problem["msg"].removeprefix("Input should be ")
    return f"{place}{field} is {_short(problem['input'])}; expected {expected}"


def _said(place: str, sentence: str) -> str:
    """A sentence with its place; one about the whole document begins with its verb."""
    return f"{place}{'' if sentence.startswith(' is ') else ': '}{sentence}"


def _place(steps: Sequence[int | str], data: object) -> tuple[str, str]:
    """The tables that lead to a field, as a prefix, and the field with its place in a list.

    A table of an array is told with its name: `tasks[1] WORDS`; the tag of a union is no table of the document.
    """
    place, field = "", ""
    for step in steps:
        if isinstance(step, int):
            field += f"[{step}]"
            data = data[step] if isinstance(data, list) and step < len(data) else None
            named = isinstance(data, Mapping) and isinstance(data.get("name"), str)
            field += f" {data['name']}" if named and isinstance(data, Mapping) else ""
        elif isinstance(data, Mapping) and data.get("kind") == step and step not in data:
            continue
        else:
            place += _table(field, place)
            field, data = step, data.get(step) if isinstance(data, Mapping) else None
    return place, field


def _table(field: str, place: str) -> str:
    """The name of a table as a prefix: at the top as TOML writes it."""
    if not field:
        return ""
    return f"{field}: " if place or "[" in field else f"[{field}]: "


def _kind_at(kind: object, steps: Sequence[int | str]) -> object:
    """The type that a document has at a place."""
    for step in steps:
        kind = _bare(kind)
        if isinstance(kind, type) and is_dataclass(kind):
            kind = get_type_hints(kind, include_extras=True).get(str(step), object)
        elif any(getattr(member, "kind", None) == step for member in get_args(kind)):
            kind = next(member for member in get_args(kind) if member.kind == step)
        else:
            kind = get_args(kind)[-1 if isinstance(step, str) else 0] if get_args(kind) else object
    return kind


def _bare(kind: object) -> object:
    """A type without what `Annotated` says of it."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _names(kind: object) -> list[str]:
    """The fields of a dataclass, or names that were given as such."""
    bare = _bare(kind)
    if isinstance(bare, tuple):
        return [str(name) for name in bare]
    return [field.name for field in fields(bare)] if isinstance(bare, type) and is_dataclass(bare) else []


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
