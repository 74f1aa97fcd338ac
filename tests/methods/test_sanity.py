"""The sanity check of text_loss, on both sides of each of its borders."""

from __future__ import annotations

from typing import Any

import pytest

from sn37.engine.interface import GenerateRow
from sn37.errors import ConfigError, DataFault, ModelFault
from sn37.methods import METHODS, apply
from sn37.sample import TextSample

WORDS = list(range(20, 60))


def run(tokenizer: Any, tools: Any, left: list[int], right: list[int], texts: tuple[str, ...] = ()) -> Any:
    texts = texts or tools.prose[:2]
    prompts = [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    replies = dict(zip(prompts[:2], (left, right), strict=True))

    def logits(seen: tuple[int, ...]) -> Any:
        if any(seen[: len(prompt)] == prompt for prompt in replies):
            return tools.scripted(replies, len(tokenizer), 0)(seen)
        return [0.0] * len(tokenizer)

    engine = tools.engine(logits, asked=[])
    return apply(METHODS["text_loss"](), [TextSample(text) for text in texts], tokenizer, engine), engine


@pytest.mark.parametrize(("alike", "passes"), [(0, True), (9, True), (10, False), (20, False)])
def test_half_or_more_equal_positions_fail(alike: int, passes: bool, tokenizer: Any, tools: Any) -> None:
    left, right = WORDS[:20], WORDS[:alike] + WORDS[20 : 40 - alike]
    if passes:
        run(tokenizer, tools, left, right)
    else:
        with pytest.raises(ModelFault, match=f"{alike} of 20 tokens agree"):
            run(tokenizer, tools, left, right)


@pytest.mark.parametrize(
    ("in_left", "in_right", "passes"), [(10, 20, True), (11, 10, True), (11, 11, False), (20, 20, False)]
)
def test_one_token_in_more_than_half_of_both_fails(
    in_left: int, in_right: int, passes: bool, tokenizer: Any, tools: Any
) -> None:
    left = [20] * in_left + WORDS[1 : 21 - in_left]
    right = [41] * in_right + WORDS[22 : 42 - in_right]
    if passes:
        run(tokenizer, tools, left, right)
    else:
        with pytest.raises(ModelFault, match=r"one token makes up (11|20) or more"):
            run(tokenizer, tools, left, right)


def test_end_of_text_is_a_token_like_any_other(tokenizer: Any, tools: Any) -> None:
    end = tokenizer.eos_token_id
    _, engine = run(tokenizer, tools, [end, *WORDS[:19]], [end, *WORDS[19:38]])
    asked = [row for row in engine.asked if isinstance(row, GenerateRow)]
    assert [(row.max_new_tokens, row.repetition_penalty, row.eos, row.stop) for row in asked] == [
        (20, 1.0, frozenset(), None)
    ] * 2


def test_the_prompts_are_the_first_hundred_tokens(tokenizer: Any, tools: Any) -> None:
    texts = [TextSample(f"{i} " + "word " * 200) for i in range(3)]
    engine = tools.engine(tools.uniform(len(tokenizer)), asked=[])
    with pytest.raises(ModelFault):
        apply(METHODS["text_loss"](), texts, tokenizer, engine)
    expected = [tuple(tokenizer.encode(text.text, add_special_tokens=False))[:100] for text in texts[:2]]
    assert [row.tokens for row in engine.asked] == expected


def test_a_text_that_begins_like_the_first_is_no_second_prompt(tokenizer: Any, tools: Any) -> None:
    same = "word " * 120
    texts = [TextSample(same + "one"), TextSample(same + "two"), TextSample("Another.")]
    engine = tools.engine(tools.uniform(len(tokenizer)), asked=[])
    with pytest.raises(ModelFault):
        apply(METHODS["text_loss"](), texts, tokenizer, engine)
    assert engine.asked[1].tokens == tuple(tokenizer.encode("Another.", add_special_tokens=False))
    with pytest.raises(DataFault, match="no two texts that begin differently"):
        apply(METHODS["text_loss"](), texts[:2], tokenizer, engine)


def test_a_sequence_without_room_for_the_continuation_is_named(tokenizer: Any, tools: Any) -> None:
    engine = tools.engine(tools.uniform(len(tokenizer)), sequence_length=20)
    with pytest.raises(ConfigError, match="sequence length is 20; expected more than the 20 tokens"):
        apply(METHODS["text_loss"](), [TextSample("one two"), TextSample("three four")], tokenizer, engine)
