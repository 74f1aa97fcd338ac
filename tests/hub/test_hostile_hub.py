"""Hubs and proxies that lie, drip, refuse or send elsewhere: bounded in time and memory, and each fault its owner."""

from __future__ import annotations

import gzip
import json
import resource
import socket
import struct
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import Fault, FaultyHub
from raw_servers import Proxy, RawServer, reply

from sn37.competition import Constraints
from sn37.errors import HubFault, ModelFault, SubmissionFault
from sn37.hub import Hub
from sn37.submission import ModelId

Connect = Callable[..., Hub]
Upload = Callable[..., ModelId]
Allowing = Callable[..., Constraints]
SOME = ModelId("a", "b", "1" * 40, "A" * 43 + "=", 7)


def fetch(url: str, cache: Path, constraints: Constraints, model: ModelId = SOME, **options: Any) -> str:
    """The content hash of the model fetched from there, with little patience."""
    patience = {"timeout_s": 1.0, "attempts": 2, "first_wait_s": 0.0, **options}
    hotkey = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
    with Hub(url, patience.pop("token", "hf_secret"), cache=cache, **patience).fetch_model(
        model, hotkey, constraints
    ) as fetched:
        return fetched.content_hash


@contextmanager
def proxy(server: FaultyHub, hook: Callable[[Any], object]) -> Iterator[str]:
    made = Proxy(server.endpoint, hook)
    try:
        yield made.url
    finally:
        made.close()


@contextmanager
def raw(answer: Callable[[socket.socket, str], None]) -> Iterator[RawServer]:
    made = RawServer(answer)
    try:
        yield made
    finally:
        made.close()


