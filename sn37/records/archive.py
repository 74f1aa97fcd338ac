"""A decided epoch as one document: what validators publish, and what is read back from whoever published it.

Gzipped JSON with everything an epoch's folder holds but the executed notebook, so that frames, figures and explanations
of what others have published need nothing of their own. A reader takes nothing on trust: sizes, types, names and
what belongs together are checked before a file is written. Whether the numbers are true it cannot know.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Annotated, Any

from sn37.documents import mistakes
from sn37.errors import EvaluatorFault, disk_faults
from sn37.files import write_text
from sn37.records import codec
from sn37.records.decision import Decision, Publication
from sn37.records.epochs import Epoch, Records
from sn37.records.manifest import Manifest
from sn37.records.results import Result
from sn37.sample import Sample, from_record, to_record
from sn37.submission import Commitment

__all__ = ["MAX_DOCUMENT_BYTES", "origin_of", "pack", "unpack"]

MAX_DOCUMENT_BYTES = 128 << 20
"""The largest document that is read, unpacked."""

_LIMITS = (500, 100, 20, 0)
"""Characters of each text that are kept where a document must be small; 0: no sample and no value of one."""
_ORIGIN = "origin"
_MAX_BLOCK = 1 << 40
_HOTKEY = re.compile(r"[A-Za-z0-9]{1,64}")


def _sample(data: Any) -> Sample:
    if not isinstance(data, dict):
        raise ValueError(f"{data!r} is no sample; expected its fields")
    kind: type[Sample] = type(from_record(data))
    value, found = mistakes(kind, {name: each for name, each in data.items() if name != "kind"}, "a sample")
    if value is None:
        raise ValueError(found[0])
    return value


@dataclass(frozen=True)
class _Document:
    """A decided epoch."""

    manifest: Manifest
    """What was planned, without what concerns the validator's own machine."""
    decision: Decision
    """What it came to."""
    published: Publication | None
    """What was set on the chain; None where nothing was."""
    results: tuple[Result, ...]
    """Each model's result on every sample."""
    samples: Mapping[str, tuple[Annotated[Sample, codec.Plain(_sample, to_record)], ...]]
    """Each task's samples, where the record still has them."""


def pack(epoch: Epoch, max_bytes: int | None = None) -> bytes:
    """A decided epoch as a document; equal epochs give equal bytes.

    max_bytes: where the document is larger, long texts (prompts, references, replies) are cut to a few hundred
    characters, to fewer, and in the end samples and the values of each are left out. No number is ever rounded.
    """
    manifest, published = epoch.manifest, epoch.read(Publication)
    document = _Document(
        manifest=_public(manifest),
        decision=epoch.decision,
        published=published and replace(published, chain="", mirror="", upload=""),
        results=tuple(epoch.results.values()),
        samples={task.name: kept for task in manifest.competition.tasks if (kept := epoch.samples(task.name))},
    )
    data = codec.to_data(document)
    packed = _zipped(data)
    for characters in _LIMITS:
        if max_bytes is None or len(packed) <= max_bytes:
            break
        packed = _zipped(_shortened(data, characters))
    return packed


def unpack(packed: bytes, records: Records, origin: str, place: str, of: tuple[int, int] | None = None) -> Epoch:
    """Write a document into the records as a sealed epoch, in place of one of the same sync block.

    origin: kept beside it, so that the same document need not be unpacked again (`origin_of`); place: where it is
    from, for messages; of: the competition and sync block it must be of. Raises EvaluatorFault, naming what is wrong,
    and leaves nothing behind.
    """
    document = codec.typed(_Document, _unzipped(packed, place), place)
    wrong = next(_mistakes(document), None)
    if wrong is not None:
        raise EvaluatorFault(f"{place}: {wrong}")
    manifest = _public(document.manifest)
    if of not in (None, (manifest.competition.id, manifest.sync_block)):
        raise EvaluatorFault(f"{place}: it is of competition {manifest.competition.id}, block {manifest.sync_block}")
    folder = records.root / str(manifest.competition.id) / str(manifest.sync_block)
    for old in (folder, folder.with_name(f"{folder.name}.work")):
        with disk_faults(old):
            shutil.rmtree(old, ignore_errors=True)
    epoch = records.begin(manifest.competition.id, manifest.sync_block)
    for part in (manifest, document.decision, document.published, *document.results):
        if part is not None:
            epoch.write(part)
    for task, samples in document.samples.items():
        epoch.write_samples(task, samples)
    write_text(epoch.folder / _ORIGIN, origin)
    return epoch.seal()


