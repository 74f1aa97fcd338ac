"""What the fields of a configuration may hold: ranges, in words for people and as a test for the program.

A configuration is written by a stranger. Outside these ranges a value makes no sense for any architecture, and some
make a model see what it must not: with a sliding window of 0 no key is left, and attention spreads over later tokens.

Knows nothing of architectures: which of them has which fields is said in `sn37.engine.architectures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from sn37.errors import ModelFault

__all__ = [
    "ROPE_FIELDS",
    "Allowed",
    "check_fields",
    "choice",
    "flag",
    "list_of",
    "number",
    "optional",
    "positive",
    "record",
    "whole",
]

_MAX_SHOWN_CHARACTERS = 80
_MAX_LIST_LENGTH = 1 << 16


@dataclass(frozen=True)
class Allowed:
    """What a field may hold."""

    expected: str
    """In words, to follow `expected`."""
    holds: Callable[[object], bool]
    """Whether a value is allowed."""


def whole(low: int, high: int) -> Allowed:
    """Whole numbers from `low` to `high`."""
    return Allowed(f"a whole number from {low} to {high}", lambda value: _is_whole(value) and low <= value <= high)


def number(low: float, high: float) -> Allowed:
    """Numbers from `low` to `high`."""
    return Allowed(f"a number from {low:g} to {high:g}", lambda value: _is_number(value) and low <= value <= high)


def positive(high: float) -> Allowed:
    """Numbers above 0, up to `high`."""
    return Allowed(f"a number above 0, at most {high:g}", lambda value: _is_number(value) and 0 < value <= high)


def flag() -> Allowed:
    """True or false."""
    return Allowed("true or false", lambda value: isinstance(value, bool))


def choice(*names: str) -> Allowed:
    """One of some names."""
    return Allowed(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


def list_of(allowed: Allowed) -> Allowed:
    """Lists of what is allowed."""
    return Allowed(
        f"a list, each of it {allowed.expected}",
        lambda value: isinstance(value, list) and len(value) <= _MAX_LIST_LENGTH and all(map(allowed.holds, value)),
    )


def record() -> Allowed:
    """An object, whose own fields are checked by themselves."""
    return Allowed("an object", lambda value: isinstance(value, dict))


def optional(allowed: Allowed) -> Allowed:
    """What is allowed, or null."""
    return Allowed(f"{allowed.expected}, or null", lambda value: value is None or allowed.holds(value))


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return _is_whole(value) or isinstance(value, float)


_ROPE_TYPE = choice("default", "linear", "dynamic", "yarn", "longrope", "llama3")

ROPE_FIELDS: Mapping[str, Allowed] = {
    "rope_type": _ROPE_TYPE,
    "type": _ROPE_TYPE,
    "rope_theta": number(1, 1e12),
    "partial_rotary_factor": positive(1),
    "factor": optional(number(1, 1e6)),
    "original_max_position_embeddings": whole(1, (1 << 31) - 1),
    "attention_factor": optional(positive(1e3)),
    "beta_fast": optional(positive(1e6)),
    "beta_slow": optional(positive(1e6)),
    "mscale": optional(positive(1e3)),
    "mscale_all_dim": optional(positive(1e3)),
    "truncate": flag(),
    "short_factor": list_of(positive(1e6)),
    "long_factor": list_of(positive(1e6)),
    "low_freq_factor": positive(1e6),
    "high_freq_factor": positive(1e6),
}
"""The fields of `rope_parameters`, the same for all layers."""


def check_fields(fields: Mapping[str, Allowed], values: Mapping[str, object], within: str = "") -> None:
    """Raises ModelFault, with the name, the value and what is allowed, for the first field outside its range.

    within: what the fields are part of, with a point, for the message.
    """
    for name, value in values.items():
        allowed = fields.get(name)
        if allowed is None:
            raise ModelFault(f"config.json has the field {within}{_shown(name)}; expected {', '.join(fields)}")
        if not allowed.holds(value):
            raise ModelFault(f"config.json: {within}{name} is {_shown(value)}; expected {allowed.expected}")


def _shown(value: object) -> str:
    text = repr(value)  # also of strings: what a stranger wrote is quoted, its control characters escaped
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}..."
