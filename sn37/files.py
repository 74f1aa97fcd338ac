"""The files that travel with the package: notebooks and pipelines.

Pure, but for looking at the disk. In an installed package they lie in its folder `_files`, in a
checkout beside the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sn37.errors import ConfigError

__all__ = ["Kind", "shipped"]

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
