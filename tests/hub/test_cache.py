"""Fetched models on disk: found again, kept while in use, evicted in order, never trusted when changed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import FaultyHub

from sn37.competition import Constraints
from sn37.errors import EvaluatorFault, disk_faults
from sn37.hub import FetchedModel, Hub
from sn37.hub.cache import Cache
from sn37.submission import ModelId, content_hash

Connect = Callable[..., Hub]
Upload = Callable[..., ModelId]
Allowing = Callable[..., Constraints]


@pytest.fixture
def fetch(connect: Connect, constraints: Allowing, hotkey: str) -> Callable[..., FetchedModel]:
    def fetch(model: ModelId, **options: Any) -> FetchedModel:
        return connect(**options).fetch_model(model, hotkey, constraints())

    return fetch


@pytest.fixture
def filled(upload: Upload, safetensors: Callable[..., bytes]) -> Callable[[int], ModelId]:
    """A model of about 100 kB, other for each number."""

    def filled(number: int) -> ModelId:
        return upload({"model.safetensors": safetensors({"a": (50_000,)}, fill=number)}, f"miner/model{number}")

    return filled


def body_bytes(server: FaultyHub) -> int:
    return server.stats.bytes_by_route["GET resolve"]


def test_a_model_is_downloaded_once(fetch: Callable[..., FetchedModel], upload: Upload, server: FaultyHub) -> None:
    model = upload()
    first = fetch(model)
    server.stats.reset()
    assert fetch(model) == first
    assert body_bytes(server) == 0
    assert server.stats.requests == 1, "whether the repo is still there, and what it holds, is asked each time"


def test_equal_content_under_another_name_is_not_downloaded_again(
    fetch: Callable[..., FetchedModel], upload: Upload, safetensors: Callable[..., bytes], server: FaultyHub
) -> None:
    weights = {"model.safetensors": safetensors({"a": (300_000,)})}
    first = fetch(upload(weights, "miner/one"))
    copy = upload(weights, "other/two")
    server.stats.reset()
    assert fetch(copy).folder == first.folder
    assert body_bytes(server) < 100_000


def test_the_least_recently_used_goes_first(
    fetch: Callable[..., FetchedModel], filled: Callable[[int], ModelId]
) -> None:
    models = [filled(number) for number in range(4)]
    folders = []
    for model in models[:3]:
        with fetch(model, max_cache_bytes=350_000) as fetched:
            folders.append(fetched.folder)
    fetch(models[0], max_cache_bytes=350_000).close()
    fetch(models[3], max_cache_bytes=350_000).close()
    assert [folder.exists() for folder in folders] == [True, False, True]


def test_names_of_what_was_evicted_do_not_pile_up(
    fetch: Callable[..., FetchedModel], filled: Callable[[int], ModelId]
) -> None:
    for number in range(6):
        with fetch(filled(number), max_cache_bytes=250_000) as fetched:
            cache = fetched.folder.parents[2]
    assert len(list((cache / "names").iterdir())) <= 3 < 6


def test_what_is_in_use_is_never_evicted(fetch: Callable[..., FetchedModel], filled: Callable[[int], ModelId]) -> None:
    held = [fetch(filled(0), max_cache_bytes=250_000), fetch(filled(1), max_cache_bytes=250_000)]
    third = filled(2)
    with pytest.raises(EvaluatorFault, match=r"no room for .* are in use; the limit is 250000, enlarge it"):
        fetch(third, max_cache_bytes=250_000)
    held[0].close()
    fetch(third, max_cache_bytes=250_000)
    assert not held[0].folder.exists()
    assert held[1].folder.exists()


def test_a_model_nobody_holds_any_more_may_go(
    fetch: Callable[..., FetchedModel], filled: Callable[[int], ModelId]
) -> None:
    folder = fetch(filled(0), max_cache_bytes=150_000).folder
    fetch(filled(1), max_cache_bytes=150_000)
    assert not folder.exists()


def test_a_model_larger_than_the_cache_is_the_evaluators_fault(
    fetch: Callable[..., FetchedModel], filled: Callable[[int], ModelId]
) -> None:
    with pytest.raises(EvaluatorFault, match="cannot fit into a cache of 50000; enlarge it"):
        fetch(filled(0), max_cache_bytes=50_000)


@pytest.mark.parametrize("change", ["content", "same size and time", "file added", "file gone", "link", "manifest"])
def test_a_changed_entry_is_fetched_again(
    fetch: Callable[..., FetchedModel], upload: Upload, tmp_path: Path, change: str
) -> None:
    model = upload()
    with fetch(model) as fetched:
        folder = fetched.folder
    path = folder / "config.json"
    before = path.stat()
    folder.chmod(0o755)
    path.chmod(0o644)
    if change == "content":
        path.write_text("{}")
    elif change == "same size and time":
        path.write_text(path.read_text().replace("llama", "LLAMA"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "file added":
        (folder / "evil.py").write_text("")
    elif change == "file gone":
        path.unlink()
    elif change == "link":
        path.unlink()
        (tmp_path / "elsewhere").write_text("{}")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        (folder.parent / "manifest.json").write_text("{")
    again = fetch(model)
    assert content_hash(again.folder) == again.content_hash
    assert sorted(p.name for p in again.folder.iterdir()) == sorted(again.files)


def test_an_entry_that_was_only_touched_is_hashed_and_kept(
    fetch: Callable[..., FetchedModel], upload: Upload, server: FaultyHub
) -> None:
    model = upload()
    with fetch(model) as fetched:
        os.utime(fetched.folder / "config.json")
    server.stats.reset()
    fetch(model)
    assert body_bytes(server) == 0


def test_an_entry_changed_while_in_use_is_not_replaced_under_its_user(
    fetch: Callable[..., FetchedModel], upload: Upload
) -> None:
    model = upload()
    held = fetch(model)
    (held.folder / "extra").write_text("x")
    with pytest.raises(EvaluatorFault, match="was changed while it is in use"):
        fetch(model)


def test_a_kill_in_the_middle_of_a_download_leaves_nothing_half_there(
    connect: Connect, fetch: Callable[..., FetchedModel], upload: Upload, server: FaultyHub, hotkey: str, tmp_path: Path
) -> None:
    from faulty_hub import Fault

    model = upload()
    server.faults.add(Fault("safetensors", delay_s=60, skip=1))
    code = f"""
        from pathlib import Path
        from sn37.competition import Constraints
        from sn37.hub import Hub
        from sn37.submission import ModelId
        allowed = Constraints(("LlamaForCausalLM",), 10**6, 10**7, 64, None, 0)
        hub = Hub({server.endpoint!r}, cache=Path({str(tmp_path / "cache")!r}), timeout_s=100)
        hub.fetch_model(ModelId.from_text({model.to_text()!r}), {hotkey!r}, allowed)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    while server.faults.left and process.poll() is None:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    incoming = tmp_path / "cache" / "incoming"
    assert len(list(incoming.iterdir())) == 1
    assert fetch(model).files
    assert list(incoming.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EvaluatorFault, match="No space left on device; free some space"), disk_faults(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    cache = Cache(tmp_path, 1 << 62)
    with pytest.raises(EvaluatorFault, match=r"is full: \d+ bytes are needed"), cache.incoming(1 << 61):
        pass
