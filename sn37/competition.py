"""What a competition is: constraints, evaluation tasks, epsilon, normalization.

Pure values, checked when made. Reading them from TOML is `sn37.competitions`' work.
Protocol, section 4. Scores are losses: lower is better.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Literal, SupportsIndex, overload

from sn37.errors import ConfigError, EvaluatorFault
from sn37.html import table
from sn37.registry import suggestion
from sn37.values import Checked, Rule

__all__ = [
    "ANY_TOKENIZER",
    "ARCHITECTURES",
    "Competition",
    "Constraints",
    "Epsilon",
    "EvalTask",
    "Evaluation",
    "Fixed",
    "InverseExponential",
    "LinearDecay",
    "Normalization",
    "Tasks",
    "Unnormalized",
]

ARCHITECTURES = (
    "BartForCausalLM",
    "FalconForCausalLM",
    "Gemma2ForCausalLM",
    "GemmaForCausalLM",
    "GPTNeoXForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Phi3ForCausalLM",
    "PhiForCausalLM",
)
"""Every architecture a competition may allow: transformers' class names."""

ANY_TOKENIZER = "any"
"""What a file says where each model brings its own tokenizer."""

DTYPES = ("bfloat16", "float16", "float32")
"""What models may be loaded as."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[0-9a-f]{40})?")


@dataclass(frozen=True)
class Fixed(Checked):
    """An epsilon that never changes."""

    value: float
    """The share of its loss by which an earlier commitment is ahead, in [0, 1)."""
    kind: Literal["fixed"] = "fixed"
    """What a file calls it."""

    RULES = (Rule("value", lambda value: 0 <= value < 1, "a number in [0, 1)", "epsilon"),)

    def at(self, now: int, committed: int) -> float:
        """Epsilon at block `now` of a submission committed at block `committed`."""
        return self.value

    @property
    def final(self) -> float:
        """Epsilon once it has fully decayed."""
        return self.value

    @property
    def decay_blocks(self) -> int:
        """Blocks until it has fully decayed: none."""
        return 0


@dataclass(frozen=True)
class LinearDecay(Checked):
    """An epsilon that falls linearly from `start` to `end` within `decay_blocks` of the commitment."""

    start: float
    """Epsilon at the commitment's own block, in [end, 1)."""
    end: float
    """Epsilon once it has fully decayed, 0 or more."""
    decay_blocks: int
    """Blocks from start to end."""
    kind: Literal["linear_decay"] = "linear_decay"
    """What a file calls it."""

    RULES = (
        Rule("start, end", lambda start, end: 0 <= end <= start < 1, "0 <= end <= start < 1", "epsilon"),
        Rule("decay_blocks", lambda blocks: blocks > 0, "1 block or more"),
    )

    def at(self, now: int, committed: int) -> float:
        """Epsilon at block `now` of a submission committed at block `committed`."""
        elapsed = max(now - committed, 0)
        return self.start - min(elapsed / self.decay_blocks, 1.0) * (self.start - self.end)

    @property
    def final(self) -> float:
        """Epsilon once it has fully decayed."""
        return self.end


Epsilon = Fixed | LinearDecay


@dataclass(frozen=True)
class Unnormalized:
    """The raw score is the normalized score."""

    kind: Literal["none"] = "none"
    """What a file calls it."""

    def __call__(self, score: float) -> float:
        return score


@dataclass(frozen=True)
class InverseExponential(Checked):
    """Maps a loss from [0, ceiling] to [0, 1], steepest near 0; 1 from the ceiling on."""

    ceiling: float
    """The loss from which on the normalized score is 1, above 0."""
    kind: Literal["inverse_exponential"] = "inverse_exponential"
    """What a file calls it."""

    RULES = (Rule("ceiling", lambda ceiling: math.isfinite(ceiling) and ceiling > 0, "a number above 0"),)

    def __call__(self, score: float) -> float:
        if score >= self.ceiling:
            return 1.0
        return (1 - math.exp(-score / self.ceiling)) / (1 - math.exp(-1))


Normalization = Unnormalized | InverseExponential


