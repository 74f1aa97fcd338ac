"""What is installed: the three lists of dependencies agree, and the wheel carries all that it needs."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import sn37

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
NEEDED = [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"])]
LOCK_LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
LOCKED = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in LOCK_LINES}


def test_the_lock_names_exact_public_versions_and_nothing_else():
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line) for line in LOCK_LINES)
    assert len(LOCKED) == len(LOCK_LINES)
    assert sorted(LOCK_LINES, key=str.upper) == LOCK_LINES


@pytest.mark.parametrize("needed", [*NEEDED, *map(Requirement, BUILD["requires"])], ids=str)
def test_the_lock_satisfies_the_project(needed):
    locked = LOCKED.get(canonicalize_name(needed.name))
    assert locked, f"{needed.name} is not in requirements.lock: run make lock"
    assert Version(locked) in needed.specifier


def requirements_of(name, extras):
    """The requirements of an installed package that hold on this machine."""
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in extras] or [{"extra": ""}]
        if requirement.marker is None or any(requirement.marker.evaluate(e) for e in environments):
            yield requirement


def closure():
    """The names of everything the project needs, directly or not. What is CUDA's differs between platforms."""
    waiting = [(canonicalize_name(r.name), frozenset(r.extras)) for r in NEEDED]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen or re.match(r"nvidia|cuda|triton", name):
            continue
        seen.add((name, extras))
        waiting += [(canonicalize_name(r.name), frozenset(r.extras)) for r in requirements_of(name, extras)]
    return {name for name, _ in seen}


def test_the_lock_is_whole_and_has_nothing_to_spare():
    # setuptools belongs to torch on newer Pythons only.
    assert closure() | {"setuptools"} == LOCKED.keys() | {"setuptools"}


def test_conda_makes_the_same_environment():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    assert Version(python.removeprefix("python=")) in SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"
    assert packages == {"pip": ["-r requirements.lock", "-e ."]}


def test_make_installs_the_lock_and_renews_it_with_the_same_torch():
    makefile = (ROOT / "Makefile").read_text()
    assert "pip install --quiet --disable-pip-version-check -r requirements.lock" in makefile
    assert f"TORCH := torch=={LOCKED['torch']}\n" in makefile


def test_the_readmes_test_command_is_what_ci_runs():
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -m1 -oE '([^']+)'", script)[1].replace("[[:space:]]", r"\s")
    assert re.search(pattern, (ROOT / "README.md").read_text(), re.MULTILINE)[0].strip() == "make test"


RUN_NOT_IMPORTED = {
    "ipykernel": "runs the cells of the notebooks, in processes of its own",
    "ipywidgets": "what tqdm.auto draws its bars with in Jupyter",
    "jupyterlab": "the command that people open the notebooks with",
}
"""Dependencies that no module imports, and what they are for."""

PARTS = {"pydantic-core": "pydantic"}
"""Packages that another one brings in the one version it goes with, and offers as its own."""


def names_of(requirements):
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def importers():
    """The installed package behind each import of the library -> the first file that imports it."""
    owners = metadata.packages_distributions()
    found = {}
    for path in sorted((ROOT / "sn37").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for top in {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {"sn37"}:
                names = {canonicalize_name(owner) for owner in owners.get(top, [top])}
                names = frozenset(PARTS.get(name, name) for name in names)
                found.setdefault(names, str(path.relative_to(ROOT)))
    return found


def test_every_imported_package_is_a_declared_dependency():
    extras = [PROJECT["optional-dependencies"][name] for name in ("ray", "train")]
    declared = names_of(PROJECT["dependencies"]).union(*map(names_of, extras))
    assert {file: names for names, file in importers().items() if not names & declared} == {}


def test_every_declared_dependency_is_imported():
    unused = names_of(PROJECT["dependencies"]) - frozenset().union(*importers())
    assert unused == RUN_NOT_IMPORTED.keys()


def test_the_version_is_told_once():
    assert sn37.__version__ == PROJECT["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the package as `pip install` lays it out, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def files_below(folder):
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)}


def test_the_wheel_carries_the_package_the_notebooks_and_the_pipelines(wheel):
    expected = {f"sn37/{name}" for name in files_below(ROOT / "sn37")}
    for kind in ("notebooks", "pipelines"):
        expected |= {f"sn37/_files/{kind}/{name}" for name in files_below(ROOT / kind)}
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert carried == expected
    assert {"sn37/_files/notebooks/validator_epoch.ipynb", "sn37/competitions/schedule.toml"} <= carried
    assert {Path(name).suffix for name in carried} <= {
        ".css",
        ".ipynb",
        ".mplstyle",
        ".py",
        ".service",
        ".toml",
        ".txt",
        ".typed",
        ".yaml",
    }


def test_the_wheel_asks_for_what_the_project_needs_and_brings_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        told = archive.read(f"{info}/METADATA").decode()
        points = archive.read(f"{info}/entry_points.txt").decode()
    asked = map(Requirement, re.findall(r"^Requires-Dist: ([^;\n]+)$", told, re.MULTILINE))
    needed = map(Requirement, PROJECT["dependencies"])
    assert {(canonicalize_name(r.name), r.specifier) for r in asked} == {
        (canonicalize_name(r.name), r.specifier) for r in needed
    }
    assert "sn37 = sn37.cli:main" in points


def test_the_installed_package_works_in_an_empty_folder(installed, tmp_path):
    code = """
import sn37
from sn37.competitions import public_schedule
from sn37.files import shipped
print(sn37.__file__)
print(shipped("notebooks", "validator_epoch.ipynb"))
print(shipped("pipelines", "validator.yaml"))
print(len(public_schedule().at(5_158_632)))
"""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    home, notebook, pipeline, running = done.stdout.split()
    assert Path(home) == installed / "sn37" / "__init__.py"
    assert Path(notebook) == installed / "sn37/_files/notebooks/validator_epoch.ipynb"
    assert Path(pipeline) == installed / "sn37/_files/pipelines/validator.yaml"
    assert running == "1"
    help_text = [sys.executable, "-m", "sn37", "--help"]
    shown = subprocess.run(help_text, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "Usage" in shown.stdout
    assert list(tmp_path.iterdir()) == []
