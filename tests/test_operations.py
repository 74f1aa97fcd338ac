"""The operations page: its unit, commands and settings are ones that work, its table names tests that there are."""

import ast
import getpass
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from simulated import simulate
from typer.main import get_command

from sn37.cli import app
from sn37.validator.settings import Keep, Settings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
UNIT = ROOT / "pipelines" / "sn37-validator.service"
START = re.search(r"^ExecStart=(.+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)[1]
CRON = next(text for kind, text in BLOCKS if kind == "cron")
COMMANDS = [
    *re.findall(r"\bsn37 ([a-z][^#`\n]*)", "\n".join(text for kind, text in BLOCKS if kind == "sh")),
    START.partition("/sn37 ")[2],
    re.search(r"bin/sn37 (.+?) >>", CRON)[1],
]


@pytest.mark.parametrize("text", COMMANDS)
def test_a_command_line_is_one_that_the_program_takes(text):
    command, given = get_command(app), shlex.split(text)
    while hasattr(command, "commands"):
        command, given = command.commands[given[0]], given[1:]
    command.make_context("sn37", given, resilient_parsing=False)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_takes_the_unit(tmp_path):
    program = tmp_path / "sn37"
    program.symlink_to(Path(sys.executable).with_name("sn37"))
    unit = UNIT.read_text(encoding="utf-8").replace(START.split()[0], str(program))
    (tmp_path / UNIT.name).write_text(unit.replace("User=sn37", f"User={getpass.getuser()}"))
    found = subprocess.run(["systemd-analyze", "verify", UNIT.name], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0 and UNIT.name not in found.stderr, found.stderr


def test_the_unit_starts_a_service_that_sigterm_stops():
    assert "KillMode=mixed" in UNIT.read_text() and "RestartPreventExitStatus=2" in UNIT.read_text()
    assert UNIT.name in PAGE and "docs/operations.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_settings_shown_are_the_defaults():
    (shown,) = [text for kind, text in BLOCKS if kind == "yaml" and "keep:" in text]
    assert yaml.safe_load(shown)["more"]["keep"] == asdict(Keep())


@pytest.mark.parametrize("line", [text for kind, text in BLOCKS if kind == "yaml" and "funding:" in text])
def test_a_funding_line_is_one_that_settings_take(line):
    assert sum(Settings.of(**yaml.safe_load(line)).funding.values()) == 1.0


def test_the_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    simulate(tmp_path / "validator" / "records", epochs=3, models=3)
    for text in (text for kind, text in BLOCKS if kind == "python"):
        exec(text, {})
    assert "compute_s" in capsys.readouterr().out


@pytest.mark.parametrize("name", re.findall(r"`(tests/\S+::\S+)`", PAGE))
def test_each_row_of_the_faults_names_a_test(name):
    file, _, test = name.partition("::")
    functions = [node for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)]
    assert test in {function.name for function in functions}
