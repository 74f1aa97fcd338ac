"""What the loss methods share: the unit of a loss, what a sample costs that cannot be measured, finite numbers only.

nats_per_token is fair between models with one tokenizer. bits_per_byte is the loss in bits over the UTF-8 bytes of
the text, so models with different tokenizers compare. A sample whose tokens do not decode to its text, or do not fit,
costs 8 bits a byte, what guessing its bytes costs: in nats_per_token that of a token for every byte, for a tokenizer
that is odd must not choose what it is divided by. So it can only lose by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from sn37.engine.interface import Engine, LossRow, Progress
from sn37.errors import ConfigError, ModelFault
from sn37.methods.base import MethodResult, Row
from sn37.sample import Sample

__all__ = ["Unit", "check_unit", "loss_result", "losses_of"]

Unit = Literal["nats_per_token", "bits_per_byte"]

GUESSED: dict[str, float] = {"bits_per_byte": 8.0, "nats_per_token": 8 * math.log(2)}
"""What guessing bytes costs, by unit."""


def check_unit(unit: str, units: object = Unit) -> None:
    """Raises ConfigError on a unit that is none of the literal `units`."""
    if unit not in get_args(units):
        raise ConfigError(f"unit is {unit!r}; expected one of {', '.join(get_args(units))}")


def losses_of(rows: Sequence[Row], engine: Engine, progress: Progress | None) -> list[float | None]:
    """Each row's summed loss in nats, None for a row with a flaw. Raises ModelFault when one is not a finite number."""
    measured = [row for row in rows if not row.flaw]
    found = iter(engine.losses([LossRow(row.tokens, row.start) for row in measured], progress) if measured else [])
    losses = [None if row.flaw else next(found) for row in rows]
    for row, loss in zip(rows, losses, strict=True):
        if loss is not None and not math.isfinite(loss):
            raise ModelFault(f"the loss of sample {row.sample} is {loss}; expected a finite number")
    return losses


def loss_result(
    rows: Sequence[Row], losses: Sequence[float | None], unit: Unit, samples: Sequence[Sample]
) -> MethodResult:
    """The mean over rows, one a sample, in the unit."""
    values = tuple(_in_unit(row, loss, unit) for row, loss in zip(rows, losses, strict=True))
    index = tuple(row.sample for row in rows)
    return MethodResult(
        score=math.fsum(values) / len(values),
        values=values,
        details=tuple(_detail(row) for row in rows),
        samples=() if index == tuple(range(len(samples))) else index,
    )


def _in_unit(row: Row, loss: float | None, unit: Unit) -> float:
    if loss is None:
        return GUESSED[unit]
    if unit == "bits_per_byte":
        return loss / math.log(2) / row.target_bytes
    return loss / (len(row.tokens) - row.start)


def _detail(row: Row) -> dict[str, object]:
    if row.flaw:
        return {"tokens": 0, "context": 0, "flaw": row.flaw}
    return {"tokens": len(row.tokens) - row.start, "context": row.start}
