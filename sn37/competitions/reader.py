"""Reads a competition from TOML: data only, every name looked up in a registry, every field checked.

A file looks like the ones beside this module. Tables: `[constraints]`, `[epsilon]` with its `kind`,
`[evaluation]` (optional), and one `[[tasks]]` each with `source = { name = ..., <arguments> }` and
`method` alike. Protects against malformed and hostile files; it does not judge whether a competition is any good.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sn37.competition import (
    Competition,
    Constraints,
    Epsilon,
    EvalTask,
    Evaluation,
    Fixed,
    InverseExponential,
    LinearDecay,
    Normalization,
    Unnormalized,
)
from sn37.errors import ConfigError
from sn37.methods import METHODS
from sn37.registry import Registry
from sn37.sources import SOURCES

__all__ = ["ANY_TOKENIZER", "MAX_FILE_BYTES", "parse_toml", "read_competition"]

MAX_FILE_BYTES = 65_536
"""The largest competition file that is read."""

ANY_TOKENIZER = "any"
"""What a file says where each model brings its own tokenizer."""

_EPSILONS: dict[str, type[Epsilon]] = {"fixed": Fixed, "linear_decay": LinearDecay}
_NORMALIZATIONS: dict[str, type[Normalization]] = {"none": Unnormalized, "inverse_exponential": InverseExponential}
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[0-9a-f]{40})?")


def read_competition(file: Path | str, where: str = "", *, builtin_only: bool = False) -> Competition:
    """The competition in a TOML file (a Path) or in a TOML text (a str).

    where: how messages call it (the path by default). builtin_only: only the sources and methods of
    this package may be named. Raises ConfigError naming the file, the field, what it got and what was expected.
    """
    where = where or (str(file) if isinstance(file, Path) else "the competition")
    text = read_text(file, where) if isinstance(file, Path) else file
    return _competition(parse_toml(text, where), where, builtin_only)


def read_text(path: Path, where: str) -> str:
    """The text of a small file. Raises ConfigError where there is none, or too much."""
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else None
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror}); name an existing TOML file") from None
    if data is None:
        raise ConfigError(f"{where}: larger than {MAX_FILE_BYTES} bytes; a competition file is shorter")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: not UTF-8; a competition file is UTF-8 text") from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises ConfigError naming the place of a mistake."""
    if len(text.encode()) > MAX_FILE_BYTES:
        raise ConfigError(f"{where}: larger than {MAX_FILE_BYTES} bytes; a competition file is shorter")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from None


def _competition(data: Mapping[str, Any], where: str, builtin_only: bool) -> Competition:
    from sn37.competitions.tables import checked, fill

    table = dict[str, Any]
    columns = {
        "id": int,
        "name": str,
        "title": (str, ""),
        "description": (str, ""),
        "constraints": table,
        "epsilon": table,
        "evaluation": (table, None),
        "tasks": list[table],
    }
    values = checked(columns, data, where)
    tasks = tuple(_task(task, f"{where}: tasks[{i}]", builtin_only) for i, task in enumerate(values["tasks"]))
    try:
        return Competition(
            id=values["id"],
            name=values["name"],
            title=values.get("title", ""),
            description=values.get("description", "").strip(),
            constraints=_constraints(values["constraints"], f"{where}: [constraints]"),
            epsilon=_kind(_EPSILONS, values["epsilon"], f"{where}: [epsilon]"),
            evaluation=fill(Evaluation, values.get("evaluation", {}), f"{where}: [evaluation]"),
            tasks=tasks,
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _constraints(data: Mapping[str, Any], place: str) -> Constraints:
    from sn37.competitions.tables import fill

    if "tokenizer" not in data:
        raise ConfigError(f"{place}: tokenizer is missing; name a hub repo, or {ANY_TOKENIZER!r}")
    tokenizer = data["tokenizer"]
    if tokenizer == ANY_TOKENIZER:
        return fill(Constraints, {**data, "tokenizer": None}, place)
    if not isinstance(tokenizer, str) or not _REPO.fullmatch(tokenizer):
        expected = f"a hub repo (namespace/name or namespace/name@commit), or {ANY_TOKENIZER!r}"
        raise ConfigError(f"{place}: tokenizer is {tokenizer!r}; expected {expected}")
    return fill(Constraints, data, place)


def _task(data: Mapping[str, Any], place: str, builtin_only: bool) -> EvalTask:
    from sn37.competitions.tables import checked

    table = dict[str, Any]
    columns = {"name": str, "weight": float, "source": table, "method": table, "normalization": (table, None)}
    values = checked(columns, data, place)
    place = f"{place} {values['name']}"
    source, source_args = _entry(SOURCES, values["source"], place, builtin_only)
    method, method_args = _entry(METHODS, values["method"], place, builtin_only)
    normalization = _kind(_NORMALIZATIONS, values.get("normalization", {"kind": "none"}), f"{place}: normalization")
    try:
        return EvalTask(values["name"], source, method, values["weight"], source_args, method_args, normalization)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _entry(
    registry: Registry[Any], data: Mapping[str, Any], place: str, builtin_only: bool
) -> tuple[str, dict[str, Any]]:
    """The name of a registered source or method and its arguments, checked against its signature."""
    from sn37.competitions.tables import arguments

    kind = registry.kind
    place = f"{place}: {kind}"
    known = [name for name in registry if not builtin_only or registry[name].module.startswith(f"sn37.{kind}s.")]
    args = dict(data)
    name = args.pop("name", None)
    if name is None:
        raise ConfigError(f"{place}: name is missing; expected one of {', '.join(known)}")
    if name not in known:
        extra = " (code outside the package is never used here)" if builtin_only and name in registry else ""
        raise ConfigError(f"{place}: unknown {kind} {name!r}{extra}; expected one of {', '.join(known)}")
    arguments(registry[name], args, f"{place} {name}")
    return name, args


def _kind(kinds: Mapping[str, type[Any]], data: Mapping[str, Any], place: str) -> Any:
    from sn37.competitions.tables import fill

    args = dict(data)
    kind = args.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        got = "missing" if kind is None else repr(kind)
        raise ConfigError(f"{place}: kind is {got}; expected one of {', '.join(kinds)}")
    return fill(kinds[kind], args, place)
