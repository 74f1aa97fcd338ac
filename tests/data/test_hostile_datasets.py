"""Datasets and hubs that lie: each ends as a fault in one sentence, in bounded time and memory."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import json
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sn37.data import PinnedDatasets, ReadLimits
from sn37.errors import DataFault, HubFault
from sn37.hub import Hub

COMMIT = "0123456789" * 4
NAME = "data/train-00000-of-00001.parquet"
Handler = http.server.BaseHTTPRequestHandler


@dataclass
class LyingHub:
    """A hub with one dataset, `evil/set`. files: name -> (the size it tells, the bytes it has); answers: by a part of
    the path, what is sent instead of a sound answer."""

    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    answers: dict[str, Callable[[Handler], None]] = field(default_factory=dict)
    url: str = ""
    paths: list[str] = field(default_factory=list)

    def put(self, name: str, content: bytes, told: int | None = None) -> None:
        self.files[name] = (len(content) if told is None else told, content)

    def answer(self, handler: Handler) -> None:
        path = unquote(urlsplit(handler.path).path)
        self.paths.append(path)
        for part, own in self.answers.items():
            if part in path:
                own(handler)
                return
        if "/revision/" in path:
            send_json(handler, described(entry(name, size) for name, (size, _) in self.files.items()))
        else:
            content = self.files[path.split(f"/resolve/{COMMIT}/", 1)[1]][1]
            start, end = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
            send(handler, 206, content[start : end + 1])


def described(files: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "evil/set", "sha": COMMIT, "private": False, "siblings": list(files)}


def entry(name: str, size: int) -> dict[str, Any]:
    return {"rfilename": name, "size": size, "blobId": "0" * 40}


def send(handler: Handler, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def send_json(handler: Handler, data: Any, headers: Mapping[str, str] = {}) -> None:
    send(handler, 200, json.dumps(data).encode(), headers)


@pytest.fixture
def hub() -> Iterator[LyingHub]:
    lying = LyingHub()

    class OneRequest(Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802
            self.close_connection = True
            with contextlib.suppress(OSError):  # the reader has gone
                lying.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneRequest) as server:
        server.daemon_threads = True
        lying.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield lying
        server.shutdown()


@pytest.fixture
def read(hub: LyingHub, tmp_path: Path) -> Callable[..., Any]:
    """Reads rows 0 and 9 of a column."""

    def read(column: str = "text", **limits: Any) -> Any:
        data = PinnedDatasets(
            Hub(hub.url, cache=tmp_path / "models", timeout_s=2.0, attempts=2, first_wait_s=0.0),
            datetime(2026, 1, 1, tzinfo=UTC),
            tmp_path / "rows",
            revisions={"evil/set": COMMIT},
            limits=ReadLimits(**limits),
        )
        return data.rows("evil/set", "default", "train", [0, 9], [column])

    return read


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


TEXTS = pa.table({"text": [f"text {i}" for i in range(10)]})


def test_a_sound_dataset_of_this_hub_is_read(hub: LyingHub, read: Callable[..., Any]) -> None:
    hub.put(NAME, parquet(TEXTS))
    assert read() == [{"text": "text 0"}, {"text": "text 9"}]


def test_a_row_group_that_tells_how_much_it_unpacks_to_is_refused_unread(
    hub: LyingHub, read: Callable[..., Any]
) -> None:
    hub.put(NAME, parquet(pa.table({"text": ["a" * 20_000_000] * 10}), use_dictionary=False, compression="zstd"))
    with pytest.raises(DataFault, match=r"row group 0 unpack to 200,\d+,\d+ bytes in 10 rows; at most 104,857,600"):
        read(max_group_bytes=100 << 20)
    assert len(hub.paths) == 2  # its files, its footer


def references_to_one_long_text() -> pa.Table:
    """The footer tells the 30 MB of the dictionary; two thousand rows refer to it."""
    return pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), ["b" * 30_000_000])})


def one_long_list() -> pa.Table:
    """Sixty million equal numbers in the first row: some bytes as runs, half a gigabyte as Python has them."""
    numbers = pa.array(np.zeros(60_000_009, np.int8))
    return pa.table({"text": pa.ListArray.from_arrays([0, *range(60_000_000, 60_000_010)], numbers)})


BOMBS = {"references to one long text": references_to_one_long_text, "one long list": one_long_list}


@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_gigabytes_against_its_footer_ends_at_the_memory_limit(
    name: str, hub: LyingHub, read: Callable[..., Any]
) -> None:
    hub.put(NAME, parquet(BOMBS[name](), compression="zstd"))
    assert hub.files[NAME][0] < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataFault, match=r"of the dataset evil/set .*unpacks to more than its reader's memory"):
        read(memory_bytes=300 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB: nothing of it is unpacked here


def test_a_text_without_measure_is_cut_where_every_sample_of_it_is_left_out(
    hub: LyingHub, read: Callable[..., Any]
) -> None:
    hub.put(NAME, parquet(pa.table({"text": ["d" * 3_000_000, *"123456789"]}), compression="zstd"))
    first, last = read()
    assert (len(first["text"]), last["text"]) == (500_000, "9")


FOOTERS = {
    "longer than any": (8 << 30, b"\0" * 4 + b"\xff\xff\xff\x3f" + b"PAR1", "a part of it has 1,07.* bytes; at most"),
    "longer than the file": (1000, b"\0" * 988 + b"\xff\xff\x00\x00" + b"\0" * 4 + b"PAR1", "is no sound parquet file"),
    "no thrift": (1000, b"\x1c" * 992 + b"\xe0\x03\0\0PAR1", "is no sound parquet file"),
    "an empty file": (0, b"", "is no sound parquet file"),
}


@pytest.mark.parametrize("name", FOOTERS)
def test_a_footer_that_lies_is_a_data_fault(name: str, hub: LyingHub, read: Callable[..., Any]) -> None:
    told, tail, reason = FOOTERS[name]

    def end_of_file(handler: Handler) -> None:
        start, end = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
        send(handler, 206, tail.rjust(end + 1 - start, b"\0")[-(end + 1 - start) :])

    hub.put(NAME, b"", told)
    hub.answers["/resolve/"] = end_of_file
    with pytest.raises(DataFault, match=reason):
        read()


ALIASES = b"".join(b"a%d: &a%d [%s]\n" % (i, i, b"*a%d," % (i - 1) * 9) for i in range(1, 12))
CARDS = {
    "a hundred megabytes": b"---\n" + b"a: 1\n" * 20_000_000,
    "a laughing billion": b"---\na0: &a0 [x]\n" + ALIASES + b"configs: *a11\n---\n",
    "brackets": b"---\na: " + b"[" * 200_000 + b"\n---\n",
}


@pytest.mark.parametrize("name", CARDS)
def test_a_readme_without_measure_is_a_data_fault(name: str, hub: LyingHub, read: Callable[..., Any]) -> None:
    hub.put(NAME, parquet(TEXTS))
    hub.put("README.md", CARDS[name])
    with pytest.raises(DataFault, match="evil/set"):
        read(deadline_s=8.0)


@pytest.mark.parametrize("count", [250_000, 1_000_000])
def test_a_million_files_are_a_fault(count: int, hub: LyingHub, read: Callable[..., Any]) -> None:
    body = json.dumps(described(entry(f"{i}.parquet", 9) for i in range(count))).encode()
    hub.answers["/revision/"] = lambda handler: send(handler, 200, body)
    with pytest.raises(HubFault, match=r"evil/set .*(at most 200000 are read|is longer than 67108864 bytes)"):
        read()


FILE_NAMES = {
    "above": "../../escaped.parquet",
    "absolute": "/tmp/escaped.parquet",
    "too long for a disk": "a" * 300 + ".parquet",
    "no character": "a\0b.parquet",
    "folder and file": "train.parquet/train.parquet",
    "a part without name": "a//b.parquet",
}


@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_name_that_no_disk_takes_is_a_data_fault(name: str, hub: LyingHub, read: Callable[..., Any]) -> None:
    hub.put("train.parquet", parquet(TEXTS))
    hub.put(FILE_NAMES[name], parquet(TEXTS))
    with pytest.raises(DataFault, match="the dataset evil/set"):
        read()


def dripping(first: bytes, piece: bytes) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.wfile.write(first)
        while True:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(0.05)

    return answer


DRIPS = {
    "a body": dripping(b"HTTP/1.1 206 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
    "a head": dripping(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "early hints": dripping(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "the body of an error": dripping(b"HTTP/1.1 500 X\r\nContent-Length: 1000000\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("place", ["/revision/", "/resolve/"])
@pytest.mark.parametrize("name", DRIPS)
def test_a_hub_that_drips_is_a_hub_fault_in_time(
    name: str, place: str, hub: LyingHub, read: Callable[..., Any]
) -> None:
    hub.put(NAME, parquet(TEXTS))
    hub.answers[place] = DRIPS[name]
    began = time.monotonic()
    with pytest.raises(HubFault, match="dataset evil/set"):
        read(deadline_s=2.0)
    assert time.monotonic() - began < 15


def flood(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 404 X\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n")
    while True:
        handler.wfile.write(b"x" * (1 << 20))


def unpacking(handler: Handler) -> None:
    send(handler, 206, gzip.compress(b"x" * (300 << 20), 1), {"Content-Encoding": "gzip"})


FLOODS = {
    "the body of an error": ("/revision/", flood),
    "the body of a file's error": ("/resolve/", flood),
    "a body that was compressed": ("/resolve/", unpacking),
    "an answer of the hub that was compressed": ("/revision/", unpacking),
    "no JSON": ("/revision/", lambda handler: send(handler, 200, b"[" * 100_000)),
    "no files": ("/revision/", lambda handler: send_json(handler, {**described([]), "siblings": 3})),
    "no file": ("/revision/", lambda handler: send_json(handler, described([{"rfilename": 3, "size": "x"}]))),
    "no object": ("/revision/", lambda handler: send_json(handler, [1])),
    "another commit": ("/revision/", lambda handler: send_json(handler, {"id": "evil/set", "sha": "f" * 40})),
    "a redirect to nowhere": (
        "/resolve/",
        lambda handler: send(handler, 302, b"", {"Location": "http://127.0.0.1:9/x"}),
    ),
    "the file is refused": ("/resolve/", lambda handler: send(handler, 451, b"")),
    "a proxy's own status": ("/resolve/", lambda handler: send(handler, 522, b"")),
}


@pytest.mark.parametrize("name", FLOODS)
def test_an_answer_without_measure_or_sense_is_a_fault(name: str, hub: LyingHub, read: Callable[..., Any]) -> None:
    hub.put(NAME, parquet(TEXTS))
    place, answer = FLOODS[name]
    hub.answers[place] = answer
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((DataFault, HubFault), match="dataset evil/set"):
        read(deadline_s=20.0, memory_bytes=300 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kB, of this test's own hub


@pytest.mark.parametrize("rows", [-1, 5, 100, 1 << 60])
def test_a_footer_that_lies_about_its_rows_is_a_data_fault(rows: int, hub: LyingHub, read: Callable[..., Any]) -> None:
    whole = parquet(TEXTS)
    # field 3 of the footer, the number of rows: ten, as zigzag 20
    place = whole.rindex(b"\x16\x14", 0, whole.rindex(b"\x19\x1c", 0, -8) if b"\x19\x1c" in whole[:-8] else None)
    assert whole[place + 1] == 20
    zigzag, coded = (rows << 1) ^ (rows >> 63), bytearray()
    while zigzag > 127:
        coded.append(zigzag & 127 | 128)
        zigzag >>= 7
    coded.append(zigzag)
    length = int.from_bytes(whole[-8:-4], "little") + len(coded) - 1
    hub.put(NAME, whole[: place + 1] + coded + whole[place + 2 : -8] + length.to_bytes(4, "little") + b"PAR1")
    with pytest.raises(DataFault, match="evil/set"):
        read()
