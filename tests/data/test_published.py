"""Published records are read back as records: from the hub, from wandb, from wandb's own files."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import FaultyHub
from simulated import COMPETITION, simulate
from wandb_server import API_KEY, ServedRun, WandbServer

from sn37 import open_records
from sn37.analysis import frames
from sn37.data import WandbRuns, logs, published
from sn37.errors import ConfigError, DataFault, EvaluatorFault
from sn37.hub import Hub
from sn37.records import Epoch, Records
from sn37.records.archive import pack
from sn37.sources.base import DataRow, Run

Connect = Callable[..., Hub]
HERE = {"type": "validator", "hotkey": "5Vali"}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return simulate(tmp_path_factory.mktemp("records"), epochs=4, models=4)


def same(records: Records, other: Any, **only: Any) -> bool:
    """Whether two records have equal frames; those of the epochs read."""
    return all(getattr(frames, kind)(records, **only).equals(getattr(frames, kind)(other)) for kind in frames.COLUMNS)


def publish(hub: Hub, records: Records, repo: str = "vali/records") -> None:
    for epoch in records.sealed(COMPETITION.id):
        hub.publish_file(repo, f"4/{epoch.sync_block}.json.gz", pack(epoch), repo_type="dataset")


def steps(records: Records) -> list[dict[str, Any]]:
    """What a validator logs of each epoch, as far as it is read back."""
    return [
        {
            "_step": place,
            "_timestamp": epoch.manifest.as_of.timestamp(),
            "step_competition_id": 4,
            "block": epoch.sync_block,
            "record": base64.b64encode(pack(epoch)).decode(),
        }
        for place, epoch in enumerate(records.sealed(COMPETITION.id))
    ]


def served(run: str, rows: list[dict[str, Any]], config: dict[str, Any] | None = None, hours: float = 1) -> ServedRun:
    now = datetime.now(UTC)
    return ServedRun("ann/validators", run, HERE if config is None else config, rows, now - timedelta(hours=hours), now)


def test_a_folder_is_opened_where_it_lies(records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(records.root.parent)
    monkeypatch.setenv("PWD", str(records.root.parent))
    for source in (records, records.root, str(records.root), records.root.name):
        assert open_records(source, cache=tmp_path) == records
    assert open_records({"a": records, "b": records.root}) == {"a": records, "b": records}
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_read_once_and_what_is_new_is_read_later(
    records: Records, connect: Connect, server: FaultyHub, tmp_path: Path
) -> None:
    first, *_ = records.sealed(COMPETITION.id)
    hub = connect("vali")
    hub.publish_file("vali/records", f"4/{first.sync_block}.json.gz", pack(first), repo_type="dataset")
    hub.publish_file("vali/records", "README.md", b"about", repo_type="dataset")
    anybody = connect()
    there = open_records("hf://vali/records", hub=anybody, cache=tmp_path)
    assert isinstance(there, Records)
    assert len(there.sealed(4)) == 1
    publish(hub, records)
    assert same(records, open_records("hf://vali/records", hub=anybody, cache=tmp_path))
    before = server.stats.paths[:]
    open_records("hf://vali/records", hub=anybody, cache=tmp_path)
    assert not [path for path in server.stats.paths[len(before) :] if "/resolve/" in path]
    newest = open_records("hf://vali/records", last=2, hub=anybody, cache=tmp_path / "other")
    assert [e.sync_block for e in newest.sealed(4)] == [e.sync_block for e in records.sealed(4)[-2:]]  # type: ignore[union-attr]


def test_a_dataset_at_a_commit_is_that_one(records: Records, connect: Connect, tmp_path: Path) -> None:
    hub = connect("vali")
    first, second, *_ = records.sealed(COMPETITION.id)
    commit = hub.publish_file("vali/records", f"4/{first.sync_block}.json.gz", pack(first), repo_type="dataset")
    hub.publish_file("vali/records", f"4/{second.sync_block}.json.gz", pack(second), repo_type="dataset")
    there = open_records(f"hf://vali/records@{commit}", hub=hub, cache=tmp_path)
    assert [epoch.sync_block for epoch in there.sealed(4)] == [first.sync_block]  # type: ignore[union-attr]


def test_what_a_dataset_makes_up_is_left_out_until_it_is_made_good(
    records: Records, connect: Connect, tmp_path: Path
) -> None:
    hub, first = connect("vali"), records.sealed(4)[0]
    publish(hub, records)
    wrong = {
        "1": gzip.compress(b" " * (129 << 20)),
        "2": b"\x80\x04cposix\nsystem\n",
        "3": pack(first),
        f"{first.sync_block}": gzip.compress(json.dumps({"format": 9}).encode()),
    }
    for block, data in wrong.items():
        hub.publish_file("vali/records", f"4/{block}.json.gz", data, repo_type="dataset")
    told = "left out 4 of what vali/records holds, the first one: vali/records, block 1 is no document"
    with pytest.warns(UserWarning, match=told):
        there = open_records("hf://vali/records", hub=hub, cache=tmp_path)
    assert isinstance(there, Records)
    assert there.sealed(4) == [Epoch(there.root / "4" / e.folder.name) for e in records.sealed(4)[1:]]
    publish(hub, records)
    with pytest.warns(UserWarning, match="left out 3"):
        assert same(records, open_records("hf://vali/records", hub=hub, cache=tmp_path))


def test_a_place_cannot_fill_the_disk(
    records: Records, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub := connect("vali"), records)
    monkeypatch.setattr(published, "_MAX_READ_BYTES", 1)
    with pytest.warns(UserWarning, match="left out 3 .* comes after 1 bytes: ask for fewer epochs"):
        there = open_records("hf://vali/records", hub=hub, cache=tmp_path)
    assert isinstance(there, Records)
    assert len(there.sealed(4)) == 1


def test_a_dataset_without_a_sound_record_is_one_sentence(connect: Connect, tmp_path: Path) -> None:
    hub = connect("vali")
    with pytest.raises(DataFault, match="vali/records is not there, or not public"):
        open_records("hf://vali/records", hub=hub, cache=tmp_path)
    hub.publish_file("vali/records", "README.md", b"about", repo_type="dataset")
    with pytest.raises(ConfigError, match=r"vali/records holds no records; expected files such as 4/5200211\.json\.gz"):
        open_records("hf://vali/records", hub=hub, cache=tmp_path)
    hub.publish_file("vali/records", "4/360.json.gz", b"", repo_type="dataset")
    told = "left out 1 of what vali/records holds, the first one: vali/records, block 360 is no document"
    with pytest.raises(DataFault, match=told), pytest.warns(UserWarning, match=told):
        open_records("hf://vali/records", hub=hub, cache=tmp_path)


def test_runs_on_a_server_are_read_one_by_one_or_by_validator(records: Records, tmp_path: Path) -> None:
    rows = steps(records)
    other = {"type": "validator", "hotkey": "5Other"}
    runs = [
        *(served("first", rows[:2], hours=3), served("second", rows[2:], hours=1)),
        *(served("theirs", rows[1:3], other), served("training", rows, {"type": "train"})),
        *(served("odd", rows, {"type": "validator", "hotkey": "../5"}), served("old", [{"_step": 0, "block": 7}])),
        served("junk", [{**rows[0], "record": "no record"}], {"type": "validator", "hotkey": "5Junk"}),
        # No place of an epoch: a name too long for a disk, no block.
        served("far", [{**rows[0], "block": block} for block in (10**300, -4)]),
    ]
    with WandbServer(runs) as server:
        reader = WandbRuns(server.base_url, API_KEY)
        with pytest.warns(UserWarning, match="left out 1 of what run junk holds"):
            everybody = open_records("wandb://ann/validators", runs=reader, cache=tmp_path)
        assert isinstance(everybody, dict)
        assert sorted(everybody) == ["5Other", "5Vali"]
        assert same(records, everybody["5Vali"])
        assert len(everybody["5Other"].sealed(4)) == 2
        one = open_records("wandb://ann/validators/second", runs=reader, cache=tmp_path)
        assert same(records, one, last=2) is False  # averages know the epochs read, no others
        assert frames.samples(one).equals(frames.samples(records, last=2))  # type: ignore[arg-type]
        with pytest.raises(
            ConfigError, match="wandb://ann/validators/training holds no run of a validator with its records"
        ):
            open_records("wandb://ann/validators/training", runs=reader, cache=tmp_path)
        with pytest.raises(DataFault, match="gone"):
            open_records("wandb://ann/validators/gone", runs=reader, cache=tmp_path)


@pytest.mark.parametrize(
    "source", ["ftp://a/b", "hf://a", "hf://a/b/c", "hf://a/b@main", "wandb://a", "wandb://a/b/c/d"]
)
def test_an_address_of_another_kind_names_those_there_are(source: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{source} names no records; expected a folder, a .wandb file, hf://user/"):
        open_records(source, cache=tmp_path)


@pytest.mark.parametrize("data", [b"", b":W&B\x24\xbe\x01", b":W&B\x24\xbe\x01" + b"\xff" * 200, b"x" * 100_000])
def test_a_file_that_is_no_log_is_one_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "run-1.wandb").write_bytes(data)
    for path in (tmp_path, tmp_path / "run-1.wandb"):
        with pytest.raises(ConfigError, match=r"run-1\.wandb is no wandb run; expected what wandb writes offline"):
            open_records(path, cache=tmp_path / "cache")
    with pytest.raises(ConfigError, match=r"gone\.wandb is no wandb run; expected a \.wandb file"):
        open_records(tmp_path / "gone.wandb", cache=tmp_path / "cache")


def test_of_several_logs_one_that_is_none_is_left_out(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"run-{name}.wandb").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match=r"left out .*run-(one|two)\.wandb is no wandb run") as warned,
        pytest.raises(ConfigError, match="holds no run of a validator"),
    ):
        open_records(tmp_path, cache=tmp_path / "cache")
    assert len(warned) == 2


def test_a_run_whose_steps_cannot_be_had_keeps_no_other_from_being_read(records: Records, tmp_path: Path) -> None:
    class Broken:
        def __iter__(self) -> Iterator[DataRow]:
            raise EvaluatorFault("its worker died")

    runs = [Run("broken", HERE, Broken()), Run("sound", HERE, steps(records))]
    with pytest.warns(UserWarning, match="left out 1 of what run broken holds, the first one: its worker died"):
        read = published._of_runs(runs, "here", tmp_path, last=10)
    assert same(records, read)


def test_a_validators_folder_stands_for_its_records(records: Records, tmp_path: Path) -> None:
    (tmp_path / "records").symlink_to(records.root)
    assert same(records, open_records(tmp_path))


def test_a_field_without_a_name_is_left_out_of_a_step() -> None:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    record = Record()
    for key, nested in (("block", []), ("", ["loss"]), ("", []), ("", ["a", "b"])):
        record.history.item.add(key=key, nested_key=nested, value_json="7")
    assert logs._row(record) == {"block": 7, "loss": 7}
