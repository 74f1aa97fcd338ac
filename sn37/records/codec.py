"""Typed values as JSON files: written so that the same value gives the same bytes, read back strictly.

Knows nothing of what a value means. A reader refuses what it does not know: a format of another version, a field that
is missing, unknown or of another type. It does not protect against a file that was changed to another valid one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sn37.errors import ConfigError, EvaluatorFault
from sn37.files import write_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["FORMAT", "Plain", "read", "to_data", "typed", "write"]

FORMAT = 2
"""The format of the records that this version writes, and the only one it reads."""

T = TypeVar("T")
_FORMAT_KEY = "format"
_MAX_SHOWN = 60
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


@dataclass(frozen=True)
class Plain:
    """How a value of another room stands in a file; goes beside its type: `Annotated[Competition, Plain(...)]`."""

    read: Callable[[Any], object]
    """The value that JSON data stand for. Raises ValueError."""
    write: Callable[[Any], object]
    """The JSON data that stand for a value."""

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> Any:
        from pydantic_core import core_schema

        written = core_schema.plain_serializer_function_ser_schema(self.write)
        return core_schema.no_info_plain_validator_function(self.read, serialization=written)


def write(path: Path, value: object) -> None:
    """Write a dataclass aside and rename it into place. Raises ValueError on numbers that are not finite."""
    write_json(path, {_FORMAT_KEY: FORMAT, **to_data(value)})


def to_data(value: object) -> dict[str, object]:
    """A dataclass as JSON data; `typed` reads it back."""
    data: dict[str, object] = _adapter(type(value)).dump_python(value, mode="json")
    return data


def read(kind: type[T], path: Path) -> T | None:
    """The value in a file, None where there is no such file.

    Raises ConfigError where another version wrote it; EvaluatorFault, naming the file, the field, what it got and
    what it expects, where it is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, parse_constant=_refuse)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise EvaluatorFault(f"the record {path} cannot be read: {error}; move it away to go on") from error
    found = data.get(_FORMAT_KEY, 1) if isinstance(data, dict) else FORMAT
    if found != FORMAT:
        raise ConfigError(
            f"the record {path} is of format {found!r}, written by {_writer_of(path)}; this version reads format "
            f"{FORMAT}: move the folder of the records away, or choose another root"
        )
    return typed(kind, text, f"the record {path} cannot be read, move it away to go on", ignore=(_FORMAT_KEY,))


def typed(kind: type[T], text: str, place: str, ignore: tuple[str, ...] = ()) -> T:
    """The value of a type that a JSON text stands for. Raises EvaluatorFault naming the place and the field.

    ignore: fields of the text that are not the value's.
    """
    from pydantic import ValidationError

    adapter = _adapter(kind)
    try:
        value: T = adapter.validate_json(text, strict=True)
    except ValidationError as error:
        raise EvaluatorFault(f"{place}: {_problem(error)}") from error
    # What a type has no field for is dropped without a word, also deep inside: so it is looked for in what came out.
    given = {name: item for name, item in json.loads(text).items() if name not in ignore}
    unknown = next(_unknown(given, adapter.dump_python(value, mode="json"), ""), None)
    if unknown is not None:
        raise EvaluatorFault(f"{place}: {unknown}")
    return value


def _adapter(kind: type) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no number a record may hold")


def _problem(error: Any) -> str:
    """The first of pydantic's complaints, in one sentence."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] == "missing":
        return f"{field} is missing"
    if first["type"] == "value_error":
        return f"{field}: {first['ctx']['error']}"
    shown = repr(first["input"])
    shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[: _MAX_SHOWN - 3]}..."
    return f"{field} is {shown}; expected {first['msg'].removeprefix('Input should be ')}"


def _unknown(given: object, known: object, place: str) -> Iterator[str]:
    """Each field of `given` that `known` has not, in one sentence."""
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        for name, item in given.items():
            if name not in known:
                where = f" of {place}" if place else ""
                yield f"unknown field {name}{where}; the known fields are {', '.join(known)}"
            else:
                yield from _unknown(item, known[name], f"{place}.{name}".removeprefix("."))
    elif isinstance(given, list) and isinstance(known, list):
        for index, (item, counterpart) in enumerate(zip(given, known, strict=True)):
            yield from _unknown(item, counterpart, f"{place}.{index}".removeprefix("."))


def _writer_of(path: Path) -> str:
    """Which version wrote an epoch's folder, as its manifest says."""
    for folder in (path.parent, path.parent.parent):
        try:
            versions = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["versions"]
            return f"sn37 {versions['sn37']}"
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return "another version of sn37"
