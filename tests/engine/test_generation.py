"""Batched generation says what one row at a time says, token by token, in float32."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sn37.engine.decoding import Decoder, chunked_linear
from sn37.engine.generation import generate
from sn37.engine.interface import GenerateRow
from sn37.engine.memory import Budget
from sn37.engine.prefixes import shared_prefixes
from sn37.engine.reference import ReferenceEngine
from sn37.engine.row_batch import Reply, RowBatch, first_highest

VOCABULARY = 211
POSITIONS = 160
LENGTHS = (3, 40, 1, 9, 9, 100, 2, 17, 33, 5, 60, 8)

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "every head its own keys": ("falcon", {"multi_query": False}),
    "groups of heads share keys": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "alibi, groups of heads": ("falcon_alibi", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "alibi, one after the other": ("falcon_alibi", {"parallel_attn": False, "bias": True}),
    "no window": ("mistral", {"sliding_window": None}),
    "a window of its own": ("phi3", {"sliding_window": 5}),
    "normed keys": ("phi", {"qk_layernorm": True}),
    "one after the other": ("gpt_neox", {"use_parallel_residual": False}),
    "no caps": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "scaled words": ("bart", {"scale_embedding": True}),
}


def some_rows(seed: int, lengths: Sequence[int] = LENGTHS, most: int = 12, prefix: int = 0) -> list[GenerateRow]:
    draw = random.Random(seed)
    shared = tuple(draw.randrange(VOCABULARY) for _ in range(prefix))
    return [
        GenerateRow(
            shared + tuple(draw.randrange(VOCABULARY) for _ in range(length)),
            draw.randint(1, most),
            repetition_penalty=draw.choice((1.0, 1.1, 1.2, 3.0)),
            eos=frozenset(draw.sample(range(VOCABULARY), 8)),
        )
        for length in lengths
    ]


def batched(model: Any, rows: Sequence[GenerateRow], tokens: int = 4096) -> list[list[int]]:
    return generate(model, rows, sequence_length=POSITIONS, budget=Budget(tokens))


def one_by_one(model: Any, rows: Sequence[GenerateRow]) -> list[list[int]]:
    return ReferenceEngine(model, POSITIONS).generate(rows)


@contextmanager
def passes(model: Any, before: Callable[[int, int], None] | None = None) -> Iterator[list[tuple[int, int]]]:
    """The (rows, tokens of a row) of every forward pass; `before` is called with them first."""
    seen: list[tuple[int, int]] = []

    def look(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        rows, width = kwargs["input_ids"].shape
        seen.append((rows, width))
        if before is not None:
            before(rows, width)

    hook = model.base_model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def test_tokens_are_the_reference_s_at_any_budget(model_of: Callable[[str], Any], kind: str) -> None:
    rows = some_rows(1)
    expected = one_by_one(model_of(kind), rows)
    for tokens in (1, 130, 700, 4096):
        assert batched(model_of(kind), rows, tokens) == expected
    assert max(map(len, expected)) > 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_are_the_reference_s_in_every_variant(build_model: Callable[..., Any], variant: str) -> None:
    name, changes = VARIANTS[variant]
    model = build_model(name)
    fields = model.config.to_dict() | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = type(model)(type(model.config)(**fields)).eval().requires_grad_(False)
    rows = some_rows(2, prefix=6)
    assert batched(model, rows, 400) == one_by_one(model, rows)


def test_neighbours_and_order_never_matter(model_of: Callable[[str], Any], kind: str) -> None:
    rows = some_rows(3)
    together = batched(model_of(kind), rows, 700)
    order = random.Random(4).sample(range(len(rows)), len(rows))
    shuffled = batched(model_of(kind), [rows[i] for i in order], 300)
    assert [shuffled[order.index(i)] for i in range(len(rows))] == together
    assert batched(model_of(kind), rows[::5]) == together[::5]


def test_a_shared_prefix_is_computed_once(model_of: Callable[[str], Any], kind: str) -> None:
    rows = some_rows(5, (9, 1, 20, 5, 9, 14), prefix=50) + some_rows(6, (30, 4))
    rows += [replace(rows[0], repetition_penalty=1.5)]
    with passes(model_of(kind)) as seen:
        replies = batched(model_of(kind), rows)
    assert replies == one_by_one(model_of(kind), rows)
    assert sum(count * width for count, width in seen if width > 1) < 50 + 2 * (58 + 34)


def test_equal_prompts_are_computed_once(model_of: Callable[[str], Any]) -> None:
    row = some_rows(7, (40,))[0]
    rows = [replace(row, repetition_penalty=1 + i / 10, max_new_tokens=i + 1) for i in range(6)]
    with passes(model_of("llama")) as seen:
        replies = batched(model_of("llama"), rows)
    assert replies == one_by_one(model_of("llama"), rows)
    assert [shape for shape in seen if shape[1] > 1] == [(1, 40)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=10),
    seed=st.integers(0, 1 << 30),
    budget=st.integers(1, 1500),
    prefix=st.sampled_from((0, 0, 30)),
    name=st.sampled_from(("llama", "mistral", "gemma2", "falcon_alibi", "bart")),
)
def test_tokens_are_the_reference_s_for_any_rows(
    model_of: Callable[[str], Any], lengths: list[int], seed: int, budget: int, prefix: int, name: str
) -> None:
    rows = some_rows(seed, lengths, prefix=prefix)
    assert batched(model_of(name), rows, budget) == one_by_one(model_of(name), rows)


def test_a_row_stops_when_told(model_of: Callable[[str], Any]) -> None:
    heard: list[list[int]] = []

    def third(new: Sequence[int]) -> bool:
        heard.append(list(new))
        return len(new) == 3

    rows = [replace(row, eos=frozenset(), max_new_tokens=9) for row in some_rows(8, (5, 30, 12))]
    rows[1] = replace(rows[1], stop=third)
    replies = batched(model_of("llama"), rows)
    assert [len(reply) for reply in replies] == [9, 3, 9]
    assert heard == [replies[1][:1], replies[1][:2], replies[1]]
    assert replies == one_by_one(model_of("llama"), rows)


def test_places_of_ended_rows_are_taken(model_of: Callable[[str], Any]) -> None:
    """One long reply and forty short ones, four at a time: hardly more steps than the long one has."""
    rows = [replace(row, eos=frozenset(), max_new_tokens=2) for row in some_rows(9, [20] * 41)]
    rows[0] = replace(rows[0], max_new_tokens=70)
    with passes(model_of("llama")) as seen:
        batched(model_of("llama"), rows, 4 * 96)
    assert sum(width == 1 for _, width in seen) == 69


def test_the_cache_stays_within_the_budget(model_of: Callable[[str], Any]) -> None:
    rows = some_rows(10, LENGTHS * 3)
    longest = max(len(row.tokens) + row.max_new_tokens for row in rows)
    with passes(model_of("llama")) as seen:
        batched(model_of("llama"), rows, 500)
    assert all(count * width <= max(500, longest) for count, width in seen)
    assert 4 < max(count for count, width in seen if width == 1) <= 500 // 32


def test_prompts_are_computed_a_few_at_a_time(model_of: Callable[[str], Any]) -> None:
    with passes(model_of("llama")) as seen:
        batched(model_of("llama"), some_rows(23, [120] * 40, most=3), 1 << 16)
    read = [count * width for count, width in seen if width > 1]
    assert max(read) <= 2048
    assert sum(read) == 40 * 120


def test_a_prefix_is_kept_until_its_last_row_enters(model_of: Callable[[str], Any]) -> None:
    replies = [Reply(row) for row in some_rows(24, (5, 6, 7), most=3, prefix=40)]
    prompts = [reply.tokens for reply in replies]
    with torch.inference_mode():
        batch = RowBatch(Decoder(model_of("llama")), 100, shared_prefixes(prompts, 50))
        batch.admit(replies)
        batch.prefill(replies[:1])
        assert list(batch.prefix_caches) == [prompts[0][:40]]
        batch.admit(replies[1:])
        batch.replies.clear()
        batch.prefill(replies[1:2])
        batch.replies.clear()
        batch.prefill(replies[2:])
    assert batch.prefix_caches == {}


def test_only_the_last_tokens_meet_the_head(
    model_of: Callable[[str], Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, rows = [], some_rows(11)
    logits_of = Decoder._logits
    monkeypatch.setattr(Decoder, "_logits", lambda self, hidden: seen.append(hidden.shape) or logits_of(self, hidden))
    head = model_of(kind).get_output_embeddings()
    hook = head.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0].shape))
    new = batched(model_of(kind), rows)
    hook.remove()
    assert {len(shape) for shape in seen} == {2}
    assert max(count for count, _ in seen) <= len(rows) < sum(map(len, new))


def test_the_model_is_left_as_it_was(model_of: Callable[[str], Any], kind: str) -> None:
    model, ids = model_of(kind), torch.arange(20)[None]
    before = model(input_ids=ids).logits
    batched(model, some_rows(12))
    assert torch.equal(model(input_ids=ids).logits, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_row_that_breaks_spoils_no_other(build_model: Callable[..., Any], kind: str) -> None:
    """Not a number in one row's keys and values stays there, also when others take its place."""
    model = build_model(kind, **({"tie_word_embeddings": False} if kind != "bart" else {}))
    model.get_input_embeddings().weight.data[7] = float("nan")
    rows = [replace(row, eos=frozenset()) for row in some_rows(13, LENGTHS * 2)]
    rows = [replace(row, tokens=tuple(8 if token == 7 else token for token in row.tokens)) for row in rows]
    rows[::3] = [replace(row, tokens=(*row.tokens[:-1], 7), max_new_tokens=2) for row in rows[::3]]
    assert batched(model, rows, 400) == one_by_one(model, rows)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out of memory"), MemoryError()])
