"""Batched generation says what one row at a time says, token by token."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sn37.engine.generation import generate
from sn37.engine.interface import GenerateRow
from sn37.engine.memory import Budget
from sn37.engine.reference import ReferenceEngine

VOCABULARY = 211
POSITIONS = 160


def some_rows(seed: int, lengths: Sequence[int], most: int = 12) -> list[GenerateRow]:
    draw = random.Random(seed)
    return [
        GenerateRow(
            tuple(draw.randrange(VOCABULARY) for _ in range(length)),
            draw.randint(1, most),
            repetition_penalty=draw.choice((1.0, 1.1, 1.2, 3.0)),
            eos=frozenset(draw.sample(range(VOCABULARY), 8)),
        )
        for length in lengths
    ]


def batched(model: Any, rows: Sequence[GenerateRow], tokens: int = 4096) -> list[list[int]]:
    return generate(model, rows, sequence_length=POSITIONS, budget=Budget(tokens))


MIXED = (3, 40, 1, 9, 9, 100, 2, 17, 33, 5, 60, 8)


@pytest.mark.parametrize("tokens", [1, 100, 700, 4096])
def test_tokens_are_the_reference_s_at_any_budget(model_of: Callable[[str], Any], kind: str, tokens: int) -> None:
    rows = some_rows(1, MIXED)
    expected = ReferenceEngine(model_of(kind), POSITIONS).generate(rows)
    assert batched(model_of(kind), rows, tokens) == expected
