"""Publishing: private first, only the protocol's files, safe to do again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import Fault, FaultyHub

from sn37.competition import Constraints
from sn37.errors import ConfigError, DataFault, HubFault, ModelFault
from sn37.hub import Hub
from sn37.submission import ModelId, content_hash, secure_hash

Connect = Callable[..., Hub]
WriteModel = Callable[..., Path]


def test_publish_then_make_public_is_what_everybody_fetches(
    connect: Connect, write_model: WriteModel, tmp_path: Path, constraints: Callable[..., Constraints], hotkey: str
) -> None:
    folder = write_model(
        tmp_path / "model", {"training_args.bin": b"x", "notes.md": b"y", "checkpoint/config.json": b"{}"}
    )
    miner, anybody = connect("miner"), connect()
    commit = miner.publish(folder, "miner/model")
    with pytest.raises(ModelFault, match="not public"):
        anybody.model_size("miner/model", commit)
    sizes = miner.model_size("miner/model", commit, private_too=True)
    assert sizes == {p.name: p.stat().st_size for p in folder.iterdir() if p.name in sizes}
    assert set(sizes) == {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }
    miner.make_public("miner/model")
    model = ModelId("miner", "model", commit, "A" * 43 + "=", 1)
    for path in ("training_args.bin", "notes.md", "checkpoint/config.json"):
        (folder / path).unlink()
    model = replace(model, hash=secure_hash(content_hash(folder), hotkey))
    assert anybody.fetch_model(model, hotkey, constraints()).content_hash == content_hash(folder)


def test_doing_it_again_changes_nothing(
    connect: Connect, write_model: WriteModel, tmp_path: Path, server: FaultyHub
) -> None:
    folder, miner = write_model(tmp_path / "model"), connect("miner")
    commit = miner.publish(folder, "miner/model")
    received = server.stats.bytes_received
    assert miner.publish(folder, "miner/model") == commit
    miner.make_public("miner/model")
    miner.make_public("miner/model")
    assert miner.publish(folder, "miner/model") == commit
    assert server.stats.bytes_received - received < 2000


def test_a_new_model_replaces_every_file_of_the_old_one(
    connect: Connect,
    write_model: WriteModel,
    tmp_path: Path,
    safetensors: Callable[..., bytes],
    api: Callable[[str], Any],
) -> None:
    miner = connect("miner")
    miner.publish(write_model(tmp_path / "old", {"vocab.json": {}, "merges.txt": b"a b"}), "miner/model")
    client = api("miner")
    client.upload_file(path_or_fileobj=b"x", path_in_repo="old/pytorch_model.bin", repo_id="miner/model")
    client.upload_file(path_or_fileobj=b"x", path_in_repo="README.md", repo_id="miner/model")
    new = write_model(tmp_path / "new", {"model.safetensors": safetensors({"a": (3, 3)})})
    commit = miner.publish(new, "miner/model")
    assert set(miner.model_size("miner/model", commit, private_too=True)) == {p.name for p in new.iterdir()}
    files = client.list_repo_files("miner/model", revision=commit)
    assert "README.md" in files
    assert "old/pytorch_model.bin" not in files


def test_nothing_goes_to_a_public_repo_before_its_commitment(
    connect: Connect, write_model: WriteModel, tmp_path: Path, safetensors: Callable[..., bytes]
) -> None:
    miner = connect("miner")
    miner.publish(write_model(tmp_path / "old"), "miner/model")
    miner.make_public("miner/model")
    new = write_model(tmp_path / "new", {"model.safetensors": safetensors({"a": (3, 3)})})
    with pytest.raises(ConfigError, match="is public already"):
        miner.publish(new, "miner/model")
    assert miner.publish(new, "miner/model", private=False)


@pytest.mark.parametrize(
    ("user", "repo", "reason"),
    [
        (None, "miner/model", "needs a token"),
        ("other", "miner/model", "does not let this token create it: miner/model"),
        ("miner", "miner/a b", "is no name of a repo"),
    ],
)
def test_who_may_not_publish_is_told_so(
    connect: Connect, write_model: WriteModel, tmp_path: Path, user: str | None, repo: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        connect(user).publish(write_model(tmp_path / "model"), repo)


def test_a_folder_without_a_model_is_not_published(connect: Connect, tmp_path: Path, server: FaultyHub) -> None:
    with pytest.raises(ConfigError, match=r"holds no model: expected config\.json"):
        connect("miner").publish(tmp_path, "miner/model")
    assert server.stats.requests == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST.*create", status=503, times=2),
        Fault("POST.*commit", status=500, times=2),
        Fault("POST.*batch", status=429, retry_after_s=0, times=2),
        Fault("POST.*commit", cut_after=0, times=1),
        Fault("GET.*model$", cut_after=1, times=2),
    ],
    ids=lambda fault: f"{fault.where} {fault.status}",
)
def test_trouble_that_passes_changes_nothing(
    connect: Connect, write_model: WriteModel, tmp_path: Path, server: FaultyHub, fault: Fault
) -> None:
    folder = write_model(tmp_path / "model")
    server.faults.add(replace(fault))
    commit = connect("miner").publish(folder, "miner/model")
    assert server.faults.left == 0
    history = list(server.storage.history(next(server.storage.repos()), "main"))
    assert [c.hash for c in history[:1]] == [commit]
    assert len(history) == 2, "the first, empty commit and one with the model, however often it was tried"


def test_an_answer_lost_on_the_way_is_no_second_commit_also_where_files_went(
    connect: Connect, write_model: WriteModel, tmp_path: Path, server: FaultyHub
) -> None:
    miner = connect("miner")
    miner.publish(write_model(tmp_path / "old", {"vocab.json": {}}), "miner/model")
    server.faults.add(Fault("POST.*commit", cut_after=0))
    commit = miner.publish(write_model(tmp_path / "new"), "miner/model")
    assert server.faults.left == 0
    assert "vocab.json" not in miner.model_size("miner/model", commit, private_too=True)
    assert len(list(server.storage.history(next(server.storage.repos()), "main"))) == 3


def test_a_hub_that_stays_ill_is_a_hub_fault(
    connect: Connect, write_model: WriteModel, tmp_path: Path, server: FaultyHub
) -> None:
    server.faults.add(Fault("create", status=500, times=99))
    with pytest.raises(HubFault, match=r"failed 3 times on miner/model \(create it\)"):
        connect("miner", attempts=3).publish(write_model(tmp_path / "model"), "miner/model")
    assert server.faults.left == 96


def test_a_file_is_read_back_at_its_commit(connect: Connect) -> None:
    author = connect("author")
    first = author.publish_file("author/rules", "competition.toml", b"id = 1")
    second = author.publish_file("author/rules", "competition.toml", b"id = 2")
    assert first != second
    assert author.publish_file("author/rules", "competition.toml", b"id = 2") == second
    reader = connect()
    assert reader.read_file("author/rules", first, "competition.toml", 100) == b"id = 1"
    assert reader.read_file("author/rules", second, "competition.toml", 100) == b"id = 2"
    with pytest.raises(ConfigError, match="is longer than 5 bytes"):
        reader.read_file("author/rules", second, "competition.toml", 5)
    with pytest.raises(ConfigError, match="is not there"):
        reader.read_file("author/rules", second, "other.toml", 5)
    with pytest.raises(ConfigError, match="is not there"):
        reader.read_file("author/nothing", second, "competition.toml", 5)
    with pytest.raises(ConfigError, match="expected a full commit"):
        reader.read_file("author/rules", "main", "competition.toml", 5)


def test_history_is_read_as_of_a_moment(connect: Connect, time: Any) -> None:
    author, made = connect("author"), []
    for number in range(3):
        time.advance(hours=1)
        made.append((author.publish_file("author/set", "a", b"%d" % number, repo_type="dataset"), time.now))
    hub = connect()
    for commit, when in made:
        assert hub.newest_commit("author/set", "dataset", when) == commit
    assert hub.newest_commit("author/set", "dataset", None) == made[-1][0]
    with pytest.raises(DataFault, match="no commit at or before 2024"):
        hub.newest_commit("author/set", "dataset", time.now.replace(year=2024))
    with pytest.raises(DataFault, match="is not there"):
        hub.newest_commit("author/other", "dataset", time.now)
    with pytest.raises(ValueError, match="time zone"):
        hub.newest_commit("author/set", "dataset", datetime(2025, 1, 1))


def test_a_long_history_is_read_no_further_than_needed(connect: Connect, time: Any, server: FaultyHub) -> None:
    author = connect("author")
    author.publish_file("author/set", "a", b"", repo_type="dataset")
    repo = next(server.storage.repos())
    for number in range(120):
        time.advance(hours=1)
        server.storage.commit(repo, "main", "author", f"{number}", "", lambda files: None)
    server.stats.reset()
    assert connect().newest_commit("author/set", "dataset", time.now)
    assert server.stats.requests == 1
    assert connect().newest_commit("author/set", "dataset", time.now.replace(year=2025, month=1, day=1, hour=12))
    assert server.stats.requests == 1 + 3


def test_a_tokenizer_is_pinned_in_time_and_kept(
    connect: Connect, write_model: WriteModel, tmp_path: Path, time: Any, server: FaultyHub
) -> None:
    author = connect("author")
    first = author.publish(write_model(tmp_path / "one"), "author/tok", private=False)
    then = time.now
    time.advance(hours=1)
    second = author.publish(
        write_model(tmp_path / "two", {"tokenizer.json": {"version": "2"}}), "author/tok", private=False
    )
    hub = connect()
    folder, commit = hub.fetch_tokenizer("author/tok", then)
    assert commit == first
    assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "one" / "tokenizer.json").read_bytes()
    assert not list(folder.glob("*.safetensors"))
    assert hub.fetch_tokenizer("author/tok")[1] == second
    server.stats.reset()
    assert connect().fetch_tokenizer(f"author/tok@{first}", time.now) == (folder, first)
    assert server.stats.by_route["GET resolve"] == 0


@pytest.mark.parametrize(
    ("spec", "error", "reason"),
    [
        ("author/none", DataFault, "is not there, or not public"),
        ("author/tok@main", ConfigError, "expected a full commit"),
        ("author/tok@" + "0" * 40, DataFault, "is not there"),
        ("nonsense", DataFault, "is no name of a repo"),
        ("author/empty", DataFault, "holds no tokenizer"),
    ],
)
def test_a_tokenizer_that_cannot_be_had_is_no_models_fault(
    connect: Connect, write_model: WriteModel, tmp_path: Path, spec: str, error: type[Exception], reason: str
) -> None:
    author = connect("author")
    author.publish(write_model(tmp_path / "one"), "author/tok", private=False)
    author.publish_file("author/empty", "README.md", b"nothing")
    with pytest.raises(error, match=reason):
        connect().fetch_tokenizer(spec)
