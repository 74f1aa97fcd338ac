"""What every method has in common: its signature, its result, its registry.

A method turns samples into rows of tokens, and the engine's answers to them into a number: two steps, so that samples
are tokenized once per tokenizer and reused for every model that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from sn37.engine.interface import Engine, Progress
from sn37.errors import ConfigError, DataFault, ModelFault
from sn37.registry import Factory, Registry
from sn37.sample import Sample

__all__ = [
    "METHODS",
    "Method",
    "MethodResult",
    "Row",
    "Tokenizer",
    "TokenizerFault",
    "apply",
    "method",
    "of_kind",
]

S = TypeVar("S", bound=Sample)


class Tokenizer(Protocol):
    """What a method needs of a transformers tokenizer."""

    chat_template: Any
    bos_token_id: int | None
    eos_token_id: int | None
    special_tokens_map: Mapping[str, str]

    def encode(self, text: str, add_special_tokens: bool = ..., **kwargs: Any) -> list[int]: ...

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = ..., **kwargs: Any) -> str: ...


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


class Method(Protocol):
    """A method, made with a task's arguments: scores models on samples, in two steps.

    The rows are the same for all models with one tokenizer, so they are made once for all of them.
    """

    def rows(self, samples: Sequence[Sample], tokenizer: Tokenizer, sequence_length: int) -> tuple[Row, ...]:
        """What the engine is asked; needs no model."""
        ...

    def score(
        self,
        rows: Sequence[Row],
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        engine: Engine,
        progress: Progress | None = None,
    ) -> MethodResult:
        """Ask the engine, and make a number of its answers."""
        ...


def apply(
    method: Method,
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    engine: Engine,
    progress: Progress | None = None,
) -> MethodResult:
    """Both steps of a method, one after the other."""
    rows = method.rows(samples, tokenizer, engine.sequence_length)
    return method.score(rows, samples, tokenizer, engine, progress)


METHODS: Registry[Method] = Registry("method")
"""Every method there is, by the name that a competition file calls it by."""

F = TypeVar("F", bound=Callable[..., object])


def method(name: str) -> Callable[[F], F]:
    """Decorator: register a method under `name`.

    A frozen dataclass whose fields are the arguments, with the two steps of `Method`; or one plain function
    `(samples, tokenizer, engine, *, progress, <arguments>)` that returns a MethodResult.
    """

    def register(entry: F) -> F:
        make: Callable[..., Any] = entry if isinstance(entry, type) else partial(_Function, entry)
        METHODS.add(name, Factory(make, entry, frozenset() if isinstance(entry, type) else _GIVEN))
        return entry

    return register


_GIVEN = frozenset(("samples", "tokenizer", "engine", "progress"))


class _Function:
    """A plain function as a method: it has no rows of its own."""

    def __init__(self, function: Callable[..., Any], **arguments: object) -> None:
        self._call = partial(function, **arguments)

    def rows(self, samples: Sequence[Sample], tokenizer: Tokenizer, sequence_length: int) -> tuple[Row, ...]:
        return ()

    def score(
        self,
        rows: Sequence[Row],
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        engine: Engine,
        progress: Progress | None = None,
    ) -> MethodResult:
        result: MethodResult = self._call(samples, tokenizer, engine, progress=progress)
        return result


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
