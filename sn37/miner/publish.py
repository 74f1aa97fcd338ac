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

from sn37.competition import Competition
from sn37.errors import ChainFault, ConfigError
from sn37.miner.preflight import Preflight, preflight, published
from sn37.scratch import ScratchFolder
from sn37.submission import ModelId, content_hash, secure_hash

if TYPE_CHECKING:
    from sn37.chain import Subnet
    from sn37.hub import Hub

__all__ = ["Publication", "check", "commit", "publish", "upload", "verify"]

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
    Raises ModelFault (a validator would refuse the model), ConfigError, HubFault, ChainFault.
    """
    on_step("check the model")
    check(folder, repo, competition, hub)
    on_step("upload it to a private repo")
    model = upload(folder, repo, competition, hub, subnet.hotkey)
    on_step("download it again and hash it")
    verify(model, competition, hub, subnet.hotkey)
    on_step("commit it to the chain")
    block = commit(model, subnet)
    on_step("make it public")
    hub.make_public(repo)
    return Publication(model, subnet.hotkey, block, model.to_text())


def check(folder: Path, repo: str, competition: Competition, hub: Hub) -> Preflight:
    """The first step: the protocol's checks, and whether the repo's name fits into a commitment."""
    namespace, _, name = repo.partition("/")
    try:
        ModelId(namespace, name, _SOME_COMMIT, None, competition.id)
    except ValueError as error:
        raise ConfigError(f"the repo {repo!r} cannot be committed: {error}; choose another name") from None
    return preflight(folder, competition, hub)


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
        fresh = Hub(hub.endpoint, hub.connection.token, cache=empty)
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
