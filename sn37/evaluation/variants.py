"""The same samples in other words, or with their choices in another order: a good task depends on neither. Pure."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, Sample

__all__ = ["WORDINGS", "reordered", "reworded"]

WORDINGS: Mapping[str, str] = {
    "opened politely": "Please answer this.\n\n{prompt}",
    "asked to answer": "{prompt}\n\nYour answer:",
    "all on one line": "",
}
"""Name -> how a prompt is put; "" squeezes its white space."""

_LISTED = re.compile(r"(?m)(?<!\S)\(?([A-Z])[.):]\s+")


def reworded(samples: Sequence[Sample], wording: str) -> tuple[Sample, ...]:
    """The samples, their prompts put in other words; () where they have no prompts, or none changes."""

    def put(prompt: str) -> str:
        return wording.replace("{prompt}", prompt) if wording else " ".join(prompt.split())

    found: list[Sample] = []
    for sample in samples:
        match sample:
            case ReferenceSample(prompt=prompt) | ChoiceSample(prompt=prompt):
                found.append(replace(sample, prompt=put(prompt)))
            case InstructionSample(prompts=(first, second)):
                found.append(replace(sample, prompts=(put(first), put(second))))
            case _:
                return ()
    return tuple(found) if found != list(samples) else ()


def reordered(samples: Sequence[Sample], generator: random.Random) -> tuple[Sample, ...]:
    """The samples with their choices in another order, in the prompt as well; () where no prompt lists them.

    A prompt lists choices by letter (`A. Rome`), where the texts change places and the letter of the right one with
    them, or names each choice once, where they change places.
    """
    found: list[Sample] = []
    for sample in samples:
        if not isinstance(sample, ChoiceSample):
            return ()
        order = generator.sample(range(len(sample.choices)), len(sample.choices))
        found.append(_by_letter(sample, order) or _by_name(sample, order) or sample)
    return tuple(found) if found != list(samples) else ()


def _by_letter(sample: ChoiceSample, order: Sequence[int]) -> ChoiceSample | None:
    marks = [mark for mark in _LISTED.finditer(sample.prompt) if mark[1] in sample.choices][-len(order) :]
    if tuple(mark[1] for mark in marks) != sample.choices or sample.answer not in sample.choices:
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(sample.prompt)]
    texts = [sample.prompt[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    # What stands between one text and the next mark stays in its place, and so does all behind the last line.
    bodies = [re.match(r"[^\n]*\S", text) for text in texts]
    if not all(bodies):
        return None
    words = [body[0] for body in bodies if body]
    prompt = sample.prompt[: marks[0].start()]
    for mark, text, old, new in zip(marks, texts, words, (words[place] for place in order), strict=True):
        prompt += mark[0] + new + text[len(old) :]
    answer = sample.choices[list(order).index(sample.choices.index(sample.answer))]
    return replace(sample, prompt=prompt, answer=answer)


def _by_name(sample: ChoiceSample, order: Sequence[int]) -> ChoiceSample | None:
    pattern = "|".join(rf"(?<!\w){re.escape(choice)}(?!\w)" for choice in sorted(sample.choices, key=len, reverse=True))
    named = [found[0] for found in re.finditer(pattern, sample.prompt)]
    if sorted(named) != sorted(sample.choices):
        return None
    places = iter(order)
    prompt = re.sub(pattern, lambda _: named[next(places)], sample.prompt)
    return replace(sample, prompt=prompt, choices=tuple(sample.choices[place] for place in order))
