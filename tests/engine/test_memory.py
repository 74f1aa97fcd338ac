"""A budget that is halved, and errors that say that memory ran out."""

from __future__ import annotations

import pytest
import torch

from sn37.engine.memory import Budget, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("can't start new thread"),
    ],
)
def test_memory_that_ran_out_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory"), OSError()])
def test_other_errors_are_not_about_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_real_failure_to_allocate_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_a_budget_is_halved_to_one_at_least() -> None:
    budget = Budget(5)
    sizes = []
    for _ in range(4):
        budget.halve()
        sizes.append(budget.tokens)
    assert sizes == [2, 1, 1, 1]
    assert budget.halvings == 4


@pytest.mark.parametrize(("below", "tokens"), [(None, 500), (2000, 500), (500, 250), (100, 62), (0, 1)])
def test_a_budget_goes_below_what_was_too_much(below: int | None, tokens: int) -> None:
    budget = Budget(1000)
    budget.halve(below)
    assert budget.tokens == tokens


def test_a_budget_has_at_least_one_token() -> None:
    with pytest.raises(ValueError, match="the budget is 0 tokens; expected 1 or more"):
        Budget(0)
