"""The embedded hub, asked by the real clients and over plain HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from faulty_hub import Fault, FaultyHub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from sn37.devnet.hub.storage import Repo

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FaultyHub]:
    with FaultyHub(tmp_path / "hub", clock=lambda: NOON) as server:
        yield server


@pytest.fixture
def alice(hub: FaultyHub) -> HfApi:
    api = HfApi(endpoint=hub.endpoint, token=hub.token_of("alice"))
    api.create_repo("alice/model")
    return api


def get(hub: FaultyHub, path: str, **headers: str) -> httpx2.Response:
    return httpx2.get(hub.endpoint + path, headers=headers)


def test_a_folder_comes_back_as_it_went(hub: FaultyHub, alice: HfApi, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    contents = {"a.txt": b"text", "empty": b"", "deep/er/model.safetensors": os.urandom(300_000), "deep/ö.json": b"{}"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    commit = alice.upload_folder(repo_id="alice/model", folder_path=folder).oid
    copy = snapshot_download(
        "alice/model", revision=commit, endpoint=hub.endpoint, token=False, cache_dir=tmp_path / "cache"
    )
    assert {p.relative_to(copy).as_posix(): p.read_bytes() for p in Path(copy).rglob("*") if p.is_file()} == contents
    assert alice.upload_folder(repo_id="alice/model", folder_path=folder).oid == commit, "nothing new, no new commit"


def test_transformers_loads_a_model_and_a_tokenizer_at_a_revision(hub: FaultyHub, alice: HfApi, tmp_path: Path) -> None:
    code = """
