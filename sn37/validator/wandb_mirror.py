"""A validator's wandb runs: 50 epochs each, as existing leaderboards read them (protocol, section 9).

Whatever goes wrong ends as a sentence, not as an exception, and wandb runs in a process of its own that is killed when
its time is up. Knows nothing of how an epoch came about: it is handed steps, as `sn37.validator.step` makes them.
Every epoch is a process of its own too, so what a run holds so far lies beside it:

    <root>/steps/<number>.<competition id>.<sync block>.json    one epoch each, counted from 0
    <root>/offline-run-<time>-<id>/run-<id>.wandb               50 of them: a whole run, for `wandb sync`

An offline run is written anew with every epoch, aside, and renamed over the last one: a kill leaves a
readable run. Online, a run is resumed, and gets the epochs it has missed. An epoch keeps its number for good; the steps
of finished runs are no longer needed, but for the newest step of all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from sn37.data.published import RECORD_FIELD
from sn37.files import write_bytes, write_json
from sn37.scratch import ScratchFolder

__all__ = ["EPOCHS_PER_RUN", "Logged", "Mirror"]

EPOCHS_PER_RUN = 50
"""How many epochs one wandb run holds."""


@dataclass(frozen=True)
class Logged:
    """How logging a step went."""

    run: str
    """The name of the run that holds it; "" where it was not logged."""
    told: str
    """The same in a sentence."""


def _number(path: Path) -> int:
    """The number of a kept step."""
    return int(path.name.partition(".")[0])


@dataclass(frozen=True)
class Mirror:
    """A validator's runs in one project."""

    project: str
    """The wandb project."""
    entity: str | None
    """Whose project; None for the account's own."""
    uid: int
    """The validator's uid."""
    hotkey: str
    """Its hotkey."""
    version: str
    """The version of this library."""
    root: Path
    """A folder of its own."""
    mode: str = "offline"
    """`offline` or `online`."""
    timeout_s: float = 90.0
    """What wandb gets before it is killed."""

    def path_of(self, competition_id: int, sync_block: int) -> Path | None:
        """The step that was kept of an epoch; None where there is none."""
        return next(self._steps.glob(f"[0-9]*.{competition_id}.{sync_block}.json"), None)

    def keep(self, step: Mapping[str, object]) -> Path:
        """Write a step, as `step_of` makes it, in its place behind the earlier ones, or over itself."""
        competition_id, block = step["step_competition_id"], step["block"]
        numbers = [_number(path) for path in self._steps.glob("[0-9]*.json")]
        fresh = self._steps / f"{max(numbers, default=-1) + 1:08d}.{competition_id}.{block}.json"
        path = self.path_of(int(str(competition_id)), int(str(block))) or fresh
        write_json(path, {"uid": self.uid, "hotkey": self.hotkey, "version": self.version, "step": step})
        return path

    def log(self, paths: Iterable[Path]) -> dict[Path, Logged]:
        """Log kept steps, run by run in their order; how it went, by step. Never raises; the first failure ends it."""
        logged: dict[Path, Logged] = {}
        ordered = sorted(paths)
        for number, steps in groupby(ordered, lambda path: _number(path) // EPOCHS_PER_RUN):
            try:
                run = self._write_run(number)
            except Exception as error:  # wandb and the disk may fail in any way; an epoch goes on
                failed = Logged("", f"not mirrored: {type(error).__name__}: {error}")
                return dict.fromkeys(ordered, failed) | logged
            for path in steps:
                place = _number(path) % EPOCHS_PER_RUN + 1
                logged[path] = Logged(run, f"epoch {place} of {EPOCHS_PER_RUN} in the {self.mode} run {run}")
        return logged

    @property
    def _steps(self) -> Path:
        return self.root.absolute() / "steps"

    def _write_run(self, number: int) -> str:
        """Write the run of that number with all its steps; its name."""
        steps = {_number(path): path for path in sorted(self._steps.glob("[0-9]*.json"))}
        first = number * EPOCHS_PER_RUN
        places = {place: str(steps[first + place]) for place in range(EPOCHS_PER_RUN) if first + place in steps}
        opening = json.loads(Path(places[0]).read_text(encoding="utf-8"))
        moment = datetime.fromtimestamp(opening["step"]["time"], UTC)
        name = f"validator-{opening['uid']}-{moment:%Y-%m-%d_%H-%M-%S}"
        identity = f"{self.entity}/{self.project}/{opening['hotkey']}/{name}"
        run_id = hashlib.sha256(identity.encode()).hexdigest()[:16]
        folder = self.root.absolute() / f"offline-run-{moment:%Y%m%d_%H%M%S}-{run_id}"
        config = {"uid": opening["uid"], "hotkey": opening["hotkey"], "run_name": name, "version": opening["version"]}
        self._run_wandb(
            {
                "mode": self.mode,
                "timeout_s": self.timeout_s,
                "run": {"project": self.project, "entity": self.entity, "id": run_id, "name": name},
                "config": {**config, "type": "validator"},
                "steps": places,
                "unsummarized": RECORD_FIELD,
            },
            folder / f"run-{run_id}.wandb",
        )
        return name

    def _run_wandb(self, request: Mapping[str, object], target: Path) -> None:
        """Let wandb write in a process of its own, an offline run to `target`.

        Raises RuntimeError where it fails or takes too long.
        """
        command = [sys.executable, "-P", "-c", f"from {__name__} import _write; _write()"]
        with (
            ScratchFolder() as scratch,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(self.mode, str(scratch)),
                cwd=scratch,
                text=True,
                start_new_session=True,
            ) as child,
        ):
            try:
                _, errors = child.communicate(json.dumps({**request, "scratch": str(scratch)}), timeout=self.timeout_s)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"wandb took more than {self.timeout_s:g} s and was stopped") from None
            finally:
                _kill(child)
            if child.returncode:
                last = errors.strip().splitlines()[-1:] or ["no message"]
                raise RuntimeError(f"wandb failed: {last[0][:300]}")
            if self.mode == "offline":
                # Only now, for wandb writes until its process ends.
                (written,) = scratch.glob("wandb/offline-run-*/run-*.wandb")
                write_bytes(target, written.read_bytes())


