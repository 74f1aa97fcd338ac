"""Would a validator take this model? The protocol's checks (section 7), before anything is published.

Judges what publishing would send, and nothing else that lies in the folder. Loads the miner's own model in this
process. Says nothing about its score.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from sn37.competition import Competition
from sn37.errors import DataFault, ModelFault
from sn37.miner.training import quiet
from sn37.scratch import ScratchFolder
from sn37.submission import content_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sn37.hub import Hub

__all__ = ["Preflight", "preflight", "published"]


@dataclass(frozen=True)
class Preflight:
    """A model that passed."""

    folder: Path
    """Where it lies."""
    competition: str
    """The competition's name."""
    architecture: str
    """Named in config.json, and loaded."""
    parameters: int
    """Of the loaded model, tied ones counted once."""
    bytes: int
    """Of all files that publishing sends."""
    norm: float
    """The largest of its linear layers."""
    content_hash: str
    """Of the files that publishing sends."""
    unexpected: tuple[str, ...]
    """Tensors in the files that the model does not use: a sign that config.json is not theirs."""

    def __repr__(self) -> str:
        text = (
            f"{self.folder} fits {self.competition}: {self.architecture}, {self.parameters:,} parameters, "
            f"{self.bytes:,} bytes, largest norm {self.norm:.1f}"
        )
        if not self.unexpected:
            return text
        return f"{text}; {len(self.unexpected)} tensors are not used, the first is {self.unexpected[0]!r}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


def preflight(folder: Path, competition: Competition, hub: Hub | None = None) -> Preflight:
    """Check a model's folder in the protocol's order. Raises ModelFault with the first reason.

    hub: where the competition's tokenizer is read, if it fixes one: its words must all have an embedding; the
    public hub for None. Raises HubFault and DataFault where it cannot be had.

    >>> print(preflight(Path("my-model"), public("DISTILLED_REASONING_3B")))  # doctest: +SKIP
    my-model fits DISTILLED_REASONING_3B: LlamaForCausalLM, 3,212,749,824 parameters, ...
    """
    from sn37.checks.files import check_contents, check_static
    from sn37.checks.weights import check_vocabulary, inspect, linear_norms, unexpected_tensors

    with published(folder) as sent:
        report = check_static(sent, competition.constraints)
        with quiet():
            model = inspect(sent, competition.constraints)
        check_vocabulary(model, _tokenizer(sent, competition, hub))
        return Preflight(
            folder=folder,
            competition=competition.name,
            architecture=report.architecture,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            bytes=report.bytes,
            norm=max((norm for _, norm in linear_norms(model)), default=0.0),
            content_hash=content_hash(sent),
            unexpected=unexpected_tensors(model, check_contents(sent)),
        )


@contextmanager
def published(folder: Path) -> Iterator[Path]:
    """A folder with links to the files that publishing sends, as a validator will have them."""
    from sn37.checks.files import published_files

    with ScratchFolder() as scratch:
        sent = scratch / "model"
        sent.mkdir()
        for name, path in published_files(folder).items():
            (sent / name).symlink_to(path.resolve())
        yield sent


def _tokenizer(sent: Path, competition: Competition, hub: Hub | None) -> PreTrainedTokenizerBase:
    """The competition's own, or the model's where it fixes none."""
    from sn37.checks.tokenizer import load_tokenizer
    from sn37.hub import Hub

    fixed = competition.constraints.tokenizer
    if fixed is None:
        return load_tokenizer(sent)
    with ScratchFolder() as cache:
        place, _ = (hub or Hub(cache=cache)).fetch_tokenizer(fixed)
        try:
            return load_tokenizer(place)
        except ModelFault as error:
            raise DataFault(f"the competition's tokenizer {fixed} cannot be used: {error}") from None
