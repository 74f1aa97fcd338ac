"""What was published goes to wandb and to the hub from the records alone, after an outage too, and is read back."""

import shutil
from types import SimpleNamespace

import pytest
from faulty_hub import Fault, FaultyHub
from simulated import COMPETITION, newest, simulate, submission
from typer.testing import CliRunner
from wandb_server import API_KEY, WandbServer

from sn37 import open_records
from sn37.analysis import explain, frames
from sn37.cli import app
from sn37.data.logs import read_log
from sn37.errors import ConfigError
from sn37.hub import Hub
from sn37.records.decision import Publication
from sn37.records.epochs import Records
from sn37.validator import connect
from sn37.validator.decide import Decided
from sn37.validator.mirror import log_epochs, mirror, upload_epochs
from sn37.validator.plan import Plan
from sn37.validator.settings import Settings

HOTKEY = submission(3, 1).hotkey
"""Of the validator: one of those registered."""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("simulated") / "records", epochs=4, models=4)


def planned(records, epochs, root, **settings):
    """The plan of the newest of so many epochs, their records copied."""
    for epoch in records.sealed(COMPETITION.id)[:epochs]:
        place = root / "records" / str(COMPETITION.id) / str(epoch.sync_block)
        if not place.exists():
            shutil.copytree(epoch.folder, place)
    last = newest(Records(root / "records"))
    return Plan(Settings(root=root, **settings), last.manifest, newest=True)


def published(plan):
    return [epoch.read(Publication) for epoch in plan.records.sealed(COMPETITION.id)]


def blocks(root):
    """The sync blocks in each run, run by run."""
    return [[row["block"] for row in read_log(path).history] for path in sorted(root.glob("wandb/*/run-*.wandb"))]


def broken_wandb(folder):
    folder.mkdir(exist_ok=True)
    (folder / "wandb.py").write_text("raise RuntimeError('no such account')")
    return str(folder)


