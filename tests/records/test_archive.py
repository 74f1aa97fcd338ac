"""An epoch as one document: what is read back is what was packed, and nothing that a stranger makes up."""

import gzip
import json
import math
import random
from dataclasses import replace

import pytest
from simulated import COMPETITION, newest, simulate

from sn37.analysis import frames
from sn37.analysis.comparison import compare
from sn37.errors import EvaluatorFault
from sn37.records import Records, archive
from sn37.records.archive import origin_of, pack, unpack
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("records"), epochs=2, models=5)


def opened(packed):
    return json.loads(gzip.decompress(packed))


def test_what_is_unpacked_is_what_was_packed(records, tmp_path):
    there = Records(tmp_path)
    for epoch in records.sealed(COMPETITION.id):
        unpack(pack(epoch), there, "a", "here")
    for kind in frames.COLUMNS:
        assert getattr(frames, kind)(there).equals(getattr(frames, kind)(records)), kind
    epoch, again = newest(records), newest(there)
    assert (again.manifest, again.decision, again.results) == (epoch.manifest, epoch.decision, epoch.results)
    assert pack(again) == pack(epoch)
    assert origin_of(there, COMPETITION.id, epoch.sync_block) == "a"
    assert origin_of(there, COMPETITION.id, 1) == ""


def test_addresses_and_folders_are_neither_packed_nor_unpacked(records, tmp_path):
    epoch = unpack(pack(newest(records)), Records(tmp_path), "", "here")
    private = {
        "network": "wss://me:password@node.example:9944/key-in-the-path?apikey=1",
        "hub": "https://me:password@hub.example/path",
        "own_tasks": {"/home/me/tasks.py": "digest", "package:entry": None},
    }
    epoch.write(replace(epoch.manifest, **private))
    told = {"chain": "not set: wss://me:password@node.example", "mirror": "/home/me", "upload": "/home/me"}
    epoch.write(replace(epoch.read(Publication), **told))
    data = opened(pack(Epoch(epoch.folder)))
    for secret in ("/home/me", "password", "key-in-the-path", "apikey", "example"):
        assert secret not in json.dumps(data)
    data["manifest"] |= private
    again = unpack(gzip.compress(json.dumps(data).encode()), Records(tmp_path / "there"), "", "here").manifest
    assert (again.network, again.hub) == ("", None)
    assert set(again.own_tasks) == {"tasks.py", "package:entry"}


def talkative(epoch, root):
    """The epoch with replies of 2,000 characters that hardly shrink."""
    epoch = unpack(pack(epoch), Records(root), "", "here")
    for result in epoch.results.values():
        if result.measurement:
            task = result.tasks["QUESTIONS"]
            noise = [" ".join(repr(math.sin(n * 99 + i + result.uid)) for i in range(100)) for n in task.places]
            details = tuple({**d, "reply": text[:2_000]} for d, text in zip(task.details, noise, strict=True))
            tasks = {**result.tasks, "QUESTIONS": replace(task, details=details)}
            epoch.write(replace(result, measurement=replace(result.measurement, tasks=tasks)))
    return Epoch(epoch.folder)


def test_long_texts_are_cut_where_a_document_must_be_small_and_numbers_never(records, tmp_path):
    epoch = talkative(newest(records), tmp_path / "here")
    whole, size = frames.samples(epoch), len(pack(epoch))
    for longest in (500, 100, 20):
        packed = pack(epoch, size - 1)
        assert len(packed) < size
        again = unpack(packed, Records(tmp_path / str(longest)), "", "here")
        for kind in set(frames.COLUMNS) - {"samples"}:
            assert getattr(frames, kind)(again).equals(getattr(frames, kind)(epoch)), kind
        read = frames.samples(again)
        assert read.drop(columns=["reply", "prompt"]).equals(whole.drop(columns=["reply", "prompt"]))
        assert read["reply"].str.len().max() == longest
        cut = [(a, b) for a, b in zip(whole["reply"], read["reply"], strict=True) if a != b]
        assert cut and all(b.endswith("…") and a.startswith(b[:-1]) for a, b in cut)
        size = len(packed)
    again = unpack(pack(epoch, size - 1), Records(tmp_path / "least"), "", "here")
    assert all(getattr(frames, k)(again).equals(getattr(frames, k)(epoch)) for k in set(frames.COLUMNS) - {"samples"})
    assert not len(frames.samples(again))


