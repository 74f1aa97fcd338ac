"""Rows of datasets pinned in time: the right ones, few bytes, nothing twice, whatever fails in between."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty_hub import Fault, FaultyHub

from sn37.data import PinnedDatasets
from sn37.data.cache import kept
from sn37.errors import DataFault, HubFault
from sn37.hub import Hub

Connect = Callable[..., Hub]
Push = Callable[..., str]


def numbered(start: int, count: int) -> pa.Table:
    rows = range(start, start + count)
    messages = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}] for i in rows]
    return pa.table({"id": list(rows), "text": [f"text {i}" for i in rows], "messages": messages})


def test_rows_come_in_the_order_asked_for_across_files(pinned: Callable[..., PinnedDatasets], push: Push) -> None:
    push({"data/train-00000-of-00002.parquet": numbered(0, 50), "data/train-00001-of-00002.parquet": numbered(50, 70)})
    data = pinned()
    assert data.configs("data/set") == ["default"]
    assert data.num_rows("data/set", "default", "train") == 120
    rows = data.rows("data/set", "default", "train", [119, 0, 49, 50, 0], ["text", "id", "messages"])
    assert [row["id"] for row in rows] == [119, 0, 49, 50, 0]
    assert rows[0] == numbered(119, 1).select(["text", "id", "messages"]).to_pylist()[0]


def test_a_revision_pushed_later_changes_nothing(pinned: Callable[..., PinnedDatasets], push: Push, time: Any) -> None:
    first = push({"data/train-00000-of-00001.parquet": numbered(0, 10)})
    then = time.now
    time.advance(hours=1)
    second = push({"data/train-00000-of-00001.parquet": numbered(100, 99)})
    old, new = pinned(then), pinned()
    assert old.num_rows("data/set", "default", "train") == 10
    assert old.rows("data/set", "default", "train", [3], ["id"]) == [{"id": 3}]
    assert new.rows("data/set", "default", "train", [98], ["id"]) == [{"id": 198}]
    assert (old.revisions, new.revisions) == ({"data/set": first}, {"data/set": second})
    replay = PinnedDatasets(new._hub, time.now, old._folder, revisions=old.revisions)
    assert replay.num_rows("data/set", "default", "train") == 10


def test_a_second_reader_fetches_nothing(pinned: Callable[..., PinnedDatasets], push: Push, server: FaultyHub) -> None:
    push({"data/train-00000-of-00001.parquet": numbered(0, 1000)}, row_group_size=100)

    def read(data: PinnedDatasets) -> Any:
        indices = random.Random(1).sample(range(data.num_rows("data/set", "default", "train")), 20)
        return data.configs("data/set"), data.rows("data/set", "default", "train", indices, ["text", "messages"])

    first = read(pinned())
    server.stats.reset()
    assert read(pinned()) == first
    assert server.stats.requests == 0
    assert read(pinned(folder="others")) == first
    assert server.stats.requests > 0


def test_what_is_kept_and_damaged_is_fetched_again(
    pinned: Callable[..., PinnedDatasets], push: Push, tmp_path: Path, server: FaultyHub
) -> None:
    push({"data/train-00000-of-00001.parquet": numbered(0, 1000)})
    first = pinned().rows("data/set", "default", "train", [5, 700], ["text"])
    kept = [path for path in (tmp_path / "pages").rglob("*") if path.is_file()]
    assert kept
    for number, path in enumerate(kept):
        path.write_bytes(path.read_bytes()[:-1] if number % 2 else b"x" + path.read_bytes()[1:])
    assert pinned().rows("data/set", "default", "train", [5, 700], ["text"]) == first


def test_what_another_version_has_kept_is_fetched_again(
    pinned: Callable[..., PinnedDatasets], push: Push, tmp_path: Path
) -> None:
    push({"data/train-00000-of-00001.parquet": numbered(0, 1000)})
    first = pinned().rows("data/set", "default", "train", [5, 700], ["text"])
    for name in ("files", "splits", "counts/*"):
        for path in (tmp_path / "pages").glob(f"data--set/*/{name}"):
            path.unlink()
            kept(path, lambda: b'{"of another": ["form"]}')
    assert pinned().rows("data/set", "default", "train", [5, 700], ["text"]) == first


TROUBLE = {
    "429": Fault("GET", status=429, retry_after_s=0, times=3),
    "500": Fault("resolve", status=500, times=3),
    "cut": Fault("resolve.*parquet", cut_after=30, times=3),
    "cut listing": Fault("api.*revision", cut_after=30, times=3),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_in_between_changes_no_row(
    pinned: Callable[..., PinnedDatasets], push: Push, server: FaultyHub, name: str
) -> None:
    push({"data/train-00000-of-00001.parquet": numbered(0, 500)}, row_group_size=50)
    indices = [499, 3, 77, 250]
    calm = pinned(folder="calm").rows("data/set", "default", "train", indices, ["text", "messages"])
    fault = TROUBLE[name]
    server.faults.add(Fault(fault.where, fault.status, fault.retry_after_s, cut_after=fault.cut_after, times=3))
    assert pinned(folder="ill").rows("data/set", "default", "train", indices, ["text", "messages"]) == calm
    assert server.faults.left == 0


def test_a_hub_that_keeps_failing_is_a_hub_fault(
    pinned: Callable[..., PinnedDatasets], push: Push, server: FaultyHub
) -> None:
    push({"data/train-00000-of-00001.parquet": numbered(0, 500)}, row_group_size=50)
    for fault in (Fault("resolve", status=500, times=10_000), Fault("resolve", cut_after=30, times=10_000)):
        server.faults.add(fault)
        with pytest.raises(HubFault, match=r"data/set.*failed 2 times"):
            pinned(attempts=2).rows("data/set", "default", "train", [3], ["text"])
        server.faults.clear()


@pytest.mark.parametrize("options", [{}, {"write_page_index": True}], ids=["no page index", "page index"])
def test_of_a_row_group_no_more_is_fetched_than_what_comes_before_the_last_row(
    pinned: Callable[..., PinnedDatasets], push: Push, server: FaultyHub, options: dict[str, Any]
) -> None:
    # 16 MB of text that does not compress, in one row group: what is hardest to read a little of
    draw = random.Random(7)
    texts = [draw.randbytes(1024).hex() for _ in range(16_000)]
    table = pa.table({"text": texts, "other": texts[::-1]})
    push({"data/train-00000-of-00001.parquet": table}, use_dictionary=False, data_page_size=100_000, **options)
    size = server.stats.bytes_received
    server.stats.reset()
    rows = pinned().rows("data/set", "default", "train", range(9000, 9100), ["text"])
    assert [row["text"] for row in rows] == texts[9000:9100]
    # of one column, half of the file, only what comes before the last row wanted, and one buffer more
    assert server.stats.bytes_sent < 9100 / 16_000 * size / 2 + (5 << 20)


def test_only_footers_are_read_to_count_rows(
    pinned: Callable[..., PinnedDatasets], push: Push, server: FaultyHub, tmp_path: Path
) -> None:
    files = {f"data/train-{i:05}-of-00004.parquet": numbered(i * 3000, 3000) for i in range(4)}
    push(files, row_group_size=10)
    server.stats.reset()
    assert pinned().num_rows("data/set", "default", "train") == 12_000
    footers = 4 * pq.read_metadata(tmp_path / "pushed").serialized_size
    assert server.stats.bytes_by_route["GET resolve"] < footers + 4 * 70_000
    assert server.stats.by_route["GET resolve"] == 8


def test_push_to_hub_is_read_as_load_dataset_reads_it(
    pinned: Callable[..., PinnedDatasets], server: FaultyHub, tmp_path: Path
) -> None:
    # in a process of its own, for these clients take the hub's address when they are imported
    code = """
