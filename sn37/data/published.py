"""Records that validators have published, read back into records: from the hub, from wandb, from wandb's own files.

Whatever comes is a stranger's: documents are bounded and checked (`sn37.records.archive`), the others are left out with
a warning that says why. What a validator says of itself (its hotkey, its numbers) is its claim: compare validators.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock

from sn37.data.logs import read_log
from sn37.data.runs import WandbRuns
from sn37.errors import ConfigError, DataFault, EvaluatorFault, disk_faults
from sn37.files import started_from
from sn37.hub import Hub
from sn37.hub.connection import RemoteFile
from sn37.records.archive import MAX_DOCUMENT_BYTES, origin_of, unpack
from sn37.records.epochs import Records
from sn37.scratch import ScratchFolder
from sn37.sources.base import DataRow, Run

__all__ = ["RECORD_FIELD", "RecordsSource", "dataset_file", "open_records"]

RecordsSource = Records | Path | str
"""A validator's records, or where they are."""

RECORD_FIELD = "record"
"""The field of a wandb step that holds an epoch: base64 of what `sn37.records.archive.pack` makes."""

_DATASET = re.compile(r"hf://([^/@]+/[^/@]+)(?:@([0-9a-f]{40}))?")
_PROJECT = re.compile(r"wandb://([^/]+/[^/]+)(?:/([^/]+))?")
_EPOCH_FILE = re.compile(r"([0-9]{1,2})/([0-9]{1,12})\.json\.gz")
_HOTKEY = re.compile(r"[A-Za-z0-9]{1,64}")
_MAX_PACKED_BYTES = MAX_DOCUMENT_BYTES // 4
_MAX_READ_BYTES = 10 << 30
"""The most that is unpacked at once from one place."""
_PROJECT_DAYS = 60
_MAX_BLOCK = 1 << 40
"""No chain comes so far; a number of a thousand digits is no name of a file."""
_FILES_AT_ONCE = 20
_STEPS_AT_ONCE = 5


def open_records(
    source: RecordsSource | Mapping[str, RecordsSource],
    *,
    last: int = 100,
    hub: Hub | None = None,
    runs: WandbRuns | None = None,
    cache: Path = Path("~/.cache/sn37"),
) -> Records | dict[str, Records]:
    """A validator's records, wherever they are; several validators' by name.

    source: a validator's folder, or its records (from where the program, or the notebook server, was started);
    `hf://user/dataset`, with
    `@commit` if it must be that one; `wandb://entity/project/run`; `wandb://entity/project` for the runs of all
    validators in the last 60 days, by hotkey; a `.wandb` file, or a folder with such; or any of them by name.
    last: so many of the newest epochs of each competition are read, of what is not a folder of records already.
    hub, runs: how to reach a hub (None: the public one, without a token) and wandb (None: as wandb is set up).
    cache: where what was read is kept, as records.

    Raises ConfigError where there is nothing to read, DataFault where nothing of it can be read; HubFault,
    EvaluatorFault.

    >>> from sn37.analysis import frames
    >>> frames.models(open_records("hf://some-validator/records", last=50))
    """
    if isinstance(source, Records):
        return source
    if isinstance(source, Mapping):
        opened = {name: open_records(each, last=last, hub=hub, runs=runs, cache=cache) for name, each in source.items()}
        return {name: records for name, found in opened.items() for name, records in _named(name, found)}
    text, folder = str(source), cache.expanduser() / "published"
    if match := _DATASET.fullmatch(text):
        return _of_dataset(hub or Hub(cache=cache.expanduser() / "models"), match[1], match[2], folder, last)
    if match := _PROJECT.fullmatch(text):
        reader = replace(runs or WandbRuns(), page_steps=_STEPS_AT_ONCE)
        return _of_runs(_served(reader, match[1], match[2]), text, folder, last)
    if isinstance(source, str) and "://" in text:
        known = "a folder, a .wandb file, hf://user/dataset, wandb://entity/project or wandb://entity/project/run"
        raise ConfigError(f"{text} names no records; expected {known}")
    path = started_from() / Path(source).expanduser()
    files = [path] if path.suffix == ".wandb" else sorted({*path.glob("run-*.wandb"), *path.glob("*/run-*.wandb")})
    if files:
        return _of_runs(_logs(files[::-1]), str(path), folder, last)
    return Records(path / "records" if (path / "records").is_dir() else path)


def dataset_file(competition_id: int, sync_block: int) -> str:
    """The path of an epoch in a dataset of records: what `sn37.records.archive.pack` makes."""
    return f"{competition_id}/{sync_block}.json.gz"


def _named(name: str, found: Records | dict[str, Records]) -> Iterator[tuple[str, Records]]:
    """Each validator under a name of its own."""
    if isinstance(found, Records):
        yield name, found
    else:
        yield from ((f"{name} {hotkey}", records) for hotkey, records in found.items())


