"""Thrift's compact protocol, as parquet's footers and page heads are written in it.

Knows nothing of parquet. A struct is a dict from field number to (type, value), so that what was
read can be written again. https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

__all__ = ["BINARY", "I32", "I64", "LIST", "STRUCT", "Struct", "read_struct", "value", "write_struct"]

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_MAX_DEPTH = 32

Struct = dict[int, tuple[int, Any]]
"""Field number -> (type, value). A list's value is (type of the elements, elements)."""


def read_struct(data: bytes, position: int = 0, *, last_field: int | None = None) -> tuple[Struct, int]:
    """The struct at `position`, and where it ends. Raises ValueError on anything malformed or cut off.

    last_field: read no further than behind this field; the rest may be missing.
    """
    try:
        return _struct(data, position, 0, last_field)
    except IndexError:
        raise ValueError("a thrift struct is cut off") from None


def value(struct: Struct, field: int, default: Any = None) -> Any:
    """A field's value; a list's elements."""
    if field not in struct:
        return default
    kind, content = struct[field]
    return content[1] if kind in (LIST, SET) else content


def _struct(data: bytes, position: int, depth: int, last_field: int | None = None) -> tuple[Struct, int]:
    if depth > _MAX_DEPTH:
        raise ValueError("a thrift struct is nested too deeply")
    struct: Struct = {}
    field = 0
    while True:
        head = data[position]
        position += 1
        if head == 0:
            return struct, position
        kind = head & 15
        if head >> 4:
            field += head >> 4
        else:
            number, position = _varint(data, position)
            field = _signed(number)
        content, position = _value(data, position, kind, depth)
        struct[field] = (kind, content)
        if field == last_field:
            return struct, position


def _value(data: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (I16, I32, I64):
        number, position = _varint(data, position)
        return _signed(number), position
    if kind in (TRUE, FALSE):
        return kind == TRUE, position
    if kind == BINARY:
        length, position = _varint(data, position)
        return _piece(data, position, length), position + length
    if kind in (LIST, SET):
        return _list(data, position, depth)
    if kind == STRUCT:
        return _struct(data, position, depth + 1)
    if kind == DOUBLE:
        return _piece(data, position, 8), position + 8
    if kind == BYTE:
        return data[position], position + 1
    raise ValueError(f"type {kind} is none of those parquet uses")


def _list(data: bytes, position: int, depth: int) -> tuple[tuple[int, list[Any]], int]:
    head = data[position]
    position += 1
    length, kind = head >> 4, head & 15
    if length == 15:
        length, position = _varint(data, position)
    if length > len(data) - position:
        raise ValueError("a thrift list is longer than its bytes")
    elements: list[Any] = []
    for _ in range(length):
        if kind in (TRUE, FALSE):
            # in a list, a boolean has a byte of its own
            element, position = data[position] == 1, position + 1
        else:
            element, position = _value(data, position, kind, depth + 1)
        elements.append(element)
    return (kind, elements), position


def _piece(data: bytes, position: int, length: int) -> bytes:
    if length > len(data) - position:
        raise ValueError("a thrift text is longer than its bytes")
    return data[position : position + length]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError("a thrift number is too long")


def _signed(number: int) -> int:
    return (number >> 1) ^ -(number & 1)


def write_struct(struct: Struct) -> bytes:
    """The struct's bytes; `read_struct` reads them back."""
    out = bytearray()
    last = 0
    for field in sorted(struct):
        kind, content = struct[field]
        if kind in (TRUE, FALSE):
            kind = TRUE if content else FALSE
        if 0 < field - last <= 15:
            out.append((field - last) << 4 | kind)
        else:
            out.append(kind)
            out += _written_varint(field << 1)
        out += _written(kind, content)
        last = field
    out.append(0)
    return bytes(out)


def _written(kind: int, content: Any) -> bytes:
    if kind in (TRUE, FALSE):
        return b""
    if kind in (I16, I32, I64):
        return _written_varint((content << 1) ^ (content >> 63))
    if kind == BINARY:
        return _written_varint(len(content)) + bytes(content)
    if kind == STRUCT:
        return write_struct(content)
    if kind in (LIST, SET):
        inner, elements = content
        head = bytes([len(elements) << 4 | inner]) if len(elements) < 15 else bytes([0xF0 | inner])
        length = b"" if len(elements) < 15 else _written_varint(len(elements))
        if inner in (TRUE, FALSE):
            return head + length + bytes(1 if element else 2 for element in elements)
        return head + length + b"".join(_written(inner, element) for element in elements)
    return bytes([content]) if kind == BYTE else bytes(content)


def _written_varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
