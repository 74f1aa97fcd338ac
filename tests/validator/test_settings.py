"""A validator's settings: every wrong parameter is named, with what it got and what was expected."""

from pathlib import Path

import nbformat
import pytest

from sn37.clock import Clock
from sn37.errors import ConfigError
from sn37.files import shipped
from sn37.validator.settings import Settings


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
        ({"funding": {"public": "all"}}, "funding.public is 'all'; expected a valid number"),
        ({"cadence": 0}, "cadence is 0"),
        ({"genesis": -1}, "genesis is -1"),
        ({"figures": {"alpha": 1}}, "alpha is 1.0; expected a share in [0, 1)"),
        ({"figures": {"beta": 1}}, "unknown field beta; the known fields are alpha"),
        ({"limits": {"kept": 0}}, "kept is 0; expected 1 or more"),
        ({"limits": 5}, "parameter limits is 5; expected a table of kept"),
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


def test_the_notebooks_defaults_are_the_settings_own():
    book = nbformat.read(shipped("notebooks", "validator_epoch.ipynb"), 4)
    (cell,) = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters: dict[str, object] = {}
    exec(cell.source, parameters)
    given = {name: value for name, value in parameters.items() if name not in ("result_file", "__builtins__")}
    assert Settings.of(**given) == Settings.of()
