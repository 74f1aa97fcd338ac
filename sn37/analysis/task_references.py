"""Whether a task's references can be right: do they pass the method, does one contradict another, do strong models?

Says how sure that is. It does not see through models that agree for a reason of their own (one family, one training
set): they contradict a right reference together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sn37.analysis.task_evidence import LEVEL, Evidence, Finding, Grade
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, Sample, TextSample

__all__ = ["Contradiction", "contradictions", "copies", "gold", "question", "reference", "wrong_references"]

WRONG_SHARE = 0.02
"""From this share of wrong references on, the best models fight over mistakes."""
REPEATED = 0.2
"""From this share of samples that another seed draws as well, a task can be learned by heart."""


def gold(e: Evidence) -> Iterator[Finding]:
    """Whether the references themselves pass the method."""
    outcome = e.gold.outcome
    if outcome is None:
        yield Finding("gold answers", "open", f"not scored: {e.gold.refused}.")
        return
    lost = tuple(place for place, value in zip(outcome.places, outcome.values, strict=True) if value > 1e-9)
    if lost:
        yield Finding(
            "gold answers",
            "defect",
            f"the references themselves score {outcome.score:.4f}; expected 0: {_listed(lost)} cannot be won.",
            f"Make the source give references that {e.task.method} takes (is the answer among the choices, does the "
            "tokenizer keep the text?).",
            lost,
        )
    else:
        yield Finding(
            "gold answers", "good", f"the references themselves score 0 in all {len(outcome.values)} samples."
        )


def copies(e: Evidence) -> Iterator[Finding]:
    """Samples that come twice, with one answer or with two; and how many another seed draws as well."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, sample in enumerate(e.samples):
        places[" ".join(question(sample).lower().split())].append(place)
    again = [found for found in places.values() if len(found) > 1]
    torn = [place for found in again if len({reference(e.samples[place]) for place in found}) > 1 for place in found]
    count = sum(len(found) - 1 for found in again)
    if torn and not isinstance(e.samples[0], TextSample):
        grade: Grade = "defect" if len(torn) >= WRONG_SHARE * len(e.samples) else "warning"
        text = f"{_listed(torn)} ask the same and expect different answers: at most one of each can be right."
        yield Finding("contradicting references", grade, text, "Look at them, and mend the source.", tuple(torn))
    if count:
        grade = "warning" if count >= REPEATED * len(e.samples) else "good"
        text = f"{count} of {len(e.samples)} samples ask what another one asks: they count as one for the statistics."
        advice = "Draw each once, or give them a common group." if grade == "warning" else ""
        yield Finding("repeated samples", grade, text, advice)
    if e.repeated is not None:
        heart = e.repeated >= REPEATED
        text = f"another seed draws {e.repeated:.0%} of these samples again"
        yield Finding(
            "samples never seen",
            "warning" if heart else "good",
            f"{text}: they can be learned by heart." if heart else f"{text}.",
            "Draw from a larger pool, or generate samples." if heart else "",
        )


@dataclass(frozen=True)
class Contradiction:
    """Samples on which strong models agree, confidently, on an answer that is not the reference."""

    samples: tuple[int, ...]
    """The samples."""
    luck: float
    """How many of them are expected where all references are right and the models err independently."""
    p_value: float
    """The probability of so many by luck."""
    models: tuple[str, ...]
    """The models."""


def contradictions(e: Evidence) -> Contradiction | None:
    """The two best models against the references; None unless both do better than half of guessing.

    With e_1 and e_2 the models' error rates on all other samples and k choices, they err alike with probability
    `e_1 * e_2 / (k - 1)` a sample. Where the method keeps what each choice costs, only samples count on which both are
    as sure as in nine tenths of their right answers.
    """
    from scipy import stats as distributions

    strong = [name for name in e.ranked[:2] if e.chance is not None and e.models[name].score < e.chance / 2]
    details = [e.models[name].details for name in strong]
    if len(strong) < 2 or not all("answer" in detail for of in details for detail in of):
        return None
    sure = [place for place, both in enumerate(zip(*map(_sure, details), strict=True)) if all(both)]
    answers = [[(of[place]["answer"], of[place]["expected"]) for place in sure] for of in details]
    found = [
        place
        for place, (first, expected), (second, _) in zip(sure, *answers, strict=True)
        if first == second != expected and first is not None
    ]
    # Half an error, where there is none, keeps a model from being taken for one that never errs.
    errors = [max(sum(answer != expected for answer, expected in of) - len(found), 0.5) / len(sure) for of in answers]
    others = [1 / max(len(s.choices) - 1, 1) for s in e.samples if isinstance(s, ChoiceSample)]
    chance = math.prod(errors) * math.fsum(others) / len(others)
    p_value = float(distributions.binom.sf(len(found) - 1, len(sure), chance)) if found else 1.0
    return Contradiction(tuple(found), chance * len(sure), p_value, tuple(strong))