def change(data, path, value):
    *folders, last = path
    for part in folders:
        data = data[part]
    data[last] = value


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (["format"], 1, "format 1; this version reads format"),
        (["manifest"], None, "manifest"),
        (["manifest", "sync_block"], "1", "sync_block"),
        (["manifest", "sync_block"], 7, "the decision is of sync block"),
        (["manifest", "competition", "epsilon", "start"], 0.2, "was changed"),
        (["manifest", "more"], 1, "unknown field more"),
        (["decision", "winner"], "5Nobody", "the reign is not of those with a score"),
        (["decision", "beats"], {}, "the duels are not of those with a score"),
        (["decision", "wins"], {}, "the duels are not of those with a score"),
        (["decision", "scores", 0, "score"], -1.0, "the duels are not of those with a score"),
        (["decision", "scores", 0, "uid"], 1 << 70, "with its uid and block"),
        (["manifest", "submissions", 0, "submission", "text"], None, "is no commitment"),
        (["manifest", "competition", "tasks", 0, "source"], {}, "was changed"),
        (["decision", "scores", 0, "raw"], {"OTHER": 1.0}, "is not of the tasks QUESTIONS, WORDS"),
        (["decision", "scores", 0, "score"], None, "is not of the tasks"),
        (["decision", "scores", 0, "score"], "0", "score"),
        (["decision", "scores", 0, "hotkey"], "../../5", "not one for each hotkey"),
        (["results", 0, "hotkey"], "../../../5", "not one for each hotkey"),
        (["results", 0, "measurement", "tasks", "WORDS", "values", 0], "1", "values"),
        (["results", 0, "measurement", "tasks", "WORDS", "values"], [1.0] * 21, "do not belong to its samples"),
        (["results", 0, "measurement", "tasks", "WORDS", "samples"], [99] * 20, "do not belong to its samples"),
        (["results", 0, "measurement", "tasks", "WORDS", "samples"], [0] * 20, "do not belong to its samples"),
        (["results", 0, "measurement", "tasks", "WORDS", "details"], [{}], "do not belong to its samples"),
        (["results", 0, "measurement", "tasks"], {"../x": None}, "tasks"),
        (["samples", "../WORDS"], [], "the samples are not of the tasks"),
        (["samples", "WORDS", 0], {"kind": "text", "text": 5}, "text"),
        (["samples", "WORDS", 0], {"kind": "own"}, "unknown kind of sample"),
        (["samples", "WORDS", 0], 5, "no sample"),
        (["published", "uids"], {}, "the weights are not of those with a uid"),
    ],
)
def test_a_document_that_does_not_hold_together_is_refused_and_leaves_nothing(records, tmp_path, path, value, told):
    data = opened(pack(newest(records)))
    change(data, path, value)
    with pytest.raises(EvaluatorFault, match=f"^a log: .*{told}|^a log is .*{told}") as caught:
        unpack(gzip.compress(json.dumps(data).encode()), Records(tmp_path), "", "a log")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def places(data, start=()):
    """The paths of all that a document holds."""
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield (*start, key)
        yield from places(data[key], (*start, key))


def test_whatever_is_changed_a_document_is_refused_or_shows_in_every_frame(tmp_path):
    """Two hundred documents with one place removed, doubled or replaced."""
    epoch = simulate(tmp_path / "own", epochs=1, models=3, samples=3).epoch()
    draw, whole, taken = random.Random(4), opened(pack(epoch)), 0
    anywhere = list(places(whole))
    for number in range(200):
        data = opened(pack(epoch))
        *folders, last = draw.choice(anywhere)
        place = data
        for part in folders:
            place = place[part]
        value = draw.choice([None, -1, 1 << 70, 1e308, "", "../..", "x" * 3_000, [], {}, [1], {"a": 1}, True, "REMOVE"])
        if value == "REMOVE":
            del place[last]
        elif value == "" and isinstance(place, list):
            place.append(place[last])
        else:
            place[last] = value
        there = Records(tmp_path / str(number))
        try:
            read = unpack(gzip.compress(json.dumps(data).encode()), there, "", "a log")
        except EvaluatorFault:
            assert not there.root.exists()
            continue
        taken += 1
        for kind in frames.COLUMNS:
            getattr(frames, kind)(there)
        compare(epoch, read)
        there.history(COMPETITION.id)
    assert 20 < taken < 100


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "9" * 5_000])
def test_numbers_that_are_none_are_refused(records, tmp_path, value):
    text = gzip.decompress(pack(newest(records))).decode()
    score = newest(records).decision.scores[0].score
    assert repr(score) in text
    with pytest.raises(EvaluatorFault, match=r"^a log"):
        unpack(gzip.compress(text.replace(repr(score), value).encode()), Records(tmp_path), "", "a log")
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_document_are_refused(records, tmp_path, monkeypatch):
    packed = pack(newest(records))
    monkeypatch.setattr(archive, "MAX_DOCUMENT_BYTES", 1 << 20)
    for wrong in (
        *(b"", b"text", packed[:-20], gzip.compress(b"[" * 100_000), gzip.compress(b"5")),
        gzip.compress(b"\xff"),
        gzip.compress(b" " * (2 << 20)),
    ):
        with pytest.raises(EvaluatorFault, match=r"^a log is (no document of an epoch|of format None)"):
            unpack(wrong, Records(tmp_path), "", "a log")
    assert list(tmp_path.iterdir()) == []