def origin_of(records: Records, competition_id: int, sync_block: int) -> str:
    """The origin of an epoch that was unpacked; "" where there is none."""
    path = records.root / str(competition_id) / str(sync_block) / _ORIGIN
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _public(manifest: Manifest) -> Manifest:
    """The manifest without addresses and folders: keys travel in addresses, and nobody's are to be reached."""
    network = "" if "://" in manifest.network else manifest.network
    own_tasks = {PurePath(name).name: digest for name, digest in manifest.own_tasks.items()}
    return replace(manifest, network=network, hub=None, own_tasks=own_tasks)


def _zipped(data: Mapping[str, object]) -> bytes:
    text = json.dumps({"format": codec.FORMAT, **data}, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return gzip.compress(text.encode(), mtime=0)


def _unzipped(packed: bytes, place: str) -> object:
    reader = zlib.decompressobj(wbits=31)
    try:
        text = reader.decompress(packed, MAX_DOCUMENT_BYTES)
        if not reader.eof:
            raise ValueError(f"it is cut, or longer than {MAX_DOCUMENT_BYTES:,} bytes")
        data = json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        raise EvaluatorFault(f"{place} is no document of an epoch: {error}") from None
    found = data.pop("format", None) if isinstance(data, dict) else None
    if found != codec.FORMAT:
        raise EvaluatorFault(f"{place} is of format {found!r}; this version reads format {codec.FORMAT}")
    return data


def _shortened(data: dict[str, Any], characters: int) -> dict[str, object]:
    """The document's data with no text of a sample or a reply longer than so many characters."""

    def cut(value: Any) -> Any:
        if isinstance(value, str):
            return value if len(value) <= characters else f"{value[: characters - 1]}…"
        if isinstance(value, dict):
            return {name: each if name in ("group", "kind") else cut(each) for name, each in value.items()}
        return [cut(each) for each in value] if isinstance(value, list) else value

    def cut_result(result: dict[str, Any]) -> dict[str, Any]:
        if result["measurement"] is None:
            return result
        tasks = result["measurement"]["tasks"].items()
        nothing: dict[str, object] = {"values": [], "details": [], "samples": []}
        short = {
            name: {**task, **({"details": cut(task["details"])} if characters else nothing)} for name, task in tasks
        }
        return {**result, "measurement": {**result["measurement"], "tasks": short}}

    samples = cut(data["samples"]) if characters else {}
    return {**data, "samples": samples, "results": [cut_result(result) for result in data["results"]]}


def _mistakes(document: _Document) -> Iterator[str]:
    """What of a document does not belong together."""
    manifest, decision, published = document.manifest, document.decision, document.published
    tasks = {task.name for task in manifest.competition.tasks}
    known = f"the tasks {', '.join(sorted(tasks))}"
    if manifest.sync_block != decision.sync_block or not 0 <= manifest.sync_block < _MAX_BLOCK:
        yield f"the decision is of sync block {decision.sync_block}, the plan of {manifest.sync_block}"
    submissions = [pick.submission for pick in manifest.submissions]
    for kind, found in (("submission", submissions), ("score", decision.scores), ("result", document.results)):
        if len({each.hotkey for each in found}) < len(found) or not all(map(_is_sound, found)):
            yield f"the {kind}s are not one for each hotkey, with its uid and block"
    for score in decision.scores:
        if not set(score.raw) == set(score.normalized) <= tasks or (score.score is None) != (score.fault is not None):
            yield f"the score of {score.hotkey} is not of {known}"
    losses = {score.hotkey: score.score for score in decision.scores if score.score is not None}
    tables = (decision.beats, decision.wins, decision.win_rate)
    if any(table.keys() != losses.keys() for table in tables) or min(losses.values(), default=0) < 0:
        yield "the duels are not of those with a score"
    if not {turn.hotkey for turn in decision.reign} <= losses.keys() or decision.winner not in (None, *losses):
        yield "the reign is not of those with a score"
    if published is not None and not published.weights.keys() <= published.uids.keys():
        yield "the weights are not of those with a uid"
    if not document.samples.keys() <= tasks:
        yield f"the samples are not of {known}"
    for result in document.results:
        for task, outcome in result.tasks.items():
            count, drawn = len(outcome.values), len(document.samples.get(task, ()))
            sound = len(outcome.samples) == len({*outcome.samples}) in (0, count) and len(outcome.details) in (0, count)
            if task not in tasks or not sound or not all(0 <= at < (drawn or _MAX_BLOCK) for at in outcome.places):
                yield f"the values of {result.hotkey} on {task} do not belong to its samples"


def _is_sound(one: Commitment) -> bool:
    return bool(_HOTKEY.fullmatch(one.hotkey)) and 0 <= one.uid < 1 << 16 and 0 <= one.block < _MAX_BLOCK
