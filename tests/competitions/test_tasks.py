"""A validator's own sources and methods: named in its settings, loaded once, wrong ones told."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from sn37.competitions import load_tasks
from sn37.competitions.tasks import ENTRY_POINTS
from sn37.errors import ConfigError
from sn37.sources import SOURCES

FILE = """
from dataclasses import dataclass
from sn37.sources import source
from sn37.sample import TextSample

@dataclass
class Greeting:
    word: str

@source("{name}")
def greet(context, *, count: int = 1):
    return [TextSample(Greeting("hello").word)] * count
"""


def test_a_file_fills_the_registry_and_loading_it_again_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE.format(name="greeting_once"))
    first = load_tasks(["mine.py"], tmp_path)
    assert load_tasks([tmp_path / "mine.py"]) == first
    assert "greeting_once" in SOURCES


def test_a_file_that_fails_leaves_no_module_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("raise RuntimeError('no such luck')")
    before = set(sys.modules)
    with pytest.raises(ConfigError, match=r"broken\.py cannot be imported: RuntimeError: no such luck"):
        load_tasks([path])
    assert not [name for name in set(sys.modules) - before if "broken" in name]


def test_a_name_that_is_taken_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE.format(name="fineweb"))
    with pytest.raises(ConfigError, match="the source 'fineweb' is registered twice"):
        load_tasks(["mine.py"], tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [("gone.py", "there is no Python file"), ("gone", "no entry point 'gone' in the group sn37.tasks")],
)
def test_what_is_not_there_is_told(name: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        load_tasks([name], tmp_path)


def test_an_installed_package_offers_tasks_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "greetings.py").write_text(FILE.format(name="greeting_by_entry_point"))
    info = tmp_path / "greetings-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\ngreetings = greetings\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert entry_points(group=ENTRY_POINTS).names == {"greetings"}
    assert load_tasks(["greetings"]) == ["greetings"]
    assert "greeting_by_entry_point" in SOURCES


def test_reading_competitions_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sn37.competitions import public_schedule; public_schedule();"
        "heavy = {'torch', 'transformers', 'bittensor', 'pandas', 'pyarrow', 'wandb', 'huggingface_hub'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
