"""The yardstick agrees with the formulas, computed here the long way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from sn37.engine.interface import GenerateRow, LossRow
from sn37.engine.reference import ReferenceEngine, penalized

TOKENS = tuple(range(3, 43))


def logits_of(model: Any, tokens: Sequence[int]) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(tokens)])).logits[0].double()


@pytest.mark.parametrize("start", [1, 20, 39])
def test_a_loss_is_the_sum_of_the_targets_cross_entropies(
    model_of: Callable[[str], Any], kind: str, start: int
) -> None:
    logits = logits_of(model_of(kind), TOKENS)
    expected = math.fsum(
        math.log(math.fsum(math.exp(x) for x in logits[i - 1].tolist())) - float(logits[i - 1, TOKENS[i]])
        for i in range(start, len(TOKENS))
    )
    (loss,) = ReferenceEngine(model_of(kind), 128).losses([LossRow(TOKENS, start)])
    assert loss == pytest.approx(expected, rel=1e-6)


def test_a_continuation_is_the_likeliest_token_each_time(model_of: Callable[[str], Any], kind: str) -> None:
    expected: list[int] = []
    while len(expected) < 5:
        expected.append(int(logits_of(model_of(kind), (*TOKENS, *expected))[-1].argmax()))
    engine = ReferenceEngine(model_of(kind), 128)
    assert engine.generate([GenerateRow(TOKENS, 5)]) == [expected]
    third = expected.index(expected[2])
    assert engine.generate([GenerateRow(TOKENS, 5, eos=frozenset({expected[2]}))]) == [expected[:third]]
    assert engine.generate([GenerateRow(TOKENS, 5, stop=lambda new: len(new) == 2)]) == [expected[:2]]
    assert engine.generate([GenerateRow(TOKENS, 0)]) == [[]]


def test_a_penalty_makes_a_row_s_own_tokens_less_likely() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0, 0.0])
    assert penalized(logits, (0, 1, 0), 2.0).tolist() == [1.0, -4.0, 1.0, 0.0]
    assert logits.tolist() == [2.0, -2.0, 1.0, 0.0]


def test_a_penalty_counts_prompt_and_reply(model_of: Callable[[str], Any]) -> None:
    expected: list[int] = []
    while len(expected) < 8:
        seen = (*TOKENS, *expected)
        logits = logits_of(model_of("llama"), seen)[-1]
        for token in set(seen):
            logits[token] = logits[token] / 5 if logits[token] > 0 else logits[token] * 5
        expected.append(int(logits.argmax()))
    engine = ReferenceEngine(model_of("llama"), 128)
    assert engine.generate([GenerateRow(TOKENS, 8, repetition_penalty=5.0)]) == [expected]
    assert not set(expected) & set(TOKENS)


def test_progress_counts_rows_and_tokens(model_of: Callable[[str], Any]) -> None:
    seen: list[tuple[int, int]] = []
    engine = ReferenceEngine(model_of("llama"), 128)
    engine.losses([LossRow(TOKENS), LossRow(TOKENS[:7])], lambda rows, tokens: seen.append((rows, tokens)))
    engine.generate([GenerateRow(TOKENS, 3)], lambda rows, tokens: seen.append((rows, tokens)))
    assert seen == [(1, 40), (1, 7), (1, 43)]


@pytest.mark.parametrize("length", [0, 129])
def test_a_row_that_does_not_fit_is_an_error(model_of: Callable[[str], Any], length: int) -> None:
    engine = ReferenceEngine(model_of("llama"), 128)
    with pytest.raises(ValueError, match="expected 1 to 128"):
        engine.generate([GenerateRow((5,) * length, 0)])
    with pytest.raises(ValueError, match="expected"):
        engine.losses([LossRow((5,) * 129)])
