"""What a person meets in a cell: every object has a short plain form, and a rich one that nobody can write into."""

import re

import pytest
from simulated import COMPETITION, START, simulate, submission

from sn37.analysis import explain
from sn37.competitions import public_schedule
from sn37.methods import METHODS, MethodResult
from sn37.records.epochs import Records
from sn37.sources import SOURCES
from sn37.submission import Submission, Submissions
from sn37.validator import Settings

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("shown"), epochs=3, models=4)


SHOWN = {
    "records": (lambda r: r, "3 epochs of competition 4", ["SIMULATED", START, START + 720]),
    "no records": (lambda r: Records(r.root / "none"), "none yet", ["newest"]),
    "epoch": (lambda r: r.epoch(), f"epoch {START + 720} of competition 4, decided", ["win rate", "QUESTIONS"]),
    "epoch at work": (lambda r: r.begin(5, 360), "epoch 360 of competition 5, at work", []),
    "decision": (lambda r: r.epoch().decision, "wins with loss", ["win rate", "do not match the hash"]),
    "outcome": (
        lambda r: next(one for one in r.epoch().results.values() if one.measurement).tasks["QUESTIONS"],
        r"raw score 0\.\d+ over 20 values",
        ["reply", "expected", "the first 10"],
    ),
    "outcome of a method": (
        lambda r: MethodResult(0.5, (0.0, 1.0), ({"reply": EVIL}, {}), "why"),
        r"raw score 0.5000 over 2 values \(why\)",
        ["reply", "&lt;script&gt;", "<td>-</td>"],
    ),
    "explanation": (lambda r: explain(r, 2), "uid 2 .* in competition 4 .*: .*fault: ", ["evaluated", "image/png"]),
    "verdict": (lambda r: explain(r, 1).verdict, "failed .*do not match the hash", ["<p>failed"]),
    "sources": (lambda r: SOURCES, "sources: .*word_sorting", ["word_sorting", "count = "]),
    "methods": (lambda r: METHODS, "methods: .*multiple_choice", ["text_loss", "sanity_check = "]),
    "schedule": (lambda r: public_schedule(), r"schedule of \d+ periods; from block", ["from block", "INSTRUCT_8B"]),
    "competition": (lambda r: COMPETITION, "competition 4 SIMULATED: QUESTIONS 0.6, WORDS 0.4", ["word_sorting"]),
    "task": (lambda r: COMPETITION.tasks[0], "EvalTask", ["QUESTIONS", "multiple_choice"]),
    "settings": (lambda r: Settings(), "Settings", ["network", "finney"]),
    "submissions": (
        lambda r: Submissions([submission(1, 7), Submission.read("5Hot" + EVIL, 2, 8, EVIL)]),
        "2 submissions, 1 malformed",
        ["miner-1/model", "malformed"],
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_an_object_has_a_plain_and_a_rich_form(name, records):
    make, plain, rich = SHOWN[name]
    shown = make(records)
    text, page = repr(shown), shown._repr_html_()
    assert re.search(plain, text) and len(text) < 1_500
    assert not [part for part in rich if str(part) not in page]
    assert "<script" not in page and page.startswith("<")
