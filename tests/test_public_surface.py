"""What `import sn37` gives, and what it costs."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import sn37

HEAVY = (
    "bittensor",
    "datasets",
    "huggingface_hub",
    "matplotlib",
    "numpy",
    "pandas",
    "papermill",
    "pyarrow",
    "scipy",
    "torch",
    "transformers",
    "wandb",
)
ROOMS = ("chain", "cli", "competitions", "engine", "hub", "methods", "miner", "sources", "validator")
PUBLIC = [name for name in sn37.__all__ if name != "__version__"]


def test_the_public_names_are_sorted_and_there_is_nothing_else():
    assert sn37.__all__ == sorted(sn37.__all__)
    modules = {module.name for module in pkgutil.iter_modules(sn37.__path__)}
    tools = {"TYPE_CHECKING", "annotations", "import_module"}
    offered = {name for name in vars(sn37) if not name.startswith("_")} - modules - tools
    assert offered | set(sn37._LAZY) == set(PUBLIC) == set(dir(sn37)) - {"__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sn37.nothing


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_comes_from_a_module_that_offers_it_and_is_documented(name):
    thing = getattr(sn37, name)
    home = importlib.import_module(thing.__module__)
    assert name in home.__all__
    assert inspect.getdoc(thing)


def every_module():
    return sorted(
        module.name for module in pkgutil.walk_packages(sn37.__path__, "sn37.") if not module.name.endswith("__main__")
    )


@pytest.mark.parametrize("name", every_module())
def test_every_module_says_what_it_is_and_offers_what_it_has(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert all(hasattr(module, offered) for offered in getattr(module, "__all__", []))


def test_importing_the_library_loads_the_standard_library_only():
    code = """
import sys
before = set(sys.modules)
import sn37
print(sorted({name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
"""
    assert run(code) == "['sn37']"


@pytest.mark.parametrize(
    "command", [["--help"], ["--version"], ["run", "--help"], ["demo", "--help"], ["devnet", "--help"]]
)
def test_the_help_of_the_command_line_loads_nothing_heavy(command):
    code = f"""
import sys
from sn37.cli import app
try:
    app({command!r})
except SystemExit as exit:
    assert not exit.code
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert run(code).splitlines()[-1] == "[]"


def test_importing_leaves_no_trace():
    """No network, no files, no processes, no threads, no seeding, no logging, no changed environment."""
    code = f"""
import importlib, logging, os, random, sys, threading, warnings
sys.path_importer_cache.clear()
done = []
def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes and "__pycache__" not in str(arguments[0]) or event.split(".")[0] in ("socket", "subprocess"):
        done.append((event, str(arguments)))
sys.addaudithook(watch)
def state():
    root = logging.getLogger()
    return (dict(os.environ), random.getstate(), root.handlers[:], root.level, threading.active_count(), os.getcwd(),
            warnings.filters[:], sys.excepthook)
before = state()
for name in {ROOMS!r}:
    importlib.import_module("sn37." + name)
assert state() == before
print(done)
"""
    assert run(code) == "[]"


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
