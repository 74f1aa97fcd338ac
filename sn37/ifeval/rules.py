"""The rules a reply may have to follow (protocol 6): each a small value that states itself and judges a reply. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sn37.ifeval.words import sentences, words_of

__all__ = ["CLOSING_PHRASES", "RULES", "Kind", "Rule", "conflict", "instruction", "rule_of"]

CLOSING_PHRASES = (
    "I hope this is of use to you.",
    "Is there anything else you want to know?",
    "Please ask if something is not clear.",
    "That is all there is to say about it.",
)
"""Without commas or quotation marks, and of common words only: no other rule stands against them."""


@dataclass(frozen=True)
class Rule:
    """One rule."""

    name: str
    """Which of `RULES` it is."""
    n: int = 0
    """The count it asks for, where its kind takes one."""
    keyword: str = ""
    """The word it is about, in lower case, where its kind takes one."""
    phrase: str = ""
    """The closing phrase, where its kind takes one."""

    def __post_init__(self) -> None:
        takes = RULES[self.name].takes
        if "n" in takes and (type(self.n) is not int or self.n < 1):
            raise ValueError(f"n of the rule {self.name} is {self.n!r}; expected a whole number of 1 or more")
        if "keyword" in takes and (not isinstance(self.keyword, str) or words_of(self.keyword) != [self.keyword]):
            raise ValueError(f"keyword of the rule {self.name} is {self.keyword!r}; expected one word in lower case")
        if "phrase" in takes and not (isinstance(self.phrase, str) and self.phrase.strip()):
            raise ValueError(f"phrase of the rule {self.name} is {self.phrase!r}; expected a text")

    @property
    def prompt(self) -> str:
        """The rule as an instruction to the model."""
        several = "" if self.n == 1 else "s"
        return RULES[self.name].prompt.format(n=self.n, s=several, keyword=self.keyword, phrase=self.phrase)

    def holds(self, reply: str) -> bool:
        """Whether the reply follows the rule."""
        return RULES[self.name].holds(self, reply)

    @property
    def data(self) -> dict[str, object]:
        """The rule as JSON data; `rule_of` reads it back."""
        return {"rule": self.name, **{name: getattr(self, name) for name in RULES[self.name].takes}}


@dataclass(frozen=True)
class Kind:
    """What the rules of one name have in common."""

    prompt: str
    """The instruction, with places for what the rule takes; {s} is the ending of a plural."""
    holds: Callable[[Rule, str], bool]
    """Whether a reply follows the rule."""
    takes: tuple[str, ...] = ()
    """Which of n, keyword and phrase such a rule has."""
    against: frozenset[str] = field(default=frozenset())
    """The names of the rules it cannot stand beside."""


def _bullets(reply: str) -> int:
    return sum(line.lstrip().startswith("*") for line in reply.splitlines())


_SHORT = ("at_most_words", "at_most_sentences")
_COUNTS = frozenset((*_SHORT, "at_least_words", "at_least_sentences"))

RULES: Mapping[str, Kind] = {
    "at_most_words": Kind(
        "Use at most {n} word{s}.",
        lambda rule, reply: len(reply.split()) <= rule.n,
        ("n",),
        _COUNTS - {"at_most_words"} | {"bullets", "ending"},
    ),
    "at_least_words": Kind(
        "Use at least {n} word{s}.", lambda rule, reply: len(reply.split()) >= rule.n, ("n",), frozenset(_SHORT)
    ),
    "at_most_sentences": Kind(
        "Write at most {n} sentence{s}.",
        lambda rule, reply: sentences(reply) <= rule.n,
        ("n",),
        _COUNTS - {"at_most_sentences"} | {"bullets", "ending"},
    ),
    "at_least_sentences": Kind(
        "Write at least {n} sentence{s}.", lambda rule, reply: sentences(reply) >= rule.n, ("n",), frozenset(_SHORT)
    ),
    "upper_case": Kind(
        "Write everything in upper case.", lambda rule, reply: reply.isupper(), against=frozenset(("lower_case",))
    ),
    "lower_case": Kind(
        "Write everything in lower case.", lambda rule, reply: reply.islower(), against=frozenset(("upper_case",))
    ),
    "no_commas": Kind("Use no commas.", lambda rule, reply: "," not in reply),
    "includes_keyword": Kind(
        'Use the word "{keyword}".', lambda rule, reply: rule.keyword in words_of(reply), ("keyword",)
    ),
    "repeats_keyword": Kind(
        'Use the word "{keyword}" exactly {n} time{s}.',
        lambda rule, reply: words_of(reply).count(rule.keyword) == rule.n,
        ("keyword", "n"),
    ),
    "avoids_keyword": Kind(
        'Do not use the word "{keyword}".', lambda rule, reply: rule.keyword not in words_of(reply), ("keyword",)
    ),
    "bullets": Kind(
        "Write exactly {n} bullet point{s}; a bullet point is a line that starts with *.",
        lambda rule, reply: _bullets(reply) == rule.n,
        ("n",),
        frozenset(_SHORT),
    ),
    "ending": Kind(
        'End with exactly these words: "{phrase}"',
        lambda rule, reply: reply.lower().endswith(rule.phrase.lower()),
        ("phrase",),
        frozenset((*_SHORT, "quotation")),
    ),
    "quotation": Kind(
        "Put the whole answer in double quotation marks.",
        lambda rule, reply: len(reply) > 1 and reply.startswith('"') and reply.endswith('"'),
        against=frozenset(("ending",)),
    ),
}
"""Every kind of rule by its name, in the protocol's order."""


def rule_of(data: Mapping[str, object]) -> Rule:
    """A rule from its data. Raises ValueError naming what is wrong.

    >>> rule_of({"rule": "at_most_words", "n": 25}).prompt
    'Use at most 25 words.'
    """
    name = data.get("rule")
    if not isinstance(name, str) or name not in RULES:
        raise ValueError(f"unknown rule {name!r}; expected one of {', '.join(RULES)}")
    expected = {"rule", *RULES[name].takes}
    if set(data) != expected:
        raise ValueError(f"the rule {name} has {sorted(data)}; expected {sorted(expected)}")
    make: Callable[..., Rule] = Rule  # it checks the types of its fields itself
    return make(name, **{key: value for key, value in data.items() if key != "rule"})


def conflict(one: Rule, other: Rule) -> bool:
    """Whether two rules cannot stand in one sample: at odds, the same rule twice, or about the same keyword."""
    if one.name == other.name or other.name in RULES[one.name].against:
        return True
    return one.keyword != "" and one.keyword == other.keyword


def instruction(question: str, rules: tuple[Rule, ...]) -> str:
    """The prompt of a question under its rules."""
    listed = "\n".join(f"{i}. {rule.prompt}" for i, rule in enumerate(rules, start=1))
    return f"{question}\n\nYour answer must follow each of these rules:\n{listed}"