def _of_dataset(hub: Hub, repo: str, commit: str | None, cache: Path, last: int) -> Records:
    """The epochs of a dataset on the hub, a file each."""
    records = _kept(cache, f"{hub.endpoint}/{repo}")
    commit = commit or hub.newest_commit(repo, "dataset", None)
    epochs: dict[int, dict[int, RemoteFile]] = defaultdict(dict)
    for file in hub.dataset_files(repo, commit):
        if match := _EPOCH_FILE.fullmatch(file.path):
            epochs[int(match[1])][int(match[2])] = file
    if not epochs:
        raise ConfigError(f"the dataset {repo} holds no records; expected files such as 4/5200211.json.gz")
    newest = [(id, block, files[block]) for id, files in epochs.items() for block in sorted(files)[-last:]]
    with _Reading(records, repo) as reading:
        wanted = [found for found in newest if reading.wants(*found[:2], found[2].blob, found[2].size)]
        for start in range(0, len(wanted), _FILES_AT_ONCE):
            batch = wanted[start : start + _FILES_AT_ONCE]
            with ScratchFolder() as folder:
                hub.save_dataset_files(repo, commit, [file for _, _, file in batch], folder)
                for id, block, file in batch:
                    reading.take(id, block, (folder / file.path).read_bytes(), file.blob)
    if not records.competitions():
        raise DataFault(reading.told)
    return records


def _logs(files: Sequence[Path]) -> Iterator[Run]:
    """The runs in wandb's own files; of several, those that are none (wandb was killed) are left out with a warning."""
    for file in files:
        try:
            yield read_log(file)
        except ConfigError as error:
            if len(files) == 1:
                raise
            warnings.warn(f"left out {error}", stacklevel=4)


def _served(reader: WandbRuns, project: str, run: str | None) -> Iterator[Run]:
    """A validator's run, or all of a project's, the newest first."""
    if run is not None:
        yield reader.run(project, run)
        return
    now = datetime.now(UTC)
    yield from reversed(reader(project, now - timedelta(days=_PROJECT_DAYS), now))


def _of_runs(runs: Iterable[Run], place: str, cache: Path, last: int) -> Records | dict[str, Records]:
    """The epochs in the steps of runs, the newest first; of several validators by hotkey."""
    found: dict[str, Records] = {}
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    refused = ""
    for run in runs:
        hotkey = run.config.get("hotkey")
        if run.config.get("type") != "validator" or not isinstance(hotkey, str) or not _HOTKEY.fullmatch(hotkey):
            continue
        records, count = found.setdefault(hotkey, _kept(cache, f"{place} {hotkey}")), counts[hotkey]
        if count and min(count.values()) >= last:
            continue
        with _Reading(records, f"run {run.id}") as reading:
            for row in reversed(reading.rows(run)):
                id, block, text = (row.get(name) for name in ("step_competition_id", "block", RECORD_FIELD))
                if not (isinstance(text, str) and isinstance(id, int) and isinstance(block, int)):
                    continue
                if not (0 <= id < 100 and 0 <= block < _MAX_BLOCK):
                    continue
                count[id] += 1
                origin = hashlib.sha256(text.encode()).hexdigest()
                if count[id] <= last and reading.wants(id, block, origin, len(text)):
                    reading.take(id, block, _decoded(text), origin)
        refused = reading.told or refused
    found = {hotkey: records for hotkey, records in found.items() if records.competitions()}
    if refused and not found:
        raise DataFault(refused)
    if not found:
        raise ConfigError(f"{place} holds no run of a validator with its records; expected steps with `{RECORD_FIELD}`")
    return found if len(found) > 1 else next(iter(found.values()))


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""


def _kept(cache: Path, identity: str) -> Records:
    """Where the epochs of one place are kept."""
    return Records(cache / hashlib.sha256(identity.encode()).hexdigest()[:16])


class _Reading:
    """One reader at a time fills a cache; what is refused is warned of."""

    def __init__(self, records: Records, place: str) -> None:
        self.records, self.place = records, place
        self.refused: list[str] = []
        self.bytes = 0

    def __enter__(self) -> _Reading:
        with disk_faults(self.records.root):
            self.records.root.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.records.root / ".lock")
            self._lock.acquire()
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        self._lock.release()
        if self.refused and error is None:
            warnings.warn(self.told, stacklevel=4)

    @property
    def told(self) -> str:
        """What was left out and why; "" for nothing."""
        if not self.refused:
            return ""
        return f"left out {len(self.refused)} of what {self.place} holds, the first one: {self.refused[0]}"

    def wants(self, competition_id: int, sync_block: int, origin: str, size_bytes: int) -> bool:
        """Whether a document is to be read: it is not too long, and not here already."""
        if size_bytes > _MAX_PACKED_BYTES:
            self.refused.append(f"block {sync_block} has {size_bytes:,} bytes, more than {_MAX_PACKED_BYTES:,}")
            return False
        return origin_of(self.records, competition_id, sync_block) != origin

    def rows(self, run: Run) -> list[DataRow]:
        """A run's steps, oldest first; none, which is noted, where they cannot be had: others still can."""
        try:
            return list(run.history)
        except (DataFault, EvaluatorFault) as error:
            self.refused.append(str(error))
            return []

    def take(self, competition_id: int, sync_block: int, packed: bytes, origin: str) -> None:
        """Unpack the document of an epoch, or note why not."""
        if self.bytes > _MAX_READ_BYTES:
            self.refused.append(f"block {sync_block} comes after {_MAX_READ_BYTES:,} bytes: ask for fewer epochs")
            return
        try:
            place = f"{self.place}, block {sync_block}"
            epoch = unpack(packed, self.records, origin, place, (competition_id, sync_block))
        except EvaluatorFault as error:
            self.refused.append(str(error))
        else:
            self.bytes += sum(path.stat().st_size for path in epoch.folder.rglob("*"))
