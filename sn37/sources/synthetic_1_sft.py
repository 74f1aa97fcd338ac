"""Reasoning over mathematics and code: hub dataset PrimeIntellect/SYNTHETIC-1-SFT-Data (protocol, section 5)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sn37.sample import ReferenceSample, Sample
from sn37.sources.base import Context, Count, DataRow, source
from sn37.sources.pages import page_indices

__all__ = ["SYSTEM_PROMPT", "Synthetic1Sft", "answer_end"]

REPO = "PrimeIntellect/SYNTHETIC-1-SFT-Data"
COLUMNS = ("response_id", "problem_id", "task_type", "score", "messages")

SYSTEM_PROMPT = (
    "You are a careful problem solver. First reason step by step inside <think> and </think> tags; "
    "then give the final answer in the form the question asks for."
)

_BOXED = "\\boxed{"
_OUTPUT = re.compile(r'\{\s*"output"\s*:\s*"(?:[^"\\]|\\.)*"\s*\}', re.DOTALL)


@source("synthetic_1_sft")
@dataclass(frozen=True)
class Synthetic1Sft:
    """Questions, and the trace up to and with the answer as reference."""

    rows: Count = 150
    """Rows that are read."""
    page_rows: Count = 50
    """Neighbouring rows that are read together."""
    max_samples: Count = 120
    """At most so many samples are kept."""
    min_samples: Count = 40
    """Fewer samples are a data fault."""
    config: str = "default"
    """The dataset's config."""
    split: str = "train"
    """The config's split."""

    def __call__(self, context: Context) -> list[Sample]:
        """The samples, drawn with the context's generator."""
        total = context.datasets.num_rows(REPO, self.config, self.split)
        indices = page_indices(context.generator, total, self.rows, self.page_rows, REPO)
        samples: list[Sample] = []
        for row in context.datasets.rows(REPO, self.config, self.split, indices, COLUMNS):
            sample = _sample(row, context)
            if sample is not None and len(samples) < self.max_samples:
                samples.append(sample)
        context.enough(samples, self.min_samples, REPO)
        return samples


def _sample(row: DataRow, context: Context) -> Sample | None:
    task_type = row["task_type"]
    if task_type not in ("verifiable_math", "code_output_prediction"):
        context.drop("rows of another task type")
        return None
    question, reply = exchange(row["messages"])
    end = answer_end(reply, task_type)
    if not question or end is None:
        context.drop("rows without a question and an answer")
        return None
    return ReferenceSample(question, reply[:end], SYSTEM_PROMPT)


def exchange(messages: object) -> tuple[str, str]:
    """The user's message and the assistant's, of exactly these two; ("", "") of anything else."""
    match messages:
        case [{"role": "user", "content": str(question)}, {"role": "assistant", "content": str(reply)}]:
            return question.strip(), reply.strip()
    return "", ""


def answer_end(reply: str, task_type: str) -> int | None:
    """Where the reply's last answer ends: `\\boxed{...}` or `{"output": "..."}`; None without one."""
    if task_type == "code_output_prediction":
        ends = [match.end() for match in _OUTPUT.finditer(reply)]
        return ends[-1] if ends else None
    start = reply.rfind(_BOXED)
    depth = 0
    for position in range(start + len(_BOXED) - 1, len(reply)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(reply[position], 0)
        if depth == 0:
            return position + 1
    return None
