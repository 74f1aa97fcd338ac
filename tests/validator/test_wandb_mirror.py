import json
import math
import os
import struct
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from recorded import decision, manifest, measurement, result, score, task_data, task_result
from wandb.proto.wandb_internal_pb2 import Record

from sn37.clock import seed_of
from sn37.competition import Competition, Constraints, EvalTask, Fixed, InverseExponential
from sn37.records.decision import Publication
from sn37.records.epochs import Records
from sn37.validator.mirror import log_epochs
from sn37.validator.plan import Plan
from sn37.validator.settings import Settings
from sn37.validator.step import step_of
from sn37.validator.wandb_mirror import Mirror

COMPETITION = Competition(
    id=4,
    name="PLAY",
    constraints=Constraints(("LlamaForCausalLM",), 10, 10, 10, None, 10),
    epsilon=Fixed(0.01),
    tasks=(
        EvalTask("SORTING", "word_sorting", "reference_loss", 0.25, normalization=InverseExponential(40.0)),
        EvalTask("PROSE", "fineweb", "text_loss", 0.75),
    ),
)
BLOCK_HASH = "0x" + "ab" * 32
SEED = seed_of(BLOCK_HASH)


def committed(repo):
    return f"{repo.replace('/', ':')}:{'0' * 40}:{'A' * 43}=:4"


BEST = score(
    9,
    1.6556148328004637,
    hotkey="5Best",
    block=700,
    text=committed("ann/best"),
    raw={"SORTING": 20.0, "PROSE": 2.0},
    normalized={"SORTING": 0.6224593312018546, "PROSE": 2.0},
)
FAILED = score(2, None, hotkey="5Fail", block=800, text=committed("bob/broken"), epsilon=0.05)
UIDS = {"2", "9"}


def epoch(block, scores=(BEST, FAILED), load_model_s=()):
    as_of = datetime.fromtimestamp(1_700_000_000 + 12 * block, UTC)
    made = decision(block, *scores, winner="5Best", wins={"5Best": 3}, win_rate={"5Best": 1.0})
    tasks = {"SORTING": task_result(20.0, seconds=2.0), "PROSE": task_result(2.0, seconds=3.0)}
    results = [replace(result(9, 700), measurement=measurement(tasks, load_s=seconds)) for seconds in load_model_s]
    planned = manifest(COMPETITION, block, block_hash=BLOCK_HASH, as_of=as_of)
    return step_of(planned, made, results, {"5Best": 0.5}, {"5Best": 1.0})


def mirror(root, **changes):
    return Mirror("finetuning-validators", None, 7, "5Vali", "0.1.0", root, **changes)


def log(runs, step):
    """How logging a step goes, in a sentence."""
    (logged,) = runs.log([runs.keep(step)]).values()
    assert bool(logged.run) == (not logged.told.startswith("not mirrored: "))
    return logged.told


def read(path):
    """The records of a .wandb file: a 7-byte header, then 32 KiB blocks of chunks (checksum, length, type, bytes)."""
    data, at, whole = Path(path).read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32_768 - at % 32_768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if kind == 0:
            break
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""


def logged(path):
    """The history of a .wandb file: one nested dict per step."""
    for record in read(path):
        if record.WhichOneof("record_type") == "history":
            row = {}
            for item in record.history.item:
                *folders, name = item.nested_key or [item.key]
                place = row
                for folder in folders:
                    place = place.setdefault(folder, {})
                place[name] = json.loads(item.value_json)
            yield row


def run_file(root):
    (path,) = root.glob("offline-run-*/run-*.wandb")
    return path


