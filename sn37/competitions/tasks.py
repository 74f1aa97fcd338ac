"""A validator's own sources and methods: Python files, or installed packages' entry points; cells as such a file.

Named in the validator's own settings and nowhere else: never in a competition. What is loaded runs with
all rights of this process.
"""

from __future__ import annotations

import hashlib
import linecache
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType

from sn37.competition import Competition
from sn37.errors import ConfigError
from sn37.methods import METHODS
from sn37.sources import SOURCES

__all__ = ["ENTRY_POINTS", "code_of", "load_tasks"]

ENTRY_POINTS = "sn37.tasks"
"""The entry-point group under which an installed package offers a module with sources and methods."""


def load_tasks(names: Iterable[str | Path], base_dir: Path | None = None) -> list[str]:
    """Import files (`*.py`) and entry points, whose decorators fill the registries; returns the modules' names.

    Loading one again does nothing. Raises ConfigError naming what cannot be found or imported.
    """
    return [_file(base_dir or Path(), Path(n)) if str(n).endswith(".py") else _entry_point(str(n)) for n in names]


def _file(base_dir: Path, path: Path) -> str:
    path = (base_dir / path.expanduser()).resolve()
    name = f"sn37_tasks_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return name
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"tasks: there is no Python file {path}; name an existing one, or an entry point")
    module = module_from_spec(spec)
    # Registered first, as any import does: dataclasses and pickles look a class's module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"tasks: {path} cannot be imported: {type(error).__name__}: {error}") from error
    return name


def _entry_point(name: str) -> str:
    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in offered:
        known = ", ".join(sorted(offered)) or "none is installed"
        raise ConfigError(f"tasks: no entry point {name!r} in the group {ENTRY_POINTS} ({known}), and no .py file")
    try:
        offered[name].load()
    except Exception as error:
        raise ConfigError(f"tasks: the entry point {name} cannot be imported: {error}") from error
    return offered[name].module


def code_of(competition: Competition) -> str:
    """The cells in which its sources and methods are defined, as a file for `load_tasks`; "" where it needs none.

    A cell goes in whole, with all that stands in it. Raises ConfigError where its text is not known.
    """
    cells: dict[str, None] = {}
    for task in competition.tasks:
        for factory in (SOURCES[task.source], METHODS[task.method]):
            if factory.module == "__main__":
                cells[_cell(factory.described)] = None
    return "\n\n".join(cell.strip() + "\n" for cell in cells)


def _cell(defined: object) -> str:
    """The text of the cell that a function, or a class with methods of its own, is defined in."""
    parts = [defined, *(vars(defined).values() if isinstance(defined, type) else ())]
    files = [part.__code__.co_filename for part in parts if isinstance(part, FunctionType)]
    text = next((text for file in files if (text := "".join(linecache.getlines(file)))), "")
    if not text:
        raise ConfigError(f"{defined!r} is not defined in a notebook's cell; write it into a Python file yourself")
    return text
