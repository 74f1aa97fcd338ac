"""Tables of a TOML file, checked strictly against a dataclass or a function's arguments.

Knows nothing of competitions. Imports pydantic: import it inside functions only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from sn37.errors import ConfigError
from sn37.registry import Factory

__all__ = ["arguments", "checked", "fill"]

T = TypeVar("T")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def checked(columns: Mapping[str, Any], data: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The given values of `data`, each of the type its column asks for.

    columns: field -> its type, or (its type, default); place: where the table is, for messages.
    Raises ConfigError naming each field that is missing, unknown or of another type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{place} is {_short(data)}; expected a table of {', '.join(columns)}")
    definitions: dict[str, Any] = {}
    for number, (name, column) in enumerate(columns.items()):
        kind, default = column if isinstance(column, tuple) else (column, ...)
        # Numbered fields: an argument may be called like something a pydantic model already has.
        definitions[f"field{number}"] = (kind, Field(default, alias=name))
    model = create_model("Table", __base__=_Table, **definitions)
    try:
        # Strict JSON takes an array for a tuple but never a text for a number, as a TOML file needs.
        filled = model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise ConfigError(_explained(error, list(columns), place)) from None
    values = {name: getattr(filled, f"field{number}") for number, name in enumerate(columns)}
    return {name: value for name, value in values.items() if name in data}


def fill(kind: type[T], data: Mapping[str, Any], place: str) -> T:
    """A frozen dataclass from a table with the same fields; what the class refuses is a ConfigError."""
    hints = get_type_hints(kind)
    columns = {}
    for field in fields(kind):  # type: ignore[arg-type]
        optional = field.default is not MISSING or field.default_factory is not MISSING
        columns[field.name] = (hints[field.name], None) if optional else hints[field.name]
    values = checked(columns, data, place)
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def arguments(factory: Factory[object], data: Mapping[str, Any], place: str) -> None:
    """Check `data` as the arguments of a source or method, by their types and by what it says when it is made."""
    columns: dict[str, Any] = {}
    for name, parameter in factory.arguments.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return
        kind = (
            Any
            if parameter.annotation is parameter.empty or isinstance(parameter.annotation, str)
            else parameter.annotation
        )
        columns[name] = kind if parameter.default is parameter.empty else (kind, None)
    values = checked(columns, data, place)
    try:
        factory(**values)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _explained(error: ValidationError, columns: list[str], place: str) -> str:
    known = ", ".join(columns) or "none"
    problems = []
    for problem in error.errors(include_url=False):
        first, *rest = problem["loc"]
        field = str(first) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
        if problem["type"] == "missing":
            problems.append(f"{field} is missing")
        elif problem["type"] == "extra_forbidden":
            problems.append(f"unknown field {field}; the known fields are {known}")
        else:
            expected = problem["msg"].removeprefix("Input should be ")
            problems.append(f"{field} is {_short(problem['input'])}; expected {expected}")
    return "\n".join(f"{place}: {problem}" for problem in dict.fromkeys(problems))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
