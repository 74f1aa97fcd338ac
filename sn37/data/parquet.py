"""Some rows of a parquet file, from as few of its bytes as will do.

Only the column chunks asked for are touched, and of those only the pages that hold the rows: found
by the file's page index, or, where a long flat column has none, by walking from page head to page
head. The pages are put into a small parquet file of their own, which pyarrow decodes. Knows nothing
of where the bytes come from. The format: https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from sn37.data.thrift import BINARY, I32, I64, LIST, STRUCT, Struct, read_struct, value, write_struct

__all__ = ["Footer", "Read", "footer_rows", "read_footer", "read_leaf"]

Read = Callable[[Sequence[tuple[int, int]]], list[bytes]]
"""Reads byte ranges [start, end) of the file, in the order asked for."""

_TAIL_BYTES = 64 << 10
_HEAD_BYTES = 4 << 10
_WALKED_FROM_BYTES = 8 << 20
"""A column chunk without a page index is read whole up to this size, walked above it."""
_MAX_FOOTER_BYTES = 256 << 20
_MAX_DECODED_BYTES = 4 << 30
_MAP_TYPES = (1, 2)
_REPEATED = 2


@dataclass(frozen=True)
class Page:
    """A data page: its bytes [start, end) in the file, and the rows [first, last) of its row group."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True)
class Leaf:
    """A leaf of the schema. path: names from the top; chain: its schema elements from the top, without the root."""

    path: tuple[str, ...]
    chain: tuple[Struct, ...]

    @property
    def flat(self) -> bool:
        """Whether each row holds at most one value of it."""
        return all(value(element, 3) != _REPEATED for element in self.chain)


@dataclass(frozen=True)
class Footer:
    """A parquet file's footer."""

    meta: Struct

    @cached_property
    def rows(self) -> int:
        return int(value(self.meta, 3))

    @cached_property
    def starts(self) -> list[int]:
        """The first row of each row group, and one past the last row."""
        starts = [0]
        for group in value(self.meta, 4):
            starts.append(starts[-1] + int(value(group, 3)))
        if starts[-1] != self.rows:
            raise ValueError("its row groups do not add up to its rows")
        return starts

    @cached_property
    def leaves(self) -> list[Leaf]:
        elements = value(self.meta, 2)
        leaves: list[Leaf] = []
        rest = iter(elements[1:])
        for _ in range(value(elements[0], 5, 0)):
            _walk_schema(rest, (), (), leaves)
        return leaves

    @property
    def columns(self) -> list[str]:
        """The names at the top of the schema, in the file's order."""
        return list(dict.fromkeys(leaf.path[0] for leaf in self.leaves))

    def group_of(self, row: int) -> int:
        """The row group that holds a row."""
        return bisect.bisect_right(self.starts, row) - 1

    def chunk(self, group: int, leaf: Leaf) -> Struct:
        """The column chunk of a leaf."""
        columns = value(value(self.meta, 4)[group], 1)
        chunk: Struct = columns[self.leaves.index(leaf)]
        meta = value(chunk, 3)
        if meta is None or value(chunk, 1) or 8 in chunk:
            raise ValueError("it is encrypted, or its columns are in other files")
        if tuple(name.decode() for name in value(meta, 3)) != leaf.path:
            raise ValueError("its columns are in another order than its schema")
        return chunk


def _walk_schema(rest: Iterator[Struct], path: tuple[str, ...], chain: tuple[Struct, ...], leaves: list[Leaf]) -> None:
    element = next(rest, None)
    if element is None or len(path) > 64:
        raise ValueError("its schema is cut off, or nested too deeply")
    path, chain = (*path, value(element, 4).decode()), (*chain, element)
    children = value(element, 5, 0)
    if not children:
        leaves.append(Leaf(path, chain))
    for _ in range(children):
        _walk_schema(rest, path, chain, leaves)


