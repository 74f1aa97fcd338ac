"""What a competition is: constraints, evaluation tasks, epsilon, normalization.

Pure values, checked when made. Reading them from TOML is `sn37.competitions`' work.
Protocol, section 4. Scores are losses: lower is better.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any, Literal

from sn37.errors import EvaluatorFault
from sn37.html import table

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

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[0-9a-f]{40})?")


def _expect(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value!r}; expected {expected}")


@dataclass(frozen=True)
class Fixed:
    """An epsilon that never changes."""

    value: float
    """The share of its loss by which an earlier commitment is ahead, in [0, 1)."""
    kind: Literal["fixed"] = "fixed"
    """What a file calls it."""

    def __post_init__(self) -> None:
        _expect(0 <= self.value < 1, "epsilon", self.value, "a number in [0, 1)")

    def at(self, now: int, committed: int) -> float:
        """Epsilon at block `now` of a submission committed at block `committed`."""
        return self.value

    @property
    def final(self) -> float:
        """Epsilon once it has fully decayed."""
        return self.value


@dataclass(frozen=True)
class LinearDecay:
    """An epsilon that falls linearly from `start` to `end` within `decay_blocks` of the commitment."""

    start: float
    """Epsilon at the commitment's own block, in [end, 1)."""
    end: float
    """Epsilon once it has fully decayed, 0 or more."""
    decay_blocks: int
    """Blocks from start to end."""
    kind: Literal["linear_decay"] = "linear_decay"
    """What a file calls it."""

    def __post_init__(self) -> None:
        _expect(0 <= self.end <= self.start < 1, "epsilon", (self.start, self.end), "0 <= end <= start < 1")
        _expect(self.decay_blocks > 0, "decay_blocks", self.decay_blocks, "1 block or more")

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
class InverseExponential:
    """Maps a loss from [0, ceiling] to [0, 1], steepest near 0; 1 from the ceiling on."""

    ceiling: float
    """The loss from which on the normalized score is 1, above 0."""
    kind: Literal["inverse_exponential"] = "inverse_exponential"
    """What a file calls it."""

    def __post_init__(self) -> None:
        _expect(math.isfinite(self.ceiling) and self.ceiling > 0, "ceiling", self.ceiling, "a number above 0")

    def __call__(self, score: float) -> float:
        if score >= self.ceiling:
            return 1.0
        return (1 - math.exp(-score / self.ceiling)) / (1 - math.exp(-1))


Normalization = Unnormalized | InverseExponential


