"""Batched losses are those of one row at a time, exact to float32, and never hold all logits."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from sn37.engine.head import Head
from sn37.engine.interface import LossRow
from sn37.engine.losses import losses
from sn37.engine.memory import Budget
from sn37.engine.packing import batches, packs
from sn37.engine.reference import ReferenceEngine

VOCABULARY = 211
POSITIONS = 160
LENGTHS = (2, 3, 40, 9, 9, 100, 2, 17, 33, 60, 150)


def some_rows(seed: int, lengths: Sequence[int] = LENGTHS, questions: int = 3) -> list[LossRow]:
    """Rows of those lengths, then questions of four choices each."""
    draw = random.Random(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(VOCABULARY) for _ in range(count))

    rows = [LossRow(tokens(length), draw.randint(1, length - 1)) for length in lengths]
    for _ in range(questions):
        prompt = tokens(draw.randint(5, 50))
        rows.extend(LossRow(prompt + tokens(draw.randint(1, 9)), len(prompt)) for _ in range(4))
    return rows


def batched(model: Any, rows: Sequence[LossRow], tokens: int = 4096) -> list[float]:
    return losses(model, rows, sequence_length=POSITIONS, budget=Budget(tokens))


@pytest.mark.parametrize("tokens", [1, 100, 700, 4096])
def test_losses_are_the_reference_s_at_any_budget(model_of: Callable[[str], Any], kind: str, tokens: int) -> None:
    rows = some_rows(1)
    expected = ReferenceEngine(model_of(kind), POSITIONS).losses(rows)
    assert batched(model_of(kind), rows, tokens) == pytest.approx(expected, rel=1e-5)


def test_neighbours_and_order_never_matter(model_of: Callable[[str], Any], kind: str) -> None:
    rows = some_rows(2)
    together = batched(model_of(kind), rows)
    order = random.Random(3).sample(range(len(rows)), len(rows))
    shuffled = batched(model_of(kind), [rows[i] for i in order])
    assert [shuffled[order.index(i)] for i in range(len(rows))] == together
    fewer = batched(model_of(kind), rows[::3])
    assert fewer == pytest.approx(together[::3], rel=1e-5)


def test_in_bfloat16_the_plan_is_canonical(build_model: Callable[..., Any]) -> None:
    """Other shapes move the last digits; the order in which rows are asked for does not make other shapes."""
    model = build_model("llama").to(torch.bfloat16)
    rows = some_rows(2)
    order = random.Random(3).sample(range(len(rows)), len(rows))
    shuffled = batched(model, [rows[i] for i in order], 300)
    assert [shuffled[order.index(i)] for i in range(len(rows))] == batched(model, rows, 300)


@pytest.mark.parametrize("changes", [{"rope_type": "dynamic", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}])
def test_positions_that_follow_the_length_are_those_of_the_row_alone(
    build_model: Callable[..., Any], changes: dict[str, Any]
) -> None:
    model = build_model("llama", max_position_embeddings=32, rope_scaling={"rope_theta": 10_000.0, **changes})
    rows = some_rows(4)
    alone = [ReferenceEngine(model, POSITIONS).losses([row])[0] for row in rows]
    assert ReferenceEngine(model, POSITIONS).losses(rows) == alone
    assert batched(model, rows) == pytest.approx(alone, rel=1e-5)


def test_long_rope_is_that_of_the_row_alone(build_model: Callable[..., Any]) -> None:
    factors = {"short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
    model = build_model(
        "phi3",
        original_max_position_embeddings=32,
        rope_scaling={"rope_type": "longrope", "rope_theta": 10_000.0, **factors},
    )
    rows = some_rows(5)
    assert batched(model, rows) == pytest.approx(ReferenceEngine(model, POSITIONS).losses(rows), rel=1e-5)


def test_scaled_and_capped_logits_are_seen(build_model: Callable[..., Any]) -> None:
    rows = some_rows(6)
    plain, capped = (build_model("gemma2", final_logit_softcapping=cap) for cap in (30.0, 0.5))
    capped.load_state_dict(plain.state_dict())
    assert batched(capped, rows) == pytest.approx(ReferenceEngine(capped, POSITIONS).losses(rows), rel=1e-5)
    assert batched(capped, rows) != pytest.approx(batched(plain, rows), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind_of_head", ["phi", "gemma2", "llama"])
def test_the_head_is_exact_whatever_the_dtype(
    build_model: Callable[..., Any], dtype: torch.dtype, kind_of_head: str
) -> None:
    """Against logits in float64, of the same hidden states; logits large enough to be coarse in the dtype."""
    model = build_model(kind_of_head, vocab_size=5_000, hidden_size=64, initializer_range=0.5).to(dtype)
    hidden = torch.randn(300, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    targets = torch.randint(5_000, (300,), generator=torch.Generator().manual_seed(1))
    head = model.get_output_embeddings()
    logits = hidden.double() @ head.weight.double().T
    if head.bias is not None:
        logits += head.bias.double()
    cap = getattr(model.config, "final_logit_softcapping", None)
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    exact = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert logits.abs().max() > 8 and exact.std() > 1
    for words, positions in ((None, None), (5_000, 300), (2_048, 512), (7, 11)):
        found = Head(model, words, positions).losses(hidden, targets)
        assert (found - exact).abs().max() < 1e-4
    if dtype == torch.bfloat16:  # what the plain loop would say
        rough = torch.nn.functional.cross_entropy(logits.to(dtype), targets, reduction="none")
        assert (rough - exact).abs().max() > 1e-2


def test_what_the_head_allows_bfloat16_it_allows_nobody_else(build_model: Callable[..., Any]) -> None:
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    model = build_model("llama").to(torch.bfloat16)
    hidden = torch.zeros(3, model.config.hidden_size, dtype=torch.bfloat16)
    before, products.fp32_precision = products.fp32_precision, "ieee"
    try:
        Head(model).losses(hidden, torch.tensor([1, 2, 3]))
        assert products.fp32_precision == "ieee"
        with pytest.raises((RuntimeError, ValueError)):
            Head(model).losses(hidden[:, 1:], torch.tensor([1, 2, 3]))
        assert products.fp32_precision == "ieee"
    finally:
        products.fp32_precision = before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [300, 3_000])
def test_the_number_of_threads_changes_nothing(
    build_model: Callable[..., Any], dtype: torch.dtype, vocabulary: int
) -> None:
    head = Head(build_model("phi", vocab_size=vocabulary).to(dtype))
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(700, head.weight.shape[1], generator=draw).to(dtype)
    targets = torch.randint(vocabulary, (700,), generator=draw)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(head.losses(hidden, targets))
            assert torch.get_num_threads() == threads
            with pytest.raises((RuntimeError, ValueError)):
                head.losses(hidden[:, 1:], targets)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def without_a_body(model: Any) -> Any:
    """A Llama whose hidden states are its embeddings, normed."""
    for name, parameter in model.named_parameters():
        if "o_proj" in name or "down_proj" in name:
            parameter.data.zero_()
    model.model.norm.weight.data.fill_(1)
    return model


def in_float64(model: Any, row: LossRow) -> float:
    """The loss from the model's own logits, everything after them in float64."""
    logits = model(input_ids=torch.tensor([row.tokens])).logits[0, row.start - 1 : -1].double()
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(row.tokens[row.start :]), reduction="sum"))