def _sure(details: Sequence[Mapping[str, object]]) -> list[bool]:
    """Whether each answer is as sure as nine tenths of the right ones; yes where that is not known."""
    confidence: list[float] = []
    right: list[float] = []
    for detail in details:
        found = detail.get("nats", detail.get("bits_per_byte"))
        costs = [cost for cost in found if cost is not None] if isinstance(found, list | tuple) else []
        confidence.append(1 / math.fsum(math.exp(min(costs) - cost) for cost in costs) if costs else 1.0)
        if detail["answer"] == detail["expected"]:
            right.append(confidence[-1])
    least = sorted(right)[len(right) // 10] if right else 0.0
    return [value >= least for value in confidence]


def wrong_references(e: Evidence) -> Iterator[Finding]:
    """References that are probably wrong."""
    if e.chance is None:
        yield from _worse_with_strength(e)
        return
    found = contradictions(e)
    if found is None:
        if e.models:
            text = "not looked for: it takes two models that get most samples right."
            yield Finding("wrong references", "open", text)
        return
    count, share = len(found.samples), len(found.samples) / len(e.samples)
    who = " and ".join(found.models)
    if not count or found.p_value >= LEVEL:
        text = f"{who} agree against {count} references; {found.luck:.1f} are expected by luck alone."
        yield Finding("wrong references", "good", text)
        return
    wrong = max(0.0, count - found.luck) / count
    text = (
        f"{who} agree confidently against the references of {count} samples ({share:.1%}); by luck it would be "
        f"{found.luck:.1f} (p = {found.p_value:.1g}). About {wrong:.0%} of these are wrong, if the models do not err "
        f"alike for a reason of their own: {_listed(found.samples)}."
    )
    grade: Grade = "defect" if share >= WRONG_SHARE else "warning"
    yield Finding("wrong references", grade, text, "Look at these by hand, and mend the source.", found.samples)


def _worse_with_strength(e: Evidence) -> Iterator[Finding]:
    """References that only the better models are surprised by: far outliers of what a model gains over the weakest."""
    if len(e.models) < 2 or isinstance(e.samples[0], InstructionSample):
        return
    lost = e.values[e.ranked[0]] - e.values[e.ranked[-1]]
    scale = 1.4826 * float((lost - lost.median()).abs().median())
    odd = lost[(lost > 0) & (lost > lost.median() + 5 * scale)].index if scale else ()
    places = tuple(int(place) for place in odd)
    if not places:
        yield Finding(
            "wrong references", "good", "no reference surprises the best model far more than the weakest one."
        )
        return
    text = (
        f"{_listed(places)}: the best model is far more surprised by the reference than the weakest one (over five "
        "deviations off the rest). A sign of wrong ones, no proof."
    )
    grade: Grade = "warning" if len(places) >= WRONG_SHARE * len(e.samples) else "good"
    yield Finding("wrong references", grade, text, "Look at these by hand." if grade == "warning" else "", places)


def question(sample: Sample) -> str:
    match sample:
        case TextSample(text=text):
            return text
        case InstructionSample(prompts=prompts):
            return "\n".join(prompts)
        case ChoiceSample(prompt=prompt, choices=choices):
            return "\n".join((prompt, *sorted(choices)))
    return sample.prompt


def reference(sample: Sample) -> str:
    match sample:
        case ReferenceSample(reference=reference):
            return reference
        case ChoiceSample(answer=answer):
            return answer
        case TextSample(text=text):
            return text
    return str(sample.rules)


def _listed(places: Sequence[int]) -> str:
    """Some samples, by their numbers."""
    shown = ", ".join(map(str, places[:12]))
    return f"sample{'s' * (len(places) > 1)} {shown}{f' and {len(places) - 12} more' if len(places) > 12 else ''}"
