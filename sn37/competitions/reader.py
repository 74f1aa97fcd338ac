"""Reads a competition from TOML: data only, every name looked up in a registry, every field checked.

A file looks like the ones beside this module. Tables: `[constraints]`, `[epsilon]` with its `kind`,
`[evaluation]` (optional), and one `[[tasks]]` each with `source = { name = ..., <arguments> }` and
`method` alike. Protects against malformed and hostile files; it does not judge whether a competition is any good.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

from pydantic import Field

from sn37.competition import (
    ANY_TOKENIZER,
    Competition,
    Constraints,
    Epsilon,
    EvalTask,
    Evaluation,
    Normalization,
    Tasks,
    Unnormalized,
)
from sn37.documents import argument_mistakes, mistakes
from sn37.errors import ConfigError
from sn37.methods import METHODS, Method
from sn37.registry import Registry, suggestion
from sn37.sources import SOURCES, Source
from sn37.values import Checked

__all__ = ["MAX_FILE_BYTES", "competition_from", "parse_toml", "read_competition", "read_text"]

MAX_FILE_BYTES = 65_536
"""The largest competition file that is read."""


def read_competition(file: Path | str, where: str = "", *, builtin_only: bool = False) -> Competition:
    """The competition in a TOML file (a Path) or in a TOML text (a str).

    where: how messages call it (the path by default). builtin_only: only the sources and methods of
    this package may be named. Raises ConfigError naming the file, the field, what it got and what was expected.
    """
    where = where or (str(file) if isinstance(file, Path) else "the competition")
    text = read_text(file, where) if isinstance(file, Path) else file
    return competition_from(parse_toml(text, where), where, builtin_only=builtin_only)


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


def parse_toml(text: str, where: str) -> dict[str, object]:
    """The tables of a TOML text. Raises ConfigError naming the place of a mistake."""
    if len(text.encode()) > MAX_FILE_BYTES:
        raise ConfigError(f"{where}: larger than {MAX_FILE_BYTES} bytes; a competition file is shorter")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from None


@dataclass(frozen=True)
class _Task(Checked):
    """A task as a file has it: the arguments of source and method stand beside their names."""

    name: str
    weight: float
    source: dict[str, object]
    method: dict[str, object]
    normalization: Annotated[Normalization, Field(discriminator="kind")] = Unnormalized()

    RULES = EvalTask.RULES


@dataclass(frozen=True)
class _Document(Checked):
    """A competition as a file, and a manifest, has it."""

    id: int
    name: str
    constraints: Constraints
    epsilon: Annotated[Epsilon, Field(discriminator="kind")]
    tasks: list[_Task]
    title: str = ""
    description: str = ""
    evaluation: Evaluation = Evaluation()
    significance: float | None = None

    RULES = tuple(rule for rule in Competition.RULES if rule.fields != "tasks")


def competition_from(
    data: Mapping[str, object], where: str, *, builtin_only: bool = False, registered: bool = True
) -> Competition:
    """The competition that plain data stand for: the tables of a file, or what a manifest has kept of it.

    where: where the data is from, for messages. builtin_only: only the sources and methods of this package may be
    named. registered: False where sources and methods need not be known here, as to look at a record. Raises
    ConfigError with every mistake, one a line.
    """
    constraints = data.get("constraints")
    if isinstance(constraints, Mapping) and constraints.get("tokenizer") == ANY_TOKENIZER:
        data = {**data, "constraints": {**constraints, "tokenizer": None}}
    document, found = mistakes(_Document, data, where)
    found += [f"{where}: {mistake}" for mistake in _mistakes_together(data)]
    tasks = data.get("tasks")
    if registered:
        for number, task in enumerate(tasks if isinstance(tasks, list) else ()):
            for registry in (SOURCES, METHODS):
                found += _entry_mistakes(registry, task, f"{where}: tasks[{number}]", builtin_only)
    if document is None or found:
        raise ConfigError("\n".join(found))
    try:
        made = [_made(task) for task in document.tasks]
        return Competition(
            **{name: value for name, value in vars(document).items() if name not in ("tasks", "description")},
            description=document.description.strip(),
            tasks=Tasks(made),
        )
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _mistakes_together(data: Mapping[str, object]) -> list[str]:
    """What is wrong with the tasks as a whole, whatever else is wrong with one of them."""
    tasks = data.get("tasks")
    heads = [task for task in tasks if isinstance(task, Mapping)] if isinstance(tasks, list) else []
    if not all(isinstance(task.get("name"), str) and isinstance(task.get("weight"), int | float) for task in heads):
        return []
    shown = {"name": data.get("name", "?"), "tasks": [SimpleNamespace(**task) for task in heads]}
    return [mistake for rule in Competition.RULES if rule.fields == "tasks" for mistake in rule.mistakes(shown)]


def _made(task: _Task) -> EvalTask:
    source, method = dict(task.source), dict(task.method)
    names = str(source.pop("name", "")), str(method.pop("name", ""))
    return EvalTask(task.name, *names, task.weight, source, method, task.normalization)


def _entry_mistakes(
    registry: Registry[Source] | Registry[Method], task: object, place: str, builtin_only: bool
) -> list[str]:
    """What is wrong with the source or the method of a task: its name, or its arguments."""
    kind = registry.kind
    data = task.get(kind) if isinstance(task, Mapping) else None
    if not isinstance(task, Mapping) or not isinstance(data, Mapping):
        return []  # told by its type
    place = f"{place} {task.get('name', '')}: {kind}"
    known = [name for name in registry if not builtin_only or registry[name].module.startswith(f"sn37.{kind}s.")]
    name = data.get("name")
    if name is None:
        return [f"{place}: name is missing; expected one of {', '.join(known)}"]
    if name not in known:
        extra = " (code outside the package is never used here)" if builtin_only and name in registry else ""
        choices = f"expected one of {', '.join(known)}"
        return [f"{place}: unknown {kind} {name!r}{extra}; {choices}{suggestion(name, known)}"]
    arguments = {key: value for key, value in data.items() if key != "name"}
    return argument_mistakes(registry[name], arguments, f"{place} {name}")
