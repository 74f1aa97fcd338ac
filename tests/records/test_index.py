"""A fold over the index is the fold over the epochs' own folders, whatever happened to either."""

import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import decision, folded, score, seal

from sn37.errors import EvaluatorFault
from sn37.records import index
from sn37.records.epochs import Records

BLOCKS = st.integers(0, 8).map(lambda number: 360 * number)
LOSSES = st.one_of(st.none(), st.floats(0, 1e300))
SCORES = st.lists(st.tuples(st.integers(1, 4), st.sampled_from("ab"), LOSSES), max_size=4, unique_by=lambda s: s[0])


def made(block, rows, winner=None):
    scores = [score(uid, loss, text=text, block=block) for uid, text, loss in rows]
    best = min((s for s in scores if s.score is not None), key=lambda s: s.score, default=None)
    return decision(block, *scores, winner=winner or (best and best.hotkey))


def plain(records, before=None, remembered=3):
    return folded((epoch.decision for epoch in records.sealed(4, before)), remembered)


@pytest.fixture
def records(tmp_path):
    records = Records(tmp_path)
    for block in (360, 720, 1080):
        seal(records, 4, made(block, [(1, "a", 1.5), (2, "b", block / 1000)]))
    assert records.history(4) == plain(records)
    return records


def folder_of(records):
    return records.root / "4"


def change(records, action, block, rows):
    """Do to the records what people and crashes do; the clock of a file's time may stand still."""
    folder = folder_of(records)
    place = folder / str(block)
    if action in ("seal", "replace"):
        shutil.rmtree(place, ignore_errors=True)
        seal(records, 4, made(block, rows))
    elif action == "remove":
        shutil.rmtree(place, ignore_errors=True)
    elif action == "lose the index":
        (folder / index.INDEX_FILE).unlink(missing_ok=True)
    elif action == "empty the index" and folder.is_dir():
        (folder / index.INDEX_FILE).write_bytes(b"")


ACTIONS = ("seal", "replace", "remove", "lose the index", "empty the index", "nothing")
CHANGES = st.lists(st.tuples(st.sampled_from(ACTIONS), BLOCKS, SCORES), max_size=8)


@given(CHANGES, st.one_of(st.none(), BLOCKS), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_the_fold_over_the_index_is_the_plain_fold(tmp_path_factory, changes, before, remembered):
    records = Records(tmp_path_factory.mktemp("records"))
    for action, block, rows in changes:
        change(records, action, block, rows)
        assert records.history(4) == plain(records)
        assert records.history(4, before, remembered) == plain(records, before, remembered)


def test_only_what_is_new_or_changed_is_read_again(records, monkeypatch):
    read = []
    original = type(records.sealed(4)[0]).decision.func
    monkeypatch.setattr(
        "sn37.records.epochs.Epoch.decision", property(lambda e: read.append(e.sync_block) or original(e))
    )
    records.history(4)
    assert read == []
    seal(records, 4, made(1440, [(1, "a", 1.0)]))
    records.history(4)
    assert read == [1440]
    (folder_of(records) / "720" / "decision.json").touch()
    records.history(4, before=720)
    assert read == [1440, 720]


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_damaged_index_is_made_again(records, place):
    file = folder_of(records) / index.INDEX_FILE
    whole = file.read_bytes()
    spoiled = bytearray(whole)
    spoiled[place] ^= 1
    for content in (bytes(spoiled), whole[: len(whole) // 2], b"", b"nonsense" * 99):
        file.write_bytes(content)
        assert records.history(4) == plain(records)
        assert file.read_bytes() == whole


def test_a_decision_that_was_changed_in_its_place_counts_as_it_is_now(records):
    path = folder_of(records) / "720" / "decision.json"
    path.write_text(path.read_text().replace("hot2", "hot9"))
    assert records.history(4) == plain(records)
    assert "hot9" in records.history(4).winners


def test_an_epoch_that_lost_its_decision_is_named_with_and_without_an_index(records):
    (folder_of(records) / "720" / "decision.json").unlink()
    for fold in (records.history, lambda _: plain(records)):
        with pytest.raises(EvaluatorFault, match=r"720.*decision\.json"):
            fold(4)


def test_a_damaged_decision_is_named_whatever_the_index_knows(records):
    (folder_of(records) / "720" / "decision.json").write_text("{")
    with pytest.raises(EvaluatorFault, match=r"decision\.json cannot be read"):
        records.history(4)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_records_that_cannot_be_written_are_folded_all_the_same(records):
    (folder_of(records) / index.INDEX_FILE).unlink()
    folder_of(records).chmod(0o555)
    try:
        assert records.history(4) == plain(records)
    finally:
        folder_of(records).chmod(0o755)


def test_a_disk_that_takes_no_index_stops_no_fold(records, monkeypatch):
    def full(path, data):
        raise EvaluatorFault("no space left")

    (folder_of(records) / index.INDEX_FILE).unlink()
    monkeypatch.setattr("sn37.records.index.write_bytes", full)
    assert records.history(4) == plain(records)


def test_a_competition_without_records_has_an_empty_history(tmp_path):
    assert Records(tmp_path).history(4) == folded(())
    assert list(tmp_path.iterdir()) == []
