"""Samples as a model reads them, token by token: the text after the chat template, and what each token costs.

    sn37.render(sample, "user/model")               # what the model is given
    sn37.token_losses("./model", sample)            # the nats of each token of the target

The tokens are those of the sample's method, cut where it cuts, so what is shown is what is measured. As
`sn37.evaluation.local`, it works in this process: tokenizers of strangers that swell or hang are stopped by you.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import cast

from sn37.competition import Competition, EvalTask, Evaluation
from sn37.engine.interface import LossRow
from sn37.errors import ConfigError, ModelFault
from sn37.evaluation.job import Job, load, prepare
from sn37.evaluation.local import ANY_MODEL, Data, chosen_device, in_process, model_folder, tokenizer_folder
from sn37.methods import METHODS, Row, Tokenizer, rows_of
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, Sample, TextSample

__all__ = ["Rendered", "RenderedRow", "render", "token_losses"]

_READ_BY = {
    TextSample: "text_loss",
    ReferenceSample: "reference_loss",
    ChoiceSample: "choice_likelihood",
    InstructionSample: "if_eval",
}
"""The method that shows a sample of each kind where no task says which."""

_DARKEST = 8.0
"""The nats from which on a token's background is as dark as it gets."""
_LEGEND = (0.1, 1.0, 2.0, 4.0, 8.0)
_MAX_TOKENS_PER_LETTER = 8


@dataclass(frozen=True)
class RenderedRow:
    """One sequence that a model is given, as the texts of its tokens; a token within a letter has none of its own."""

    context: tuple[str, ...]
    """What stands before the target: the prompt within its chat template, special tokens as their text."""
    target: tuple[str, ...]
    """What is predicted; () where the model is asked for a reply."""
    nats: tuple[float, ...] = ()
    """The loss of each token of the target: lower is better; () where none is measured."""
    flaw: str = ""
    """Why its loss is not measured; "" where it can be."""

    @property
    def loss(self) -> float:
        """The loss of the whole target, in nats."""
        return math.fsum(self.nats)

    def __repr__(self) -> str:
        if not self.nats:
            return _printable("".join(self.context + self.target)) + (f"\n({self.flaw})" if self.flaw else "")
        costly = "".join(f"{text}[{nats:.2f}]" for text, nats in zip(self.target, self.nats, strict=True))
        return f"{_printable(''.join(self.context))}\n--- {self._summary}:\n{_printable(costly)}"

    def _repr_html_(self) -> str:
        told = f"<p>{escape(self._summary)}{_legend()}</p>" if self.nats else f"<p>{escape(self.flaw)}</p>"
        shown = [f'<span title="context">{_visible(text)}</span>' for text in self.context]
        if self.nats:
            shown += [_coloured(_visible(t), n, f"{n:.3f} nats") for t, n in zip(self.target, self.nats, strict=True)]
        else:
            shown += [f"<u>{_visible(text)}</u>" for text in self.target]
        return f'{told}<pre style="white-space: pre-wrap">{"".join(shown)}</pre>'

    @property
    def _summary(self) -> str:
        return f"{len(self.nats)} tokens, {self.loss:.3f} nats, {self.loss / len(self.nats):.3f} a token"


@dataclass(frozen=True)
class Rendered:
    """What a model is given of one sample: a sequence, or several, as for each choice; shows itself as text."""

    rows: tuple[RenderedRow, ...]
    """Its sequences."""

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.rows))

    def _repr_html_(self) -> str:
        return "<hr>".join(row._repr_html_() for row in self.rows)


def render(
    sample: Sample, tokenizer: str | Path | Competition, *, task: EvalTask | None = None, data: Data | None = None
) -> Rendered:
    """The text that a model is given of a sample: within the chat template, special tokens as their text.

    tokenizer: a folder or hub repo, of a model or of a tokenizer alone; or a competition that fixes one. task: the task
    the sample is of, for its method and arguments; without it the common method of such samples. Raises ConfigError,
    and ModelFault for a tokenizer that fails.

    >>> from sn37.checks.tokenizer import byte_tokenizer
    >>> import tempfile; folder = tempfile.mkdtemp(); _ = byte_tokenizer().save_pretrained(folder)
    >>> render(ReferenceSample("What is red?", "A rose."), folder).rows[0].target
    ('A', ' ', 'r', 'o', 's', 'e', '.')
    """
    from sn37.checks.tokenizer import load_tokenizer

    fixed = isinstance(tokenizer, Competition)
    given = tokenizer.constraints.tokenizer if isinstance(tokenizer, Competition) else tokenizer
    folder = tokenizer_folder(given, data or Data())
    if folder is None:
        raise ConfigError("the competition lets each model bring its own tokenizer; name a model, or its folder")
    constraints = tokenizer.constraints if isinstance(tokenizer, Competition) else ANY_MODEL
    loaded = cast("Tokenizer", load_tokenizer(folder))
    rows = _rows(sample, task, loaded, constraints.sequence_length, own_tokenizer=not fixed)
    return Rendered(tuple(_rendered(row, loaded) for row in rows))