def test_an_epoch_is_read_back_with_every_key_of_the_protocol(tmp_path):
    told = log(mirror(tmp_path), epoch(1000, load_model_s=[3.0, 1.0, 2.0]))
    assert told == "epoch 1 of 50 in the offline run validator-7-2023-11-15_01-33-20"
    (row,) = logged(run_file(tmp_path))
    original = json.loads(row.pop("original_format_json"))
    assert {name: value for name, value in row.items() if name not in ("_runtime", "_timestamp")} == {
        "_step": 0,
        "time": 1_700_012_000.0,
        "step_competition_id": 4,
        "block": 1000,
        "uid_data": {"9": 1.6556148328004637},
        "uid_epsilon_adv": {"2": 0.05, "9": 0.01},
        "win_rate_data": {"2": 0.0, "9": 1.0},
        "win_total_data": {"2": 0, "9": 3},
        "weight_data": {"2": 0.0, "9": 0.5},
        "competition_weight_data": {"2": 0.0, "9": 1.0},
        "competition_id": {"2": 4, "9": 4},
        "load_model_perf": {"min": 1.0, "median": 2.0, "max": 3.0, "P90": pytest.approx(2.8)},
        "compute_model_perf": {"min": 5.0, "median": 5.0, "max": 5.0, "P90": 5.0},
        "load_data_perf": {"min": None, "median": None, "max": None, "P90": None},
        "SORTING.raw_score": {"9": 20.0},
        "SORTING.norm_score": {"9": 0.6224593312018546},
        "SORTING.weighted_norm_score": {"9": 0.15561483280046365},
        "PROSE.raw_score": {"9": 2.0},
        "PROSE.norm_score": {"9": 2.0},
        "PROSE.weighted_norm_score": {"9": 1.5},
    }
    assert original == {
        "timestamp": 1_700_012_000.0,
        "competition_id": 4,
        "seed": SEED,
        "sync_block": 1000,
        "uids": [2, 9],
        "uid_data": {
            "2": {
                "uid": 2,
                "block": 800,
                "hf": "bob/broken",
                "competition_id": 4,
                "average_loss": None,
                "epsilon_adv": 0.05,
                "win_rate": 0.0,
                "win_total": 0,
                "weight": 0.0,
                "norm_weight": 0.0,
            },
            "9": {
                "uid": 9,
                "block": 700,
                "hf": "ann/best",
                "competition_id": 4,
                "average_loss": 1.6556148328004637,
                "epsilon_adv": 0.01,
                "win_rate": 1.0,
                "win_total": 3,
                "weight": 0.5,
                "norm_weight": 1.0,
                "SORTING.raw_score": 20.0,
                "SORTING.norm_score": 0.6224593312018546,
                "SORTING.weighted_norm_score": 0.15561483280046365,
                "PROSE.raw_score": 2.0,
                "PROSE.norm_score": 2.0,
                "PROSE.weighted_norm_score": 1.5,
            },
        },
    }


def test_a_run_says_whose_it_is_and_nothing_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_NOTES", "a private note")
    monkeypatch.setenv("HF_TOKEN", "hf_private")
    log(mirror(tmp_path), epoch(1000))
    runs = [record.run for record in read(run_file(tmp_path)) if record.WhichOneof("record_type") == "run"]
    (run,) = {run.run_id: run for run in runs}.values()
    name = "validator-7-2023-11-15_01-33-20"
    assert (run.project, run.display_name) == ("finetuning-validators", name)
    assert {item.key: json.loads(item.value_json) for item in run.config.update if item.key != "_wandb"} == {
        "uid": 7,
        "hotkey": "5Vali",
        "run_name": name,
        "version": "0.1.0",
        "type": "validator",
    }
    written = run_file(tmp_path).read_bytes()
    for private in ("0123456789", "private", os.uname().nodename + '"', str(Path.home()), str(tmp_path)):
        assert private.encode() not in written
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["offline", "steps"]


def test_epochs_of_separate_processes_share_a_run_and_an_epoch_told_twice_counts_once(tmp_path):
    for block in (1000, 1360):
        log(mirror(tmp_path), epoch(block))
    assert log(mirror(tmp_path), epoch(1360, scores=[BEST])).startswith("epoch 2 of 50")
    rows = list(logged(run_file(tmp_path)))
    assert [(row["_step"], row["block"]) for row in rows] == [(0, 1000), (1, 1360)]
    assert set(rows[1]["weight_data"]) == {"9"}


