"""Would a validator take this model? The protocol's checks (section 7), before anything is published.

Looks for every reason, not only the first, and says what to do about each. Judges what publishing would send, and
nothing else that lies in the folder. Loads the miner's own model in this process. Says nothing about its score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sn37.competition import Competition
from sn37.errors import DataFault, ModelFault
from sn37.evaluation.local import Data, model_folder
from sn37.html import table
from sn37.miner.training import quiet
from sn37.scratch import ScratchFolder
from sn37.submission import content_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sn37.hub import Hub

__all__ = ["Checked", "Reason", "check", "check_folder", "published"]

T = TypeVar("T")

_ADVICE = (
    (r"asks for code", "delete that key from the file: the architectures that count are built into transformers"),
    (r"is quantized|are quantized", "save the plain weights: merge the adapter, load without quantization, save anew"),
    (r"in another format|no safetensors weights", "save it again with save_pretrained(..., safe_serialization=True)"),
    (r"is code;", "remove the file from the folder"),
    (r"bytes; the competition", "save in bfloat16, and remove tensors that the model does not use"),
    (r"parameters; (the competition|expected)", "only a model of another size can take part"),
    (r"architecture .* is not allowed|exactly one architecture", "start from a model of an allowed architecture"),
    (r"no config\.json|is no folder", "name the folder that save_pretrained has written"),
    (r"not all finite", "the training has diverged: go back to an earlier checkpoint, or lower the learning rate"),
    (r"has? (a|the) norm", "the weights have grown too large: more weight decay, or a lower learning rate"),
    (r"tokens; the model knows", "resize the embeddings to the tokenizer, or save the model's own tokenizer with it"),
    (r"positions", "start from a model with longer positions, or change them in config.json before training"),
    (r"no safetensors file|in two files|does not place|does not hold", "the files do not belong together: save anew"),
    (r"tokenizer|template", "save the tokenizer of the model it was finetuned from again, without code of its own"),
)
"""What to do about a reason, by a pattern of its text; the first that fits."""


@dataclass(frozen=True)
class Reason:
    """Why a validator would refuse a model."""

    told: str
    """In the validator's own words."""

    @property
    def advice(self) -> str:
        """What to do about it; "" where nothing general can be said."""
        return next((advice for pattern, advice in _ADVICE if re.search(pattern, self.told)), "")

    def __str__(self) -> str:
        return f"{self.told} (what to do: {self.advice})" if self.advice else self.told


@dataclass(frozen=True)
class Checked:
    """What a validator's checks find in a model. True where it passes."""

    model: str
    """Its folder, or where it lies on the hub."""
    competition: str
    """The competition's name."""
    reasons: tuple[Reason, ...]
    """Every reason to refuse it, in the protocol's order; () where it passes. The first is what a validator tells."""
    architecture: str
    """Named in config.json; "" where it names none that counts."""
    parameters: int
    """Of the loaded model, tied ones counted once; 0 where it could not be loaded."""
    bytes: int
    """Of all files that publishing sends."""
    norm: float
    """The largest of its linear layers."""
    content_hash: str
    """Of the files that publishing sends."""
    unexpected: tuple[str, ...]
    """Tensors in the files that the model does not use: a sign that config.json is not theirs."""

    def __bool__(self) -> bool:
        return not self.reasons

    def raise_fault(self) -> None:
        """Raise ModelFault with all reasons; nothing where it passes."""
        if self.reasons:
            raise ModelFault("; ".join(map(str, self.reasons)))

    def __str__(self) -> str:
        if self.reasons:
            listed = "".join(f"\n  - {reason}" for reason in self.reasons)
            return f"{self.model} does not fit {self.competition}:{listed}"
        text = (
            f"{self.model} fits {self.competition}: {self.architecture}, {self.parameters:,} parameters, "
            f"{self.bytes:,} bytes, largest norm {self.norm:.1f}"
        )
        if not self.unexpected:
            return text
        return f"{text}; {len(self.unexpected)} tensors are not used, the first is {self.unexpected[0]!r}"

    def _repr_html_(self) -> str:
        rows = [(reason.told, reason.advice) for reason in self.reasons]
        return (
            f"<p>{escape(str(self).partition(':')[0])}</p>{table(('reason', 'what to do'), rows)}"
            if rows
            else (f"<p>{escape(str(self))}</p>")
        )


