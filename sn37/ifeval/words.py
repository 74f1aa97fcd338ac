"""Which words are common English, and which are not: words.txt, written for this package, one word a line. Pure."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

__all__ = ["common_words", "interesting_words", "words_of"]

_WORD = re.compile(r"[^\W_]+")
_ENDINGS = (("ies", "y"), ("ied", "y"), ("es", ""), ("s", ""), ("ed", ""), ("d", ""), ("ing", ""), ("ing", "e"))
_MORE_ENDINGS = (("ly", ""), ("er", ""), ("r", ""), ("est", ""), ("st", ""))
_DOUBLED = re.compile(r"([bdgmnprt])\1$")

MIN_LETTERS = 4
"""Letters of the shortest interesting word."""


@cache
def common_words() -> tuple[str, ...]:
    """Common English words of three letters or more: distinct, lower case, sorted."""
    return tuple(files(__package__).joinpath("words.txt").read_text("utf-8").split())


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation, in order."""
    return _WORD.findall(text.lower())


def interesting_words(text: str) -> list[str]:
    """The words that say what the text is about, each once, in order: those that English uses rarely.

    A word is common when it, or what is left without an ending such as -s, -ed or -ing, is in the list.
    """
    common = _common()
    return [
        word
        for word in dict.fromkeys(words_of(text))
        if len(word) >= MIN_LETTERS and word.isascii() and word.isalpha() and not _stems(word) & common
    ]


@cache
def _common() -> frozenset[str]:
    return frozenset(common_words())


def _stems(word: str) -> set[str]:
    endings = _ENDINGS + _MORE_ENDINGS
    stems = {word} | {word.removesuffix(ending) + instead for ending, instead in endings if word.endswith(ending)}
    return stems | {_DOUBLED.sub(r"\1", stem) for stem in stems}