def test_the_fifty_first_epoch_begins_a_new_run(tmp_path):
    log(mirror(tmp_path), epoch(0))
    (first,) = (tmp_path / "steps").iterdir()
    for number in range(1, 49):
        first.with_name(f"{number:08d}.4.{360 * number}.json").write_bytes(first.read_bytes())
    assert log(mirror(tmp_path), epoch(360 * 49)).startswith("epoch 50 of 50 in the offline run validator-7-2023-11-14")
    assert len(list(logged(run_file(tmp_path)))) == 50
    old = run_file(tmp_path)
    before = old.read_bytes()
    told = log(mirror(tmp_path), epoch(360 * 50))
    assert told == "epoch 1 of 50 in the offline run validator-7-2023-11-17_10-13-20"
    (new,) = set(tmp_path.glob("offline-run-*/run-*.wandb")) - {old}
    assert old.read_bytes() == before
    assert [row["block"] for row in logged(new)] == [18_000]


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_is_no_number(loss):
    made = epoch(1000, scores=[replace(BEST, score=loss)])
    assert made["uid_data"] == {}
    assert json.loads(made["original_format_json"])["uid_data"]["9"]["average_loss"] is None


def test_the_order_of_scores_never_matters():
    assert epoch(1000, scores=[BEST, FAILED]) == epoch(1000, scores=[FAILED, BEST])


def fake_wandb(folder, code):
    """A wandb that does its worst, found before the real one."""
    (folder / "fake").mkdir()
    (folder / "fake" / "wandb.py").write_text(code)
    return str(folder / "fake")


def test_a_wandb_that_hangs_is_killed_with_its_children(tmp_path, monkeypatch):
    note = tmp_path / "child.pid"
    code = f"""
import pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path({str(note)!r}).write_text(str(child.pid))
time.sleep(600)
"""
    monkeypatch.setenv("PYTHONPATH", fake_wandb(tmp_path, code))
    told = log(mirror(tmp_path / "root", timeout_s=3.0), epoch(1000))
    assert told == "not mirrored: RuntimeError: wandb took more than 3 s and was stopped"
    child = int(note.read_text())
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["steps"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no such account')", "wandb failed: RuntimeError: no such account"),
        ("import os; os._exit(3)", "wandb failed: no message"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "wandb failed: no message"),
        ("", "wandb failed: AttributeError: module 'wandb' has no attribute 'init'"),
    ],
)
def test_a_wandb_that_fails_costs_a_sentence(tmp_path, monkeypatch, code, reason):
    monkeypatch.setenv("PYTHONPATH", fake_wandb(tmp_path, code))
    assert log(mirror(tmp_path / "root"), epoch(1000)) == f"not mirrored: RuntimeError: {reason}"


def test_after_a_failure_the_next_epoch_brings_the_lost_one_along(tmp_path, monkeypatch):
    root = tmp_path / "root"
    log(mirror(root), epoch(1000))
    before = run_file(root).read_bytes()
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", fake_wandb(tmp_path, "raise OSError"))
        assert log(mirror(root), epoch(1360)).startswith("not mirrored: ")
    assert run_file(root).read_bytes() == before
    assert log(mirror(root), epoch(1720)).startswith("epoch 3 of 50")
    assert [row["block"] for row in logged(run_file(root))] == [1000, 1360, 1720]


def test_a_server_that_does_not_answer_ends_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    told = log(mirror(tmp_path, mode="online", timeout_s=6.0), epoch(1000))
    assert told.startswith("not mirrored: RuntimeError: wandb ")
    assert "0" * 40 not in told


