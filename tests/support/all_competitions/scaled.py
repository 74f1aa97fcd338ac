"""The public competitions for tiny models: their sizes scaled down, and nothing else.

Parameters and bytes are a ten-thousandth of the public figure, and fewer rows are drawn. Tasks, methods,
normalizations, weights, epsilons, tokenizers, sequence lengths and delays are the public files' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sn37.competition import Competition, EvalTask

SCALE = 10_000

DRAWN: Mapping[str, Mapping[str, int]] = {
    "codeforces_cots": {"rows": 32, "page_rows": 8, "min_samples": 12},
    "cortex": {"max_samples": 32, "min_samples": 16},
    "fineweb": {"pages": 2, "page_rows": 12},
    "if_eval": {"count": 12, "configs": 4},
    "macrobench": {"configs": 4, "max_samples": 60},
    "synthetic_1_sft": {"rows": 40, "page_rows": 10, "max_samples": 24, "min_samples": 12},
    "word_sorting": {"count": 24},
}
"""What a source of the public competitions is asked for here: its arguments that count rows."""

SHARES = {"SN9_MODEL": 0.1, "B7_MULTI_CHOICE": 0.3, "INSTRUCT_8B": 0.2, "DISTILLED_REASONING_3B": 0.4}
"""The split of a schedule in which all public competitions run at once."""


def scaled(competition: Competition) -> Competition:
    """The competition with its sizes scaled down."""
    limits = competition.constraints
    sizes = {name: getattr(limits, name) // SCALE for name in ("min_parameters", "max_parameters", "max_bytes")}
    tasks = tuple(map(_fewer_rows, competition.tasks))
    return replace(competition, constraints=replace(limits, **sizes), tasks=tasks)


def _fewer_rows(task: EvalTask) -> EvalTask:
    return replace(task, source_args={**task.source_args, **DRAWN[task.source]})


def write_schedule(folder: Path) -> Path:
    """Write the scaled competitions, as they newest run, and a schedule of all at once; returns its file."""
    from sn37.competitions import public, write_competition

    shares = []
    for name, share in SHARES.items():
        file = f"{name.lower()}.toml"
        (folder / file).write_text(write_competition(scaled(public(name))), encoding="utf-8")
        shares.append(f'"{file}" = {share}')
    schedule = folder / "schedule.toml"
    text = f"default_id = 1\n\n[[periods]]\nfrom_block = 0\nshares = {{ {', '.join(shares)} }}\n"
    schedule.write_text(text, encoding="utf-8")
    return schedule