@dataclass(frozen=True)
class Constraints:
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

    def __post_init__(self) -> None:
        _expect(bool(self.architectures), "architectures", self.architectures, "at least one")
        for name in self.architectures:
            _expect(name in ARCHITECTURES, "architectures", name, f"one of {', '.join(ARCHITECTURES)}")
        _expect(
            0 <= self.min_parameters <= self.max_parameters,
            "min_parameters, max_parameters",
            (self.min_parameters, self.max_parameters),
            "0 <= least <= most",
        )
        for name in ("max_parameters", "max_bytes", "sequence_length"):
            _expect(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        repo = self.tokenizer is None or bool(_REPO.fullmatch(self.tokenizer))
        expected = f"a hub repo (namespace/name or namespace/name@commit), or {ANY_TOKENIZER!r}"
        _expect(repo, "tokenizer", self.tokenizer, expected)
        _expect(self.delay_blocks >= 0, "delay_blocks", self.delay_blocks, "0 or more")
        _expect(self.dtype in ("bfloat16", "float16", "float32"), "dtype", self.dtype, "bfloat16, float16 or float32")
        _expect(0 < self.norm_soft <= self.norm_hard, "norm_soft", self.norm_soft, "above 0, at most norm_hard")
        _expect(0 <= self.norm_soft_share <= 1, "norm_soft_share", self.norm_soft_share, "a share in [0, 1]")


@dataclass(frozen=True)
class Evaluation:
    """How a competition's models are run; part of the competition, so that all validators do the same."""

    batch_tokens: int = 32_768
    """Padded tokens that generation works on at once, eight times those of a batch of losses. All batches are planned
    from it and the samples alone."""
    time_limit_s: int = 3_600
    """Seconds after which one model's evaluation is killed."""

    def __post_init__(self) -> None:
        _expect(self.batch_tokens > 0, "batch_tokens", self.batch_tokens, "1 or more")
        _expect(self.time_limit_s > 0, "time_limit_s", self.time_limit_s, "1 second or more")


@dataclass(frozen=True)
class EvalTask:
    """One evaluation task: where its samples come from, how an answer becomes a number, what it weighs."""

    name: str
    """Upper-case letters, digits and _; its samples are drawn from a generator seeded with it."""
    source: str
    """The registered source of its samples."""
    method: str
    """The registered method that makes a number of the answers."""
    weight: float
    """Its share of the score, in (0, 1]."""
    source_args: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The source's arguments, JSON data."""
    method_args: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The method's arguments, JSON data."""
    normalization: Normalization = Unnormalized()
    """Raw score -> normalized score."""

    def __post_init__(self) -> None:
        _expect(bool(_NAME.fullmatch(self.name)), "task name", self.name, "upper-case letters, digits and _")
        _expect(0 < self.weight <= 1, f"weight of {self.name}", self.weight, "a number in (0, 1]")
        for name in ("source_args", "method_args"):
            _expect(_plain(getattr(self, name)), f"{name} of {self.name}", getattr(self, name), "plain JSON data")


@dataclass(frozen=True)
class Competition:
    """One competition. `digest` changes whenever anything that could change a score does."""

    id: int
    """0 to 99, as a commitment names it."""
    name: str
    """Upper-case letters, digits and _."""
    constraints: Constraints
    """What a model must be."""
    epsilon: Epsilon
    """The advantage of earlier commitments."""
    tasks: tuple[EvalTask, ...]
    """Their weights sum to 1."""
    title: str = ""
    """One line for people."""
    description: str = ""
    """A paragraph for people."""
    evaluation: Evaluation = Evaluation()
    """How models are run."""

    def __post_init__(self) -> None:
        _expect(0 <= self.id <= 99, "competition id", self.id, "0 to 99 (two digits fit in a commitment)")
        _expect(bool(_NAME.fullmatch(self.name)), "competition name", self.name, "upper-case letters, digits and _")
        names = [task.name for task in self.tasks]
        _expect(bool(names), "tasks", names, "at least one")
        _expect(len(set(names)) == len(names), "task names", names, "each used once")
        total = math.fsum(task.weight for task in self.tasks)
        _expect(abs(total - 1) < 1e-9, f"sum of the task weights of {self.name}", total, "1")

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
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __str__(self) -> str:
        tasks = ", ".join(f"{task.name} {task.weight:g}" for task in self.tasks)
        return f"competition {self.id} {self.name}: {tasks}"

    def _repr_html_(self) -> str:
        tasks = [(t.name, t.source, t.method, t.normalization.kind, f"{t.weight:g}") for t in self.tasks]
        limits = {**asdict(self.constraints), "epsilon": _said(self.epsilon)}
        limits["architectures"] = ", ".join(self.constraints.architectures)
        limits["tokenizer"] = self.constraints.tokenizer or "any: each model brings its own"
        return (
            f"<p><b>{self.id} {escape(self.name)}</b> {escape(self.title)}</p>"
            f"{table(('task', 'source', 'method', 'normalization', 'weight'), tasks)}"
            f"<details><summary>constraints and epsilon</summary>{table((), limits.items())}</details>"
        )


def _said(epsilon: Epsilon) -> str:
    figures = ", ".join(f"{name} {value:g}" for name, value in asdict(epsilon).items() if name != "kind")
    return f"{epsilon.kind} {figures}"


def _plain(value: Any) -> bool:
    """Whether a value is JSON data, so that the digest can cover it."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