def test_a_lost_last_epoch_of_a_run_is_brought_into_it_with_the_first_of_the_next(tmp_path, monkeypatch):
    root, runs = tmp_path / "root", mirror(tmp_path / "root")
    first = runs.keep(epoch(0))
    for number in range(1, 49):
        first.with_name(f"{number:08d}.4.{360 * number}.json").write_bytes(first.read_bytes())
    lost, next_one = runs.keep(epoch(360 * 49)), runs.keep(epoch(360 * 50))
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", fake_wandb(tmp_path, "raise OSError"))
        assert [one.run for one in runs.log([next_one, lost]).values()] == ["", ""]
    logged_now = runs.log([next_one, lost])
    assert [logged_now[path].told.split(" in ")[0] for path in (lost, next_one)] == ["epoch 50 of 50", "epoch 1 of 50"]
    old, new = sorted(root.glob("offline-run-*/run-*.wandb"))
    assert [len(list(logged(path))) for path in (old, new)] == [50, 1]


def test_an_epoch_keeps_its_number_when_the_steps_of_earlier_runs_are_gone(tmp_path):
    runs = mirror(tmp_path)
    first = runs.keep(epoch(0))
    newest = first.rename(first.with_name("00000099.4.360.json"))
    assert runs.path_of(4, 360) == newest
    assert runs.path_of(4, 0) is None
    assert runs.keep(epoch(720)).name == "00000100.4.720.json"
    assert runs.keep(epoch(360)) == newest


def decided(root):
    """A decided and published epoch, its record on disk."""
    work = Records(root / "records").begin(4, 1000)
    data = {"SORTING": task_data(seconds=0.5), "PROSE": task_data(seconds=0.25)}
    uids = {"5Vali": 7, "5Best": 9, "5Fail": 2}
    planned = manifest(COMPETITION, 1000, uids=uids, data=data)
    work.write(planned)
    tasks = {"SORTING": task_result(20.0, seconds=2.0), "PROSE": task_result(2.0, seconds=3.0)}
    ran = result(9, 700)
    work.write(replace(ran, hotkey="5Best", measurement=measurement(tasks, load_s=1.5)))
    work.write(replace(ran, hotkey="5Fail", measurement=None, fault=FAILED.fault))
    work.write(decision(1000, BEST, FAILED, winner="5Best", wins={"5Best": 1}, win_rate={"5Best": 1.0}))
    work.write(Publication({"5Best": 1.0}, {"5Best": 9}, "set", 1001, None, ""))
    work.seal()
    return Plan(Settings(root=root), planned, newest=True)


def test_a_decided_epoch_is_mirrored_from_its_record(tmp_path):
    plan = decided(tmp_path)
    log_epochs(plan, "5Vali")
    published = plan.epoch.read(Publication)
    assert published.mirror == "epoch 1 of 50 in the offline run validator-7-2026-01-02_03-04-05"
    assert published.run == "validator-7-2026-01-02_03-04-05"
    (row,) = logged(run_file(tmp_path / "wandb"))
    assert row["uid_data"] == {"9": 1.6556148328004637}
    assert (row["weight_data"], row["competition_weight_data"]) == ({"2": 0.0, "9": 1.0}, {"2": 0.0, "9": 1.0})
    assert row["SORTING.weighted_norm_score"] == {"9": pytest.approx(0.15561483280046365)}
    assert row["compute_model_perf"]["median"] == 5.0
    assert row["load_model_perf"]["max"] == 1.5
    assert row["load_data_perf"]["max"] == 0.5
    original = json.loads(row["original_format_json"])
    assert original["seed"] == plan.manifest.seed
    assert original["uid_data"]["9"]["hf"] == "ann/best"


def test_no_place_to_write_ends_in_a_sentence(tmp_path):
    plan = decided(tmp_path)
    (tmp_path / "wandb").write_text("a file where a folder should be")
    log_epochs(plan, "5Vali")
    assert plan.epoch.read(Publication).mirror.startswith("not mirrored: ")


def test_a_validator_without_a_uid_is_told_so_and_goes_on(tmp_path):
    plan = decided(tmp_path)
    log_epochs(plan, "5Gone")
    assert plan.epoch.read(Publication).mirror == "not mirrored: KeyError: '5Gone'"
