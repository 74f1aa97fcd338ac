"""Where a training starts from: a folder, a hub repo, who leads a competition, or the best of another subnet.

A model found on a chain or at a repo's newest commit is named by its full commit, and kept in the training's folder: a
training that goes on starts from the same one, whoever leads by then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.errors import ConfigError, DataFault
from sn37.records.codec import read, write
from sn37.submission import Submission, is_full_commit

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.competition import Competition
    from sn37.hub import Hub

__all__ = ["PRETRAINING", "Start", "find_start", "leader", "most_rewarded"]

PRETRAINING = 9
"""The subnet whose miners train from scratch: this subnet was launched to finetune its models."""

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@.+)?")


@dataclass(frozen=True)
class Start:
    """The model that a training starts from."""

    asked: str
    """As a person said it."""
    model: str
    """A folder, or `user/repo@<full commit>`."""
    why: str = ""
    """Who it is of and why it was taken; "" where it was named."""

    def __repr__(self) -> str:
        return f"{self.model} ({self.why})" if self.why else self.model


def find_start(asked: str, out: Path, competition: Competition, subnet: Subnet, hub: Hub) -> Start:
    """The model that `asked` stands for, kept in `out`; what stands there already for the same words holds.

    asked: a folder; `user/repo`, its newest commit, or `user/repo@commit`; `leader`: of the competition on `subnet`;
    `sn9`: of subnet 9 on the same network. The chain and the hub are asked only where they are needed. Raises
    ConfigError, ChainFault, HubFault.
    """
    kept = read(Start, out / "start.json")
    if kept is not None and kept.asked == asked:
        return kept
    found = _find(asked, competition, subnet, hub)
    write(out / "start.json", found)
    return found


def _find(asked: str, competition: Competition, subnet: Subnet, hub: Hub) -> Start:
    if asked == "leader":
        return most_rewarded(subnet, competition.id, asked)
    if asked == "sn9":
        from sn37.chain import Subnet

        with Subnet(subnet.network, PRETRAINING) as pretraining:
            return most_rewarded(pretraining, None, asked)
    if Path(asked).expanduser().is_dir():
        return Start(asked, str(Path(asked).expanduser().absolute()))
    if not _REPO.fullmatch(asked):
        raise ConfigError(f"{asked} is no folder; expected one, user/repo, user/repo@<full commit>, leader or sn9")
    repo, _, commit = asked.partition("@")
    if commit and not is_full_commit(commit):
        raise ConfigError(f"{asked}: {commit!r} is no full commit; expected 40 lower-case hexadecimal digits, or none")
    try:
        return Start(asked, f"{repo}@{commit or hub.newest_commit(repo, 'model', None)}")
    except DataFault as fault:
        raise ConfigError(f"{asked} is no folder here, and {fault}") from None


def most_rewarded(subnet: Subnet, competition_id: int | None, asked: str = "") -> Start:
    """The model of the leader. competition_id: of the submissions that count; None for all.

    Raises ConfigError where nobody has any incentive.
    """
    found = leader(subnet, competition_id)
    if found is None or found[0].model is None:
        which = "with a model" if competition_id is None else f"with a model for competition {competition_id}"
        raise ConfigError(
            f"nobody {which} has incentive on subnet {subnet.netuid} of {subnet.network}; "
            "start from a folder or a hub repo"
        )
    submission, share = found
    why = f"uid {submission.uid} of subnet {subnet.netuid}, incentive {share:.3f}"
    return Start(asked, f"{found[0].model.repo}@{found[0].model.commit}", why)


def leader(subnet: Subnet, competition_id: int | None) -> tuple[Submission, float] | None:
    """The submission of the hotkey with the highest incentive, and that; the lowest uid of equal ones; None for none.

    competition_id: of the submissions that count; None for all.
    """
    metagraph = subnet.metagraph()
    shares = {neuron.hotkey: neuron.incentive for neuron in metagraph.neurons}
    found = [
        (one, shares[one.hotkey])
        for one in subnet.submissions(metagraph.block)
        if one.model and one.model.commit and competition_id in (None, one.model.competition_id)
        if shares.get(one.hotkey, 0.0) > 0
    ]
    return min(found, key=lambda pair: (-pair[1], pair[0].uid), default=None)
