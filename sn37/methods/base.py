"""What every method has in common: its signature, its result, its registry.

A method turns samples into rows of tokens, and the engine's answers to them into a number: two steps, so that samples
are tokenized once per tokenizer and reused for every model that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from sn37.engine.interface import Engine, Progress
from sn37.errors import ConfigError, DataFault, ModelFault
from sn37.html import ShownByValue
from sn37.registry import Factory, Registry
from sn37.sample import Sample

__all__ = [
    "METHODS",
    "Flaw",
    "Method",
    "MethodResult",
    "Row",
    "Tokenizer",
    "TokenizerFault",
    "apply",
    "method",
    "of_kind",
    "rows_of",
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


@dataclass(frozen=True, repr=False)
class MethodResult(ShownByValue):
    """The outcome of one task for one model."""

    score: float
    """The raw score, lower is better."""
    values: tuple[float, ...]
    """One number per sample: what the score is the mean of, where it is one."""
    details: tuple[Mapping[str, object], ...] = ()
    """Per value, what a person wants to see (a reply, a token count), JSON data."""
    note: str = ""
    """Why the score is not simply the mean of the values, "" where it is."""
    samples: tuple[int, ...] = ()
    """The sample each value belongs to, where some were left out; () where value i belongs to sample i."""


Flaw = Literal["", "does not decode", "too long", "no target", "over max_tokens"]
"""Why a row is not measured: its target's tokens do not decode to the target's text; they do not fit beside one token
of the prompt; there are none; or there are more, with the prompt's, than the task's `max_tokens`."""


@dataclass(frozen=True)
class Row:
    """One token sequence of a sample; plain data, which may travel to another process or be kept."""

    sample: int
    """Index of its sample."""
    tokens: tuple[int, ...]
    """The whole sequence, cut where it does not fit."""
    start: int
    """Index of the first target, or the number of tokens for a prompt to be continued."""
    target_bytes: int = 0
    """UTF-8 bytes of the text that the targets stand for."""
    flaw: Flaw = ""
    """Why the sample costs 8 bits a byte in place of its loss; "" where the loss is measured."""


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


def rows_of(
    method: Method, samples: Sequence[Sample], tokenizer: Tokenizer, sequence_length: int, *, own_tokenizer: bool
) -> tuple[Row, ...]:
    """A method's rows, as they count.

    own_tokenizer: the model brings it, so it has no say in which samples count, or how much of them: what is too long
    costs 8 bits a byte. The competition's own one cuts a text at the same place for every model, and leaves out the
    same samples. Raises DataFault when it leaves out all, TokenizerFault when none of its rows decodes.
    """
    rows = method.rows(samples, tokenizer, sequence_length)
    if own_tokenizer or not rows:
        return rows
    kept = [replace(row, flaw="") if row.flaw == "too long" else row for row in rows if row.flaw != "over max_tokens"]
    if not kept:
        raise DataFault(f"all {len(samples)} samples are longer than max_tokens; expected shorter ones")
    if all(row.flaw == "does not decode" for row in kept):
        raise TokenizerFault("the tokenizer loses text of every sample; expected its tokens to decode to the text")
    return tuple(kept)


def apply(
    method: Method,
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    engine: Engine,
    progress: Progress | None = None,
    *,
    own_tokenizer: bool = False,
) -> MethodResult:
    """Both steps of a method, one after the other. own_tokenizer: as `rows_of` has it."""
    rows = rows_of(method, samples, tokenizer, engine.sequence_length, own_tokenizer=own_tokenizer)
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
        make: Callable[..., Method] = entry if isinstance(entry, type) else partial(_Function, entry)
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


def _texts(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        yield from _texts(list(data.values()))
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _texts(item)
