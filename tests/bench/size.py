"""`make size`: how many lines each room of the library has, and how many of them are code.

With a commit, `make size BEFORE=0af38b9` shows its lines beside. Needs only git and the standard library.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
LIBRARY = ("core", "competitions", "sources", "methods", "ifeval", "data", "evaluation", "records", "analysis")
CORE = ("__init__", "errors", "clock", "competition", "schedule", "submission", "incentive", "sample", "registry")
TOTALS = (
    ("research library", 6_000, lambda room: room in LIBRARY),
    ("outside devnet", 13_500, lambda room: room != "devnet"),
    ("devnet", 4_000, lambda room: room == "devnet"),
)
"""Sums of rooms, and what each may have."""


def files(commit: str | None) -> Iterator[tuple[PurePosixPath, str]]:
    """The Python files of `sn37/` with their texts: of a commit, or as they lie there."""
    if commit is None:
        for path in sorted((ROOT / "sn37").rglob("*.py")):
            yield PurePosixPath(path.relative_to(ROOT).as_posix()), path.read_text(encoding="utf-8")
        return
    for name in _git("ls-tree", "-r", "--name-only", commit, "sn37").splitlines():
        if name.endswith(".py"):
            yield PurePosixPath(name), _git("show", f"{commit}:{name}")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout


def room_of(path: PurePosixPath) -> str:
    """A folder of `sn37/`; `core` for the pure files beside them, `top` for the others."""
    if len(path.parts) > 2:
        return path.parts[1]
    return "core" if path.stem in (*CORE, "protocol", "files", "html") else "top"


def code_lines(text: str) -> int:
    """Lines that hold code: no blank line, no comment, no docstring."""
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documentation.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - documentation)


def sizes(commit: str | None) -> dict[str, tuple[int, int]]:
    """room -> (lines, lines of code)."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, text in files(commit):
        room = found[room_of(path)]
        room[0] += len(text.splitlines())
        room[1] += code_lines(text)
    return {room: (lines, code) for room, (lines, code) in found.items()}


def main(commit: str | None) -> None:
    """Print the table, largest rooms first, then the sums and what they may be."""
    now = sizes(None)
    before = sizes(commit) if commit else {}
    print(f"{'room':<17}{'lines':>8}{'code':>8}" + (f"{'before':>10}{'code':>8}" if commit else ""))
    for room in sorted({*now, *before}, key=lambda room: (-now.get(room, (0, 0))[0], room)):
        _print(room, now.get(room, (0, 0)), before.get(room, (0, 0)) if commit else None)
    print()
    for name, most, belongs in TOTALS:
        sums = [_sum([size for room, size in part.items() if belongs(room)]) for part in (now, before)]
        _print(name, sums[0], sums[1] if commit else None, f"   at most {most:,}")


def _sum(parts: list[tuple[int, int]]) -> tuple[int, int]:
    return sum(lines for lines, _ in parts), sum(code for _, code in parts)


def _print(name: str, now: tuple[int, int], before: tuple[int, int] | None, note: str = "") -> None:
    then = "" if before is None else f"{before[0]:>10,}{before[1]:>8,}"
    print(f"{name:<17}{now[0]:>8,}{now[1]:>8,}{then}{note}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
