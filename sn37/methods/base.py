"""What every method has in common: its signature, its result, its registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sn37.engine.interface import Engine, Progress
from sn37.registry import Registry
from sn37.sample import Sample

__all__ = ["METHODS", "Method", "MethodResult", "Tokenizer", "method"]


class Tokenizer(Protocol):
    """What a method needs of a transformers tokenizer."""

    chat_template: Any
    eos_token_id: int | None

    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]: ...

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = ...) -> str: ...

    def apply_chat_template(self, conversation: list[dict[str, str]], **kwargs: Any) -> Any: ...


@dataclass(frozen=True)
class MethodResult:
    """The outcome of one task for one model.

    score: the raw score, lower is better; values: one number per sample (what the score is the mean
    of, where it is one); details: per sample, what a person wants to see (a reply, a token count), JSON data;
    note: why the score is not simply the mean of the values, "" where it is.
    """

    score: float
    values: tuple[float, ...]
    details: tuple[Mapping[str, Any], ...] = ()
    note: str = ""


class Method(Protocol):
    """A method: scores a model, behind `engine`, on `samples`; keyword arguments come from the task."""

    def __call__(
        self,
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        engine: Engine,
        *,
        progress: Progress | None = None,
        **args: Any,
    ) -> MethodResult: ...


METHODS: Registry[Method] = Registry("method")
method = METHODS
"""Decorator: `@method("name")` registers a method."""
