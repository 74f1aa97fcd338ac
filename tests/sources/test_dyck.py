"""dyck: balanced brackets without their end."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sn37.clock import generator
from sn37.sample import digest
from sn37.sources import SOURCES, Context
from sn37.sources.dyck import balanced

CLOSER = {"<": ">", "[": "]", "{": "}", "(": ")"}


def drawn(seed: int = 7, **args: Any) -> list[Any]:
    nothing: Any = None
    as_of = datetime(2025, 1, 1, tzinfo=UTC)
    return SOURCES["dyck"](**args)(Context(generator(seed, "TASK"), as_of, nothing, nothing, nothing, nothing))


def unclosed(text: str) -> str:
    """What is still to be closed after `text`, innermost first."""
    expected = ""
    for character in text:
        if character in CLOSER:
            expected = CLOSER[character] + expected
        else:
            assert expected[:1] == character
            expected = expected[1:]
    return expected


def test_the_reference_is_exactly_what_closes_the_sequence() -> None:
    samples = drawn()
    assert len(samples) == 100
    ends, pairs = set(), set()
    for sample in samples:
        asked = sample.prompt.partition(": ")[2].replace(" ", "")
        reference = sample.reference.replace(" ", "")
        assert unclosed(asked) == reference
        ends.add(len(reference))
        pairs.add(len(asked + reference) // 2)
    assert ends == {1, 2, 3}
    assert min(pairs) >= 2
    assert max(pairs) <= 20
    assert {character for sample in samples for character in sample.prompt} >= set("<>[]{}()")


@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 3))
def test_a_balanced_string_has_its_pairs_and_its_end(seed: int, pairs: int, closing: int) -> None:
    closing = min(closing, pairs)
    text = balanced(random.Random(seed), pairs, closing)
    assert len(text) == 2 * pairs
    assert unclosed(text) == ""
    assert not set(text[-closing:]) & set(CLOSER)


def test_every_shape_can_be_drawn() -> None:
    shapes = {"".join("(" if c in CLOSER else ")" for c in balanced(random.Random(i), 3, 1)) for i in range(300)}
    assert shapes == {"()()()", "()(())", "(())()", "(()())", "((()))"}


def test_another_seed_gives_other_strings() -> None:
    assert digest(drawn(7)) != digest(drawn(8))