def test_what_is_mirrored_is_read_back_to_equal_frames(simulated, tmp_path, monkeypatch):
    plan = planned(simulated, 4, tmp_path, wandb_project="own-project", wandb_entity="ann")
    log_epochs(plan, HOTKEY)
    assert {one.run for one in published(plan)} == {"validator-3-2026-01-01_00-00-00"}
    assert published(plan)[-1].mirror == "epoch 4 of 50 in the offline run validator-3-2026-01-01_00-00-00"
    there = open_records(tmp_path / "wandb", cache=tmp_path / "cache")
    for kind in frames.COLUMNS:
        assert getattr(frames, kind)(there).equals(getattr(frames, kind)(simulated)), kind
    (log,) = tmp_path.glob("wandb/*/run-*.wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    explained = CliRunner().invoke(app, ["miner", "explain", "3", "--wandb", str(log)])
    assert explained.output.strip() == str(explain(simulated, 3))
    assert open_records(log, cache=tmp_path / "cache", last=2) != there, "each place has a cache of its own"
    run, written = read_log(log), log.read_bytes()
    assert all(written.count(row["record"][:500].encode()) <= 1 for row in run.history), "none is in a summary"
    assert {name: value for name, value in run.config.items() if name != "_wandb"} == {
        "uid": 3,
        "hotkey": HOTKEY,
        "run_name": "validator-3-2026-01-01_00-00-00",
        "version": "0.1.0",
        "type": "validator",
    }
    monkeypatch.setenv("HOME", str(tmp_path))
    told = CliRunner().invoke(app, ["compare", str(tmp_path), str(log)])
    assert (told.exit_code, told.output.count("equal to the last digit")) == (0, 4), told.output


def test_an_outage_is_caught_up_with_in_order_and_once(simulated, tmp_path, monkeypatch):
    root, all_blocks = tmp_path / "root", [epoch.sync_block for epoch in simulated.sealed(COMPETITION.id)]
    log_epochs(planned(simulated, 1, root), HOTKEY)
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", broken_wandb(tmp_path / "fake"))
        for epochs in (2, 3):
            plan = planned(simulated, epochs, root)
            log_epochs(plan, HOTKEY)
            assert (
                published(plan)[-1].mirror == "not mirrored: RuntimeError: wandb failed: RuntimeError: no such account"
            )
    assert blocks(root) == [all_blocks[:1]]
    (root / "wandb" / "steps" / f"00000002.4.{all_blocks[2]}.json").unlink()
    plan = planned(simulated, 4, root)
    log_epochs(plan, HOTKEY)
    assert blocks(root) == [all_blocks]
    assert all(one.run for one in published(plan))
    (log,) = root.glob("wandb/*/run-*.wandb")
    before = log.stat().st_mtime_ns
    log_epochs(plan, HOTKEY)
    assert log.stat().st_mtime_ns == before


def test_online_a_run_goes_on_and_gets_what_it_missed(simulated, tmp_path, monkeypatch):
    root, online = tmp_path / "root", {"wandb": "online", "wandb_entity": "ann", "wandb_project": "validators"}
    with WandbServer() as server, monkeypatch.context() as patched:
        patched.setenv("WANDB_BASE_URL", server.base_url)
        patched.setenv("WANDB_API_KEY", API_KEY)
        log_epochs(planned(simulated, 1, root, **online), HOTKEY)
        with monkeypatch.context() as broken:
            broken.setenv("PYTHONPATH", broken_wandb(tmp_path / "fake"))
            log_epochs(planned(simulated, 2, root, **online), HOTKEY)
        plan = planned(simulated, 4, root, **online)
        log_epochs(plan, HOTKEY)
        assert published(plan)[1].mirror == "epoch 2 of 50 in the online run validator-3-2026-01-01_00-00-00"
        (run,) = server.runs
        there = open_records(f"wandb://ann/validators/{run.id}", cache=tmp_path / "cache")
    assert run.project == "ann/validators"
    assert {name: run.config[name] for name in ("uid", "hotkey", "type")} == {
        "uid": 3,
        "hotkey": HOTKEY,
        "type": "validator",
    }
    wanted = [epoch.sync_block for epoch in simulated.sealed(COMPETITION.id)]
    assert [(row["_step"], row["block"]) for row in run.history] == list(enumerate(wanted))
    for kind in frames.COLUMNS:
        assert getattr(frames, kind)(there).equals(getattr(frames, kind)(simulated)), kind


def test_an_epoch_that_was_only_looked_at_or_cannot_be_read_stands_in_nobodys_way(simulated, tmp_path):
    plan = planned(simulated, 4, tmp_path)
    looked_at, damaged, *_ = plan.records.sealed(COMPETITION.id)
    (looked_at.folder / "published.json").unlink()
    next((damaged.folder / "results").iterdir()).write_text("{")
    log_epochs(plan, HOTKEY)
    assert blocks(tmp_path) == [[epoch.sync_block for epoch in plan.records.sealed(COMPETITION.id)[2:]]]
    assert published(plan)[0] is None
    assert published(plan)[1].mirror.startswith("not mirrored: EvaluatorFault: the record")
    log_epochs(plan, "5Nobody")
    assert published(plan)[1].mirror == "not mirrored: KeyError: '5Nobody'"


@pytest.fixture
def server(tmp_path):
    with FaultyHub(tmp_path / "hub") as server:
        yield server


def client(server, cache, user=None):
    token = server.token_of(user) if user else None
    return Hub(server.endpoint, token, cache=cache, first_wait_s=0.0, timeout_s=10, attempts=2)


def test_records_are_uploaded_and_read_back_to_equal_frames(simulated, server, tmp_path):
    hub, repo = client(server, tmp_path / "cache", "vali"), "vali/records"
    plan = planned(simulated, 2, tmp_path / "root")
    assert upload_epochs(repo, plan.records, hub) == "2 epochs uploaded to vali/records, 0 waiting"
    assert upload_epochs(repo, plan.records, hub) == "0 epochs uploaded to vali/records, 0 waiting"
    server.faults.add(Fault("", status=503, times=2))
    plan = planned(simulated, 4, tmp_path / "root")
    assert upload_epochs(repo, plan.records, hub).startswith("not uploaded to vali/records: HubFault: ")
    assert upload_epochs(repo, plan.records, hub) == "2 epochs uploaded to vali/records, 0 waiting"
    there = open_records("hf://vali/records", hub=client(server, tmp_path / "other"), cache=tmp_path / "other")
    for kind in frames.COLUMNS:
        assert getattr(frames, kind)(there).equals(getattr(frames, kind)(simulated)), kind


def test_a_dataset_that_cannot_be_written_is_one_sentence(simulated, server, tmp_path):
    plan = planned(simulated, 1, tmp_path / "root")
    nobody, other = client(server, tmp_path / "cache"), client(server, tmp_path / "cache", "somebody")
    assert "needs a token of the hub" in upload_epochs("vali/records", plan.records, nobody)
    told = upload_epochs("vali/records", plan.records, other)
    assert told.startswith("not uploaded to vali/records: ConfigError: the hub does not let this token")
    gone = Hub("http://127.0.0.1:9", "t", cache=tmp_path / "cache", first_wait_s=0.0, attempts=1)
    assert upload_epochs("vali/records", plan.records, gone).startswith("not uploaded to vali/records: HubFault: ")


def test_the_settings_say_where_to_and_a_look_goes_nowhere(simulated, server, tmp_path):
    hub, subnet = client(server, tmp_path / "cache", "vali"), SimpleNamespace(hotkey=HOTKEY)
    plan = planned(simulated, 1, tmp_path / "root", wandb="off", publish_records="vali/records")
    decided = Decided(plan, newest(plan.records), {})
    before = decided.epoch.read(Publication)
    told = mirror(decided, before, subnet, hub)
    assert (told.mirror, told.upload) == ("off", "1 epoch uploaded to vali/records, 0 waiting")
    assert told == decided.epoch.read(Publication)
    assert (told.weights, told.block) == (before.weights, before.block)
    for look in (Plan(plan.settings, plan.manifest, newest=False), Plan(Settings(publish=False), plan.manifest, True)):
        assert mirror(Decided(look, decided.epoch, {}), before, subnet, None) == before
    assert not (tmp_path / "root" / "wandb").exists()


def test_uploading_without_a_token_is_told_before_any_work():
    with pytest.raises(ConfigError, match="publish_records is 'vali/records': uploading needs a hub token; set"):
        connect(Settings(publish_records="vali/records"))
    with pytest.raises(ConfigError, match="publish_records is 'records'; expected a dataset, user/dataset"):
        Settings.of(more={"publish_records": "records"})