def drips(first: bytes, piece: bytes) -> Callable[[socket.socket, str], None]:
    def answer(connection: socket.socket, path: str) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(piece)
            clock.sleep(0.2)

    return answer


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"HTTP/1.1 500 X\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 404 X\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", marks=pytest.mark.slow),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        pytest.param(
            b"HTTP/1.1 302 X\r\nLocation: /api/models\r\nContent-Length: 1000000\r\n\r\n", b"x", marks=pytest.mark.slow
        ),
    ],
    ids=["body of 500", "body of 404", "body", "chunks", "headers", "early hints", "body of a redirect"],
)
def test_a_hub_that_drips_is_given_up(tmp_path: Path, constraints: Allowing, first: bytes, piece: bytes) -> None:
    began = clock.monotonic()
    with raw(drips(first, piece)) as hub, pytest.raises(HubFault) as caught:
        fetch(hub.url, tmp_path, constraints())
    assert not isinstance(caught.value, SubmissionFault), "it serves nobody"
    assert clock.monotonic() - began < 20


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"sha": "' + b"1" * 40 + b'", "siblings": 3}',
        b'{"siblings": [{"rfilename": 3}]}',
        b'{"id": "a/b", "sha": "' + b"1" * 40 + b'", "siblings": [{"rfilename": 3, "size": 1, "blobId": "a"}]}',
        b"[]",
        b"\xff\xfe",
        b"",
        b'{"id": "a/b", "sha": "' + b"1" * 40 + b'", "siblings": [{"rfilename": "x", "size": -1, "blobId": "a"}]}',
    ],
    ids=["deep", "siblings", "no size", "path", "no object", "no text", "empty", "negative size"],
)
def test_an_answer_that_makes_no_sense_is_the_hubs(tmp_path: Path, constraints: Allowing, body: bytes) -> None:
    with raw(lambda connection, path: reply(connection, body)) as hub, pytest.raises(HubFault):
        fetch(hub.url, tmp_path, constraints())


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 X"])
def test_an_answer_that_swells_when_unpacked_swells_nobody(tmp_path: Path, constraints: Allowing, status: str) -> None:
    packed = gzip.compress(b" " * (1 << 30), 9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        raw(lambda connection, path: reply(connection, packed, status, Content_Encoding="gzip")) as hub,
        pytest.raises(HubFault),
    ):
        fetch(hub.url, tmp_path, constraints(), timeout_s=10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_the_token_goes_to_the_hub_alone_whoever_redirects(
    server: FaultyHub, upload: Upload, tmp_path: Path, constraints: Allowing
) -> None:
    model = upload()
    token = server.token_of("miner")
    with raw(lambda connection, path: reply(connection, b"x")) as other:

        def elsewhere(handler: Any) -> bool:
            if "/resolve/" not in handler.path:
                return False
            status, headers, _ = handler.fetched()
            handler.say(302, {**headers, "Location": f"{other.url}/stolen"}, b"")
            return status == 200

        with proxy(server, elsewhere) as url, pytest.raises(HubFault):
            fetch(url, tmp_path, constraints(), model, token=token)
        with (
            proxy(server, lambda handler: handler.say(307, {"Location": f"{other.url}/stolen"}, b"") or True) as url,
            pytest.raises(HubFault),
        ):
            Hub(url, token, cache=tmp_path, attempts=1).newest_commit("miner/model", "model", None)
        assert len(other.paths) >= 2
        assert not any("authorization" in headers for headers in other.headers)


def test_the_token_does_not_follow_the_next_page_to_another_host(
    server: FaultyHub, upload: Upload, tmp_path: Path
) -> None:
    upload()
    with raw(lambda connection, path: reply(connection, [])) as other:

        def paged(handler: Any) -> bool:
            handler.say(200, {"Link": f'<{other.url}/next>; rel="next"'}, b"[]")
            return True

        with proxy(server, paged) as url, pytest.raises(LookupError):
            Hub(url, "hf_secret", cache=tmp_path).newest_commit("miner/model", "model", None)
        assert other.paths == ["/next"]
        assert "authorization" not in other.headers[0]


def test_a_redirect_to_a_store_serves_the_files(
    server: FaultyHub, upload: Upload, tmp_path: Path, constraints: Allowing
) -> None:
    model = upload()
    with proxy(server, lambda handler: False) as store:

        def elsewhere(handler: Any) -> bool:
            if "/resolve/" not in handler.path:
                return False
            _, headers, _ = handler.fetched()
            kept = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            linked = {"X-Linked-Size": headers.get("content-length", "0"), "X-Linked-ETag": headers["etag"]}
            handler.say(302, {**kept, **linked, "Location": f"{store}{handler.path}"}, b"")
            return True

        with proxy(server, elsewhere) as url:
            assert fetch(url, tmp_path, constraints(), model, token=None)


def test_what_a_proxy_packs_is_unpacked(
    server: FaultyHub, upload: Upload, tmp_path: Path, constraints: Allowing
) -> None:
    model = upload({"tokenizer.json": b'{"version": "' + b"1.0" * 10_000 + b'"}'})

    def packs(handler: Any) -> bool:
        status, headers, body = handler.fetched()
        if status != 200 or handler.command == "HEAD":
            return False
        handler.say(status, {**headers, "Content-Encoding": "gzip"}, gzip.compress(body))
        return True

    with proxy(server, packs) as url:
        assert fetch(url, tmp_path, constraints(), model, token=None)


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
@pytest.mark.parametrize(
    "where", [r"resolve/.*model\.safetensors", r"resolve/.*config\.json", r"api/models/miner/model"]
)
def test_a_definite_refusal_is_the_models_fault_while_others_are_served(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str, status: int, where: str
) -> None:
    upload(repo="other/model")
    model = upload()
    server.faults.add(Fault(f"(GET|HEAD) .*miner/model/?.*{where.split('/')[-1]}", status=status, times=10**9))
    with pytest.raises(ModelFault, match=f"status {status}"):
        connect().fetch_model(model, hotkey, constraints())


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
def test_a_server_that_refuses_everything_is_nobodys_fault(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str, status: int
) -> None:
    upload(repo="other/model")
    model = upload()
    server.faults.add(Fault(status=status, times=10**9))
    with pytest.raises(HubFault, match=f"status {status}") as caught:
        connect().fetch_model(model, hotkey, constraints())
    assert not isinstance(caught.value, SubmissionFault)


TROUBLE = {
    "500 on the repo": Fault("miner/model", status=500),
    "500 on a file": Fault("miner/model/resolve", status=500),
    "cut weights": Fault("GET /miner/model/resolve.*safetensors", cut_after=50),
    "stalled weights": Fault("GET /miner/model/resolve.*safetensors", delay_s=3.0),
    "523": Fault("miner/model", status=523),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_with_one_repo_is_that_submissions_and_with_all_nobodys(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str, name: str
) -> None:
    upload(repo="other/model")
    model = upload()
    hub = connect(attempts=2, timeout_s=0.8)
    server.faults.add(replace(TROUBLE[name], times=10**9))
    with pytest.raises(SubmissionFault, match="it serves other repos") as caught:
        hub.fetch_model(model, hotkey, constraints())
    assert caught.value.owner == "submission"
    server.faults.clear()
    server.faults.add(replace(TROUBLE[name], where=TROUBLE[name].where.replace("miner/model", ".*"), times=10**9))
    with pytest.raises(HubFault) as caught:
        hub.fetch_model(model, hotkey, constraints())
    assert caught.value.owner == "evaluator"


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524])
def test_what_may_pass_is_tried_again(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str, status: int
) -> None:
    model = upload()
    server.faults.add(Fault(r"GET .*revision", status=status, times=2))
    server.faults.add(Fault(r"resolve", status=status, times=2))
    assert connect().fetch_model(model, hotkey, constraints())
    assert server.faults.left == 0


