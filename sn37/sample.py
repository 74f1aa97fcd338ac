"""What a source yields and a method takes: samples as plain, digestible values.

Pure. A sample holds text, never tokens: tokens depend on the tokenizer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

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
class TextSample:
    """A plain text, for `text_loss`."""

    text: str


@dataclass(frozen=True)
class ReferenceSample:
    """A chat prompt and the reply it is judged by, for `reference_loss`. system: "" for none."""

    prompt: str
    reference: str
    system: str = ""


@dataclass(frozen=True)
class ChoiceSample:
    """A question as the model sees it, the choices it may answer with, and the right one."""

    prompt: str
    choices: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class InstructionSample:
    """Two prompts under one set of rules, for `if_eval`.

    rules: for each prompt its rules as plain data (`sn37.ifeval` reads and writes them).
    """

    prompts: tuple[str, str]
    rules: tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]]


Sample = TextSample | ReferenceSample | ChoiceSample | InstructionSample

_KINDS: dict[str, type[Sample]] = {
    "text": TextSample,
    "reference": ReferenceSample,
    "choice": ChoiceSample,
    "instruction": InstructionSample,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_record(sample: Sample) -> dict[str, Any]:
    """The sample as JSON data; `from_record` reads it back."""
    return {"kind": _NAMES[type(sample)], **asdict(sample)}


def from_record(record: Mapping[str, Any]) -> Sample:
    """A sample from JSON data. Raises ValueError on an unknown kind, an unknown or a missing field."""
    name = record.get("kind")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"unknown kind of sample {name!r}; expected one of {', '.join(_KINDS)}")
    data = {field: _frozen(value) for field, value in record.items() if field != "kind"}
    unknown = set(data) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"a {name} sample has no field {', '.join(sorted(unknown))}")
    try:
        return kind(**data)
    except TypeError as error:
        raise ValueError(f"a {name} sample is incomplete: {error}") from None


def digest(samples: Iterable[Sample]) -> str:
    """SHA-256 over the samples' canonical JSON lines: equal digests, equal samples in equal order."""
    total = hashlib.sha256()
    for sample in samples:
        line = json.dumps(to_record(sample), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        total.update(line.encode() + b"\n")
    return total.hexdigest()


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
