"""The rules a reply may have to follow (protocol 6): each a small value that states itself and judges a reply. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from sn37.ifeval.words import sentences, words_of

__all__ = ["CLOSING_PHRASES", "RULES", "Rule", "conflict", "instruction", "rule_of"]

CLOSING_PHRASES = (
    "I hope this is of use to you.",
    "Is there anything else you want to know?",
    "Please ask if something is not clear.",
    "That is all there is to say about it.",
)
"""Without commas or quotation marks, and of common words only: no other rule stands against them."""


@dataclass(frozen=True)
class Rule:
    """One rule. name: how data names it; against: the names of the rules it cannot stand beside."""

    name: ClassVar[str]
    against: ClassVar[frozenset[str]] = frozenset()

    @property
    def prompt(self) -> str:
        """The rule as an instruction to the model."""
        raise NotImplementedError

    def holds(self, reply: str) -> bool:
        """Whether the reply follows the rule."""
        raise NotImplementedError

    @property
    def data(self) -> dict[str, Any]:
        """The rule as JSON data; `rule_of` reads it back."""
        return {"rule": self.name, **asdict(self)}


@dataclass(frozen=True)
class _Count(Rule):
    n: int

    def __post_init__(self) -> None:
        if type(self.n) is not int or self.n < 1:
            raise ValueError(f"n of the rule {self.name} is {self.n!r}; expected a whole number of 1 or more")


@dataclass(frozen=True)
class _Keyword(Rule):
    keyword: str

    def __post_init__(self) -> None:
        if not isinstance(self.keyword, str) or words_of(self.keyword) != [self.keyword]:
            raise ValueError(f"keyword of the rule {self.name} is {self.keyword!r}; expected one word in lower case")


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


class AtMostWords(_Count):
    name = "at_most_words"
    against = frozenset({"at_least_words", "at_most_sentences", "at_least_sentences", "bullets", "ending"})

    @property
    def prompt(self) -> str:
        return f"Use at most {_many(self.n, 'word')}."

    def holds(self, reply: str) -> bool:
        return len(reply.split()) <= self.n


class AtLeastWords(_Count):
    name = "at_least_words"
    against = frozenset({"at_most_words", "at_most_sentences"})

    @property
    def prompt(self) -> str:
        return f"Use at least {_many(self.n, 'word')}."

    def holds(self, reply: str) -> bool:
        return len(reply.split()) >= self.n


class AtMostSentences(_Count):
    name = "at_most_sentences"
    against = frozenset({"at_most_words", "at_least_words", "at_least_sentences", "bullets", "ending"})

    @property
    def prompt(self) -> str:
        return f"Write at most {_many(self.n, 'sentence')}."

    def holds(self, reply: str) -> bool:
        return sentences(reply) <= self.n


class AtLeastSentences(_Count):
    name = "at_least_sentences"
    against = frozenset({"at_most_words", "at_most_sentences"})

    @property
    def prompt(self) -> str:
        return f"Write at least {_many(self.n, 'sentence')}."

    def holds(self, reply: str) -> bool:
        return sentences(reply) >= self.n


class UpperCase(Rule):
    name = "upper_case"
    against = frozenset({"lower_case"})
    prompt = "Write everything in upper case."

    def holds(self, reply: str) -> bool:
        return reply.isupper()


class LowerCase(Rule):
    name = "lower_case"
    against = frozenset({"upper_case"})
    prompt = "Write everything in lower case."

    def holds(self, reply: str) -> bool:
        return reply.islower()


class NoCommas(Rule):
    name = "no_commas"
    prompt = "Use no commas."

    def holds(self, reply: str) -> bool:
        return "," not in reply


class IncludesKeyword(_Keyword):
    name = "includes_keyword"

    @property
    def prompt(self) -> str:
        return f'Use the word "{self.keyword}".'

    def holds(self, reply: str) -> bool:
        return self.keyword in words_of(reply)


@dataclass(frozen=True)
class RepeatsKeyword(_Keyword):
    name = "repeats_keyword"
    n: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _Count.__post_init__(self)  # type: ignore[arg-type]

    @property
    def prompt(self) -> str:
        return f'Use the word "{self.keyword}" exactly {_many(self.n, "time")}.'

    def holds(self, reply: str) -> bool:
        return words_of(reply).count(self.keyword) == self.n


class AvoidsKeyword(_Keyword):
    name = "avoids_keyword"

    @property
    def prompt(self) -> str:
        return f'Do not use the word "{self.keyword}".'

    def holds(self, reply: str) -> bool:
        return self.keyword not in words_of(reply)


class Bullets(_Count):
    name = "bullets"
    against = frozenset({"at_most_words", "at_most_sentences"})

    @property
    def prompt(self) -> str:
        return f"Write exactly {_many(self.n, 'bullet point')}; a bullet point is a line that starts with *."

    def holds(self, reply: str) -> bool:
        return sum(line.lstrip().startswith("*") for line in reply.splitlines()) == self.n


@dataclass(frozen=True)
class Ending(Rule):
    name = "ending"
    against = frozenset({"at_most_words", "at_most_sentences", "quotation"})
    phrase: str

    def __post_init__(self) -> None:
        if not isinstance(self.phrase, str) or not self.phrase.strip():
            raise ValueError(f"phrase of the rule ending is {self.phrase!r}; expected a text")

    @property
    def prompt(self) -> str:
        return f'End with exactly these words: "{self.phrase}"'

    def holds(self, reply: str) -> bool:
        return reply.lower().endswith(self.phrase.lower())


class Quotation(Rule):
    name = "quotation"
    against = frozenset({"ending"})
    prompt = "Put the whole answer in double quotation marks."

    def holds(self, reply: str) -> bool:
        return len(reply) >= 2 and reply.startswith('"') and reply.endswith('"')


_ALL: tuple[type[Rule], ...] = (
    AtMostWords,
    AtLeastWords,
    AtMostSentences,
    AtLeastSentences,
    UpperCase,
    LowerCase,
    NoCommas,
    IncludesKeyword,
    RepeatsKeyword,
    AvoidsKeyword,
    Bullets,
    Ending,
    Quotation,
)
RULES: Mapping[str, type[Rule]] = {rule.name: rule for rule in _ALL}
"""Every rule by its name, in the protocol's order."""


def rule_of(data: Mapping[str, Any]) -> Rule:
    """A rule from its data. Raises ValueError naming what is wrong."""
    name = data.get("rule")
    if not isinstance(name, str) or name not in RULES:
        raise ValueError(f"unknown rule {name!r}; expected one of {', '.join(RULES)}")
    kind = RULES[name]
    expected = {"rule", *(field.name for field in fields(kind))}
    if set(data) != expected:
        raise ValueError(f"the rule {kind.name} has {sorted(data)}; expected {sorted(expected)}")
    return kind(**{field: value for field, value in data.items() if field != "rule"})


def conflict(one: Rule, other: Rule) -> bool:
    """Whether two rules cannot stand in one sample: at odds, the same rule twice, or about the same keyword."""
    if one.name == other.name or other.name in one.against:
        return True
    return isinstance(one, _Keyword) and isinstance(other, _Keyword) and one.keyword == other.keyword


def instruction(question: str, rules: tuple[Rule, ...]) -> str:
    """The prompt of a question under its rules."""
    listed = "\n".join(f"{i}. {rule.prompt}" for i, rule in enumerate(rules, start=1))
    return f"{question}\n\nYour answer must follow each of these rules:\n{listed}"
