"""Would a validator take this model? The protocol's checks (section 7), on a folder, before anything is published.

Loads the miner's own model in this process. Says nothing about its score.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from sn37.competition import Competition
from sn37.errors import ModelFault
from sn37.miner.training import quiet
from sn37.submission import content_hash

__all__ = ["Preflight", "preflight"]


@dataclass(frozen=True)
class Preflight:
    """A model that passed. content_hash: of its files; norm: the largest of its linear layers; bytes: of all files."""

    folder: Path
    competition: str
    architecture: str
    parameters: int
    bytes: int
    norm: float
    content_hash: str

    def __str__(self) -> str:
        return (
            f"{self.folder} fits {self.competition}: {self.architecture}, {self.parameters:,} parameters, "
            f"{self.bytes:,} bytes, largest norm {self.norm:.1f}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


def preflight(folder: Path, competition: Competition, tokenizer: Path | None = None) -> Preflight:
    """Check a model's folder in the protocol's order. Raises ModelFault with the first reason.

    tokenizer: folder of the competition's tokenizer, where it fixes one; its words must all have an embedding.
    """
    from sn37.checks.files import check_static
    from sn37.checks.tokenizer import load_tokenizer
    from sn37.checks.weights import check_vocabulary, inspect, linear_norms

    report = check_static(folder, competition.constraints)
    nested = [name for name in report.files if "/" in name]
    if nested:
        raise ModelFault(f"{nested[0]} lies in a sub-folder, which is not published; move it out of {folder}")
    with quiet():
        model = inspect(folder, competition.constraints)
    check_vocabulary(model, load_tokenizer(tokenizer or folder))
    return Preflight(
        folder=folder,
        competition=competition.name,
        architecture=report.architecture,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bytes=report.bytes,
        norm=max((norm for _, norm in linear_norms(model)), default=0.0),
        content_hash=content_hash(folder),
    )
