"""Chat prompts and well-scored replies from the wandb runs of subnet 18's validators (protocol, section 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sn37.sample import ReferenceSample, Sample
from sn37.sources.authors import SignedRuns, SignedSource
from sn37.sources.base import Context, Count, DataRow, source

__all__ = ["Cortex", "unwanted"]

_PROMPT = re.compile(r"prompts\.([0-9]{1,4})")
_REFUSALS = (
    r"\bi(?:'m| am) sorry\b",
    r"\bi apologi[sz]e\b",
    r"\bi(?:'m| am) (?:afraid|unable|not able)\b",
    r"\b(?:i|we) (?:can ?not|can't|could not|won't|will not|am unable to|do not|don't) "
    r"(?:assist|help|provide|fulfil|answer|comply|create|generate|engage|support|discuss|have)\b",
    r"\bunable to (?:assist|help|provide|offer)\b",
    r"\bnot appropriate\b",
    r"\bethical (?:guidelines|principles)\b",
)
_SPEAKS_OF_ITSELF = (
    r"\b(?:as|i am|i'm|being) (?:a|an|just a|just an) "
    r"(?:(?:text-based|large|helpful|responsible|virtual) )*"
    r"(?:ai|language model|artificial intelligence|assistant|machine)\b",
    r"\b(?:ai|large) language model\b",
    r"\bmy (?:knowledge cut-?\s?off|training data|programming|guidelines)\b",
    r"\bi (?:was|am|have been) (?:trained|programmed|developed|created) (?:by|to|on)\b",
    r"\b(?:chat)?gpt\b",
)
_UNWANTED = re.compile("|".join(_REFUSALS + _SPEAKS_OF_ITSELF), re.IGNORECASE)


@source("cortex")
@dataclass(frozen=True)
class Cortex(SignedSource):
    """Prompts of the last hours and the replies that were scored well."""

    RUNS = SignedRuns("cortex-t/multi-modality", 18, "hotkey", "signature", {"type": "validator"})

    max_samples: Count = 300
    """At most so many samples are kept."""
    min_score: float = 0.85
    """Replies scored lower are left out."""

    def samples_of(self, row: DataRow, context: Context) -> Iterator[Sample]:
        for prompt, reply, score in _replies(row):
            if not prompt or not reply:
                context.drop("replies or prompts without text")
            elif not score >= self.min_score:  # so that NaN is low
                context.drop("replies with a low score")
            elif unwanted(reply):
                context.drop("replies that refuse or speak of themselves")
            else:
                yield ReferenceSample(prompt, reply)


def unwanted(reply: str) -> bool:
    """Whether a reply refuses, or speaks of itself as an AI model."""
    return bool(_UNWANTED.search(reply.replace("\u2019", "'")))


def _replies(row: DataRow) -> Iterator[tuple[str, str, float]]:
    if row.get("modality") != "text":
        return
    uids = sorted(int(match[1]) for key in row if (match := _PROMPT.fullmatch(key)))
    for uid in uids:
        prompt, reply, score = (row.get(f"{key}.{uid}") for key in ("prompts", "responses", "scores"))
        if isinstance(prompt, str) and isinstance(reply, str) and isinstance(score, int | float):
            yield prompt.strip(), reply.strip(), float(score)
