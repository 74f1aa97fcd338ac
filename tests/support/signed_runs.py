"""wandb runs as the validators of subnets 1 and 18 log them, with real signatures, for the embedded wandb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Protocol

from public_datasets import prose, question
from wandb_server import ServedRun

PROMPTING = "macrocosmos/prompting-validators"
CORTEX = "cortex-t/multi-modality"


class Key(Protocol):
    """What signs: a bittensor Keypair."""

    @property
    def ss58_address(self) -> str: ...

    def sign(self, data: bytes) -> bytes: ...


def prompting_run(
    key: Key,
    run_id: str,
    as_of: datetime,
    *,
    rows: int = 200,
    hours: float = 6,
    claims: Mapping[str, Any] | None = None,
) -> ServedRun:
    """Subnet 1: every third row is of another task. claims: config entries to put in place of the true ones."""
    draw = Random(f"prompting {run_id}")
    texts = prose()
    history = []
    for step, stamp in enumerate(_stamps(as_of, rows, hours)):
        asked, letter = question(draw, texts)
        task = "multi_choice" if step % 3 else "summarization"
        history.append({"_step": step, "_timestamp": stamp, "task": task, "challenge": asked, "reference": letter})
    signed = {"HOTKEY_SS58": key.ss58_address, "SIGNATURE": key.sign(run_id.encode()).hex()}
    return _served(PROMPTING, run_id, {**signed, **(claims or {})}, history, as_of)


def cortex_run(
    key: Key, run_id: str, as_of: datetime, *, rows: int = 80, hours: float = 6, claims: Mapping[str, Any] | None = None
) -> ServedRun:
    """Subnet 18: three replies a row, the last of them badly scored, and now and then a refusal."""
    draw = Random(f"cortex {run_id}")
    texts = prose()
    history = []
    for step, stamp in enumerate(_stamps(as_of, rows, hours)):
        row: dict[str, Any] = {"_step": step, "_timestamp": stamp, "modality": "text" if step % 5 else "images"}
        for uid, score in ((7, 0.95), (21, 0.9), (133, 0.4)):
            words = draw.choice(texts).split()
            row[f"prompts.{uid}"] = f"Please continue: {' '.join(words[:8])}"
            row[f"responses.{uid}"] = "I'm sorry, I cannot assist with that." if step % 10 == 9 else " ".join(words[8:])
            row[f"scores.{uid}"] = score
        history.append(row)
    config = {"type": "validator", "hotkey": key.ss58_address, "signature": key.sign(run_id.encode()).hex()}
    return _served(CORTEX, run_id, {**config, **(claims or {})}, history, as_of)


def _stamps(as_of: datetime, rows: int, hours: float) -> list[float]:
    """Times from `hours` before to one hour after `as_of`."""
    start = as_of - timedelta(hours=hours)
    return [(start + timedelta(hours=hours + 1) * i / rows).timestamp() for i in range(rows)]


def _served(
    project: str, run_id: str, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], as_of: datetime
) -> ServedRun:
    return ServedRun(project, run_id, config, rows, as_of - timedelta(hours=12), as_of + timedelta(hours=1))
