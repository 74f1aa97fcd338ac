"""Thrift's compact protocol: what is written is read, and rubbish is a ValueError."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn37.data.thrift import BINARY, I32, I64, LIST, STRUCT, read_struct, value, write_struct

numbers = st.integers(-(1 << 31), (1 << 31) - 1)
leaves: Any = st.one_of(
    numbers.map(lambda n: (I32, n)),
    st.integers(-(1 << 62), 1 << 62).map(lambda n: (I64, n)),
    st.binary(max_size=40).map(lambda b: (BINARY, b)),
    st.booleans().map(lambda b: (1 if b else 2, b)),
    st.lists(numbers, max_size=20).map(lambda items: (LIST, (I32, items))),
    st.lists(st.booleans(), max_size=20).map(lambda items: (LIST, (1, items))),
)
structs = st.recursive(
    st.dictionaries(st.integers(1, 40), leaves, max_size=6),
    lambda inner: st.dictionaries(
        st.integers(1, 40),
        inner.map(lambda s: (STRUCT, s)) | st.lists(inner, max_size=4).map(lambda s: (LIST, (STRUCT, s))),
        max_size=4,
    ),
    max_leaves=12,
)


@given(structs, st.binary(max_size=10))
def test_what_is_written_is_read(struct: Any, rest: bytes) -> None:
    data = write_struct(struct)
    assert read_struct(data + rest) == (struct, len(data))
    for field in struct:
        assert value(read_struct(data, last_field=field)[0], field) == value(struct, field)


@given(structs)
def test_a_struct_cut_off_is_an_error(struct: Any) -> None:
    data = write_struct(struct)
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"thrift|type"):
            read_struct(data[:length])


@given(st.binary(max_size=300))
def test_rubbish_is_a_value_error_or_a_struct(data: bytes) -> None:
    try:
        _, end = read_struct(data)
    except ValueError:
        return
    assert end <= len(data)


@pytest.mark.parametrize(
    "data", [b"\x1c" * 100_000, b"\x19\xfc" + b"\xff" * 8 + b"\x01", b"\x16" + b"\xff" * 100, b"\x18\xff\xff\xff\x7f"]
)
def test_deep_and_long_rubbish_ends(data: bytes) -> None:
    with pytest.raises(ValueError, match="thrift"):
        read_struct(data)
