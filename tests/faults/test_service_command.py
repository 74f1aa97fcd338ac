"""`sn37 validator`: it works unattended, tells how it is, and refuses to begin what cannot end well."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from sn37 import validator
from sn37.cli import app
from sn37.errors import ChainFault, ConfigError
from sn37.records.decision import Publication
from sn37.records.epochs import Records
from sn37.records.faults import StageFault
from sn37.validator.settings import PARAMETERS
from sn37.validator.status import held


def pipeline(small, home, name="validator", **changes):
    given = {**small.parameters(home), **changes}
    parameters = {key: value for key, value in given.items() if key in PARAMETERS}
    more = {key: value for key, value in given.items() if key not in PARAMETERS}
    file = home.parent / f"{home.name}-{name}.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                **{"name": name, "notebook": "validator_epoch.ipynb", "poll_s": 0.5, "out": str(home)},
                "parameters": {**parameters, "more": more},
            }
        )
    )
    return file


def said(*arguments):
    result = CliRunner().invoke(app, ["validator", *map(str, arguments)])
    if isinstance(result.exception, Exception):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def subnet(module_small):
    module_small.submit("best", 0.0)
    module_small.submit("second", 0.5)
    module_small.next_epoch()
    return module_small


def service(file, *arguments):
    command = [sys.executable, "-m", "sn37", "validator", "run", str(file), "--json", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_service_decides_sets_weights_tells_how_it_is_and_stops_without_a_trace(subnet, tmp_path):
    home = tmp_path / "home"
    file = pipeline(subnet, home)
    with service(file) as running:
        lines = [json.loads(line) for line in _until(running, "chain: ")]
        with pytest.raises(
            ConfigError, match=rf"a validator runs on .* already: process {running.pid} on .*, since 20"
        ):
            said("run", file)
        healthy = said("status", file)
        family = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert running.wait(timeout=30) == 0 and time.monotonic() - began < 10
    assert family and not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not list(home.rglob("*.sock"))
    told = lines[-1]
    assert told["program"] == "epochs" and told["winner"] == subnet.hotkey("best") and told["seconds"] > 0
    assert healthy.exit_code == 0 and "healthy" in healthy.output and "as recorded" in healthy.output
    (epoch,) = Records(home / "records").sealed(7)
    assert epoch.read(Publication).block and (epoch.folder / "report.html").is_file()
    stopped = said("status", file)
    assert stopped.exit_code == 3 and "no service runs here" in stopped.output


def _until(running, text):
    for line in running.stdout:
        if line.startswith("{"):
            yield line
            if text in line:
                return
    raise AssertionError("it ended before")


def test_a_status_is_for_machines_too_and_tells_what_is_late(subnet, tmp_path):
    home = tmp_path / "home"
    subnet.epoch(home)
    file = pipeline(subnet, home)
    with held(home):
        found = json.loads(said("status", file, "--json").output)
        assert (found["health"], found["weights_as_recorded"]) == ("healthy", True)
        assert found["versions"]["torch"] and found["disk_free_bytes"] > 0 and found["faults"] == {}
        subnet.chain.advance(2 * 360 + 1)
        late = said("status", file, "--prometheus", tmp_path / "sn37.prom")
    assert late.exit_code == 1 and "blocks old, more than 2 x 360" in late.output
    families = {one.name: one for one in text_string_to_metric_families((tmp_path / "sn37.prom").read_text())}
    assert families["sn37_health"].samples[0].value == 1
    assert families["sn37_epoch_age_blocks"].samples[0].value > 720


def test_a_service_without_a_decision_or_a_chain_is_late(subnet, tmp_path, monkeypatch):
    home = tmp_path / "home"
    file = pipeline(subnet, home)
    with held(home):
        assert "no epoch is decided yet" not in said("status", file).output
        holder = home / "service.holder.json"
        holder.write_text(json.dumps({**json.loads(holder.read_text()), "since": "2026-01-01T00:00:00+00:00"}))
        assert re.search(r"late +no epoch is decided yet, .* more than 2 x 360", said("status", file).output)

        def dead(subnet):
            raise ChainFault("no answer")

        monkeypatch.setattr("sn37.chain.Subnet.head", dead)
        late = said("status", file)
    assert late.exit_code == 1 and "late                 the chain does not answer" in late.output


def test_an_epoch_that_waits_says_for_what(subnet, tmp_path):
    home = tmp_path / "home"
    with subnet.subnet("validator") as chain:
        plan = validator.plan(subnet.settings(home), chain, subnet.hub(home))
    plan.epoch.write(StageFault("data", "the dataset is gone", "fetch"))
    found = said("status", pipeline(subnet, home)).output
    waits = r"7 at 5,2\d\d,\d\d\d +0 of \d+ models evaluated; waits after fetch: data fault: the dataset is gone"
    assert re.search(waits, found)
    assert re.search(r"faults +1 of the data", found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda"}, "device is 'cuda' and this machine shows no GPU"),
        ({"wallet": "nobody"}, "nobody"),
        ({"hub": "http://127.0.0.1:9"}, "serves no model just now"),
        ({"network": "sqlite:///nowhere/chain.sqlite"}, "nowhere"),
        ({"devise": "cpu"}, "did you mean 'device'?"),
    ],
)
def test_what_cannot_work_is_told_before_work_begins(subnet, tmp_path, changes, message):
    file = pipeline(subnet, tmp_path / "home", **changes)
    result = CliRunner().invoke(app, ["validator", "run", str(file)])
    assert message in f"{result.output} {result.exception}"
    assert not (tmp_path / "home" / "records").exists()


def test_a_validator_without_a_permit_is_told(small, tmp_path):
    small.register("weak", stake=10.0)
    with pytest.raises(ConfigError, match="has no validator permit with a stake of 10 TAO"):
        said("check", pipeline(small, tmp_path / "home", wallet="weak"))
    small.register("unregistered")
    small.chain.replace(37, 2, "5C4hrfjw9DjXZTzV3MwzrrAr9P1MJhSrvWGWqi1eSuyUpnhM")
    with pytest.raises(ConfigError, match="is not registered on netuid 37"):
        said("check", pipeline(small, tmp_path / "home", wallet="unregistered"))


def test_records_of_another_validator_or_chain_are_refused(subnet, tmp_path):
    home = tmp_path / "home"
    said("check", pipeline(subnet, home))
    subnet.register("other", stake=200_000.0, permit=True)
    with pytest.raises(ConfigError, match="belongs to another validator"):
        said("check", pipeline(subnet, home, wallet="other"))
    (home / "validator.json").unlink()
    manifest = subnet.epoch(home).decided.epoch.folder / "manifest.json"
    data = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**data, "block_hash": "0x" + "f" * 64}))
    with pytest.raises(ConfigError, match="of another chain"):
        said("check", pipeline(subnet, home))


def test_the_disk_must_hold_the_models(subnet, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1 << 30})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(ConfigError, match=r"1\.1 GB free; 2\.1 GB are needed: make room"):
        said("check", pipeline(subnet, tmp_path / "home"))


@pytest.mark.slow
def test_a_killed_service_leaves_nobody_behind(subnet, tmp_path):
    home = tmp_path / "home"
    report = tmp_path / "report.yaml"
    parameters = {"records": str(home / "records")}
    report.write_text(
        yaml.safe_dump(
            {"name": "report", "notebook": "competition_report.ipynb", "out": str(home), "parameters": parameters}
        )
    )
    with service(pipeline(subnet, home), "--report", report) as running:
        next(_until(running, "begins"))
        list(_until(running, "begins"))
        family = psutil.Process(running.pid).children(recursive=True)
        os.kill(running.pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while alive := [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < end, alive
        time.sleep(0.1)