@pytest.mark.parametrize("height", [0.0, 1e4, 2.0**25, -(2.0**25), 1e30, -1e30])
def test_a_constant_on_all_logits_changes_no_loss(build_model: Callable[..., Any], height: float) -> None:
    """Beyond the rounding of the logits themselves."""
    model, rows = build_model("phi"), some_rows(20)
    model.lm_head.bias.data.add_(height)
    for engine in (batched(model, rows), ReferenceEngine(model, POSITIONS).losses(rows)):
        for row, loss in zip(rows, engine, strict=True):
            count = len(row.tokens) - row.start
            rounding = torch.tensor(abs(height)).nextafter(torch.tensor(torch.inf)) - abs(height)
            assert loss == pytest.approx(in_float64(model, row), rel=1e-5, abs=2 * count * float(rounding))
            if abs(height) == 1e30:  # all logits are the same number
                assert loss == pytest.approx(count * math.log(VOCABULARY), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hidden_nats", [3.8, 5.8])
def test_a_shift_that_softmax_does_not_see_wins_nothing(
    build_model: Callable[..., Any], dtype: torch.dtype, hidden_nats: float
) -> None:
    """Uniform logits of 2^25 and a little: sums that lose the little, and a target that keeps it, would disagree."""
    model = without_a_body(build_model("llama", tie_word_embeddings=False))
    size = model.config.hidden_size
    model.get_input_embeddings().weight.data.fill_(1)
    model.model.norm.weight.data[0] = 8192
    model.lm_head.weight.data.fill_(hidden_nats / (size - 1))
    model.lm_head.weight.data[:, 0] = 4096
    rows = some_rows(21)
    expected = [(len(row.tokens) - row.start) * math.log(VOCABULARY) for row in rows]
    for engine in (batched(model.to(dtype), rows), ReferenceEngine(model, POSITIONS).losses(rows)):
        assert engine == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("certainty", [20.0, 60.0, 1e4, 1e30])
def test_a_certain_model_loses_nothing_and_never_less(build_model: Callable[..., Any], certainty: float) -> None:
    draw = torch.Generator().manual_seed(5)
    row = LossRow((3,) + (70,) * 50)
    for _ in range(12):  # always says 70; what rounding does to a loss differs from one to the next
        model = without_a_body(build_model("llama", tie_word_embeddings=False))
        size = model.config.hidden_size
        says = torch.randn(size, generator=draw)
        for parameter, share in ((model.get_input_embeddings().weight, says), (model.lm_head.weight, 0.0)):
            parameter.data.copy_(torch.randn(VOCABULARY, size, generator=draw) * 0.1 + share)
        model.lm_head.weight.data[70] = says / says.norm() * certainty
        for (loss,) in (batched(model, [row]), ReferenceEngine(model, POSITIONS).losses([row])):
            assert 0 <= loss < 1e-3
            assert str(loss) != "-0.0"
            assert certainty < 1e4 or loss == 0


@pytest.mark.parametrize("chunks", [(None, None), (7, 11), (1, 1)])
def test_a_word_that_can_never_come_changes_nothing(
    build_model: Callable[..., Any], chunks: tuple[int | None, int | None]
) -> None:
    """Also where a whole chunk of the vocabulary is such words; and where it is the target, the loss is infinite."""
    model = build_model("phi")
    hidden = torch.randn(30, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(100, 130)
    model.lm_head.bias.data[:90] = -torch.inf
    logits = model.lm_head(hidden).double()
    exact = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert torch.allclose(Head(model, *chunks).losses(hidden, targets), exact, atol=1e-5)
    assert Head(model, *chunks).losses(hidden, targets - 60)[:10].tolist() == [torch.inf] * 10


@pytest.mark.parametrize("blown", [torch.inf, torch.nan])
def test_a_logit_that_is_no_number_leaves_no_loss(build_model: Callable[..., Any], blown: float) -> None:
    model = build_model("phi")
    model.lm_head.bias.data[5] = blown
    hidden = torch.zeros(3, model.config.hidden_size)
    assert not Head(model).losses(hidden, torch.tensor([5, 6, 200])).isfinite().any()


def test_a_head_that_blows_up_says_so(build_model: Callable[..., Any]) -> None:
    model = build_model("llama")
    model.lm_head.weight.data[7].mul_(1e38)
    assert not torch.tensor(batched(model, some_rows(7))).isfinite().all()


def test_running_out_of_memory_halves_the_budget_and_changes_nothing(
    model_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that can take so many tokens and no more."""
    model, rows = model_of("llama"), some_rows(9)
    expected = batched(model, rows)
    forward, widest = model.model.forward, 200
    seen: list[int] = []

    def small(input_ids: Any, **kwargs: Any) -> Any:
        seen.append(input_ids.numel())
        if input_ids.numel() > widest:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(model.model, "forward", small)
    budget = Budget(1 << 20)
    done: list[int] = []
    found = losses(model, rows, sequence_length=POSITIONS, budget=budget, progress=lambda r, t: done.append(r))
    assert found == pytest.approx(expected, rel=1e-5)
    assert budget.halvings > 0 and sum(done) == len(rows)
    assert sum(count > widest for count in seen) < 10, "the budget must fall to what the batch had, not step by step"


def test_a_single_row_that_does_not_fit_is_an_error(
    model_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(**kwargs: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(model_of("llama").model, "forward", never)
    with pytest.raises(MemoryError):
        batched(model_of("llama"), some_rows(10))


def test_any_other_error_goes_through(model_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**kwargs: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(model_of("llama").model, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        batched(model_of("llama"), some_rows(10))


def test_a_row_longer_than_the_sequence_is_an_error(model_of: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="161 tokens; expected at most 160"):
        batched(model_of("llama"), [LossRow((5,) * 161)])


def test_no_rows_no_losses(model_of: Callable[[str], Any]) -> None:
    assert batched(model_of("llama"), []) == []


def test_progress_counts_every_row_and_its_own_tokens(model_of: Callable[[str], Any]) -> None:
    rows = some_rows(11)
    seen: list[tuple[int, int]] = []
    model, budget = model_of("llama"), Budget(300)
    losses(model, rows, sequence_length=POSITIONS, budget=budget, progress=lambda r, t: seen.append((r, t)))
    assert sum(r for r, _ in seen) == len(rows) and sum(t for _, t in seen) == sum(len(row.tokens) for row in rows)
    assert len(seen) > 3


def test_the_plan_is_made_of_rows_and_budget_alone() -> None:
    rows = some_rows(12)
    order = random.Random(1).sample(range(len(rows)), len(rows))
    shapes = [
        [[pack.tokens for pack in batch] for batch in batches(packs(given, 300), 300)]
        for given in (rows, [rows[i] for i in order])
    ]
    assert shapes[0] == shapes[1]
    for batch in batches(packs(rows, 300), 300):
        assert len(batch) == 1 or len(batch) * max(pack.length for pack in batch) <= 300
        assert len({pack.shared for pack in batch}) == 1


def test_choices_share_their_prompt() -> None:
    prompt = tuple(range(50))
    rows = [LossRow((*prompt, 60 + i, 70 + i), 50) for i in range(4)]
    (pack,) = packs(rows, 4096)
    assert pack.length == 50 + 4 * 2 and sorted(pack.rows) == [0, 1, 2, 3]
    assert [p.length for p in packs(rows, 55)] == [54, 54]
    assert [p.length for p in packs(rows, 4096, share=False)] == [52] * 4
    # a common first token is no prompt
    texts = [LossRow((1, *range(10 * i, 10 * i + 9))) for i in range(1, 5)]
    assert not any(pack.shared for pack in packs(texts, 4096))


def test_a_plan_is_the_same_in_any_process(fresh: Callable[[str], str]) -> None:
    code = (
        "from sn37.engine.interface import LossRow\n"
        "from sn37.engine.packing import packs\n"
        "rows = [LossRow(tuple(range(i % 5, i + 3)), 2) for i in range(40)]\n"
        "print([(p.rows, p.length) for p in packs(rows, 100)])"
    )
    assert fresh(code).startswith("[((35,), 38)")


SCARCE = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from sn37.workers import sandbox
from sn37.engine.fast import FastEngine
from sn37.engine.interface import GenerateRow, LossRow
torch.manual_seed(0)
shape = dict(vocab_size=1_000, hidden_size=128, intermediate_size=2_048, num_hidden_layers=2, num_attention_heads=4)
model = LlamaForCausalLM(LlamaConfig(**shape)).eval()
prompts = [tuple((i * 7 + j * 13) % 1_000 for j in range(100)) for i in range(200)]
losses, replies = [LossRow(p, 50) for p in prompts], [GenerateRow(p, 4) for p in prompts]
plenty, scarce = FastEngine(model, 200, 1_000), FastEngine(model, 200, 1 << 20)
expected = plenty.losses(losses[:20]), plenty.generate(replies[:20])
sandbox.limit_memory(60 << 20)
found, said = scarce.losses(losses)[:20], scarce.generate(replies)[:20]
assert scarce.budget.halvings > 3, scarce.budget
assert max(abs(a - b) / b for a, b in zip(found, expected[0])) < 1e-5 and said == expected[1]
"""


def test_a_process_that_really_runs_out_of_memory_goes_on_with_less() -> None:
    subprocess.run([sys.executable, "-c", SCARCE], check=True)


LONG = """
import torch
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from sn37.engine.fast import FastEngine
from sn37.engine.interface import LossRow
torch.manual_seed(0)
shape = dict(vocab_size=100_277, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
model = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=16_384)).to(torch.bfloat16).eval()
row = LossRow(tuple(i * 7919 % 100_277 for i in range(16_384)))
(loss,) = FastEngine(model, 16_384, 16_384).losses([row])
assert 10 < loss / 16_383 < 13, loss
(peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(int(peak.split()[1]) * 1024)  # of this program; what getrusage tells begins with that of whoever started it
"""


def test_a_long_sample_over_a_large_vocabulary_fits_in_little_memory() -> None:
    """Its full logits would be 6.6 GB; all in all, libraries included, 1.5 GB must do."""
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 1.5e9
