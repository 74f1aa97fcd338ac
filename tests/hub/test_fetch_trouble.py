"""Fetching a model from a hub that is ill, slow, or lies: never the model's fault unless it is."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import Fault, FaultyHub

from sn37.competition import Constraints
from sn37.devnet.hub.storage import Repo
from sn37.errors import EvaluatorFault, HubFault, ModelFault
from sn37.hub import Hub
from sn37.submission import ModelId, content_hash, file_digest, secure_hash

Connect = Callable[..., Hub]
Upload = Callable[..., ModelId]
Allowing = Callable[..., Constraints]


def lie(server: FaultyHub, path: str, **claims: Any) -> None:
    """Make the hub list a file otherwise than it is."""
    for commit in (server.root / "repos").rglob("commits/*.json"):
        data = json.loads(commit.read_text())
        if path in data["files"]:
            data["files"][path] |= claims
            commit.write_text(json.dumps(data))
    server.storage.forget()


def test_a_file_longer_than_listed_is_cut_off_at_its_listed_size(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str
) -> None:
    model = upload({"tokenizer.json": b'"' + b"x" * 5_000_000 + b'"'})
    lie(server, "tokenizer.json", size=1000)
    with pytest.raises(ModelFault, match=r"tokenizer.json is longer than the 1000 bytes it is listed with"):
        connect().fetch_model(model, hotkey, constraints(max_bytes=100_000))


@pytest.mark.parametrize("claims", [{"sha256": "0" * 64}, {"size": 900}, {"oid": "0" * 40}], ids=str)
def test_a_hub_that_contradicts_itself_costs_no_miner_anything(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str, claims: dict[str, Any]
) -> None:
    path = "model.safetensors" if "sha256" in claims else "tokenizer.json"
    model = upload()
    stored = server.storage.blob("0" * 64)
    stored.parent.mkdir(parents=True)
    (found,) = [
        f
        for c in server.storage.history(Repo("models", "miner", "model"), "main")
        for n, f in c.files.items()
        if n == "model.safetensors"
    ]
    stored.write_bytes(server.storage.blob(found.sha256).read_bytes())
    if "sha256" in claims:
        # the miner's own hash is what the hub claims, so that only the bytes can tell
        digest = b64encode(bytes.fromhex("0" * 64)).decode()
        made = Path(server.root).parent / "made-0"
        known = {p: digest if p.name == path else file_digest(p) for p in made.iterdir()}
        model = replace(model, hash=secure_hash(content_hash(made, known), hotkey))
    lie(server, path, **claims)
    with pytest.raises(HubFault, match="with other content than it lists"):
        connect().fetch_model(model, hotkey, constraints())


def test_a_path_that_leaves_the_folder_is_refused(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str
) -> None:
    model = upload()
    for commit in (server.root / "repos").rglob(f"commits/{model.commit}.json"):
        data = json.loads(commit.read_text())
        data["files"]["../../evil/config.json"] = data["files"]["config.json"]
        commit.write_text(json.dumps(data))
    server.storage.forget()
    with pytest.raises(ModelFault, match="is no plain path"):
        connect().fetch_model(model, hotkey, constraints())


TROUBLE = {
    "429": Fault("GET", status=429, retry_after_s=0, times=3),
    "500": Fault("GET", status=500, times=3),
    "503 on a file": Fault("resolve", status=503, times=3),
    "cut in a file": Fault("resolve.*safetensors", cut_after=50, times=3),
    "cut in a listing": Fault("revision", cut_after=20, times=3),
    "slow": Fault("resolve", delay_s=0.2, times=3),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_that_passes_changes_nothing(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str, name: str
) -> None:
    model = upload()
    server.faults.add(replace(TROUBLE[name]))
    fetched = connect().fetch_model(model, hotkey, constraints())
    assert server.faults.left == 0
    assert secure_hash(content_hash(fetched.folder), hotkey) == model.hash


@pytest.mark.parametrize("name", [name for name in TROUBLE if name != "slow"])
def test_trouble_that_stays_is_never_the_models_fault(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str, name: str
) -> None:
    model = upload()
    server.faults.add(replace(TROUBLE[name], times=1000))
    with pytest.raises(HubFault, match="failed 5 times"):
        connect().fetch_model(model, hotkey, constraints())
    assert server.faults.left >= 1000 - 4 * 5, "bounded: five tries of each of four files"
    assert list((connect().cache.folder / "incoming").iterdir()) == []


def test_a_hub_that_does_not_answer_in_time_or_at_all_is_named(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str, tmp_path: Path
) -> None:
    model = upload()
    server.faults.add(Fault(delay_s=0.5, times=2))
    with pytest.raises(HubFault, match="ReadTimeout"):
        connect(timeout_s=0.1, attempts=2).fetch_model(model, hotkey, constraints())
    nobody = Hub("http://127.0.0.1:9", cache=tmp_path / "cache", attempts=2, first_wait_s=0.0)
    with pytest.raises(HubFault, match=r"http://127\.0\.0\.1:9 failed 2 times"):
        nobody.fetch_model(model, hotkey, constraints())


def test_a_cut_download_goes_on_where_it_broke(
    connect: Connect,
    upload: Upload,
    constraints: Allowing,
    safetensors: Callable[..., bytes],
    server: FaultyHub,
    hotkey: str,
) -> None:
    model = upload({"model.safetensors": safetensors({"a": (1500, 1500)})})
    for _ in range(4):
        server.faults.add(Fault("GET.*safetensors", cut_after=1_100_000, skip=1))
    server.stats.reset()
    connect(attempts=2).fetch_model(model, hotkey, constraints(max_parameters=10**7))
    # 4.5 MB in five pieces: more tries than attempts, for each made progress
    assert server.stats.by_route["GET resolve"] >= 5
    assert server.stats.bytes_by_route["GET resolve"] < 5_000_000


def test_retry_after_is_honoured_within_reason(
    connect: Connect, upload: Upload, constraints: Allowing, server: FaultyHub, hotkey: str
) -> None:
    model = upload()
    server.faults.add(Fault(status=429, retry_after_s=3600))
    with pytest.raises(HubFault, match="asks to wait 3600 s"):
        connect().fetch_model(model, hotkey, constraints())


def test_a_web_server_that_is_no_hub_is_nobodys_fault(
    connect: Connect, constraints: Allowing, server: FaultyHub, hotkey: str
) -> None:
    server.faults.add(Fault(status=404, times=9))
    model = ModelId("miner", "model", "0" * 40, "A" * 43 + "=", 1)
    with pytest.raises(HubFault, match="status 404"):
        connect().fetch_model(model, hotkey, constraints())


def test_a_token_the_hub_does_not_know_is_the_evaluators_fault(
    server: FaultyHub, upload: Upload, constraints: Allowing, hotkey: str, tmp_path: Path
) -> None:
    hub = Hub(server.endpoint, "hf_wrong", cache=tmp_path / "cache")
    with pytest.raises(EvaluatorFault, match="does not know the token"):
        hub.fetch_model(upload(), hotkey, constraints())


def test_no_token_found_on_the_machine_is_ever_sent(
    connect: Connect,
    upload: Upload,
    constraints: Allowing,
    server: FaultyHub,
    hotkey: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = upload()
    monkeypatch.setenv("HF_TOKEN", server.token_of("somebody"))
    server.stats.reset()
    connect().fetch_model(model, hotkey, constraints())
    assert server.stats.authorized == 0
    assert server.stats.requests > 0


def test_two_fetches_at_once_give_one_entry(
    connect: Connect, upload: Upload, constraints: Allowing, hotkey: str
) -> None:
    model, hub, got = upload(), connect(), []
    threads = [
        threading.Thread(target=lambda: got.append(hub.fetch_model(model, hotkey, constraints()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({fetched.folder for fetched in got}) == 1
    assert len(got) == 4
    assert list((hub.cache.folder / "incoming").iterdir()) == []