@dataclass(frozen=True)
class Constraints(Checked):
    """What a model must be to take part."""

    architectures: tuple[str, ...]
    """Those allowed: transformers' class names, out of `ARCHITECTURES`."""
    max_parameters: int
    """The most parameters."""
    max_bytes: int
    """The most bytes of all its files together."""
    sequence_length: int
    """The most tokens of a row, prompt and reply together."""
    tokenizer: str | None
    """A hub repo (`namespace/name`, or `namespace/name@commit`); None: each model brings its own."""
    delay_blocks: int
    """The pick-up delay: blocks from a commitment to the first sync block at which it takes part."""
    min_parameters: int = 0
    """The fewest parameters."""
    dtype: str = "bfloat16"
    """What models are loaded as: bfloat16, float16 or float32."""
    norm_soft: float = 200.0
    """Frobenius norm that at most the share `norm_soft_share` of the linear layers may exceed."""
    norm_soft_share: float = 0.15
    """The share of the linear layers that may exceed `norm_soft`, in [0, 1]."""
    norm_hard: float = 1000.0
    """Frobenius norm that no linear layer may exceed."""

    RULES = (
        Rule("architectures", bool, "at least one"),
        Rule("architectures", ARCHITECTURES.__contains__, f"one of {', '.join(ARCHITECTURES)}", each=True),
        Rule("min_parameters, max_parameters", lambda least, most: 0 <= least <= most, "0 <= least <= most"),
        Rule("max_parameters", lambda number: number > 0, "1 or more"),
        Rule("max_bytes", lambda number: number > 0, "1 or more"),
        Rule("sequence_length", lambda number: number > 0, "1 or more"),
        Rule(
            "tokenizer",
            lambda repo: repo is None or _REPO.fullmatch(repo),
            f"a hub repo (namespace/name or namespace/name@commit), or {ANY_TOKENIZER!r}",
        ),
        Rule("delay_blocks", lambda blocks: blocks >= 0, "0 or more"),
        Rule("dtype", DTYPES.__contains__, "bfloat16, float16 or float32"),
        Rule(
            "norm_soft, norm_hard",
            lambda soft, hard: 0 < soft <= hard,
            "above 0, at most norm_hard",
            "norm_soft",
            shown=lambda soft, hard: soft,
        ),
        Rule("norm_soft_share", lambda share: 0 <= share <= 1, "a share in [0, 1]"),
    )


@dataclass(frozen=True)
class Evaluation(Checked):
    """How a competition's models are run; part of the competition, so that all validators do the same."""

    batch_tokens: int = 32_768
    """Padded tokens that generation works on at once, eight times those of a batch of losses. All batches are planned
    from it and the samples alone."""
    time_limit_s: int = 3_600
    """Seconds after which one model's evaluation is killed."""

    RULES = (
        Rule("batch_tokens", lambda tokens: tokens > 0, "1 or more"),
        Rule("time_limit_s", lambda seconds: seconds > 0, "1 second or more"),
    )


def _is_plain(value: object) -> bool:
    """Whether a value is JSON data, so that the digest can cover it."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


@dataclass(frozen=True)
class EvalTask(Checked):
    """One evaluation task: where its samples come from, how an answer becomes a number, what it weighs."""

    name: str
    """Upper-case letters, digits and _; its samples are drawn from a generator seeded with it."""
    source: str
    """The registered source of its samples."""
    method: str
    """The registered method that makes a number of the answers."""
    weight: float
    """Its share of the score, in (0, 1]."""
    source_args: Mapping[str, object] = field(default_factory=dict, hash=False)
    """The source's arguments, JSON data."""
    method_args: Mapping[str, object] = field(default_factory=dict, hash=False)
    """The method's arguments, JSON data."""
    normalization: Normalization = Unnormalized()
    """Raw score -> normalized score."""

    RULES = (
        Rule("name", _NAME.fullmatch, "upper-case letters, digits and _", "task name"),
        Rule("weight", lambda weight: 0 < weight <= 1, "a number in (0, 1]", "weight of {name}"),
        Rule("source_args", _is_plain, "plain JSON data", "source_args of {name}"),
        Rule("method_args", _is_plain, "plain JSON data", "method_args of {name}"),
    )


