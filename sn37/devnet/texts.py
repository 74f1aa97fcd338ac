"""English prose at hand on every machine: the documentation texts that come with Python itself.

From pydoc's language topics and the docstrings of a fixed list of standard modules (parsed, never
imported), in an order that depends on nothing but those texts. Another version of Python words some
of them differently: a devnet therefore publishes what it used, and nobody else reads this module's
output as data. Knows nothing of tokenizers and models.
"""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sn37.errors import EvaluatorFault

__all__ = ["Texts", "standard_texts"]

_MODULES = (
    "concurrent/futures/_base configparser contextlib csv difflib doctest fractions json/__init__ json/decoder "
    "json/encoder logging/__init__ logging/handlers os platform random sched shutil socket socketserver ssl "
    "statistics tempfile textwrap threading timeit traceback turtle typing unittest/case urllib/parse uuid"
)
"""Standard modules with much prose; one that a version of Python lacks is left out."""

_LEAST_CHARACTERS = 80
_LEAST_LETTERS = 0.72
_CODE = re.compile(r"^\s*(>>>|\.\.\. |\* \* |::=)|::=|[{}|]|---|===|\*\*\*", re.MULTILINE)
_BLANK = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Texts:
    """Texts of about `characters` characters each, cut at paragraphs; no paragraph is in both parts."""

    train: tuple[str, ...]
    """What models learn from."""
    eval: tuple[str, ...]
    """What they are judged by."""


def standard_texts(characters: int = 700, eval_every: int = 6) -> Texts:
    """The standard library's own prose; every `eval_every`-th text is kept for evaluation.

    Raises EvaluatorFault when this Python carries no such texts.
    """
    texts = list(_texts(characters))
    if len(texts) < 10 * eval_every:
        raise EvaluatorFault(
            f"this Python carries {len(texts)} documentation texts; expected {10 * eval_every} or more: "
            "install its whole standard library, with pydoc_data"
        )
    train = tuple(text for i, text in enumerate(texts) if i % eval_every)
    return Texts(train, tuple(texts[::eval_every]))


def _texts(characters: int) -> Iterator[str]:
    seen: set[str] = set()
    for document in _documents():
        paragraphs: list[str] = []
        for paragraph in _paragraphs(document):
            if paragraph in seen:
                continue
            seen.add(paragraph)
            paragraphs.append(paragraph)
            if sum(map(len, paragraphs)) >= characters:
                yield "\n".join(paragraphs)
                paragraphs = []


def _documents() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions ship Python without it
        pass
    else:
        yield from (topics[name] for name in sorted(topics))
    library = Path(sysconfig.get_path("stdlib"))
    for name in _MODULES.split():
        path = library / f"{name}.py"
        if path.is_file():
            yield "\n\n".join(_docstrings(path.read_text(encoding="utf-8")))


def _docstrings(source: str) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield inspect.cleandoc(text)


def _paragraphs(document: str) -> Iterable[str]:
    """The document's paragraphs of plain prose, each on one line."""
    for paragraph in _BLANK.split(document):
        line = " ".join(paragraph.split())
        letters = sum(c.isalpha() and c.isascii() for c in line)
        if len(line) >= _LEAST_CHARACTERS and letters >= _LEAST_LETTERS * len(line) and not _CODE.search(paragraph):
            yield line
