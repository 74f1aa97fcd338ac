"""Plain data from outside (TOML, YAML, JSON, a notebook's parameters), checked against typed values.

The types are the library's own frozen dataclasses; pydantic checks them, strictly: a text is never a number, an unknown
field is a mistake. Every mistake of a document is told, each on a line with its place, what was got and what is
expected. Imports pydantic inside functions only. Knows nothing of competitions, settings or records.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from sn37.errors import ConfigError
from sn37.registry import Factory, suggestion
from sn37.values import Checked

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
    from pydantic import ConfigDict, ValidationError, create_model

    if kind not in _MODELS:  # making a model takes longer than reading with it
        # The settings of a model hold for the plain dataclasses within it.
        config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
        _MODELS[kind] = create_model("Document", __config__=config, value=(kind, ...))
    try:
        # Strict JSON takes an array for a tuple but never a text for a number, as a TOML file needs.
        text = json.dumps({"value": data}, default=_plain)
        return vars(_MODELS[kind].model_validate_json(text))["value"], []
    except ValidationError as error:
        problems = error.errors(include_url=False)
        found = [line for problem in problems for line in _sentence(problem, data, kind).splitlines()]
        found += _hidden([problem["loc"][1:] for problem in problems], data, kind)
    except (TypeError, RecursionError) as error:  # what JSON cannot say
        found = [str(error)]
    return None, [_said(place, sentence) for sentence in dict.fromkeys(found)]


def argument_mistakes(factory: Factory[object], data: Mapping[str, object], place: str) -> list[str]:
    """What is wrong with the arguments of a source or method: by their types, or by what it says when it is made."""
    parameters = factory.arguments.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return []
    kind = factory.described
    if not isinstance(kind, type):  # a plain function: as if its parameters were the fields of a dataclass
        kind = make_dataclass("Arguments", [_column(parameter) for parameter in parameters], kw_only=True)
    return mistakes(kind, data, place)[1]


def _column(parameter: inspect.Parameter) -> tuple[str, Any, Any]:
    untyped = parameter.annotation is parameter.empty or isinstance(parameter.annotation, str)
    needed = parameter.default is parameter.empty
    default = field() if needed else field(default_factory=lambda: parameter.default)
    return parameter.name, Any if untyped else parameter.annotation, default


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}; expected texts, numbers, true, false, lists and tables")


def _hidden(places: Sequence[tuple[int | str, ...]], data: object, kind: object) -> Iterator[str]:
    """What a table's rules say of its other fields where some are wrong: pydantic has not come to ask it then."""
    tables: dict[tuple[int | str, ...], set[int | str]] = {}
    for place in places:
        for depth, step in enumerate(place):
            tables.setdefault(place[:depth], set()).add(step)
    for steps, wrong in tables.items():
        table, given = _bare(_kind_at(kind, steps)), _data_at(data, steps)
        if isinstance(table, type) and issubclass(table, Checked) and isinstance(given, Mapping):
            known = {name: value for name, value in {**_defaults(table), **given}.items() if name not in wrong}
            above, name = _place(steps, data)
            yield from (f"{above}{_table(name, above)}{mistake}" for mistake in table.mistakes(known))


def _defaults(kind: Any) -> dict[str, object]:
    made = {each.name: each.default_factory() for each in fields(kind) if each.default_factory is not MISSING}
    return made | {each.name: each.default for each in fields(kind) if each.default is not MISSING}


def _sentence(problem: ErrorDetails, data: object, kind: object) -> str:
    """One of pydantic's complaints: the place within the document, what was got, what is expected."""
    steps = problem["loc"][1:]
    place, field = _place(steps, data)
    match problem["type"]:
        case "missing":
            table = _bare(_kind_at(kind, steps[:-1]))
            rules = table.RULES if isinstance(table, type) and issubclass(table, Checked) else ()
            wanted = [f"; expected {rule.expected}" for rule in rules if rule.fields == steps[-1]]
            return f"{place}{field} is missing{''.join(wanted[:1])}"
        case "extra_forbidden" | "unexpected_keyword_argument":
            names = _names(_kind_at(kind, steps[:-1]))
            known = f"the known fields are {', '.join(names) or 'none'}"
            return f"{place}unknown field {field}; {known}{suggestion(field, names)}"
        case "union_tag_not_found" | "union_tag_invalid":
            tag = problem["ctx"].get("tag")
            kinds = [str(member.kind) for member in get_args(_bare(_kind_at(kind, steps)))]
            got = "missing" if tag is None else repr(tag)
            near = suggestion(tag, kinds)
            return f"{place}{_table(field, place)}kind is {got}; expected one of {', '.join(kinds)}{near}"
        case "value_error":
            lines = str(problem["ctx"]["error"]).splitlines()
            return "\n".join(f"{place}{_table(field, place)}{line}" for line in lines)
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


def _data_at(data: object, steps: Sequence[int | str]) -> object:
    """What a document holds at a place."""
    for step in steps:
        if isinstance(step, int):
            data = data[step] if isinstance(data, list | tuple) and step < len(data) else None
        elif isinstance(data, Mapping) and not (data.get("kind") == step and step not in data):
            data = data.get(step)
    return data


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
