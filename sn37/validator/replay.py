"""A recorded epoch evaluated again from its record; it publishes nothing, having neither wallet nor decision to make.

Who took part, the seed and the competition stand in the record; the models are fetched again at their commits. What it
leaves is a record of its own, to be compared with the first: see `sn37.analysis.comparison`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.errors import ConfigError, SubmissionFault
from sn37.records.epochs import Epoch, Records
from sn37.records.faults import MAX_WAITS
from sn37.records.manifest import Manifest
from sn37.validator.connect import connect
from sn37.validator.decide import decide
from sn37.validator.evaluate import evaluate
from sn37.validator.fetch import fetch
from sn37.validator.plan import Plan, digest_of
from sn37.validator.settings import Settings

if TYPE_CHECKING:
    from sn37.workers.executors import Executor

__all__ = ["replay"]


def replay(
    epoch: Epoch,
    root: Path,
    *,
    redraw: bool = True,
    more: Mapping[str, object] | None = None,
    executor: Executor | None = None,
) -> Epoch:
    """Evaluate a decided epoch again, into records of its own under `root`; one that was interrupted goes on.

    redraw: draw the samples again, from the data at their pinned commits (sources that take only what trusted
    validators wrote ask the chain for them); False takes the recorded samples. more: settings of this machine, such as
    `device` or another `hub`. A model that can no longer be had is set aside. Raises ConfigError where the epoch is not
    decided, or needs code of the validator's own that `more` does not name as `tasks` or that has changed; DataFault,
    HubFault, ChainFault.
    """
    if not epoch.sealed:
        raise ConfigError(f"the epoch in {epoch.folder} is not decided; expected one that is")
    if not redraw and not epoch.keeps_samples:
        raise ConfigError(f"the samples of {epoch.folder} are pruned; draw them again")
    settings = _settings(epoch.manifest, root, more or {})
    copy = Records(settings.root / "records").begin(epoch.competition_id, epoch.sync_block)
    if copy.folder == epoch.folder.absolute():
        raise ConfigError(f"{root} holds the epoch itself; choose another folder for its replay")
    if not copy.sealed and copy.read(Manifest) is None:
        _begin(copy, epoch, redraw)
    plan = Plan(settings, copy.manifest, newest=False)
    subnet, hub = connect(settings)
    with subnet:
        fetched = fetch(plan, subnet, hub)
        for _ in range(MAX_WAITS):
            # An epoch waits for whom it cannot have; a replay has nothing to wait for.
            with contextlib.suppress(SubmissionFault):
                return decide(evaluate(fetched, executor)).epoch
        return decide(evaluate(fetched, executor)).epoch


def _settings(manifest: Manifest, root: Path, more: Mapping[str, object]) -> Settings:
    """The settings of the epoch as far as its record has them."""
    from sn37.competitions import load_tasks

    own = list(manifest.own_tasks)
    if own and more.get("tasks") != own:
        raise ConfigError(
            f"the epoch ran with sources or methods of {', '.join(own)}, which is code; a record may be a stranger's: "
            f"name them in the setting `tasks` where you trust them (-p 'tasks={json.dumps(own)}')"
        )
    settings = Settings.of(
        **{"network": manifest.network, "netuid": manifest.netuid, "root": str(root), "publish": False},
        more={"hub": manifest.hub or "", "wandb": "off", **more},
    )
    for name, digest in manifest.own_tasks.items():
        if digest_of(name) != digest:
            raise ConfigError(f"{name} is not what the epoch ran with (digest {digest}); bring back that version")
    load_tasks(settings.tasks)
    return replace(settings, clock=manifest.clock, figures=manifest.figures, limits=manifest.limits)


def _begin(copy: Epoch, epoch: Epoch, redraw: bool) -> None:
    """Plan the replay: whoever has a result takes part again."""
    manifest, measured = epoch.manifest, epoch.results
    picks = tuple(
        pick if pick.submission.hotkey in measured else replace(pick, evaluate=False) for pick in manifest.submissions
    )
    if not redraw:
        for task in manifest.data:
            copy.write_samples(task, epoch.samples(task))
    data = {} if redraw else manifest.data
    copy.write(replace(manifest, submissions=picks, data=data, tokenizer=None, versions={}, ran={}))
