"""Typed values as JSON files: written so that the same value gives the same bytes, read back strictly.

Knows nothing of what a value means. A reader refuses what it does not know: a format of another version, a field that
is missing, unknown or of another type. It does not protect against a file that was changed to another valid one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sn37.documents import mistakes
from sn37.errors import ConfigError, EvaluatorFault
from sn37.files import write_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["FORMAT", "Plain", "read", "to_data", "typed", "write"]

FORMAT = 2
"""The format of the records that this version writes, and the only one it reads."""

T = TypeVar("T")
_FORMAT_FIELD = "format"
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
    write_json(path, {_FORMAT_FIELD: FORMAT, **to_data(value)})


def read(kind: type[T], path: Path) -> T | None:
    """The value in a file, None where there is no such file.

    Raises ConfigError where another version wrote it; EvaluatorFault, naming the file, the field, what it got and
    what it expects, where it is damaged.
    """
    place = f"the record {path} cannot be read, move it away to go on"
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise EvaluatorFault(f"{place}: {error}") from error
    found = data.pop(_FORMAT_FIELD, 1) if isinstance(data, dict) else FORMAT
    if found != FORMAT:
        raise ConfigError(
            f"the record {path} is of format {found!r}, written by {_writer_of(path)}; this version reads format "
            f"{FORMAT}: move the folder of the records away, or choose another root"
        )
    return typed(kind, data, place)


def to_data(value: object) -> dict[str, object]:
    """A dataclass as JSON data; `typed` reads it back."""
    from pydantic import TypeAdapter

    kind = type(value)
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    data: dict[str, object] = _ADAPTERS[kind].dump_python(value, mode="json")
    return data


def typed(kind: type[T], data: object, place: str) -> T:
    """The value of a dataclass that JSON data stand for. Raises EvaluatorFault naming the place and the field."""
    value, found = mistakes(kind, data, place)
    if value is None:
        raise EvaluatorFault(found[0])
    return value


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no number a record may hold")


def _writer_of(path: Path) -> str:
    """Which version wrote an epoch's folder, as its manifest says."""
    for folder in (path.parent, path.parent.parent):
        try:
            versions = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["versions"]
            return f"sn37 {versions['sn37']}"
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return "another version of sn37"
