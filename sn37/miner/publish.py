"""Publishing a submission, in the protocol's order (section 2); any step can be run again safely.

    check -> upload, private -> download again, hash -> commit to the chain -> read back -> make public

The model stays private until the chain holds its secure hash: who copies it then comes later. Whatever
stops this half-way, the same call goes on from there: what is done already is found done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.clock import Clock, duration
from sn37.competition import Competition
from sn37.errors import ChainFault, ConfigError
from sn37.html import table
from sn37.miner.check import Checked, check_folder, published
from sn37.scratch import ScratchFolder
from sn37.submission import ModelId, content_hash, secure_hash

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["COMMIT_EVERY_BLOCKS", "Plan", "Publication", "check_place", "commit", "plan", "publish", "upload", "verify"]

COMMIT_EVERY_BLOCKS = 100
"""The least blocks between two commitments of a hotkey (protocol, section 1)."""

_SOME_COMMIT = "0" * 40


@dataclass(frozen=True)
class Publication:
    """A published submission."""

    model: ModelId
    """The model at its commit."""
    hotkey: str
    """Whose it is."""
    block: int
    """Of its commitment."""
    text: str
    """What the chain holds."""

    def __repr__(self) -> str:
        return f"{self.model.repo} at {str(self.model.commit)[:8]}, committed by {self.hotkey} at block {self.block}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p><pre>{escape(self.text)}</pre>"


@dataclass(frozen=True)
class Plan:
    """What publishing would do, and when: nothing of it is done."""

    checked: Checked
    """What a validator's checks find in the model."""
    repo: str
    """Where it would go."""
    endpoint: str
    """The hub's address."""
    uid: int
    """Of the hotkey that would commit it."""
    standing: str
    """What the chain holds for the hotkey now; "" for nothing."""
    committed: bool
    """Whether that is this very model, in this repo, for this competition."""
    possible_from: int
    """The block from which on the chain takes a commitment of the hotkey."""
    picked_up_at: int
    """The first sync block it takes part in, if it is committed as soon as it can be."""
    block: int
    """The chain's newest block."""

    @property
    def wait_blocks(self) -> int:
        """Blocks until it can be committed."""
        return max(0, self.possible_from - self.block)

    def _steps(self) -> list[tuple[str, str]]:
        wait = f"from block {self.possible_from:,} on, in {duration(self.wait_blocks)}" if self.wait_blocks else "now"
        until = duration(self.picked_up_at - self.block)
        return [
            ("check", str(self.checked)),
            ("upload", f"{self.checked.bytes:,} bytes to the private repo {self.repo} on {self.endpoint}"),
            ("hash", "downloaded again at that commit into an empty folder, and hashed"),
            ("commit", f"as uid {self.uid}, {wait}; in place of {self.standing or 'nothing'}"),
            ("public", f"{self.repo} is opened once the chain holds the hash"),
            ("picked up", f"at sync block {self.picked_up_at:,} at the earliest, in {until}"),
        ]

    def __str__(self) -> str:
        return "\n".join(f"  {name:<10} {told}" for name, told in self._steps())

    def _repr_html_(self) -> str:
        return table(("step", "what it would do"), self._steps())


def plan(
    folder: Path, repo: str, competition: Competition, hub: Hub, subnet: Subnet, clock: Clock | None = None
) -> Plan:
    """What `publish` would do; changes nothing. Raises ConfigError where it could not begin, ChainFault, HubFault."""
    check_place(repo, competition)
    clock, uid, head = clock or Clock(), _uid(subnet), subnet.head()
    checked, standing = check_folder(folder, competition, lambda: hub), subnet.committed(subnet.hotkey)
    promised = secure_hash(checked.content_hash, subnet.hotkey)
    possible = head if standing is None else max(head, standing[0] + COMMIT_EVERY_BLOCKS)
    return Plan(
        checked=checked,
        repo=repo,
        endpoint=hub.endpoint,
        uid=uid,
        standing="" if standing is None else standing[1],
        committed=standing is not None and _promise(standing[1]) == (repo, promised, competition.id),
        possible_from=possible,
        # A commitment sent now is in the next block at the earliest.
        picked_up_at=clock.first_epoch(max(possible, head + 1), competition.constraints.delay_blocks),
        block=head,
    )


