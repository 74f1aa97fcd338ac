"""The samples of a task, drawn by its source and, whichever that is, held against one rule: which of them count
is decided from their texts alone (protocol, section 6), so it is the same for every model.
"""

from __future__ import annotations

from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, Sample, TextSample
from sn37.sources.base import Context, Source
from sn37.sources.templates import MAX_CHARACTERS

__all__ = ["draw_samples"]


def draw_samples(source: Source, context: Context, task: str) -> tuple[Sample, ...]:
    """The samples that count, in the order drawn; the others are counted in `context.dropped`, by reason.

    Raises DataFault, with the reasons, where none is left: no model is run for nothing.

    >>> draw_samples(SOURCES["word_sorting"](count=20), context, "WORD_SORTING")
    """
    kept = []
    for sample in source(context):
        if reason := _unusable(sample):
            context.drop(reason)
        else:
            kept.append(sample)
    context.enough(kept, 1, f"the task {task}")
    return tuple(kept)


def _unusable(sample: Sample) -> str:
    """Why a sample is left out for all models, "" where it counts."""
    texts: tuple[str, ...]
    match sample:
        case TextSample(text):
            texts, target = (text,), text
        case ReferenceSample(prompt, reference, system):
            texts, target = (prompt, reference, system), reference
        case ChoiceSample(prompt, choices, answer):
            texts, target = (prompt, *choices, answer), answer
        case InstructionSample(prompts):
            texts, target = prompts, prompts[0]
    if any(len(text) > MAX_CHARACTERS for text in texts):
        return f"samples with a text of over {MAX_CHARACTERS} characters"
    return "" if target.strip() else "samples with an empty text or reference"
