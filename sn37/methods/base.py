"""What every method has in common: its signature, its result, its registry.

A method is a function of samples, a tokenizer and an engine. The ones here are made of two steps, so
that samples are tokenized once per tokenizer and reused for every model that has it; a method of
one's own may as well be one plain function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from sn37.engine.interface import Engine, Progress
from sn37.errors import ConfigError, DataFault, ModelFault
from sn37.registry import Registry
from sn37.sample import Sample

__all__ = [
    "METHODS",
    "Method",
    "MethodResult",
    "Row",
    "Tokenizer",
    "TokenizerFault",
    "TwoSteps",
    "method",
    "of_kind",
]

S = TypeVar("S", bound=Sample)


class Tokenizer(Protocol):
    """What a method needs of a transformers tokenizer."""

    chat_template: Any
    bos_token_id: int | None
    eos_token_id: int | None

    def encode(self, text: str, add_special_tokens: bool = ..., **kwargs: Any) -> list[int]: ...

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = ..., **kwargs: Any) -> str: ...

    def apply_chat_template(self, conversation: list[dict[str, str]], **kwargs: Any) -> Any: ...


class TokenizerFault(ModelFault):
    """The tokenizer, or its chat template, failed, loses text or explodes.

    The model's fault where the model brings its own tokenizer. Where the competition fixes one, no
    miner can help it: whoever knows that turns it into an evaluator's fault.
    """


@dataclass(frozen=True)
class MethodResult:
    """The outcome of one task for one model.

    score: the raw score, lower is better; values: one number per sample (what the score is the mean
    of, where it is one); details: per value, what a person wants to see (a reply, a token count), JSON data;
    note: why the score is not simply the mean of the values, "" where it is; samples: the sample each
    value belongs to, where some were left out; () where value i belongs to sample i.
    """

    score: float
    values: tuple[float, ...]
    details: tuple[Mapping[str, Any], ...] = ()
    note: str = ""
    samples: tuple[int, ...] = ()


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


@dataclass(frozen=True)
class Row:
    """One token sequence of a sample; plain data, which may travel to another process or be kept.

    sample: index of its sample; tokens: the whole sequence; start: index of the first target, or
    the number of tokens for a prompt to be continued; target_bytes: UTF-8 bytes of the text
    that the targets stand for, where the unit asks for it.
    """

    sample: int
    tokens: tuple[int, ...]
    start: int
    target_bytes: int = 0


@dataclass(frozen=True)
class TwoSteps:
    """A method made of two steps.

    rows(samples, tokenizer, sequence_length, **args) -> rows: needs no model; equal for all models
    with that tokenizer.
    score(rows, samples, tokenizer, engine, *, progress, **args) -> MethodResult: asks the engine.
    """

    rows: Callable[..., tuple[Row, ...]]
    score: Callable[..., MethodResult]

    def __post_init__(self) -> None:
        # whoever reads a competition file looks here for the arguments a method takes, and for its home
        wanted = inspect.signature(self.score, eval_str=True).parameters.values()
        given = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in _POSITIONAL]
        signature = inspect.Signature([*given, *(p for p in wanted if p.kind is p.KEYWORD_ONLY)])
        object.__setattr__(self, "__signature__", signature)
        object.__setattr__(self, "__module__", self.score.__module__)

    def __call__(
        self,
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        engine: Engine,
        *,
        progress: Progress | None = None,
        **args: Any,
    ) -> MethodResult:
        rows = self.rows(samples, tokenizer, engine.sequence_length, **args)
        return self.score(rows, samples, tokenizer, engine, progress=progress, **args)


_POSITIONAL = ("samples", "tokenizer", "engine")


def of_kind(samples: Sequence[Sample], kind: type[S], name: str) -> list[S]:
    """The samples, known to be of the kind the method `name` takes. Raises ConfigError and DataFault."""
    if not samples:
        raise DataFault(f"{name} got no sample; expected one or more: look at the task's source")
    found: list[S] = []
    for i, sample in enumerate(samples):
        if not isinstance(sample, kind):
            raise ConfigError(
                f"{name} got a {type(sample).__name__}; expected only {kind.__name__}: "
                "give the task a source and a method that fit each other"
            )
        for text in _texts(asdict(sample)):
            try:
                text.encode()
            except UnicodeEncodeError:
                # here, for a tokenizer that fails at it would be blamed
                raise DataFault(f"sample {i} has half a character (a lone surrogate); expected Unicode text") from None
        found.append(sample)
    return found


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        yield from _texts(list(data.values()))
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _texts(item)
