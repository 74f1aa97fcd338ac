"""What a source yields and a method takes: samples as plain, digestible values.

Pure. A sample holds text, never tokens: tokens depend on the tokenizer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields

__all__ = [
    "ChoiceSample",
    "InstructionSample",
    "ReferenceSample",
    "Sample",
    "TextSample",
    "digest",
    "from_record",
    "to_record",
]


@dataclass(frozen=True)
class _Sample:
    """What every sample has."""

    group: str = field(default="", kw_only=True)
    """What samples that are not independent share, such as a page or a source document; "" for none."""


@dataclass(frozen=True)
class TextSample(_Sample):
    """A plain text, for `text_loss`."""

    text: str
    """The text."""


@dataclass(frozen=True)
class ReferenceSample(_Sample):
    """A chat prompt and the reply it is judged by, for `reference_loss`."""

    prompt: str
    """The user's message."""
    reference: str
    """The reply whose tokens are predicted."""
    system: str = ""
    """The system prompt; "" for none."""


@dataclass(frozen=True)
class ChoiceSample(_Sample):
    """A question with choices, for `multiple_choice` and `choice_likelihood`."""

    prompt: str
    """The question as the model sees it."""
    choices: tuple[str, ...]
    """What it may be answered with."""
    answer: str
    """The right one."""


@dataclass(frozen=True)
class InstructionSample(_Sample):
    """Two prompts under one set of rules, for `if_eval`."""

    prompts: tuple[str, str]
    """The prompts."""
    rules: tuple[tuple[Mapping[str, object], ...], tuple[Mapping[str, object], ...]]
    """The rules of each prompt as plain data (`sn37.ifeval` reads and writes them)."""


Sample = TextSample | ReferenceSample | ChoiceSample | InstructionSample

_KINDS: dict[str, type[Sample]] = {
    "text": TextSample,
    "reference": ReferenceSample,
    "choice": ChoiceSample,
    "instruction": InstructionSample,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_record(sample: Sample) -> dict[str, object]:
    """The sample as JSON data; `from_record` reads it back."""
    return {"kind": _NAMES[type(sample)], **asdict(sample)}


def from_record(record: Mapping[str, object]) -> Sample:
    """A sample from JSON data. Raises ValueError on an unknown kind, an unknown or a missing field."""
    name = record.get("kind")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"unknown kind of sample {name!r}; expected one of {', '.join(_KINDS)}")
    data = {key: _frozen(value) for key, value in record.items() if key != "kind"}
    unknown = set(data) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"a {name} sample has no field {', '.join(sorted(unknown))}")
    make: Callable[..., Sample] = kind
    try:
        return make(**data)
    except TypeError as error:
        raise ValueError(f"a {name} sample is incomplete: {error}") from None


def digest(samples: Iterable[Sample]) -> str:
    """SHA-256 over the samples' canonical JSON lines: equal digests, equal samples in equal order.

    Groups are left out: no score depends on them.
    """
    total = hashlib.sha256()
    for sample in samples:
        data = {name: value for name, value in to_record(sample).items() if name != "group"}
        line = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        total.update(line.encode() + b"\n")
    return total.hexdigest()


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
