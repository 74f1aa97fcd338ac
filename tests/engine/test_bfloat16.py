"""Products of bfloat16 with float32 sums, against float64; and where there are none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sn37.engine import bfloat16

SOME = torch.ones(2, 2, dtype=torch.bfloat16)

needs_the_kernel = pytest.mark.skipif(
    not bfloat16.is_available(SOME), reason="this processor has no product of bfloat16 with float32 sums"
)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


@pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16") or bool(torch.cpu.get_capabilities().get("amx_bf16")),
    reason="this processor has no instructions of its kind",
)
def test_it_was_tried_in_the_version_that_is_installed() -> None:
    """Who moves to another version of PyTorch tries the kernel there, and says so in `_TRIED_IN`."""
    assert bfloat16.is_available(SOME)


@needs_the_kernel
@pytest.mark.parametrize(
    ("rows", "words", "depth"), [(1, 1, 2), (3, 7, 2), (17, 64, 96), (64, 33, 256), (65, 31, 258), (130, 70, 1_030)]
)
def test_it_is_exact_to_float32(rows: int, words: int, depth: int) -> None:
    hidden, weight = normal(0, rows, depth), normal(1, words, depth)
    found = torch.full((rows, words), torch.nan)
    bfloat16.product(hidden, bfloat16.laid_out(weight), found)
    exact = hidden.double() @ weight.double().T
    assert (found - exact).abs().max() < 1e-6 * depth
    if depth > 64:
        assert ((hidden @ weight.T) - exact).abs().max() > 1e-2  # what is rounded to bfloat16


@needs_the_kernel
def test_sums_that_float32_holds_are_exact() -> None:
    """Whole numbers up to 2^24, which bfloat16 does not hold."""
    draw = torch.Generator().manual_seed(2)
    hidden, weight = (torch.randint(-64, 65, (40, 600), generator=draw).to(torch.bfloat16) for _ in range(2))
    found = torch.empty(40, 40)
    bfloat16.product(hidden, bfloat16.laid_out(weight), found)
    assert torch.equal(found.double(), hidden.double() @ weight.double().T)


@needs_the_kernel
def test_part_of_a_matrix_is_multiplied_and_nothing_else_written() -> None:
    hidden, weight, out = normal(3, 20, 64), normal(4, 30, 64), torch.zeros(20, 10)
    bfloat16.product(hidden[5:9], bfloat16.laid_out(weight[10:20]), out[5:9])
    exact = hidden[5:9].double() @ weight[10:20].double().T
    assert (out[5:9] - exact).abs().max() < 1e-4
    assert not out[:5].any() and not out[9:].any()


@needs_the_kernel
@pytest.mark.parametrize("blown", [torch.inf, torch.nan])
def test_what_is_not_finite_stays_so(blown: float) -> None:
    hidden, weight, out = normal(5, 4, 8), normal(6, 4, 8), torch.zeros(4, 4)
    hidden[2, 3] = blown
    bfloat16.product(hidden, bfloat16.laid_out(weight), out)
    assert out.isfinite().all(-1).tolist() == [True, True, False, True]


@needs_the_kernel
@pytest.mark.parametrize(
    ("hidden", "weight", "out"),
    [
        (normal(0, 4, 8), normal(1, 4, 3, 2), torch.zeros(5, 3)),
        (normal(0, 4, 8), normal(1, 5, 3, 2), torch.zeros(4, 3)),
        (normal(0, 4, 7), normal(1, 3, 3, 2), torch.zeros(4, 3)),
        (normal(0, 4, 16)[:, :8], normal(1, 4, 3, 2), torch.zeros(4, 3)),
        (normal(0, 4, 8), normal(1, 4, 3, 2), torch.zeros(3, 4).T),
        (normal(0, 4, 8).float(), normal(1, 4, 3, 2), torch.zeros(4, 3)),
        (normal(0, 4, 8), normal(1, 4, 3, 2), torch.zeros(4, 3, dtype=torch.bfloat16)),
    ],
)
def test_what_it_cannot_multiply_is_refused(hidden: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    """The kernel itself would read and write where it should not."""
    with pytest.raises(ValueError, match="expected"):
        bfloat16.product(hidden, weight, out)


@pytest.mark.parametrize("matrix", [SOME.float(), SOME.half(), SOME[:, :1], SOME.to("meta")])
def test_other_matrices_have_none(matrix: torch.Tensor) -> None:
    assert not bfloat16.is_available(matrix)


@pytest.fixture
def looked_up_anew() -> Iterator[None]:
    """Whether there is a kernel is found out once in a process."""
    bfloat16._kernel.cache_clear()
    yield
    bfloat16._kernel.cache_clear()


@needs_the_kernel
@pytest.mark.usefixtures("looked_up_anew")
@pytest.mark.parametrize("reason", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "version", "features", "switched off"])
def test_a_process_that_must_not_call_the_kernel_does_not(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason == "version":
        monkeypatch.setattr(torch, "__version__", "2.99.0")
    elif reason == "features":
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    elif reason == "switched off":
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    else:
        monkeypatch.setenv(reason, "AVX2")
    assert not bfloat16.is_available(SOME)
    with pytest.raises(RuntimeError, match="ask is_available before"):
        bfloat16.product(SOME, bfloat16.laid_out(SOME), torch.zeros(2, 2))
