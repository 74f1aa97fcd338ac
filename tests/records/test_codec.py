"""Records are typed: what is written comes back, and what is not known is refused in one sentence."""

import itertools
import json
import re
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime

import pytest
from recorded import decision, manifest, measurement, result, score, task_data, task_result

from sn37.competitions import public_competitions, read_competition
from sn37.devnet.world import COMPETITION
from sn37.errors import ConfigError, EvaluatorFault
from sn37.records import codec
from sn37.records.decision import Decision, Publication, Turn
from sn37.records.epochs import Records
from sn37.records.faults import Fault, StageFault, Waits
from sn37.records.manifest import Manifest, Pick
from sn37.records.results import Result, Sketch
from sn37.submission import Submission

EVERY = [*public_competitions(), read_competition(COMPETITION)]
GOOD = f"a:b:{'0' * 40}:None:7"
MADE = [
    manifest(
        EVERY[0],
        submissions=tuple(Pick(Submission.read("h", 3, 9, text), True, "new") for text in (GOOD, "nonsense")),
        data={"A": task_data(dropped={"too long": 2}, notes={"configs": ["a", "b"]})},
        shares={1: 0.25, 52: 0.75},
        uids={"h": 3},
        own_tasks={"own.py": "digest", "installed": None},
        ran={"device": ("cpu",)},
    ),
    result(1, 5, {"A": task_result(0.5, details=({"reply": "caf\u00e9", "answer": None},))}),
    result(1, 5, fault=Fault("model", "norms")),
    replace(result(1, 5), measurement=measurement({}, sketch=Sketch("0a" * 32, {"ab": (0.1, -2.5e-7), "cd": (0.0,)}))),
    decision(
        360,
        score(1, 1.5, raw={"A": 1.5}),
        score(2, None),
        winner="hot1",
        beats={"hot1": ("hot2",)},
        reign=(Turn("hot1", None, None, True),),
        set_aside={"h": "500"},
    ),
    Publication({"h": 1.0}, {"h": 3}, "set", 5, None, "off", datetime(2026, 1, 2, tzinfo=UTC)),
    StageFault("chain", "gone", "publish"),
    Waits({"h": 2}),
]


@pytest.mark.parametrize("made", MADE, ids=lambda made: type(made).__name__)
def test_a_record_comes_back_as_it_was_and_the_same_value_gives_the_same_bytes(made, tmp_path):
    codec.write(tmp_path / "a.json", made)
    found = codec.read(type(made), tmp_path / "a.json")
    assert found == made
    codec.write(tmp_path / "b.json", found)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_bytes())["format"] == codec.FORMAT


def test_a_result_written_before_weights_were_sketched_is_read(tmp_path):
    codec.write(tmp_path / "a.json", result(1, 5))
    data = json.loads((tmp_path / "a.json").read_text())
    assert data["measurement"].pop("sketch") is None
    (tmp_path / "a.json").write_text(json.dumps(data))
    assert codec.read(Result, tmp_path / "a.json") == result(1, 5)


