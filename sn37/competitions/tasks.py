"""A validator's own sources and methods: Python files, or installed packages' entry points.

Named in the validator's own settings and nowhere else: never in a competition. What is loaded runs with
all rights of this process.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from sn37.errors import ConfigError

__all__ = ["ENTRY_POINTS", "load_tasks"]

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
