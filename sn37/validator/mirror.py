"""The mirror of a validator's epochs in wandb, as existing leaderboards read it (protocol, section 9).

A mirror, never the truth: whatever goes wrong ends as a sentence, not as an exception, and wandb runs in a
process of its own that is killed when its time is up. Knows nothing of how an epoch came about: `mirror_epoch`
hands over plain data. Every epoch is a process of its own too, so what a run holds so far lies beside it:

    <root>/steps/<number>.<competition id>.<sync block>.json    one epoch each, counted from 0
    <root>/offline-run-<time>-<id>/run-<id>.wandb               50 of them: a whole run, for `wandb sync`

An offline run is written anew with every epoch, aside, and renamed over the last one: a kill leaves a
readable run. Online, a run is resumed, and gets the epochs it has missed. A step seen before takes its old
place, so an epoch may be mirrored again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sn37.files import write_bytes, write_json
from sn37.scratch import ScratchFolder
from sn37.validator.decide import Decided, competition_weights_at
from sn37.validator.step import step_of

__all__ = ["EPOCHS_PER_RUN", "Mirror", "mirror_epoch"]

EPOCHS_PER_RUN = 50
"""How many epochs one wandb run holds."""


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

    def log(self, step: Mapping[str, object]) -> str:
        """Mirror one epoch, as `step_of` makes it; returns a sentence on how it went. Never raises."""
        try:
            return self._log(step)
        except Exception as error:  # wandb and the disk may fail in any way; an epoch goes on
            return f"not mirrored: {type(error).__name__}: {error}"

    def _log(self, step: Mapping[str, object]) -> str:
        steps, place = self._keep(step)
        first = json.loads(steps[0].read_text(encoding="utf-8"))
        moment = datetime.fromtimestamp(first["step"]["time"], UTC)
        name = f"validator-{first['uid']}-{moment:%Y-%m-%d_%H-%M-%S}"
        identity = f"{self.entity}/{self.project}/{first['hotkey']}/{name}"
        run_id = hashlib.sha256(identity.encode()).hexdigest()[:16]
        folder = self.root.absolute() / f"offline-run-{moment:%Y%m%d_%H%M%S}-{run_id}"
        config = {"uid": first["uid"], "hotkey": first["hotkey"], "run_name": name, "version": first["version"]}
        self._run_wandb(
            {
                "mode": self.mode,
                "timeout_s": self.timeout_s,
                "run": {"project": self.project, "entity": self.entity, "id": run_id, "name": name},
                "config": {**config, "type": "validator"},
                "steps": [str(path) for path in steps],
            },
            folder / f"run-{run_id}.wandb",
        )
        return f"epoch {place + 1} of {EPOCHS_PER_RUN} in the {self.mode} run {name}"

    def _keep(self, step: Mapping[str, object]) -> tuple[list[Path], int]:
        """Write the step beside the earlier ones; returns the files of its run and its place among them."""
        folder = self.root.absolute() / "steps"
        known = sorted(path for path in folder.glob("*.json") if path.name[0] != ".")
        suffix = f".{step['step_competition_id']}.{step['block']}.json"
        path = next((p for p in known if p.name.endswith(suffix)), folder / f"{len(known):08d}{suffix}")
        write_json(path, {"uid": self.uid, "hotkey": self.hotkey, "version": self.version, "step": step})
        known = sorted({*known, path})
        start = known.index(path) // EPOCHS_PER_RUN * EPOCHS_PER_RUN
        return known[start : start + EPOCHS_PER_RUN], known.index(path) - start

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
    for place, path in enumerate(request["steps"]):
        if place >= run.step:
            step = json.loads(Path(path).read_text(encoding="utf-8"))["step"]
            run.log({**step, "_timestamp": step["time"]}, step=place)
    run.finish()


def mirror_epoch(decided: Decided, hotkey: str) -> str:
    """Mirror a decided epoch as the settings say; returns a sentence on how it went. Never raises."""
    from sn37 import __version__

    settings, epoch = decided.plan.settings, decided.epoch
    try:
        mirror = Mirror(
            project=settings.wandb_project,
            entity=None,
            uid=epoch.manifest.uids[hotkey],
            hotkey=hotkey,
            version=__version__,
            root=settings.root / "wandb",
            mode=settings.wandb,
        )
        shares = competition_weights_at(decided.plan, epoch.competition_id, epoch.manifest.uids)
        step = step_of(epoch.manifest, epoch.decision, epoch.results.values(), decided.weights, shares)
        return mirror.log(step)
    except Exception as error:  # a record that was changed, for example
        return f"not mirrored: {type(error).__name__}: {error}"
