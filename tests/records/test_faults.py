"""Faults get an owner and a reason that anything can show."""

import pytest

from sn37.errors import ChainFault, EvaluatorFault, HubFault, SubmissionFault
from sn37.records.epochs import Records
from sn37.records.faults import Fault, StageFault
from sn37.validator.stages import kept_fault


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
    epoch = Records(tmp_path).begin(7, 360)
    with pytest.raises(Exception) as caught, kept_fault(epoch, "fetch"):
        raise error
    assert caught.value.owner == owner
    assert type(caught.value).__module__ == "sn37.errors"
    assert epoch.read(StageFault) == StageFault(owner, Fault.of(error).reason, "fetch")


def test_a_subtype_that_only_its_own_room_knows_becomes_its_plain_kind(tmp_path):
    from sn37.chain import StatePruned

    with pytest.raises(ChainFault) as caught, kept_fault(Records(tmp_path).begin(7, 360), "plan"):
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