import sys, torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
sizes = dict(vocab_size=4, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
model = LlamaForCausalLM(LlamaConfig(**sizes, max_position_embeddings=8))
words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?")))
first = model.push_to_hub("alice/model").oid
second = words.push_to_hub("alice/model").oid
loaded = AutoModelForCausalLM.from_pretrained("alice/model", revision=first)
assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))
assert AutoTokenizer.from_pretrained("alice/model", revision=second).encode("b") == [1]
"""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": hub.token_of("alice"),
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_file_is_read_by_any_range(hub: FaultyHub, alice: HfApi) -> None:
    data = bytes(range(256)) * 10
    alice.upload_file(path_or_fileobj=data, path_in_repo="x.bin", repo_id="alice/model")
    path = "/alice/model/resolve/main/x.bin"
    for header, status, expected in (
        ("bytes=0-9", 206, data[:10]),
        ("bytes=100-", 206, data[100:]),
        ("bytes=-7", 206, data[-7:]),
        ("bytes=2550-9999", 206, data[2550:]),
        ("bytes=2560-", 416, b""),
        ("bytes=5-2", 416, b""),
        ("bytes=x", 200, data),
        ("bytes=0-1,4-5", 200, data),
    ):
        answer = get(hub, path, Range=header)
        assert (answer.status_code, answer.content) == (status, expected), header
    assert get(hub, path, Range="bytes=5-6").headers["Content-Range"] == "bytes 5-6/2560"
    head = httpx2.head(hub.endpoint + path)
    assert head.headers["Content-Length"] == head.headers["X-Linked-Size"] == "2560"
    assert head.headers["X-Repo-Commit"] == alice.model_info("alice/model").sha
    assert head.headers["ETag"] == head.headers["X-Linked-Etag"]


def test_refusals_are_named_as_the_real_hub_names_them(hub: FaultyHub, alice: HfApi) -> None:
    alice.create_repo("alice/secret", private=True)
    stranger = HfApi(endpoint=hub.endpoint, token=hub.token_of("bob"))
    anybody = HfApi(endpoint=hub.endpoint, token=False)
    for api in (stranger, anybody):
        for repo in ("alice/secret", "alice/none"):
            with pytest.raises(RepositoryNotFoundError):
                api.model_info(repo)
    assert get(hub, "/api/models/alice/secret").status_code == 401
    with pytest.raises(RevisionNotFoundError):
        anybody.model_info("alice/model", revision="other")
    missing = get(hub, "/alice/model/resolve/main/none")
    assert (missing.status_code, missing.headers["X-Error-Code"]) == (404, "EntryNotFound")
    for api, status in ((stranger, 403), (anybody, 401)):
        with pytest.raises(HfHubHTTPError) as refused:
            api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="alice/model")
        assert refused.value.response.status_code == status
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(endpoint=hub.endpoint, token="hf_other").model_info("alice/model")
    alice.update_repo_settings("alice/secret", private=False)
    assert anybody.model_info("alice/secret").private is False


@pytest.mark.parametrize("path", ["../x", "a/../../x", ".git/config", "a//b", "a\\b", "", "a/.", "\x00"])
def test_a_path_that_is_none_is_refused(hub: FaultyHub, alice: HfApi, path: str) -> None:
    lines = [
        {"key": "header", "value": {"summary": "x"}},
        {"key": "file", "value": {"path": path, "content": "", "encoding": "base64"}},
    ]
    answer = httpx2.post(
        f"{hub.endpoint}/api/models/alice/model/commit/main",
        content="\n".join(json.dumps(line) for line in lines),
        headers={"Authorization": f"Bearer {alice.token}"},
    )
    assert answer.status_code == 400
    assert alice.list_repo_files("alice/model") == []


def test_another_repos_blob_cannot_be_had_by_its_hash(hub: FaultyHub, alice: HfApi) -> None:
    alice.create_repo("alice/secret", private=True)
    alice.upload_file(path_or_fileobj=b"secret", path_in_repo="x.safetensors", repo_id="alice/secret")
    (file,) = alice.get_paths_info("alice/secret", ["x.safetensors"])
    bob = HfApi(endpoint=hub.endpoint, token=hub.token_of("bob"))
    bob.create_repo("bob/model")
    lines = [
        {"key": "header", "value": {"summary": "x"}},
        {"key": "lfsFile", "value": {"path": "x.safetensors", "algo": "sha256", "oid": file.lfs.sha256, "size": 6}},
    ]
    answer = httpx2.post(
        f"{hub.endpoint}/api/models/bob/model/commit/main",
        content="\n".join(json.dumps(line) for line in lines),
        headers={"Authorization": f"Bearer {bob.token}"},
    )
    assert answer.status_code == 400
    assert "missing" in answer.json()["error"]


def test_an_upload_that_is_not_what_it_says_is_refused(hub: FaultyHub, alice: HfApi) -> None:
    answer = httpx2.post(
        f"{hub.endpoint}/alice/model.git/info/lfs/objects/batch",
        json={"operation": "upload", "objects": [{"oid": "0" * 64, "size": 3}]},
        headers={"Authorization": f"Bearer {alice.token}"},
    )
    href = answer.json()["objects"][0]["actions"]["upload"]["href"]
    assert httpx2.put(href, content=b"abc").status_code == 400
    assert httpx2.put(f"{hub.endpoint}/_lfs/none", content=b"abc").status_code == 403
    assert list((hub.root / "incoming").iterdir()) == []


def test_commits_at_the_same_moment_are_all_kept(hub: FaultyHub, alice: HfApi) -> None:
    def upload(number: int) -> None:
        api = HfApi(endpoint=hub.endpoint, token=alice.token)
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo=f"{number}.txt", repo_id="alice/model")

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(alice.list_repo_files("alice/model")) == 20
    assert len(alice.list_repo_commits("alice/model")) == 21


def test_a_commit_on_an_old_parent_is_refused(alice: HfApi) -> None:
    first = alice.model_info("alice/model").sha
    add = [CommitOperationAdd("a", b"a")]
    alice.create_commit("alice/model", add, commit_message="a", parent_commit=first)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        alice.create_commit("alice/model", [CommitOperationAdd("b", b"b")], commit_message="b", parent_commit=first)


def test_every_commit_stays_readable(hub: FaultyHub, alice: HfApi) -> None:
    made = []
    for number in range(3):
        operations: list[Any] = [CommitOperationAdd("same", b"%d" % number), CommitOperationAdd(f"f/{number}", b"x")]
        made.append(alice.create_commit("alice/model", operations, commit_message=f"{number}").oid)
    operations = [CommitOperationDelete("f/", is_folder=True), CommitOperationDelete("same")]
    last = alice.create_commit("alice/model", operations, commit_message="gone").oid
    assert alice.list_repo_files("alice/model", revision=last) == []
    for number, commit in enumerate(made):
        assert get(hub, f"/alice/model/resolve/{commit}/same").content == b"%d" % number
    assert [c.title for c in alice.list_repo_commits("alice/model")] == ["gone", "2", "1", "0", "initial commit"]
    assert alice.list_repo_commits("alice/model")[0].created_at == NOON


def test_the_same_history_has_the_same_hashes_and_survives_a_restart(tmp_path: Path) -> None:
    heads = []
    for folder in ("one", "two"):
        with FaultyHub(tmp_path / folder, clock=lambda: NOON) as hub:
            api = HfApi(endpoint=hub.endpoint, token=hub.token_of("alice"))
            api.create_repo("alice/model")
            for name in ("b", "a"):
                api.upload_file(path_or_fileobj=name.encode(), path_in_repo=name, repo_id="alice/model")
            heads.append(api.model_info("alice/model").sha)
    assert heads[0] == heads[1]
    with FaultyHub(tmp_path / "one", clock=lambda: NOON + timedelta(hours=1)) as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.token_of("alice"))
        assert api.model_info("alice/model").sha == heads[0]
        assert api.list_repo_files("alice/model") == ["a", "b"]


def test_long_listings_come_in_pages(hub: FaultyHub, alice: HfApi) -> None:
    names = [f"{number:04}" for number in range(2_345)]
    file = hub.storage.add_bytes(b"x")
    repo = Repo("models", "alice", "model")
    hub.storage.commit(repo, "main", "alice", "many", "", lambda files: files.update(dict.fromkeys(names, file)))
    hub.stats.reset()
    assert [entry.path for entry in alice.list_repo_tree("alice/model")] == names
    assert hub.stats.by_route["GET tree"] == 3


def test_a_token_added_to_the_file_counts_at_once(hub: FaultyHub) -> None:
    (hub.root / "tokens.json").write_text(json.dumps({"hf_new": "carol"}))
    assert HfApi(endpoint=hub.endpoint, token="hf_new").whoami()["name"] == "carol"
    assert hub.token_of("carol") == "hf_new"
    assert hub.token_of("dora") == "hf_dora"
    assert json.loads((hub.root / "tokens.json").read_text()) == {"hf_new": "carol", "hf_dora": "dora"}


def test_requests_and_bytes_are_counted(hub: FaultyHub, alice: HfApi) -> None:
    alice.upload_file(path_or_fileobj=b"x" * 5000, path_in_repo="x.txt", repo_id="alice/model")
    hub.stats.reset()
    for _ in range(3):
        get(hub, "/alice/model/resolve/main/x.txt")
    get(hub, "/alice/model/resolve/main/x.txt", Range="bytes=0-99")
    assert (hub.stats.requests, hub.stats.bytes_sent, hub.stats.authorized) == (4, 15_100, 0)
    assert hub.stats.by_route == {"GET resolve": 4}


def test_faults_strike_what_they_are_meant_for(hub: FaultyHub, alice: HfApi) -> None:
    alice.upload_file(path_or_fileobj=b"x" * 5000, path_in_repo="x.txt", repo_id="alice/model")
    path = "/alice/model/resolve/main/x.txt"
    hub.faults.add(Fault("resolve.*x.txt", status=429, retry_after_s=7, skip=1))
    hub.faults.add(Fault("resolve", cut_after=100, times=1, skip=1))
    assert get(hub, "/api/models/alice/model").status_code == 200
    assert get(hub, path).status_code == 200
    struck = get(hub, path)
    assert (struck.status_code, struck.headers["Retry-After"]) == (429, "7")
    assert get(hub, path).status_code == 200
    with pytest.raises(httpx2.RemoteProtocolError):
        get(hub, path)
    assert hub.faults.left == 0
    assert get(hub, path).status_code == 200