class Tasks(tuple[EvalTask, ...]):
    """A competition's tasks, by place or by name: `tasks[0]`, `tasks["WORD_SORTING"]`."""

    @overload
    def __getitem__(self, index: SupportsIndex | str) -> EvalTask: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[EvalTask, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice | str) -> EvalTask | tuple[EvalTask, ...]:
        """Raises ConfigError for an unknown name, listing the known ones."""
        if not isinstance(index, str):
            return super().__getitem__(index)
        named = {task.name: task for task in self}
        if index not in named:
            raise ConfigError(f"unknown task {index!r}; expected one of {', '.join(named)}{suggestion(index, named)}")
        return named[index]

    def _repr_html_(self) -> str:
        rows = [(t.name, t.source, t.method, t.normalization.kind, f"{t.weight:g}") for t in self]
        return table(("task", "source", "method", "normalization", "weight"), rows)


def _names(tasks: Sequence[EvalTask]) -> list[str]:
    return [task.name for task in tasks]


def _total(tasks: Sequence[EvalTask]) -> float:
    return math.fsum(task.weight for task in tasks)


@dataclass(frozen=True)
class Competition(Checked):
    """One competition. `digest` changes whenever anything that could change a score does."""

    id: int
    """0 to 99, as a commitment names it."""
    name: str
    """Upper-case letters, digits and _."""
    constraints: Constraints
    """What a model must be."""
    epsilon: Epsilon
    """The advantage of earlier commitments."""
    tasks: Tasks
    """By place or by name; their weights sum to 1."""
    title: str = ""
    """One line for people."""
    description: str = ""
    """A paragraph for people."""
    evaluation: Evaluation = Evaluation()
    """How models are run."""
    significance: float | None = None
    """The level at which a takeover must be beyond chance, beside epsilon (0.95: 95 %); None where epsilon decides."""

    RULES = (
        Rule("id", lambda number: 0 <= number <= 99, "0 to 99 (two digits fit in a commitment)", "competition id"),
        Rule("name", _NAME.fullmatch, "upper-case letters, digits and _", "competition name"),
        Rule("significance", lambda level: level is None or 0.5 <= level < 1, "a level in [0.5, 1), or none"),
        Rule("tasks", bool, "at least one", shown=_names),
        Rule("tasks", lambda tasks: len(set(_names(tasks))) == len(tasks), "each used once", "task names", _names),
        Rule("tasks", lambda tasks: abs(_total(tasks) - 1) < 1e-9, "1", "sum of the task weights of {name}", _total),
    )

    def score(self, raw: Mapping[str, float]) -> float:
        """The model's score: the weighted sum of normalized task scores; lower is better.

        raw: task name -> raw score. Not finite as soon as one raw score is not, also where
        normalization would hide it. Raises EvaluatorFault where a raw score is negative: no loss is, and
        an advantage by a share of the loss would turn against its owner.
        """
        if any(not math.isfinite(raw[task.name]) for task in self.tasks):
            return math.inf
        for task in self.tasks:
            if raw[task.name] < 0:
                raise EvaluatorFault(
                    f"the raw score of {task.name} is {raw[task.name]!r}; a loss is 0 or more: "
                    f"correct the method {task.method}"
                )
        return math.fsum(task.weight * task.normalization(raw[task.name]) for task in self.tasks)

    @property
    def digest(self) -> str:
        """SHA-256 of the competition's canonical JSON, without its title and description."""
        data = {name: value for name, value in asdict(self).items() if name not in ("title", "description")}
        if self.significance is None:
            del data["significance"]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __repr__(self) -> str:
        tasks = ", ".join(f"{task.name} {task.weight:g}" for task in self.tasks)
        return f"competition {self.id} {self.name}: {tasks}"

    def _repr_html_(self) -> str:
        limits = {**asdict(self.constraints), "epsilon": _said(self.epsilon), "significance": self.significance}
        limits["architectures"] = ", ".join(self.constraints.architectures)
        limits["tokenizer"] = self.constraints.tokenizer or "any: each model brings its own"
        return (
            f"<p><b>{self.id} {escape(self.name)}</b> {escape(self.title)}</p>"
            f"{Tasks(self.tasks)._repr_html_()}"
            f"<details><summary>constraints and epsilon</summary>{table((), limits.items())}</details>"
        )


def _said(epsilon: Epsilon) -> str:
    figures = ", ".join(f"{name} {value:g}" for name, value in asdict(epsilon).items() if name != "kind")
    return f"{epsilon.kind} {figures}"
