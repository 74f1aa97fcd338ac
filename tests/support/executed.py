"""What an executed notebook shows."""

from __future__ import annotations

from pathlib import Path

import nbformat


def complaints(notebook: Path) -> list[str]:
    """What its cells have written to standard error: warnings, mostly."""
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return [output.text for output in outputs if output.get("name") == "stderr"]