@pytest.mark.parametrize("competition", EVERY, ids=lambda competition: competition.name)
def test_a_competition_comes_back_from_its_manifest_as_it_was(competition, tmp_path):
    codec.write(tmp_path / "manifest.json", manifest(competition))
    found = codec.read(Manifest, tmp_path / "manifest.json").competition
    assert found == competition
    assert found.digest == competition.digest


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda m: m["competition"]["constraints"].update(max_bytes=1), "was changed after the epoch"),
        (lambda m: m["competition"].pop("tasks"), "tasks"),
        (lambda m: m["competition"]["epsilon"].update(kind="none"), "none"),
        (lambda m: m["competition"].update(more=1), "more"),
        (lambda m: m.pop("netuid"), "netuid is missing"),
        (lambda m: m.update(netuid="37"), "netuid is '37'; expected a valid integer"),
        (lambda m: m.update(colour=1), "unknown field colour; the known fields are competition, "),
        (lambda m: m["clock"].update(tempo=1), "[clock]: unknown field tempo; the known fields are genesis, cadence"),
        (
            lambda m: m["submissions"][0].update(x=1),
            "submissions[0]: unknown field x; the known",
        ),
        (lambda m: m["submissions"][0]["submission"].pop("uid"), "is no commitment; expected hotkey, uid"),
        (lambda m: m.update(block_hash="0x12"), "is no block hash"),
        (lambda m: m["figures"].update(alpha=2.0), "alpha is 2.0; expected a share"),
        (lambda m: m["shares"].update({"1": float("nan")}), "NaN is no number"),
    ],
)
def test_a_record_that_is_not_what_was_written_is_refused_with_its_place(spoil, told, tmp_path):
    path = tmp_path / "manifest.json"
    codec.write(path, MADE[0])
    data = json.loads(path.read_text())
    spoil(data)
    path.write_text(json.dumps(data))
    with pytest.raises(EvaluatorFault, match=re.escape(told)) as caught:
        codec.read(Manifest, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", '{"winner": "a"', "\x00", "[1]", "[" * 100_000])
def test_a_damaged_record_is_named_not_ignored(tmp_path, content):
    path = tmp_path / "decision.json"
    path.write_text(content)
    with pytest.raises(EvaluatorFault, match=r"decision\.json cannot be read"):
        codec.read(Decision, path)


def test_a_record_of_another_version_is_refused_in_one_sentence_that_says_which_wrote_it(tmp_path):
    folder = tmp_path / "7" / "360"
    (folder / "results").mkdir(parents=True)
    # As sn37 0.1.0 wrote them, before records had a format.
    (folder / "manifest.json").write_text('{"sync_block": 360, "seed": "5", "versions": {"sn37": "0.1.0"}}')
    (folder / "decision.json").write_text('{"field": [], "scores": [], "winner": null, "wins": {}, "win_rate": {}}')
    (folder / "results" / "h.json").write_text('{"hotkey": "h", "fault": null, "tasks": {}}')
    (epoch,) = Records(tmp_path).sealed(7)
    for part in ("manifest", "decision", "results"):
        with pytest.raises(ConfigError, match=r"is of format 1, written by sn37 0\.1\.0; this version reads format 2"):
            getattr(epoch, part)
    codec.write(folder / "manifest.json", MADE[0])
    data = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**data, "format": 9, "versions": {}}))
    with pytest.raises(ConfigError, match="of format 9, written by another version of sn37"):
        _ = epoch.manifest


def test_a_sealed_epoch_without_its_decision_is_named(tmp_path):
    (tmp_path / "7" / "360").mkdir(parents=True)
    (epoch,) = Records(tmp_path).sealed(7)
    with pytest.raises(EvaluatorFault, match=r"360 has no decision\.json"):
        _ = epoch.decision


def test_times_are_kept_but_do_not_count(tmp_path):
    first = result(1, 5)
    later = replace(first, finished_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert first == later
    codec.write(tmp_path / "a.json", later)
    assert codec.read(Result, tmp_path / "a.json").finished_at == later.finished_at


def kinds(made):
    """The types of a value and of all values in it that the record room defines."""
    if is_dataclass(made):
        yield type(made)
        yield from (kind for field in fields(made) for kind in kinds(getattr(made, field.name)))
    elif isinstance(made, dict | tuple):
        yield from (kind for item in (made.values() if isinstance(made, dict) else made) for kind in kinds(item))


def test_every_field_of_a_record_is_documented():
    import ast
    import inspect

    made = {kind for value in [*MADE, measurement({})] for kind in kinds(value) if "sn37.records" in kind.__module__}
    for kind in made:
        body = ast.parse(inspect.getsource(kind).lstrip()).body[0].body
        documented = [
            a.target.id
            for a, b in itertools.pairwise(body)
            if isinstance(a, ast.AnnAssign) and isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant)
        ]
        own = [field.name for field in fields(kind) if field.name in kind.__annotations__]
        assert documented == own, kind
