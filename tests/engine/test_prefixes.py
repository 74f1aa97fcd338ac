"""Groups of prompts: what they share is a true prefix, and worth computing once."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sn37.engine.prefixes import shared_prefixes

Prompts = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple), max_size=12)


@given(Prompts, st.integers(0, 40))
def test_a_prefix_is_true_shorter_and_shared(prompts: list[tuple[int, ...]], most: int) -> None:
    found = shared_prefixes(prompts, most)
    assert sum(map(len, set(found.values()))) <= most
    for prompt, prefix in found.items():
        assert 0 < len(prefix) < len(prompt)
        assert prompt[: len(prefix)] == prefix
        assert sum(other == prefix for other in found.values()) > 1


@given(Prompts, st.randoms(use_true_random=False))
def test_order_does_not_matter(prompts: list[tuple[int, ...]], draw: random.Random) -> None:
    shuffled = draw.sample(prompts, len(prompts))
    assert shared_prefixes(shuffled, 20) == shared_prefixes(prompts, 20)


def ends(count: int, seed: int, length: int = 100) -> list[tuple[int, ...]]:
    draw = random.Random(seed)
    return [tuple(draw.randrange(100_000) for _ in range(length)) for _ in range(count)]


def test_a_template_and_a_worked_example_make_two_groups() -> None:
    template, example = (7,) * 25, (8,) * 200
    plain = [template + end for end in ends(30, 1)]
    worked = [template + example + end for end in ends(30, 2)]
    found = shared_prefixes(plain + worked, 4096)
    assert {found[prompt] for prompt in plain} == {template}
    assert {found[prompt] for prompt in worked} == {template + example}


def test_what_saves_most_comes_first_within_the_limit() -> None:
    few, many = (1,) * 50, (2,) * 50
    prompts = [few + end for end in ends(3, 3)] + [many + end for end in ends(9, 4)]
    assert set(shared_prefixes(prompts, 60).values()) == {many}


def test_a_prefix_that_saves_little_is_left_alone() -> None:
    assert shared_prefixes([(1, 2, *end) for end in ends(20, 5)], 4096) == {}


def test_deep_nests_are_no_trouble() -> None:
    assert shared_prefixes([(1,) * length for length in range(1, 1500)], 1 << 20)