def test_the_budget_is_halved_where_memory_runs_out(model_of: Callable[[str], Any], error: Exception) -> None:
    model, rows, told = model_of("mistral"), some_rows(14, LENGTHS * 2), []
    budget, expected = Budget(1 << 20), one_by_one(model, rows)

    def run_out(count: int, width: int) -> None:
        if count > 3 and width == 1:
            raise error

    with passes(model, run_out):
        replies = generate(
            model, rows, sequence_length=POSITIONS, budget=budget, progress=lambda *counts: told.append(counts)
        )
    assert replies == expected
    assert budget.halvings > 0
    assert budget.tokens < 1000
    assert sum(count for count, _ in told) == len(rows)
    assert sum(count for _, count in told) == sum(
        len(row.tokens) + len(reply) for row, reply in zip(rows, replies, strict=True)
    )


def test_rows_that_ended_before_memory_ran_out_are_told_once(model_of: Callable[[str], Any]) -> None:
    rows = [replace(row, max_new_tokens=1) for row in some_rows(27, (90, 50, 10))]
    told: list[tuple[int, int]] = []
    failures = iter([False, False, True])

    def run_out(count: int, width: int) -> None:
        if next(failures, False):
            raise MemoryError

    with passes(model_of("llama"), run_out):
        generate(
            model_of("llama"), rows, sequence_length=POSITIONS, budget=Budget(999), progress=lambda *c: told.append(c)
        )
    assert sum(count for count, _ in told) == 3


