"""The files that travel with the package, and files written so that a kill leaves them whole.

Pure, but for the disk. In an installed package notebooks and pipelines lie in its folder `_files`, in a
checkout beside the package.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import get_ident
from typing import Literal

from sn37.errors import ConfigError, EvaluatorFault, disk_faults

__all__ = [
    "Kind",
    "read_json",
    "shipped",
    "size_bytes",
    "started_from",
    "write_bytes",
    "write_json",
    "write_summary",
    "write_text",
]

Kind = Literal["notebooks", "pipelines"]

_PACKAGE = Path(__file__).resolve().parent


def shipped(kind: Kind, name: str = ".") -> Path:
    """The path of one such file, or of their folder where no name is given.

    Raises ConfigError, naming what there is, where the package has no such file.
    """
    installed = _PACKAGE / "_files" / kind
    folder = installed if installed.is_dir() else _PACKAGE.parent / kind
    if name == ".":
        return folder
    if Path(name).name == name and (folder / name).is_file():
        return folder / name
    present = sorted(path.name for path in folder.glob("[!.]*")) if folder.is_dir() else []
    raise ConfigError(f"no file {name!r} among the {kind} of sn37; expected one of: {', '.join(present) or 'none'}")


def started_from() -> Path:
    """The folder that relative paths mean: where the program, or the notebook server, was started.

    A notebook server starts a kernel in the folder of the notebook; the shell's PWD still names its own.
    """
    here, given = Path.cwd(), Path(os.environ.get("PWD", "."))
    ipython = sys.modules.get("IPython")
    in_kernel = ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
    if in_kernel and given.is_absolute() and len(given.parts) > 1 and here.is_relative_to(given.resolve()):
        return given
    return here


def write_text(path: Path, text: str) -> None:
    """Write a file aside and rename it into place. Raises EvaluatorFault where the disk takes no more."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """`write_text` for bytes."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}")
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with disk_faults(path), aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, data: object) -> None:
    """Write JSON data aside and rename it into place; the same data gives the same bytes.

    Raises TypeError and ValueError on what is no JSON data, numbers that are not finite among them.
    """
    write_text(path, json.dumps(data, indent=1, sort_keys=True, allow_nan=False, default=_plain) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | frozenset | set):
        return sorted(value) if isinstance(value, frozenset | set) else list(value)
    raise TypeError(f"{type(value).__name__} has no place in a record")


def write_summary(path: str, summary: str, **more: object) -> None:
    """Say how a notebook ended, for whoever started it: the last thing it does. path: "" for nobody."""
    if path:
        write_json(Path(path), {"summary": summary, **more})


def size_bytes(path: Path) -> int:
    """What a file takes, or all that lies in a folder; what somebody removes meanwhile does not count."""
    count = 0
    inside = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    for each in inside if path.is_dir() else [path]:
        with suppress(OSError):
            count += each.lstat().st_size
    return count


def read_json(path: Path) -> object:
    """JSON data, or None where there is no such file. Raises EvaluatorFault on a damaged file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EvaluatorFault(f"the record {path} cannot be read: {error}; move it away to go on") from error