def _footer_span(read: Read, size: int) -> tuple[bytes, int, int]:
    """(the file's last bytes, where the footer starts, where it ends)."""
    tail = read([(max(size - _TAIL_BYTES, 0), size)])[0] if size >= 12 else b""
    if tail[-4:] != b"PAR1":
        raise ValueError("it does not end as a parquet file does")
    length = int.from_bytes(tail[-8:-4], "little")
    if length > min(size - 12, _MAX_FOOTER_BYTES):
        raise ValueError("its footer does not fit into it")
    return tail, size - 8 - length, size - 8


def footer_rows(read: Read, size: int) -> int:
    """How many rows the file has, from the first bytes of its footer. Raises ValueError."""
    tail, start, end = _footer_span(read, size)
    if end - start <= len(tail) - 8:
        return int(value(read_struct(tail[-8 - (end - start) : -8])[0], 3))
    # version, schema and the number of rows come first; the row groups, which are long, after them
    head = read([(start, min(start + _TAIL_BYTES, end))])[0]
    try:
        return int(value(read_struct(head, last_field=3)[0], 3))
    except ValueError:
        return read_footer(read, size).rows


def read_footer(read: Read, size: int) -> Footer:
    """The file's footer. Raises ValueError: what is wrong with it."""
    tail, start, end = _footer_span(read, size)
    missing = end - start - (len(tail) - 8)
    data = tail[-8 - (end - start) : -8] if missing <= 0 else read([(start, start + missing)])[0] + tail[:-8]
    footer = Footer(read_struct(data)[0])
    if footer.rows < 0 or len(footer.starts) < 1 or not footer.leaves:
        raise ValueError("its footer is malformed")
    return footer


def read_leaf(read: Read, footer: Footer, group: int, leaf: Leaf, rows: Sequence[int]) -> list[Any]:
    """What a leaf holds in the given rows of a row group (counted from the group's first), in their order.

    Each value comes inside the lists and structs around it, down from the top column. Raises ValueError.
    """
    if any(value(element, 6) in _MAP_TYPES for element in leaf.chain):
        raise ValueError(f"its column {leaf.path[0]!r} is a map, which is not supported")
    meta = value(footer.chunk(group, leaf), 3)
    dictionary, pages = _pages(read, footer, group, leaf, rows)
    spans = ([dictionary] if dictionary else []) + [(page.start, page.end) for page in pages]
    parts = read(spans)
    decoded_bytes, values = 0, 0
    for part, page in zip(parts[-len(pages) :], pages, strict=True):
        whole = (page.first, page.last) == (0, value(value(footer.meta, 4)[group], 3)) and len(pages) == 1
        size, count = (value(meta, 6), value(meta, 5)) if whole else _page_head(part)[1:3]
        decoded_bytes, values = decoded_bytes + size, values + count
    if decoded_bytes > _MAX_DECODED_BYTES:
        raise ValueError(f"the pages of its column {leaf.path[0]!r} are too large to be decoded")
    places: dict[int, int] = {}
    for page in pages:
        held = len(places)
        places |= {row: held + row - page.first for row in range(page.first, page.last)}
    small = _small_file(footer, leaf, meta, parts, len(parts[0]) if dictionary else None, values, len(places))
    return _decoded(small, [places[row] for row in rows])


def _pages(
    read: Read, footer: Footer, group: int, leaf: Leaf, rows: Sequence[int]
) -> tuple[tuple[int, int] | None, list[Page]]:
    """(the bytes of the dictionary, if there is one apart; the data pages that hold the rows)."""
    chunk = footer.chunk(group, leaf)
    meta = value(chunk, 3)
    group_rows, first_data, total = int(value(value(footer.meta, 4)[group], 3)), value(meta, 9), value(meta, 7)
    dictionary = value(meta, 11, 0)
    start = dictionary if 0 < dictionary < first_data else first_data
    if value(chunk, 4) and value(chunk, 5):
        pages = _indexed(read([(value(chunk, 4), value(chunk, 4) + value(chunk, 5))])[0], group_rows)
        first_data = pages[0].start
    elif leaf.flat and total > _WALKED_FROM_BYTES:
        pages = list(_walked(read, first_data, start + total, max(rows)))
    else:
        return None, [Page(start, start + total, 0, group_rows)]
    wanted = sorted(set(rows))
    kept = [p for p in pages if bisect.bisect_left(wanted, p.first) < bisect.bisect_left(wanted, p.last)]
    return (start, first_data) if start < first_data else None, kept