import json, datasets
one = lambda i: {"q": f"q{i}", "tags": [str(i)] * (i % 3), "m": [{"role": "user", "content": str(i)}], "x": {"a": i}}
rows = [one(i) for i in range(300)]
for config, split in (("a", "train"), ("a", "test"), ("b", "train")):
    datasets.Dataset.from_list(rows).push_to_hub("data/set", config, split=split, num_shards=2)
print(json.dumps(datasets.load_dataset("data/set", "a", split="test").to_list()))
"""
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.endpoint,
        "HF_TOKEN": server.token_of("data"),
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    data = pinned()
    assert data.configs("data/set") == ["a", "b"]
    assert data.num_rows("data/set", "a", "test") == 300
    assert data.rows("data/set", "a", "test", range(300), ["q", "tags", "m", "x"]) == loaded


FAULTY: dict[str, tuple[tuple[str, str, str, list[int], list[str]], str]] = {
    "no repo": (("data/none", "default", "train", [0], ["id"]), "the dataset repo data/none is not there"),
    "no name": (("../../etc", "default", "train", [0], ["id"]), "is no name of a repo"),
    "no config": (("data/set", "other", "train", [0], ["id"]), "has no config 'other'; it has default"),
    "no split": (("data/set", "default", "test", [0], ["id"]), r"\(config default\) has no split 'test'; it has train"),
    "no column": (("data/set", "default", "train", [0], ["body"]), "has no column 'body'; it has id, text, messages"),
    "no such row": (("data/set", "default", "train", [0, 10], ["id"]), "has 10 rows; row 10 is asked for"),
    "row before the first": (("data/set", "default", "train", [-1], ["id"]), "has 10 rows; row -1"),
    "no parquet": (("data/text", "default", "train", [0], ["id"]), "its files are not parquet; only those are read"),
    "private": (("data/secret", "default", "train", [0], ["id"]), "is not there, or not public"),
    "no parquet inside": (
        ("data/broken", "default", "train", [0], ["id"]),
        r"data/train-00000-of-00001.parquet of the dataset data/broken \(default, train\) is no sound parquet file",
    ),
    "bad readme": (
        ("data/readme", "default", "train", [0], ["id"]),
        "the dataset data/readme: .* cannot tell its splits .*: while parsing",
    ),
    "nothing matched": (("data/empty", "default", "train", [0], ["id"]), "No .* data files found"),
}


@pytest.mark.parametrize(("asked", "reason"), FAULTY.values(), ids=FAULTY)
def test_what_cannot_be_read_is_a_data_fault_that_names_what_there_is(
    pinned: Callable[..., PinnedDatasets], push: Push, asked: Sequence[Any], reason: str
) -> None:
    name = "data/train-00000-of-00001.parquet"
    push({name: numbered(0, 10)})
    push({"data.jsonl": "{}"}, "data/text")
    push({name: numbered(0, 10)}, "data/secret", private=True)
    push({name: b"PAR1" + b"x" * 100}, "data/broken")
    push({name: numbered(0, 10), "README.md": "---\na: [\n---\n"}, "data/readme")
    push(
        {name: numbered(0, 10), "README.md": "---\nconfigs:\n- config_name: default\n  data_files: x/*\n---\n"},
        "data/empty",
    )
    with pytest.raises(DataFault, match=reason):
        pinned().rows(*asked)


def test_a_private_dataset_is_refused_also_to_its_owner(
    connect: Connect, push: Push, tmp_path: Path, time: Any
) -> None:
    push({"data/train-00000-of-00001.parquet": numbered(0, 10)}, private=True)
    with pytest.raises(DataFault, match="not public"):
        PinnedDatasets(connect("data"), time.now, tmp_path / "pages").configs("data/set")


def test_a_damaged_file_is_a_data_fault_and_never_more(
    pinned: Callable[..., PinnedDatasets], push: Push, tmp_path: Path
) -> None:
    pq.write_table(numbered(0, 200), tmp_path / "whole", write_page_index=True)
    whole = (tmp_path / "whole").read_bytes()
    draw = random.Random(3)
    name, outcomes = "data/train-00000-of-00001.parquet", set()
    for number in range(25):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[draw.randrange(len(whole) - 1200, len(whole) - 8)] = draw.randrange(256)
        push({name: bytes(damaged)}, f"data/damaged{number}")
        try:
            rows = pinned().rows(f"data/damaged{number}", "default", "train", [0, 150], ["id", "messages"])
            outcomes.add("read" if len(rows) == 2 else "short")
        except DataFault:
            outcomes.add("fault")
    assert outcomes <= {"read", "fault"}
    assert "fault" in outcomes


def test_the_pages_on_disk_have_a_limit(connect: Connect, push: Push, tmp_path: Path, time: Any) -> None:
    push({"data/train-00000-of-00001.parquet": numbered(0, 5000)})
    folder = tmp_path / "pages"
    PinnedDatasets(connect(), time.now, folder).rows("data/set", "default", "train", [7], ["text"])
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) > 20_000
    PinnedDatasets(connect(), time.now, folder, max_cache_bytes=20_000)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 20_000


def test_a_hundred_rows_of_a_gigabyte_cost_less_than_a_tenth(
    pinned: Callable[..., PinnedDatasets], push: Push, server: FaultyHub
) -> None:
    push({"README.md": "# large\n"})
    # put into the hub's storage by hand: nothing is proved by sending a gigabyte to it
    aside, draw = server.storage.incoming(), random.Random(11)
    with pq.ParquetWriter(aside, pa.schema({"text": pa.string()}), compression="none", use_dictionary=False) as writer:
        for _ in range(8):
            block = draw.randbytes(1 << 20).hex()
            text = pa.array([block[i : i + 2048] for i in range(0, len(block), 2048)] * 64)
            writer.write_table(pa.table({"text": text}), row_group_size=len(text))
    size = aside.stat().st_size
    assert size > 1 << 30
    with aside.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    server.storage.add_blob(aside, digest)
    large = server.storage.lfs_file(digest)
    assert large is not None
    repo = next(server.storage.repos())
    server.storage.commit(repo, "main", "data", "large", "", lambda files: files.update({"data/large.parquet": large}))
    server.stats.reset()
    data = pinned()
    start = data.num_rows("data/set", "default", "train") * 2 // 3
    assert len(data.rows("data/set", "default", "train", range(start, start + 100), ["text"])) == 100
    assert server.stats.bytes_sent < 0.1 * size
    assert server.stats.requests < 200
    server.storage.blob(digest).unlink()
