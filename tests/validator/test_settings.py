"""A validator's settings: every wrong parameter is named, with what it got and what was expected."""

import ast
from pathlib import Path

import nbformat
import pytest

from sn37.clock import Clock
from sn37.errors import ConfigError
from sn37.files import shipped
from sn37.validator.settings import PARAMETERS, Settings


def test_plain_values_become_settings():
    settings = Settings.of(cadence=10, genesis=5, root="here", tasks=["own.py", "installed"], hub="", sync_block="")
    assert settings.clock == Clock(5, 10)
    assert settings.root == Path("here").absolute()
    assert settings.tasks == (str(Path("own.py").absolute()), "installed")
    assert (settings.hub, settings.sync_block) == (None, None)
    assert Settings.of() == Settings.of(root="validator")


def test_every_figure_of_the_protocol_can_be_set():
    settings = Settings.of(figures={"alpha": 0.5, "refresh_blocks": 10}, limits={"kept": 5, "beyond": 1})
    assert (settings.figures.alpha, settings.figures.min_share) == (0.5, 0.18)
    assert settings.limits.kept == 5
    assert settings.limits.evaluated(2) == 7
    assert Settings().limits.evaluated(2) == 13


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"netuid": "x"}, "netuid is 'x'; expected a valid integer"),
        ({"netuid": -1}, "netuid is -1; expected 0 to 65535"),
        ({"funding": [1]}, "funding is [1]; expected an object"),
        ({"funding": {"public": "all"}}, "[funding]: public is 'all'; expected a valid number"),
        ({"cadence": 0}, "cadence is 0"),
        ({"genesis": -1}, "genesis is -1"),
        ({"figures": {"alpha": 1}}, "alpha is 1.0; expected a share in [0, 1)"),
        ({"figures": {"beta": 1}}, "unknown field beta; the known fields are alpha"),
        ({"limits": {"kept": 0}}, "kept is 0; expected 1 or more"),
        ({"limits": 5}, "parameters: limits is 5; expected a table of kept"),
        ({"sync_block": "12"}, "sync_block is '12'; expected a valid integer"),
        ({"wallet": 7}, "wallet is 7; expected a valid string"),
        ({"root": ""}, "root is empty"),
        ({"device": "gpu"}, "device is 'gpu'; expected one of auto, cpu, cuda"),
        ({"wandb": True}, "wandb is True; expected a valid string"),
        ({"workers": -1}, "workers is -1"),
        ({"colour": 1}, "unknown field colour; the known fields are network, netuid"),
    ],
)
def test_a_wrong_parameter_is_named(wrong, told):
    with pytest.raises(ConfigError) as caught:
        Settings.of(**wrong)
    assert told in str(caught.value)


def test_every_wrong_parameter_is_named_in_one_go():
    with pytest.raises(ConfigError) as caught:
        Settings.of(devise="cpu", netuid=-1, wallet=3, more={"figures": {"alhpa": 1, "min_share": 3}, "cadence": 0})
    told = str(caught.value).splitlines()
    assert [line.partition(";")[0] for line in sorted(told)] == [
        "parameters: [clock]: cadence is 0",
        "parameters: [figures]: min_share is 3",
        "parameters: [figures]: unknown field alhpa",
        "parameters: netuid is -1",
        "parameters: unknown field devise",
        "parameters: wallet is 3",
    ]
    assert sum(line.endswith(("did you mean 'device'?", "did you mean 'alpha'?")) for line in told) == 2


def cell_values() -> dict[str, object]:
    """What the parameters cell of the epoch's notebook sets."""
    book = nbformat.read(shipped("notebooks", "validator_epoch.ipynb"), 4)
    (cell,) = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ())]
    values: dict[str, object] = {}
    exec(cell.source, values)
    return values


def test_the_notebooks_defaults_are_the_settings_own():
    assert Settings.of_notebook(cell_values()) == Settings.of()


def test_the_notebook_names_a_parameter_once():
    book = nbformat.read(shipped("notebooks", "validator_epoch.ipynb"), 4)
    code = "\n".join(cell.source for cell in book.cells if cell.cell_type == "code")
    names = [node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
    assert [name for name in (*PARAMETERS, "more") if names.count(name) != 1] == []
    assert set(cell_values()) - {"__builtins__", "result_file", "more"} == set(PARAMETERS)


def test_a_parameter_that_the_cell_no_longer_sets_is_missed():
    values = cell_values()
    del values["device"]
    with pytest.raises(ConfigError, match="the parameters cell does not set device"):
        Settings.of_notebook({**values, "devise": "cpu"})


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"wandbb": "off"}, "tasks, genesis, cadence; did you mean 'wandb'?"),
        ({"device": "cpu"}, "device is set beside `more` and in it; set it once"),
        ({"figures": {"alpha": 1}}, "alpha is 1.0; expected a share in [0, 1)"),
        ({"worker_network": "open"}, "worker_network is 'open'; expected one of isolated, isolation not required"),
        ([1], "parameter more is [1]; expected a dictionary"),
    ],
)
def test_what_stands_in_more_is_checked_as_strictly(more, told):
    with pytest.raises(ConfigError) as caught:
        Settings.of_notebook({**cell_values(), "more": more})
    assert told in str(caught.value)


def test_more_holds_what_has_no_line_of_its_own():
    found = Settings.of_notebook({**cell_values(), "more": {"hub": "http://hub", "genesis": 5, "tasks": ["own.py"]}})
    assert found == Settings.of(hub="http://hub", genesis=5, tasks=["own.py"])
