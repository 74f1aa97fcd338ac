"""The head of a safetensors file, against the library that writes them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sn37.checks.safetensors_head import Tensor, head_bytes, read_head, tensors


def test_it_reads_what_the_library_writes(tmp_path: Path) -> None:
    draw = random.Random(1)
    kinds = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I8": "i1", "U8": "u1", "BOOL": "?"}
    expected, arrays = {}, {}
    for number in range(60):
        name, shape = draw.choice(list(kinds)), tuple(draw.randrange(5) for _ in range(draw.randrange(4)))
        expected[f"tensor {number}"] = Tensor(name, shape)
        arrays[f"tensor {number}"] = np.zeros(shape, kinds[name])
    save_file(arrays, tmp_path / "model.safetensors", {"format": "pt"})
    assert read_head(tmp_path / "model.safetensors") == expected


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,0123 aeftdyps_').map(lambda text: b"{" + text.encode()))
def test_nothing_but_a_reason_comes_of_rubbish(head: bytes) -> None:
    try:
        tensors(head, 0)
    except ValueError as error:
        assert str(error).startswith(("its head", "its tensors", "the tensor"))


@given(st.binary(max_size=12), st.integers(0, 1 << 50))
def test_a_head_never_reaches_past_its_file(first: bytes, size: int) -> None:
    try:
        assert head_bytes(first, size) <= size - 8
    except ValueError as error:
        assert str(error).startswith("its head")


@pytest.mark.parametrize("depth", [10, 100_000])
def test_a_deep_head_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=r"the tensor|nested too deeply"):
        tensors(b'{"a":' * depth + b"1" + b"}" * depth, 0)
