"""Instructions that can be checked: rules on the form of a reply, drawn, stated and judged.

Pure: knows nothing of models or where questions come from. Protocol, section 6.
"""

from __future__ import annotations

from sn37.ifeval.draw import VERSIONS, draw_rules
from sn37.ifeval.rules import CLOSING_PHRASES, RULES, Kind, Rule, conflict, instruction, rule_of
from sn37.ifeval.words import common_words, interesting_words, sentences, words_of

__all__ = [
    "CLOSING_PHRASES",
    "RULES",
    "VERSIONS",
    "Kind",
    "Rule",
    "common_words",
    "conflict",
    "draw_rules",
    "instruction",
    "interesting_words",
    "rule_of",
    "sentences",
    "words_of",
]
