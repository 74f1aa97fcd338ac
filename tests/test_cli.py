"""The command as a user meets it: what is wrong is one sentence, exit code 2, no traceback, nothing half-written."""

import json
import os
import re
import resource
import socket
import subprocess
import sys

import nbformat
import pytest
import yaml

COMMANDS = (
    [],
    ["demo"],
    ["run"],
    ["init"],
    ["competitions"],
    *(["competitions", name] for name in ("list", "show", "check", "publish", "fund")),
    ["devnet"],
    *(["devnet", name] for name in ("up", "status", "advance", "down")),
)

HEAVY = (
    "bittensor",
    "torch",
    "transformers",
    "datasets",
    "pandas",
    "wandb",
    "papermill",
    "huggingface_hub",
)


def sn37(*arguments, cwd, **options):
    environment = {**os.environ, "COLUMNS": "200"}
    environment.pop("SN37_DEBUG", None)
    return subprocess.run(
        [sys.executable, "-m", "sn37", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        **options,
    )


def complaint(result):
    """The one sentence a failed command says."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("sn37: ")
    return lines[0]


@pytest.fixture
def free_port():
    """A port of this machine on which nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(scope="module")
def wallets(tmp_path_factory):
    from bittensor import Wallet

    folder = tmp_path_factory.mktemp("wallets")
    wallet = Wallet("validator", "default", str(folder))
    wallet.create_new_coldkey(use_password=False, suppress=True)
    wallet.create_new_hotkey(use_password=False, suppress=True)
    return folder


@pytest.fixture
def pipeline(tmp_path, wallets):
    """Writes a validator's pipeline; its epoch fails where the changes say."""

    def write(**changes):
        parameters = {
            "network": "ws://127.0.0.1:1",
            "wallet": "validator",
            "root": str(tmp_path / "validator"),
            **changes,
            "more": {"wallet_path": str(wallets), "wandb": "off", **changes.get("more", {})},
        }
        file = tmp_path / "p.yaml"
        file.write_text(
            yaml.safe_dump({"name": "p", "notebook": "validator_epoch.ipynb", "out": "out", "parameters": parameters})
        )
        return file

    return write


@pytest.fixture(scope="module")
def helps():
    """What every command's help says, and the heavy libraries that were imported for all of it."""
    code = f"""
import json, sys
from typer.testing import CliRunner
from sn37.cli import app
told = [CliRunner().invoke(app, [*command, "--help"]) for command in {COMMANDS!r}]
heavy = sorted(set({HEAVY!r}) & set(sys.modules))
print(json.dumps([heavy, [[result.exit_code, result.output] for result in told]]))
"""
    environment = {**os.environ, "COLUMNS": "200"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    heavy, told = json.loads(run.stdout)
    return heavy, dict(zip(map(tuple, COMMANDS), told, strict=True))


def test_help_imports_no_heavy_library(helps):
    assert helps[0] == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_explains_the_command_and_every_option(helps, command):
    code, text = helps[1][tuple(command)]
    assert code == 0
    assert "Usage:" in text
    options = [line.strip("│ \n") for line in text.splitlines() if line.startswith("│ ") and " --" in line]
    assert options
    bare = [option for option in options if " " not in re.split(r" {2,}", option)[-1]]
    assert not bare, "each option has a sentence"


def test_an_unknown_command_is_refused(tmp_path):
    result = sn37("nope", cwd=tmp_path)
    assert result.returncode == 2
    assert "No such command 'nope'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "own.toml: cannot be read (No such file or directory)"),
        ("id = [", "own.toml: not valid TOML"),
        ("id = 1\ncolour = 'red'\n", "own.toml"),
    ],
)
def test_a_wrong_competition_file_is_named(tmp_path, text, told):
    if text is not None:
        (tmp_path / "own.toml").write_text(text)
    result = sn37("competitions", "check", "own.toml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("sn37: error: ") and told in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.yaml"], "there is no pipeline file none.yaml"),
        (["p.yaml", "-p", "nonsense"], "-p 'nonsense': expected NAME=VALUE"),
        (["p.yaml", "-p", "colour=red"], "validator_epoch.ipynb has no parameter colour; its parameters are"),
        (["p.yaml", "-p", "netuid=NaN"], "parameter netuid is nan; expected a finite number"),
        (["p.yaml", "--forever", "-p", "colour=red"], "has no parameter colour"),
        (
            ["p.yaml", "--forever", "-p", "more.cadence=0"],
            "parameters: [clock]: cadence is 0; expected 1 block or more",
        ),
        (["p.yaml", "--forever", "-p", "network=mars"], "unknown network 'mars'; expected one of"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_written(tmp_path, pipeline, arguments, told):
    pipeline()
    assert told in complaint(sn37("run", *arguments, cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"wallet": "nobody"}, "there is no hotkey 'default' of a wallet 'nobody'"),
        ({"funding": {"own.toml": 1.0}}, "own.toml: [constraints]: unknown field colour"),
        ({"network": "sqlite:///nowhere/chain.sqlite"}, "there is no chain at /nowhere/chain.sqlite"),
        ({}, "chain fault: ws://127.0.0.1:1: reading the head failed"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value), "silence"),
)
def test_what_stops_an_epoch_in_its_notebook_is_told_the_same_way(tmp_path, pipeline, changes, told):
    from sn37.devnet.world import COMPETITION

    text = COMPETITION.read_text().replace("[constraints]\n", '[constraints]\ncolour = "red"\n')
    (tmp_path / "own.toml").write_text(text)
    said = complaint(sn37("run", pipeline(**changes), cwd=tmp_path))
    assert told in said
    assert not list((tmp_path / "validator").rglob("*.json")), "nothing is recorded of what never began"
    # The executed notebook shows where it stopped, and is whole.
    executed = nbformat.read(tmp_path / "out" / "notebooks" / "p.ipynb", 4)
    assert "Error" in json.dumps(executed) or "Fault" in json.dumps(executed)