def _indexed(data: bytes, group_rows: int) -> list[Page]:
    """The pages of a column chunk, from its page index."""
    locations = value(read_struct(data)[0], 1)
    firsts = [value(location, 3) for location in locations] + [group_rows]
    if not locations or firsts[0] != 0 or any(b < a for a, b in pairwise(firsts)):
        raise ValueError("its page index is malformed")
    return [
        Page(value(place, 1), value(place, 1) + value(place, 2), first, last)
        for place, (first, last) in zip(locations, pairwise(firsts), strict=True)
    ]


def _walked(read: Read, position: int, end: int, last_row: int) -> Iterator[Page]:
    """The pages of a flat column chunk up to the one that holds `last_row`, from their heads."""
    row = 0
    while row <= last_row:
        if position >= end:
            raise ValueError("its pages hold fewer rows than its row group")
        for length in (_HEAD_BYTES, 16 * _HEAD_BYTES, 1024 * _HEAD_BYTES):
            head = read([(position, min(position + length, end))])[0]
            try:
                head_bytes, _, rows = _page_head(head)
                break
            except ValueError:
                if len(head) < length:
                    raise
        else:
            raise ValueError("it has a page head that is too long")
        body = value(read_struct(head)[0], 3)
        yield Page(position, position + head_bytes + body, row, row + rows)
        row += rows
        position += head_bytes + body


def _page_head(data: bytes) -> tuple[int, int, int]:
    """(bytes of the head, bytes of the page when decoded, values in it) of the page at the start of `data`."""
    head, end = read_struct(data)
    values = value(value(head, 5, {}), 1) or value(value(head, 8, {}), 1) or 0
    size = value(head, 2)
    if not isinstance(size, int) or size < 0 or not isinstance(value(head, 3), int) or value(head, 3) < 0:
        raise ValueError("it has a malformed page head")
    return end, size, values


def _small_file(
    footer: Footer, leaf: Leaf, meta: Struct, parts: Sequence[bytes], dictionary: int | None, values: int, rows: int
) -> bytes:
    """A parquet file of one row group with one leaf: the parts, under a footer that fits them.

    dictionary: length of the dictionary page that comes first, None where the parts tell by themselves.
    """
    body = b"".join(parts)
    if dictionary is None and 0 < value(meta, 11, 0) < value(meta, 9):
        dictionary = value(meta, 9) - value(meta, 11)
    column: Struct = {field: meta[field] for field in (1, 2, 3, 4)}
    column |= {5: (I64, values), 6: (I64, value(meta, 6)), 7: (I64, len(body)), 9: (I64, 4 + (dictionary or 0))}
    if dictionary:
        column[11] = (I64, 4)
    # every element above the leaf keeps one child, the one on the way to the leaf
    chain = [{**element, 5: (I32, 1)} for element in leaf.chain[:-1]] + [leaf.chain[-1]]
    root: Struct = {4: (BINARY, b"schema"), 5: (I32, 1)}
    chunk: Struct = {2: (I64, 4), 3: (STRUCT, column)}
    group: Struct = {1: (LIST, (STRUCT, [chunk])), 2: (I64, len(body)), 3: (I64, rows)}
    whole: Struct = {
        1: footer.meta.get(1, (I32, 1)),
        2: (LIST, (STRUCT, [root, *chain])),
        3: (I64, rows),
        4: (LIST, (STRUCT, [group])),
    }
    if 6 in footer.meta:
        # some writers' mistakes are known to pyarrow by this name
        whole[6] = footer.meta[6]
    end = write_struct(whole)
    return b"PAR1" + body + end + struct.pack("<I", len(end)) + b"PAR1"


def _decoded(file: bytes, places: Sequence[int]) -> list[Any]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        column = pq.read_table(pa.BufferReader(file), use_threads=False, memory_map=False).column(0)
        taken: list[Any] = column.take(pa.array(places, pa.int64())).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"it cannot be decoded: {error}") from None
    return taken
