"""The words and sentences of a text, and which words are common English: words.txt, written for this package. Pure."""

from __future__ import annotations

import re
import string
import unicodedata
from functools import cache
from importlib.resources import files

__all__ = ["common_words", "interesting_words", "sentences", "words_of"]

_STOPS = re.compile(r"[.!?…]+")
# What a full stop belongs to: a letter that stands alone, or one of these abbreviations.
_ABBREVIATED = re.compile(r"(?:(?<![\w'\u2019])[^\W\d_]|\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|No|approx))\Z")
_LONGEST_ABBREVIATION = 6
_LETTER = re.compile(r"[^\W\d_]")
_NOT_BLANK = re.compile(r"\S")
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
    """The words of a text in lower case, in order: split at white space, then without any punctuation.

    >>> words_of("It's a *test-case*: ...")
    ['its', 'a', 'testcase']
    """
    pieces = ("".join(c for c in piece if not _is_punctuation(c)) for piece in text.lower().split())
    return [piece for piece in pieces if piece]


def interesting_words(text: str) -> list[str]:
    """The words that say what the text is about, each once, in order, in lower case: those that English uses rarely.

    Only what stands between white space as letters alone counts, so that no fragment of a word is ever asked for.
    A word is common when it, or what is left without an ending such as -s, -ed or -ing, is in the list.
    """
    common = _common()
    return [
        word
        for word in dict.fromkeys(text.lower().split())
        if len(word) >= MIN_LETTERS and word.isascii() and word.isalpha() and not _stems(word) & common
    ]


def sentences(text: str) -> int:
    """How many sentences a text has.

    A sentence ends at a run of `.`, `!`, `?` or `…`, after closing quotes and brackets, at the end of the text or
    before white space that is followed by an upper-case letter, a digit or an opening quote or bracket. A full stop
    behind a single letter or an abbreviation ends none. What stands between two ends counts when it holds a letter, so
    the number of a list item is no sentence, and a last one without a full stop is.

    >>> sentences("J. K. Rowling wrote it."), sentences("Wait... what?"), sentences("No! It is 3.14. So there")
    (1, 1, 3)
    """
    found, start = 0, 0
    for stops in _STOPS.finditer(text):
        end = _sentence_end(text, stops)
        if end is not None:
            found += bool(_LETTER.search(text, start, end))
            start = end
    return found + bool(_LETTER.search(text, start))


def _sentence_end(text: str, stops: re.Match[str]) -> int | None:
    """Where the sentence that the run of stops ends is over; None where it ends none."""
    before = text[max(stops.start() - _LONGEST_ABBREVIATION - 1, 0) : stops.start()]
    if stops.group() == "." and _ABBREVIATED.search(before):
        return None
    end = stops.end()
    while _is_quote(text[end : end + 1], ("Pe", "Pf")):
        end += 1
    following = _NOT_BLANK.search(text, end)
    if following is None:
        return end
    begins = following[0].isupper() or following[0].isdigit() or _is_quote(following[0], ("Ps", "Pi"))
    return end if following.start() > end and begins else None


def _is_quote(character: str, categories: tuple[str, str]) -> bool:
    """Whether it is a straight quotation mark, or a bracket or quotation mark of these Unicode categories."""
    return character != "" and (character in "\"'" or unicodedata.category(character) in categories)


@cache
def _common() -> frozenset[str]:
    return frozenset(common_words())


def _is_punctuation(character: str) -> bool:
    """ASCII punctuation, or of Unicode's category P."""
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _stems(word: str) -> set[str]:
    endings = _ENDINGS + _MORE_ENDINGS
    stems = {word} | {word.removesuffix(ending) + instead for ending, instead in endings if word.endswith(ending)}
    return stems | {_DOUBLED.sub(r"\1", stem) for stem in stems}