def test_a_hub_that_is_down_is_told_and_bounded(tmp_path, free_port):
    commit = "0" * 40
    result = sn37("competitions", "show", f"a/b@{commit}", "--hub", f"http://127.0.0.1:{free_port}", cwd=tmp_path)
    said = complaint(result)
    assert f"the hub http://127.0.0.1:{free_port} failed 5 times" in said
    assert said.endswith("try again later, or with another hub")


def test_with_debug_the_traceback_is_shown(tmp_path):
    result = sn37("--debug", "competitions", "check", "own.toml", cwd=tmp_path)
    assert "Traceback" in result.stderr and "ConfigError" in result.stderr
    assert result.returncode != 0


def test_a_disk_that_takes_no_more_leaves_nothing_half_written(tmp_path):
    """The limit stands for a full disk: it strikes in the middle of the executed notebook."""
    book = nbformat.v4.new_notebook()
    cells = ("result_file = ''", "print('x' * 200_000)", "open(result_file, 'w').write('{}')")
    book.cells = [nbformat.v4.new_code_cell(text) for text in cells]
    book.cells[0].metadata["tags"] = ["parameters"]
    book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(book, tmp_path / "book.ipynb")
    (tmp_path / "p.yaml").write_text("name: p\nnotebook: book.ipynb\n")
    few = (100_000, 100_000)
    result = sn37("run", "p.yaml", cwd=tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, few))
    said = complaint(result)
    assert "p.ipynb: File too large; free some space" in said
    assert [path.name for path in (tmp_path / "out" / "notebooks").iterdir()] == [".p.lock"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, pipeline):
    pipeline()
    (tmp_path / "out").write_text("a file, where a folder should be")
    assert "out" in complaint(sn37("run", "p.yaml", cwd=tmp_path))


def test_a_demo_never_clears_a_folder_it_did_not_make(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    assert "choose another folder with --root" in complaint(sn37("demo", "--root", "mine", cwd=tmp_path))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_a_demo_ends_the_servers_of_a_killed_one(tmp_path):
    """Its folder names the processes: once it is cleared, nobody could find them again."""
    from sn37.commands.demo import MARK, empty_folder
    from sn37.devnet.chain import Chain
    from sn37.devnet.hub_process import HubProcess

    world = tmp_path / "demo" / "world"
    Chain.create(world / "chain.sqlite").close()
    (tmp_path / "demo" / MARK).touch()
    hub = HubProcess(world / "hub", world / "chain.sqlite")
    port = int(hub.start().rpartition(":")[2])
    empty_folder(tmp_path / "demo")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
    hub.stop()


def test_init_writes_all_or_nothing(tmp_path):
    (tmp_path / "pipelines").mkdir()
    mine = tmp_path / "pipelines" / "validator.yaml"
    mine.write_text("mine")
    assert "overwrite with --force" in complaint(sn37("init", cwd=tmp_path))
    assert mine.read_text() == "mine"
    assert not (tmp_path / "notebooks").exists()
    assert sn37("init", "--force", cwd=tmp_path).returncode == 0
    assert "notebook: validator_epoch.ipynb" in mine.read_text()
    assert (tmp_path / "notebooks" / "validator_epoch.ipynb").is_file()


@pytest.mark.parametrize("command", ["status", "advance", "down"])
def test_without_a_world_the_devnet_says_how_to_make_one(tmp_path, command):
    assert "sn37 devnet up" in complaint(sn37("devnet", command, cwd=tmp_path))
