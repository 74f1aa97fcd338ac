"""Every snippet of the README runs as it stands there."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib import pyplot
from simulated import simulate
from small import save_model
from typer.testing import CliRunner

from sn37.checks.tokenizer import byte_tokenizer
from sn37.cli import app
from sn37.competitions import public as public_competition
from sn37.competitions import read_competition, write_competition
from sn37.validator.mirror import log_epochs
from sn37.validator.plan import Plan
from sn37.validator.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
COMMANDS = [
    line.partition("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "sh"
    for line in text.splitlines()
    if line.strip() and not line.startswith("#")
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the demo could have run: its models and its records, smaller."""
    folder = tmp_path_factory.mktemp("readme")
    for name, noise in (("40-steps", 1.0), ("120-steps", 0.0)):
        save_model(folder / "out/demo/world/models" / name, noise)
        byte_tokenizer().save_pretrained(folder / "out/demo/world/models" / name)
    root = folder / "out/demo/validator-1/validator"
    manifest = simulate(root / "records", epochs=4, models=4).epoch().manifest
    log_epochs(Plan(Settings(root=root), manifest, newest=True), next(iter(manifest.uids)))
    return folder


def test_there_is_something_to_run():
    assert len(PYTHON) >= 3 and len(COMMANDS) >= 8
    assert BLOCKS.index(("python", PYTHON[0])) == 0, "the README opens with a cell a researcher could run"


@pytest.mark.parametrize("text", PYTHON, ids=lambda text: text.strip().splitlines()[-1][:40])
def test_the_python_runs(text, place, monkeypatch):
    from sn37.methods import METHODS
    from sn37.sources import SOURCES

    known = [(registry, dict(registry._factories)) for registry in (SOURCES, METHODS)]
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))
    try:
        exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})
    finally:
        pyplot.close("all")
        for registry, factories in known:
            registry._factories.clear()
            registry._factories.update(factories)


def test_the_first_cell_prints_what_stands_below_it(place, monkeypatch, capsys):
    """The numbers are those of the demo's own models; the form is the same."""
    monkeypatch.chdir(place)
    from sn37.sources import SOURCES

    try:
        exec(compile(PYTHON[0], "README.md", "exec"), {"__name__": "__main__"})
    finally:
        SOURCES._factories.pop("capitals", None)
    printed = capsys.readouterr().out
    shown = BLOCKS[1][1]
    form = re.compile(r"-?\d+\.\d+|True|False| +")
    assert [form.sub("#", line) for line in printed.splitlines()] == [
        form.sub("#", line) for line in shown.splitlines()
    ]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_there(line):
    for command in line.split("&&"):
        words = shlex.split(command)
        if words[0] == "make":
            target = words[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif words[0] == "sn37":
            plain = [word for word in words[1:] if not word.startswith("-")]
            depth = 2 if plain[0] in ("competitions", "devnet", "miner", "validator") else 1
            result = CliRunner().invoke(app, [*plain[:depth], "--help"])
            assert result.exit_code == 0, result.output
            options = [word for word in words[1:] if word.startswith("--")]
            assert all(option in result.output for option in options)
        else:
            assert words[0] in ("pip", "cd", "$EDITOR")


def test_the_competition_is_read(tmp_path):
    ((_, text),) = [block for block in BLOCKS if block[0] == "toml"]
    start = write_competition(public_competition("SN9_MODEL"))
    whole = start[: start.index("[[tasks]]")] + text
    assert read_competition(whole).tasks[0].source_args["repo"] == "you/questions"


def test_the_pictures_are_there_and_small():
    names = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    pictures = [(ROOT / name).read_bytes() for name in names]
    assert len(pictures) >= 2 and all(each.startswith(b"\x89PNG") and len(each) < 200_000 for each in pictures)


def test_every_file_it_names_exists():
    for name in re.findall(r"`((?:sn37|notebooks|pipelines|tests|docs)/[\w/.]+)`", README):
        assert (ROOT / name).exists(), name
    assert shutil.which("make") is None or subprocess.run(["make", "-n", "help"], cwd=ROOT).returncode == 0
