"""multiple_choice and if_eval on replies that are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn37.engine.interface import GenerateRow
from sn37.errors import DataFault
from sn37.ifeval import rule_of
from sn37.methods import METHODS, TokenizerFault, apply
from sn37.methods.if_eval import cost, similarity
from sn37.methods.multiple_choice import answer_of, stop_when_decided
from sn37.methods.tokens import chat_prompt
from sn37.sample import ChoiceSample, InstructionSample

CHOICES = ("A", "B", "C", "D")


def playing(tokenizer: Any, tools: Any, replies: dict[str, Sequence[int] | str], **options: Any) -> Any:
    """An engine that answers each prompt as told, then ends."""
    known = {
        chat_prompt(tokenizer, prompt): tokenizer.encode(reply, add_special_tokens=False)
        if isinstance(reply, str)
        else reply
        for prompt, reply in replies.items()
    }
    return tools.engine(tools.scripted(known, len(tokenizer), tokenizer.eos_token_id), asked=[], **options)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("A", "A"),
        ("B.", "B"),
        ("**C**", "C"),
        ("(D) is right", "D"),
        ("The answer is B, not A", "B"),
        ("\nB\n", "B"),
        ("A/B", "A"),
        ("AB", None),
        ("a", None),
        ("A_", None),
        ("Ä", None),
        ("ÄA", None),
        ("1A A", "A"),
        ("", None),
        ("E F G", None),
    ],
)
def test_the_answer_is_the_first_word_that_equals_a_choice(reply: str, answer: str | None) -> None:
    assert answer_of(reply, CHOICES) == answer


def test_multiple_choice_is_the_share_of_questions_not_answered_right(tokenizer: Any, tools: Any) -> None:
    replies = {"one": "A", "two": "It is C.", "three": "nothing", "four": "C"}
    samples = [ChoiceSample(prompt, CHOICES, "C") for prompt in replies]
    result = apply(METHODS["multiple_choice"](), samples, tokenizer, playing(tokenizer, tools, replies))
    assert result.values == (1.0, 0.0, 1.0, 0.0)
    assert result.score == 0.5
    assert [detail["answer"] for detail in result.details] == ["A", "C", None, "C"]
    assert result.details[1]["reply"] == "It is C."


def test_multiple_choice_asks_as_the_protocol_says(tokenizer: Any, tools: Any) -> None:
    engine = playing(tokenizer, tools, {"one": "word " * 100})
    apply(METHODS["multiple_choice"](), [ChoiceSample("one", CHOICES, "A")], tokenizer, engine)
    (row,) = engine.asked
    assert isinstance(row, GenerateRow)
    assert (row.max_new_tokens, row.repetition_penalty, row.eos) == (20, 1.1, {tokenizer.eos_token_id})


def test_a_prompt_leaves_room_for_the_reply(tokenizer: Any) -> None:
    sample = ChoiceSample("word " * 100, CHOICES, "A")
    (row,) = METHODS["multiple_choice"]().rows([sample], tokenizer, 60)
    assert row.tokens == chat_prompt(tokenizer, sample.prompt)[-40:]


def test_choices_of_several_words_are_the_data_s_fault(tokenizer: Any) -> None:
    with pytest.raises(DataFault, match="use choice_likelihood"):
        METHODS["multiple_choice"]().rows([ChoiceSample("q", ("ice cream", "tea"), "tea")], tokenizer, 512)


def test_a_decided_row_ends_early(tokenizer: Any, tools: Any) -> None:
    engine = playing(tokenizer, tools, {"one": "B. For the river rose in the night."})
    result = apply(METHODS["multiple_choice"](), [ChoiceSample("one", CHOICES, "B")], tokenizer, engine)
    assert result.values == (0.0,)
    assert result.details[0]["tokens"] == 2


@pytest.mark.parametrize(
    ("pieces", "decided"),
    [
        (["A"], False),  # may become AB
        (["A", "B"], False),
        (["A", " "], True),
        (["A", "."], True),
        (["A", b"\xc3"], False),  # may become Aé
        (["A", b"\xc3", b"\xa9"], False),  # is Aé
        (["A", b"\xe2", b"\x80"], False),
        (["A", b"\xe2", b"\x80", b"\x94"], False),  # "A—": a dash, yet see below
        (["A", b"\xe2", b"\x80", b"\x94", "x"], True),
        (["A", b"\xff", " "], True),  # never a character
        (["x", " ", "A"], False),
        (["x", " ", "A", "\n"], True),
        (["E", "."], False),
    ],
)
def test_a_word_is_decided_once_it_cannot_grow(pieces: list[str | bytes], decided: bool, tools: Any) -> None:
    tokenizer = tools.build(merges=0)
    stop = stop_when_decided(tokenizer, CHOICES)
    tokens = [token for piece in pieces for token in byte_tokens(tokenizer, piece)]
    if pieces[-1] == b"\x94":  # the whole dash is a non-word character: decided, with its last byte
        assert stop(tokens) and not stop(tokens[:-1])
    else:
        assert stop(tokens) is decided


def byte_tokens(tokenizer: Any, piece: str | bytes) -> list[int]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    raw = piece.encode() if isinstance(piece, str) else piece
    return [tokenizer.convert_tokens_to_ids(bytes_to_unicode()[byte]) for byte in raw]


ALPHABET = [b"A", b"B", b"a", b" ", b".", b"_", b"\xc3", b"\xa9", b"\xe2", b"\x80", b"\x94", b"\xff", b"\n"]


@given(st.lists(st.sampled_from(ALPHABET), max_size=20))
def test_ending_early_never_changes_the_answer(bytes_tokenizer: Any, reply: list[bytes]) -> None:
    tokens = [token for piece in reply for token in byte_tokens(bytes_tokenizer, piece)]
    stop = stop_when_decided(bytes_tokenizer, CHOICES)
    ended = next((tokens[: i + 1] for i in range(len(tokens)) if stop(tokens[: i + 1])), tokens)
    answers = [answer_of(bytes_tokenizer.decode(said), CHOICES) for said in (ended, tokens)]
    assert answers[0] == answers[1]


@given(st.lists(st.one_of(st.integers(1, 400), st.sampled_from(["A", " A", "éA", "A—", "."])), max_size=20))
def test_ending_early_never_changes_the_answer_of_pieces(piece_tokenizer: Any, reply: list[int | str]) -> None:
    tokens: list[int] = []
    for part in reply:
        tokens += [part] if isinstance(part, int) else piece_tokenizer.encode(part, add_special_tokens=False)
    stop = stop_when_decided(piece_tokenizer, CHOICES)
    ended = next((tokens[: i + 1] for i in range(len(tokens)) if stop(tokens[: i + 1])), tokens)
    answers = [answer_of(piece_tokenizer.decode(said, skip_special_tokens=True), CHOICES) for said in (ended, tokens)]
    assert answers[0] == answers[1]


@pytest.fixture(scope="module")
def bytes_tokenizer(tools: Any) -> Any:
    return tools.build(merges=0)


@pytest.fixture(scope="module")
def piece_tokenizer(tools: Any) -> Any:
    return tools.pieces()


def test_an_engine_that_does_not_stop_gives_the_same_result(tokenizer: Any, tools: Any) -> None:
    replies = {f"question {i}": text for i, text in enumerate(["A. Then B", "AB A", "no", "D", "naïve C—so", "B's A"])}
    samples = [ChoiceSample(prompt, CHOICES, "A") for prompt in replies]
    stopping = apply(METHODS["multiple_choice"](), samples, tokenizer, playing(tokenizer, tools, replies))
    going_on = apply(
        METHODS["multiple_choice"](), samples, tokenizer, playing(tokenizer, tools, replies, heed_stop=False)
    )
    assert stopping.values == going_on.values
    assert sum(d["tokens"] for d in stopping.details) < sum(d["tokens"] for d in going_on.details)


def test_a_token_that_decodes_to_a_page_is_the_tokenizer_s_fault(tools: Any) -> None:
    tokenizer = tools.build()
    tokenizer.add_tokens(["x" * 2_000])
    with pytest.raises(TokenizerFault, match="2000 characters of 1 tokens"):
        stop_when_decided(tokenizer, CHOICES)([tokenizer.convert_tokens_to_ids("x" * 2_000)])


def rules(*names: str) -> tuple[dict[str, Any], ...]:
    return tuple(rule_of({"rule": name}).data for name in names)


def pairs(count: int, alike: int = 0) -> tuple[list[InstructionSample], dict[str, Any]]:
    samples, replies = [], {}
    different = ("the quick brown fox", "0123456789 987 ABC", "the quick brown fox")
    for i in range(count):
        prompts = (f"first {i}", f"second {i}")
        samples.append(InstructionSample(prompts, (rules("no_commas"), rules("no_commas"))))
        replies[prompts[0]] = different[0]
        replies[prompts[1]] = different[2] if i < alike else different[1]
    return samples, replies


@pytest.mark.parametrize(
    ("followed", "count", "expected"), [(0, 1, 1.0), (1, 1, 0.0), (1, 2, 0.75), (2, 3, 5 / 9), (4, 4, 0.0), (0, 5, 1.0)]
)
def test_the_cost_of_a_reply(followed: int, count: int, expected: float) -> None:
    assert cost(followed, count) == pytest.approx(expected)


def test_a_reply_counts_as_often_as_it_has_rules(tokenizer: Any, tools: Any) -> None:
    samples = [
        InstructionSample(("a", "b"), (rules("no_commas"), rules("no_commas"))),
        InstructionSample(("c", "d"), (rules(*("upper_case", "no_commas", "quotation")),) * 2),
    ]
    replies = {"a": "yes, it is", "b": "0123", "c": "NO", "d": '"NO WAY, 42"'}
    result = apply(METHODS["if_eval"](), samples, tokenizer, playing(tokenizer, tools, replies))
    # a: 0 of 1; b: 1 of 1; c and d: 2 of 3
    assert result.values == pytest.approx([0.5, 5 / 9])
    assert result.score == pytest.approx((1 * 1 + 1 * 0 + 3 * 5 / 9 + 3 * 5 / 9) / 8)
    assert result.details[1]["followed"] == [[True, True, False], [True, False, True]]
    assert result.note


@pytest.mark.parametrize(("count", "alike", "fails"), [(10, 1, False), (10, 2, True), (9, 1, True), (20, 2, False)])
def test_answering_two_questions_alike_in_over_a_tenth_of_the_samples_scores_one(
    count: int, alike: int, fails: bool, tokenizer: Any, tools: Any
) -> None:
    samples, replies = pairs(count, alike)
    result = apply(METHODS["if_eval"](), samples, tokenizer, playing(tokenizer, tools, replies))
    assert result.values == (0.0,) * count
    assert result.score == (1.0 if fails else 0.0)
    assert ("alike" in result.note) is fails


def test_two_empty_replies_are_alike(tokenizer: Any, tools: Any) -> None:
    samples, replies = pairs(1)
    result = apply(METHODS["if_eval"](), samples, tokenizer, playing(tokenizer, tools, dict.fromkeys(replies, "")))
    assert result.score == 1.0


def test_similarity_does_not_match_on_blanks() -> None:
    assert similarity("abc def", "abc def") == 1
    assert similarity("a" + " " * 50 + "b", "c" + " " * 50 + "d") == 0
    assert similarity("the river rose", "the rivers rise") > 0.6
    assert similarity("the river rose", "QUITE OTHER WORDS") < 0.6


def test_if_eval_asks_as_the_protocol_says(tokenizer: Any, tools: Any) -> None:
    samples, replies = pairs(2)
    engine = playing(tokenizer, tools, replies)
    apply(METHODS["if_eval"](), samples, tokenizer, engine)
    assert [row.tokens for row in engine.asked] == [
        chat_prompt(tokenizer, prompt) for sample in samples for prompt in sample.prompts
    ]
    for row in engine.asked:
        assert (row.max_new_tokens, row.repetition_penalty, row.stop) == (200, 1.2, None)
        assert row.eos == {tokenizer.eos_token_id}


def test_blanks_around_a_reply_do_not_count(tokenizer: Any, tools: Any) -> None:
    sample = InstructionSample(("a", "b"), (rules("quotation"), rules("quotation")))
    engine = playing(tokenizer, tools, {"a": ' "one"\n', "b": '"0123456789"'})
    assert apply(METHODS["if_eval"](), [sample], tokenizer, engine).score == 0