def check(model: str | Path, competition: Competition, data: Data | None = None) -> Checked:
    """Check a model as every validator of the competition does; finds all reasons, and raises none of them.

    model: a folder, or `user/repo@<full commit>`. data: the hub, where the model and the tokenizer that the competition
    fixes are fetched. Raises ConfigError where there is no model, HubFault and DataFault where the hub has no answer.

    >>> print(check("my-model", public("DISTILLED_REASONING_3B")))  # doctest: +SKIP
    my-model fits DISTILLED_REASONING_3B: LlamaForCausalLM, 3,212,749,824 parameters, ...
    """
    data = data or Data()
    with model_folder(model, data) as folder:
        return check_folder(folder, competition, data.hub, str(model))


def check_folder(folder: Path, competition: Competition, hub: Callable[[], Hub], name: str = "") -> Checked:
    """`check` of a folder. hub: opens the hub, where the competition fixes a tokenizer."""
    from sn37.checks import files, weights
    from sn37.engine.model import load

    constraints, found = competition.constraints, _Reasons()
    with published(folder) as sent:
        sizes = {path.name: path.stat().st_size for path in sent.iterdir()}
        found.of(lambda: files.check_size(sizes, constraints))
        found.of(lambda: files.check_files(sizes))
        code = found.of(lambda: list(files.code_reasons(sent)))
        found.told += code or []
        tensors = found.of(lambda: files.read_tensors(sent))
        architecture = found.of(lambda: files.read_architecture(sent, constraints))
        model = None
        if tensors is not None:
            found.of(lambda: files.check_count(sent, tensors, constraints))
        if tensors and architecture and code == []:
            found.of(lambda: weights.check_position_table(sent, constraints))
            with quiet():
                model = found.of(lambda: load(sent, constraints.dtype, "cpu", constraints.architectures))
        if model is not None:
            for look in weights.MODEL_CHECKS:
                found.of(partial(look, model, constraints))
        tokenizer = found.of(lambda: _tokenizer(sent, competition, hub))
        if model is not None and tokenizer is not None:
            found.of(partial(weights.check_vocabulary, model, tokenizer))
        return Checked(
            model=name or str(folder),
            competition=competition.name,
            reasons=tuple(map(Reason, found.told)),
            architecture=architecture or "",
            parameters=0 if model is None else sum(parameter.numel() for parameter in model.parameters()),
            bytes=sum(sizes.values()),
            norm=0.0 if model is None else max((norm for _, norm in weights.linear_norms(model)), default=0.0),
            content_hash=content_hash(sent),
            unexpected=() if model is None or tensors is None else weights.unexpected_tensors(model, tensors),
        )


class _Reasons:
    """Collects why a model is refused, each reason once."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def of(self, look: Callable[[], T]) -> T | None:
        """What a check returns; None where it refuses the model."""
        try:
            return look()
        except ModelFault as fault:
            if str(fault) not in self.told:
                self.told.append(str(fault))
            return None


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


def _tokenizer(sent: Path, competition: Competition, hub: Callable[[], Hub]) -> PreTrainedTokenizerBase:
    """The competition's own, or the model's where it fixes none."""
    from sn37.checks.tokenizer import load_tokenizer

    fixed = competition.constraints.tokenizer
    if fixed is None:
        return load_tokenizer(sent)
    place, _ = hub().fetch_tokenizer(fixed)
    try:
        return load_tokenizer(place)
    except ModelFault as error:
        raise DataFault(f"the competition's tokenizer {fixed} cannot be used: {error}") from None
