"""Where two records of one epoch differ, and why they are likely to: two validators', or an epoch's and its replay's.

    compare(records.sealed(4)[-1], replayed)

Reads records and nothing else. What validators need not share (when a result was finished, how long it took) is not
compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, TypeVar

from sn37.html import table
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch
from sn37.records.faults import printable
from sn37.records.results import Measurement, Result
from sn37.submission import Commitment

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Comparison", "Difference", "compare", "paired"]

T = TypeVar("T")

_PLAN = ("netuid", "block_hash", "competition_digest", "as_of", "figures", "limits", "tokenizer")
"""What of a manifest validators must share to come to equal decisions."""


@dataclass(frozen=True)
class Difference:
    """One place in which two records differ."""

    stage: str
    """Where it comes in: plan, data, model, sample, score, decision or weights."""
    place: str
    """What differs: a field, a task, a model's uid."""
    first: object
    """What the first record has; None where it has nothing."""
    second: object
    """What the second record has."""

    def __str__(self) -> str:
        return f"{self.stage}: {self.place}: {_short(self.first)} / {_short(self.second)}"


@dataclass(frozen=True)
class Comparison:
    """Two records of one epoch, compared."""

    first: Epoch
    """One record."""
    second: Epoch
    """The other."""
    differences: tuple[Difference, ...]
    """In the order of an epoch's stages: what differs first is the likely cause of what follows."""
    compared: int
    """How many values of samples both have."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is likely to have made the difference, in sentences."""
        return tuple(_reasons(self))

    @cached_property
    def samples(self) -> DataFrame:
        """Each sample's values: `uid`, `hotkey`, `task`, `sample`, `first`, `second`, `difference` (second - first)."""
        import pandas

        rows = [
            (one.uid, one.hotkey, task, place, mine, theirs, theirs - mine)
            for one, task, pairs in _values(self.first, self.second)
            for place, (mine, theirs) in pairs.items()
        ]
        names = ["uid", "hotkey", "task", "sample", "first", "second", "difference"]
        return pandas.DataFrame(rows, columns=names)

    def __repr__(self) -> str:
        # A record may be a stranger's, and a terminal obeys control characters.
        return "\n".join(map(printable, [self._summary, *(f"  {one}" for one in self.differences), *self.reasons]))

    @property
    def _summary(self) -> str:
        found = f"{len(self.differences)} differences" if self.differences else "equal to the last digit"
        epoch = self.first
        return f"competition {epoch.competition_id} at {epoch.sync_block}: {self.compared} values compared, {found}"

    def _repr_html_(self) -> str:
        rows = [(one.stage, one.place, _short(one.first), _short(one.second)) for one in self.differences]
        said = "".join(f"<p>{escape(text)}</p>" for text in (self._summary, *self.reasons))
        return said + (table(("stage", "place", "first", "second"), rows) if rows else "")


def compare(first: Epoch, second: Epoch) -> Comparison:
    """Compare two records of one epoch, value by value. Raises EvaluatorFault where one cannot be read."""
    compared = sum(len(pairs) for _, _, pairs in _values(first, second))
    return Comparison(first, second, tuple(_differences(first, second)), compared)


def paired(first: Iterable[Epoch], second: Iterable[Epoch]) -> tuple[list[tuple[Epoch, Epoch]], list[Epoch]]:
    """The epochs that both have, side by side in the order of competitions and sync blocks; those only one has."""
    mine, theirs = ({(epoch.competition_id, epoch.sync_block): epoch for epoch in found} for found in (first, second))
    both = [(mine[place], theirs[place]) for place in sorted(mine.keys() & theirs.keys())]
    alone = sorted(mine.keys() ^ theirs.keys())
    return both, [{**mine, **theirs}[place] for place in alone]


def _differences(first: Epoch, second: Epoch) -> Iterator[Difference]:
    yield from _of_plan(first, second)
    yield from _of_data(first, second)
    yield from _of_models(first, second)
    yield from _of_samples(first, second)
    yield from _of_scores(first, second)
    yield from _of_decision(first, second)


def _of_plan(first: Epoch, second: Epoch) -> Iterator[Difference]:
    mine, theirs = first.manifest, second.manifest
    for name in _PLAN:
        yield from _unequal("plan", name, getattr(mine, name), getattr(theirs, name))
    chosen = ({p.submission.hotkey: p for p in one.submissions} for one in (mine, theirs))
    for hotkey, a, b in _paired(*chosen):
        uid = next(pick.submission.uid for pick in (a, b) if pick)
        said = (None if pick is None else (pick.evaluate, pick.submission.text) for pick in (a, b))
        yield from _unequal("plan", f"the submission of uid {uid} ({hotkey[:8]})", *said)


def _of_data(first: Epoch, second: Epoch) -> Iterator[Difference]:
    for task, a, b in _paired(first.manifest.data, second.manifest.data):
        yield from _unequal("data", f"{task}, digest of the samples", a and a.digest[:16], b and b.digest[:16])
        for repo, at, then in _paired(a.revisions if a else {}, b.revisions if b else {}):
            yield from _unequal("data", f"{task}, commit of {repo}", at, then)


