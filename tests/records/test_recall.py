"""A plan read back from its manifest is the plan that was made."""

import json

import pytest

from sn37.competitions import public_competitions, read_competition
from sn37.devnet.world import COMPETITION
from sn37.errors import ChainFault, EvaluatorFault, HubFault, SubmissionFault
from sn37.files import read_json, write_json
from sn37.records.epochs import Records
from sn37.records.faults import Fault
from sn37.records.recall import competition_of, picks_of
from sn37.submission import Submission
from sn37.validator.stages import kept_fault

EVERY = [*public_competitions(), read_competition(COMPETITION)]


def manifest_of(competition, tmp_path):
    path = tmp_path / "manifest.json"
    write_json(path, {"competition": competition.to_dict(), "competition_digest": competition.digest})
    return read_json(path)


@pytest.mark.parametrize("competition", EVERY, ids=lambda competition: competition.name)
def test_a_competition_comes_back_from_its_record_as_it_was(competition, tmp_path):
    found = competition_of(manifest_of(competition, tmp_path))
    assert found == competition
    assert found.digest == competition.digest


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda m: m["competition"]["constraints"].update(max_bytes=1), "was changed after the epoch"),
        (lambda m: m["competition"].pop("tasks"), "cannot be read"),
        (lambda m: m["competition"]["epsilon"].update(kind="none"), "cannot be read"),
        (lambda m: m["competition"].update(more=1), "cannot be read"),
    ],
)
def test_a_record_that_was_changed_is_not_believed(spoil, told, tmp_path):
    manifest = manifest_of(EVERY[0], tmp_path)
    spoil(manifest)
    with pytest.raises(EvaluatorFault, match=told):
        competition_of(manifest)


def test_picks_come_back_with_their_faults():
    good = f"a/b:c:{'0' * 40}".replace("/b", "")
    entries = [
        {"hotkey": "h", "uid": 3, "block": 9, "text": text, "evaluate": evaluate, "why": "because"}
        for text, evaluate in ((f"{good}:None:7", True), ("nonsense", False))
    ]
    first, second = picks_of({"submissions": json.loads(json.dumps(entries))})
    assert first.submission == Submission.read("h", 3, 9, f"{good}:None:7")
    assert (first.evaluate, second.evaluate) == (True, False)
    assert "malformed" in second.submission.fault


@pytest.mark.parametrize(
    ("error", "owner"),
    [
        (HubFault("gone"), "evaluator"),
        (SubmissionFault("gone"), "submission"),
        (ChainFault("gone"), "chain"),
        (KeyError("x"), "evaluator"),
    ],
)
def test_a_stage_keeps_its_fault_and_raises_a_type_with_an_owner(tmp_path, error, owner):
    epoch = Records(tmp_path).epoch(7, 360)
    with pytest.raises(Exception) as caught, kept_fault(epoch, "fetch"):
        raise error
    assert caught.value.owner == owner
    assert type(caught.value).__module__ == "sn37.errors"
    assert epoch.read("fault.json") == {"owner": owner, "stage": "fetch", "reason": Fault.of(error).reason}


def test_a_subtype_that_only_its_own_room_knows_becomes_its_plain_kind(tmp_path):
    from sn37.chain import StatePruned

    with pytest.raises(ChainFault) as caught, kept_fault(Records(tmp_path).epoch(7, 360), "plan"):
        raise StatePruned("forgotten")
    assert type(caught.value) is ChainFault


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc", "a b c"),
        ("\x1b[2J\u202eevil", r"\x1b[2J\u202eevil"),
        ("lone \ud800", r"lone \ud800"),
        ("x" * 5_000, "x" * 1_997 + "..."),
    ],
)
def test_a_reason_is_one_line_that_anything_can_show(text, shown):
    reason = Fault.of(EvaluatorFault(text)).reason
    assert reason == shown
    reason.encode()