def _environment(mode: str, scratch: str) -> dict[str, str]:
    """No secret and no setting of the user's reaches an offline run."""
    kept = {name: value for name, value in os.environ.items() if mode == "online" or not name.startswith("WANDB_")}
    quiet = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_CONSOLE": "off", "WANDB_DIR": scratch}
    if mode == "offline":
        quiet |= {"WANDB_CONFIG_DIR": scratch, "WANDB_CACHE_DIR": scratch, "WANDB_DATA_DIR": scratch}
    return {**kept, **quiet}


def _kill(child: subprocess.Popen[str]) -> None:
    """End the child, where it still runs, and whatever it started, also in sessions of their own."""
    import psutil

    if child.poll() is None:
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(child.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        child.kill()
        child.wait()


def _write() -> None:
    """In the child: log the steps to a run, all of them offline, the missing ones online."""
    request = json.load(sys.stdin)
    # For when nobody is left to watch: the alarm ends the process.
    signal.alarm(int(request["timeout_s"]) + 5)
    import wandb

    online = request["mode"] == "online"
    run = wandb.init(
        **request["run"],
        mode="online" if online else "offline",
        dir=request["scratch"],
        config=request["config"],
        resume="allow" if online else None,
        settings=wandb.Settings(
            console="off",
            disable_git=True,
            host="validator",
            save_code=False,
            silent=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        ),
    )
    run.define_metric(request["unsummarized"], summary="none")
    for place, path in request["steps"].items():
        if int(place) >= run.step:
            step = json.loads(Path(path).read_text(encoding="utf-8"))["step"]
            run.log({**step, "_timestamp": step["time"]}, step=int(place))
    run.finish()
