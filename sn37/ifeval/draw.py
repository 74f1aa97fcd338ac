"""Drawing the rules of a sample: two prompts, one set of rules, each keyword from the prompt's own answer. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sn37.ifeval.rules import CLOSING_PHRASES, RULES, Ending, Rule, _Keyword, rule_of
from sn37.ifeval.words import interesting_words

__all__ = ["VERSIONS", "draw_rules"]

VERSIONS: dict[int, tuple[tuple[str, ...], int, int]] = {
    1: (tuple(RULES)[:7], 1, 4),
    2: (tuple(RULES), 2, 5),
}
"""Version -> (the rules it draws from, fewest and most rules of a sample)."""

_N: dict[str, tuple[int, ...]] = {
    "at_most_words": (25, 30, 35, 40, 45),
    "at_least_words": (25, 30, 35, 40, 45),
    "at_most_sentences": (1, 2, 3),
    "at_least_sentences": (2, 3),
    "repeats_keyword": (1, 2, 3, 4),
    "bullets": (1, 2, 3),
}

Rules = tuple[Rule, ...]


def draw_rules(generator: random.Random, answers: tuple[str, str], version: int = 2) -> tuple[Rules, Rules]:
    """The rules of the two prompts of a sample: the same but for their keywords, none in conflict.

    answers: of the two questions; a rule about a keyword is drawn only while both have an interesting
    word left. Where conflicts leave no choice there are fewer rules than drawn, never none.
    """
    if version not in VERSIONS:
        raise ValueError(f"version is {version!r}; expected one of {', '.join(map(str, VERSIONS))}")
    names, fewest, most = VERSIONS[version]
    count = generator.randint(fewest, most)
    keywords = [interesting_words(answer) for answer in answers]
    pairs: list[tuple[Rule, Rule]] = []
    for name in generator.sample(names, len(names)):
        if len(pairs) == count:
            break
        if any(name in rule.against for rule, _ in pairs):
            continue
        if not issubclass(RULES[name], _Keyword):
            rule = _draw(generator, name)
            pairs.append((rule, rule))
        elif all(keywords):
            pairs.append(_draw_keyword(generator, name, keywords))
    return tuple(first for first, _ in pairs), tuple(second for _, second in pairs)


def _draw(generator: random.Random, name: str) -> Rule:
    if name == Ending.name:
        return Ending(generator.choice(CLOSING_PHRASES))
    return rule_of({"rule": name, **_n(generator, name)})


def _draw_keyword(generator: random.Random, name: str, keywords: Sequence[list[str]]) -> tuple[Rule, Rule]:
    n = _n(generator, name)
    first, second = (words.pop(generator.randrange(len(words))) for words in keywords)
    return rule_of({"rule": name, "keyword": first, **n}), rule_of({"rule": name, "keyword": second, **n})


def _n(generator: random.Random, name: str) -> dict[str, int]:
    return {"n": generator.choice(_N[name])} if name in _N else {}