def _of_models(first: Epoch, second: Epoch) -> Iterator[Difference]:
    for hotkey, a, b in _paired(first.results, second.results):
        place = f"uid {_uid(a, b)} ({hotkey[:8]})"
        yield from _unequal("model", f"{place}, content hash", a and a.content_hash, b and b.content_hash)
        faults = (one.fault.reason if one and one.fault else None for one in (a, b))
        yield from _unequal("model", f"{place}, fault", *faults)


def _of_samples(first: Epoch, second: Epoch) -> Iterator[Difference]:
    for one, task, pairs in _values(first, second):
        apart = {place: pair for place, pair in pairs.items() if pair[0] != pair[1]}
        if apart:
            most = max(apart, key=lambda place: abs(apart[place][0] - apart[place][1]))
            place = f"uid {one.uid}, {task}: {len(apart)} of {len(pairs)} values, the most at sample {most}"
            yield Difference("sample", place, *apart[most])


def _of_scores(first: Epoch, second: Epoch) -> Iterator[Difference]:
    scores = ({score.hotkey: score for score in one.decision.scores} for one in (first, second))
    for hotkey, a, b in _paired(*scores):
        yield from _unequal("score", f"uid {_uid(a, b)} ({hotkey[:8]})", a and a.score, b and b.score)


def _of_decision(first: Epoch, second: Epoch) -> Iterator[Difference]:
    mine, theirs = first.decision, second.decision
    yield from _unequal("decision", "winner", mine.winner, theirs.winner)
    for hotkey, a, b in _paired(mine.set_aside, theirs.set_aside):
        yield from _unequal("decision", f"set aside: {hotkey[:8]}", a, b)
    # Each validator may fund competitions as it likes: that changes its weights, and no decision.
    yield from _unequal("weights", "shares", dict(first.manifest.shares), dict(second.manifest.shares))
    one, other = first.read(Publication), second.read(Publication)
    if one is not None and other is not None and one.weights and other.weights:
        yield from _unequal("weights", "by hotkey", dict(one.weights), dict(other.weights))


def _values(first: Epoch, second: Epoch) -> Iterator[tuple[Result, str, dict[int, tuple[float, float]]]]:
    """(a result, task, sample -> both values) of everything that both have measured."""
    for _, a, b in _paired(first.results, second.results):
        for task, mine, theirs in _paired(a.tasks if a else {}, b.tasks if b else {}):
            if a is not None and mine is not None and theirs is not None:
                other = dict(zip(theirs.places, theirs.values, strict=True))
                pairs = zip(mine.places, mine.values, strict=True)
                yield a, task, {place: (value, other[place]) for place, value in pairs if place in other}


def _reasons(comparison: Comparison) -> Iterator[str]:
    """What explains the first stage in which something differs; later stages follow from it."""
    first, second = comparison.first, comparison.second
    if comparison.equal:
        return
    stages = [one.stage for one in comparison.differences]
    mine, theirs = first.manifest, second.manifest
    versions = _listed(mine.versions, theirs.versions)
    if mine.block_hash != theirs.block_hash:
        yield "likely reason: the records are of different chains: the sync block has another hash"
    elif "plan" in stages:
        names = [one.place for one in comparison.differences if one.stage == "plan"]
        yield f"likely reason: the two planned differently ({', '.join(names[:5])})"
    elif "data" in stages:
        moved = any("commit of" in one.place for one in comparison.differences)
        what = "the data were read at other commits" if moved else "the same commits gave other samples"
        yield f"likely reason: {what}{f'; versions differ: {versions}' if versions else ''}"
    elif "model" in stages:
        yield "likely reason: one of the two could not have, or did not accept, the same model"
    elif "sample" in stages:
        conditions = [_conditions(epoch) for epoch in (first, second)]
        ran = _listed(*conditions)
        told = "; ".join(text for text in (ran, versions and f"versions: {versions}") if text)
        yield f"likely reason: {told or 'none recorded: another processor, or a changed record'}"
    elif mine.shares != theirs.shares and {*stages} == {"weights"}:
        yield "likely reason: the two fund competitions differently"
    else:
        yield "likely reason: none recorded: equal values were decided on differently, or a record was changed"


def _conditions(epoch: Epoch) -> dict[str, str]:
    """What the values of an epoch were computed with."""
    made = [one.measurement for one in epoch.results.values() if one.measurement is not None]
    return {
        name: ", ".join(sorted({_text(one, name) for one in made})) for name in ("device", "dtype", "engine", "plan")
    }


def _text(measurement: Measurement, name: str) -> str:
    value = getattr(measurement, name)
    return str(dict(sorted(value.items()))) if isinstance(value, Mapping) else str(value)


def _listed(first: Mapping[str, str], second: Mapping[str, str]) -> str:
    """What differs between two mappings, in words; "" where nothing does."""
    return ", ".join(f"{name} {a or 'none'} / {b or 'none'}" for name, a, b in _paired(first, second) if a != b)


def _paired(first: Mapping[str, T], second: Mapping[str, T]) -> Iterator[tuple[str, T | None, T | None]]:
    """(key, value in the first, value in the second) in the order of the keys."""
    for key in sorted(first.keys() | second.keys()):
        yield key, first.get(key), second.get(key)


def _unequal(stage: str, place: str, first: object, second: object) -> Iterator[Difference]:
    if first != second:
        yield Difference(stage, place, first, second)


def _uid(*found: Commitment | None) -> int:
    return next(one.uid for one in found if one is not None)


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