def token_losses(
    model: str | Path,
    sample: Sample,
    *,
    competition: Competition | None = None,
    task: EvalTask | None = None,
    tokenizer: str | Path | None = None,
    data: Data | None = None,
    device: str = "auto",
    dtype: str = "",
) -> Rendered:
    """The loss of each token of a sample's target, from the engine that validators use: they sum to the sample's loss.

    model, tokenizer, data, device, dtype: as `sn37.evaluate` takes them. competition: whose constraints and tokenizer
    hold. task: the task the sample is of; without it the common method of such samples. The row is computed by itself:
    in bfloat16 the last digits may differ from those of a batch. Raises ConfigError where the method measures no loss
    of a given text, and ModelFault.
    """
    from sn37.engine.losses import token_losses as losses_of

    data, constraints = data or Data(), competition.constraints if competition else ANY_MODEL
    shared = tokenizer_folder(tokenizer or constraints.tokenizer, data)
    evaluation = competition.evaluation if competition else Evaluation()
    with in_process(), model_folder(model, data) as folder:
        job = Job(folder, shared, constraints, evaluation, (), device=chosen_device(device), dtype=dtype)
        prepare(job)
        loaded, network = load(job)
        rows = _rows(sample, task, loaded, constraints.sequence_length, own_tokenizer=shared is None)
        if all(row.start == len(row.tokens) for row in rows):
            raise ConfigError(
                f"{_method(sample, task)} reads replies and measures no loss of a text; expected a task of text_loss, "
                "reference_loss or choice_likelihood"
            )
        measured = [() if row.flaw else losses_of(network, LossRow(row.tokens, row.start)) for row in rows]
    if not all(math.isfinite(nats) for row in measured for nats in row):
        raise ModelFault("the loss of a token is not a finite number")
    return Rendered(tuple(_rendered(row, loaded, nats) for row, nats in zip(rows, measured, strict=True)))


def _method(sample: Sample, task: EvalTask | None) -> str:
    return task.method if task else _READ_BY[type(sample)]


def _rows(
    sample: Sample, task: EvalTask | None, tokenizer: Tokenizer, sequence_length: int, *, own_tokenizer: bool
) -> Sequence[Row]:
    """The rows that the method makes of the sample alone."""
    name = _method(sample, task)
    made = METHODS[name](**(task.method_args if task else {}))
    rows = rows_of(made, [sample], tokenizer, sequence_length, own_tokenizer=own_tokenizer)
    if not rows:
        raise ConfigError(f"{name} is a function that asks the engine itself; expected a method that makes rows")
    return rows


def _rendered(row: Row, tokenizer: Tokenizer, nats: Sequence[float] = ()) -> RenderedRow:
    texts = tuple(_texts(row.tokens, tokenizer))
    flaw = f"not measured: {row.flaw}" if row.flaw else ""
    return RenderedRow(texts[: row.start], texts[row.start :], tuple(nats), flaw)


def _texts(tokens: Sequence[int], tokenizer: Tokenizer) -> Iterator[str]:
    """The text that each token adds to what stands before it; "" until the bytes of a letter are complete.

    Decoded with the last complete token before it, for a tokenizer may drop the space before a first word.
    """
    from sn37.methods.tokens import decode

    before, done = 0, 0
    for end in range(1, len(tokens) + 1):
        known = decode(tokenizer, tokens[before:done], special=True)
        text = decode(tokenizer, tokens[before:end], special=True)
        if text.endswith("\ufffd") and end < min(len(tokens), done + _MAX_TOKENS_PER_LETTER):
            yield ""
            continue
        yield text[len(known) :]
        before, done = done, end


def _printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)


def _visible(text: str) -> str:
    """The text as HTML, its line ends marked."""
    return escape(text).replace("\n", "&#9166;\n")


def _coloured(text: str, nats: float, title: str) -> str:
    """A text on a background that is the darker the more it costs, in grey as well."""
    share = min(nats / _DARKEST, 1.0) ** 0.5
    look = f"background: rgba(217, 95, 2, {0.8 * share:.2f}); border-left: 1px solid rgba(127, 127, 127, 0.4)"
    return f'<span title="{title}" style="{look}">{text}</span>'


def _legend() -> str:
    return "; nats: " + " ".join(_coloured(f"&nbsp;{nats:g}&nbsp;", nats, f"{nats:g} nats") for nats in _LEGEND)
