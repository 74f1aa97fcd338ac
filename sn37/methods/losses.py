"""What the loss methods share: fidelity of a tokenizer, the unit of a loss, means of finite numbers only.

nats_per_token is the protocol's unit: fair between models with one tokenizer. bits_per_byte is the
loss in bits over the UTF-8 bytes of the text, so models with different tokenizers compare.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sn37.engine.interface import Engine, LossRow, Progress
from sn37.errors import ConfigError, ModelFault
from sn37.methods.base import MethodResult, Row, Tokenizer, TokenizerFault
from sn37.methods.tokens import decode

__all__ = ["Fidelity", "Unit", "check_unit", "loss_result", "losses_of"]

Unit = Literal["nats_per_token", "bits_per_byte"]

MAX_LOST_SHARE = 0.001
"""The share of a task's characters that a tokenizer may lose: a stray space, never its way to a low loss."""


def check_unit(unit: str, units: object = Unit) -> None:
    """Raises ConfigError on a unit that is none of the literal `units`."""
    if unit not in get_args(units):
        raise ConfigError(f"unit is {unit!r}; expected one of {', '.join(get_args(units))}")


@dataclass
class Fidelity:
    """Whether the tokens of a task's texts still say the text.

    A tokenizer that maps much to one token makes every loss small; so what its tokens decode to is
    compared with the text, by counted characters, over all texts of a task.
    """

    tokenizer: Tokenizer
    lost: int = 0
    seen: int = 0

    def target_bytes(self, text: str, tokens: Sequence[int], whole: bool) -> int:
        """UTF-8 bytes of the text that the tokens stand for; whole: False where its end was cut off."""
        kept, expected = _normal(decode(self.tokenizer, tokens, special=True)), _normal(text)
        if not whole:
            kept = kept.rstrip("\ufffd")  # the cut may go through a letter
            expected = expected[: len(kept)]
        self.seen += len(expected)
        self.lost += (Counter(expected) - Counter(kept)).total()
        return len(expected.encode())

    def check(self) -> None:
        """Raises TokenizerFault when too much was lost."""
        if self.lost > MAX_LOST_SHARE * self.seen:
            raise TokenizerFault(
                f"the tokenizer loses {self.lost} of {self.seen} characters; "
                f"expected its tokens to decode to the text (at most {MAX_LOST_SHARE:.1%} lost)"
            )


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def losses_of(rows: Sequence[Row], engine: Engine, progress: Progress | None) -> list[float]:
    """Each row's summed loss in nats. Raises ModelFault when one is not a finite number."""
    losses = engine.losses([LossRow(row.tokens, row.start) for row in rows], progress)
    for row, loss in zip(rows, losses, strict=True):
        if not math.isfinite(loss):
            raise ModelFault(f"the loss of sample {row.sample} is {loss}; expected a finite number")
    return losses


def loss_result(rows: Sequence[Row], losses: Sequence[float], unit: str, count: int) -> MethodResult:
    """The mean over rows, one a sample, in the unit; count: how many samples there were."""
    values = tuple(_in_unit(row, loss, unit) for row, loss in zip(rows, losses, strict=True))
    details = tuple({"tokens": len(row.tokens) - row.start, "context": row.start} for row in rows)
    index = tuple(row.sample for row in rows)
    return MethodResult(
        score=math.fsum(values) / len(values),
        values=values,
        details=details,
        samples=() if index == tuple(range(count)) else index,
    )


def _in_unit(row: Row, loss: float, unit: str) -> float:
    if unit == "bits_per_byte":
        return loss / math.log(2) / row.target_bytes
    return loss / (len(row.tokens) - row.start)
