"""Drawing the rules of a sample: two prompts, one set of rules, each keyword from the prompt's own answer. Pure."""

from __future__ import annotations

import random
from typing import Any

from sn37.ifeval.rules import CLOSING_PHRASES, RULES, Rule
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
        if any(name in RULES[rule.name].against for rule, _ in pairs):
            continue
        takes = RULES[name].takes
        drawn: dict[str, Any] = {"n": generator.choice(_N[name])} if "n" in takes else {}
        if "phrase" in takes:
            drawn["phrase"] = generator.choice(CLOSING_PHRASES)
        if "keyword" not in takes:
            rule = Rule(name, **drawn)
            pairs.append((rule, rule))
        elif all(keywords):
            first, second = (words.pop(generator.randrange(len(words))) for words in keywords)
            pairs.append((Rule(name, keyword=first, **drawn), Rule(name, keyword=second, **drawn)))
    return tuple(first for first, _ in pairs), tuple(second for _, second in pairs)
