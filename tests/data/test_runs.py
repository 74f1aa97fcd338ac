"""wandb runs: what their authors decide the size of is bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from wandb_server import API_KEY, ServedRun, WandbServer

from sn37.data import WandbRuns
from sn37.errors import ConfigError

AS_OF = datetime(2026, 1, 10, tzinfo=UTC)


def test_what_is_too_long_is_left_out_and_the_rest_is_read() -> None:
    rows = [
        {"_step": i, "_timestamp": AS_OF.timestamp() - 60, "text": text, "score": score}
        for i, (text, score) in enumerate([("first", 1.0), ("x" * 2_100_000, 1.0), ("last", float("nan"))])
    ]
    created = AS_OF - timedelta(hours=1)
    runs = [
        ServedRun("a/b", "sound", {"hotkey": "5"}, rows, created, AS_OF),
        ServedRun("a/b", "swollen", {"hotkey": "5", "more": "x" * 200_000}, [], created, AS_OF),
    ]
    with WandbServer(runs) as server:
        sound, swollen = WandbRuns(server.base_url, API_KEY)("a/b", AS_OF - timedelta(hours=4), AS_OF)
        assert (sound.id, sound.config, swollen.id, swollen.config) == ("sound", {"hotkey": "5"}, "swollen", {})
        assert [(row["text"], row["score"]) for row in sound.history] == [("first", 1.0), ("last", None)]


def test_without_an_account_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="set WANDB_API_KEY, or run `wandb login`"):
        WandbRuns("http://127.0.0.1:9")("a/b", AS_OF, AS_OF)


def test_the_key_that_wandb_login_keeps_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1\n  login user\n  password {API_KEY}\n")
    (tmp_path / ".netrc").chmod(0o600)
    run = ServedRun("a/b", "only", {}, [], AS_OF, AS_OF)
    with WandbServer([run]) as server:
        assert [run.id for run in WandbRuns(server.base_url)("a/b", AS_OF, AS_OF)] == ["only"]