def _promise(text: str) -> tuple[str, str | None, int | None] | None:
    """The repo, hash and competition of a commitment; None where it is no submission."""
    try:
        model = ModelId.from_text(text)
    except ValueError:
        return None
    return model.repo, model.hash, model.competition_id


def publish(
    folder: Path,
    repo: str,
    competition: Competition,
    hub: Hub,
    subnet: Subnet,
    *,
    on_step: Callable[[str], None] = lambda step: None,
) -> Publication:
    """Publish the model in `folder` as the submission of the subnet's wallet.

    repo: `namespace/name` on the hub, not there yet or private; on_step: called with each step as it begins.
    Raises ModelFault (a validator would refuse the model, with all reasons), ConfigError, HubFault, ChainFault; what is
    done by then stays, and the same call goes on from there.
    """
    on_step("check the model")
    check_place(repo, competition)
    _uid(subnet)
    check_folder(folder, competition, lambda: hub).raise_fault()
    on_step("upload it to a private repo")
    model = upload(folder, repo, competition, hub, subnet.hotkey)
    on_step("download it again and hash it")
    verify(model, competition, hub, subnet.hotkey)
    on_step("commit it to the chain")
    try:
        block = commit(model, subnet)
    except ChainFault as fault:
        raise ChainFault(
            f"{fault}; the model lies in the private repo {repo} at {str(model.commit)[:8]}: publish again to go on"
        ) from fault
    on_step("make it public")
    hub.make_public(repo)
    return Publication(model, subnet.hotkey, block, model.to_text())


def check_place(repo: str, competition: Competition) -> None:
    """Raise ConfigError where the repo's name does not fit into a commitment."""
    namespace, _, name = repo.partition("/")
    try:
        ModelId(namespace, name, _SOME_COMMIT, None, competition.id)
    except ValueError as error:
        raise ConfigError(f"the repo {repo!r} cannot be committed: {error}; choose another name") from None


def _uid(subnet: Subnet) -> int:
    """The uid of the wallet's hotkey. Raises ConfigError where it has none: the chain would refuse it at the end."""
    me = subnet.metagraph().neuron(subnet.hotkey)
    if me is None:
        raise ConfigError(f"hotkey {subnet.hotkey} is not registered on netuid {subnet.netuid}: register it first")
    return me.uid


def upload(folder: Path, repo: str, competition: Competition, hub: Hub, hotkey: str) -> ModelId:
    """The second step: the model in a private repo, and the submission that speaks of it."""
    revision = hub.publish(folder, repo, private=True)
    namespace, _, name = repo.partition("/")
    with published(folder) as sent:
        return ModelId(namespace, name, revision, secure_hash(content_hash(sent), hotkey), competition.id)


def verify(model: ModelId, competition: Competition, hub: Hub, hotkey: str) -> str:
    """The third step: download at that commit into an empty folder, check and hash; the content hash.

    Raises ModelFault where a validator would not find what the submission promises.
    """
    from sn37.hub import Hub

    with ScratchFolder() as empty:
        # A cache of its own: nothing that lies about here may stand in for what the hub has.
        fresh = Hub(hub.endpoint, hub.connection.token, cache=empty / "cache")
        with fresh.fetch_model(model, hotkey, competition.constraints, private_too=True) as fetched:
            return fetched.content_hash


def commit(model: ModelId, subnet: Subnet) -> int:
    """The fourth and fifth step: commit to the chain and read back; the block of the commitment.

    A commitment that stands already is left as it is: an earlier block is worth more.
    """
    text = model.to_text()
    standing = subnet.committed(subnet.hotkey)
    if standing is None or standing[1] != text:
        subnet.commit(text)
        standing = subnet.committed(subnet.hotkey)
    if standing is None or standing[1] != text:
        found = "nothing" if standing is None else repr(standing[1])
        raise ChainFault(f"the chain holds {found} for {subnet.hotkey}, not the commitment just made; publish again")
    return standing[0]