def test_a_row_too_large_for_the_memory_is_an_error(model_of: Callable[[str], Any]) -> None:
    def run_out(count: int, width: int) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with passes(model_of("llama"), run_out) as seen, pytest.raises(torch.OutOfMemoryError):
        batched(model_of("llama"), some_rows(15), 1 << 20)
    assert len(seen) < 10


def test_other_errors_pass_through(model_of: Callable[[str], Any]) -> None:
    def fail(count: int, width: int) -> None:
        raise RuntimeError("the size of tensor a must match")

    budget = Budget(1000)
    with passes(model_of("llama"), fail), pytest.raises(RuntimeError, match="must match"):
        generate(model_of("llama"), some_rows(16), sequence_length=POSITIONS, budget=budget)
    assert budget.halvings == 0


def test_progress_counts_every_row_and_token(model_of: Callable[[str], Any]) -> None:
    rows = [*some_rows(17), GenerateRow((1, 2, 3), 0)]
    told: list[tuple[int, int]] = []
    replies = generate(
        model_of("phi"), rows, sequence_length=POSITIONS, budget=Budget(400), progress=lambda *c: told.append(c)
    )
    assert replies[-1] == []
    assert sum(count for count, _ in told) == len(rows)
    assert sum(count for _, count in told) == sum(
        len(row.tokens) + len(reply) for row, reply in zip(rows, replies, strict=True)
    )


def test_no_row_is_no_work(model_of: Callable[[str], Any]) -> None:
    assert batched(model_of("llama"), []) == []


