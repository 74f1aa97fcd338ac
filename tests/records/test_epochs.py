"""Records: sealed by one rename, folded into averages, never half-read."""

import errno
from pathlib import Path

import pytest
from recorded import decision, score, seal

from sn37.errors import ConfigError, EvaluatorFault
from sn37.files import read_json, write_json, write_text
from sn37.records.epochs import Records
from sn37.records.history import History
from sn37.sample import TextSample


def test_an_epoch_is_a_work_folder_until_it_is_sealed(tmp_path):
    records = Records(tmp_path)
    epoch = records.begin(4, 360)
    assert not epoch.sealed
    assert records.sealed(4) == []
    assert [e.folder for e in records.open()] == [epoch.folder]
    epoch.write(decision(360))
    place = epoch.seal()
    assert place.sealed
    assert (place.competition_id, place.sync_block) == (4, 360)
    assert records.begin(4, 360) == place
    assert list(records.open()) == []


def test_a_work_folder_that_holds_a_decision_but_was_never_renamed_is_not_decided(tmp_path):
    records = Records(tmp_path)
    records.begin(4, 360).write(decision(360, score(1, 1.0), winner="hot1"))
    assert records.sealed(4) == []
    assert records.history(4) == History()
    assert not records.begin(4, 360).sealed


def test_an_epoch_is_found_by_its_place_or_as_the_newest(tmp_path):
    records = Records(tmp_path)
    for competition, block in ((4, 360), (4, 1080), (5, 720)):
        seal(records, competition, decision(block))
    records.begin(5, 1440)
    assert records.epoch().sync_block == records.epoch(4).sync_block == 1080
    assert records.epoch(5).sync_block == 720, "an epoch at work is not decided"
    assert records.epoch(4, 360).sync_block == 360


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ((4, 800), "no decided epoch of competition 4 at sync block 800; the nearest is 1080"),
        ((4, -1), "the nearest is 360"),
        ((0, 361), "the nearest is 360"),
        ((6, 0), "no decided epoch of competition 6; expected 4"),
        ((6, 360), "no decided epoch of competition 6; expected 4"),
    ],
)
def test_a_wrong_place_names_what_there_is_and_makes_nothing(tmp_path, place, told):
    records = Records(tmp_path)
    for block in (360, 1080):
        seal(records, 4, decision(block))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=told):
        records.epoch(*place)
    with pytest.raises(ConfigError, match=r"no decided epoch in .*nowhere; expected a validator's folder"):
        Records(tmp_path / "nowhere").epoch(*place)
    assert sorted(tmp_path.rglob("*")) == before


def test_epochs_come_in_the_order_of_their_blocks_whatever_the_order_of_sealing(tmp_path):
    records = Records(tmp_path)
    for block in (1080, 99_360, 360, 720):
        seal(records, 4, decision(block))
    assert [e.sync_block for e in records.sealed(4)] == [360, 720, 1080, 99_360]
    assert [e.sync_block for e in records.sealed(4, before=1080)] == [360, 720]


def test_the_average_is_a_fold_over_the_decided_epochs_of_one_competition(tmp_path):
    records = Records(tmp_path)
    for block, winner in ((360, 1), (720, 2), (1080, None), (1440, 2)):
        losses = [score(uid, 1.0 if winner else None) for uid in (1, 2)]
        seal(records, 4, decision(block, *losses, winner=winner and f"hot{winner}"))
    seal(records, 5, decision(360, score(3, 1.0), winner="hot3"))
    # By hand: 1 -> (0.9, 0.1) -> unchanged -> (0.81, 0.19)
    assert records.history(4).average(0.9) == pytest.approx({"hot1": 0.81, "hot2": 0.19})
    assert records.history(4, before=1440).average(0.9) == pytest.approx({"hot1": 0.9, "hot2": 0.1})
    assert records.competitions() == [4, 5]


def test_the_same_data_gives_the_same_bytes(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": (1, 2), "c": frozenset({"y", "x"})})
    write_json(tmp_path / "b.json", {"c": {"x", "y"}, "a": [1, 2], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    target = tmp_path / "a.json"
    write_text(target, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sn37.files.os.fsync", full)
    with pytest.raises(EvaluatorFault, match=r"cannot write .*a\.json: No space left"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", ["", "{", '{"winner": "a"', "\x00"])
def test_a_damaged_record_is_named_not_ignored(tmp_path, content):
    path = tmp_path / "decision.json"
    path.write_text(content)
    with pytest.raises(EvaluatorFault, match=r"decision\.json cannot be read"):
        read_json(path)


def test_a_value_that_is_no_data_has_no_place_in_a_record(tmp_path):
    with pytest.raises(TypeError, match="PosixPath"):
        write_json(tmp_path / "a.json", {"a": Path("x")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_has_no_place_in_a_record(tmp_path, number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": number})
    epoch = Records(tmp_path).begin(4, 360)
    with pytest.raises(ValueError, match="not JSON compliant"):
        epoch.write(decision(360, score(1, 1.0, raw={"A": number})))
    assert list(epoch.folder.iterdir()) == []


def test_samples_come_back_line_by_line(tmp_path):
    epoch = Records(tmp_path).begin(4, 360)
    samples = (TextSample("a\u2028b", group="page 1"), TextSample("c"))
    epoch.write_samples("T", samples)
    assert epoch.samples("T") == samples
    assert len(epoch.samples_file("T").read_bytes().splitlines()) == 2