@pytest.mark.parametrize(("away_s", "passes"), [(-5, True), (2, True), (3600, False)])
def test_a_date_to_retry_after_is_understood(
    server: FaultyHub, upload: Upload, tmp_path: Path, constraints: Allowing, away_s: int, passes: bool
) -> None:
    model, asked = upload(), []

    def busy(handler: Any) -> bool:
        if asked or "revision" not in handler.path:
            return False
        asked.append(clock.monotonic())
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=away_s), usegmt=True)
        handler.say(429, {"Retry-After": date}, b"")
        return True

    with proxy(server, busy) as url:
        if passes:
            assert fetch(url, tmp_path, constraints(), model, token=None, timeout_s=10)
            assert clock.monotonic() - asked[0] > away_s - 1.1
        else:
            with pytest.raises(HubFault, match=r"asks to wait 3[56]\d\d s"):
                fetch(url, tmp_path, constraints(), model, token=None, timeout_s=10)


def test_shards_of_nothing_but_heads_are_refused_at_the_first(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str
) -> None:
    def shard(number: int) -> bytes:
        entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        text = json.dumps({f"{number * 80_000 + i:x}": entry for i in range(80_000)}).encode()
        return struct.pack("<Q", len(text)) + text

    files: dict[str, Any] = {f"model-{i}-of-3.safetensors": shard(i) for i in range(3)}
    model = upload({"model.safetensors": None, **files})
    server.stats.reset()
    with pytest.raises(ModelFault, match="the heads of the weights have"):
        connect().fetch_model(model, hotkey, constraints(max_bytes=10**9))
    assert len({path for path in server.stats.paths if ".safetensors" in path}) == 1
    assert server.stats.bytes_sent < 200_000


@pytest.mark.parametrize(
    "path",
    [
        "model-" + "é" * 120 + "-of-2.safetensors",
        "a" * 300 + "/config.json",
        "/".join("abcdefghijklmnopq") + "/vocab.txt",
        "a\\b/config.json",
        "a\x7f/config.json",
        ".cache/config.json",
        "model.safetensors/config.json",
        "a\ud800/config.json",
        *("x/../config.json", "./config.json", "x//config.json"),
    ],
)
def test_a_name_no_disk_takes_is_the_models_fault(
    tmp_path: Path, constraints: Allowing, server: FaultyHub, upload: Upload, path: str
) -> None:
    model = upload()

    def adds_a_file(handler: Any) -> bool:
        if "revision" not in handler.path:
            return False
        status, headers, body = handler.fetched()
        data = json.loads(body)
        data["siblings"].append({"rfilename": path, "size": 2, "blobId": "0" * 40})
        handler.say(status, headers, json.dumps(data).encode())
        return True

    reason = "is called as a file" if path.startswith("model.safetensors/") else "is no plain path"
    reason = "is listed but cannot be had" if "\ud800" in path else reason
    with proxy(server, adds_a_file) as url, pytest.raises(ModelFault, match=reason):
        fetch(url, tmp_path, constraints(), model, token=None)


def test_a_repo_of_endless_files_is_the_models_fault(
    tmp_path: Path, constraints: Allowing, server: FaultyHub, upload: Upload
) -> None:
    model = upload()

    def adds_files(handler: Any) -> bool:
        if "revision" not in handler.path:
            return False
        status, headers, body = handler.fetched()
        data = json.loads(body)
        data["siblings"] += [{"rfilename": f"{i}.txt", "size": 2, "blobId": "0" * 40} for i in range(210_000)]
        handler.say(status, headers, json.dumps(data).encode())
        return True

    with proxy(server, adds_files) as url, pytest.raises(ModelFault, match=r"holds 2100\d\d files; a model has a few"):
        fetch(url, tmp_path, constraints(), model, token=None, timeout_s=10)