@pytest.mark.parametrize(("tokens", "new"), [(0, 3), (POSITIONS, 1), (POSITIONS - 2, 3)])
def test_a_row_that_does_not_fit_is_refused(model_of: Callable[[str], Any], tokens: int, new: int) -> None:
    with pytest.raises(ValueError, match=f"a row has {tokens} tokens; expected 1 to {POSITIONS - new}"):
        batched(model_of("llama"), [GenerateRow((1,) * tokens, new)])


def test_a_row_may_fill_the_sequence(model_of: Callable[[str], Any], kind: str) -> None:
    rows = [replace(row, max_new_tokens=3, eos=frozenset()) for row in some_rows(18, (POSITIONS - 3, 4))]
    assert batched(model_of(kind), rows) == one_by_one(model_of(kind), rows)


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_positions_that_follow_the_length_are_the_reference_s(build_model: Callable[..., Any], rope: str) -> None:
    if rope == "longrope":
        factors = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 3.0, 4.0, 5.0]}
        parameters = {"rope_type": rope, "rope_theta": 1e4, "original_max_position_embeddings": 32, **factors}
        model = build_model("phi3", rope_parameters=parameters, original_max_position_embeddings=32)
    else:
        parameters = {"rope_type": rope, "rope_theta": 1e4, "factor": 4.0}
        model = build_model("llama", rope_parameters=parameters, max_position_embeddings=32)
    rows = some_rows(19, (5, 70, 28, 20, 40, 25, 3, 50), most=10)
    expected = [one_by_one(model, [row])[0] for row in rows]
    assert batched(model, rows) == expected
    assert batched(model, rows[::-1]) == expected[::-1]


def test_in_bfloat16_order_does_not_matter_either(build_model: Callable[..., Any], kind: str) -> None:
    """The plan is made from the rows, not from their order."""
    model = build_model(kind).to(torch.bfloat16)
    rows = [replace(row, eos=frozenset()) for row in some_rows(20, LENGTHS * 2, most=20)]
    together = batched(model, rows, 600)
    order = random.Random(21).sample(range(len(rows)), len(rows))
    shuffled = batched(model, [rows[i] for i in order], 600)
    assert [shuffled[order.index(i)] for i in range(len(rows))] == together


def test_the_plan_does_not_follow_the_order(model_of: Callable[[str], Any]) -> None:
    rows = some_rows(25, [20] * 30)
    plans = []
    for order in (rows, rows[::-1], random.Random(26).sample(rows, len(rows))):
        plan: list[list[list[int]]] = []
        hook = model_of("llama").base_model.register_forward_pre_hook(
            lambda _, args, kwargs, plan=plan: plan.append(kwargs["input_ids"].tolist()), with_kwargs=True
        )
        batched(model_of("llama"), order, 200)
        hook.remove()
        plans.append(plan)
    assert plans[0] == plans[1] == plans[2]


def test_an_unknown_architecture_is_refused(model_of: Callable[[str], Any]) -> None:
    model = model_of("llama")
    kind = model.config.model_type
    model.config.model_type = "mamba"
    try:
        with pytest.raises(ValueError, match="no 'mamba' models"):
            batched(model, some_rows(22))
    finally:
        model.config.model_type = kind


@pytest.mark.parametrize("words", [1, 3, 512, 513, 2048, 2100])
def test_the_first_of_the_highest_is_found(words: int) -> None:
    logits = torch.randint(0, 4, (50, words), generator=torch.Generator().manual_seed(0)).float()
    logits[::5, words // 2] = float("nan")
    logits[1::5] = -float("inf")
    assert torch.equal(first_highest(logits), logits.argmax(-1))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 8, 51])
def test_a_wide_head_gives_the_same_in_chunks(rows: int, bias: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head, hidden = torch.nn.Linear(32, 9_000, bias=bias), torch.randn(rows, 32)
    with torch.inference_mode():
        torch.testing.assert_close(chunked_linear(head, hidden), head(hidden), rtol=1e-5, atol=1e-6)


def test_a_model_is_its_old_self_after_generation(model_of: Callable[[str], Any]) -> None:
    head = model_of("llama").get_output_embeddings()
    before = dict(vars(head))
    batched(model_of("llama"), [GenerateRow((1, 2, 3), 2)])
    assert vars(head) == before and not head._forward_pre_hooks
